//! Whole tokens against an issuer on loopback. Responsible for the attacks a token can try on its way from form to
//! signature; its claims have tests of their own.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::*;
use crate::identity::Egress;
use crate::identity::test_issuer::{Answer, NOW, TestKey, TestServer, claims, issuer, key_set, nobody, now};

/// A verifier of one issuer, whose server publishes one key.
struct Setting {
    server: TestServer,
    key: TestKey,
    issuer: String,
    verifier: JwtVerifier,
}

async fn setting() -> Setting {
    let server = TestServer::start().await;
    let key = TestKey::rsa("k1");
    server.answer("/keys", key_set(&[&key]));
    let name = server.url("");
    let own = Issuer { jwks_url: Some(server.url("/keys")), ..issuer(&name) };
    let other = Issuer {
        jwks_url: Some(server.url("/other-keys")),
        principal_prefix: "other:".to_owned(),
        ..issuer("https://other.example")
    };
    let fetcher = Fetcher::new(Egress::new(["127.0.0.1".to_owned()])).unwrap();
    let verifier = JwtVerifier::new(vec![own, other], &fetcher, &Background::default(), &nobody());
    Setting { server, key, issuer: name, verifier }
}

impl Setting {
    fn claims(&self) -> Value {
        claims(&self.issuer)
    }

    async fn cause(&self, token: &str) -> &'static str {
        self.verifier.verify(token, now(0)).await.map_or_else(|unproven| unproven.cause, |_| "proven")
    }
}

#[tokio::test]
async fn a_token_of_the_issuer_proves_its_user_and_is_remembered() {
    let setting = setting().await;
    let token = setting.key.token(&setting.claims());
    for _ in 0..3 {
        let proven = setting.verifier.verify(&token, now(0)).await.unwrap();
        assert_eq!((proven.principal.as_str(), proven.issuer.as_str()), ("acme:ada", setting.issuer.as_str()));
    }
    assert_eq!((setting.server.asked("/keys"), setting.verifier.verdicts.len()), (1, 1));
    let expired = setting.verifier.verify(&token, now(3600 + LEEWAY_SECONDS)).await;
    assert_eq!(expired, Err(Unproven::because("expired")));
    assert_eq!(setting.verifier.verdicts.len(), 0);
}

#[tokio::test]
async fn no_algorithm_but_the_configured_one_is_believed() {
    let setting = setting().await;
    let claims = setting.claims();
    let head = |alg: &str| json!({ "alg": alg, "kid": "k1" });
    for alg in ["none", "HS256", "RS512", "ES256", "PS256"] {
        assert_eq!(setting.cause(&setting.key.token_with_head(&head(alg), &claims)).await, "wrong_algorithm", "{alg}");
    }
    // The public key as the secret of an HMAC, which only a library that believes `alg` falls for.
    let signed = setting.key.token_with_head(&head("HS256"), &claims);
    let signed = signed.rsplit_once('.').unwrap().0;
    for secret in [setting.key.pem().to_owned(), setting.key.jwk().to_string()] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
        assert_eq!(setting.cause(&format!("{signed}.{signature}")).await, "wrong_algorithm");
    }
    let parts = |head: &Value| URL_SAFE_NO_PAD.encode(head.to_string());
    let unsigned = format!("{}.{}.", parts(&head("none")), parts(&claims));
    assert_eq!(setting.cause(&unsigned).await, "malformed_token");
    assert_eq!(setting.server.asked_at_all(), 0, "nothing is fetched for any of them");
}

#[tokio::test]
async fn a_signature_must_be_the_named_keys_over_these_very_bytes() {
    let setting = setting().await;
    let token = setting.key.token(&setting.claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let stranger = TestKey::rsa("k1").token(&setting.claims());
    assert_eq!(setting.cause(&stranger).await, "bad_signature");
    let (head, _) = signed.split_once('.').unwrap();
    let mut raised = setting.claims();
    raised["cognito:groups"] = json!(["admin"]);
    let spliced = format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(raised.to_string()));
    assert_eq!(setting.cause(&spliced).await, "bad_signature");
    for signature in [&signature[1..], &format!("{signature}AA"), "AAAA", "!", &format!("{signature}==")] {
        assert_eq!(setting.cause(&format!("{signed}.{signature}")).await, "bad_signature", "{signature}");
    }
    assert_eq!(setting.cause(&token).await, "proven");
}

#[tokio::test]
async fn a_kid_is_only_ever_compared() {
    let setting = setting().await;
    let head = |kid: Value| json!({ "alg": "RS256", "kid": kid });
    let outside = setting.server.url("/attacker");
    for kid in ["../keys", "/etc/passwd", outside.as_str(), "k1 ", "K1", "k1\u{0}", "' OR 1=1 --"] {
        let token = setting.key.token_with_head(&head(json!(kid)), &setting.claims());
        assert_eq!(setting.cause(&token).await, "unknown_kid", "{kid}");
    }
    for kid in [json!(null), json!(""), json!(["k1"]), json!({ "kid": "k1" }), json!("k".repeat(300))] {
        let token = setting.key.token_with_head(&head(kid.clone()), &setting.claims());
        assert_eq!(setting.cause(&token).await, "no_kid", "{kid}");
    }
    for number in 0..1000 {
        let token = setting.key.token_with_head(&head(json!(format!("storm-{number}"))), &setting.claims());
        assert_eq!(setting.cause(&token).await, "unknown_kid");
    }
    assert_eq!((setting.server.asked("/keys"), setting.server.asked_at_all()), (1, 1));
}

#[tokio::test]
async fn a_key_that_the_token_brings_along_is_refused() {
    let setting = setting().await;
    let stranger = TestKey::rsa("mine");
    setting.server.answer("/attacker", key_set(&[&stranger]));
    let extras = [
        ("jwk", stranger.jwk()),
        ("jku", json!(setting.server.url("/attacker"))),
        ("x5u", json!(setting.server.url("/attacker"))),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
    ];
    for (member, value) in extras {
        let head = json!({ "alg": "RS256", "kid": "k1", member: value });
        for key in [&stranger, &setting.key] {
            assert_eq!(
                setting.cause(&key.token_with_head(&head, &setting.claims())).await,
                "refused_header",
                "{member}"
            );
        }
    }
    assert_eq!(setting.server.asked("/attacker"), 0);
}

#[tokio::test]
async fn an_issuer_speaks_for_its_own_users_only() {
    let setting = setting().await;
    let with_issuer = |iss: Value| {
        let mut claims = setting.claims();
        claims["iss"] = iss;
        setting.key.token(&claims)
    };
    let other = TestKey::rsa("o1");
    setting.server.answer("/other-keys", key_set(&[&other]));
    assert_eq!(setting.cause(&with_issuer(json!("https://other.example"))).await, "unknown_kid", "k1 is not its key");
    let names =
        [json!(format!("{}/", setting.issuer)), json!(setting.issuer.to_uppercase()), json!("https://evil.example")];
    for iss in names {
        assert_eq!(setting.cause(&with_issuer(iss.clone())).await, "unknown_issuer", "{iss}");
    }
    for iss in [json!([setting.issuer]), json!(null), json!(1)] {
        assert_eq!(setting.cause(&with_issuer(iss.clone())).await, "no_issuer", "{iss}");
    }
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_is_no_fault_of_the_token() {
    let setting = setting().await;
    setting.server.answer("/keys", Answer::status(500));
    let token = setting.key.token(&setting.claims());
    assert_eq!(setting.verifier.verify(&token, now(0)).await, Err(Unproven::idp_unavailable()));
}

#[tokio::test]
async fn a_key_that_is_taken_back_takes_what_was_remembered_along() {
    let setting = setting().await;
    let token = setting.key.token(&setting.claims());
    assert_eq!(setting.cause(&token).await, "proven");
    setting.server.answer("/keys", key_set(&[&TestKey::rsa("k2")]));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    assert_eq!(setting.cause(&token).await, "proven", "the refresh has only begun");
    while setting.server.asked("/keys") < 2 || setting.cause(&token).await == "proven" {
        tokio::task::yield_now().await;
    }
    assert_eq!(setting.cause(&token).await, "unknown_kid");
}

#[tokio::test]
async fn a_token_too_old_by_the_document_is_not_saved_by_memory() {
    let server = TestServer::start().await;
    let key = TestKey::rsa("k1");
    server.answer("/keys", key_set(&[&key]));
    let own = Issuer { jwks_url: Some(server.url("/keys")), max_age_seconds: Some(120), ..issuer("https://i.example") };
    let fetcher = Fetcher::new(Egress::new(["127.0.0.1".to_owned()])).unwrap();
    let verifier = JwtVerifier::new(vec![own], &fetcher, &Background::default(), &nobody());
    let mut claims = claims("https://i.example");
    claims["iat"] = json!(NOW);
    let token = key.token(&claims);
    assert!(verifier.verify(&token, now(120)).await.is_ok());
    assert_eq!(verifier.verify(&token, now(121)).await, Err(Unproven::because("too_old")));
}
