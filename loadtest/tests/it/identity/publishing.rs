//! Issuers whose keys cannot be had, or must not be, as operators see it.
//!
//! Responsible for the status of those who publish keys and for the audit of fetches that were refused. Must never
//! assume when a gateway fetches: tokens are shown to it until it has.

use std::time::Duration;

use portcullis_loadtest::client::Client;
use portcullis_loadtest::eventually;
use serde_json::{Value, json};

use super::key::{Key, now_seconds};
use super::key_server::{KeyServer, Misleading, Reserved};
use super::sight::who;
use super::terms::{Terms, with_api_key};
use crate::audit::export::{export, verdict};
use crate::fixture::{Fixture, PATIENCE, start, until};

const PROVIDERS: &str = "/admin/identity/providers";
const ONE: &str = "https://one.test";
const TWO: &str = "https://two.test";

fn token(key: &Key, issuer: &str) -> String {
    let now = now_seconds();
    let claims = json!({ "iss": issuer, "sub": "ada", "aud": "portcullis", "iat": now, "exp": now + 600 });
    key.sign(&json!({ "alg": "EdDSA", "typ": "JWT", "kid": "k" }), &claims)
}

/// What is listed, by the name of the issuer.
async fn listed(operator: &Client, query: &str) -> Vec<Value> {
    let answer = operator.get(&format!("{PROVIDERS}{query}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.body["gateway"].is_string(), "{}", answer.text);
    answer.body["providers"].as_array().unwrap_or_else(|| panic!("a list: {}", answer.text)).clone()
}

fn names(listed: &[Value]) -> Vec<&str> {
    listed.iter().map(|provider| provider["issuer"].as_str().expect("a name")).collect()
}

/// Shows this token until it has this outcome; issuers without keys are asked every few seconds.
async fn shown_until(cluster: &Fixture, token: &str, outcome: &str) {
    let caller = cluster.gateway(0).bearer(token);
    let seen = eventually(2 * PATIENCE, outcome, || async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        (who(&caller).await == outcome).then_some(())
    });
    seen.await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn an_issuer_that_was_out_of_reach_shows_that_and_that_it_is_back() {
    let key = Key::generate();
    let (reserved, other) = (Reserved::new(), KeyServer::start(vec![key.published("k")]).await);
    let elsewhere = json!({ "scope": { "tenant": "other", "project": "place" } });
    let terms = Terms::new()
        .api_key("operator", "acme:grace", "privileged")
        .issuer(TWO, "two:", other.url(), elsewhere)
        .issuer(ONE, "one:", &reserved.url(), json!({}));
    let cluster = start(terms.cluster()).await;
    let admin = cluster.admin(0);
    let untouched = json!({
        "issuer": ONE, "kind": "jwt", "source": "file", "keys": 0, "last_ok_at": null, "last_error_at": null,
        "last_error_code": null, "degraded": [],
    });
    assert_eq!(listed(&admin, "").await[0], untouched);

    assert_eq!(who(&cluster.gateway(0).bearer(&token(&key, ONE))).await, "503");
    let down = listed(&admin, "").await[0].clone();
    assert_eq!((&down["last_error_code"], &down["last_ok_at"]), (&json!("unreachable"), &Value::Null), "{down}");
    assert_eq!(down["degraded"], json!(["issuer_keys_missing"]));
    let _keys = reserved.open(vec![key.published("k")]);
    shown_until(&cluster, &token(&key, ONE), "one:ada by jwt as registered").await;
    let back = listed(&admin, "").await[0].clone();
    assert_eq!((&back["keys"], &back["last_error_code"]), (&json!(1), &json!("unreachable")), "{back}");
    assert_eq!(back["degraded"], json!([]));
    assert!(back["last_ok_at"].as_str() >= back["last_error_at"].as_str() && back["last_ok_at"].is_string(), "{back}");

    // An operator of one place does not hear of whom another believes.
    let operator = with_api_key(&cluster.admin_listener(0), "operator");
    assert_eq!(names(&listed(&operator, "").await), [ONE]);
    assert_eq!(names(&listed(&admin, "").await), [ONE, TWO]);
    assert_eq!(names(&listed(&admin, "?tenant=other&project=place").await), [TWO]);
    let foreign = operator.get(&format!("{PROVIDERS}?tenant=other&project=place")).await.expect("an answer");
    assert_eq!((foreign.status, foreign.code()), (404, "not_found"));
}

#[tokio::test]
async fn keys_that_have_come_to_lead_inside_are_not_fetched_and_that_stands_in_the_audit_once() {
    let key = Key::generate();
    let misleading = Misleading::start("https://169.254.169.254/latest").await;
    let terms = Terms::new().discovered_issuer(misleading.issuer(), "one:");
    let cluster = start(terms.cluster()).await;
    let (admin, caller) = (cluster.admin(0), cluster.gateway(0).bearer(&token(&key, misleading.issuer())));
    // Whatever is revoked, the gateway is to be heard.
    let revoke = json!({ "kind": "principal", "id": "one:ada", "reason": "gone" });
    assert_eq!(admin.post("/admin/revocations", &revoke).await.expect("an answer").status, 200);
    assert_eq!(who(&caller).await, "503");
    let provider = listed(&admin, "").await[0].clone();
    assert_eq!(provider["last_error_code"], json!("address_refused"), "{provider}");
    let events = async || {
        let answer = admin.get("/admin/audit?event=identity.fetch_refused").await.expect("an answer");
        answer.body["events"].as_array().unwrap_or_else(|| panic!("a list: {}", answer.text)).clone()
    };
    let event = until("it is in the audit", || async { events().await.pop() }).await;
    let about = &event["about"];
    assert_eq!(about["issuer"], json!(misleading.issuer()), "{event}");
    assert_eq!((&about["host"], &about["address"]), (&json!("169.254.169.254"), &json!("169.254.169.254")));
    assert!(event["by"].as_str().is_some_and(|by| by.starts_with("gateway:")), "{event}");

    let again = eventually(2 * PATIENCE, "it is refused again", || async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(who(&caller).await, "503");
        (listed(&admin, "").await[0]["last_error_at"] != provider["last_error_at"]).then_some(())
    });
    again.await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(admin.post("/admin/revocations", &revoke).await.expect("an answer").status, 200);
    assert_eq!(events().await.len(), 1, "not a second time within the hour");
    let (content, said) = verdict(&export(&cluster, "audit").await).await;
    assert!(content, "{said}");
}
