//! Who gets in, how far, and who is kept out before being heard.

use portcullis_config::{Scope, UserType};
use portcullis_lua::{RevocationView, RevokedSet};
use sha2::{Digest, Sha256};

use super::*;
use crate::identity::api_key::{ApiKey, ApiKeys};

/// A key of this id and everything it was given for, of a caller of this type in this scope.
fn key(id: &str, user_type: &str, scopes: &[&str], scope: Option<&str>) -> ApiKey {
    ApiKey {
        id: id.to_owned(),
        digest: Sha256::digest(text_of(id)).into(),
        owner: "ada".to_owned(),
        user_type: UserType::new(user_type).unwrap(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        scope: scope.map(|tenant| Scope::new(tenant, "demo").unwrap()),
        disabled: false,
    }
}

/// The whole key of this id.
fn text_of(id: &str) -> String {
    format!("gk_{id}_{}", "0".repeat(43))
}

async fn with_keys(keys: impl IntoIterator<Item = ApiKey>) -> Fixture {
    Fixture::of(|options| options.identity.document.api_keys = ApiKeys::new(keys)).await
}

impl Fixture {
    /// Asks with the key of this id, as if Redis had just said that nothing is revoked.
    async fn ask_as(&self, id: &str, method: &str, target: &str, body: &str) -> Answered {
        let nothing = RevocationView::of(RevokedSet::default());
        self.gateway.scopes().default_scope().revocations().assume(nothing);
        self.ask_unheard(id, method, target, body).await
    }

    async fn ask_unheard(&self, id: &str, method: &str, target: &str, body: &str) -> Answered {
        self.request(method, target, &format!("X-API-Key: {}\r\n", text_of(id)), body).await
    }
}

#[tokio::test]
async fn a_privileged_caller_with_the_scope_admin_operates_its_own_scope_and_sees_no_other() {
    let fixture = with_keys([key("operator", "privileged", &["admin"], Some("acme"))]).await;
    for target in ["/admin/gateway/config", "/admin/gateway/config?tenant=acme&project=demo"] {
        let answer = fixture.ask_as("operator", "GET", target, "").await;
        assert_eq!((answer.status, answer.json()["scope"]["tenant"].clone()), (200, json!("acme")), "{target}");
    }
    let missing = fixture.ask_as("operator", "GET", "/no/such/route", "").await;
    let foreign = [
        ("GET", "/metrics", ""),
        ("GET", "/admin/gateway/config?tenant=globex", ""),
        ("GET", "/admin/gateway/config?project=other", ""),
        ("GET", "/admin/audit/export?tenant=globex", ""),
        ("POST", "/admin/gateway/update-config", r#"{"tenant": "globex", "queue": {"lease_ms": 20000}}"#),
        ("POST", "/admin/gateway/validate-config", r#"{"tenant": "globex", "queue": {"lease_ms": "soon"}}"#),
        ("POST", "/admin/revocations", r#"{"tenant": "globex", "kind": "principal", "id": "ada", "reason": "r"}"#),
        ("POST", "/admin/revocations/acknowledge", r#"{"project": "other"}"#),
    ];
    for (method, target, body) in foreign {
        let answer = fixture.ask_as("operator", method, target, body).await;
        assert_eq!(answer.status, 404, "{target}");
        let without_id = |answer: &Answered| {
            let mut body = answer.json();
            body["request_id"] = Value::Null;
            body
        };
        assert_eq!(without_id(&answer), without_id(&missing), "{target}");
        assert_eq!(answer.body.len(), missing.body.len(), "{target}");
    }
}

#[tokio::test]
async fn what_belongs_to_the_process_is_for_the_bearer_of_the_token() {
    let fixture = with_keys([key("operator", "privileged", &["admin"], None)]).await;
    let shown = fixture.ask_as("operator", "GET", "/monitoring/system", "").await.json();
    assert_eq!((&shown["local_refusals"], &shown["latencies"]["admit"]), (&Value::Null, &Value::Null), "{shown}");
    let shown = fixture.get("/monitoring/system").await.json();
    assert!(shown["local_refusals"].is_object() && shown["latencies"]["admit"]["calls"].is_u64(), "{shown}");
}

#[tokio::test]
async fn nobody_else_operates() {
    let keys = [
        key("unpaired", "privileged", &["tasks:read"], None),
        key("cheaper1", "paid", &["admin"], None),
        ApiKey { disabled: true, ..key("disabled", "privileged", &["admin"], None) },
    ];
    let fixture = with_keys(keys).await;
    for id in ["unpaired", "cheaper1", "disabled", "unknown1"] {
        let answer = fixture.ask_as(id, "GET", "/admin/gateway/config", "").await;
        assert_eq!((answer.status, answer.code()), (401, json!("unauthenticated")), "{id}");
    }
    let dev = fixture.request("GET", "/admin/gateway/config", "Authorization: Bearer dev:privileged:ada\r\n", "").await;
    assert_eq!(dev.status, 401, "whoever reaches loopback could be it");
    // The admin token is not a credential of a caller, in whatever place.
    for header in ["X-API-Key", "X-Internal-Token", "Cookie: __Host-portcullis_session=x; a"] {
        let answer = fixture.request("GET", "/admin/queues", &format!("{header}: {TOKEN}\r\n"), "").await;
        assert_eq!(answer.status, 401, "{header}");
    }
}

#[tokio::test]
async fn an_operator_of_whom_it_is_not_known_whether_he_was_revoked_is_not_one() {
    let fixture = with_keys([key("operator", "privileged", &["admin"], None)]).await;
    let answer = fixture.ask_unheard("operator", "GET", "/admin/gateway/config", "").await;
    assert_eq!((answer.status, answer.code()), (503, json!("identity_unavailable")));
    assert_eq!(fixture.get("/admin/gateway/config").await.status, 200, "the token of the listener needs no Redis");
}

#[tokio::test]
async fn a_change_by_a_caller_is_not_made_uncounted() {
    let fixture = with_keys([key("operator", "privileged", &["admin"], None)]).await;
    let body = json!({"kind": "principal", "id": "ada", "reason": "left"}).to_string();
    let answer = fixture.ask_as("operator", "POST", "/admin/revocations", &body).await;
    // Who counts is Redis, which is not there.
    assert_eq!((answer.status, answer.json()["step"].clone()), (503, json!("circuit_breaker")));
}

#[tokio::test]
async fn an_address_that_is_not_listed_is_refused_before_its_token_is_looked_at() {
    let elsewhere = "192.0.2.0/24".parse().unwrap();
    let fixture = Fixture::of(|options| options.identity.document.ip_allow.admin = vec![elsewhere]).await;
    for target in ["/admin/queues", "/no/such/route"] {
        let answer = fixture.get(target).await;
        assert_eq!((answer.status, answer.code()), (403, json!("ip_refused")), "{target}");
    }
    assert_eq!(fixture.request("GET", "/healthz", "", "").await.status, 200);
    let here = "127.0.0.0/8".parse().unwrap();
    let fixture = Fixture::of(|options| {
        options.identity.document.ip_allow.admin = vec![here];
        // The list of the public listener is not that of this one.
        options.identity.document.ip_allow.public = vec![elsewhere];
        options.identity.document.api_keys = ApiKeys::new([key("operator", "privileged", &["admin"], None)]);
    });
    let fixture = fixture.await;
    assert_eq!(fixture.get("/admin/gateway/config").await.status, 200);
    assert_eq!(fixture.ask_as("operator", "GET", "/admin/gateway/config", "").await.status, 200);
}

#[tokio::test]
async fn whoever_keeps_guessing_the_token_is_not_heard_even_when_right() {
    let fixture = Fixture::of(|options| options.identity.document.failed_attempts_per_minute = 3).await;
    for guess in 0..3 {
        let headers = format!("Authorization: Bearer guess-{guess}-0123456789abcdef0123456789\r\n");
        assert_eq!(fixture.request("GET", "/admin/queues", &headers, "").await.status, 401);
    }
    let answer = fixture.get("/admin/gateway/config").await;
    assert_eq!((answer.status, answer.code()), (429, json!("rate_limit")));
    assert!(answer.head.contains("\r\nretry-after: "), "{}", answer.head);
    assert_eq!(fixture.request("GET", "/healthz", "", "").await.status, 200);
}

#[tokio::test]
async fn who_shows_nothing_or_the_right_token_uses_up_no_attempts() {
    let fixture = Fixture::of(|options| options.identity.document.failed_attempts_per_minute = 2).await;
    for _ in 0..4 {
        assert_eq!(fixture.request("GET", "/admin/queues", "", "").await.status, 401);
        assert_eq!(fixture.get("/admin/gateway/config").await.status, 200);
    }
}

#[tokio::test]
async fn a_revocation_with_faults_is_refused_with_all_of_them() {
    let fixture = Fixture::start().await;
    let answer = fixture.post("/admin/revocations?limit=1", &json!({"kind": "user", "tenant": "a b"})).await;
    assert_eq!(
        (answer.status, answer.paths()),
        (400, ["limit", "kind", "id", "reason", "tenant"].map(str::to_owned).to_vec())
    );
    let answer = fixture.post("/admin/revocations/acknowledge", &json!({"kind": "agent"})).await;
    assert_eq!((answer.status, answer.paths()), (400, ["reason", "kind"].map(str::to_owned).to_vec()));
    let secret = format!("gs_{}", "canary0".repeat(6));
    let answer = fixture.post("/admin/revocations", &json!({"kind": "session", "id": secret, "reason": "r"})).await;
    assert_eq!((answer.status, answer.paths()), (400, vec!["id".to_owned()]));
    assert!(!answer.body.contains("canary"), "{}", answer.body);
}
