//! How long a message's content is (RFC 9112 §6.3), where all readers agree.

use super::{error::Malformed, fields::Fields, request::Version};

/// More digits than any length that is meant has; no product of such numbers overflows.
const MAX_LENGTH_DIGITS: usize = 18;

/// Where the content ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk and its trailers.
    Chunked,
    /// With the connection: responses only.
    UntilClose,
}

impl Framing {
    /// Of a request.
    pub(super) fn of_request(fields: &Fields, version: Version) -> Result<Self, Malformed> {
        Ok(match announced(fields, version)? {
            Announced::Nothing => Self::None,
            Announced::Length(length) => Self::Length(length),
            Announced::Chunked => Self::Chunked,
        })
    }

    /// Of the response to a request: HEAD has no content, whatever is announced.
    pub(super) fn of_response(
        fields: &Fields,
        version: Version,
        status: u16,
        to_head: bool,
    ) -> Result<Self, Malformed> {
        let announced = announced(fields, version)?;
        if matches!(status, 100..=199 | 204) {
            return match announced {
                Announced::Nothing => Ok(Self::None),
                // Many servers say so; it means the same.
                Announced::Length(0) if status == 204 => Ok(Self::None),
                Announced::Length(_) => Err(Malformed::ContentLength("is where no content may be")),
                Announced::Chunked => Err(Malformed::TransferEncoding("is where no content may be")),
            };
        }
        // There it tells what a GET would bring.
        if to_head || status == 304 {
            return Ok(Self::None);
        }
        Ok(match announced {
            Announced::Nothing => Self::UntilClose,
            Announced::Length(length) => Self::Length(length),
            Announced::Chunked => Self::Chunked,
        })
    }
}

enum Announced {
    Nothing,
    Length(u64),
    Chunked,
}

fn announced(fields: &Fields, version: Version) -> Result<Announced, Malformed> {
    let mut lengths = fields.all("content-length");
    let mut codings = fields.all("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Announced::Nothing),
        (Some(_), Some(_)) => Err(Malformed::TwoLengths),
        (Some(length), None) => {
            if lengths.next().is_some() {
                return Err(Malformed::ContentLength("stands twice"));
            }
            length_of(length).map(Announced::Length)
        }
        (None, Some(coding)) => {
            if codings.next().is_some() {
                return Err(Malformed::TransferEncoding("stands twice"));
            }
            if version == Version::Http10 {
                return Err(Malformed::TransferEncoding("is not known to HTTP/1.0"));
            }
            if !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding("is something else than chunked alone"));
            }
            Ok(Announced::Chunked)
        }
    }
}

fn length_of(value: &[u8]) -> Result<u64, Malformed> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    // Some readers take a leading zero for octal.
    if !digits || (value.len() > 1 && value.first() == Some(&b'0')) {
        return Err(Malformed::ContentLength("is not a plain number"));
    }
    if value.len() > MAX_LENGTH_DIGITS {
        return Err(Malformed::ContentLength("is too large"));
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
