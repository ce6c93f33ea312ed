//! Sizes as configuration and policies write them.

/// Reads `0`, `512`, `64KiB`, `16MiB`, `2GiB`: a whole number of bytes, or of a unit. `None` for anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    number.checked_mul(match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_have_a_number_and_perhaps_a_unit() {
        assert_eq!(parse_size("0"), Some(0));
        assert_eq!(parse_size("512"), Some(512));
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("2GiB"), Some(2_147_483_648));
        for text in ["", "KiB", "-1", "1.5MiB", "64 KiB", "64kb", "99999999999999999999", "99999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
