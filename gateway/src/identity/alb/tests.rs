//! Headers of a load balancer on loopback. Responsible for who may speak for it, and for what its keys are asked with.

use base64::engine::general_purpose::URL_SAFE as PADDED;
use portcullis_config::UserType;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::test_issuer::{Answer, NOW, TestKey, TestServer, fuzz_cases, nobody, now};
use crate::identity::{Egress, FetchFault};

const ARN: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/main/0123456789abcdef";
const KID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

struct Setting {
    server: TestServer,
    key: TestKey,
    verifier: AlbVerifier,
}

fn settings(key_url: String) -> AlbSettings {
    AlbSettings {
        signer: ARN.to_owned(),
        key_url,
        subnets: vec!["10.0.0.0/16".parse().unwrap()],
        issuer: Some("https://i.example".to_owned()),
        client_ids: vec!["app".to_owned()],
        groups_claim: Vec::new(),
        user_types: UserTypes::new([].into(), UserType::new("registered").unwrap()),
        principal_prefix: "alb:".to_owned(),
        scope: None,
    }
}

fn fetcher() -> Fetcher {
    Fetcher::new(Egress::new(["127.0.0.1".to_owned()])).unwrap()
}

async fn setting() -> Setting {
    let server = TestServer::start().await;
    let key = TestKey::es256(KID);
    server.answer(&format!("/{KID}"), Answer::ok(key.pem().as_bytes().to_vec()));
    let verifier = AlbVerifier::new(settings(server.url("")), fetcher(), &Background::default(), &nobody());
    Setting { server, key, verifier }
}

fn head() -> Value {
    json!({
        "typ": "JWT", "alg": "ES256", "kid": KID, "signer": ARN, "iss": "https://i.example", "client": "app",
        "exp": NOW + 120,
    })
}

fn claims() -> Value {
    json!({ "sub": "ada", "email": "ada@example.org", "exp": NOW + 120, "iss": "https://i.example" })
}

impl Setting {
    /// The header as AWS writes it: base64url with padding, signed with it.
    fn header(&self, head: &Value, claims: &Value) -> String {
        let part = |value: &Value| PADDED.encode(value.to_string());
        let signed = self.key.sign(&format!("{}.{}", part(head), part(claims)));
        format!("{signed}==")
    }

    async fn cause(&self, header: &str) -> &'static str {
        let proven = self.verifier.verify("10.0.3.4".parse().unwrap(), header.as_bytes(), now(0)).await;
        proven.map_or_else(|unproven| unproven.cause, |proven| if proven.is_some() { "proven" } else { "ignored" })
    }

    async fn with_head(&self, name: &str, value: Value) -> &'static str {
        let mut head = head();
        head[name] = value;
        self.cause(&self.header(&head, &claims())).await
    }
}

#[tokio::test]
async fn the_load_balancers_user_is_believed_with_one_fetch() {
    let setting = setting().await;
    // Each of a length that needs padding, and one that needs none.
    for email in ["a@b.c", "ab@b.c", "abc@b.c"] {
        let mut claims = claims();
        claims["email"] = json!(email);
        let header = setting.header(&head(), &claims);
        let proven = setting.verifier.verify("10.0.3.4".parse().unwrap(), header.as_bytes(), now(0)).await;
        let proven = proven.unwrap().unwrap();
        assert_eq!((proven.principal.as_str(), proven.class, proven.issuer.as_str()), ("alb:ada", "alb", ARN));
    }
    assert_eq!(setting.server.asked_at_all(), 1);
}

#[tokio::test]
async fn any_other_peers_header_is_as_if_it_were_not_there() {
    let setting = setting().await;
    let header = setting.header(&head(), &claims());
    for peer in ["10.1.0.1", "127.0.0.1", "8.8.8.8", "::1"] {
        for header in [header.as_str(), "junk", ""] {
            let proven = setting.verifier.verify(peer.parse().unwrap(), header.as_bytes(), now(0)).await;
            assert_eq!(proven, Ok(None), "{peer}");
        }
    }
    let mapped = setting.verifier.verify("::ffff:10.0.3.4".parse().unwrap(), header.as_bytes(), now(0)).await;
    assert!(mapped.unwrap().is_some());
}

#[tokio::test]
async fn another_load_balancer_is_not_this_one() {
    let setting = setting().await;
    let other = ARN.replace("123456789012", "999999999999");
    for signer in [json!(other), json!(null), json!([ARN]), json!(format!("{ARN} "))] {
        assert_eq!(setting.with_head("signer", signer).await, "wrong_signer");
    }
    assert_eq!(setting.with_head("iss", json!("https://evil.example")).await, "unknown_issuer");
    assert_eq!(setting.with_head("client", json!("other")).await, "wrong_client");
    assert_eq!(setting.with_head("alg", json!("none")).await, "wrong_algorithm");
    assert_eq!(setting.with_head("alg", json!("HS256")).await, "wrong_algorithm");
    assert_eq!(setting.with_head("crit", json!(["exp"])).await, "refused_header");
    for exp in [json!(null), json!(1.8e9), json!("1900000000")] {
        assert_eq!(setting.with_head("exp", exp).await, "no_expiry");
    }
    assert_eq!(setting.with_head("exp", json!(NOW - 30)).await, "expired");
    assert_eq!(setting.server.asked_at_all(), 0);
}

#[tokio::test]
async fn a_key_is_asked_for_by_a_uuid_and_nothing_else() {
    let setting = setting().await;
    let kids =
        ["", "../../latest/meta-data", "http://evil.example/", "0f8fad5bd9cb469fa16570867728950e", &format!("{KID}/x")];
    for kid in kids {
        assert_eq!(setting.with_head("kid", json!(kid)).await, "no_kid", "{kid}");
    }
    assert_eq!(setting.with_head("kid", json!(null)).await, "no_kid");
    assert_eq!(setting.server.asked_at_all(), 0);
    for number in 0..1000 {
        let kid = format!("{number:08x}-d9cb-469f-a165-70867728950e");
        let cause = setting.with_head("kid", json!(kid)).await;
        assert!(cause == "unknown_kid" || cause == "idp_unavailable", "{cause}");
    }
    assert_eq!(setting.server.asked_at_all(), 8, "so many in a minute");
}

#[tokio::test]
async fn callers_who_go_away_do_not_use_up_the_fetches() {
    let setting = setting().await;
    let header = setting.header(&head(), &claims());
    for _ in 0..20 {
        // Polled once: the fetch has been asked for, and nobody waits for it any more.
        let asking = std::pin::pin!(setting.verifier.verify("10.0.3.4".parse().unwrap(), header.as_bytes(), now(0)));
        _ = futures_util::poll!(asking);
    }
    assert_eq!(setting.cause(&header).await, "proven");
    assert_eq!(setting.server.asked_at_all(), 1);
}

#[tokio::test]
async fn the_signature_decides_about_every_byte() {
    let setting = setting().await;
    let header = setting.header(&head(), &claims());
    assert_eq!(setting.cause(header.trim_end_matches('=')).await, "proven", "padding of the signature is not signed");
    let (signed, signature) = header.rsplit_once('.').unwrap();
    let (first, second) = signed.split_once('.').unwrap();
    let mut other = claims();
    other["sub"] = json!("bob");
    let spliced = format!("{first}.{}.{signature}", PADDED.encode(other.to_string()));
    assert_eq!(setting.cause(&spliced).await, "bad_signature");
    let trimmed = [first.trim_end_matches('='), second.trim_end_matches('=')];
    if trimmed != [first, second] {
        assert_eq!(setting.cause(&format!("{}.{}.{signature}", trimmed[0], trimmed[1])).await, "bad_signature");
    }
    let stranger = Setting { key: TestKey::es256(KID), ..setting };
    assert_eq!(stranger.cause(&stranger.header(&head(), &claims())).await, "bad_signature");
}

#[tokio::test]
async fn what_the_claims_say_must_fit_the_header() {
    let setting = setting().await;
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        setting.header(&head(), &claims)
    };
    assert_eq!(setting.cause(&with("exp", json!(NOW - 30))).await, "expired");
    assert_eq!(setting.cause(&with("iss", json!("https://evil.example"))).await, "unknown_issuer");
    for sub in [json!(null), json!(""), json!("a b"), json!(7)] {
        assert_eq!(setting.cause(&with("sub", sub)).await, "no_subject");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases()))]

    #[test]
    fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in "[A-Za-z0-9_=.-]{0,200}",
        ) {
        _ = Assertion::parse(&bytes);
        _ = Assertion::parse(text.as_bytes());
    }

    #[test]
    fn no_header_makes_it_panic(head in "[\\{\\}\\[\\]\":,a-z0-9.e+-]{0,80}", claims in "\\PC{0,80}") {
        let header = format!("{}.{}.AAAA", PADDED.encode(head), PADDED.encode(claims));
        _ = Assertion::parse(header.as_bytes());
    }
}

#[tokio::test]
async fn the_status_counts_the_keys_that_are_held() {
    let setting = setting().await;
    let status = || {
        let Provider { issuer, kind, keys, outcomes, .. } = setting.verifier.provider();
        assert_eq!((issuer.as_str(), kind), (ARN, "alb"));
        (keys, outcomes.last_ok_ms.is_some(), outcomes.last_error.map(|(_, fault)| fault))
    };
    assert_eq!(status(), (0, false, None));
    assert_eq!(setting.cause(&setting.header(&head(), &claims())).await, "proven");
    assert_eq!(status(), (1, true, None));
    let other = "00000000-0000-4000-8000-000000000000";
    assert_eq!(setting.with_head("kid", json!(other)).await, "unknown_kid");
    assert_eq!(status(), (1, true, Some(FetchFault::Status)));
    let broken = "00000000-0000-4000-8000-000000000001";
    setting.server.answer(&format!("/{broken}"), Answer::ok(b"no key".to_vec()));
    assert_eq!(setting.with_head("kid", json!(broken)).await, "idp_unavailable");
    assert_eq!(status(), (1, true, Some(FetchFault::Malformed)));
}
