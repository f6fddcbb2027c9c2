//! Everything in the document is live: each setting is changed on a running cluster, and what it does is seen from
//! outside, without a restart.
//!
//! Responsible for one visible effect of every setting. Must never wait for time to pass where an answer can be asked
//! for: after an accepted update the very next request that is decided is decided under it.

mod rate_limit;
mod named_limit;
mod user_type;
mod pressure;
mod budget;
mod breaker;
mod task_life;
mod capacity;
mod notice;

use portcullis_loadtest::Client;
use portcullis_loadtest::client::{Answer, Submission};
use serde_json::{Value, json};

use super::operator;
use crate::fixture::until;

/// A quick task.
fn task() -> Submission {
    Submission::new("demo", json!(1))
}

/// Stores a patch and waits until every gateway and processor holds it; the answer.
async fn everywhere(admin: &Client, patch: &Value) -> Value {
    let answer = admin.post("/admin/gateway/update-config?wait=60", patch).await.expect("an answer");
    let body = operator::accepted(answer);
    assert_eq!(body["convergence"]["converged"], json!(true), "{body}");
    body
}

/// The first answer that does not repeat what was decided before this change. A gateway may repeat a refusal that it
/// remembers until it has heard of the change, and says then under which revision it was made.
async fn after(change: &Value, client: &Client, submission: &Submission) -> Answer {
    until("the gateway repeats no earlier refusal", || async {
        let answer = client.submit(submission).await.expect("an answer");
        let current = operator::decided_under(&answer) >= operator::number(change);
        assert!(current || !answer.is_accepted(), "admitted under an earlier revision: {}", answer.text);
        current.then_some(answer)
    })
    .await
}

/// Submits and expects to be accepted under this change.
async fn accepted_after(change: &Value, client: &Client, submission: &Submission) {
    let answer = after(change, client, submission).await;
    assert!(answer.is_accepted(), "not accepted: {} {}", answer.status, answer.text);
}

/// Submits and expects to be turned away for this reason.
async fn refused(client: &Client, submission: &Submission, code: &str) -> Answer {
    let answer = client.submit(submission).await.expect("an answer");
    assert_eq!(answer.code(), code, "{} {}", answer.status, answer.text);
    answer
}
