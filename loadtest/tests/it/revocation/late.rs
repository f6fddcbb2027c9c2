//! Credentials that are asked for with a credential that has just been revoked, of a gateway that has not heard of it.
//!
//! Responsible for what would outlive a revocation that spares what is issued later: sessions and delegations. Must
//! never let the gateway hear of the revocation by a message.

use portcullis_loadtest::credentials::principal_of;
use portcullis_lua::{Grounds, Member, Revocation, ScopeStore};
use serde_json::json;

use super::cast::{Cast, boundless, read};
use crate::fixture::cluster;
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
