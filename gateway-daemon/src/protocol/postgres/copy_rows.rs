//! The rows of COPY … FROM STDIN, in text, CSV and binary format, taken apart as they come: wherever the stream is cut, and
//! whatever is in the fields, no more is kept than the one field that is being read.
//! <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS>

/// No more of a field is kept.
const FIELD_BYTES: usize = 1024 * 1024;
const BINARY_SIGNATURE_BYTES: usize = 11;

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyStyle {
    /// The server's own text format.
    Text {
        /// Between fields.
        delimiter: u8,
        /// Stands for NULL.
        null: Vec<u8>,
    },
    /// CSV.
    Csv {
        /// Between fields.
        delimiter: u8,
        /// Stands for NULL where it is not quoted.
        null: Vec<u8>,
        /// Around fields.
        quote: u8,
        /// Before a quote inside of one.
        escape: u8,
    },
    /// Binary.
    Binary,
}

/// The reader of one COPY.
#[derive(Debug)]
pub struct CopyRows {
    style: CopyStyle,
    /// Whether the field of that number is wanted.
    wanted: Vec<bool>,
    /// The number of the field that is being read.
    field: usize,
    /// What has come of it, as it stands there.
    raw: Vec<u8>,
    is_cut: bool,
    /// How many fields of a binary row are still to come.
    fields_left: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside of quotes.
    Plain,
    /// Behind a backslash.
    Escaped,
    /// Inside of quotes.
    Quoted,
    /// Behind an escape inside of quotes, which may be the quote's end.
    QuotedEscaped,
    /// These many bytes of a binary header, and behind them this number.
    Skip(usize, Number),
    /// These many bytes of a value.
    Value(usize),
    /// A number of these many bytes, of which so many have come.
    Number { of: Number, bytes: usize, value: u32 },
    /// Nothing behind this means anything.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Flags,
    Extension,
    Fields,
    Length,
}

impl State {
    const fn number(of: Number) -> Self {
        let bytes = if matches!(of, Number::Fields) { 2 } else { 4 };
        Self::Number { of, bytes, value: 0 }
    }
}

impl CopyRows {
    /// A reader of rows whose fields of these numbers are wanted.
    pub fn new(style: CopyStyle, wanted: Vec<bool>) -> Self {
        let state = match style {
            CopyStyle::Binary => State::Skip(BINARY_SIGNATURE_BYTES, Number::Flags),
            CopyStyle::Text { .. } | CopyStyle::Csv { .. } => State::Plain,
        };
        Self { style, wanted, field: 0, raw: Vec::new(), is_cut: false, fields_left: 0, state }
    }

    /// Reads on. `take` gets the number and the value of each wanted field that is not NULL; once it has taken one, the
    /// reader stops, and has read no further.
    pub fn feed<T>(&mut self, bytes: &[u8], mut take: impl FnMut(usize, &[u8]) -> Option<T>) -> Option<T> {
        match self.style.clone() {
            CopyStyle::Binary => self.binary(bytes, &mut take),
            CopyStyle::Text { delimiter, null } => {
                for byte in bytes {
                    match (self.state, *byte) {
                        (State::End, _) => return None,
                        (State::Escaped, byte) => {
                            self.keep(byte);
                            self.state = State::Plain;
                        }
                        (_, b'\\') => {
                            self.keep(b'\\');
                            self.state = State::Escaped;
                        }
                        (_, byte) if byte == delimiter || byte == b'\n' || byte == b'\r' => {
                            if self.field == 0 && self.raw == b"\\." && byte != delimiter {
                                self.state = State::End;
                                return None;
                            }
                            let taken = self.text_field(&null, &mut take);
                            self.next(byte == delimiter);
                            if taken.is_some() {
                                return taken;
                            }
                        }
                        (_, byte) => self.keep(byte),
                    }
                }
                None
            }
            CopyStyle::Csv { delimiter, null, quote, escape } => {
                for byte in bytes {
                    let byte = *byte;
                    match self.state {
                        State::Quoted if byte == escape => {
                            self.keep(byte);
                            self.state = State::QuotedEscaped;
                            continue;
                        }
                        State::Quoted => {
                            self.keep(byte);
                            if byte == quote {
                                self.state = State::Plain;
                            }
                            continue;
                        }
                        State::QuotedEscaped if byte == quote || byte == escape && escape != quote => {
                            self.keep(byte);
                            self.state = State::Quoted;
                            continue;
                        }
                        // The escape was the quote that ends it.
                        State::QuotedEscaped if escape == quote => self.state = State::Plain,
                        State::QuotedEscaped => {
                            self.keep(byte);
                            self.state = State::Quoted;
                            continue;
                        }
                        _ => {}
                    }
                    if byte == quote {
                        self.keep(byte);
                        self.state = State::Quoted;
                    } else if byte == delimiter || byte == b'\n' || byte == b'\r' {
                        let taken = self.csv_field(&null, quote, escape, &mut take);
                        self.next(byte == delimiter);
                        if taken.is_some() {
                            return taken;
                        }
                    } else {
                        self.keep(byte);
                    }
                }
                None
            }
        }
    }

    /// The last field, which nothing may stand behind.
    pub fn finish<T>(&mut self, mut take: impl FnMut(usize, &[u8]) -> Option<T>) -> Option<T> {
        match self.style.clone() {
            CopyStyle::Binary => None,
            CopyStyle::Text { null, .. } => self.text_field(&null, &mut take),
            CopyStyle::Csv { null, quote, escape, .. } => self.csv_field(&null, quote, escape, &mut take),
        }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.get(self.field).copied().unwrap_or(false)
    }

    fn keep(&mut self, byte: u8) {
        // The end mark stands where the first field would.
        if !self.is_wanted() && !(self.field == 0 && self.raw.len() < 3) {
            return;
        }
        if self.raw.len() < FIELD_BYTES { self.raw.push(byte) } else { self.is_cut = true }
    }

    fn next(&mut self, is_same_row: bool) {
        self.field = if is_same_row { self.field.saturating_add(1) } else { 0 };
        self.raw.clear();
        self.is_cut = false;
    }

    fn text_field<T>(&self, null: &[u8], take: &mut impl FnMut(usize, &[u8]) -> Option<T>) -> Option<T> {
        if !self.is_wanted() || self.is_cut || self.raw == null {
            return None;
        }
        take(self.field, &unescaped(&self.raw))
    }

    fn csv_field<T>(
        &self,
        null: &[u8],
        quote: u8,
        escape: u8,
        take: &mut impl FnMut(usize, &[u8]) -> Option<T>,
    ) -> Option<T> {
        if !self.is_wanted() || self.is_cut || self.raw == null {
            return None;
        }
        let mut value = Vec::with_capacity(self.raw.len());
        let mut is_quoted = false;
        let mut rest = self.raw.iter().copied().peekable();
        while let Some(byte) = rest.next() {
            let next_is_escaped = rest.peek().is_some_and(|next| *next == quote || *next == escape);
            if is_quoted && byte == escape && next_is_escaped {
                value.extend(rest.next());
            } else if byte == quote {
                is_quoted = !is_quoted;
            } else {
                value.push(byte);
            }
        }
        take(self.field, &value)
    }

    fn binary<T>(&mut self, mut bytes: &[u8], take: &mut impl FnMut(usize, &[u8]) -> Option<T>) -> Option<T> {
        loop {
            match self.state {
                State::Skip(0, then) => self.state = State::number(then),
                State::Skip(left, then) => {
                    let now = left.min(bytes.len());
                    bytes = bytes.get(now..).unwrap_or_default();
                    self.state = State::Skip(left - now, then);
                }
                State::Value(0) => {
                    let taken =
                        if self.is_wanted() && !self.is_cut { take(self.field, &self.raw) } else { None };
                    self.next(true);
                    self.state = self.next_field();
                    if taken.is_some() {
                        return taken;
                    }
                }
                State::Value(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    if self.is_wanted() {
                        let room = FIELD_BYTES.saturating_sub(self.raw.len());
                        self.is_cut |= now.len() > room;
                        self.raw.extend(now.iter().take(room));
                    }
                    bytes = rest;
                    self.state = State::Value(left - now.len());
                }
                State::Number { of, bytes: 0, value } => self.state = self.after_number(of, value),
                State::Number { of, bytes: left, value } => {
                    let Some((byte, rest)) = bytes.split_first() else { return None };
                    bytes = rest;
                    let value = value << 8 | u32::from(*byte);
                    self.state = State::Number { of, bytes: left - 1, value };
                }
                _ => return None,
            }
            // What is complete without a further byte is dealt with before the next bytes come.
            let is_complete =
                matches!(self.state, State::Skip(0, _) | State::Value(0) | State::Number { bytes: 0, .. });
            if bytes.is_empty() && !is_complete {
                return None;
            }
        }
    }

    fn after_number(&mut self, of: Number, value: u32) -> State {
        match of {
            Number::Flags => State::number(Number::Extension),
            Number::Extension => State::Skip(usize::try_from(value).unwrap_or(usize::MAX), Number::Fields),
            // No row has so many: it is the end.
            Number::Fields if value >= 0x8000 => State::End,
            Number::Fields => {
                self.next(false);
                self.fields_left = usize::try_from(value).unwrap_or_default();
                self.next_field()
            }
            Number::Length if value == u32::MAX => {
                self.next(true);
                self.next_field()
            }
            Number::Length => State::Value(usize::try_from(value).unwrap_or(usize::MAX)),
        }
    }

    fn next_field(&mut self) -> State {
        match self.fields_left.checked_sub(1) {
            Some(left) => {
                self.fields_left = left;
                State::number(Number::Length)
            }
            None => State::number(Number::Fields),
        }
    }
}

/// The value of a field in the text format.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(raw.len());
    let mut rest = raw;
    loop {
        rest = match *rest {
            [] => return value,
            [b'\\', b'x', ref digits @ ..] if digits.first().is_some_and(u8::is_ascii_hexdigit) => {
                let (byte, rest) = number(digits, 16, 2);
                value.push(byte);
                rest
            }
            [b'\\', b'0'..=b'7', ..] => {
                let (byte, rest) = number(rest.get(1..).unwrap_or_default(), 8, 3);
                value.push(byte);
                rest
            }
            [b'\\', sign, ref rest @ ..] => {
                value.push(match sign {
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    sign => sign,
                });
                rest
            }
            [byte, ref rest @ ..] => {
                value.push(byte);
                rest
            }
        };
    }
}

/// The number in the first digits, at most so many, and what is behind them.
fn number(digits: &[u8], base: u32, most: usize) -> (u8, &[u8]) {
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    let count = digits.iter().take(most).take_while(|byte| digit(byte).is_some()).count();
    let (digits, rest) = digits.split_at(count);
    let value = digits.iter().filter_map(digit).fold(0_u32, |value, digit| value * base + digit);
    (u8::try_from(value & 0xff).unwrap_or_default(), rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::{CopyRows, CopyStyle};

    fn text() -> CopyStyle {
        CopyStyle::Text { delimiter: b'\t', null: b"\\N".to_vec() }
    }

    fn csv(quote: u8, escape: u8) -> CopyStyle {
        CopyStyle::Csv { delimiter: b',', null: Vec::new(), quote, escape }
    }

    /// The second and third field of every row, of bytes that come in pieces of this size.
    fn fields(style: &CopyStyle, bytes: &[u8], piece: usize) -> Vec<(usize, String)> {
        let mut rows = CopyRows::new(style.clone(), vec![false, true, true]);
        let mut all = Vec::new();
        let mut take = |field: usize, value: &[u8]| -> Option<()> {
            all.push((field, String::from_utf8_lossy(value).into_owned()));
            None
        };
        for piece in bytes.chunks(piece.max(1)) {
            rows.feed(piece, &mut take);
        }
        rows.finish(&mut take);
        all
    }

    fn binary(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
        let mut all = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x03abc".to_vec();
        for row in rows {
            all.extend(u16::try_from(row.len()).unwrap().to_be_bytes());
            for value in *row {
                match value {
                    Some(value) => {
                        all.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                        all.extend(*value);
                    }
                    None => all.extend([0xff; 4]),
                }
            }
        }
        all.extend([0xff; 2]);
        all
    }

    #[test]
    fn fields_are_found_wherever_the_rows_are_cut() {
        let cases: [(CopyStyle, Vec<u8>, &[(usize, &str)]); 8] = [
            (text(), b"1\ta\tb\n2\t\\N\tc\\td\n".to_vec(), &[(1, "a"), (2, "b"), (2, "c\td")]),
            (text(), b"1\t\\x41\\102\\\\\te\\\nf\r\n".to_vec(), &[(1, "AB\\"), (2, "e\nf")]),
            (text(), b"1\ta\tb\n\\.\n2\tc\td\n".to_vec(), &[(1, "a"), (2, "b")]),
            (text(), b"1\ta\tlast".to_vec(), &[(1, "a"), (2, "last")]),
            (
                csv(b'"', b'"'),
                b"1,a,b\n2,,\"\"\n3,\"x,\n\"\"y\"\"\",z\"\"z\n".to_vec(),
                &[(1, "a"), (2, "b"), (2, ""), (1, "x,\n\"y\""), (2, "zz")],
            ),
            (
                csv(b'!', b'\\'),
                b"1,!a\\!,\\\\b!,c\\d\n2,!\\x!,e".to_vec(),
                &[(1, "a!,\\b"), (2, "c\\d"), (1, "\\x"), (2, "e")],
            ),
            (
                CopyStyle::Binary,
                binary(&[&[Some(b"1"), Some(b"a"), None], &[None, Some(b""), Some(b"c\n")]]),
                &[(1, "a"), (1, ""), (2, "c\n")],
            ),
            (CopyStyle::Binary, binary(&[]), &[]),
        ];
        for (style, bytes, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(field, value)| (*field, (*value).to_owned())).collect();
            for piece in 1..=bytes.len() {
                assert_eq!(fields(&style, &bytes, piece), expected, "{} by {piece}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn a_field_that_is_taken_ends_the_reading_and_a_long_one_is_not_kept() {
        let mut rows = CopyRows::new(text(), vec![true]);
        assert_eq!(
            rows.feed(b"a\nb\nc\n", |_, value| (value == b"b").then(|| value.to_vec())),
            Some(b"b".to_vec())
        );
        let mut rows = CopyRows::new(text(), vec![true]);
        for _ in 0..40 {
            assert_eq!(rows.feed(&[b'x'; 64 * 1024], |_, _| Some(())), None);
        }
        assert!(rows.raw.len() <= super::FIELD_BYTES);
        assert_eq!(rows.feed(b"\nshort\n", |_, value| Some(value.to_vec())), Some(b"short".to_vec()));
    }

    proptest! {
        #[test]
        fn rows_are_read_the_same_in_any_pieces(
            bytes in prop::collection::vec(prop::sample::select(&b"a\t\n\r\\.,\"!N\0\xff\x01"[..]), 0..60),
            piece in 1_usize..9,
            style in prop::sample::select(vec![text(), csv(b'"', b'"'), csv(b'!', b'\\'), CopyStyle::Binary]),
        ) {
            prop_assert_eq!(fields(&style, &bytes, piece), fields(&style, &bytes, bytes.len()));
        }
    }
}
