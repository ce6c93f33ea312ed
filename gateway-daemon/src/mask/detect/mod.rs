//! Finds what looks like personal data or a secret inside text, and is: each find has passed a check of its own (a checksum,
//! a registry's rules, a fixed form) and, where numbers alone would prove too little, stands behind a word that says what
//! it is.
//!
//! One pass: an Aho-Corasick automaton stops where something can begin (a digit, `@`, `://`, the first letters of a
//! token), a recogniser looks around that place, and the pass goes on behind what was looked at. Recognisers look back no
//! further than to where the last find ended, and ahead over what they then skip or over a bounded stretch: the time is
//! linear in the length of the text.

mod addresses;
mod checksums;
mod context;
mod national;
mod numbers;
mod secrets;

use std::{collections::BTreeSet, ops::Range};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, Anchored, Input, MatchKind};

pub(super) use self::context::Hint;
use crate::domain::detector::Detector;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// What it is.
    pub detector: Detector,
    /// Where it stands, in bytes.
    pub range: Range<usize>,
}

/// Looks for a set of things.
#[derive(Debug)]
pub struct Scanner {
    wanted: BTreeSet<Detector>,
    triggers: AhoCorasick,
    /// By the pattern's number.
    starts: Vec<Start>,
}

/// What may begin at a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Digit,
    At,
    Scheme,
    Secret(&'static secrets::Form),
}

/// What a recogniser sees.
#[derive(Debug, Clone, Copy)]
struct Place<'t> {
    text: &'t [u8],
    /// Nothing before this belongs to what is looked for: an earlier find ends here.
    from: usize,
    /// Where the trigger begins.
    at: usize,
    /// Where it ends.
    end: usize,
    /// What is known of the text as a whole.
    hint: Hint,
}

/// What came of looking.
#[derive(Debug)]
enum Seen {
    /// A find.
    Hit(Hit),
    /// Nothing that begins before this.
    Nothing(usize),
}

impl Scanner {
    /// A scanner for these.
    ///
    /// # Errors
    /// The automaton is too large, which no set of detectors makes it.
    pub fn new(wanted: &BTreeSet<Detector>) -> Result<Self, aho_corasick::BuildError> {
        use Detector::{Card, Email, Iban, NationalId, Phone, UrlPassword};
        let wants = |any: &[Detector]| any.iter().any(|detector| wanted.contains(detector));
        let mut patterns: Vec<&[u8]> = Vec::new();
        let mut starts = Vec::new();
        if wants(&[Phone, Card, Iban, NationalId]) {
            for digit in b"0123456789".chunks(1) {
                patterns.push(digit);
                starts.push(Start::Digit);
            }
        }
        if wants(&[Email]) {
            patterns.push(b"@");
            starts.push(Start::At);
        }
        if wants(&[UrlPassword]) {
            patterns.push(b"://");
            starts.push(Start::Scheme);
        }
        for form in secrets::FORMS.iter().filter(|form| wanted.contains(&form.detector)) {
            patterns.push(form.prefix);
            starts.push(Start::Secret(form));
        }
        let triggers = AhoCorasickBuilder::new()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::DFA))
            .build(patterns)?;
        Ok(Self { wanted: wanted.clone(), triggers, starts })
    }

    /// Every find in `text`, in order; none overlaps another.
    pub(super) fn hits<'s>(&'s self, text: &'s [u8], hint: Hint) -> impl Iterator<Item = Hit> + 's {
        let (mut next, mut from) = (0, 0);
        std::iter::from_fn(move || {
            while next < text.len() {
                let input = Input::new(text).span(next..text.len()).anchored(Anchored::No);
                let trigger = self.triggers.find(input)?;
                let place = Place { text, from, at: trigger.start(), end: trigger.end(), hint };
                match self.look(self.starts.get(trigger.pattern().as_usize()).copied(), &place) {
                    Seen::Hit(found) => {
                        next = found.range.end.max(trigger.end());
                        from = next;
                        return Some(found);
                    }
                    Seen::Nothing(end) => next = end.max(trigger.end()),
                }
            }
            None
        })
    }

    fn look(&self, start: Option<Start>, place: &Place<'_>) -> Seen {
        match start {
            Some(Start::Digit) => numbers::look(&self.wanted, place),
            Some(Start::At) => addresses::email(place),
            Some(Start::Scheme) => addresses::url_password(place),
            Some(Start::Secret(form)) => secrets::look(form, place),
            None => Seen::Nothing(place.end),
        }
    }
}

impl Place<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn before(&self, at: usize) -> Option<u8> {
        self.byte(at.checked_sub(1)?)
    }

    fn slice(&self, range: Range<usize>) -> &[u8] {
        self.text.get(range).unwrap_or_default()
    }

    /// Where the bytes that satisfy `belongs` begin, going back from `end`.
    fn back(&self, end: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let run = self.slice(self.from..end).iter().rev().take_while(|byte| belongs(**byte)).count();
        end.saturating_sub(run)
    }

    /// Where the bytes that satisfy `belongs` end, going on from `start`.
    fn ahead(&self, start: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let run =
            self.text.get(start..).unwrap_or_default().iter().take_while(|byte| belongs(**byte)).count();
        start.saturating_add(run)
    }

    /// The same, at most so many.
    fn ahead_at_most(&self, most: usize, start: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let run = self.slice(start..self.text.len().min(start.saturating_add(most)));
        start.saturating_add(run.iter().take_while(|byte| belongs(**byte)).count())
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
