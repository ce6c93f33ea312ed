//! The check digits that registries use.

/// ISO/IEC 7812-1: the Luhn formula, over all digits with the check digit last.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(*digit);
            match (at % 2, digit * 2) {
                (0, _) => digit,
                (_, doubled) if doubled > 9 => doubled - 9,
                (_, doubled) => doubled,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Digits with weights, summed up.
pub(super) fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// ISO 7064 MOD 97-10 over letters and digits as they stand, letters worth 10 to 35: the remainder.
pub(super) fn mod_97(mut signs: impl Iterator<Item = u8>) -> Option<u32> {
    signs.try_fold(0, |remainder, sign| {
        Some(match sign {
            b'0'..=b'9' => (remainder * 10 + u32::from(sign - b'0')) % 97,
            b'A'..=b'Z' => (remainder * 100 + u32::from(sign - b'A') + 10) % 97,
            _ => return None,
        })
    })
}

/// The number that the digits write.
pub(super) fn value(digits: &[u8]) -> u64 {
    digits.iter().fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

/// ISO 7064 MOD 11,10 with the check digit last.
pub(super) fn mod_11_10(digits: &[u8]) -> bool {
    let Some((check, digits)) = digits.split_last() else { return false };
    let product = digits.iter().fold(10, |product, digit| {
        let sum = (product + u32::from(*digit)) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(*check)
}

/// Verhoeff's scheme over the dihedral group of order ten, with the check digit last.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTATION: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let mut state = 0_u8;
    for (at, digit) in digits.iter().rev().enumerate() {
        let mut permuted = *digit;
        for _ in 0..at % 8 {
            permuted = PERMUTATION.get(usize::from(permuted)).copied().unwrap_or_default();
        }
        state = compose(state, permuted);
    }
    state == 0
}

/// The group's operation: 0 to 4 are turns, 5 to 9 are flips.
const fn compose(a: u8, b: u8) -> u8 {
    match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a - 5 + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    }
}
