//! The shape of a text: the text without its integer literals, so that what was read once serves every text that
//! differs from it in numbers only. Agents and drivers send the same statement with another key a thousand times.
//!
//! Only what PostgreSQL's lexer cannot read in two ways is taken for a literal: decimal digits that stand alone, in
//! a text of printable ASCII without quotes, dollars, backslashes and comments, and few enough for an `int4`. Whether
//! a literal's value matters to the reading (ORDER BY 2, LIMIT 10, numeric(10)) is not known here: the reader names
//! the literals that it never looked at, and those alone may differ.

use std::ops::Range;

/// Stands for a literal in a key; no text with this byte has a shape.
const PLACE: char = '\u{1}';
/// More digits might not be an `int4`.
const MAX_DIGITS: usize = 9;
/// Texts with more literals are read as they come.
const MAX_LITERALS: usize = 256;

/// A text and where its literals are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape<'a> {
    text: &'a str,
    literals: Vec<Range<usize>>,
}

impl<'a> Shape<'a> {
    /// The shape of `text`; without any literal where the text is not of the plain kind.
    pub fn of(text: &'a str) -> Self {
        Self { text, literals: literals(text).unwrap_or_default() }
    }

    /// How many literals there are.
    pub fn literals(&self) -> usize {
        self.literals.len()
    }

    /// The text with a placeholder for each literal of which the number is not among `kept`, which is sorted.
    /// Texts with the same key differ in those literals only.
    pub fn key(&self, kept: &[u16]) -> String {
        let mut key = String::with_capacity(self.text.len());
        let mut from = 0;
        for (number, literal) in self.literals.iter().enumerate() {
            if u16::try_from(number).is_ok_and(|number| kept.binary_search(&number).is_ok()) {
                continue;
            }
            key.push_str(self.text.get(from..literal.start).unwrap_or_default());
            key.push(PLACE);
            from = literal.end;
        }
        key.push_str(self.text.get(from..).unwrap_or_default());
        key
    }

    /// The numbers of the literals that are at none of `places`: byte offsets of constants, a minus sign included.
    pub fn others(&self, places: &[usize]) -> Vec<u16> {
        let free: Vec<usize> = places.iter().map(|place| self.digits_from(*place)).collect();
        (0..)
            .zip(&self.literals)
            .filter(|(_, literal)| !free.contains(&literal.start))
            .map(|(number, _)| number)
            .collect()
    }

    /// A negative constant begins at its sign.
    fn digits_from(&self, place: usize) -> usize {
        let rest = self.text.get(place..).unwrap_or_default();
        let signs = rest.bytes().take_while(|byte| matches!(byte, b'-' | b' ' | b'\t' | b'\n' | b'\r'));
        place + signs.count()
    }
}

fn literals(text: &str) -> Option<Vec<Range<usize>>> {
    let bytes = text.as_bytes();
    let mut literals = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        match byte {
            b'\'' | b'"' | b'$' | b'\\' => return None,
            b'-' if bytes.get(at + 1) == Some(&b'-') => return None,
            b'/' if bytes.get(at + 1) == Some(&b'*') => return None,
            _ if is_word(byte) => {
                let word = bytes.get(at..)?;
                let word = word.get(..word.iter().take_while(|byte| is_word(**byte)).count())?;
                let end = at + word.len();
                if word.len() <= MAX_DIGITS && word.iter().all(u8::is_ascii_digit) {
                    literals.push(at..end);
                }
                at = end;
                continue;
            }
            b' '..=b'~' | b'\t' | b'\n' | b'\r' => {}
            _ => return None,
        }
        at += 1;
    }
    (literals.len() <= MAX_LITERALS).then_some(literals)
}

/// Names, numbers of every kind, and what would make one token of the two.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        Shape::of(text).key(&[]).replace(PLACE, "?")
    }

    #[test]
    fn only_integers_that_stand_alone_are_literals() {
        for (text, shape) in [
            ("SELECT a FROM t WHERE b = 12 AND c=3", "SELECT a FROM t WHERE b = ? AND c=?"),
            ("SELECT t1.c2 FROM t1", "SELECT t1.c2 FROM t1"),
            ("SELECT 1.5, .5, 1e5, 0x1F, 1_000, 5.", "SELECT 1.5, .5, 1e5, 0x1F, 1_000, 5."),
            ("SELECT 123456789, 1234567890", "SELECT ?, 1234567890"),
            ("SELECT 12abc, abc12", "SELECT 12abc, abc12"),
            ("SET x TO -5", "SET x TO -?"),
        ] {
            assert_eq!(key(text), shape);
        }
    }

    #[test]
    fn a_text_that_could_be_read_in_two_ways_is_its_own_shape() {
        for text in [
            "SELECT 'it is 5', 5",
            "SELECT \"a 5\", 5",
            "SELECT $1, 5",
            "SELECT 5 -- 6",
            "SELECT 5 /* 6 */",
            "SELECT 5 \\ 6",
            "SELECT ä, 5",
            "SELECT 5\u{b}, 6",
            "SELECT \u{1}, 6",
        ] {
            assert_eq!(Shape::of(text).key(&[]), text);
        }
    }

    #[test]
    fn literals_that_matter_are_kept_in_the_key() {
        let shape = Shape::of("SELECT a + 10 FROM t ORDER BY 2 LIMIT 30");
        assert_eq!(shape.key(&[1, 2]).replace(PLACE, "?"), "SELECT a + ? FROM t ORDER BY 2 LIMIT 30");
        assert_eq!(shape.others(&[11]), [1, 2]);
    }

    #[test]
    fn a_negative_constant_is_found_from_its_sign() {
        let shape = Shape::of("SELECT a + - 10, b - -7");
        assert_eq!(shape.others(&[11, 21]), [] as [u16; 0]);
    }
}
