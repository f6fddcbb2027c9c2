//! A cluster whose gateways believe credentials of every kind, and who holds which.
//!
//! Responsible for sessions and delegations that were made over HTTP as callers make them. Must never be told by a
//! gateway what is revoked.

use portcullis_delegation::{Chain, SecretKey};
use portcullis_loadtest::Cluster;
use portcullis_loadtest::client::Client;
use portcullis_loadtest::cluster::Builder;
use portcullis_loadtest::credentials::{Credentials, Granted, handed_on, secret_key};
use portcullis_lua::{Grounds, Member, Revocation, Revoked, ScopeStore};
use serde_json::json;

use crate::fixture::{Fixture, start, until};

/// Longer than any test.
const LASTS_MS: u64 = 3_600_000;

/// Everybody who appears.
pub(super) struct Cast {
    pub(super) credentials: Credentials,
    pub(super) cluster: Fixture,
}

/// Roles without limits.
pub(super) fn boundless() -> serde_json::Value {
    let roles = ["anonymous", "registered", "paid", "privileged"];
    let roles = roles.map(|role| (role.to_owned(), json!({ "burst": 1_000_000, "hourly": -1 })));
    json!({ "roles": serde_json::Map::from_iter(roles) })
}

impl Cast {
    /// Starts a cluster that believes them.
    pub(super) async fn on(builder: Builder) -> Self {
        let credentials = Credentials::new(&json!({})).await.expect("credentials");
        let cluster = start(credentials.believed_by(builder)).await;
        Self { credentials, cluster }
    }

    /// Logs a user of the identity provider in; the session's token.
    pub(super) async fn log_in(&self, subject: &str) -> String {
        let jwt = self.credentials.jwt(subject, &["paid"]).expect("a token");
        let answer = self.cluster.gateway(0).bearer(&jwt).post("/v1/sessions", &json!({})).await.expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.body["token"].as_str().expect("a token").to_owned()
    }

    /// The same where Redis may be too slow for a gateway's patience.
    pub(super) async fn log_in_at_last(&self, subject: &str) -> String {
        let jwt = self.credentials.jwt(subject, &["paid"]).expect("a token");
        let gateway = self.cluster.gateway(0).bearer(&jwt);
        until("it is logged in", || async {
            let answer = gateway.post("/v1/sessions", &json!({})).await.ok()?;
            (answer.status == 201).then(|| answer.body["token"].as_str().expect("a token").to_owned())
        })
        .await
    }

    /// A chain of three: the last is a bearer token.
    pub(super) fn crew(&self, principal: &str) -> Crew {
        Crew::of(&self.credentials, &self.cluster, principal)
    }

    /// A root that is a bearer token.
    pub(super) fn agent(&self, principal: &str, agent: &str) -> Chain {
        let granted = Granted { scope: self.cluster.scope(), principal, agent, holder: None, reason: "on its own" };
        self.credentials.mint(&granted).expect("a root")
    }
}

/// Agents of one principal: a planner, a searcher and a writer below it, a reader below the searcher.
pub(super) struct Crew {
    pub(super) planner: SecretKey,
    pub(super) searcher: SecretKey,
    /// At depth 1, where it has a key.
    pub(super) searching: Chain,
    /// At depth 2.
    pub(super) reading: Chain,
    /// At depth 1, beside the searcher.
    pub(super) writing: Chain,
}

impl Crew {
    fn of(credentials: &Credentials, cluster: &Cluster, principal: &str) -> Self {
        let (planner, searcher) = (secret_key().expect("a key"), secret_key().expect("a key"));
        // Agents of different principals have different names: an agent is revoked wherever it acts.
        let name = |role: &str| format!("{role}-of-{principal}");
        let agent = name("planner");
        let granted =
            Granted { scope: cluster.scope(), principal, agent: &agent, holder: Some(&planner), reason: "plans" };
        let root = credentials.mint(&granted).expect("a root");
        let key = Some(searcher.public_key());
        let searching = handed_on(&root, &planner, &name("searcher"), key, "searches").expect("a chain");
        let reading = handed_on(&searching, &searcher, &name("reader"), None, "reads").expect("a chain");
        let writing = handed_on(&root, &planner, &name("writer"), None, "writes").expect("a chain");
        Self { planner, searcher, searching, reading, writing }
    }
}

/// Revokes behind the backs of all gateways, and for good: whoever logs in later is not spared.
pub(super) async fn revoke(store: &ScopeStore, member: Member<'_>) {
    let revocation = Revocation { member: member.to_string(), lasts_ms: LASTS_MS, spares_later: false };
    let grounds = Grounds { by: "operator", reason: "stolen", max_audit_events: 10_000 };
    let revoked = store.revoke(&[revocation], grounds).await.expect("an answer");
    assert!(matches!(revoked, Revoked::Done { changed: 1, .. }), "{revoked:?}");
}

/// Status of what a caller reads about itself: it rests on nothing but what the gateway knows.
pub(super) async fn read(client: &Client) -> u16 {
    client.get("/v1/sessions/current").await.expect("an answer").status
}
