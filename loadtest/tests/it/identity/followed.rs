//! Sessions follow what a provider says of their principal.
//!
//! Responsible for sessions, and what is delegated from them: of principals who let agents act for them, `charged.rs`
//! tells, of those whom a balancer knows, `asserted.rs`. Must never show a gateway the newer token whose session is
//! then asked about: what counts is what the others know.

use portcullis_loadtest::client::{Client, Submission};
use portcullis_lua::ScopeStore;
use serde_json::json;

use super::agent::mint;
use super::charged::token_of;
use super::key::Key;
use super::key_server::KeyServer;
use super::sight::who;
use super::terms::{Terms, with_api_key};
use crate::fixture::{Fixture, accepted, record, start, until};

struct Scene {
    cluster: Fixture,
    store: ScopeStore,
    issuer: Key,
    _keys: KeyServer,
}

impl Scene {
    async fn new() -> Self {
        let issuer = Key::generate();
        let keys = KeyServer::start(vec![issuer.published("one")]).await;
        let map = json!({ "user_types": { "paid": "paid" } });
        let terms = Terms::new().issuer("https://one.test", "one:", keys.url(), map);
        let terms = terms.api_key("adaskey1", "one:ada", "registered").api_key("evesown1", "one:eve", "paid");
        let mut cluster = start(terms.cluster().gateways(2)).await;
        cluster.stand_in(100).await.expect("capacity");
        let store = cluster.store().await.expect("a store");
        Self { cluster, store, issuer, _keys: keys }
    }

    /// Who shows the first gateway what the provider said of it so many seconds ago.
    fn said(&self, subject: &str, groups: &[&str], age_seconds: u64) -> Client {
        self.cluster.gateway(0).bearer(&token_of(&self.issuer, subject, groups, age_seconds))
    }

    /// A session that this caller opens, at the second gateway.
    async fn session(&self, client: &Client) -> Client {
        let opened = client.post("/v1/sessions", &json!({})).await.expect("an answer");
        assert_eq!(opened.status, 201, "{}", opened.text);
        self.cluster.gateway(1).bearer(opened.body["token"].as_str().expect("a token"))
    }

    /// Waits until the second gateway has heard that this session is paid again: who becomes more may be served as less
    /// until then.
    async fn raised(&self, session: &Client) {
        until("it is raised", || async { who(session).await.ends_with("by session as paid").then_some(()) }).await;
    }

    /// As what a task of this caller's was charged.
    async fn charged(&self, client: &Client) -> String {
        let task_id = accepted(client, &Submission::new("demo", json!(1))).await;
        record(&self.store, &task_id).await.envelope.user_type.to_string()
    }
}

#[tokio::test]
async fn who_has_become_less_is_less_in_every_session_from_then_on() {
    let scene = Scene::new().await;
    let ada = scene.session(&scene.said("ada", &["paid"], 300)).await;
    let also_ada = scene.session(&scene.said("ada", &["paid"], 250)).await;
    let bob = scene.session(&scene.said("bob", &["paid"], 300)).await;
    for client in [&ada, &also_ada, &bob] {
        assert_eq!(scene.charged(client).await, "paid");
    }
    assert_eq!(who(&scene.said("ada", &[], 200)).await, "one:ada by jwt as registered");
    for client in [&ada, &also_ada] {
        assert_eq!(scene.charged(client).await, "registered", "the very next call");
        until("it is read, too", || async { (who(client).await == "one:ada by session as registered").then_some(()) })
            .await;
    }
    assert_eq!(scene.charged(&bob).await, "paid", "nobody else is less");
    // As long as the sessions.
    let set = scene.store.revocations().await.expect("an answer");
    let ceiling = set.members.iter().find(|member| member.member == "u:one:ada").expect("a ceiling");
    let lasts_ms = ceiling.expires_ms - set.now_ms;
    assert!(lasts_ms > 30 * 24 * 3_600_000, "{lasts_ms} ms");

    // An older word is heard no more: not when it is shown, nor of a session that is opened with it.
    let from_before = scene.session(&scene.said("ada", &["paid"], 250)).await;
    let through_key = scene.session(&with_api_key(&scene.cluster.gateway(0), "adaskey1")).await;
    for client in [&ada, &from_before, &through_key] {
        assert_eq!(scene.charged(client).await, "registered");
    }
    // A newer one is, and makes nobody more than its session was opened as: with an older one, no more than was known.
    let registered = scene.session(&scene.said("ada", &[], 200)).await;
    assert_eq!(who(&scene.said("ada", &["paid"], 100)).await, "one:ada by jwt as paid");
    scene.raised(&ada).await;
    for (client, expected) in
        [(&ada, "paid"), (&also_ada, "paid"), (&registered, "registered"), (&from_before, "registered")]
    {
        assert_eq!(scene.charged(client).await, expected);
    }
}

#[tokio::test]
async fn what_a_session_delegates_is_no_newer_word_than_its_login() {
    let scene = Scene::new().await;
    let ada = scene.session(&scene.said("ada", &["paid"], 1)).await;
    let helper = mint(&ada, "helper", &["tasks:submit:demo"], json!({ "max_depth": 1 })).await;
    let helper = scene.cluster.gateway(1).bearer(helper.presented());
    // Issued by a clock that may be half a minute behind, and before the session by any.
    assert_eq!(who(&scene.said("ada", &[], 0)).await, "one:ada by jwt as registered");
    for client in [&ada, &helper] {
        assert_eq!(scene.charged(client).await, "registered");
    }
}

#[tokio::test]
async fn what_an_older_token_or_a_key_lets_in_is_no_more_than_its_principal() {
    let scene = Scene::new().await;
    let ada = mint(&scene.said("ada", &["paid"], 300), "helper", &["*"], json!({ "max_depth": 1 })).await;
    assert_eq!(who(&scene.said("ada", &[], 200)).await, "one:ada by jwt as registered");
    let older = scene.said("ada", &["paid"], 250);
    let opened = older.post("/v1/sessions", &json!({})).await.expect("an answer");
    assert_eq!((opened.status, &opened.body["user_type"]), (201, &json!("registered")), "{}", opened.text);
    let later = mint(&older, "helper", &["*"], json!({ "max_depth": 1 })).await;
    // What was lowered is raised again, and what was never more is not.
    assert_eq!(who(&scene.said("ada", &["paid"], 100)).await, "one:ada by jwt as paid");
    scene.raised(&scene.session(&scene.said("ada", &["paid"], 90)).await).await;
    for (chain, expected) in [(&ada, "paid"), (&later, "registered")] {
        assert_eq!(scene.charged(&scene.cluster.gateway(1).bearer(chain.presented())).await, expected);
    }

    let eve = scene.session(&with_api_key(&scene.cluster.gateway(0), "evesown1")).await;
    assert_eq!(scene.charged(&eve).await, "paid", "as what the key is, as long as nobody says less of its owner");
    assert_eq!(who(&scene.said("eve", &[], 200)).await, "one:eve by jwt as registered");
    assert_eq!(scene.charged(&eve).await, "registered");
    let again = scene.session(&with_api_key(&scene.cluster.gateway(0), "evesown1")).await;
    assert_eq!(scene.charged(&again).await, "registered");
}
