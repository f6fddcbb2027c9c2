//! Every route of both listeners, with everything that is not a credential for it.
//!
//! Responsible for no route having been forgotten. Must never know a route by itself.

use portcullis_loadtest::client::{Client, Submission};
use portcullis_lua::{Grounds, Member, Revocation, SessionKey};
use serde_json::json;

use super::agent;
use super::key::{Key, now_seconds};
use super::key_server::KeyServer;
use super::routes::{Route, is_public, routes_of};
use super::terms::{RESOURCE, Terms, api_key, resource_of, root_head, with_api_key};
use crate::fixture::{Fixture, accepted, start, until};

/// What is presented: a header and its value.
type Shown = (&'static str, String);

fn bearer(token: &str) -> Shown {
    ("authorization", format!("Bearer {token}"))
}

fn malformed() -> Vec<Shown> {
    let random = "A".repeat(43);
    let mut shown: Vec<Shown> =
        ["nonsense", "gs_short", "gk_", "a~b~c", "eyJhbGciOiJub25lIn0.e30.", "dev:", "dev:nosuchtype:ada", ""]
            .into_iter()
            .map(bearer)
            .collect();
    shown.extend([
        bearer(&format!("gs_{random}")),
        bearer(&format!("gk_unknown1_{random}")),
        ("authorization", "Basic YWRhOmFkYQ==".to_owned()),
        ("authorization", "Bearer".to_owned()),
        ("authorization", "DPoP nonsense".to_owned()),
        ("x-internal-token", "guessed-guessed-guessed-guessed-guessed".to_owned()),
        ("x-internal-token", String::new()),
        ("x-api-key", "guessed".to_owned()),
        ("x-api-key", String::new()),
        ("cookie", format!("__Host-portcullis_session=gs_{random}")),
        ("cookie", "__Host-portcullis_session=".to_owned()),
    ]);
    shown
}

fn expired_or_foreign(terms: &Terms, issuer: &Key, cluster: &Fixture) -> Vec<Shown> {
    let own = cluster.scope().to_string();
    let foreign_resource = resource_of("other/place");
    let foreign_root = |scope: &str, audience: &str| {
        let claims = terms.root_of(scope, audience, None, now_seconds());
        bearer(&terms.root().sign(&root_head(), &claims))
    };
    let old = now_seconds() - 7200;
    let claims = json!({ "iss": "https://one.test", "sub": "ada", "aud": "portcullis", "iat": old, "exp": old + 60 });
    vec![
        bearer(&terms.expired_chain(&own, &resource_of(&own))),
        bearer(&issuer.sign(&json!({ "alg": "EdDSA", "typ": "JWT", "kid": "one" }), &claims)),
        foreign_root(&own, &foreign_resource),
        foreign_root("other/place", &resource_of(&own)),
        foreign_root(&own, RESOURCE),
    ]
}

/// A session, a delegation and an API key that were good once.
async fn revoked(cluster: &Fixture) -> Vec<Shown> {
    let caller = with_api_key(&cluster.gateway(0), "revoked1");
    let session = caller.post("/v1/sessions", &json!({})).await.expect("an answer");
    let session = session.body["token"].as_str().expect("a token").to_owned();
    let chain = agent::mint(&caller, "helper", &["*"], json!({ "max_depth": 1 })).await;
    let shown = vec![bearer(&session), bearer(chain.presented()), ("x-api-key", api_key("revoked1"))];
    for (name, value) in &shown {
        let answer = cluster.gateway(0).with_header(name, value).limits().await.expect("an answer");
        assert_eq!(answer.status, 200, "{name}: {value}");
    }
    let key = SessionKey::of_token(&session);
    let members = [Member::Session(key.as_str()), Member::Token(chain.leaf().hash()), Member::Token("revoked1")];
    let revocations =
        members.map(|member| Revocation { member: member.to_string(), lasts_ms: 3_600_000, spares_later: false });
    let grounds = Grounds { by: "test", reason: "stolen", max_audit_events: 100 };
    cluster.store().await.expect("a store").revoke(&revocations, grounds).await.expect("an answer");
    shown
}

/// A gateway that serves nobody without a credential, once it is ready; its two listeners, nobody's yet.
async fn closed_gateway(cluster: &mut Fixture, terms: Terms) -> (Client, Client) {
    let terms = terms.section("anonymous", json!({ "enabled": false }));
    // Each thing that is presented comes from an address of its own, or the address would be refused in the end.
    cluster.set_env("TRUSTED_PROXY_COUNT", "1");
    for (name, value) in terms.variables() {
        cluster.set_env(name, &value);
    }
    let public = cluster.add_gateway().await.expect("a gateway");
    let good = with_api_key(&public, "ownerkey");
    until("it is ready", || async { (good.limits().await.ok()?.status == 200).then_some(()) }).await;
    (public, cluster.admin_listener(1))
}

async fn assert_closed(listener: &Client, routes: &[Route], shown: Option<&Shown>, task_id: &str) {
    let client = shown.map_or_else(|| listener.clone(), |(name, value)| listener.with_header(name, value));
    for route in routes.iter().filter(|route| !is_public(route)) {
        let answer = route.ask(&client, task_id).await;
        assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{route:?} with {shown:?}");
    }
}

#[tokio::test]
async fn no_route_lets_in_who_has_no_credential_for_it() {
    let issuer = Key::generate();
    let keys = KeyServer::start(vec![issuer.published("one")]).await;
    let terms = Terms::new()
        .api_key("ownerkey", "acme:owner", "privileged")
        .api_key("revoked1", "acme:gone", "privileged")
        .api_key_with("narrow01", "acme:owner", "privileged", json!({ "scopes": ["reports:read"] }))
        .api_key_with("nothing1", "acme:owner", "privileged", json!({ "scopes": [] }))
        .issuer("https://one.test", "one:", keys.url(), json!({}));
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let owner = with_api_key(&cluster.gateway(0), "ownerkey");
    let task_id = accepted(&owner, &Submission::new("demo", json!(1))).await;
    let mut worthless = malformed();
    worthless.extend(expired_or_foreign(&terms, &issuer, &cluster));
    worthless.extend(revoked(&cluster).await);
    let (public, admin) = closed_gateway(&mut cluster, terms).await;

    let public_routes = routes_of(&with_api_key(&public, "ownerkey")).await;
    let admin_routes = routes_of(&cluster.admin(1)).await;
    for (listener, routes) in [(&public, &public_routes), (&admin, &admin_routes)] {
        for route in routes.iter().filter(|route| is_public(route)) {
            // The description of the resource stands on the public listener alone.
            let elsewhere = route.path.starts_with("/.well-known") && listener.base() == admin.base();
            let expected = if elsewhere { 401 } else { 200 };
            assert_eq!(route.ask(listener, &task_id).await.status, expected, "{route:?}");
        }
        assert_closed(listener, routes, None, &task_id).await;
        for (index, shown) in worthless.iter().enumerate() {
            let from = listener.with_header("x-forwarded-for", &format!("198.51.100.{index}"));
            assert_closed(&from, routes, Some(shown), &task_id).await;
        }
    }
    // The token of the admin listener is worth nothing on the public one, and a caller is nobody on the admin one.
    assert_closed(&public, &public_routes, Some(&bearer(cluster.admin_token())), &task_id).await;
    for id in ["narrow01", "nothing1"] {
        let narrow = ("x-api-key", api_key(id));
        assert_closed(&admin, &admin_routes, Some(&narrow), &task_id).await;
        assert_narrow(&with_api_key(&public, id), &public_routes, &task_id).await;
    }
}

/// A credential that was given for something else entirely, or for nothing, of the very owner of the task.
async fn assert_narrow(narrow: &Client, routes: &[Route], task_id: &str) {
    for route in routes.iter().filter(|route| !is_public(route)) {
        let answer = route.ask(narrow, task_id).await;
        let expected = match (route.method, route.path.as_str()) {
            ("GET", "/openapi.json" | "/v1/sessions/current") => (200, ""),
            ("POST", "/v1/tasks" | "/v1/sessions" | "/v1/delegations" | "/v1/decide")
            | ("GET", "/v1/limits" | "/v1/decide") => (403, "insufficient_scope"),
            _ => (404, "not_found"),
        };
        assert_eq!((answer.status, answer.code()), expected, "{route:?}: {}", answer.text);
    }
}
