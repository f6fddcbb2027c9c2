//! JSON Web Tokens of issuers that are believed, and everything that only looks like one.
//!
//! Responsible for what a token must say, and for what its groups are worth. Must never send a token that is wrong in
//! two ways: the one that is meant would not be needed for the refusal.

use jsonwebtoken::{Algorithm, EncodingKey};
use portcullis_loadtest::client::Client;
use serde_json::{Value, json};

use super::key::{Key, now_seconds, unsigned};
use super::key_server::{KeyServer, unreachable_url};
use super::sight::{Sight, who};
use super::terms::{Terms, with_api_key};
use crate::fixture::start;

const ONE: &str = "https://one.test";
const TWO: &str = "https://two.test/";

fn head(kid: &str) -> Value {
    json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid })
}

/// What a good token of an issuer says, with these claims set, or taken out where they are null.
fn claims(issuer: &str, changed: &Value) -> Value {
    let now = now_seconds();
    let mut claims = json!({ "iss": issuer, "sub": "ada", "aud": "portcullis", "iat": now, "exp": now + 600 });
    for (name, value) in changed.as_object().expect("an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

#[tokio::test]
async fn groups_are_worth_what_the_document_says_of_that_very_issuer() {
    let (one, two) = (Key::generate(), Key::generate());
    let keys = [KeyServer::start(vec![one.published("k")]).await, KeyServer::start(vec![two.published("k")]).await];
    let map = json!({ "user_types": { "admin": "privileged", "paid": "paid" } });
    let terms = Terms::new().issuer(ONE, "one:", keys[0].url(), map).issuer(
        TWO,
        "two:",
        keys[1].url(),
        json!({ "user_types": { "paid": "paid" } }),
    );
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    for (groups, user_type) in [
        (json!({ "cognito:groups": ["paid"] }), "paid"),
        (json!({ "cognito:groups": ["paid", "admin"] }), "privileged"),
        (json!({ "cognito:groups": ["admin", "paid"] }), "privileged"),
        (json!({ "cognito:groups": [] }), "registered"),
        (json!({ "cognito:groups": ["unknown"] }), "registered"),
        (json!({ "cognito:groups": ["Admin"] }), "registered"),
        (json!({ "cognito:groups": ["admin "] }), "registered"),
        (json!({}), "registered"),
        (json!({ "custom:roles": "admin", "roles": ["admin"], "groups": ["admin"] }), "registered"),
        (json!({ "custom:roles": ["kdcube:role:super-admin"], "user_type": "privileged" }), "registered"),
    ] {
        let token = one.sign(&head("k"), &claims(ONE, &groups));
        assert_eq!(who(&anyone.bearer(&token)).await, format!("one:ada by jwt as {user_type}"), "{groups}");
    }
    let admin = json!({ "cognito:groups": ["admin"] });
    let token = two.sign(&head("k"), &claims(TWO, &admin));
    assert_eq!(who(&anyone.bearer(&token)).await, "two:ada by jwt as registered", "an admin of somewhere else");
    // The same name of a key is another key with another issuer.
    for (key, issuer) in [(&one, TWO), (&two, ONE)] {
        let token = key.sign(&head("k"), &claims(issuer, &json!({})));
        assert_eq!(who(&anyone.bearer(&token)).await, "401", "{issuer} by the other's key");
    }
}

#[tokio::test]
async fn scopes_count_where_the_document_says_where_they_are() {
    let key = Key::generate();
    let keys = KeyServer::start(vec![key.published("k")]).await;
    let scoped = json!({ "scopes_claim": "scope", "baseline": "privileged" });
    let terms = Terms::new().issuer(ONE, "one:", keys.url(), scoped).issuer(
        TWO,
        "two:",
        keys.url(),
        json!({ "baseline": "privileged" }),
    );
    let cluster = start(terms.cluster()).await;
    let (anyone, operator) = (cluster.gateway(0), cluster.admin(0));
    for (issuer, changed, limits, admin) in [
        (ONE, json!({ "scope": "quota:read" }), 200, 401),
        (ONE, json!({ "scope": ["quota:*"] }), 200, 401),
        (ONE, json!({ "scope": "admin" }), 403, 200),
        (ONE, json!({ "scope": "quota:reader Quota:read" }), 403, 401),
        (ONE, json!({ "scope": "" }), 403, 401),
        (ONE, json!({}), 403, 401),
        (ONE, json!({ "scp": "quota:read", "scopes": "admin" }), 403, 401),
        (TWO, json!({ "scope": "nothing" }), 200, 200),
    ] {
        let token = key.sign(&head("k"), &claims(issuer, &changed));
        let answer = anyone.bearer(&token).limits().await.expect("an answer");
        assert_eq!(answer.status, limits, "{issuer} {changed}: {}", answer.text);
        let answer = operator.bearer(&token).get("/admin/queues").await.expect("an answer");
        assert_eq!(answer.status, admin, "{issuer} {changed}: {}", answer.text);
    }
}

/// Tokens that are each wrong in one way, by that way.
fn worthless(key: &Key) -> Vec<(String, String)> {
    let now = now_seconds();
    let mut tokens = Vec::new();
    let wrong_claims = [
        json!({ "exp": now - 60 }),
        json!({ "exp": null }),
        json!({ "exp": (now + 600).to_string() }),
        json!({ "exp": -1 }),
        json!({ "iat": now + 120 }),
        json!({ "iat": null }),
        json!({ "nbf": now + 120 }),
        json!({ "aud": null }),
        json!({ "aud": "another" }),
        json!({ "aud": ["another", "portcullis2"] }),
        json!({ "aud": [] }),
        json!({ "aud": "Portcullis" }),
        json!({ "iss": null }),
        json!({ "iss": "https://one.test/" }),
        json!({ "iss": "https://three.test" }),
        json!({ "iss": [ONE] }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
        json!({ "sub": "ada\nX-User-Type: privileged" }),
        json!({ "cognito:groups": { "admin": true } }),
    ];
    for changed in wrong_claims {
        tokens.push((changed.to_string(), key.sign(&head("one"), &claims(ONE, &changed))));
    }
    let good = claims(ONE, &json!({}));
    let wrong_heads = [
        json!({ "alg": "EdDSA", "typ": "JWT" }),
        json!({ "alg": "EdDSA", "typ": "JWT", "kid": "two" }),
        json!({ "alg": "EdDSA", "typ": "JWT", "kid": "../one" }),
        json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "one" }),
        json!({ "alg": "EdDSA", "typ": "dpop+jwt", "kid": "one" }),
        json!({ "alg": "RS256", "typ": "JWT", "kid": "one" }),
        json!({ "alg": "none", "typ": "JWT", "kid": "one" }),
        json!({ "alg": "EdDSA", "typ": "JWT", "kid": "one", "crit": ["exp"] }),
        json!({ "alg": "EdDSA", "typ": "JWT", "kid": "one", "b64": false }),
        json!({ "alg": "EdDSA", "typ": "JWT", "kid": "one", "jku": "https://evil.example/keys" }),
    ];
    for wrong in wrong_heads {
        tokens.push((wrong.to_string(), key.sign(&wrong, &good)));
    }
    // A key that the token brings along, and the public key taken for a shared secret.
    let thief = Key::generate();
    let own_key = json!({ "alg": "EdDSA", "typ": "JWT", "kid": "one", "jwk": thief.jwk() });
    tokens.push(("its own key".to_owned(), thief.sign(&own_key, &good)));
    tokens.push(("another key".to_owned(), thief.sign(&head("one"), &good)));
    let confused = unsigned(&json!({ "alg": "HS256", "typ": "JWT", "kid": "one" }), &good);
    let shared = EncodingKey::from_secret(&key.public().to_bytes());
    let mac = jsonwebtoken::crypto::sign(confused.as_bytes(), &shared, Algorithm::HS256).expect("a signature");
    tokens.push(("the public key as a secret".to_owned(), format!("{confused}.{mac}")));
    let nothing = unsigned(&json!({ "alg": "none", "typ": "JWT", "kid": "one" }), &good);
    tokens.push(("no signature".to_owned(), format!("{nothing}.")));
    let (signed, signature) = {
        let token = key.sign(&head("one"), &good);
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        (signed.to_owned(), signature.to_owned())
    };
    tokens.push(("two parts".to_owned(), signed.clone()));
    tokens.push(("four parts".to_owned(), format!("{signed}.{signature}.{signature}")));
    tokens.push(("half a signature".to_owned(), format!("{signed}.{}", &signature[..43])));
    let raised = claims(ONE, &json!({ "cognito:groups": ["admin"] }));
    tokens.push(("another payload".to_owned(), format!("{}.{signature}", unsigned(&head("one"), &raised))));
    tokens
}

async fn status_and_sight(anyone: &Client, token: &str) -> (u16, Sight) {
    let answer = anyone.bearer(token).get("/v1/sessions/current").await.expect("an answer");
    (answer.status, Sight::of(&answer))
}

#[tokio::test]
async fn a_token_that_is_wrong_in_any_one_way_proves_nobody() {
    let key = Key::generate();
    let keys = KeyServer::start(vec![key.published("one")]).await;
    let map = json!({ "user_types": { "admin": "privileged" } });
    let terms = Terms::new().issuer(ONE, "one:", keys.url(), map);
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let good = [json!({}), json!({ "aud": ["another", "portcullis"] }), json!({ "exp": now_seconds() - 5 })];
    for changed in good {
        let token = key.sign(&head("one"), &claims(ONE, &changed));
        assert_eq!(who(&anyone.bearer(&token)).await, "one:ada by jwt as registered", "{changed}");
    }
    let untyped = key.sign(&json!({ "alg": "EdDSA", "kid": "one" }), &claims(ONE, &json!({})));
    assert_eq!(who(&anyone.bearer(&untyped)).await, "one:ada by jwt as registered");
    let shape = status_and_sight(&anyone, "nonsense").await;
    for (wrong, token) in worthless(&key) {
        assert_eq!(status_and_sight(&anyone, &token).await, shape, "{wrong}");
    }
    let good = key.sign(&head("one"), &claims(ONE, &json!({})));
    for (name, value) in [
        ("x-internal-token", good.clone()),
        ("x-api-key", good.clone()),
        ("cookie", format!("__Host-portcullis_session={good}")),
        ("authorization", format!("DPoP {good}")),
    ] {
        assert_eq!(who(&anyone.with_header(name, &value)).await, "401", "{name}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_out_of_reach_is_no_fault_of_the_gateway() {
    let key = Key::generate();
    let keys = KeyServer::start(vec![key.published("one")]).await;
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid").issuer(ONE, "one:", keys.url(), json!({})).issuer(
        TWO,
        "two:",
        &unreachable_url().await,
        json!({}),
    );
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let of = |issuer: &str, subject: &str| key.sign(&head("one"), &claims(issuer, &json!({ "sub": subject })));
    assert_eq!(who(&anyone.bearer(&of(ONE, "ada"))).await, "one:ada by jwt as registered");
    // Enough of them to open a breaker, if any counted.
    for _ in 0..12 {
        let answer = anyone.bearer(&of(TWO, "ada")).limits().await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (503, "identity_unavailable"), "{}", answer.text);
        assert!(answer.retry_after().is_some(), "when to come again: {:?}", answer.headers);
    }
    keys.publish(None);
    assert_eq!(who(&anyone.bearer(&of(ONE, "bob"))).await, "one:bob by jwt as registered", "its keys are known");
    assert_eq!(who(&with_api_key(&anyone, "adaskey1")).await, "acme:ada by api_key as paid");
    assert_eq!(anyone.limits().await.expect("an answer").status, 200);
    let breakers = cluster.admin(0).get("/admin/circuit-breakers").await.expect("an answer");
    assert_eq!(breakers.body["store"]["breaker"], "closed", "{}", breakers.text);
}
