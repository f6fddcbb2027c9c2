//! As much is revoked as callers may revoke: what is left is the operators'.
//!
//! Responsible for every way in which somebody who is no operator adds to what is revoked. Must never fill the set to
//! the brim before it has been seen that an operator still can.

use portcullis_loadtest::client::Answer;
use portcullis_loadtest::credentials::Credentials;
use portcullis_loadtest::probe::Probe;
use portcullis_lua::{REVOKED_MOST, REVOKED_MOST_OWN, SessionKey};
use serde_json::{Value, json};

use super::cast::{Cast, boundless, read};
use crate::fixture::{cluster, start, until};

/// Most members that are added by one command.
const STEP: usize = 2000;

/// One more makes one go.
const MOST_SESSIONS: usize = 3;

/// Until so many members are there, for as long as the test.
const FILL: &str = "
  for n = redis.call('ZCARD', KEYS[1]) + 1, tonumber(ARGV[1]) do
    redis.call('ZADD', KEYS[1], ARGV[2], 'c:filler-' .. n)
    redis.call('ZADD', KEYS[2], n, 'c:filler-' .. n)
  end";

async fn fill(cast: &Cast, probe: &Probe, most: usize) {
    let keys = ["revoked", "revoked-order"].map(|name| format!("{}:{name}", cast.cluster.key_prefix()));
    let until_ms = probe.time_ms().await.expect("the time") + 3_600_000;
    // A few at a time, or Redis would keep gateways waiting for so long that they take it for gone.
    for most in (0..most).step_by(STEP).chain([most]) {
        let arguments = [FILL, "2", &keys[0], &keys[1], &most.to_string(), &until_ms.to_string()];
        probe.command("EVAL", arguments).await.expect("filled");
    }
}

#[tokio::test]
async fn nobody_can_keep_the_operators_from_revoking() {
    let policy = json!({ "rate_limits": boundless() });
    let few = json!({ "sessions": { "max_per_principal": MOST_SESSIONS } });
    let credentials = Credentials::new(&few).await.expect("credentials");
    let cluster = start(credentials.believed_by(cluster().policy(policy))).await;
    let cast = Cast { credentials, cluster };
    let (gateway, admin) = (cast.cluster.gateway(0), cast.cluster.admin(0));
    let probe = cast.cluster.probe().await.expect("a connection");
    let (stolen, own, bobs) = (cast.log_in("ada").await, cast.log_in("ada").await, cast.log_in("bob").await);
    let [ada, own, bob] = [&stolen, &own, &bobs].map(|token| gateway.bearer(token));
    for _ in 0..MOST_SESSIONS {
        cast.log_in("carol").await;
    }
    let wish = json!({ "agent": "helper", "scopes": ["tasks:*"], "reason": "helps" });
    let delegated = ada.post("/v1/delegations", &wish).await.expect("an answer");
    let agent = delegated.body["token"].as_str().expect("a token").to_owned();
    let revoke = async |agent: &str| -> Answer {
        let wish = json!({ "kind": "agent", "id": agent, "reason": "stolen" });
        admin.post("/admin/revocations", &wish).await.expect("an answer")
    };
    let revoked = format!("{}:revoked", cast.cluster.key_prefix());
    let total = async || {
        let counted = probe.command("ZCARD", [&revoked]).await.expect("an answer");
        counted.as_usize().expect("a number")
    };
    assert_eq!(revoke("first").await.status, 200);

    fill(&cast, &probe, REVOKED_MOST_OWN).await;
    let left = own.delete("/v1/sessions/current").await.expect("an answer");
    let taken_back = ada.post("/v1/delegations/revoke", &json!({ "chain": agent })).await.expect("an answer");
    // A session that goes for a newer one, and a provider that says less.
    cast.log_in("carol").await;
    let registered = gateway.bearer(&cast.credentials.jwt("bob", &[]).expect("a token"));
    let not_lowered = async || {
        let metrics = admin.get("/metrics").await.expect("an answer").text;
        let line = metrics.lines().find_map(|line| line.strip_prefix("portcullis_lowerings_refused_total "));
        line.unwrap_or_else(|| panic!("{metrics}")).to_owned()
    };
    assert_eq!(not_lowered().await, "0");
    assert_eq!(read(&registered).await, 200);
    assert_eq!(not_lowered().await, "1");
    let seen = (left.status, taken_back.status, total().await);
    assert_eq!(seen, (503, 503, REVOKED_MOST_OWN), "{}{}", left.text, taken_back.text);
    assert_eq!((left.code(), taken_back.code()), ("identity_unavailable", "identity_unavailable"));
    assert_eq!((read(&ada).await, read(&bob).await, read(&gateway.bearer(&agent)).await), (200, 200, 200));

    let stolen = SessionKey::of_token(&stolen);
    let wish = json!({ "kind": "session", "id": stolen.as_str(), "reason": "stolen" });
    let ended = admin.post("/admin/revocations", &wish).await.expect("an answer");
    assert_eq!((ended.status, &ended.body["changed"]), (200, &json!(1)), "{}", ended.text);
    until("it is over", || async { (read(&ada).await == 401).then_some(()) }).await;
    let second = revoke("second").await;
    assert_eq!((second.status, total().await), (200, REVOKED_MOST_OWN + 2), "{}", second.text);

    fill(&cast, &probe, REVOKED_MOST).await;
    let more = revoke("third").await;
    assert_eq!((more.status, total().await), (503, REVOKED_MOST), "{}", more.text);
    assert_eq!(revoke("second").await.body["changed"], Value::from(0), "what is revoked stays so");
}
