//! The packets that open a connection. They have no type byte: a 32-bit length, a version or request code.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>, StartupMessage and its siblings.

use bytes::{Buf, Bytes, BytesMut};

use super::super::wire::{Reader, WireError};

/// What PostgreSQL itself takes after the length field.
pub const MAX_STARTUP_BYTES: usize = 10_000;

pub(super) const CANCEL_CODE: u32 = 80_877_102;
pub(super) const SSL_CODE: u32 = 80_877_103;
pub(super) const GSSENC_CODE: u32 = 80_877_104;

/// Cancel keys of protocol 3.0 have 4 bytes, those of 3.2 up to 256.
pub(super) const SECRET_BYTES: std::ops::RangeInclusive<usize> = 4..=256;

/// The major version under which request codes hide.
const REQUEST_MAJOR: u16 = 1234;

/// What a client may send first.
#[derive(Clone, PartialEq, Eq)]
pub enum StartupPacket {
    /// A session, with protocol version 3.x.
    Startup {
        /// Always 3: other versions are an error.
        major: u16,
        /// As the client wrote it; `NegotiateProtocolVersion` answers one that is too new.
        minor: u16,
        /// In the client's order, each name once, without the terminator.
        parameters: Vec<(String, String)>,
    },
    /// Cancel what another connection is running.
    Cancel {
        /// Which connection.
        process_id: u32,
        /// Its key, 4 to 256 bytes.
        secret: Bytes,
    },
    /// Go on under TLS?
    SslRequest,
    /// Go on under GSSAPI encryption?
    GssEncRequest,
}

impl std::fmt::Debug for StartupPacket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Startup { major, minor, parameters } => f
                .debug_struct("Startup")
                .field("version", &format_args!("{major}.{minor}"))
                .field("parameters", &parameters.len())
                .finish_non_exhaustive(),
            Self::Cancel { process_id, .. } => {
                f.debug_struct("Cancel").field("process_id", process_id).finish_non_exhaustive()
            }
            Self::SslRequest => f.write_str("SslRequest"),
            Self::GssEncRequest => f.write_str("GssEncRequest"),
        }
    }
}

/// Takes one startup packet off the front of `buf`; `None` until it is complete.
///
/// What follows it stays in `buf`: after an `SslRequest` the caller must refuse a `buf` that is not empty, since
/// those bytes came before the handshake.
pub fn split_startup(buf: &mut BytesMut) -> Result<Option<StartupPacket>, WireError> {
    const WHAT: &str = "startup packet";
    let Some(header) = buf.first_chunk::<4>() else { return Ok(None) };
    let announced = i32::from_be_bytes(*header);
    let invalid = WireError::InvalidLength { what: WHAT, length: i64::from(announced) };
    let total = usize::try_from(announced).map_err(|_| invalid)?;
    let length = total.checked_sub(4).filter(|length| *length >= 4).ok_or(invalid)?;
    if length > MAX_STARTUP_BYTES {
        return Err(WireError::TooLong { what: WHAT, length, limit: MAX_STARTUP_BYTES });
    }
    if buf.remaining() < total {
        return Ok(None);
    }
    let raw = buf.split_to(total).freeze();
    parse(raw.get(4..).unwrap_or_default()).map(Some)
}

fn parse(body: &[u8]) -> Result<StartupPacket, WireError> {
    let mut reader = Reader::new(body);
    let code = reader.u32("version")?;
    match code {
        SSL_CODE => reader.finish("SSLRequest").map(|()| StartupPacket::SslRequest),
        GSSENC_CODE => reader.finish("GSSENCRequest").map(|()| StartupPacket::GssEncRequest),
        CANCEL_CODE => {
            let process_id = reader.u32("process id")?;
            let secret = secret(reader.rest())?;
            Ok(StartupPacket::Cancel { process_id, secret: Bytes::copy_from_slice(secret) })
        }
        _ => {
            let [major_high, major_low, minor_high, minor_low] = code.to_be_bytes();
            let major = u16::from_be_bytes([major_high, major_low]);
            let minor = u16::from_be_bytes([minor_high, minor_low]);
            match major {
                3 => Ok(StartupPacket::Startup { major, minor, parameters: parameters(reader)? }),
                REQUEST_MAJOR => {
                    Err(WireError::InvalidValue { what: "request code", value: i64::from(code) })
                }
                _ => Err(WireError::UnsupportedVersion { major, minor }),
            }
        }
    }
}

/// Checks the size of a cancel key.
pub(super) fn secret(bytes: &[u8]) -> Result<&[u8], WireError> {
    if SECRET_BYTES.contains(&bytes.len()) {
        return Ok(bytes);
    }
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    Err(WireError::InvalidLength { what: "cancel key", length })
}

fn parameters(mut reader: Reader<'_>) -> Result<Vec<(String, String)>, WireError> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    loop {
        let name = text(reader.cstr("parameter name")?, "parameter name")?;
        if name.is_empty() {
            break;
        }
        if !seen.insert(name) {
            return Err(WireError::Duplicate { what: "startup parameter" });
        }
        let value = text(reader.cstr("parameter value")?, "parameter value")?;
        parameters.push((name.to_owned(), value.to_owned()));
    }
    reader.finish("StartupMessage")?;
    Ok(parameters)
}

fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8 { what })
}
