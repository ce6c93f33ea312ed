//! The words around a number that say what it is: in front of it, or in the name of the column or the key that holds it.

use super::Place;

/// How far before a number its word may stand.
const REACH_BYTES: usize = 48;

/// Words that make a number what it looks like. One that is part of a longer word counts where that begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Phone,
    Card,
    /// Numbers that look like another kind: orders, tickets, versions.
    Other,
    Ssn,
    GermanTax,
    Bsn,
    Nir,
    Pesel,
    Cpf,
    Aadhaar,
    Nhs,
    Personnummer,
    Sin,
    Dni,
}

const TOPICS: [(Topic, &[&str]); 14] = [
    (
        Topic::Phone,
        &[
            "phone",
            "telephone",
            "tel",
            "telefon",
            "mobile",
            "mobil",
            "handy",
            "cell",
            "call",
            "fax",
            "whatsapp",
            "sms",
            "gsm",
            "rufnummer",
            "telefono",
            "portable",
        ],
    ),
    (
        Topic::Card,
        &["card", "creditcard", "visa", "mastercard", "amex", "kreditkarte", "carte", "tarjeta", "pan", "cc"],
    ),
    (
        Topic::Other,
        &[
            "order",
            "invoice",
            "ticket",
            "tracking",
            "sku",
            "isbn",
            "ean",
            "upc",
            "serial",
            "version",
            "build",
            "ref",
            "reference",
            "batch",
            "article",
            "part",
            "imei",
            "timestamp",
            "epoch",
            "commit",
            "rechnung",
            "bestellung",
        ],
    ),
    (Topic::Ssn, &["ssn", "social"]),
    (Topic::GermanTax, &["steuer", "tin", "idnr", "taxid", "tax", "identifikationsnummer"]),
    (Topic::Bsn, &["bsn", "burgerservicenummer", "sofi"]),
    (Topic::Nir, &["nir", "insee", "secu", "vitale"]),
    (Topic::Pesel, &["pesel"]),
    (Topic::Cpf, &["cpf"]),
    (Topic::Aadhaar, &["aadhaar", "aadhar", "uidai"]),
    (Topic::Nhs, &["nhs"]),
    (Topic::Personnummer, &["personnummer", "personnr", "pnr"]),
    (Topic::Sin, &["sin", "nas"]),
    (Topic::Dni, &["dni", "nif", "nie"]),
];

/// The topics that a name speaks of, such as a column's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hint(u16);

impl Hint {
    /// Of a name, a key, a sentence.
    pub fn of(text: &[u8]) -> Self {
        let mut lower = [0; REACH_BYTES];
        let tail = text.get(text.len().saturating_sub(REACH_BYTES)..).unwrap_or_default();
        for (to, from) in lower.iter_mut().zip(tail) {
            *to = from.to_ascii_lowercase();
        }
        let lower = lower.get(..tail.len()).unwrap_or_default();
        let mut topics = 0;
        for word in lower.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| word.len() >= 2) {
            for (topic, words) in &TOPICS {
                if words.iter().any(|known| begins(word, known.as_bytes())) {
                    topics |= topic.bit();
                }
            }
        }
        Self(topics)
    }

    /// Both together.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn speaks_of(self, topic: Topic) -> bool {
        self.0 & topic.bit() != 0
    }
}

/// Short words count alone, or as a plural: `sin` is no beginning of `since`.
fn begins(word: &[u8], known: &[u8]) -> bool {
    match word.strip_prefix(known) {
        None => false,
        Some(rest) => known.len() >= 5 || rest.is_empty() || rest == b"s" || rest == b"nr" || rest == b"no",
    }
}

impl Topic {
    const fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

impl Place<'_> {
    /// Whether something says that the number at `start` is of this kind.
    pub(super) fn speaks_of(&self, topic: Topic, start: usize) -> bool {
        self.around(start).speaks_of(topic)
    }

    /// What the words before `start` and the hint speak of.
    pub(super) fn around(&self, start: usize) -> Hint {
        let before = self.slice(start.saturating_sub(REACH_BYTES)..start);
        // What stands in another line or sentence speaks of something else.
        let sentence = before.iter().rposition(|byte| matches!(byte, b'\n' | b';')).map_or(0, |at| at + 1);
        Hint::of(before.get(sentence..).unwrap_or_default()).with(self.hint)
    }
}
