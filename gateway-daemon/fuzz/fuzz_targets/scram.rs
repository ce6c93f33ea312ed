//! Any server: no panic, and nobody is let in after a SASL exchange without proving that they know the password.
#![no_main]

use bytes::BytesMut;
use gateway_daemon_fuzz::protocol::postgres::{
    auth::{Binding, Channel, Login, NONCE_BYTES, Password, Step},
    backend::{self, Authentication, Message},
    split_frame,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for binding in [Binding::Impossible, Binding::Possible(vec![7; 32]), Binding::Required(vec![7; 32])] {
        log_in(Channel::Tls(binding), bytes);
    }
    log_in(Channel::Plain, bytes);
});

fn log_in(channel: Channel, bytes: &[u8]) {
    let required = matches!(channel, Channel::Tls(Binding::Required(_)));
    let mut login = Login::new("alice", Password::new("pencil"), channel, [7; NONCE_BYTES]);
    let mut asked = false;
    let mut buf = BytesMut::from(bytes);
    while let Ok(Some(frame)) = split_frame(&mut buf, 1 << 16) {
        let Ok(Message::Authentication(message)) = backend::parse(&frame) else { continue };
        // Derivation is slow, not interesting: challenges of more iterations than needed are passed over.
        if matches!(&message, Authentication::SaslContinue(data) if !data.ends_with(b",i=4096")) {
            continue;
        }
        asked |= matches!(&message, Authentication::Sasl { .. });
        match login.on_message(&message) {
            Ok(Step::Done) => assert!(!asked && !required, "let in without a proof"),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
