//! Logins against an honest PostgreSQL (recorded) and against servers that cheat.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::{
    super::super::{
        backend,
        fixtures::{self, frame, framed, scram},
    },
    AuthError, Authentication, Binding, Channel, Login, NONCE_BYTES, Password, Step,
};

/// TLS under a certificate that defines no hash.
const TLS: Channel = Channel::Tls(Binding::Impossible);

fn nonce(text: &str) -> [u8; NONCE_BYTES] {
    STANDARD.decode(text).unwrap().try_into().unwrap()
}

fn login(channel: Channel) -> Login {
    Login::new("alice", Password::new("pencil"), channel, nonce(scram::NONCE))
}

/// Passes recorded bytes through the parser to the login.
fn feed(login: &mut Login, bytes: &[u8]) -> Result<Step, AuthError> {
    let frame = frame(bytes);
    match backend::parse(&frame).unwrap() {
        backend::Message::Authentication(message) => login.on_message(&message),
        other => panic!("{other:?}"),
    }
}

fn sent(bytes: &'static [u8]) -> Step {
    Step::Send(bytes::Bytes::from_static(bytes))
}

const OUT_OF_ORDER: fn(&Result<Step, AuthError>) -> bool =
    |result| matches!(result, Err(AuthError::OutOfOrder { .. }));

#[test]
fn a_scram_login_sends_what_libpq_sent_to_the_same_server() {
    let mut login = login(Channel::Plain);
    assert_eq!(feed(&mut login, scram::REQUEST), Ok(sent(scram::FIRST)));
    assert_eq!(feed(&mut login, scram::CHALLENGE), Ok(sent(scram::ANSWER)));
    assert_eq!(login.scram_keys(), None, "not before the server has proved itself");
    assert_eq!(feed(&mut login, scram::PROOF), Ok(Step::Wait));
    assert_eq!(feed(&mut login, scram::OK), Ok(Step::Done));

    let keys = login.scram_keys().cloned();
    assert!(keys.is_some());
    // A wrong password beside the kept keys: they, not it, make the proof.
    let mut later = Login::new("alice", Password::new("x"), Channel::Plain, nonce(scram::SECOND_NONCE))
        .with_scram_keys(keys);
    assert!(feed(&mut later, scram::REQUEST).is_ok());
    assert_eq!(feed(&mut later, scram::SECOND_CHALLENGE), Ok(sent(scram::SECOND_ANSWER)));
}

#[test]
fn an_md5_login_sends_what_psql_sent() {
    let mut login = Login::new("bob", Password::new("secret"), Channel::Plain, [0; NONCE_BYTES]);
    assert_eq!(feed(&mut login, b"R\0\0\0\x0c\0\0\0\x05:\xa5GY"), Ok(sent(fixtures::CLIENT[18])));
    assert_eq!(feed(&mut login, scram::OK), Ok(Step::Done));
    assert_eq!(login.scram_keys(), None);
}

#[test]
fn a_password_in_clear_goes_over_tls_only() {
    let request = b"R\0\0\0\x08\0\0\0\x03";
    let mut tls = login(TLS);
    assert_eq!(feed(&mut tls, request), Ok(sent(b"p\0\0\0\x0bpencil\0")));
    assert_eq!(feed(&mut tls, scram::OK), Ok(Step::Done));
    assert_eq!(feed(&mut login(Channel::Plain), request), Err(AuthError::CleartextWithoutTls));

    let mut login = Login::new("alice", Password::new("a\0b"), TLS, [0; NONCE_BYTES]);
    assert!(matches!(feed(&mut login, request), Err(AuthError::Unsendable(_))));
}

#[test]
fn a_server_that_asks_for_nothing_is_let() {
    assert_eq!(feed(&mut login(Channel::Plain), scram::OK), Ok(Step::Done));
}

#[test]
fn a_server_that_began_scram_must_prove_itself_before_it_lets_in() {
    let mut early = login(TLS);
    feed(&mut early, scram::REQUEST).unwrap();
    assert!(OUT_OF_ORDER(&feed(&mut early, scram::OK)));

    let mut late = login(TLS);
    feed(&mut late, scram::REQUEST).unwrap();
    feed(&mut late, scram::CHALLENGE).unwrap();
    assert_eq!(
        feed(&mut late, scram::OK),
        Err(AuthError::OutOfOrder { received: "AuthenticationOk", expected: "its SCRAM proof was due" })
    );
    assert!(OUT_OF_ORDER(&feed(&mut late, scram::PROOF)), "an error ends the login");
    assert_eq!(late.scram_keys(), None);
}

#[test]
fn a_server_cannot_fall_back_to_a_weaker_method() {
    for weaker in [&b"R\0\0\0\x08\0\0\0\x03"[..], b"R\0\0\0\x0c\0\0\0\x05salt", scram::REQUEST] {
        let mut login = login(TLS);
        feed(&mut login, scram::REQUEST).unwrap();
        assert!(OUT_OF_ORDER(&feed(&mut login, weaker)));
    }
    let mut login = login(TLS);
    feed(&mut login, b"R\0\0\0\x0c\0\0\0\x05salt").unwrap();
    assert!(OUT_OF_ORDER(&feed(&mut login, b"R\0\0\0\x08\0\0\0\x03")), "asked twice");
}

#[test]
fn requests_that_nobody_waits_for_are_refused() {
    for unexpected in [scram::CHALLENGE, scram::PROOF] {
        assert!(OUT_OF_ORDER(&feed(&mut login(TLS), unexpected)));
    }
    let mut over = login(TLS);
    feed(&mut over, scram::OK).unwrap();
    assert!(OUT_OF_ORDER(&feed(&mut over, scram::OK)));
}

#[test]
fn unknown_methods_are_refused() {
    let request = framed(b'R', b"\0\0\0\x07");
    let Ok(backend::Message::Authentication(message)) = backend::parse(&request) else {
        panic!("no request")
    };
    let error = AuthError::UnsupportedMethod { code: 7 };
    assert_eq!(login(TLS).on_message(&message), Err(error));
    for mechanisms in [vec![], vec![&b"SCRAM-SHA-256-PLUS"[..]], vec![b"PLAIN", b"SCRAM-SHA-1"]] {
        let result = login(TLS).on_message(&Authentication::Sasl { mechanisms });
        assert_eq!(result, Err(AuthError::NoMechanism));
    }
    let both = Authentication::Sasl { mechanisms: vec![b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"] };
    assert!(login(TLS).on_message(&both).is_ok());
}

/// The mechanism and the first message that a login answers an offer of mechanisms with.
fn chosen(binding: Binding, mechanisms: &[&'static [u8]]) -> Result<(String, String), AuthError> {
    let offer = Authentication::Sasl { mechanisms: mechanisms.to_vec() };
    let Step::Send(bytes) = login(Channel::Tls(binding)).on_message(&offer)? else { panic!("nothing sent") };
    let text = String::from_utf8(bytes[5..].iter().map(|byte| byte.max(&b' ')).copied().collect()).unwrap();
    let (mechanism, rest) = text.split_once(' ').unwrap();
    Ok((
        mechanism.to_owned(),
        rest.trim_start().trim_start_matches(|c: char| !c.is_ascii_lowercase()).to_owned(),
    ))
}

#[test]
fn a_server_that_offers_channel_binding_gets_it_and_one_that_hides_it_is_told() {
    const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
    const PLAIN: &[u8] = b"SCRAM-SHA-256";
    let hash = vec![7; 32];
    for binding in [Binding::Possible(hash.clone()), Binding::Required(hash.clone())] {
        for mechanisms in [&[PLUS, PLAIN][..], &[PLUS]] {
            let (mechanism, first) = chosen(binding.clone(), mechanisms).unwrap();
            assert_eq!(mechanism, "SCRAM-SHA-256-PLUS");
            assert!(first.starts_with("p=tls-server-end-point,,n=,r="), "{first}");
        }
    }
    let (mechanism, first) = chosen(Binding::Possible(hash.clone()), &[PLAIN]).unwrap();
    assert_eq!(mechanism, "SCRAM-SHA-256");
    assert!(first.starts_with("y,,n=,r="), "{first}");
    let (_, first) = chosen(Binding::Impossible, &[PLUS, PLAIN]).unwrap();
    assert!(first.starts_with("n,,n=,r="), "{first}");
    assert_eq!(chosen(Binding::Required(hash), &[PLAIN]), Err(AuthError::Unbound));
}

#[test]
fn where_a_binding_is_required_no_other_way_in_is_taken() {
    for way in [&b"R\0\0\0\x08\0\0\0\x03"[..], b"R\0\0\0\x0c\0\0\0\x05salt", scram::OK] {
        let mut login = login(Channel::Tls(Binding::Required(vec![7; 32])));
        assert_eq!(feed(&mut login, way), Err(AuthError::Unbound));
    }
}

#[test]
fn the_binding_is_part_of_what_is_proved() {
    let answer = |hash: u8| {
        let mut login = login(Channel::Tls(Binding::Possible(vec![hash; 32])));
        login.on_message(&Authentication::Sasl { mechanisms: vec![b"SCRAM-SHA-256-PLUS"] }).unwrap();
        let Ok(Step::Send(bytes)) = feed(&mut login, scram::CHALLENGE) else { panic!("no answer") };
        String::from_utf8(bytes[5..].to_vec()).unwrap()
    };
    let (first, second) = (answer(1), answer(2));
    let sent = STANDARD.encode([&b"p=tls-server-end-point,,"[..], &[1; 32]].concat());
    assert!(first.starts_with(&format!("c={sent},r=")), "{first}");
    let proof = |text: &str| text.split(",p=").nth(1).unwrap().to_owned();
    assert_ne!(proof(&first), proof(&second));
}

#[test]
fn nothing_secret_is_printed() {
    let mut login = login(Channel::Plain);
    feed(&mut login, scram::REQUEST).unwrap();
    let text = format!("{login:?} {:?}", Password::new("pencil"));
    assert!(text.ends_with("<6 bytes withheld>"), "{text}");
    assert!(!text.contains("pencil") && !text.contains(scram::NONCE), "{text}");
}

proptest! {
    #[test]
    fn no_challenge_makes_a_login_panic_or_lets_a_server_in_without_proof(
        challenge in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "r=BMVugj\\+ZWIdFJn7NYlni42Q5[!-~]{0,4},s=[A-Za-z=]{0,8},i=[0-9]{0,3}(,[a-z=]{0,4})?"
                .prop_map(String::into_bytes),
        ],
        proof in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[ve]=[A-Za-z0-9+/]{43}=".prop_map(String::into_bytes),
        ],
    ) {
        let mut login = login(Channel::Plain);
        feed(&mut login, scram::REQUEST).unwrap();
        let _ = login.on_message(&Authentication::SaslContinue(&challenge));
        prop_assert!(login.on_message(&Authentication::SaslFinal(&proof)).is_err());
        prop_assert!(login.on_message(&Authentication::Ok).is_err());
    }
}
