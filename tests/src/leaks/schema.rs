//! What the generator knows of the vault's relations: their columns, the columns' types, and which are secret.

/// A type, as far as expressions care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// text, varchar, char, enum and domain over text.
    Text,
    /// integer.
    Integer,
    /// numeric and float8.
    Number,
    /// boolean.
    Flag,
    /// date.
    Date,
    /// json and jsonb.
    Json,
    /// text[].
    Array,
    /// Everything else: uuid, bytea, range, composite.
    Other,
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it shows a tagged column.
    pub is_secret: bool,
}

/// A relation.
#[derive(Debug)]
pub struct Relation {
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [Column],
}

const fn open(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, is_secret: false }
}

const fn secret(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, is_secret: true }
}

const PEOPLE: &[Column] = &[
    open("id", Kind::Integer),
    open("label", Kind::Text),
    open("kind", Kind::Text),
    open("amount", Kind::Integer),
    secret("secret", Kind::Text),
    secret("email", Kind::Text),
    secret("card", Kind::Text),
    secret("ref", Kind::Text),
    secret("pin", Kind::Integer),
    secret("salary", Kind::Number),
    secret("born", Kind::Date),
    secret("tags", Kind::Array),
    secret("doc", Kind::Json),
    secret("raw", Kind::Json),
    secret("home", Kind::Other),
    secret("mood", Kind::Text),
    secret("uid", Kind::Other),
    secret("code", Kind::Text),
    secret("bin", Kind::Other),
    secret("score", Kind::Number),
    secret("span", Kind::Other),
    secret("nick", Kind::Text),
    secret("flag", Kind::Flag),
    secret("loud", Kind::Text),
    secret("pad", Kind::Text),
];

/// Relations that queries read.
pub const RELATIONS: &[Relation] = &[
    Relation { name: "people", columns: PEOPLE },
    Relation { name: "people", columns: PEOPLE },
    Relation { name: "ONLY people", columns: PEOPLE },
    Relation { name: "public.staff", columns: PEOPLE },
    Relation {
        name: "events",
        columns: &[
            open("id", Kind::Integer),
            open("region", Kind::Text),
            open("person", Kind::Integer),
            secret("payload", Kind::Text),
        ],
    },
    Relation {
        name: "events_north",
        columns: &[open("id", Kind::Integer), open("region", Kind::Text), secret("payload", Kind::Text)],
    },
    Relation {
        name: "letters",
        columns: &[open("id", Kind::Integer), open("subject", Kind::Text), secret("body", Kind::Text)],
    },
    Relation {
        name: "notes",
        columns: &[
            open("id", Kind::Integer),
            open("body", Kind::Text),
            open("amount", Kind::Integer),
            open("person", Kind::Integer),
        ],
    },
    Relation {
        name: "folk",
        columns: &[
            open("id", Kind::Integer),
            open("label", Kind::Text),
            secret("hint", Kind::Text),
            secret("address", Kind::Text),
            secret("salary", Kind::Number),
            secret("doc", Kind::Json),
        ],
    },
    Relation {
        name: "folk_nested",
        columns: &[open("id", Kind::Integer), open("label", Kind::Text), secret("deeper", Kind::Text)],
    },
    Relation {
        name: "folk_made",
        columns: &[
            open("id", Kind::Integer),
            open("plain", Kind::Text),
            secret("shout", Kind::Text),
            secret("twice", Kind::Number),
        ],
    },
    Relation {
        name: "folk_joined",
        columns: &[
            open("id", Kind::Integer),
            open("amount", Kind::Integer),
            open("body", Kind::Text),
            secret("hint", Kind::Text),
        ],
    },
    Relation { name: "folk_union", columns: &[open("id", Kind::Integer), secret("what", Kind::Text)] },
    Relation {
        name: "folk_count",
        columns: &[open("kind", Kind::Text), open("many", Kind::Integer), open("total", Kind::Integer)],
    },
    Relation { name: "folk_row", columns: &[open("id", Kind::Integer), secret("whole", Kind::Other)] },
    Relation {
        name: "folk_kept",
        columns: &[open("id", Kind::Integer), open("label", Kind::Text), secret("kept", Kind::Text)],
    },
];
