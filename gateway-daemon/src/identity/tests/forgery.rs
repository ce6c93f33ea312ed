//! Tokens that somebody tampered with. None may name a principal, whatever else is right about them.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::{encoding::AsDer, hmac, signature::KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{
    Identity, IdentityError, KeySource,
    testing::{
        ED25519, ManualClock, OTHER_RSA, P256, P384, RSA, Signer, b64, claims, claims_with, issuer,
        issuer_with_file, jwks, sign_texts, token,
    },
};
use crate::domain::{principal::Principal, sensitive::Sensitive};

struct World {
    identity: Identity,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let identity =
        Identity::with_clock(vec![issuer_with_file(dir.path())], vec![], ManualClock::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    World { identity, runtime, _dir: dir }
});

fn verify(token: &str) -> Result<Arc<Principal>, IdentityError> {
    let token = Sensitive::new(token.to_owned());
    let world = &*WORLD;
    world.runtime.handle().block_on(world.identity.verify(&token))
}

fn with_keys(keys: &[Value]) -> (Identity, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, jwks(keys)).unwrap();
    (Identity::with_clock(vec![issuer(KeySource::JwksFile(file))], vec![], ManualClock::new()).unwrap(), dir)
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn an_unsigned_token_is_refused_in_every_spelling() {
    let payload = b64(claims().to_string());
    for alg in ["none", "None", "NONE", "nOnE", "", " none", "none\u{0}", "null"] {
        let header = b64(json!({ "alg": alg, "kid": "rsa" }).to_string());
        let [_, _, signature] = parts(&token(&RSA, "RS256", "rsa", &claims())).map(str::to_owned);
        for forged in [format!("{header}.{payload}."), format!("{header}.{payload}.{signature}")] {
            let outcome = verify(&forged);
            assert!(matches!(outcome, Err(IdentityError::AlgorithmRefused { .. })), "{alg:?}: {outcome:?}");
        }
        assert!(verify(&format!("{header}.{payload}")).is_err());
    }
    for alg in [json!(null), json!(["RS256"]), json!(0), json!({ "RS256": 1 })] {
        let header = b64(json!({ "alg": alg }).to_string());
        assert!(matches!(verify(&format!("{header}.{payload}.AAAA")), Err(IdentityError::Malformed { .. })));
    }
    assert!(verify(&format!("{}.{payload}.AAAA", b64("{}"))).is_err());
}

#[test]
fn a_public_key_used_as_a_shared_secret_is_refused() {
    let Signer::Rsa(pair) = &*RSA else { unreachable!() };
    let spki = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der>::as_der(pair.public_key()).unwrap();
    let spki = spki.as_ref().to_vec();
    let pkcs1 = pair.public_key().as_ref().to_vec();
    let lines: Vec<_> = STANDARD.encode(&spki).into_bytes().chunks(64).map(<[u8]>::to_vec).collect();
    let body = String::from_utf8(lines.join(&b'\n')).unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----");
    let secrets = [
        spki,
        pkcs1,
        pem.clone().into_bytes(),
        format!("{pem}\n").into_bytes(),
        RSA.jwk("rsa")["n"].as_str().unwrap().as_bytes().to_vec(),
        RSA.jwk("rsa").to_string().into_bytes(),
        vec![],
    ];
    let macs = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
    for secret in &secrets {
        for (alg, mac) in macs {
            let header = json!({ "alg": alg, "typ": "JWT", "kid": "rsa" }).to_string();
            let signed = format!("{}.{}", b64(header), b64(claims().to_string()));
            let tag = hmac::sign(&hmac::Key::new(mac, secret), signed.as_bytes());
            let outcome = verify(&format!("{signed}.{}", b64(tag)));
            assert_eq!(outcome, Err(IdentityError::AlgorithmRefused { algorithm: alg.into() }));
            // The same tag under a name that is accepted.
            let signed = signed.replacen(
                &b64(json!({ "alg": alg, "typ": "JWT", "kid": "rsa" }).to_string()),
                &b64(json!({ "alg": "RS256", "typ": "JWT", "kid": "rsa" }).to_string()),
                1,
            );
            assert!(matches!(
                verify(&format!("{signed}.{}", b64(tag))),
                Err(IdentityError::BadSignature { .. })
            ));
        }
    }
}

#[test]
fn an_algorithm_that_does_not_fit_the_key_is_refused() {
    let cases: [(&Signer, &str, &str); 7] = [
        (&P256, "ES256", "rsa"),
        (&P256, "ES384", "p256"),
        (&P384, "ES256", "p384"),
        (&ED25519, "EdDSA", "p256"),
        (&RSA, "RS256", "ed"),
        (&RSA, "ES256", "rsa"),
        (&P256, "RS256", "p256"),
    ];
    for (signer, alg, kid) in cases {
        let outcome = verify(&token(signer, alg, kid, &claims()));
        assert!(matches!(outcome, Err(IdentityError::KeyMismatch { .. })), "{alg} {kid}: {outcome:?}");
    }
    // Right family, another member of it.
    assert!(matches!(
        verify(&sign_texts(&RSA, "RS384", r#"{"alg":"RS256","kid":"rsa"}"#, &claims().to_string())),
        Err(IdentityError::BadSignature { .. })
    ));
}

#[tokio::test]
async fn what_the_issuer_says_of_a_key_binds_it() {
    let with = |name: &str, value: Value| {
        let mut jwk = RSA.jwk("rsa");
        jwk[name] = value;
        jwk
    };
    let usable = [
        with("alg", json!("RS256")),
        with("key_ops", json!(["verify"])),
        with("x5c", json!(["garbage"])),
        with("n", json!(format!("AAAA{}", RSA.jwk("rsa")["n"].as_str().unwrap()))),
    ];
    let unusable = [
        with("alg", json!("RS512")),
        with("alg", json!("PS256")),
        with("alg", json!("RSA-OAEP")),
        with("alg", json!("HS256")),
        with("alg", json!(7)),
        with("use", json!("enc")),
        with("use", json!(null)),
        with("key_ops", json!(["sign"])),
        with("key_ops", json!("verify")),
        with("kty", json!("oct")),
        with("kty", json!("rsa")),
        with("kid", json!("RSA")),
        with("kid", json!(1)),
        with("e", json!("AQ")),
        with("n", json!(b64([0xff; 128]))),
        with("n", json!("not base64!")),
    ];
    let token = Sensitive::new(token(&RSA, "RS256", "rsa", &claims()));
    for jwk in usable {
        let (identity, _dir) = with_keys(std::slice::from_ref(&jwk));
        assert!(identity.verify(&token).await.is_ok(), "{jwk}");
    }
    for jwk in unusable {
        let (identity, _dir) = with_keys(std::slice::from_ref(&jwk));
        let outcome = identity.verify(&token).await;
        assert!(
            matches!(outcome, Err(IdentityError::UnknownKey { .. } | IdentityError::KeyMismatch { .. })),
            "{jwk}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_token_without_kid_is_accepted_only_where_no_choice_is_left() {
    let header = r#"{"alg":"RS256"}"#;
    let token = Sensitive::new(sign_texts(&RSA, "RS256", header, &claims().to_string()));
    let (one, _dir) = with_keys(&[RSA.jwk("a"), P256.jwk("b")]);
    assert!(one.verify(&token).await.is_ok());
    let (two, _dir) = with_keys(&[RSA.jwk("a"), OTHER_RSA.jwk("b")]);
    assert!(matches!(two.verify(&token).await, Err(IdentityError::UnknownKey { kid: None, .. })));
    let (none, _dir) = with_keys(&[]);
    assert!(matches!(none.verify(&token).await, Err(IdentityError::UnknownKey { kid: None, .. })));
}

#[tokio::test]
async fn one_kid_for_two_keys_is_either_of_them() {
    let (identity, _dir) = with_keys(&[OTHER_RSA.jwk("k"), RSA.jwk("k"), P256.jwk("k")]);
    for (signer, alg) in [(&*RSA, "RS256"), (&*OTHER_RSA, "PS256"), (&*P256, "ES256")] {
        assert!(identity.verify(&Sensitive::new(token(signer, alg, "k", &claims()))).await.is_ok(), "{alg}");
    }
    let stranger = Signer::p256();
    let outcome = identity.verify(&Sensitive::new(token(&stranger, "ES256", "k", &claims()))).await;
    assert!(matches!(outcome, Err(IdentityError::BadSignature { .. })));
}

#[test]
fn keys_that_a_token_brings_along_are_not_looked_at() {
    let mallory = Signer::p256();
    for kid in ["p256", "mallory"] {
        let header = json!({
            "alg": "ES256", "kid": kid, "jwk": mallory.jwk(kid), "jku": "https://mallory.example/jwks",
            "x5u": "https://mallory.example/x5u", "x5c": ["AAAA"], "x5t": 7,
        });
        let outcome = verify(&sign_texts(&mallory, "ES256", &header.to_string(), &claims().to_string()));
        let expected = matches!(
            (kid, &outcome),
            ("p256", Err(IdentityError::BadSignature { .. }))
                | ("mallory", Err(IdentityError::UnknownKey { .. }))
        );
        assert!(expected, "{outcome:?}");
    }
    // Ignored, not fatal: an honest token may carry them, in whatever shape.
    let header = json!({ "alg": "ES256", "kid": "p256", "jwk": 7, "jku": [], "x5t#S256": {} }).to_string();
    assert!(verify(&sign_texts(&P256, "ES256", &header, &claims().to_string())).is_ok());
}

#[test]
fn headers_that_change_the_meaning_are_refused() {
    for header in [
        r#"{"alg":"ES256","kid":"p256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"ES256","kid":"p256","crit":[]}"#,
        r#"{"alg":"ES256","kid":"p256","crit":null}"#,
        r#"{"alg":"ES256","kid":"p256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"ES256","kid":"p256","b64":false}"#,
        r#"{"alg":"ES256","kid":"p256","typ":"logout+jwt"}"#,
        r#"{"alg":"ES256","kid":"p256","typ":"secevent+jwt"}"#,
        r#"{"alg":"ES256","kid":"p256","typ":7}"#,
        r#"{"alg":"ES256","kid":["p256"]}"#,
        r#"{"alg":"HS256","alg":"ES256","kid":"p256"}"#,
        r#"{"alg":"ES256","alg":"none","kid":"p256"}"#,
        r#"{"alg":"ES256","kid":"x","kid":"p256"}"#,
        r#"["ES256"]"#,
        r#"{"alg":"ES256","kid":"p256"} x"#,
    ] {
        let outcome = verify(&sign_texts(&P256, "ES256", header, &claims().to_string()));
        assert!(matches!(outcome, Err(IdentityError::Malformed { .. })), "{header}: {outcome:?}");
    }
    for typ in ["JWT", "jwt", "JOSE", "at+jwt", "application/at+jwt"] {
        let header = json!({ "alg": "ES256", "kid": "p256", "typ": typ }).to_string();
        assert!(verify(&sign_texts(&P256, "ES256", &header, &claims().to_string())).is_ok(), "{typ}");
    }
}

#[test]
fn a_claim_that_is_there_twice_refuses_the_token() {
    let text = claims().to_string();
    for twice in [
        text.replacen('{', r#"{"sub":"root","#, 1),
        text.replacen('{', r#"{"exp":99999999999,"#, 1),
        text.replacen('{', r#"{"\u0073ub":"root","#, 1),
        text.replacen(r#""roles""#, r#""roles":["dba"],"roles""#, 1),
    ] {
        let outcome = verify(&sign_texts(&P256, "ES256", r#"{"alg":"ES256","kid":"p256"}"#, &twice));
        assert!(matches!(outcome, Err(IdentityError::Malformed { .. })), "{twice}: {outcome:?}");
    }
}

#[test]
fn the_outer_form_is_exact() {
    let good = token(&P256, "ES256", "p256", &claims());
    let [header, payload, signature] = parts(&good);
    assert!(verify(&good).is_ok());
    let sloppy_bits = {
        // 64 bytes end in four bits that mean nothing; canonical base64 has them zero.
        let last = signature.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let other = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
        format!("{header}.{payload}.{}{other}", &signature[..signature.len() - 1])
    };
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{header}..{payload}.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}\n{signature}"),
        format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+")) + "+",
        format!("Bearer {good}"),
        sloppy_bits,
        "x".repeat(16 * 1024 + 1),
        format!("{header}.{payload}.{}", "A".repeat(16 * 1024)),
        format!("{header}.{}.{signature}", b64("[]")),
        format!("{header}.{}.{signature}", b64("")),
        format!("{}.{payload}.{signature}", b64("\u{feff}{\"alg\":\"ES256\"}")),
    ] {
        let outcome = verify(&bad);
        assert!(matches!(outcome, Err(IdentityError::Malformed { .. })), "{bad:.80}: {outcome:?}");
    }
}

#[test]
fn a_signature_holds_for_its_own_header_and_payload_only() {
    for (signer, alg, kid) in [(&*RSA, "RS256", "rsa"), (&*P256, "ES256", "p256"), (&*ED25519, "EdDSA", "ed")]
    {
        let (one, two) =
            (token(signer, alg, kid, &claims()), token(signer, alg, kid, &claims_with("sub", json!("root"))));
        let ([header, payload, signature], [_, other_payload, other_signature]) = (parts(&one), parts(&two));
        let typ = b64(json!({ "alg": alg, "typ": "JOSE", "kid": kid }).to_string());
        for forged in [
            format!("{header}.{other_payload}.{signature}"),
            format!("{header}.{payload}.{other_signature}"),
            format!("{typ}.{payload}.{signature}"),
            format!("{header}.{payload}.{}", b64([0_u8; 64])),
            format!("{header}.{payload}.{}", b64([0_u8; 256])),
            format!("{header}.{payload}.{}", b64([0xff_u8; 256])),
            format!("{header}.{payload}.{}", &signature[..signature.len() - 4]),
            format!("{header}.{payload}.{signature}AAAA"),
        ] {
            let outcome = verify(&forged);
            let refused = matches!(&outcome, Err(IdentityError::BadSignature { .. }))
                // A cut signature may end in the middle of a byte.
                || (forged.len() != one.len() && matches!(&outcome, Err(IdentityError::Malformed { .. })));
            assert!(refused, "{alg} {forged}: {outcome:?}");
        }
    }
}

#[test]
fn every_single_character_counts() {
    for (signer, alg, kid) in [(&*RSA, "RS256", "rsa"), (&*P256, "ES256", "p256"), (&*ED25519, "EdDSA", "ed")]
    {
        let good = token(signer, alg, kid, &claims());
        for at in 0..good.len() {
            let replacement = if &good[at..=at] == "A" { "B" } else { "A" };
            let forged = format!("{}{replacement}{}", &good[..at], &good[at + 1..]);
            assert!(verify(&forged).is_err(), "{alg}, character {at}");
        }
    }
}

#[test]
fn no_error_repeats_a_signature_or_an_unlisted_claim() {
    let token = token(&OTHER_RSA, "RS256", "rsa", &claims_with("secret", json!("hunter2hunter2")));
    let shown = format!("{0} {0:?}", verify(&token).unwrap_err());
    for part in parts(&token) {
        assert!(!shown.contains(&part[..16]), "{shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// One change to a token's text.
#[derive(Debug, Clone)]
enum Change {
    Replace(prop::sample::Index, char),
    Insert(prop::sample::Index, char),
    Remove(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Truncate(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let letter = prop_oneof![
        8 => proptest::char::ranges(std::borrow::Cow::Borrowed(&['a'..='z', 'A'..='Z', '0'..='9'])),
        1 => prop::sample::select(vec!['.', '-', '_', '=', '+', '/', ' ', '\0', 'é']),
    ];
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), letter.clone()).prop_map(|(at, letter)| Change::Replace(at, letter)),
        (at(), letter).prop_map(|(at, letter)| Change::Insert(at, letter)),
        at().prop_map(Change::Remove),
        (at(), at()).prop_map(|(one, two)| Change::Swap(one, two)),
        at().prop_map(Change::Truncate),
    ]
}

fn apply(token: &str, changes: &[Change]) -> String {
    let mut text: Vec<char> = token.chars().collect();
    for change in changes {
        if text.is_empty() {
            break;
        }
        let len = text.len();
        match change {
            Change::Replace(at, letter) => text[at.index(len)] = *letter,
            Change::Insert(at, letter) => text.insert(at.index(len), *letter),
            Change::Remove(at) => drop(text.remove(at.index(len))),
            Change::Swap(one, two) => text.swap(one.index(len), two.index(len)),
            Change::Truncate(at) => text.truncate(at.index(len)),
        }
    }
    text.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_change_to_a_token_makes_it_somebody_elses(
        which in 0..3_usize,
        changes in prop::collection::vec(change(), 1..4),
    ) {
        static TOKENS: LazyLock<[String; 3]> = LazyLock::new(|| {
            [
                token(&RSA, "RS256", "rsa", &claims()),
                token(&P256, "ES256", "p256", &claims()),
                token(&ED25519, "EdDSA", "ed", &claims()),
            ]
        });
        let original = &TOKENS[which];
        let changed = apply(original, &changes);
        if let Ok(principal) = verify(&changed) {
            prop_assert_eq!(principal.id(), "https://ci.example|repo:shop");
            let same_signed_bytes =
                changed.trim_ascii().rsplit_once('.').unwrap().0 == original.rsplit_once('.').unwrap().0;
            prop_assert!(same_signed_bytes);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        prop_assert!(verify(&text).is_err());
    }

    #[test]
    fn no_header_or_payload_panics(header in "\\PC{0,80}", payload in "\\PC{0,80}", signature in "[A-Za-z0-9_-]{0,90}") {
        let text = format!("{}.{}.{signature}", b64(header), b64(payload));
        prop_assert!(verify(&text).is_err());
    }

    #[test]
    fn no_signed_claims_panic(exp in any::<f64>(), nbf in any::<i64>(), aud in "\\PC{0,8}", groups in "\\PC{0,8}") {
        let mut claims = claims();
        (claims["exp"], claims["nbf"]) = (json!(exp), json!(nbf));
        (claims["aud"], claims["groups"]) = (json!([aud]), json!({ groups: 1 }));
        prop_assert!(verify(&token(&ED25519, "EdDSA", "ed", &claims)).is_err());
    }
}
