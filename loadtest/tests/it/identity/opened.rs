//! Opaque sessions: opened once, kept as a digest, over when they are over.
//!
//! Responsible for what a session's bearer and a thief of Redis can do with one. Must never wait for a session to
//! expire: its record is aged instead.

use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_lua::SessionKey;
use serde_json::{Value, json};

use super::agent::mint;
use super::sight::{Sight, who};
use super::terms::{Terms, api_key, with_api_key};
use crate::fixture::{Fixture, accepted, start, until};

const ADA: &str = "acme:ada by session as paid";

fn terms() -> Terms {
    Terms::new().api_key("adaskey1", "acme:ada", "paid")
}

async fn open(client: &Client, body: &Value) -> Answer {
    client.post("/v1/sessions", body).await.expect("an answer")
}

/// The token of a new session of ada's.
async fn opened(anyone: &Client) -> String {
    let answer = open(&with_api_key(anyone, "adaskey1"), &json!({})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body["token"].as_str().expect("a token").to_owned()
}

fn by_cookie(client: &Client, token: &str) -> Client {
    client.with_header("cookie", &format!("theme=dark; __Host-portcullis_session={token}"))
}

/// The record of a session in Redis.
async fn record(cluster: &Fixture, token: &str) -> String {
    let probe = cluster.probe().await.expect("a connection");
    let digest = SessionKey::of_token(token);
    let keys = probe.keys(&cluster.key_prefix()).await.expect("keys");
    let found: Vec<String> = keys.into_iter().filter(|key| key.ends_with(digest.as_str())).collect();
    let [key] = &found[..] else { panic!("one record, not {found:?}") };
    key.clone()
}

#[tokio::test]
async fn a_session_is_shown_once_and_kept_as_a_digest() {
    let cluster = start(terms().cluster()).await;
    let anyone = cluster.gateway(0);
    let answer = open(&with_api_key(&anyone, "adaskey1"), &json!({ "client_type": "web", "label": "Ada's" })).await;
    assert_eq!((answer.status, answer.header("cache-control")), (201, Some("no-store")), "{}", answer.text);
    let token = answer.body["token"].as_str().expect("a token");
    let random = token.strip_prefix("gs_").expect("its prefix");
    assert!(random.len() == 43 && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    let cookie = answer.header("set-cookie").expect("a cookie");
    let (pair, attributes) = cookie.split_once("; ").expect("attributes");
    assert_eq!(pair, format!("__Host-portcullis_session={token}"));
    let mut attributes: Vec<&str> = attributes.split("; ").collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Max-Age=2592000", "Path=/", "SameSite=Lax", "Secure"]);
    assert_ne!(token, opened(&anyone).await, "no two are the same");

    let (cookie, bearer) = (by_cookie(&anyone, token), anyone.bearer(token));
    assert_eq!([who(&cookie).await, who(&bearer).await], [ADA, ADA]);
    for client in [cookie, bearer] {
        let current = client.get("/v1/sessions/current").await.expect("an answer");
        assert_eq!(current.body["session_id"], answer.body["session_id"]);
        assert!(!current.text.contains(random), "shown once");
        assert!(current.header("set-cookie").is_none());
    }
    // Both are one record.
    record(&cluster, token).await;
}

#[tokio::test]
async fn no_credential_can_be_found_in_redis() {
    let terms = terms();
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let anyone = cluster.gateway(0);
    let ada = with_api_key(&anyone, "adaskey1");
    let session = opened(&anyone).await;
    let chain = mint(&ada, "helper", &["*"], json!({ "max_depth": 1 })).await;
    let bearers = [
        ada.clone(),
        anyone.with_header("x-internal-token", terms.internal_token()),
        anyone.bearer(&session),
        by_cookie(&anyone, &session),
        anyone.bearer(chain.presented()),
    ];
    for client in &bearers {
        accepted(client, &Submission::new("demo", json!("in plain sight"))).await;
        assert_eq!(client.limits().await.expect("an answer").status, 200);
    }
    let probe = cluster.probe().await.expect("a connection");
    let dump = until("the decisions are written", || async {
        let dump = probe.dump("").await.ok()?;
        let text = dump.iter().map(|(key, content)| format!("{key} {content}")).collect::<Vec<_>>().join("\n");
        text.contains("in plain sight").then_some(text)
    })
    .await;
    let digest = SessionKey::of_token(&session);
    assert!(dump.contains(digest.as_str()), "the digest is what is kept");
    let signature = chain.presented().rsplit_once('.').expect("a signature").1;
    for secret in [&session["gs_".len()..], &api_key("adaskey1"), terms.internal_token(), chain.presented(), signature]
    {
        assert!(!dump.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_session_that_was_left_is_over_at_every_gateway() {
    let mut cluster = start(terms().cluster().gateways(2)).await;
    cluster.stand_in(100).await.expect("capacity");
    let [here, there] = [cluster.gateway(0), cluster.gateway(1)];
    let (token, other) = (opened(&here).await, opened(&here).await);
    for client in [&here, &there] {
        // Both gateways remember it from now on.
        assert_eq!(who(&client.bearer(&token)).await, ADA);
        assert_eq!(who(&client.bearer(&other)).await, ADA);
    }
    let left = by_cookie(&here, &token).delete("/v1/sessions/current").await.expect("an answer");
    assert_eq!(left.status, 204, "{}", left.text);
    let cookie = left.header("set-cookie").expect("the cookie is taken away");
    assert!(cookie.starts_with("__Host-portcullis_session=;") && cookie.contains("Max-Age=0"), "{cookie}");
    // Nobody is admitted with it from the moment of the answer, and where Redis is not asked it dies soon after.
    let refused = there.bearer(&token).submit(&Submission::new("demo", json!(1))).await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (401, "unauthenticated"), "{}", refused.text);
    assert_eq!(who(&here.bearer(&token)).await, "401");
    until("the other gateway hears of it", || async { (who(&there.bearer(&token)).await == "401").then_some(()) })
        .await;
    assert_eq!([who(&here.bearer(&other)).await, who(&there.bearer(&other)).await], [ADA, ADA], "only that one");
    let again = here.bearer(&token).delete("/v1/sessions/current").await.expect("an answer");
    assert_eq!(again.status, 401);
    let keyed = with_api_key(&here, "adaskey1").delete("/v1/sessions/current").await.expect("an answer");
    assert_eq!((keyed.status, keyed.code()), (404, "not_found"), "an API key has no session to leave");
}

#[tokio::test]
async fn unknown_expired_and_ended_sessions_are_one() {
    let terms = terms().section("sessions", json!({ "max_age_seconds": 3600, "max_per_principal": 3 }));
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let (expired, displaced) = (opened(&anyone).await, opened(&anyone).await);
    let probe = cluster.probe().await.expect("a connection");
    let key = record(&cluster, &expired).await;
    let fresh: u64 = probe.command("HGET", [&key, "expires"]).await.expect("an answer").convert().expect("a number");
    let now = probe.time_ms().await.expect("the time");
    assert!((now + 3_500_000..=now + 3_600_000).contains(&fresh), "{fresh} is an hour from {now}");
    probe.command("HSET", [&key, "expires", &(now - 1).to_string()]).await.expect("an answer");
    let lifetime: i64 = probe.command("PTTL", [&key]).await.expect("an answer").convert().expect("a number");
    assert!(lifetime > 0, "the record is still there");
    let sight = async |token: &str| {
        let answer = anyone.bearer(token).get("/v1/sessions/current").await.expect("an answer");
        assert_eq!(answer.status, 401, "{token}");
        Sight::of(&answer)
    };
    let expected = sight(&format!("gs_{}", "A".repeat(43))).await;
    assert_eq!(sight(&expired).await, expected);
    // With a fourth the first is over, and with a fifth the second.
    let kept = [opened(&anyone).await, opened(&anyone).await, opened(&anyone).await];
    assert_eq!(sight(&displaced).await, expected);
    probe.command("DEL", [&record(&cluster, &kept[0]).await]).await.expect("an answer");
    assert_eq!(sight(&kept[0]).await, expected);
    for token in &kept[1..] {
        assert_eq!(who(&anyone.bearer(token)).await, ADA);
    }
}

#[tokio::test]
async fn being_seen_is_written_once_a_minute_whatever_comes() {
    let cluster = start(terms().cluster().gateways(2)).await;
    let token = opened(&cluster.gateway(0)).await;
    let key = record(&cluster, &token).await;
    let probe = cluster.probe().await.expect("a connection");
    let seen = async || -> u64 {
        probe.command("HGET", [&key, "seen"]).await.expect("an answer").convert().expect("a number")
    };
    let long_ago = probe.time_ms().await.expect("the time") - 120_000;
    probe.command("HSET", [&key, "seen", &long_ago.to_string()]).await.expect("an answer");
    assert_eq!(who(&cluster.gateway(0).bearer(&token)).await, ADA);
    let written = seen().await;
    assert!(written > long_ago, "it was seen just now");
    let [here, there] = [0, 1].map(|index| cluster.gateway(index).bearer(&token));
    let requests = (0..50).flat_map(|_| [who(&here), who(&there)]);
    assert!(futures_util::future::join_all(requests).await.iter().all(|name| name == ADA));
    let store = cluster.store().await.expect("a store");
    store.recognize(&SessionKey::of_token(&token)).await.expect("an answer");
    assert_eq!(seen().await, written, "a hundred requests within the minute write nothing");
}

#[tokio::test]
async fn a_session_dies_with_the_key_it_was_opened_with_and_no_other_does() {
    let terms = terms().api_key("adaskey2", "acme:ada", "paid");
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let stolen = opened(&anyone).await;
    let own = open(&with_api_key(&anyone, "adaskey2"), &json!({})).await;
    let own = own.body["token"].as_str().expect("a token").to_owned();
    assert_eq!([who(&anyone.bearer(&stolen)).await, who(&anyone.bearer(&own)).await], [ADA, ADA]);
    let wish = json!({ "kind": "token", "id": "adaskey1", "reason": "stolen" });
    let revoked = cluster.admin(0).post("/admin/revocations", &wish).await.expect("an answer");
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    assert_eq!(who(&with_api_key(&anyone, "adaskey1")).await, "401");
    assert_eq!(who(&anyone.bearer(&stolen)).await, "401", "whoever stole the key may have opened it");
    assert_eq!(who(&anyone.bearer(&own)).await, ADA);
}

#[tokio::test]
async fn only_who_is_vouched_for_gets_a_session() {
    let cluster = start(terms().cluster()).await;
    let anyone = cluster.gateway(0);
    let ada = with_api_key(&anyone, "adaskey1");
    let session = opened(&anyone).await;
    let agent = mint(&ada, "helper", &["*"], json!({ "max_depth": 1 })).await;
    for (client, expected) in [
        (anyone.clone(), (401, "unauthenticated")),
        (anyone.bearer(&session), (403, "forbidden")),
        (by_cookie(&anyone, &session), (403, "forbidden")),
        (anyone.bearer(agent.presented()), (403, "forbidden")),
    ] {
        let answer = open(&client, &json!({})).await;
        assert_eq!((answer.status, answer.code()), expected, "{}", answer.text);
        assert!(answer.header("set-cookie").is_none());
    }
    let faulty = open(&ada, &json!({ "user_type": "privileged", "principal": "root" })).await;
    assert_eq!((faulty.status, faulty.code()), (400, "invalid_request"));
}
