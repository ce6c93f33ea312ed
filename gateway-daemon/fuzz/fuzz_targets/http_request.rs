//! Any bytes as requests on one connection: no panic, and what is put onward reads as what was read, however it arrived.
#![no_main]

use bytes::{Bytes, BytesMut};
use gateway_daemon_fuzz::protocol::http::{
    Body, Framing, HeadEnd, Limits, Part, Request, put_chunk, put_last_chunk,
};
use libfuzzer_sys::fuzz_target;

/// What is put onward for everything that `bytes` hold, and how much of them that was.
fn onward(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let limits = Limits::default();
    let (mut all, mut at) = (Vec::new(), 0);
    while let Ok(Some(length)) = HeadEnd::default().find(&bytes[at..], "the head", limits.head_bytes) {
        let Ok(request) = Request::read(Bytes::copy_from_slice(&bytes[at..at + length]), &limits) else { break };
        at += length;
        let mut out = BytesMut::new();
        request.put(&mut out, request.query(), |_| true, &[]);
        let again = Request::read(out.clone().freeze(), &limits).expect("what is put is a request");
        assert_eq!((again.method(), again.path(), again.query()), (request.method(), request.path(), request.query()));
        assert_eq!((&again.authority, again.framing), (&request.authority, request.framing));
        let mut body = Body::new(request.framing, limits);
        let mut first = true;
        loop {
            let Ok(progress) = body.read(&bytes[at..]) else { return (all, at) };
            at += progress.taken;
            match progress.part {
                Part::Incomplete => return (all, at),
                Part::Chunk(size) => {
                    put_chunk(&mut out, size, first);
                    first = false;
                }
                Part::Data(data) => out.extend_from_slice(data),
                Part::End(trailers) => {
                    if request.framing == Framing::Chunked {
                        put_last_chunk(&mut out, &trailers, first);
                    }
                    break;
                }
            }
        }
        all.push(out.to_vec());
    }
    (all, at)
}

fuzz_target!(|bytes: &[u8]| {
    let (all, _) = onward(bytes);
    // One reading: a second reader of the same making finds the same requests in what goes on.
    let joined = all.concat();
    let (again, taken) = onward(&joined);
    assert_eq!(again, all);
    assert_eq!(taken, joined.len());
    // Byte by byte it is the same head.
    let limits = Limits::default();
    let whole = HeadEnd::default().find(bytes, "the head", limits.head_bytes);
    let mut end = HeadEnd::default();
    let split = (0..=bytes.len()).find_map(|length| match end.find(&bytes[..length], "the head", limits.head_bytes) {
        Ok(None) => None,
        other => Some(other),
    });
    assert_eq!(split.unwrap_or(Ok(None)), whole);
});
