//! An issuer that changes its keys.
//!
//! Responsible for new keys being found without a restart, old ones being forgotten, and nobody being able to make
//! gateways ask more often than they should. Must never assume when a gateway asks: it is asked until it does.

use std::time::Duration;

use portcullis_loadtest::eventually;
use serde_json::json;

use super::key::{Key, now_seconds};
use super::key_server::KeyServer;
use super::sight::who;
use super::terms::Terms;
use crate::fixture::{PATIENCE, start};

#[tokio::test]
async fn a_new_key_is_asked_for_and_an_old_one_forgotten() {
    let (old, new) = (Key::generate(), Key::generate());
    let keys = KeyServer::start(vec![old.published("old")]).await;
    let terms = Terms::new().issuer("https://one.test", "one:", keys.url(), json!({}));
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let token = |key: &Key, kid: &str| {
        let (head, now) = (json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid }), now_seconds());
        let claims =
            json!({ "iss": "https://one.test", "sub": "ada", "aud": "portcullis", "iat": now, "exp": now + 600 });
        key.sign(&head, &claims)
    };
    let before = anyone.bearer(&token(&old, "old"));
    assert_eq!(who(&before).await, "one:ada by jwt as registered");
    for guess in 0..20 {
        assert_eq!(who(&anyone.bearer(&token(&new, &format!("guess-{guess}")))).await, "401");
    }
    assert_eq!(keys.fetches(), 1, "names of keys that nobody has are no reason to ask again and again");

    keys.publish(Some(vec![new.published("new")]));
    let after = anyone.bearer(&token(&new, "new"));
    let found = eventually(2 * PATIENCE, "the new key is found", || async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        (who(&after).await == "one:ada by jwt as registered").then_some(())
    });
    found.await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(keys.fetches(), 2);
    assert_eq!(who(&before).await, "401", "a key that was taken back takes its tokens along");
}
