//! Rows as they are handed over: copied together as they came, taken apart by the thread that writes.
//!
//! This room sees values, not protocols: a row is a count, and for each column a length, −1 for NULL, and a value; numbers
//! are big-endian. That is also what a PostgreSQL DataRow holds.

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use super::record::{Column, Format, hex};

/// Rows behind each other.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PackedRows {
    packed: Vec<u8>,
    rows: u64,
    columns: Arc<[Column]>,
}

impl PackedRows {
    /// None yet, of these columns.
    pub fn new(columns: Arc<[Column]>) -> Self {
        Self { packed: Vec::new(), rows: 0, columns }
    }

    /// Adds a row that is packed already.
    pub fn push(&mut self, row: &[u8]) {
        self.packed.extend_from_slice(row);
        self.rows += 1;
    }

    /// Adds a row of one value.
    pub fn push_value(&mut self, value: &[u8]) {
        let Ok(length) = i32::try_from(value.len()) else { return };
        self.packed.extend_from_slice(&1_u16.to_be_bytes());
        self.packed.extend_from_slice(&length.to_be_bytes());
        self.packed.extend_from_slice(value);
        self.rows += 1;
    }

    /// What it takes in memory.
    pub fn size(&self) -> usize {
        self.packed.len()
    }

    /// How many there are.
    pub const fn len(&self) -> u64 {
        self.rows
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

impl std::fmt::Debug for PackedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedRows {{ rows: {}, <{} bytes withheld> }}", self.rows, self.packed.len())
    }
}

/// A list of lists of cells, as [`Cell`](super::Cell) reads them.
impl Serialize for PackedRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(usize::try_from(self.rows).ok())?;
        let mut rest = self.packed.as_slice();
        while let Some((count, after)) = rest.split_first_chunk::<2>() {
            let count = u16::from_be_bytes(*count);
            let end = row_end(count, after);
            rows.serialize_element(&Row {
                count,
                values: after.get(..end).unwrap_or_default(),
                columns: &self.columns,
            })?;
            rest = after.get(end..).unwrap_or_default();
        }
        rows.end()
    }
}

/// Where the values of a row end.
fn row_end(count: u16, values: &[u8]) -> usize {
    let mut rest = values;
    for _ in 0..count {
        if next(&mut rest).is_none() {
            return values.len();
        }
    }
    values.len() - rest.len()
}

/// The next value; the outer `None` is the end.
#[expect(clippy::option_option, reason = "an end is not a NULL")]
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
        *rest = after;
        return Some(None);
    };
    let (value, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(Some(value))
}

struct Row<'a> {
    count: u16,
    values: &'a [u8],
    columns: &'a [Column],
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut cells = serializer.serialize_seq(Some(usize::from(self.count)))?;
        let mut rest = self.values;
        for at in 0..usize::from(self.count) {
            let Some(value) = next(&mut rest) else { break };
            cells.serialize_element(&Value { value, column: self.columns.get(at) })?;
        }
        cells.end()
    }
}

struct Value<'a> {
    value: Option<&'a [u8]>,
    column: Option<&'a Column>,
}

#[derive(Serialize)]
struct Hex {
    hex: String,
}

#[derive(Serialize)]
struct Withheld {
    withheld_bytes: usize,
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(value) = self.value else { return serializer.serialize_unit() };
        if self.column.is_some_and(|column| column.withheld) {
            return Withheld { withheld_bytes: value.len() }.serialize(serializer);
        }
        let format = self.column.map_or(Format::Text, |column| column.format);
        match (format, std::str::from_utf8(value)) {
            // Of what nobody described, bytes with a NUL are no text.
            (Format::Text, Ok(text)) if !value.contains(&0) => serializer.serialize_str(text),
            _ => Hex { hex: hex(value) }.serialize(serializer),
        }
    }
}
