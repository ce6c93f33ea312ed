//! Numbers that states give to people. Those with a form of their own count by form and checksum; bare digits count only
//! behind a word that names them, since one in ten or eleven numbers passes a checksum by chance. Rules: the issuing
//! authorities', as the OECD collects them for tax numbers and Wikipedia's "National identification number" lists them.

use std::ops::Range;

use super::{
    Place,
    checksums::{luhn, mod_11_10, value, verhoeff, weighted},
    context::Topic,
    is_word,
    numbers::Window,
};

/// Whether these digits are such a number.
pub(super) fn is_id(window: Window<'_>) -> bool {
    if !window.begins_cleanly() {
        return false;
    }
    let digits = window.digits();
    match digits.len() {
        9 => is_ssn(window) || is_bsn(window) || is_sin(window),
        10 => is_nhs(window) || is_personnummer(window),
        11 => is_cpf(window) || is_pesel(window) || is_german_tax(window) || is_belgian(window),
        12 => is_aadhaar(window) || is_personnummer(window),
        13 => is_ahv(window),
        15 => is_nir(window),
        18 => window.is_one_group() && is_chinese(digits, None),
        _ => false,
    }
}

/// United States: no area 000, 666 or 900 to 999, no group 00, no serial 0000.
fn is_ssn(window: Window<'_>) -> bool {
    let digits = window.digits();
    let part = |range: Range<usize>| value(digits.get(range).unwrap_or_default());
    let (area, group, serial) = (part(0..3), part(3..5), part(5..9));
    let is_assigned = area != 0 && area != 666 && area < 900 && group != 0 && serial != 0;
    let is_written_so = window.is_grouped(&[3, 2, 4]) && window.is_evenly_separated(&[b"-"]);
    let is_named =
        || (window.is_one_group() || window.is_grouped(&[3, 2, 4])) && window.speaks_of(Topic::Ssn);
    is_assigned && (is_written_so || is_named())
}

/// Netherlands: the elfproef.
fn is_bsn(window: Window<'_>) -> bool {
    let Some((check, digits)) = window.digits().split_last() else { return false };
    let sum = weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2]);
    sum != 0 && sum % 11 == u32::from(*check) && window.speaks_of(Topic::Bsn)
}

/// Canada.
fn is_sin(window: Window<'_>) -> bool {
    (window.is_one_group() || window.is_grouped(&[3, 3, 3]))
        && luhn(window.digits())
        && window.speaks_of(Topic::Sin)
}

/// United Kingdom, National Health Service: weights 10 to 2, modulo 11.
fn is_nhs(window: Window<'_>) -> bool {
    let Some((check, digits)) = window.digits().split_last() else { return false };
    let expected = (11 - weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11;
    (window.is_one_group() || window.is_grouped(&[3, 3, 4]))
        && expected == u32::from(*check)
        && window.speaks_of(Topic::Nhs)
}

/// Sweden: a date, three digits and the Luhn formula, with or without the century.
fn is_personnummer(window: Window<'_>) -> bool {
    let digits = window.digits();
    let short = digits.get(digits.len().saturating_sub(10)..).unwrap_or_default();
    let part = |range: Range<usize>| value(short.get(range).unwrap_or_default());
    // Coordination numbers add 60 to the day.
    let is_date = is_month_and_day(part(2..4), part(4..6))
        || part(4..6) > 60 && is_month_and_day(part(2..4), part(4..6) - 60);
    let has_century = digits.len() == 10 || matches!(value(digits.get(..2).unwrap_or_default()), 18..=20);
    let is_written_so =
        (window.is_grouped(&[6, 4]) || window.is_grouped(&[8, 4])) && window.is_evenly_separated(&[b"-"]);
    let is_named = || window.is_one_group() && window.speaks_of(Topic::Personnummer);
    is_date && has_century && luhn(short) && (is_written_so || is_named())
}

/// Brazil: two check digits modulo 11; not all digits alike.
fn is_cpf(window: Window<'_>) -> bool {
    let digits = window.digits();
    let check = |count: usize| {
        let weights: Vec<u32> = (2..=11).rev().skip(10 - count).collect();
        let rest = weighted(digits.get(..count).unwrap_or_default(), &weights) * 10 % 11;
        if rest == 10 { 0 } else { rest }
    };
    let is_valid = digits.get(9).map(|digit| u32::from(*digit)) == Some(check(9))
        && digits.get(10).map(|digit| u32::from(*digit)) == Some(check(10))
        && digits.iter().any(|digit| Some(digit) != digits.first());
    let is_written_so = window.is_grouped(&[3, 3, 3, 2]) && window.is_separated_by(&[b".", b".", b"-"]);
    is_valid && (is_written_so || window.is_one_group() && window.speaks_of(Topic::Cpf))
}

/// Poland: a date with the century in its month, and weights modulo 10.
fn is_pesel(window: Window<'_>) -> bool {
    let digits = window.digits();
    let part = |range: Range<usize>| value(digits.get(range).unwrap_or_default());
    let is_date = is_month_and_day(part(2..4) % 20, part(4..6));
    let sum = weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    window.is_one_group() && is_date && sum.is_multiple_of(10) && window.speaks_of(Topic::Pesel)
}

/// Germany, tax identification number: one digit of the first ten comes two or three times, all others once at most; ISO
/// 7064 MOD 11,10.
fn is_german_tax(window: Window<'_>) -> bool {
    let digits = window.digits();
    let times = |wanted: u8| digits.iter().take(10).filter(|digit| **digit == wanted).count();
    let repeated: Vec<usize> = (0..10).map(times).filter(|times| *times > 1).collect();
    (window.is_one_group() || window.is_grouped(&[2, 3, 3, 3]))
        && digits.first() != Some(&0)
        && matches!(repeated[..], [2 | 3])
        && mod_11_10(digits)
        && window.speaks_of(Topic::GermanTax)
}

/// Belgium: a date, a number, and 97 less the remainder, for those born after 1999 with a 2 in front.
fn is_belgian(window: Window<'_>) -> bool {
    let digits = window.digits();
    let (Some(number), Some(check)) = (digits.get(..9).map(value), digits.get(9..).map(value)) else {
        return false;
    };
    window.is_grouped(&[2, 2, 2, 3, 2])
        && window.is_separated_by(&[b".", b".", b"-", b"."])
        && (97 - number % 97 == check || 97 - (2_000_000_000 + number) % 97 == check)
}

/// India: Verhoeff's scheme; the first digit is 2 to 9.
fn is_aadhaar(window: Window<'_>) -> bool {
    let digits = window.digits();
    let is_written_so = window.is_grouped(&[4, 4, 4])
        && window.is_evenly_separated(&[b" "])
        && !window.speaks_of(Topic::Other);
    digits.first().is_some_and(|first| *first >= 2)
        && verhoeff(digits)
        && (is_written_so || window.is_one_group() && window.speaks_of(Topic::Aadhaar))
}

/// Switzerland: an EAN-13 of country 756.
fn is_ahv(window: Window<'_>) -> bool {
    let digits = window.digits();
    let sum = weighted(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    digits.starts_with(&[7, 5, 6])
        && sum.is_multiple_of(10)
        && (window.is_grouped(&[3, 4, 4, 2]) && window.is_evenly_separated(&[b"."]))
}

/// France: sex, year, month, département, commune, order, and 97 less the remainder.
fn is_nir(window: Window<'_>) -> bool {
    let digits = window.digits();
    let (Some(number), Some(key)) = (digits.get(..13).map(value), digits.get(13..).map(value)) else {
        return false;
    };
    let month = digits.get(3..5).map_or(0, value);
    let is_written_so =
        window.is_one_group() || window.is_grouped(&[1, 2, 2, 2, 3, 3, 2]) || window.is_grouped(&[13, 2]);
    matches!(digits.first(), Some(1 | 2 | 7 | 8))
        && matches!(month, 1..=12 | 20 | 30..=42 | 50..=99)
        && is_written_so
        && 97 - number % 97 == key
}

/// China: region, date, order, and ISO 7064 MOD 11-2 with X for ten.
fn is_chinese(digits: &[u8], last: Option<u8>) -> bool {
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let part = |range: Range<usize>| value(digits.get(range).unwrap_or_default());
    let check = (12 - weighted(digits, &weights) % 11) % 11;
    let is_date = matches!(part(6..10), 1900..=2099) && is_month_and_day(part(10..12), part(12..14));
    let is_checked = match last {
        Some(_) => check == 10,
        None => digits.get(17).is_some_and(|digit| u32::from(*digit) == check),
    };
    digits.first().is_some_and(|region| *region >= 1) && is_date && is_checked
}

const fn is_month_and_day(month: u64, day: u64) -> bool {
    matches!(month, 1..=12) && matches!(day, 1..=31)
}

const DNI_LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";

/// Numbers that end in a letter behind a sign or a blank: Spain's `12345678-Z`, Britain's `AB 12 34 56 C`.
pub(super) fn lettered_end(window: Window<'_>) -> Option<Range<usize>> {
    let place = window.place();
    let Range { start, end } = window.range();
    let letter = place
        .byte(end + 1)
        .filter(|letter| letter.is_ascii_uppercase() && !place.byte(end + 2).is_some_and(is_word))?;
    if window.is_grouped(&[8]) && place.byte(end) == Some(b'-') && window.begins_cleanly() {
        return is_dni(value(window.digits()), letter).then_some(start..end + 2);
    }
    let prefix = place.slice(start.checked_sub(3)?..start);
    let is_insurance = window.is_grouped(&[2, 2, 2])
        && window.is_evenly_separated(&[b" "])
        && place.byte(end) == Some(b' ')
        && matches!(*prefix, [a, b, b' '] if is_nino(a, b, letter))
        && !place.before(start - 3).is_some_and(is_word);
    is_insurance.then_some(start - 3..end + 2)
}

/// Words of letters and digits.
pub(super) fn is_lettered_id(place: &Place<'_>, range: Range<usize>) -> bool {
    let before = place.before(range.start);
    let after = (place.byte(range.end), place.byte(range.end + 1));
    let is_part = before.is_some_and(|byte| is_word(byte) || b"-/.@#".contains(&byte))
        || matches!(after, (Some(b'-' | b'/' | b'@' | b'.'), Some(next)) if is_word(next));
    if is_part {
        return false;
    }
    let start = range.start;
    let word = place.slice(range);
    let number = |digits: &[u8]| {
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    };
    match *word {
        // Spain: DNI, and NIE with its first letter for a digit. A date with a letter behind it is none.
        [ref digits @ .., letter @ b'A'..=b'Z'] if digits.len() == 8 && number(digits).is_some() => {
            number(digits).is_some_and(|number| {
                is_dni(number, letter)
                    && (!matches!(number / 10_000, 1_900..=2_099) || place.speaks_of(Topic::Dni, start))
            })
        }
        [first @ b'X'..=b'Z', ref digits @ .., letter @ b'A'..=b'Z'] if digits.len() == 7 => {
            number(digits).is_some_and(|number| is_dni(u64::from(first - b'X') * 10_000_000 + number, letter))
        }
        // Britain: national insurance.
        [a, b, ref digits @ .., letter] if digits.len() == 6 && number(digits).is_some() => {
            is_nino(a, b, letter)
        }
        // China, with X for ten.
        [ref digits @ .., b'X'] if digits.len() == 17 && number(digits).is_some() => {
            let digits: Vec<u8> = digits.iter().map(|digit| digit - b'0').collect();
            is_chinese(&digits, Some(b'X'))
        }
        _ => word.len() == 16 && is_codice_fiscale(word),
    }
}

fn is_dni(number: u64, letter: u8) -> bool {
    usize::try_from(number % 23).ok().and_then(|at| DNI_LETTERS.get(at)) == Some(&letter)
}

/// Prefixes that are never given out, and the letter at the end.
fn is_nino(a: u8, b: u8, letter: u8) -> bool {
    a.is_ascii_uppercase()
        && b.is_ascii_uppercase()
        && !b"DFIQUV".contains(&a)
        && !b"DFIQUVO".contains(&b)
        && ![*b"BG", *b"GB", *b"NK", *b"KN", *b"TN", *b"NT", *b"ZZ"].contains(&[a, b])
        && matches!(letter, b'A'..=b'D')
}

/// Italy: name, date, place, and a letter for the sum of values that differ by position.
fn is_codice_fiscale(word: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let is_letter = |at: usize| matches!(at, 0..=5 | 8 | 11 | 15);
    let is_form = word.iter().enumerate().all(|(at, sign)| {
        if is_letter(at) {
            sign.is_ascii_uppercase()
        } else {
            sign.is_ascii_digit() || b"LMNPQRSTUV".contains(sign)
        }
    });
    let Some((last, signs)) = word.split_last() else { return false };
    let sum: u32 = signs
        .iter()
        .enumerate()
        .map(|(at, sign)| {
            let value = if sign.is_ascii_digit() { sign - b'0' } else { sign.wrapping_sub(b'A') };
            if at % 2 == 0 { ODD.get(usize::from(value)).copied().unwrap_or_default() } else { value.into() }
        })
        .sum();
    is_form && u32::from(last.wrapping_sub(b'A')) == sum % 26
}
