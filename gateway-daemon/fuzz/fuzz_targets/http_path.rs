//! Any path: no panic, the reading that came is the first, and what is read needs no further reading.
#![no_main]

use gateway_daemon_fuzz::protocol::http::{parameters, readings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    parameters(text);
    // No head with these is read, so they never come here.
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return;
    }
    let path = format!("/{text}");
    let Ok(found) = readings(&path) else { return };
    assert!(found[0].eq_ignore_ascii_case(&path));
    for reading in &found {
        assert!(reading.starts_with('/'), "{reading}");
        assert!(!reading.contains('\0'), "{reading}");
        // One with a `%` may be the outcome of as many decodings as are followed.
        if !reading.contains('%') {
            for again in readings(reading).expect("a reading of a reading") {
                assert!(found.contains(&again), "{reading} reads as {again}");
            }
        }
    }
});
