//! The fields of a head or of trailers, as they came (RFC 9110 §5).

use std::ops::Range;

use bytes::Bytes;

use super::{
    error::Malformed,
    head::{Limits, lines},
    syntax::{is_token, trimmed},
};

/// Fields that speak of the connection, which ends here (RFC 9110 §7.6.1, and those that older clients send).
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "upgrade",
    "http2-settings",
];

/// Fields that `Connection` may not take out: a message without them would mean something else.
const END_TO_END: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "authorization",
    "cookie",
    "set-cookie",
    "content-type",
    "content-encoding",
    "content-range",
    "range",
    "location",
    "expect",
    "trailer",
    "cache-control",
    "origin",
    "date",
];

/// Fields whose name with `_` in place of `-` is the same to servers that hand fields on as CGI variables (RFC 3875).
const DECISIVE: &[&str] = &["content-length", "transfer-encoding", "x-forwarded-for", "x-forwarded-host"];

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name in the sender's letter case.
    pub name: &'a [u8],
    /// Its value without the blanks around it.
    pub value: &'a [u8],
    /// The whole line, without CRLF.
    pub line: &'a [u8],
}

impl Field<'_> {
    /// Whether it is this field; `name` in lower case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether some server takes it for this field: letter case does not count, and neither does `_` for `-`.
    pub fn resembles(&self, name: &str) -> bool {
        same_but_for_underscores(self.name, name)
    }
}

/// Fields in the order in which they came.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields {
    head: Bytes,
    places: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    line: Range<usize>,
    colon: usize,
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values hold credentials.
        formatter.debug_list().entries(self.iter().map(|field| String::from_utf8_lossy(field.name))).finish()
    }
}

impl Fields {
    /// Reads the lines of `head` behind its first `skipped` ones.
    pub(super) fn read(head: Bytes, skipped: usize, limits: &Limits) -> Result<Self, Malformed> {
        let mut places = Vec::with_capacity(16);
        for (start, line) in lines(&head).skip(skipped) {
            if let Some(b' ' | b'\t') = line.first() {
                return Err(Malformed::Folded);
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed::FieldName)?;
            let name = line.get(..colon).unwrap_or_default();
            if !is_token(name) {
                return Err(Malformed::FieldName);
            }
            if name.contains(&b'_')
                && let Some(known) = DECISIVE.iter().find(|known| same_but_for_underscores(name, known))
            {
                return Err(Malformed::Alias(known));
            }
            if places.len() == limits.fields {
                return Err(Malformed::TooManyFields(limits.fields));
            }
            places.push(Place { line: start..start + line.len(), colon });
        }
        Ok(Self { head, places })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.places.iter().filter_map(|place| {
            let line = self.head.get(place.line.clone())?;
            let (name, value) = line.split_at_checked(place.colon)?;
            Some(Field { name, value: trimmed(value.get(1..)?), line })
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The values of one field, in order; `name` in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |field| field.is(name)).map(|field| field.value)
    }

    /// The first value of a field.
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Whether a list among the values of a field has this member (RFC 9110 §5.6.1).
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.members(name).any(|listed| listed.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// Whether a field belongs to the connection and not to the message.
    pub fn of_the_connection(&self, field: &Field<'_>) -> bool {
        OF_THE_CONNECTION.iter().any(|name| field.is(name))
            || self.members("connection").any(|option| option.eq_ignore_ascii_case(field.name))
    }

    /// Refuses a `Connection` that would take what the message means out of it.
    pub(super) fn check_connection(&self) -> Result<(), Malformed> {
        for option in self.members("connection") {
            if let Some(name) = END_TO_END.iter().find(|name| option.eq_ignore_ascii_case(name.as_bytes())) {
                return Err(Malformed::Nominated(name));
            }
        }
        Ok(())
    }

    fn members<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(trimmed)
            .filter(|member| !member.is_empty())
    }
}

fn same_but_for_underscores(name: &[u8], known: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == known.len()
        && name.iter().zip(known.as_bytes()).all(|(left, right)| plain(*left) == plain(*right))
}
