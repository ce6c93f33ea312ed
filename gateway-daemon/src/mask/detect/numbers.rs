//! Numbers: payment cards, telephones, bank accounts, and what states give to people (`national`). A number is read in
//! the groups that it is written in, from each group on; what belongs to a longer name (a UUID, a date, a version, an IP
//! address) is none.

use std::{cell::OnceCell, collections::BTreeSet, ops::Range};

use super::{Hint, Hit, Place, Seen, checksums::luhn, checksums::mod_97, context::Topic, is_word, national};
use crate::domain::detector::Detector;

/// No number is written in more groups than a French social security number or a telephone number.
const MAX_GROUPS: usize = 8;
const MAX_DIGITS: usize = 19;

/// Groups of digits, and what stands between them.
#[derive(Debug)]
pub(super) struct Number<'p> {
    pub(super) place: &'p Place<'p>,
    groups: Vec<Range<usize>>,
    /// The value of each digit.
    digits: Vec<u8>,
    /// What the words before it speak of, once somebody asks.
    around: OnceCell<Hint>,
}

/// The first groups of a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'n> {
    number: &'n Number<'n>,
    count: usize,
}

/// Looks around a digit.
pub(super) fn look(wanted: &BTreeSet<Detector>, place: &Place<'_>) -> Seen {
    let start = place.back(place.at, is_word);
    let end = place.ahead(place.at, is_word);
    if !place.slice(start..end).iter().all(u8::is_ascii_digit) {
        return lettered(wanted, place, start, end);
    }
    let number = Number::at(place, start);
    let windows = (1..=number.groups.len()).rev().map(|count| Window { number: &number, count });
    for window in windows {
        // Longest first: a number inside a longer one that is valid is the longer one's.
        if let Some(hit) = find(wanted, window) {
            return Seen::Hit(hit);
        }
    }
    Seen::Nothing(end)
}

fn find(wanted: &BTreeSet<Detector>, window: Window<'_>) -> Option<Hit> {
    let wants = |detector| wanted.contains(&detector);
    if wants(Detector::NationalId)
        && let Some(range) = national::lettered_end(window)
    {
        return Some(Hit { detector: Detector::NationalId, range });
    }
    if !window.ends_cleanly() {
        return None;
    }
    let plain = |detector| Some(Hit { detector, range: window.range() });
    if wants(Detector::Card) && is_card(window) {
        return plain(Detector::Card);
    }
    if wants(Detector::NationalId) && national::is_id(window) {
        return plain(Detector::NationalId);
    }
    if wants(Detector::Phone)
        && let Some(range) = phone(window)
    {
        return Some(Hit { detector: Detector::Phone, range });
    }
    None
}

/// A word with letters and digits.
fn lettered(wanted: &BTreeSet<Detector>, place: &Place<'_>, start: usize, end: usize) -> Seen {
    if wanted.contains(&Detector::Iban)
        && let Some(range) = iban(place, start)
    {
        return Seen::Hit(Hit { detector: Detector::Iban, range });
    }
    if wanted.contains(&Detector::NationalId) && national::is_lettered_id(place, start..end) {
        return Seen::Hit(Hit { detector: Detector::NationalId, range: start..end });
    }
    Seen::Nothing(end)
}

impl<'p> Number<'p> {
    fn at(place: &'p Place<'p>, start: usize) -> Self {
        let mut number = Self { place, groups: Vec::new(), digits: Vec::new(), around: OnceCell::new() };
        let mut at = start;
        loop {
            let end = place.ahead(at, |byte| byte.is_ascii_digit());
            if end == at
                || number.digits.len() + (end - at) > MAX_DIGITS
                || place.byte(end).is_some_and(is_word)
            {
                break;
            }
            number.digits.extend(place.slice(at..end).iter().map(|digit| digit - b'0'));
            number.groups.push(at..end);
            if number.groups.len() == MAX_GROUPS {
                break;
            }
            at = match (place.byte(end), place.byte(end + 1)) {
                (Some(b')'), Some(b' ' | b'-')) | (Some(b' '), Some(b'(')) => end + 2,
                (Some(b' ' | b'-' | b'.' | b'/' | b')'), _) => end + 1,
                _ => break,
            };
        }
        number
    }
}

impl<'n> Window<'n> {
    pub(super) fn place(&self) -> &'n Place<'n> {
        self.number.place
    }

    fn groups(&self) -> &'n [Range<usize>] {
        self.number.groups.get(..self.count).unwrap_or_default()
    }

    pub(super) fn range(&self) -> Range<usize> {
        let groups = self.groups();
        let start = groups.first().map_or(0, |group| group.start);
        start..groups.last().map_or(start, |group| group.end)
    }

    pub(super) fn digits(&self) -> &'n [u8] {
        let count: usize = self.groups().iter().map(ExactSizeIterator::len).sum();
        self.number.digits.get(..count).unwrap_or_default()
    }

    /// Whether its groups have these sizes.
    pub(super) fn is_grouped(&self, sizes: &[usize]) -> bool {
        self.groups().iter().map(ExactSizeIterator::len).eq(sizes.iter().copied())
    }

    pub(super) fn is_one_group(&self) -> bool {
        self.count == 1
    }

    /// What stands between its groups.
    pub(super) fn separators(&self) -> impl Iterator<Item = &'n [u8]> {
        let groups = self.groups();
        let place = self.place();
        groups.iter().zip(groups.iter().skip(1)).map(|(one, next)| place.slice(one.end..next.start))
    }

    pub(super) fn is_separated_by(&self, separators: &[&[u8]]) -> bool {
        self.separators().eq(separators.iter().copied())
    }

    /// Whether all its separators are the same, one of these.
    pub(super) fn is_evenly_separated(&self, by: &[&[u8]]) -> bool {
        let mut separators = self.separators();
        let Some(first) = separators.next() else { return true };
        by.contains(&first) && separators.all(|other| other == first)
    }

    /// Whether nothing before it makes it a part of something longer.
    pub(super) fn begins_cleanly(&self) -> bool {
        let before = self.place().before(self.range().start);
        !before.is_some_and(|byte| is_word(byte) || b".-/@+#%$".contains(&byte))
    }

    /// The same for what comes behind it.
    fn ends_cleanly(&self) -> bool {
        let end = self.range().end;
        let place = self.place();
        match (place.byte(end), place.byte(end + 1)) {
            (Some(byte), _) if is_word(byte) => false,
            (Some(b','), Some(next)) => !next.is_ascii_digit(),
            (Some(b'.' | b'-' | b'/' | b':' | b'@' | b'%'), Some(next)) => !is_word(next),
            _ => true,
        }
    }

    pub(super) fn speaks_of(&self, topic: Topic) -> bool {
        self.number.around.get_or_init(|| self.place().around(self.range().start)).speaks_of(topic)
    }
}

/// ISO/IEC 7812: a known issuer, a length that it gives, and the Luhn formula. Without groups nothing may say that it is
/// another number.
fn is_card(window: Window<'_>) -> bool {
    let digits = window.digits();
    if !(12..=19).contains(&digits.len()) || !window.begins_cleanly() || !luhn(digits) {
        return false;
    }
    let Some(issuer) = issuer(digits) else { return false };
    let is_grouped = [[4, 4, 4, 4].as_slice(), &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3]]
        .iter()
        .any(|sizes| window.is_grouped(sizes))
        && window.is_evenly_separated(&[b" ", b"-"]);
    if is_grouped || window.is_one_group() && window.speaks_of(Topic::Card) {
        return true;
    }
    window.is_one_group() && issuer == Issuer::Usual && !window.speaks_of(Topic::Other)
}

/// How sure an issuer's number makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issuer {
    /// Of the usual length.
    Usual,
    /// Possible, and shared by too many other numbers.
    Possible,
}

fn issuer(digits: &[u8]) -> Option<Issuer> {
    let prefix =
        |count: usize| digits.iter().take(count).fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    match digits.len() {
        16 if prefix(1) == 4 || matches!(two, 51..=55) || matches!(four, 2221..=2720) => Some(Issuer::Usual),
        16 if four == 6011 || matches!(three, 644..=659) || matches!(four, 3528..=3589) || two == 62 => {
            Some(Issuer::Usual)
        }
        15 if matches!(two, 34 | 37) => Some(Issuer::Usual),
        14 if matches!(three, 300..=305) || matches!(two, 36 | 38 | 39) => Some(Issuer::Possible),
        13 | 19 if prefix(1) == 4 => Some(Issuer::Possible),
        12..=19 if matches!(two, 50 | 56..=69) => Some(Issuer::Possible),
        _ => None,
    }
}

/// ITU-T E.164 with a plus, or a form that is usual somewhere; any number behind a word for telephones.
fn phone(window: Window<'_>) -> Option<Range<usize>> {
    let place = window.place();
    let digits = window.digits();
    let Range { start, end } = window.range();
    let plus = match (place.before(start), place.before(start.saturating_sub(1))) {
        (Some(b'+'), before) if !before.is_some_and(is_word) => Some(start - 1),
        _ => None,
    };
    if let Some(plus) = plus {
        let is_number = (8..=15).contains(&digits.len()) && has_country_code(digits);
        return is_number.then_some(plus..end);
    }
    // `(212) 555-0142`
    let opened = place.before(start) == Some(b'(')
        && window.separators().next().is_some_and(|first| first.starts_with(b")"));
    let start = if opened { start - 1 } else { start };
    if !window.begins_cleanly() || window.speaks_of(Topic::Other) {
        return None;
    }
    let is_number = is_north_american(window, opened)
        || is_with_trunk_prefix(window)
        || (7..=15).contains(&digits.len()) && window.speaks_of(Topic::Phone);
    is_number.then_some(start..end)
}

/// Area and exchange begin with 2 to 9, and are three digits each.
fn is_north_american(window: Window<'_>, opened: bool) -> bool {
    let digits = match window.digits() {
        [1, rest @ ..] if rest.len() == 10 => rest,
        digits => digits,
    };
    let &[area, _, _, exchange, e1, e2, ..] = digits else { return false };
    let is_assigned = digits.len() == 10 && area >= 2 && exchange >= 2 && !(e1 == 1 && e2 == 1);
    let is_written_so = if opened {
        window.is_grouped(&[3, 3, 4])
    } else {
        (window.is_grouped(&[3, 3, 4]) || window.is_grouped(&[1, 3, 3, 4]))
            && window.is_evenly_separated(&[b"-", b"."])
    };
    is_assigned && is_written_so
}

/// European and other national numbers begin with a single 0: in pairs, or an area and one or more groups.
fn is_with_trunk_prefix(window: Window<'_>) -> bool {
    let &[0, second, ..] = window.digits() else { return false };
    if second == 0 || !(9..=12).contains(&window.digits().len()) {
        return false;
    }
    if window.is_grouped(&[2, 2, 2, 2, 2]) {
        return window.is_evenly_separated(&[b" ", b"."]);
    }
    let mut sizes = window.groups().iter().map(ExactSizeIterator::len);
    let is_area = sizes.next().is_some_and(|size| (3..=5).contains(&size));
    let sizes: Vec<usize> = sizes.collect();
    match (&sizes[..], window.separators().next()) {
        ([rest], Some(b"/" | b"-" | b" ")) => is_area && *rest >= 5,
        ([_, _, ..], Some(b" ")) => {
            is_area && window.is_evenly_separated(&[b" "]) && sizes.iter().all(|size| *size >= 2)
        }
        _ => false,
    }
}

/// Whether an international number begins with a country that there is (ITU-T E.164, list of country codes).
fn has_country_code(digits: &[u8]) -> bool {
    // By their first two digits: behind 28, 83, 87 and 89 there is no country.
    let &[first, second, ..] = digits else { return false };
    match first {
        1 | 3..=7 | 9 => true,
        2 => second != 8,
        8 => !matches!(second, 3 | 7 | 9),
        _ => false,
    }
}

/// The lengths of IBANs by country (SWIFT, IBAN registry).
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// ISO 13616: country, two check digits, account; in one piece or in groups.
fn iban(place: &Place<'_>, start: usize) -> Option<Range<usize>> {
    let &[a, b, c, d] = place.slice(start..start + 4).first_chunk()?;
    let &(_, length) = IBAN_LENGTHS.iter().find(|(country, _)| **country == [a, b])?;
    if !(c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let mut signs = Vec::with_capacity(length);
    let mut at = start;
    while signs.len() < length {
        match (place.byte(at)?, place.byte(at + 1)) {
            (sign, _) if sign.is_ascii_uppercase() || sign.is_ascii_digit() => signs.push(sign),
            (b' ' | b'-', Some(next)) if next.is_ascii_alphanumeric() => {}
            _ => return None,
        }
        at += 1;
    }
    let is_whole = !place.byte(at).is_some_and(is_word);
    let rotated = signs.iter().skip(4).chain(signs.iter().take(4)).copied();
    (is_whole && mod_97(rotated) == Some(1)).then_some(start..at)
}
