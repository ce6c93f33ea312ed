use bytes::BytesMut;

use super::super::{Body, Framing, Limits, Malformed, Part, put_chunk, put_last_chunk};

/// Reads a message's content, and gives it framed anew, how many bytes it took, and what it said.
fn read(framing: Framing, bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), Malformed> {
    let mut body = Body::new(framing, Limits::default());
    let (mut out, mut at, mut first) = (BytesMut::new(), 0, true);
    loop {
        let progress = body.read(&bytes[at..])?;
        at += progress.taken;
        match progress.part {
            Part::Incomplete => return Ok((out.to_vec(), at, false)),
            Part::Chunk(size) => {
                put_chunk(&mut out, size, first);
                first = false;
            }
            Part::Data(data) => out.extend_from_slice(data),
            Part::End(trailers) => {
                if framing == Framing::Chunked {
                    put_last_chunk(&mut out, &trailers, first);
                }
                return Ok((out.to_vec(), at, true));
            }
        }
    }
}

const CHUNKED: &[u8] = b"5\r\nhello\r\n0A;a=\"b\";c\r\n0123456789\r\n00\r\nX-Sum: 9\r\n\r\n";

#[test]
fn chunks_are_framed_anew_and_trailers_go_on() {
    let (out, taken, done) = read(Framing::Chunked, &[CHUNKED, b"GET"].concat()).unwrap();
    assert_eq!(out, b"5\r\nhello\r\na\r\n0123456789\r\n0\r\nX-Sum: 9\r\n\r\n");
    assert_eq!((taken, done), (CHUNKED.len(), true));
    assert_eq!(read(Framing::Chunked, b"0\r\n\r\n").unwrap().0, b"0\r\n\r\n");
}

#[test]
fn content_ends_with_its_length_and_the_next_message_is_left() {
    assert_eq!(read(Framing::Length(3), b"abcGET").unwrap(), (b"abc".to_vec(), 3, true));
    assert_eq!(read(Framing::Length(3), b"ab").unwrap(), (b"ab".to_vec(), 2, false));
    assert_eq!(read(Framing::None, b"GET").unwrap(), (vec![], 0, true));
}

#[test]
fn it_does_not_matter_how_the_bytes_arrive() {
    let whole = read(Framing::Chunked, CHUNKED).unwrap().0;
    for split in 0..CHUNKED.len() {
        let mut body = Body::new(Framing::Chunked, Limits::default());
        let (mut out, mut first, mut pending) = (BytesMut::new(), true, Vec::new());
        let mut ended = false;
        for piece in [&CHUNKED[..split], &CHUNKED[split..]] {
            pending.extend_from_slice(piece);
            loop {
                let progress = body.read(&pending).unwrap();
                let taken = progress.taken;
                match progress.part {
                    Part::Incomplete => {
                        pending.drain(..taken);
                        break;
                    }
                    Part::Chunk(size) => {
                        put_chunk(&mut out, size, first);
                        first = false;
                    }
                    Part::Data(data) => out.extend_from_slice(data),
                    Part::End(trailers) => {
                        put_last_chunk(&mut out, &trailers, first);
                        ended = true;
                    }
                }
                pending.drain(..taken);
                if ended {
                    break;
                }
            }
        }
        assert!(ended && body.is_done(), "split at {split}");
        assert_eq!(out, whole, "split at {split}");
    }
}

#[test]
fn a_chunk_with_two_readings_is_refused() {
    for bytes in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        ";a\r\n",
        "fffffffffffffffff\r\n",
        "10000000000000005\r\n",
        "0\r\nA: 1\n\r\n",
        "0\r\n A: 1\r\n\r\n",
        "0\r\nA : 1\r\n\r\n",
        "0\r\nContent-Length: 3\r\n\r\n",
        "0\r\ntransfer_encoding: chunked\r\n\r\n",
        "0\r\nHost: b\r\n\r\n",
        "0\r\nAuthorization: b\r\n\r\n",
    ] {
        assert!(read(Framing::Chunked, bytes.as_bytes()).is_err(), "{bytes:?}");
    }
    let long = format!("5;{}", "a".repeat(2000));
    assert!(matches!(read(Framing::Chunked, long.as_bytes()), Err(Malformed::TooLong { .. })));
}

#[test]
fn a_close_ends_only_what_ends_with_the_connection() {
    let closed = |framing| Body::new(framing, Limits::default()).closed();
    assert_eq!(closed(Framing::UntilClose), Ok(()));
    assert_eq!(closed(Framing::None), Ok(()));
    assert_eq!(closed(Framing::Length(1)), Err(Malformed::Truncated));
    assert_eq!(closed(Framing::Chunked), Err(Malformed::Truncated));
}
