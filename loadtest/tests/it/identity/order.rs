//! Which credential counts when there are several, and that none of them counts in another's place.
//!
//! Responsible for the order that the public interface fixes. Must never rest on which verifier happens to come first.

use portcullis_loadtest::client::{Client, Submission};
use serde_json::json;

use super::sight::{Sight, named, who};
use super::terms::{Terms, api_key, with_api_key};
use crate::fixture::{accepted, start};

struct Place {
    name: &'static str,
    good: String,
    bad: String,
    who: &'static str,
}

/// The places a credential is looked for in, the first first.
async fn places(anyone: &Client, terms: &Terms) -> [Place; 4] {
    let opened = with_api_key(anyone, "cookie01").post("/v1/sessions", &json!({})).await.expect("an answer");
    let session = opened.body["token"].as_str().expect("a token");
    let place = |name, good: String, bad: &str, who| Place { name, good, bad: bad.to_owned(), who };
    let random = "A".repeat(43);
    [
        place(
            "authorization",
            format!("Bearer {}", api_key("bearer01")),
            "Bearer nonsense",
            "acme:bearer by api_key as paid",
        ),
        place(
            "x-internal-token",
            terms.internal_token().to_owned(),
            "guessed",
            "svc:sync by internal_token as registered",
        ),
        place(
            "cookie",
            format!("__Host-portcullis_session={session}"),
            &format!("__Host-portcullis_session=gs_{random}"),
            "acme:cookie by session as paid",
        ),
        place("x-api-key", api_key("header01"), "gk_nonsense", "acme:header by api_key as paid"),
    ]
}

fn terms() -> Terms {
    ["bearer", "cookie", "header"]
        .into_iter()
        .fold(Terms::new(), |terms, name| terms.api_key(&format!("{name}01"), &format!("acme:{name}"), "paid"))
}

#[tokio::test]
async fn the_first_credential_presented_decides_whatever_comes_after_it() {
    let terms = terms();
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let anyone = cluster.gateway(0);
    let places = places(&anyone, &terms).await;
    for (rank, first) in places.iter().enumerate() {
        let good = anyone.with_header(first.name, &first.good);
        let bad = anyone.with_header(first.name, &first.bad);
        assert_eq!(who(&good).await, first.who);
        assert_eq!(who(&bad).await, "401", "{} alone", first.name);
        for later in &places[rank + 1..] {
            // Sent before as well as after: the order of the lines means nothing.
            let before = anyone.with_header(later.name, &later.bad).with_header(first.name, &first.good);
            assert_eq!(who(&before).await, first.who, "{} before {}", later.name, first.name);
            assert_eq!(who(&good.with_header(later.name, &later.bad)).await, first.who, "{}", later.name);
            assert_eq!(who(&good.with_header(later.name, &later.good)).await, first.who, "{}", later.name);
            let failed = bad.with_header(later.name, &later.good);
            assert_eq!(who(&failed).await, "401", "{} failed, {} is good", first.name, later.name);
        }
    }
    // The query counts where a browser cannot set a header, and last.
    let owner = with_api_key(&anyone, "header01");
    let task_id = accepted(&owner, &Submission::new("demo", json!(1))).await;
    // The stream of a task that has ended ends.
    assert_eq!(owner.cancel(&task_id).await.expect("an answer").status, 200);
    let status = async |client: &Client, path: &str| client.get(path).await.expect("an answer").status;
    let task = format!("/v1/tasks/{task_id}");
    let [good, bad] = [api_key("header01"), "nonsense".to_owned()].map(|token| format!("?bearer_token={token}"));
    assert_eq!(status(&anyone, &format!("{task}/events{good}")).await, 200);
    assert_eq!(status(&anyone, &format!("{task}/events{bad}")).await, 401);
    assert_eq!(status(&owner, &format!("{task}/events{bad}")).await, 200);
    assert_eq!(status(&anyone, &format!("{task}{good}")).await, 404, "elsewhere it is nothing");
    for place in &places {
        let failed = anyone.with_header(place.name, &place.bad);
        assert_eq!(status(&failed, &format!("{task}/events{good}")).await, 401, "{} failed", place.name);
    }
}

#[tokio::test]
async fn a_credential_counts_in_its_own_place_only() {
    let terms = terms();
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let [_, internal, cookie, key] = places(&anyone, &terms).await;
    let session = cookie.good.split_once('=').expect("a pair").1.to_owned();
    assert_eq!(who(&anyone.bearer(&session)).await, cookie.who, "a session is one as a bearer token too");
    let misplaced = [
        ("authorization", format!("Bearer {}", internal.good)),
        ("authorization", format!("Internal {}", internal.good)),
        ("authorization", format!("Basic {}", key.good)),
        ("authorization", format!("DPoP {}", key.good)),
        ("authorization", format!("DPoP {session}")),
        ("authorization", session.clone()),
        ("authorization", format!("Bearer {}", cluster.admin_token())),
        ("x-internal-token", session.clone()),
        ("x-internal-token", key.good.clone()),
        ("x-internal-token", format!("Bearer {}", internal.good)),
        ("x-api-key", session.clone()),
        ("x-api-key", internal.good.clone()),
        ("cookie", format!("__Host-portcullis_session={}", key.good)),
        ("cookie", format!("__Host-portcullis_session={}", internal.good)),
        ("cookie", "__Host-portcullis_session=dev:paid:ada".to_owned()),
    ];
    let shape = Sight::of(&anyone.bearer("nonsense").get("/v1/sessions/current").await.expect("an answer"));
    for (name, value) in misplaced {
        let answer = anyone.with_header(name, &value).get("/v1/sessions/current").await.expect("an answer");
        assert_eq!(named(&answer), "401", "{name}: {value}");
        if name == "authorization" {
            assert_eq!(Sight::of(&answer), shape, "one shape for every cause: {value}");
        }
    }
}

#[tokio::test]
async fn a_header_of_credentials_that_is_there_twice_is_a_bad_request() {
    let terms = terms();
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let bearer = format!("Bearer {}", api_key("bearer01"));
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("x-internal-token", terms.internal_token()),
        ("x-api-key", &api_key("header01")),
    ] {
        let once = anyone.with_header(name, value);
        assert_ne!(who(&once).await, "400", "{name} once");
        let twice = once.with_header(name, value).get("/v1/sessions/current").await.expect("an answer");
        assert_eq!((twice.status, twice.code(), twice.step()), (400, "invalid_request", "session"), "{name}");
    }
    let proofs = anyone.with_header("authorization", &bearer).with_header("dpop", "a").with_header("dpop", "b");
    assert_eq!(who(&proofs).await, "400");
}

#[tokio::test]
async fn nothing_that_a_caller_says_of_itself_counts() {
    let terms = terms().api_key("lowly001", "acme:lowly", "registered");
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let honest = with_api_key(&cluster.gateway(0), "lowly001");
    let plain = honest.get("/v1/sessions/current").await.expect("an answer");
    let claims = [
        ("x-user-type", "privileged"),
        ("x-session-id", "somebody-else"),
        ("x-principal", "acme:bearer"),
        ("x-tenant", "other"),
        ("x-project", "place"),
        ("x-actor", "root"),
        ("x-agent-id", "root"),
        ("x-gw-user-type", "privileged"),
        ("x-amzn-oidc-identity", "acme:bearer"),
        ("x-amzn-oidc-data", "e30.e30.e30"),
        ("x-forwarded-user", "acme:bearer"),
        ("user-agent", "another/1.0"),
    ];
    let boastful = claims.iter().fold(honest.clone(), |client, (name, value)| client.with_header(name, value));
    for path in ["/v1/sessions/current", "/v1/sessions/current?user_type=privileged&tenant=other&principal=root"] {
        let answer = boastful.get(path).await.expect("an answer");
        assert_eq!(answer.body, plain.body, "{path}");
        for name in ["x-user-type", "x-session-id"] {
            assert_eq!(answer.header(name), plain.header(name), "{name}");
        }
    }
    let decided = boastful.get("/v1/decide").await.expect("an answer");
    let said = ["x-user-type", "x-principal", "x-tenant", "x-actor"].map(|name| decided.header(name));
    let tenant = cluster.scope().tenant().to_owned();
    assert_eq!(said, [Some("registered"), Some("acme:lowly"), Some(tenant.as_str()), Some("")]);
    let body = json!({ "kind": "demo", "payload": 1, "user_type": "privileged" });
    let refused = boastful.post("/v1/tasks", &body).await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (400, "invalid_request"));
}
