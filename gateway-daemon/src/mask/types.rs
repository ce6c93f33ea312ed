//! What a value looks like, by its type: PostgreSQL's own types by their fixed oids, all others by what the catalogue
//! says that they are made of. A type that is not known here can bear nothing but NULL.
//! <https://www.postgresql.org/docs/current/catalog-pg-type.html>

use crate::domain::catalogue::{Catalogue, TypeKind};

/// Arrays of composites of arrays … no deeper than this.
const MAX_DEPTH: usize = 8;

/// How a value is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// As the type's own binary form.
    Binary,
}

/// The size of an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Two,
    Four,
    Eight,
    /// Four bytes without a sign: an oid.
    Oid,
}

/// What a transform may put in a value's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(pub(super) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text; the binary form is the same.
    Text,
    /// Text whose trailing blanks mean nothing.
    PaddedText,
    /// One byte.
    Char,
    /// A JSON document.
    Json,
    /// A JSON document; the binary form has a version byte before it.
    Jsonb,
    /// XML content: a document's parts are not shown, since its first and last characters are mark-up.
    Xml,
    Uuid,
    Bool,
    Integer(Width),
    /// Four bytes.
    Real,
    /// Eight bytes.
    Double,
    Numeric,
    Money,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Inet,
    Cidr,
    /// Six bytes, or eight.
    HardwareAddress(usize),
    Bytes,
    /// A bit string of fixed length.
    Bits,
    /// A bit string of any length.
    VaryingBits,
    /// An enum, with its first label.
    Enum(Box<str>),
    /// Of this kind.
    Array(Box<Self>),
    Composite(Box<[Self]>),
    Range,
    Multirange,
    /// Texts by texts.
    Hstore,
    /// Nothing but NULL.
    Opaque,
}

impl Shape {
    /// The shape of values of this `pg_type.oid`.
    pub fn of(type_oid: u32, catalogue: &Catalogue) -> Self {
        Self(kind(type_oid, catalogue, MAX_DEPTH))
    }

    /// Whether some part of such a value is text that detectors can read.
    pub fn holds_text(&self) -> bool {
        self.0.holds_text()
    }
}

impl Kind {
    pub(super) fn holds_text(&self) -> bool {
        match self {
            // What cannot be told apart may hold some.
            Self::Text
            | Self::PaddedText
            | Self::Json
            | Self::Jsonb
            | Self::Xml
            | Self::Hstore
            | Self::Opaque => true,
            Self::Array(element) => element.holds_text(),
            Self::Composite(fields) => fields.iter().any(Self::holds_text),
            _ => false,
        }
    }
}

fn kind(type_oid: u32, catalogue: &Catalogue, depth: usize) -> Kind {
    let Some(deeper) = depth.checked_sub(1) else { return Kind::Opaque };
    if let Some(kind) = builtin(type_oid) {
        return kind;
    }
    if let Some(element) = builtin_element(type_oid) {
        return builtin(element).map_or(Kind::Opaque, |kind| Kind::Array(Box::new(kind)));
    }
    let Some(known) = catalogue.types.get(&type_oid) else { return Kind::Opaque };
    match known {
        TypeKind::Enum(first) if !first.is_empty() => Kind::Enum(first.as_str().into()),
        TypeKind::Enum(_) => Kind::Opaque,
        TypeKind::Domain(base) => kind(*base, catalogue, deeper),
        TypeKind::Array(element) => Kind::Array(Box::new(kind(*element, catalogue, deeper))),
        TypeKind::Composite(fields) => {
            Kind::Composite(fields.iter().map(|field| kind(*field, catalogue, deeper)).collect())
        }
        TypeKind::Range(_) => Kind::Range,
        TypeKind::Multirange(_) => Kind::Multirange,
        TypeKind::Base(name) => match name.as_str() {
            "citext" => Kind::Text,
            "hstore" => Kind::Hstore,
            _ => Kind::Opaque,
        },
    }
}

/// Types whose oid is the same in every database.
const fn builtin(type_oid: u32) -> Option<Kind> {
    Some(match type_oid {
        16 => Kind::Bool,
        17 => Kind::Bytes,
        18 => Kind::Char,
        // name, text, varchar
        19 | 25 | 1043 => Kind::Text,
        20 => Kind::Integer(Width::Eight),
        21 => Kind::Integer(Width::Two),
        23 => Kind::Integer(Width::Four),
        26 => Kind::Integer(Width::Oid),
        114 => Kind::Json,
        142 => Kind::Xml,
        650 => Kind::Cidr,
        700 => Kind::Real,
        701 => Kind::Double,
        774 => Kind::HardwareAddress(8),
        790 => Kind::Money,
        829 => Kind::HardwareAddress(6),
        869 => Kind::Inet,
        1042 => Kind::PaddedText,
        1082 => Kind::Date,
        1083 => Kind::Time,
        1114 => Kind::Timestamp,
        1184 => Kind::TimestampTz,
        1186 => Kind::Interval,
        1266 => Kind::TimeTz,
        1560 => Kind::Bits,
        1562 => Kind::VaryingBits,
        1700 => Kind::Numeric,
        2950 => Kind::Uuid,
        3802 => Kind::Jsonb,
        // int4range, numrange, tsrange, tstzrange, daterange, int8range
        3904 | 3906 | 3908 | 3910 | 3912 | 3926 => Kind::Range,
        // the same as multiranges
        4451 | 4532 | 4533 | 4534 | 4535 | 4536 => Kind::Multirange,
        _ => return None,
    })
}

/// The element type of PostgreSQL's own arrays.
const fn builtin_element(type_oid: u32) -> Option<u32> {
    Some(match type_oid {
        143 => 142,
        199 => 114,
        651 => 650,
        775 => 774,
        791 => 790,
        1000 => 16,
        1001 => 17,
        1002 => 18,
        1003 => 19,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => 20,
        1021 => 700,
        1022 => 701,
        1028 => 26,
        1040 => 829,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1187 => 1186,
        1231 => 1700,
        1270 => 1266,
        1561 => 1560,
        1563 => 1562,
        2951 => 2950,
        3807 => 3802,
        3905 => 3904,
        3907 => 3906,
        3909 => 3908,
        3911 => 3910,
        3913 => 3912,
        3927 => 3926,
        6150 => 4451,
        6151 => 4532,
        6152 => 4533,
        6153 => 4534,
        6155 => 4535,
        6157 => 4536,
        _ => return None,
    })
}
