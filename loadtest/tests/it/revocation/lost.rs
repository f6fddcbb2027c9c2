//! Redis loses revocations: nobody knows who else should be dead, and so no agent is let act until an operator has
//! looked.
//!
//! Responsible for both ways to lose them: all data, and the newest. Must never let an agent through in between.

use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::probe::Probe;
use portcullis_lua::Member;
use serde_json::json;

use super::cast::{Cast, boundless, read, revoke};
use crate::fixture::{cluster, until};

const GATEWAYS: usize = 2;

struct Agents {
    /// Of the one that is alive.
    token: String,
    alive: Vec<Client>,
    revoked: Vec<Client>,
    person: Vec<Client>,
}

async fn start() -> (Cast, Agents) {
    let mut cast = Cast::on(cluster().gateways(GATEWAYS).policy(json!({ "rate_limits": boundless() }))).await;
    cast.cluster.stand_in(1000).await.expect("capacity");
    let [alive, revoked] = ["ada", "eve"].map(|principal| cast.crew(principal).reading.presented().to_owned());
    let person = cast.credentials.jwt("carol", &["paid"]).expect("a token");
    let everywhere = |token: &str| (0..GATEWAYS).map(|index| cast.cluster.gateway(index).bearer(token)).collect();
    let agents = Agents {
        token: alive.clone(),
        alive: everywhere(&alive),
        revoked: everywhere(&revoked),
        person: everywhere(&person),
    };
    (cast, agents)
}

async fn submit(client: &Client) -> (u16, String) {
    let answer = client.submit(&Submission::new("demo", json!(1))).await.expect("an answer");
    (answer.status, answer.code().to_owned())
}

/// Revokes somebody, and waits until every gateway holds it.
async fn revoke_everywhere(cast: &Cast, agents: &Agents, principal: &str, told: &[Client]) {
    let store = cast.cluster.store().await.expect("a store");
    revoke(&store, Member::Principal(principal)).await;
    for client in told {
        until("it is heard", || async { (read(client).await == 401).then_some(()) }).await;
    }
    for client in &agents.alive {
        assert_eq!((read(client).await, submit(client).await.0), (200, 202));
    }
}

/// No agent is admitted from now on, and soon none is answered; people are.
async fn unknown_who_lives(agents: &Agents) {
    for client in &agents.alive {
        let (status, code) = submit(client).await;
        assert_eq!((status, code.as_str()), (503, "store_unavailable"));
        until("it is not known whether it lives", || async { (read(client).await == 503).then_some(()) }).await;
        assert_eq!(submit(client).await.0, 503);
    }
    for client in &agents.revoked {
        assert_eq!((read(client).await, submit(client).await.0), (401, 401), "what was known is still known");
    }
    for client in &agents.person {
        assert_eq!(read(client).await, 200, "whom a provider vouches for lives");
    }
}

async fn acknowledge(cast: &Cast, agents: &Agents) {
    let reason = json!({ "reason": "looked" });
    let noted = cast.cluster.admin(0).post("/admin/revocations/acknowledge", &reason).await.expect("an answer");
    assert_eq!((noted.status, &noted.body["lost"]), (200, &json!(false)), "{}", noted.text);
    for client in &agents.alive {
        until("agents act again", || async { (submit(client).await.0 == 202).then_some(()) }).await;
        until("agents read again", || async { (read(client).await == 200).then_some(()) }).await;
    }
}

#[tokio::test]
async fn after_a_loss_of_everything_no_agent_acts_until_it_is_acknowledged() {
    let (mut cast, mut agents) = start().await;
    revoke_everywhere(&cast, &agents, "eve", &agents.revoked).await;
    let probe = cast.cluster.probe().await.expect("a connection");
    probe.command("FLUSHALL", []).await.expect("emptied");
    unknown_who_lives(&agents).await;
    // Who was not there hears of it from those who were.
    let newcomer = cast.cluster.add_gateway().await.expect("a gateway");
    agents.alive.push(newcomer.bearer(&agents.token));
    let newest = agents.alive.last().expect("the one");
    until("it has heard", || async { (submit(newest).await.0 == 503).then_some(()) }).await;
    assert_eq!((submit(newest).await.0, read(newest).await), (503, 503));
    acknowledge(&cast, &agents).await;
}

/// The older copy comes back, whole and at once: other keys of the scope are gone.
const RESTORE: &str = "
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('DEL', key) end
for _, kept in ipairs(redis.call('KEYS', 'kept:' .. ARGV[1] .. '*')) do
  redis.call('RENAME', kept, string.sub(kept, 6))
end
return 'restored'";

/// Copies the keys of the scope.
async fn keep(probe: &Probe, prefix: &str) {
    for key in probe.keys(prefix).await.expect("keys") {
        probe.command("COPY", [&key, &format!("kept:{key}")]).await.expect("a copy");
    }
}

#[tokio::test]
async fn data_from_before_a_revocation_are_a_loss_too() {
    let (cast, agents) = start().await;
    revoke_everywhere(&cast, &agents, "mallory", &[]).await;
    let (probe, prefix) = (cast.cluster.probe().await.expect("a connection"), cast.cluster.key_prefix());
    keep(&probe, &prefix).await;
    revoke_everywhere(&cast, &agents, "eve", &agents.revoked).await;
    probe.command("EVAL", [RESTORE, "0", &prefix]).await.expect("restored");
    unknown_who_lives(&agents).await;
    acknowledge(&cast, &agents).await;
}
