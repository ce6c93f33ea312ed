//! DataRow without a copy: checked once, then walked.

use super::super::super::wire::{Reader, WireError};

/// The values of one row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DataRow<'a> {
    count: u16,
    body: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// Checks every length of the body after the column count.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let count = reader.u16("columns")?;
        let body = reader.rest();
        let mut values = Reader::new(body);
        for _ in 0..count {
            values.nullable("column value")?;
        }
        values.finish("DataRow")?;
        Ok(Self { count, body })
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether the row has no columns.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values in order; `None` is NULL.
    pub fn values(&self) -> Values<'a> {
        Values { left: self.len(), reader: Reader::new(self.body) }
    }
}

impl<'a> IntoIterator for DataRow<'a> {
    type Item = Option<&'a [u8]>;
    type IntoIter = Values<'a>;

    fn into_iter(self) -> Values<'a> {
        self.values()
    }
}

impl std::fmt::Debug for DataRow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataRow {{ columns: {}, <{} bytes withheld> }}", self.count, self.body.len())
    }
}

/// Iterator of [`DataRow::values`].
#[derive(Clone)]
pub struct Values<'a> {
    left: usize,
    reader: Reader<'a>,
}

impl<'a> Iterator for Values<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // All lengths were checked by `DataRow::read`.
        self.reader.nullable("column value").ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Values<'_> {}
