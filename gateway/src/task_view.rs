//! A task as its owner sees it.
//!
//! Responsible for the JSON of a task. Must never show more than its owner may know: no principal, no processor, no
//! fencing token.

use std::borrow::Cow;

use portcullis_lua::{TaskError, TaskRecord, TaskResult, TaskStatus};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::timestamp::rfc3339;

/// A task as its owner sees it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Task")]
pub(crate) struct TaskView<'a> {
    task_id: &'a str,
    kind: &'a str,
    #[schemars(with = "TaskStatus")]
    status: &'static str,
    /// Number of the latest attempt; 0 before the first.
    attempt: u32,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When the latest attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    finished_at: Option<String>,
    /// What the handler answered: JSON if it said so, else text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Value")]
    result: Option<ResultView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TaskError")]
    error: Option<&'a TaskError>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ResultView<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

/// The task's JSON.
pub(crate) fn json(record: &TaskRecord) -> Vec<u8> {
    let latest = record.attempts.last();
    let view = TaskView {
        task_id: record.task_id.as_str(),
        kind: &record.envelope.kind,
        status: record.status.as_str(),
        attempt: latest.map_or(0, |attempt| attempt.number),
        created_at: rfc3339(record.created_ms),
        started_at: latest.map(|attempt| rfc3339(attempt.started_ms)),
        finished_at: record.finished_ms.map(rfc3339),
        result: record.result.as_ref().map(result_view),
        error: record.error.as_ref(),
    };
    // Strings, numbers and JSON that has been read before: this has no way to fail.
    serde_json::to_vec(&view).unwrap_or_default()
}

/// JSON if the handler said so and it is; everything else as text.
fn result_view(result: &TaskResult) -> ResultView<'_> {
    let essence = result.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_json = essence == "application/json" || essence.ends_with("+json");
    let json = says_json.then(|| serde_json::from_slice(&result.body).ok()).flatten();
    json.map_or_else(|| ResultView::Text(String::from_utf8_lossy(&result.body)), ResultView::Json)
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use portcullis_config::UserType;
    use portcullis_lua::{Attempt, Envelope, TaskId, TaskStatus};
    use serde_json::{Value, json};

    use super::*;

    /// A record of the principal `ada` with attempts of these (number, ended).
    pub(crate) fn record(status: TaskStatus, attempts: &[(u32, bool)]) -> TaskRecord {
        let attempt = |&(number, ended): &(u32, bool)| Attempt {
            number,
            started_ms: 1000 * u64::from(number),
            ended_ms: ended.then_some(1000 * u64::from(number) + 500),
        };
        TaskRecord {
            task_id: TaskId::parse("01JD7Y5M3T0000000000000000").expect("a ULID"),
            envelope: Envelope {
                kind: "chat".to_owned(),
                user_type: UserType::anonymous(),
                session_id: "s".to_owned(),
                principal: "ada".to_owned(),
                actor: None,
                agents: Vec::new(),
                members: Vec::new(),
                issued_at_ms: 0,
                request_id: "r".to_owned(),
                traceparent: None,
                tracestate: None,
                content_type: "application/json".to_owned(),
                holds: Vec::new(),
            },
            status,
            created_ms: 500,
            attempts: attempts.iter().map(attempt).collect(),
            finished_ms: status.is_terminal().then_some(9000),
            result: None,
            error: None,
        }
    }

    fn view(record: &TaskRecord) -> Value {
        serde_json::from_slice(&super::json(record)).unwrap()
    }

    #[test]
    fn a_waiting_task_shows_when_it_came() {
        let expected = json!({
            "task_id": "01JD7Y5M3T0000000000000000", "kind": "chat", "status": "queued", "attempt": 0,
            "created_at": "1970-01-01T00:00:00.500Z",
        });
        assert_eq!(view(&record(TaskStatus::Queued, &[])), expected);
    }

    #[test]
    fn a_finished_task_shows_its_latest_attempt_and_how_it_ended() {
        let mut record = record(TaskStatus::Dead, &[(1, true), (2, true)]);
        record.error = Some(TaskError { code: "handler_status".to_owned(), detail: "502".to_owned() });
        let expected = json!({
            "task_id": "01JD7Y5M3T0000000000000000", "kind": "chat", "status": "dead", "attempt": 2,
            "created_at": "1970-01-01T00:00:00.500Z", "started_at": "1970-01-01T00:00:02.000Z",
            "finished_at": "1970-01-01T00:00:09.000Z", "error": {"code": "handler_status", "detail": "502"},
        });
        assert_eq!(view(&record), expected);
    }

    #[test]
    fn a_result_is_json_only_if_it_says_so_and_is() {
        let shown = |content_type: &str, body: &'static [u8]| {
            let mut record = record(TaskStatus::Succeeded, &[(1, true)]);
            record.result = Some(TaskResult { content_type: content_type.to_owned(), body: Bytes::from_static(body) });
            view(&record)["result"].clone()
        };
        assert_eq!(shown("application/json; charset=utf-8", b"{\"a\": 1}"), json!({"a": 1}));
        assert_eq!(shown("application/problem+json", b"[]"), json!([]));
        assert_eq!(shown("application/json", b"null"), Value::Null);
        assert_eq!(shown("application/json", b"{broken"), json!("{broken"));
        assert_eq!(shown("text/plain", b"{\"a\": 1}"), json!("{\"a\": 1}"));
        assert_eq!(shown("application/octet-stream", b"\xff\x00"), json!("\u{fffd}\u{0}"));
    }
}
