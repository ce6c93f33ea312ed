//! Any bytes of a client: no panic, frames as long as they say, and what is read is written back as it came.
#![no_main]

use bytes::BytesMut;
use gateway_daemon_fuzz::protocol::postgres::{frontend, peek_header, split_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut buf = BytesMut::from(bytes);
    loop {
        let announced = peek_header(&buf);
        let Ok(Some(frame)) = split_frame(&mut buf, 1 << 16) else { break };
        assert_eq!(announced, Ok(Some((frame.tag, frame.raw().len()))));
        if let Ok(message) = frontend::parse(&frame) {
            let mut out = BytesMut::new();
            message.encode(&mut out).expect("what was read can be written");
            assert_eq!(out, frame.raw());
        }
    }
});
