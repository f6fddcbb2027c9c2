//! Gateways that have not heard yet: of who was revoked and asks for another credential, of a session that had to go.
//!
//! Responsible for what would outlive a revocation that spares what is issued later, and for sessions that somebody
//! remembers. Must never wait until a gateway has heard.

use portcullis_loadtest::client::Submission;
use portcullis_loadtest::credentials::{Credentials, principal_of};
use portcullis_lua::{Grounds, Member, Revocation, ScopeStore};
use serde_json::json;

use super::cast::{Cast, boundless, read};
use crate::fixture::{cluster, start};
use crate::policy::deaf::cut_pubsub;

/// How often it is tried: within two seconds of some of them the gateway asks by itself.
const TIMES: usize = 12;

async fn revoke_until_now(store: &ScopeStore, member: Member<'_>) {
    let revocation = Revocation { member: member.to_string(), lasts_ms: 3_600_000, spares_later: true };
    let grounds = Grounds { by: "operator", reason: "stolen", max_audit_events: 10_000 };
    store.revoke(&[revocation], grounds).await.expect("an answer");
}

#[tokio::test]
async fn once_a_revocation_has_answered_the_revoked_are_given_no_credential_that_would_outlive_it() {
    let cast = Cast::on(cluster().policy(json!({ "rate_limits": boundless() }))).await;
    let (store, probe) = (cast.cluster.store().await.expect("a store"), cast.cluster.probe().await.expect("a probe"));
    cut_pubsub(&probe).await;
    let wish = json!({ "agent": "helper", "scopes": ["tasks:submit:*"], "reason": "helps" });
    for number in 0..TIMES {
        let subject = format!("user{number}");
        let stolen = cast.credentials.jwt(&subject, &["paid"]).expect("a token");
        let client = cast.cluster.gateway(0).bearer(&stolen);
        assert_eq!(read(&client).await, 200);
        revoke_until_now(&store, Member::Principal(&principal_of(&subject))).await;
        let (route, body) = [("/v1/sessions", json!({})), ("/v1/delegations", wish.clone())][number % 2].clone();
        let answer = client.post(route, &body).await.expect("an answer");
        assert_eq!(answer.status, 401, "{route}: {}", answer.text);
        let bob = cast.cluster.gateway(0).bearer(&cast.credentials.jwt("bob", &["paid"]).expect("a token"));
        let answer = bob.post(route, &body).await.expect("an answer");
        assert_eq!(answer.status, 201, "others are: {}", answer.text);
    }
}

#[tokio::test]
async fn a_session_that_has_to_go_for_newer_ones_is_let_in_by_nobody_who_remembers_it() {
    let credentials = Credentials::new(&json!({ "sessions": { "max_per_principal": 2 } })).await.expect("credentials");
    let builder = cluster().gateways(2).policy(json!({ "rate_limits": boundless() }));
    let cluster = start(credentials.believed_by(builder)).await;
    let mut cast = Cast { credentials, cluster };
    cast.cluster.stand_in(1000).await.expect("capacity");
    let sessions = [cast.log_in("ada").await, cast.log_in("ada").await];
    let task = Submission::new("demo", json!(1));
    let submit = async |gateway: usize, session: &str| {
        cast.cluster.gateway(gateway).bearer(session).submit(&task).await.expect("an answer").status
    };
    for gateway in 0..2 {
        assert_eq!((submit(gateway, &sessions[0]).await, submit(gateway, &sessions[1]).await), (202, 202));
    }
    let third = cast.log_in("ada").await;
    for gateway in 0..2 {
        assert_eq!(submit(gateway, &sessions[0]).await, 401, "it ends first");
        assert_eq!((submit(gateway, &sessions[1]).await, submit(gateway, &third).await), (202, 202));
    }
}
