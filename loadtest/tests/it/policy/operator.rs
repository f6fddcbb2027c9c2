//! An operator at the gateways' admin listeners: the routes of the policy, as tests ask them.
//!
//! Responsible for the shapes of their answers. Must never repeat a question by itself: how often something was asked
//! is part of what is proved.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::Answer;
use serde_json::{Value, json};

const CONFIG: &str = "/admin/gateway/config";

/// `POST …/update-config`, whatever comes of it.
pub(crate) async fn update(admin: &Client, body: &Value) -> Answer {
    admin.post("/admin/gateway/update-config", body).await.expect("an answer")
}

/// An update that is accepted; its answer.
pub(crate) async fn updated(admin: &Client, body: &Value) -> Value {
    accepted(update(admin, body).await)
}

/// The body of an answer that says yes.
pub(crate) fn accepted(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

/// The policy in force at this gateway and what is known of it.
pub(crate) async fn config(admin: &Client) -> Value {
    accepted(admin.get(CONFIG).await.expect("an answer"))
}

/// Which replica holds what.
pub(crate) async fn convergence(admin: &Client) -> Value {
    accepted(admin.get(&format!("{CONFIG}/convergence")).await.expect("an answer"))
}

/// The newest revisions that are kept, newest first.
pub(crate) async fn revisions(admin: &Client) -> Vec<Value> {
    let body = accepted(admin.get(&format!("{CONFIG}/revisions?limit=200")).await.expect("an answer"));
    body["revisions"].as_array().expect("a list").clone()
}

/// One revision, whether it is known or not.
pub(crate) async fn revision(admin: &Client, number: u64) -> Answer {
    admin.get(&format!("{CONFIG}/revisions/{number}")).await.expect("an answer")
}

/// `POST …/config/rollback` with further fields, whatever comes of it.
pub(crate) async fn rollback(admin: &Client, number: u64, more: Value) -> Answer {
    let mut body = more;
    body["revision"] = json!(number);
    admin.post(&format!("{CONFIG}/rollback"), &body).await.expect("an answer")
}

/// `POST …/reset-config`, whatever comes of it.
pub(crate) async fn reset(admin: &Client, body: &Value) -> Answer {
    admin.post("/admin/gateway/reset-config", body).await.expect("an answer")
}

/// `POST …/validate-config`, whatever comes of it.
pub(crate) async fn validate(admin: &Client, body: &Value) -> Answer {
    admin.post("/admin/gateway/validate-config", body).await.expect("an answer")
}

/// The scope's audit events, newest first.
pub(crate) async fn audit(admin: &Client) -> Vec<Value> {
    let body = accepted(admin.get("/admin/audit?limit=1000").await.expect("an answer"));
    body["events"].as_array().expect("a list").clone()
}

/// The number in an answer's `X-Policy-Revision`.
pub(crate) fn decided_under(answer: &Answer) -> u64 {
    answer.header("x-policy-revision").and_then(|number| number.parse().ok()).expect("a revision in every answer")
}

/// The revision a policy answer is about.
pub(crate) fn number(body: &Value) -> u64 {
    body["revision"].as_u64().unwrap_or_else(|| panic!("no revision in {body}"))
}

/// The strings of a list.
pub(crate) fn strings(list: &Value) -> Vec<&str> {
    list.as_array().unwrap_or_else(|| panic!("no list: {list}")).iter().filter_map(Value::as_str).collect()
}
