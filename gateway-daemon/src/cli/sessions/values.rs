//! Values for people. Drivers ask for PostgreSQL's binary format; of its plainest types that can be read here.

use crate::recording::{Cell, Format};

/// `bool`, `int8`, `int2`, `int4`, `oid`, `float4`, `float8`, `uuid`: oids of `pg_type`, which never change.
mod oid {
    pub const BOOL: u32 = 16;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const OID: u32 = 26;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UUID: u32 = 2950;
    /// `"char"`, `name`, `text`, `json`, `xml`, `unknown`, `bpchar`, `varchar`: the binary format is the text.
    pub const TEXTS: [u32; 8] = [18, 19, 25, 114, 142, 705, 1042, 1043];
}

/// A value as it is shown, not yet escaped for a terminal.
pub fn value(cell: &Cell, format: Format, type_oid: u32) -> String {
    match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Text(text) => text.clone(),
        Cell::Hex { hex } => match (format, bytes(hex)) {
            (Format::Binary, Some(bytes)) => binary(&bytes, type_oid).unwrap_or_else(|| format!("\\x{hex}")),
            _ => format!("\\x{hex}"),
        },
        Cell::Cut { beginning, bytes } => format!("{beginning}… ({bytes} bytes)"),
        Cell::Withheld { withheld_bytes } => format!("[{withheld_bytes} bytes withheld]"),
    }
}

fn binary(bytes: &[u8], type_oid: u32) -> Option<String> {
    match type_oid {
        oid::BOOL => match bytes {
            [0] => Some("f".to_owned()),
            [1] => Some("t".to_owned()),
            _ => None,
        },
        oid::INT2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::INT4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::INT8 => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::OID => Some(u32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::FLOAT4 => Some(f32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::FLOAT8 => Some(f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        oid::UUID => {
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            let digits = format!("{:032x}", u128::from_be_bytes(bytes));
            let part = |from, to| digits.get(from..to).unwrap_or_default();
            Some([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
        }
        _ if oid::TEXTS.contains(&type_oid) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::value;
    use crate::recording::{Cell, Format};

    fn shown(hex: &str, type_oid: u32) -> String {
        value(&Cell::Hex { hex: hex.to_owned() }, Format::Binary, type_oid)
    }

    #[test]
    fn plain_types_are_read_in_binary() {
        for (hex, type_oid, text) in [
            ("01", 16, "t"),
            ("fffe", 21, "-2"),
            ("00000007", 23, "7"),
            ("0000000000000100", 20, "256"),
            ("3ff8000000000000", 701, "1.5"),
            ("616263", 25, "abc"),
            ("00112233445566778899aabbccddeeff", 2950, "00112233-4455-6677-8899-aabbccddeeff"),
            ("0007", 23, "\\x0007"),
            ("0007", 1700, "\\x0007"),
        ] {
            assert_eq!(shown(hex, type_oid), text);
        }
    }
}
