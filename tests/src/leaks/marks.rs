//! Secret values that can be told from everything else, and whether some bytes show a piece of one.
//!
//! Secret texts are made of eight rare letters. No name, keyword or message has five of them in a row, so that any five
//! in a row are a piece of a secret: as they are, in capitals, in reverse, or as hexadecimal digits. Pieces in base64
//! and secret numbers are looked up one by one.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::random::Random;

const LETTERS: &[u8] = b"qxzjkvwy";
/// So many letters in a row are a piece of a secret.
const RUN: usize = 5;
/// So many are, where numbers may look like letters.
const RUN_AMONG_NUMBERS: usize = 8;
/// Letters behind so many bytes of base64.
const WINDOW: usize = 6;
/// So many digits of base64 are a piece of a secret.
const PIECE: usize = 6;

/// The secrets of one server.
#[derive(Debug, Default)]
pub struct Marks {
    encoded: HashSet<String>,
    numbers: HashSet<String>,
}

impl Marks {
    /// A fresh secret of `length` letters.
    pub fn text(&mut self, random: &mut Random, length: usize) -> String {
        let secret: String = (0..length).map(|_| char::from(LETTERS[random.below(LETTERS.len())])).collect();
        for window in secret.as_bytes().windows(WINDOW) {
            for shift in 0..3 {
                let mut padded = vec![0; shift];
                padded.extend(window);
                let encoded = STANDARD.encode(padded);
                // Digits that depend on the window alone.
                let start = if shift == 0 { 0 } else { shift + 1 };
                let piece = &encoded[start..start + PIECE];
                // Some look like the digits of any hash.
                if !piece.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    self.encoded.insert(piece.to_owned());
                }
            }
        }
        secret
    }

    /// A fresh secret of nine digits.
    pub fn number(&mut self, random: &mut Random) -> u64 {
        let number = 610_000_000 + random.next() % 380_000_000;
        self.numbers.insert(number.to_string());
        number
    }

    /// The first piece of a secret that these bytes show.
    pub fn find(&self, bytes: &[u8]) -> Option<String> {
        letters_in_a_row(bytes, RUN).or_else(|| hex_in_a_row(bytes)).or_else(|| self.listed(bytes))
    }

    /// The same in a file that is mostly numbers, whose bytes look like letters now and then: of letters it takes more in
    /// a row, in one case. Every secret has that many.
    pub fn find_among_numbers(&self, bytes: &[u8]) -> Option<String> {
        let in_one_case = |change: fn(&u8) -> bool| {
            let letters: Vec<u8> = bytes.iter().map(|byte| if change(byte) { 0 } else { *byte }).collect();
            letters_in_a_row(&letters, RUN_AMONG_NUMBERS)
        };
        in_one_case(u8::is_ascii_uppercase)
            .or_else(|| in_one_case(u8::is_ascii_lowercase))
            .or_else(|| hex_in_a_row(bytes))
            .or_else(|| self.listed(bytes))
    }

    fn listed(&self, bytes: &[u8]) -> Option<String> {
        for word in bytes.split(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'+' | b'/')) {
            let Ok(word) = std::str::from_utf8(word) else { continue };
            for start in 0..(word.len() + 1).saturating_sub(PIECE) {
                if self.encoded.contains(&word[start..start + PIECE]) {
                    return Some(word.to_owned());
                }
            }
        }
        // The time in microseconds has nine random digits as well.
        let is_time = |digits: &[u8]| digits.len() == 16 && matches!(digits.get(..2), Some(b"17" | b"18"));
        for digits in bytes.split(|byte| !byte.is_ascii_digit()).filter(|digits| !is_time(digits)) {
            let found = digits.windows(9).find_map(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                self.numbers.contains(digits).then(|| digits.to_owned())
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

fn letters_in_a_row(bytes: &[u8], length: usize) -> Option<String> {
    let is_mark = |byte: &u8| LETTERS.contains(&byte.to_ascii_lowercase());
    let run = bytes.split(|byte| !is_mark(byte)).find(|run| run.len() >= length)?;
    Some(String::from_utf8_lossy(run).into_owned())
}

fn hex_in_a_row(bytes: &[u8]) -> Option<String> {
    let digits = bytes.split(|byte| !byte.is_ascii_hexdigit());
    digits.filter(|run| run.len() >= 2 * RUN).find_map(|run| {
        run.windows(2 * RUN).find_map(|window| {
            let text = std::str::from_utf8(window).ok()?;
            let is_mark = (0..RUN).all(|at| {
                u8::from_str_radix(&text[2 * at..2 * at + 2], 16).is_ok_and(|byte| LETTERS.contains(&byte))
            });
            // Digits alone are more likely a number.
            (is_mark && text.contains(|digit: char| !digit.is_ascii_digit())).then(|| text.to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_a_secret_is_found_however_it_is_written() {
        let mut marks = Marks::default();
        let mut random = Random::new(7);
        let secret = marks.text(&mut random, 14);
        let number = marks.number(&mut random);
        let hex: String = secret.bytes().fold(String::new(), |all, byte| all + &format!("{byte:02x}"));
        for shown in [
            format!("a{}b", &secret[3..8]),
            secret.to_uppercase(),
            secret.chars().rev().collect(),
            format!("\\x00{hex}"),
            STANDARD.encode(format!("a{secret}")),
            STANDARD.encode(format!("ab{secret}")),
            STANDARD.encode(&secret),
            format!("({number},x)"),
        ] {
            assert!(marks.find(shown.as_bytes()).is_some(), "{shown}");
        }
        for shown in [&secret, &secret.to_uppercase()] {
            assert!(marks.find_among_numbers(format!("\0{shown}Z").as_bytes()).is_some(), "{shown}");
        }
        assert_eq!(marks.find_among_numbers(b"kyYkzq0vjkvk"), None);
        for harmless in ["SELECT * FROM people WHERE id = 7", "[redacted]", "q***@***.io", "****0000"] {
            assert_eq!(marks.find(harmless.as_bytes()), None);
        }
    }
}
