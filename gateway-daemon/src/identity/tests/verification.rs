//! Honest tokens, and what claims must say.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::super::{
    Clock as _, Identity, IdentityError, IssuerSettings, KeySource, SourceSettings,
    testing::{
        ED25519, ISSUER, ManualClock, NOW, OTHER_RSA, P256, P384, RSA, Signer, claims, claims_with, issuer,
        issuer_with_file, jwks, sign_texts, token,
    },
};
use crate::domain::{principal::Principal, sensitive::Sensitive};

struct Room {
    identity: Identity,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

fn room_of(change: impl FnOnce(&mut IssuerSettings)) -> Room {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let mut settings = issuer_with_file(dir.path());
    change(&mut settings);
    let identity = Identity::with_clock(
        vec![settings],
        vec![SourceSettings::Enrolled],
        Arc::<ManualClock>::clone(&clock),
    )
    .unwrap();
    Room { identity, clock, dir }
}

fn room() -> Room {
    room_of(|_| {})
}

impl Room {
    async fn verify(&self, token: &str) -> Result<Arc<Principal>, IdentityError> {
        self.identity.verify(&Sensitive::new(token.to_owned())).await
    }

    async fn verify_claims(&self, claims: &Value) -> Result<Arc<Principal>, IdentityError> {
        self.verify(&token(&P256, "ES256", "p256", claims)).await
    }

    fn replace_keys(&self, keys: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, keys).unwrap();
        std::fs::rename(new, self.dir.path().join("jwks.json")).unwrap();
    }
}

#[tokio::test]
async fn every_accepted_algorithm_verifies_and_claims_become_a_principal() {
    let room = room();
    let signers: [(&Signer, &str, &str); 8] = [
        (&RSA, "RS256", "rsa"),
        (&RSA, "RS384", "rsa"),
        (&RSA, "RS512", "rsa"),
        (&RSA, "PS256", "rsa"),
        (&P256, "ES256", "p256"),
        (&P384, "ES384", "p384"),
        (&ED25519, "EdDSA", "ed"),
        (&ED25519, "Ed25519", "ed"),
    ];
    for (signer, alg, kid) in signers {
        let principal = room.verify(&token(signer, alg, kid, &claims())).await.unwrap();
        assert_eq!(principal.id(), "https://ci.example|repo:shop", "{alg}");
        assert_eq!(principal.issuer, "ci");
        assert_eq!(principal.groups, ["agents", "dev"]);
        assert_eq!(principal.roles, ["reader"]);
        let texts: Vec<_> =
            principal.claims.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(
            texts,
            [("https://ci.example/env", "{\"name\":\"prod\"}"), ("repository", "shop/web"), ("run", "17")]
        );
        assert_eq!(principal.expires_at, UNIX_EPOCH + Duration::from_secs(NOW + 600));
    }
}

#[tokio::test]
async fn white_space_around_a_token_is_no_part_of_it() {
    let token = token(&P256, "ES256", "p256", &claims());
    assert!(room().verify(&format!("\n {token}\r\n")).await.is_ok());
    assert!(matches!(
        room().verify(&token.replacen('.', ". ", 1)).await,
        Err(IdentityError::Malformed { .. })
    ));
}

#[tokio::test]
async fn times_hold_with_the_leeway_and_not_a_second_longer() {
    let room = room();
    let cases = [
        ("exp", NOW - 29, true),
        ("exp", NOW - 30, false),
        ("exp", NOW - 31, false),
        ("nbf", NOW + 30, true),
        ("nbf", NOW + 31, false),
        ("iat", NOW + 30, true),
        ("iat", NOW + 31, false),
    ];
    for (claim, at, good) in cases {
        let outcome = room.verify_claims(&claims_with(claim, json!(at))).await;
        assert_eq!(outcome.is_ok(), good, "{claim} {at}: {outcome:?}");
        let at = UNIX_EPOCH + Duration::from_secs(at);
        match (claim, outcome) {
            (_, Ok(_)) => {}
            ("exp", Err(error)) => assert_eq!(error, IdentityError::Expired { at }),
            (_, Err(error)) => assert_eq!(error, IdentityError::NotYetValid { at }),
        }
    }
    let strict = room_of(|settings| settings.leeway = Duration::ZERO);
    assert!(strict.verify_claims(&claims_with("exp", json!(NOW))).await.is_err());
    assert!(strict.verify_claims(&claims_with("exp", json!(NOW + 1))).await.is_ok());
    room.clock.advance(Duration::from_secs(630));
    let error = room.verify_claims(&claims()).await.unwrap_err();
    assert_eq!(error.to_string(), "the identity token expired at 2027-01-15T08:10:00Z");
    assert!(room.clock.wall() > UNIX_EPOCH + Duration::from_secs(NOW));
}

#[tokio::test]
async fn a_claim_of_the_wrong_kind_refuses_the_token() {
    let room = room();
    let cases = [
        ("exp", json!(null)),
        ("exp", json!("1800000600")),
        ("exp", json!(-1)),
        ("exp", json!(-0.5)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(1e300)),
        ("exp", json!([NOW + 600])),
        ("exp", json!(true)),
        ("nbf", json!("soon")),
        ("nbf", json!(u64::MAX)),
        ("iat", json!({})),
        ("sub", json!(null)),
        ("sub", json!("")),
        ("sub", json!(["repo:shop"])),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(1025))),
        ("aud", json!(null)),
        ("aud", json!(7)),
        ("aud", json!({ "nodegate": true })),
        ("aud", json!(["nodegate", 7])),
        ("groups", json!(7)),
        ("groups", json!({ "agents": true })),
        ("groups", json!(["agents", 7])),
        ("groups", json!([""])),
        ("groups", json!("a\u{0}b")),
        ("realm_access", json!({ "roles": { "reader": true } })),
        ("iss", json!(null)),
        ("iss", json!([ISSUER])),
    ];
    for (claim, value) in cases {
        let outcome = room.verify_claims(&claims_with(claim, value.clone())).await;
        assert!(matches!(outcome, Err(IdentityError::Claim { .. })), "{claim} {value}: {outcome:?}");
    }
    let elsewhere = json!({ "groups": "src1" });
    let mut distributed = claims_with("groups", Value::Null);
    distributed["_claim_names"] = elsewhere;
    assert!(
        room.verify_claims(&distributed).await.is_err(),
        "groups that are kept elsewhere are not no groups"
    );
}

#[tokio::test]
async fn fractions_of_a_second_are_cut_off() {
    let room = room();
    let text = claims().to_string().replace(&(NOW + 600).to_string(), &format!("{}.9", NOW + 600));
    let token = sign_texts(&P256, "ES256", r#"{"alg":"ES256","kid":"p256"}"#, &text);
    assert_eq!(room.verify(&token).await.unwrap().expires_at, UNIX_EPOCH + Duration::from_secs(NOW + 600));
    for exp in ["NaN", "Infinity", "1e999", "18446744073709551616", "0x7fffffff", "1800000600s"] {
        let text = claims().to_string().replace(&(NOW + 600).to_string(), exp);
        let token = sign_texts(&P256, "ES256", r#"{"alg":"ES256","kid":"p256"}"#, &text);
        assert!(room.verify(&token).await.is_err(), "{exp}");
    }
}

#[tokio::test]
async fn the_audience_may_be_one_of_several_and_must_be_exact() {
    let room = room_of(|settings| settings.audiences.push("other".into()));
    for (audience, good) in [
        (json!("nodegate"), true),
        (json!(["nodegate"]), true),
        (json!(["x", "other"]), true),
        (json!(["nodegate", "x"]), true),
        (json!("Nodegate"), false),
        (json!("nodegate "), false),
        (json!(""), false),
        (json!([]), false),
        (json!(["nodegate-admin"]), false),
    ] {
        let outcome = room.verify_claims(&claims_with("aud", audience.clone())).await;
        assert_eq!(outcome.is_ok(), good, "{audience}");
        if let Err(error) = outcome {
            let expected = "nodegate or other".to_owned();
            assert_eq!(error, IdentityError::Audience { issuer: "ci".into(), expected });
        }
    }
}

#[tokio::test]
async fn groups_may_be_one_string_and_may_be_missing() {
    let room = room();
    let one = room.verify_claims(&claims_with("groups", json!("agents dev, x"))).await.unwrap();
    assert_eq!(one.groups, ["agents dev, x"], "one string is one group, whatever it holds");
    let none = room.verify_claims(&claims_with("groups", Value::Null)).await.unwrap();
    assert!(none.groups.is_empty());
    let none = room.verify_claims(&claims_with("realm_access", json!("roles"))).await.unwrap();
    assert!(none.roles.is_empty());
    let named = room_of(|settings| settings.groups_claim = Some("https://ci.example/env".into()));
    assert!(named.verify_claims(&claims()).await.is_err(), "a dotted name that exists is not a path");
}

#[tokio::test]
async fn the_issuer_is_found_by_its_exact_name() {
    let room = room();
    for iss in
        ["https://ci.example/", "https://CI.example", "http://ci.example", "", "https://ci.example\u{0}"]
    {
        let outcome = room.verify_claims(&claims_with("iss", json!(iss))).await;
        assert!(matches!(outcome, Err(IdentityError::UnknownIssuer { .. })), "{iss:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_key_of_another_issuer_proves_nothing_here() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other.json");
    std::fs::write(&file, jwks(&[OTHER_RSA.jwk("theirs"), OTHER_RSA.jwk("rsa")])).unwrap();
    let mut other = issuer(KeySource::JwksFile(file));
    other.name = "other".into();
    other.issuer = "https://other.example".into();
    let identity =
        Identity::with_clock(vec![issuer_with_file(dir.path()), other], vec![], ManualClock::new()).unwrap();
    let verify = |kid: &str, claims: &Value| {
        let token = Sensitive::new(token(&OTHER_RSA, "RS256", kid, claims));
        let identity = identity.clone();
        async move { identity.verify(&token).await }
    };
    let own = claims_with("iss", json!("https://other.example"));
    assert_eq!(verify("theirs", &own).await.unwrap().id(), "https://other.example|repo:shop");
    assert!(matches!(verify("theirs", &claims()).await, Err(IdentityError::UnknownKey { .. })));
    assert!(matches!(verify("rsa", &claims()).await, Err(IdentityError::BadSignature { .. })));
}

#[tokio::test]
async fn a_changed_key_file_counts_at_once_and_a_broken_one_keeps_the_old_keys() {
    let room = room();
    let by_new_key = token(&OTHER_RSA, "RS256", "new", &claims());
    let by_old_key = token(&RSA, "RS256", "rsa", &claims());
    assert!(room.verify(&by_old_key).await.is_ok());
    assert_eq!(
        room.verify(&by_new_key).await.unwrap_err().to_string(),
        "no key with kid \"new\" at issuer ci"
    );
    room.replace_keys(&jwks(&[OTHER_RSA.jwk("new")]));
    assert!(room.verify(&by_new_key).await.is_ok());
    assert!(matches!(room.verify(&by_old_key).await, Err(IdentityError::UnknownKey { .. })), "withdrawn");
    room.replace_keys("{ half a fi");
    assert!(room.verify(&by_new_key).await.is_ok());
    std::fs::remove_file(room.dir.path().join("jwks.json")).unwrap();
    assert!(room.verify(&by_new_key).await.is_ok());
    room.clock.advance(Duration::from_hours(24));
    let late = claims_with("exp", json!(NOW + 48 * 3600));
    let outcome = room.verify(&token(&OTHER_RSA, "RS256", "new", &late)).await;
    assert!(matches!(outcome, Err(IdentityError::IssuerUnreachable { .. })), "{outcome:?}");
    room.replace_keys(&jwks(&[OTHER_RSA.jwk("new")]));
    assert!(room.verify(&token(&OTHER_RSA, "RS256", "new", &late)).await.is_ok());
}

#[tokio::test]
async fn a_missing_or_broken_key_file_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let open = || Identity::new(vec![issuer(KeySource::JwksFile(file.clone()))], vec![]);
    assert!(matches!(open(), Err(IdentityError::Settings(_))));
    for broken in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        std::fs::write(&file, broken).unwrap();
        assert!(matches!(open(), Err(IdentityError::Settings(_))), "{broken}");
    }
    std::fs::write(&file, format!("{{\"keys\":[]}}{}", " ".repeat(256 * 1024))).unwrap();
    assert!(matches!(open(), Err(IdentityError::Settings(_))), "too long");
}
