//! Which PostgreSQL types can bear a transform. Only types with a fixed oid are known: domains arrive as their
//! base type, extension types (citext), enums, arrays and composites have oids that say nothing.

/// How a value is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// As the type's own binary form.
    Binary,
}

/// What a transform may put in a value's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Any text; the binary form is the same.
    Text,
    /// Text whose trailing blanks mean nothing.
    PaddedText,
    /// A JSON document.
    Json,
    /// A JSON document; the binary form has a version byte before it.
    Jsonb,
    /// XML content: a document's parts are not shown, since its first and last characters are mark-up.
    Xml,
    /// A UUID.
    Uuid,
    /// Nothing but NULL.
    Opaque,
}

impl Shape {
    /// By `pg_type.oid`.
    pub(super) const fn of(type_oid: u32) -> Self {
        match type_oid {
            // name, text, varchar
            19 | 25 | 1043 => Self::Text,
            // bpchar
            1042 => Self::PaddedText,
            114 => Self::Json,
            3802 => Self::Jsonb,
            142 => Self::Xml,
            2950 => Self::Uuid,
            _ => Self::Opaque,
        }
    }
}
