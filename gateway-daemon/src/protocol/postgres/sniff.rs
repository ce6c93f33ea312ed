//! Recognises PostgreSQL by the first eight bytes that a client sends.

use super::{
    super::wire::Reader,
    startup::{CANCEL_CODE, GSSENC_CODE, MAX_STARTUP_BYTES, SECRET_BYTES, SSL_CODE},
};

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// A PostgreSQL client.
    Postgres,
    /// So far it may be one.
    Incomplete,
    /// Something else.
    Unknown,
}

/// Judges by the length and the version or request code of the first packet. Answers `Unknown` as early as the
/// first byte that does not fit, so that another protocol's client is not kept waiting.
pub fn sniff(first_bytes: &[u8]) -> Sniff {
    let mut reader = Reader::new(first_bytes);
    let (Ok(length), Ok(code)) = (reader.u32("length"), reader.u32("code")) else {
        return early(first_bytes);
    };
    let Some(body) = usize::try_from(length).ok().and_then(|length| length.checked_sub(4)) else {
        return Sniff::Unknown;
    };
    let fits = match code {
        SSL_CODE | GSSENC_CODE => body == 4,
        CANCEL_CODE => body.checked_sub(8).is_some_and(|secret| SECRET_BYTES.contains(&secret)),
        // Version 3.x, and at least the terminator of the parameter list.
        _ => code >> 16 == 3 && (5..=MAX_STARTUP_BYTES).contains(&body),
    };
    if fits { Sniff::Postgres } else { Sniff::Unknown }
}

/// Fewer than eight bytes: whether some continuation would fit.
fn early(bytes: &[u8]) -> Sniff {
    // 10,004 is 0x2714, so the two high bytes of the length are zero.
    let high = bytes.iter().take(2).all(|byte| *byte == 0);
    let third = bytes.get(2).is_none_or(|byte| *byte <= 0x27);
    // The code starts with 0x0003 (version 3) or 0x04d2 (1234, the request codes).
    let version = matches!(bytes.get(4), None | Some(0x00 | 0x04));
    if high && third && version { Sniff::Incomplete } else { Sniff::Unknown }
}
