//! A message's content, taken off the bytes that carry it (RFC 9112 §6 and §7).

use bytes::{Bytes, BytesMut};

use super::{
    error::Malformed,
    fields::Fields,
    framing::Framing,
    head::{HeadEnd, Limits},
    syntax::{hex_value, is_text_byte},
};

/// The longest line that says a chunk's size: extensions included, which nobody uses.
const MAX_CHUNK_LINE_BYTES: usize = 1024;
/// 2^60 bytes are enough, and no sum of such sizes overflows.
const MAX_SIZE_DIGITS: usize = 15;

/// Fields that may not wait until the content is over (RFC 9110 §6.5.1): a reader that takes trailers for fields of the
/// head would read another message.
const NO_TRAILERS: &[&str] = &[
    "content-length",
    "transfer-encoding",
    "host",
    "trailer",
    "te",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "content-type",
    "content-encoding",
    "content-range",
    "cache-control",
    "expect",
    "max-forwards",
    "range",
    "location",
    "vary",
    "www-authenticate",
];

/// Reads one message's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    state: State,
    limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers(HeadEnd),
    Done,
}

/// What the next bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// More bytes are needed to tell.
    Incomplete,
    /// A chunk of so many bytes begins.
    Chunk(u64),
    /// Content.
    Data(&'a [u8]),
    /// The content is over; trailers are there only with chunks.
    End(Fields),
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress<'a> {
    /// How many bytes it took: they are not to be given again.
    pub taken: usize,
    /// What they were.
    pub part: Part<'a>,
}

impl Body {
    /// A reader at the first byte of content.
    pub const fn new(framing: Framing, limits: Limits) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkLine,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, limits }
    }

    /// Takes what it can tell off the front of `bytes`.
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<Progress<'a>, Malformed> {
        let mut skipped = 0;
        loop {
            let rest = bytes.get(skipped..).unwrap_or_default();
            let progress = match &mut self.state {
                State::Done => Some(Progress { taken: 0, part: Part::End(Fields::default()) }),
                State::UntilClose => data(rest, u64::MAX),
                State::Length(left) => {
                    let progress = data(rest, *left);
                    if let Some(Progress { taken, .. }) = &progress {
                        *left -= *taken as u64;
                        if *left == 0 {
                            self.state = State::Done;
                        }
                    }
                    progress
                }
                State::ChunkLine => match chunk_line(rest)? {
                    None => None,
                    Some((0, taken)) => {
                        skipped += taken;
                        self.state = State::Trailers(HeadEnd::default());
                        continue;
                    }
                    Some((size, taken)) => {
                        self.state = State::ChunkData(size);
                        Some(Progress { taken, part: Part::Chunk(size) })
                    }
                },
                State::ChunkData(left) => {
                    let progress = data(rest, *left);
                    if let Some(Progress { taken, .. }) = &progress {
                        *left -= *taken as u64;
                        if *left == 0 {
                            self.state = State::ChunkEnd;
                        }
                    }
                    progress
                }
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        skipped += 2;
                        self.state = State::ChunkLine;
                        continue;
                    }
                    [] | [b'\r'] => None,
                    _ => return Err(Malformed::Chunk("is longer than it says")),
                },
                State::Trailers(end) => match end.find(rest, "the trailers", self.limits.head_bytes)? {
                    None => None,
                    Some(length) => {
                        let section = Bytes::copy_from_slice(rest.get(..length).unwrap_or_default());
                        let fields = trailers(section, &self.limits)?;
                        self.state = State::Done;
                        Some(Progress { taken: length, part: Part::End(fields) })
                    }
                },
            };
            return Ok(match progress {
                None => Progress { taken: skipped, part: Part::Incomplete },
                Some(Progress { taken, part }) => Progress { taken: skipped + taken, part },
            });
        }
    }

    /// Whether everything has come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The sender has closed: says whether the content is whole.
    pub fn closed(&mut self) -> Result<(), Malformed> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Malformed::Truncated),
        }
    }
}

/// Writes the line that begins a chunk of `size` bytes, which must not be 0. The CRLF behind the one before is part of it.
pub fn put_chunk(out: &mut BytesMut, size: u64, first: bool) {
    let line = if first { format!("{size:x}\r\n") } else { format!("\r\n{size:x}\r\n") };
    out.extend_from_slice(line.as_bytes());
}

/// Writes what ends a chunked message: the last chunk and the trailers.
pub fn put_last_chunk(out: &mut BytesMut, trailers: &Fields, first: bool) {
    out.extend_from_slice(if first { b"0\r\n" } else { b"\r\n0\r\n" });
    trailers.put(out, |_| true, &[]);
}

fn data(bytes: &[u8], left: u64) -> Option<Progress<'_>> {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    let data = bytes.get(..taken).filter(|data| !data.is_empty())?;
    Some(Progress { taken, part: Part::Data(data) })
}

/// A chunk's size and how long its line is; `None` while the line has not come.
fn chunk_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, Malformed> {
    let mut size = 0;
    let mut digits = 0;
    let mut extension = false;
    for (at, byte) in bytes.iter().enumerate() {
        if at == MAX_CHUNK_LINE_BYTES {
            return Err(Malformed::TooLong { what: "a chunk's line", limit: MAX_CHUNK_LINE_BYTES });
        }
        match (byte, hex_value(*byte)) {
            (b'\r', _) if digits > 0 => {
                return match bytes.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((size, at + 2))),
                    Some(_) => Err(Malformed::BareCarriageReturn),
                };
            }
            (b'\n', _) => return Err(Malformed::BareLineFeed),
            (_, Some(value)) if !extension => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Malformed::Chunk("is too large"));
                }
                size = size << 4 | u64::from(value);
                digits += 1;
            }
            (b';', _) if digits > 0 => extension = true,
            (byte, _) if extension && is_text_byte(*byte) => {}
            _ => return Err(Malformed::Chunk("does not begin with its size in hexadecimal")),
        }
    }
    Ok(None)
}

fn trailers(section: Bytes, limits: &Limits) -> Result<Fields, Malformed> {
    let fields = Fields::read(section, 0, limits)?;
    for field in fields.iter() {
        if let Some(name) = NO_TRAILERS.iter().find(|name| field.resembles(name)) {
            return Err(Malformed::Trailer(name));
        }
    }
    Ok(fields)
}
