//! What is known of an expression's value without knowing the value: its type, how long it may be, and whose rows it
//! comes from.
//!
//! How long a value can get counts in multiples of what a table stores, and what constants add. What a server refuses
//! for its size lies beyond [`MOST_GROWTH`] times the stored values, so that only values of 16 MiB and more can be told
//! by it; and of these only such as stand in one row, as they do wherever they are selected side by side.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use crate::domain::catalogue::{Catalogue, Column, Relation, TypeKind};

/// How many times as long as the stored values together a computed one may be.
pub(super) const MOST_GROWTH: u32 = 64;
/// How much constants may add to it, in bytes.
pub(super) const MOST_ADDED: u32 = 1024 * 1024;
/// What a value of a type of limited size takes as text, at most.
const SMALL_BYTES: u32 = 128;
/// Longest `varchar(n)` of which the length is known to be limited.
const LIMITED_CHARACTERS: i32 = 10_000;

/// `pg_collation.oid` of the database's default; 0 is none.
const DEFAULT_COLLATION: u32 = 100;

/// PostgreSQL's own types that are known here, by the names that the list and the grammar give them: oid, the oid of
/// its array, and whether the length of its values is limited.
const TYPES: &[(&str, u32, u32, Length)] = &[
    ("bool", 16, 1000, Length::Limited),
    ("bytea", 17, 1001, Length::Stored),
    ("char", 18, 1002, Length::Limited),
    ("name", 19, 1003, Length::Limited),
    ("int8", 20, 1016, Length::Limited),
    ("int2", 21, 1005, Length::Limited),
    ("int4", 23, 1007, Length::Limited),
    ("text", 25, 1009, Length::Stored),
    ("oid", 26, 1028, Length::Limited),
    ("json", 114, 199, Length::Stored),
    ("cidr", 650, 651, Length::Limited),
    ("float4", 700, 1021, Length::Limited),
    ("float8", 701, 1022, Length::Limited),
    ("macaddr8", 774, 775, Length::Limited),
    ("macaddr", 829, 1040, Length::Limited),
    ("inet", 869, 1041, Length::Limited),
    ("bpchar", 1042, 1014, Length::Stored),
    ("varchar", 1043, 1015, Length::Stored),
    ("date", 1082, 1182, Length::Limited),
    ("time", 1083, 1183, Length::Limited),
    ("timestamp", 1114, 1115, Length::Limited),
    ("timestamptz", 1184, 1185, Length::Limited),
    ("interval", 1186, 1187, Length::Limited),
    ("timetz", 1266, 1270, Length::Limited),
    ("bit", 1560, 1561, Length::Stored),
    ("varbit", 1562, 1563, Length::Stored),
    ("numeric", 1700, 1231, Length::Stored),
    ("uuid", 2950, 2951, Length::Limited),
    ("jsonb", 3802, 3807, Length::Stored),
];

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const NAME: u32 = 19;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const OID: u32 = 26;
const JSON: u32 = 114;
const JSON_ARRAY: u32 = 199;
const INET: u32 = 869;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const NUMERIC: u32 = 1700;
const JSONB: u32 = 3802;
/// date, time, timestamp, timestamptz, uuid
const OTHERS_ORDERED: [u32; 5] = [1082, 1083, 1114, 1184, 2950];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Limited,
    /// Whatever the table stores.
    Stored,
}

/// The name and oid of a type of PostgreSQL's own that is known here.
pub(super) fn type_oid(name: &str) -> Option<(&'static str, u32)> {
    TYPES.iter().find(|(known, ..)| *known == name).map(|(known, oid, ..)| (*known, *oid))
}

/// A class of types, as the list names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Any,
    Text,
    Letters,
    Small,
    Whole,
    Bigint,
    Fixed,
    Bool,
    Ordered,
    Equal,
    Plain,
    Array,
    Enum,
    Row,
    Shown,
    Binary,
    Jsonb,
}

impl Class {
    /// The class of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "any" => Self::Any,
            "text" => Self::Text,
            "letters" => Self::Letters,
            "small" => Self::Small,
            "whole" => Self::Whole,
            "int8" => Self::Bigint,
            "fixed" => Self::Fixed,
            "bool" => Self::Bool,
            "ordered" => Self::Ordered,
            "equal" => Self::Equal,
            "plain" => Self::Plain,
            "array" => Self::Array,
            "enum" => Self::Enum,
            "row" => Self::Row,
            "shown" => Self::Shown,
            "binary" => Self::Binary,
            "jsonb" => Self::Jsonb,
            _ => return None,
        })
    }
}

impl Class {
    /// Whether a constant text that stands for an argument of this class is one.
    pub(super) fn has_texts(self) -> bool {
        matches!(self, Self::Any | Self::Plain | Self::Shown | Self::Binary)
    }
}

/// What kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Anything.
    Unknown,
    /// NULL, or a constant text of so many bytes, whose type is what stands beside it.
    Constant(u32),
    /// A parameter, whose type is what stands beside it.
    Parameter,
    /// A constant whole number.
    Whole(i64),
    /// Of a type of PostgreSQL's own in [`TYPES`], or an array of it.
    Of(u32),
    /// `numeric(p, s)`
    Fixed,
    /// Of an enum.
    Enum,
    /// A row of values that can be shown.
    Row,
    /// The same, with a json inside.
    JsonRow,
    /// A value of a composite type.
    Composite,
}

/// Whose row a value that may be long comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It is not long.
    Nowhere,
    /// A row of that source.
    One(u64),
    /// Of several, or who knows.
    Several,
}

impl Origin {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nowhere, origin) | (origin, Self::Nowhere) => origin,
            (one, other) if one == other => one,
            _ => Self::Several,
        }
    }
}

/// What is known of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    kind: Kind,
    /// 0 where there is none.
    collation: u32,
    /// It may be as long as so many stored values.
    growth: u32,
    /// And so many bytes more.
    added: u32,
    origin: Origin,
}

impl Value {
    /// Nothing is known of it.
    pub(super) const UNKNOWN: Self = Self {
        kind: Kind::Unknown,
        collation: 0,
        growth: MOST_GROWTH + 1,
        added: 0,
        origin: Origin::Several,
    };
    /// TRUE, FALSE or NULL.
    pub(super) const BOOL: Self = Self::short(Kind::Of(BOOL), 5);
    /// How many.
    pub(super) const COUNT: Self = Self::short(Kind::Of(INT8), 20);
    /// NULL as it is written.
    pub(super) const NULL: Self = Self::short(Kind::Constant(0), 0);
    /// A parameter.
    pub(super) const PARAMETER: Self = Self { kind: Kind::Parameter, ..Self::UNKNOWN };

    const fn short(kind: Kind, bytes: u32) -> Self {
        Self { kind, collation: 0, growth: 0, added: bytes, origin: Origin::Nowhere }
    }

    /// A constant text.
    pub(super) fn literal(text: &str) -> Self {
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Self::short(Kind::Constant(bytes), bytes)
    }

    /// A constant whole number.
    pub(super) const fn number(number: i64) -> Self {
        Self::short(Kind::Whole(number), 24)
    }

    /// A constant number with a fraction or an exponent.
    pub(super) fn decimal(text: &str) -> Self {
        // 1e131071 is written with so many digits.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if is_plain { Self { kind: Kind::Of(NUMERIC), ..Self::literal(text) } } else { Self::UNKNOWN }
    }

    /// A column as its source shows it.
    pub(super) fn of_column(column: &Column, catalogue: &Catalogue, source: u64) -> Self {
        let long = Self {
            kind: Kind::Unknown,
            collation: column.collation,
            growth: 1,
            added: 0,
            origin: Origin::One(source),
        };
        let known = TYPES.iter().find(|(_, oid, array, _)| [*oid, *array].contains(&column.type_oid));
        let Some((_, oid, _, length)) = known else {
            let kind = match catalogue.types.get(&column.type_oid) {
                // A cast of its owner's may stand between an enum and json.
                Some(TypeKind::Enum(_)) if catalogue.opaque_types.is_empty() => Kind::Enum,
                Some(TypeKind::Composite(_)) => Kind::Composite,
                _ => Kind::Unknown,
            };
            return Self { kind, ..long };
        };
        let kind = if *oid == NUMERIC && column.type_oid == NUMERIC && column.modifier > 0 {
            Kind::Fixed
        } else {
            Kind::Of(column.type_oid)
        };
        // A modifier is the number of characters and 4.
        let characters = column.modifier.saturating_sub(4);
        let is_limited = (*length == Length::Limited && column.type_oid == *oid) || kind == Kind::Fixed;
        if is_limited {
            Self {
                collation: column.collation,
                ..Self::short(kind, if kind == Kind::Fixed { 4 * SMALL_BYTES * 16 } else { SMALL_BYTES })
            }
        } else if column.type_oid == VARCHAR && (1..=LIMITED_CHARACTERS).contains(&characters) {
            let bytes = 4 * u32::try_from(characters).unwrap_or(u32::MAX);
            Self { collation: column.collation, ..Self::short(kind, bytes) }
        } else {
            Self { kind, ..long }
        }
    }

    /// A whole row of a relation.
    pub(super) fn of_row(relation: &Relation, catalogue: &Catalogue, source: u64) -> Self {
        let columns = relation.columns.iter().map(|column| Self::of_column(column, catalogue, source));
        let row = Self::row(&columns.collect::<Vec<_>>());
        Self { growth: 1, added: 0, origin: Origin::One(source), ..row }
    }

    /// A row of these.
    pub(super) fn row(fields: &[Self]) -> Self {
        let kind = if !fields.iter().all(|field| field.is_of(Class::Shown) || field.is_constant()) {
            Kind::Unknown
        } else if fields.iter().all(|field| field.is_of(Class::Binary) || field.is_constant()) {
            Kind::Row
        } else {
            Kind::JsonRow
        };
        let added = u32::try_from(fields.len()).unwrap_or(u32::MAX).saturating_mul(SMALL_BYTES);
        let row = Self::sum(fields);
        Self { kind, added: row.added.saturating_add(added), collation: 0, ..row }
    }

    /// One that is as long as all of these together.
    pub(super) fn sum(values: &[Self]) -> Self {
        values.iter().fold(Self::NULL, |sum, value| Self {
            growth: sum.growth.saturating_add(value.growth),
            added: sum.added.saturating_add(value.added),
            origin: sum.origin.and(value.origin),
            ..sum
        })
    }

    /// One that is one of these.
    pub(super) fn one_of(values: &[Self]) -> Self {
        let first = values.iter().find(|value| value.is_typed()).or(values.first()).unwrap_or(&Self::NULL);
        values.iter().fold(*first, |one, value| Self {
            growth: one.growth.max(value.growth),
            added: one.added.max(value.added),
            origin: one.origin.and(value.origin),
            ..one
        })
    }

    /// The same, as a value of that type that is up to so many times as long.
    pub(super) fn grown(self, oid: u32, times: u32) -> Self {
        let length = TYPES.iter().find(|(_, known, ..)| *known == oid).map(|(.., length)| *length);
        if length == Some(Length::Limited) {
            return Self::short(Kind::Of(oid), SMALL_BYTES);
        }
        Self {
            kind: Kind::Of(oid),
            growth: self.growth.saturating_mul(times),
            added: self.added.saturating_mul(times),
            ..self
        }
    }

    /// The same, of another row of its source: what a subquery or an aggregate at that place gives.
    pub(super) fn from_within(self, place: impl Hash) -> Self {
        let origin = match self.origin {
            Origin::One(source) => Origin::One(within(source, place)),
            origin => origin,
        };
        Self { origin, ..self }
    }

    /// A value of which the type is not known.
    pub(super) fn untyped(self) -> Self {
        Self { kind: Kind::Unknown, ..self }
    }

    /// A constant or a parameter, as a value of that type.
    pub(super) fn converted(self, oid: u32) -> Self {
        match TYPES.iter().find(|(_, known, ..)| *known == oid).map(|(.., length)| *length) {
            Some(Length::Limited) => Self::short(Kind::Of(oid), SMALL_BYTES),
            // Every other type may be written shorter than it is shown: 1e1000.
            _ if matches!(oid, TEXT | VARCHAR) => Self { kind: Kind::Of(oid), ..self },
            _ => Self { kind: Kind::Of(oid), ..Self::UNKNOWN },
        }
    }

    /// What a constant is as a column of a subquery, or after it was chosen among others: no longer one.
    pub(super) fn settled(self) -> Self {
        let kind = match self.kind {
            Kind::Constant(_) => Kind::Of(TEXT),
            Kind::Whole(_) => self.oid().map_or(Kind::Unknown, Kind::Of),
            Kind::Parameter => Kind::Unknown,
            kind => kind,
        };
        Self { kind, ..self }
    }

    /// The same in that collation.
    pub(super) fn collated(self, collation: u32) -> Self {
        Self { collation, ..self }
    }

    /// Whether it fits whatever a server can hold, as far as that can be said.
    pub(super) fn is_bounded(&self) -> bool {
        self.growth <= MOST_GROWTH && self.added <= MOST_ADDED && self.origin != Origin::Several
    }

    /// Whether it has a type of its own.
    pub(super) fn is_typed(&self) -> bool {
        !matches!(self.kind, Kind::Constant(_) | Kind::Parameter)
    }

    /// Whether it is of a type that functions and operators are there for exactly.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.kind, Kind::Of(TEXT | JSONB))
    }

    /// Whether it takes the type of what stands beside it.
    pub(super) fn is_constant(&self) -> bool {
        !self.is_typed()
    }

    /// The bytes of a constant text.
    pub(super) fn literal_bytes(&self) -> Option<u32> {
        match self.kind {
            Kind::Constant(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The number, if it is a constant one.
    pub(super) fn whole(&self) -> Option<i64> {
        match self.kind {
            Kind::Whole(number) => Some(number),
            _ => None,
        }
    }

    /// Whether it is a row, of which fields can be taken.
    pub(super) fn has_fields(&self) -> bool {
        matches!(self.kind, Kind::Row | Kind::JsonRow | Kind::Composite)
    }

    fn oid(&self) -> Option<u32> {
        match self.kind {
            Kind::Of(oid) => Some(oid),
            Kind::Fixed => Some(NUMERIC),
            Kind::Whole(number) if i32::try_from(number).is_ok() => Some(INT4),
            Kind::Whole(_) => Some(INT8),
            _ => None,
        }
    }

    /// Whether it is certainly of that class.
    pub(super) fn is_of(&self, class: Class) -> bool {
        let is = |oids: &[u32]| self.oid().is_some_and(|oid| oids.contains(&oid));
        let is_array = || self.oid().is_some_and(|oid| TYPES.iter().any(|(_, _, array, _)| *array == oid));
        match class {
            Class::Any => true,
            Class::Text | Class::Letters => is(&[TEXT, VARCHAR, BPCHAR]),
            Class::Small => is(&[INT2, INT4]),
            Class::Whole => is(&[INT2, INT4, INT8]),
            Class::Bigint => is(&[INT8]),
            Class::Fixed => self.kind == Kind::Fixed,
            Class::Bool => is(&[BOOL]),
            Class::Ordered => {
                self.is_of(Class::Text)
                    || self.is_of(Class::Whole)
                    || is(&[NUMERIC, BOOL])
                    || is(&OTHERS_ORDERED)
            }
            Class::Equal => self.is_of(Class::Ordered) || is(&[BYTEA, NAME, INET, OID]),
            Class::Plain => self.oid().is_some() && !is_array(),
            Class::Array => is_array(),
            Class::Enum => self.kind == Kind::Enum,
            Class::Row => matches!(self.kind, Kind::Row | Kind::JsonRow),
            Class::Shown => self.oid().is_some() || self.is_of(Class::Enum) || self.is_of(Class::Row),
            Class::Binary => {
                self.is_of(Class::Shown) && self.kind != Kind::JsonRow && !is(&[JSON, JSON_ARRAY])
            }
            Class::Jsonb => is(&[JSONB]),
        }
    }

    /// Whether one of the two may be cast to the other's type by a cast that can fail. No other type takes a text
    /// without being asked.
    pub(super) fn may_differ(&self, other: &Self) -> bool {
        let is_free = |value: &Self| value.is_constant() || value.is_of(Class::Text);
        !self.is_like(other) && !is_free(self) && !is_free(other)
    }

    /// Whether operators and forms that take two values of one type take these two, and nothing that a user may have
    /// made instead.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let group = |value: &Self| {
            value.oid().map(|oid| match oid {
                VARCHAR | BPCHAR => TEXT,
                INT2 | INT8 => INT4,
                oid => oid,
            })
        };
        let numbers = |one: &Self, other: &Self| one.whole().is_some() && group(other) == Some(NUMERIC);
        group(self).is_some_and(|own| group(other) == Some(own))
            || numbers(self, other)
            || numbers(other, self)
    }
}

/// The collation of something made of these, if PostgreSQL finds one: one of a column's own goes before the default.
pub(super) fn collation(values: &[Value]) -> Option<u32> {
    values.iter().map(|value| value.collation).try_fold(0, |one, other| match (one, other) {
        (0, collation) | (collation, 0) => Some(collation),
        (DEFAULT_COLLATION, collation) | (collation, DEFAULT_COLLATION) => Some(collation),
        (one, other) => (one == other).then_some(one),
    })
}

/// What tells a source within another place from the same elsewhere.
pub(super) fn within(source: u64, place: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    place.hash(&mut hasher);
    hasher.finish()
}
