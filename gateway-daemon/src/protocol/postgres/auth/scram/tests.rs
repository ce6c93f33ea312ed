//! The example of RFC 7677, and servers that cheat.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    AuthError, AwaitProof, ChannelBinding, MAX_ITERATIONS, MIN_ITERATIONS, Password, ScramKeys, begin,
};

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn answer(challenge: &[u8]) -> Result<(AwaitProof, Vec<u8>), AuthError> {
    answer_with(None, challenge)
}

fn answer_with(kept: Option<ScramKeys>, challenge: &[u8]) -> Result<(AwaitProof, Vec<u8>), AuthError> {
    begin("user", NONCE.to_owned(), ChannelBinding::Unsupported).0.answer(
        &Password::new("pencil"),
        kept,
        challenge,
    )
}

fn refused(challenge: &str) -> AuthError {
    answer(challenge.as_bytes()).err().unwrap()
}

fn malformed(what: &'static str) -> AuthError {
    AuthError::MalformedScram { what }
}

/// RFC 7677, section 3.
#[test]
fn the_rfcs_example_comes_out() {
    assert_eq!(
        begin("user", NONCE.to_owned(), ChannelBinding::Unsupported).1,
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    );
    let (proof, reply) = answer(SERVER_FIRST).unwrap();
    assert_eq!(reply, CLIENT_FINAL);
    assert!(proof.verify(SERVER_FINAL).is_ok());
}

#[test]
fn keys_of_an_earlier_login_give_the_same_proof_and_others_are_derived_anew() {
    let keys = answer(SERVER_FIRST).unwrap().0.verify(SERVER_FINAL).unwrap();
    assert_eq!(format!("{keys:?}"), "ScramKeys { iterations: 4096, <keys withheld> }");
    let (proof, reply) = answer_with(Some(keys.clone()), SERVER_FIRST).unwrap();
    assert_eq!(reply, CLIENT_FINAL);
    assert!(proof.verify(SERVER_FINAL).is_ok());

    let mut other = keys;
    other.salt = b"another salt".to_vec();
    other.client = [0; 32];
    assert_eq!(answer_with(Some(other), SERVER_FIRST).unwrap().1, CLIENT_FINAL);
}

#[test]
fn a_server_that_does_not_know_the_password_is_found_out() {
    let verify = |message: &[u8]| answer(SERVER_FIRST).unwrap().0.verify(message).err().unwrap();
    for index in 0..32 {
        let mut signature = STANDARD.decode(&SERVER_FINAL[2..]).unwrap();
        signature[index] ^= 1;
        assert_eq!(
            verify(format!("v={}", STANDARD.encode(signature)).as_bytes()),
            AuthError::ServerSignature
        );
    }
    assert_eq!(verify(b"v="), AuthError::ServerSignature);
    assert_eq!(verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95A=="), AuthError::ServerSignature);
    assert_eq!(verify(b"v=!!"), malformed("verifier is not base64"));
    assert_eq!(verify(b""), malformed("no verifier"));
    assert_eq!(verify(b"e=invalid-proof"), AuthError::Refused);
    let extended = [SERVER_FINAL, b",x"].concat();
    assert_eq!(verify(&extended), malformed("extension"));
}

#[test]
fn a_challenge_that_does_not_continue_our_nonce_is_refused() {
    assert_eq!(refused("r=somebodyelses,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), AuthError::ForeignNonce);
    assert_eq!(refused(&format!("r={NONCE},s=W22Z,i=4096")), AuthError::ForeignNonce, "nothing added");
    assert_eq!(refused("r=,s=W22Z,i=4096"), AuthError::ForeignNonce);
}

#[test]
fn the_iteration_count_has_limits_on_both_sides() {
    let with = |count: &str| refused(&format!("r={NONCE}x,s=W22Z,i={count}"));
    let outside = |iterations| AuthError::Iterations { iterations, min: MIN_ITERATIONS, max: MAX_ITERATIONS };
    assert_eq!(with("1"), outside(1));
    assert_eq!(with("4095"), outside(4095));
    assert_eq!(with("1000001"), outside(1_000_001));
    assert_eq!(with("4294967296"), outside(4_294_967_296));
    for text in ["0", "", "-1", "+4096", "04096", "4096 ", "4e3", "99999999999999999999999"] {
        assert_eq!(with(text), malformed("iteration count"), "{text}");
    }
}

#[test]
fn a_malformed_challenge_is_refused() {
    assert_eq!(refused(""), malformed("no nonce"));
    assert_eq!(refused(&format!("m=x,r={NONCE}x,s=W22Z,i=4096")), malformed("no nonce"));
    assert_eq!(refused(&format!("r={NONCE}x")), malformed("no salt"));
    assert_eq!(refused(&format!("r={NONCE}x,i=4096,s=W22Z")), malformed("no salt"));
    assert_eq!(refused(&format!("r={NONCE}x,s=W22Z")), malformed("no iteration count"));
    assert_eq!(refused(&format!("r={NONCE}x,s=,i=4096")), malformed("salt size"));
    assert_eq!(refused(&format!("r={NONCE}x,s=*,i=4096")), malformed("salt is not base64"));
    assert_eq!(refused(&format!("r={NONCE}\u{e9},s=W22Z,i=4096")), malformed("nonce is not printable"));
    assert_eq!(refused(&format!("r={NONCE} x,s=W22Z,i=4096")), malformed("nonce is not printable"));
    assert_eq!(refused(&format!("r={NONCE}x,s=W22Z,i=4096,m=1")), malformed("extension"));
    assert_eq!(refused(&format!("r={NONCE}x,s=W22Z,i=4096,")), malformed("extension"));
    assert_eq!(refused(&format!("r={NONCE}{},s=W22Z,i=4096", "x".repeat(5000))), malformed("size"));
    assert_eq!(answer(b"r=\xff").err().unwrap(), malformed("not UTF-8"));
    assert!(answer(format!("r={NONCE}x,s=W22Z,i=4096,x=optional").as_bytes()).is_ok());
}
