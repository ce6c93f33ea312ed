//! Any bytes of a server: no panic, and what is read is written back as it came.
#![no_main]

use bytes::BytesMut;
use gateway_daemon_fuzz::protocol::postgres::{
    backend::{self, Authentication, Message},
    split_frame,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut buf = BytesMut::from(bytes);
    while let Ok(Some(frame)) = split_frame(&mut buf, 1 << 16) {
        let Ok(message) = backend::parse(&frame) else { continue };
        match &message {
            // Carries data that is not kept.
            Message::Authentication(Authentication::Other(_)) => continue,
            Message::DataRow(row) => assert_eq!(row.values().count(), row.len()),
            Message::CommandComplete(tag) => {
                backend::rows(tag);
            }
            _ => {}
        }
        let mut out = BytesMut::new();
        message.encode(&mut out).expect("what was read can be written");
        assert_eq!(out, frame.raw());
    }
});
