//! Any bytes as the answer to a request: no panic, and what is put onward reads as what was read.
#![no_main]

use bytes::{Bytes, BytesMut};
use gateway_daemon_fuzz::protocol::http::{Body, HeadEnd, Limits, Part, Response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let Ok(Some(length)) = HeadEnd::default().find(bytes, "the head", limits.head_bytes) else { return };
    for to_head in [false, true] {
        let head = Bytes::copy_from_slice(&bytes[..length]);
        let Ok(response) = Response::read(head, to_head, &limits) else { continue };
        let mut out = BytesMut::new();
        response.put(&mut out, |_| true, &[]);
        // A head of HTTP/1.0 becomes one of HTTP/1.1.
        let again = Response::read(out.freeze(), to_head, &limits).expect("what is put is a response");
        assert_eq!((again.status, again.framing), (response.status, response.framing));
        let mut body = Body::new(response.framing, limits);
        let mut at = length;
        while let Ok(progress) = body.read(&bytes[at..]) {
            at += progress.taken;
            if matches!(progress.part, Part::Incomplete | Part::End(_)) {
                break;
            }
        }
    }
});
