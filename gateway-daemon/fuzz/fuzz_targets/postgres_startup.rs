//! Any first bytes of a client: no panic, and whatever is a startup packet is sniffed as one.
#![no_main]

use bytes::BytesMut;
use gateway_daemon_fuzz::protocol::postgres::{Sniff, StartupPacket, frontend, sniff, split_startup};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut buf = BytesMut::from(bytes);
    let Ok(Some(packet)) = split_startup(&mut buf) else { return };
    assert_eq!(sniff(bytes), Sniff::Postgres);
    let mut out = BytesMut::new();
    match &packet {
        StartupPacket::Startup { minor, parameters, .. } => {
            let pairs: Vec<_> = parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
            frontend::startup(&mut out, *minor, &pairs).expect("what was read can be written");
        }
        StartupPacket::Cancel { process_id, secret } => {
            frontend::cancel_request(&mut out, *process_id, secret).expect("what was read can be written");
        }
        StartupPacket::SslRequest => frontend::ssl_request(&mut out),
        StartupPacket::GssEncRequest => frontend::gssenc_request(&mut out),
    }
    assert_eq!(&bytes[..bytes.len() - buf.len()], &out[..]);
});
