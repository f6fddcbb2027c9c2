//! `POST /v1/tasks`, `GET` and `DELETE /v1/tasks/{id}`.
//!
//! Responsible for turning requests into questions and decisions into answers. Must never tell a task that belongs to
//! somebody else from one that does not exist.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use portcullis_lua::{TaskId, TaskRecord, TaskStatus};
use tokio::time::{Instant, sleep_until, timeout};

use crate::admission::enqueue;
use crate::admission::session::{Identity, Unspent};
use crate::admission::{self, Admission};
use crate::openapi::{SubmitHeader, Submitting, TaskIdPath, TaskOf};
use crate::policy_in_force::PolicyInForce;
use crate::prefer::{self, Preferences};
use crate::problem::push_degraded;
use crate::refusal::Refused;
use crate::respond::{Answered, RequestId, set_limits};
use crate::right;
use crate::state::Gateway;
use crate::task_view;
use crate::text::{push_number, push_string};

/// Longest time for a body to arrive.
const READ_BODY: Duration = Duration::from_secs(30);

/// How long it takes to say that there is no such task: longer than reading a large one of somebody else's.
const NOT_FOUND_AFTER: Duration = Duration::from_millis(5);

/// Room for the headers of an answer: a map that is made with it is never made again.
const HEADERS: usize = 12;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Says that this is the task of an earlier request with the same key.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The task a path names: `/v1/tasks/{id}` or `/v1/tasks/{id}/events`. A malformed id is a task that does not exist.
#[derive(Debug)]
pub(crate) struct TaskPath(pub(crate) TaskId);

impl<S: Sync> FromRequestParts<S> for TaskPath {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let id = parts.uri.path().strip_prefix("/v1/tasks/").and_then(|rest| rest.split('/').next());
        id.and_then(TaskId::parse).map(Self).ok_or_else(Refused::not_found)
    }
}

/// Submits a task: the six steps, then 202, or 200 with the finished task if the caller waits and it ends in time.
#[utoipa::path(
    post, path = "/v1/tasks", operation_id = "submit_task", tag = "tasks",
    summary = "Submits a task",
    description = "Takes it through the six steps. With `Prefer: wait=N` the answer is held until the task has ended, \
        up to N seconds.",
    params(SubmitHeader),
    request_body(content = ref("#/components/schemas/Submission"), content_type = "application/json"),
    responses(
        (status = 202, description = "It is queued", body = ref("#/components/schemas/Accepted"), headers(
            ("Location" = String, description = "The task."),
            ("Preference-Applied" = String, description = "The wait that was granted."),
        )),
        (status = 200, description = "It has ended", body = ref("#/components/schemas/Task"), headers(
            ("Location" = String, description = "The task."),
            ("Preference-Applied" = String, description = "The wait that was granted."),
        )),
        Submitting
    )
)]
pub(crate) async fn submit(
    gateway: &Gateway,
    identity: &Identity,
    proof: &mut Unspent,
    request_id: &RequestId,
    headers: &HeaderMap,
    body: Body,
) -> Result<Answered, Refused> {
    // Where it is, it stays: it is large, and mostly not begun.
    let submission = pin!(async {
        let scope = identity.scope();
        let policy = scope.policy();
        let mut most = enqueue::max_body_bytes(policy.policy());
        // The bounds are the policy's: nobody is refused by those of one that may have been changed.
        let announced = announced_bytes(headers);
        if announced > most as u64 && scope.has_moved_on_from(policy.stamp()).await {
            most = enqueue::max_body_bytes(scope.policy().policy());
        }
        let body = read_body(announced, body, most).await?;
        // Bodies take their time: the policy may be another one now.
        let policy = scope.policy();
        let read = |policy: &PolicyInForce| enqueue::submission(headers, &body, identity.principal(), policy.policy());
        let submission = match read(&policy) {
            Err(_) if scope.has_moved_on_from(policy.stamp()).await => read(&scope.policy()),
            outcome => outcome,
        }?;
        if identity.caller().rights.is_some() {
            identity.require(&right::submit(&submission.kind))?;
        }
        Ok(submission)
    });
    let admission = admission::admit(gateway, identity, proof, request_id, submission).await?;
    let Preferences { wait_seconds, respond_async } = Preferences::of(headers);
    let latest = match wait_seconds {
        // Rare, and large as futures: every submission would carry them.
        Some(seconds) => {
            let wait = Duration::from_secs(seconds);
            Box::pin(finished_within(gateway, identity, &admission.task_id, wait)).await
        }
        None if admission.replayed => {
            admission::ask(gateway, identity.scope().store().task(&admission.task_id)).await.map(Latest::from)?
        }
        None => Latest::Unread,
    };
    let (status, body) = match &latest {
        Latest::Read(record) if wait_seconds.is_some() && record.status.is_terminal() => {
            (StatusCode::OK, task_view::json(record))
        }
        _ => (StatusCode::ACCEPTED, accepted(identity, &admission, &latest)),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    set_limits(headers, &admission.limits, 0);
    // Letters and digits of a ULID.
    let location = Bytes::from(["/v1/tasks/", admission.task_id.as_str()].concat());
    if let Ok(location) = HeaderValue::from_maybe_shared(location) {
        headers.insert(LOCATION, location);
    }
    if let Some(applied) = prefer::applied(wait_seconds, respond_async && status == StatusCode::ACCEPTED) {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    if admission.replayed {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(Answered { response, policy: Some(admission.policy) })
}

/// The caller's task as it stands.
#[utoipa::path(
    get, path = "/v1/tasks/{id}", operation_id = "read_task", tag = "tasks",
    summary = "A task of the caller",
    params(TaskIdPath),
    responses((status = 200, description = "As it stands", body = ref("#/components/schemas/Task")), TaskOf)
)]
pub(crate) async fn show(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    TaskPath(task_id): TaskPath,
) -> Result<Response, Refused> {
    Ok(task_response(&owned_task(&gateway, &identity, &task_id).await?))
}

/// Cancels the caller's task: one that waits ends at once, one that runs as soon as its processor hears of it, one that
/// has ended stays as it is.
#[utoipa::path(
    delete, path = "/v1/tasks/{id}", operation_id = "cancel_task", tag = "tasks",
    summary = "Cancels a task of the caller",
    params(TaskIdPath),
    responses(
        (status = 200, description = "As it stands now; one that runs ends as soon as its processor hears of it",
            body = ref("#/components/schemas/Task")),
        TaskOf
    )
)]
pub(crate) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    TaskPath(task_id): TaskPath,
) -> Result<Response, Refused> {
    if !identity.may(right::CANCEL_TASKS) {
        return Err(Refused::not_found());
    }
    let (scope, policy) = (identity.scope(), identity.scope().policy());
    let asked = Instant::now();
    let cancelled = scope.store().cancel(policy.compiled(), &task_id, identity.principal());
    match admission::ask(&gateway, cancelled).await? {
        Some(record) => Ok(task_response(&record)),
        None => Err(no_such_task(asked).await),
    }
}

/// The task, if it is there, the caller's, and for its credential to see.
pub(crate) async fn owned_task(
    gateway: &Gateway,
    identity: &Identity,
    task_id: &TaskId,
) -> Result<TaskRecord, Refused> {
    if !identity.may(right::READ_TASKS) {
        return Err(Refused::not_found());
    }
    let asked = Instant::now();
    let record = admission::ask(gateway, identity.scope().store().task(task_id)).await?;
    match record.filter(|record| record.envelope.principal == identity.principal()) {
        Some(record) => Ok(record),
        None => Err(no_such_task(asked).await),
    }
}

/// That there is no such task, said a while after it was asked for: how long it took to read one does not tell that
/// there is one.
async fn no_such_task(asked: Instant) -> Refused {
    sleep_until(asked + NOT_FOUND_AFTER).await;
    Refused::not_found()
}

fn task_response(record: &TaskRecord) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], task_view::json(record)).into_response()
}

async fn read_body(announced: u64, body: Body, most: usize) -> Result<Bytes, Refused> {
    if announced > most as u64 {
        return Err(enqueue::payload_too_large());
    }
    let read = timeout(READ_BODY, Limited::new(body, most).collect()).await;
    match read.map_err(|_| enqueue::body_timeout())? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(enqueue::payload_too_large()),
        Err(_) => Err(enqueue::unreadable_body()),
    }
}

/// Length of the body as far as the client says it; 0 if it does not.
fn announced_bytes(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// What is known of a task since its admission.
enum Latest {
    /// Nobody looked: it is in the queue.
    Unread,
    /// This is what it looked like last.
    Read(Box<TaskRecord>),
    /// It ended so long ago that it has been forgotten.
    Forgotten,
}

impl From<Option<TaskRecord>> for Latest {
    fn from(record: Option<TaskRecord>) -> Self {
        record.map_or(Self::Forgotten, |record| Self::Read(Box::new(record)))
    }
}

/// The body of a 202. A repeated or waiting request may find its task in any status.
fn accepted(identity: &Identity, admission: &Admission, latest: &Latest) -> Vec<u8> {
    // Null when this repeats a request whose task ended so long ago that it has been forgotten.
    let status = match latest {
        Latest::Unread => Some(TaskStatus::Queued),
        Latest::Read(record) => Some(record.status),
        Latest::Forgotten => None,
    };
    let mut body = Vec::with_capacity(256);
    let mut member = |name: &[u8], text: Option<&str>| {
        body.extend_from_slice(name);
        match text {
            Some(text) => push_string(&mut body, text),
            None => body.extend_from_slice(b"null"),
        }
    };
    member(b"{\"task_id\":", Some(admission.task_id.as_str()));
    member(b",\"status\":", status.map(TaskStatus::as_str));
    member(b",\"user_type\":", Some(identity.user_type().as_str()));
    member(b",\"session_id\":", Some(identity.session_id()));
    body.extend_from_slice(b",\"depth\":");
    push_number(&mut body, admission.depth);
    body.extend_from_slice(b",\"capacity\":");
    push_number(&mut body, admission.capacity);
    body.extend_from_slice(b",\"estimated_wait_ms\":");
    match admission.estimated_wait_ms {
        Some(wait_ms) => push_number(&mut body, wait_ms),
        // A repetition.
        None => body.extend_from_slice(b"null"),
    }
    if let Some(fallback) = admission.degraded {
        push_degraded(&mut body, fallback.as_str());
    }
    body.push(b'}');
    body
}

/// The task as soon as it has ended, or as it stands when `wait` is over or this gateway goes. An outage of Redis
/// meanwhile is waited out: the task has been accepted.
async fn finished_within(gateway: &Gateway, identity: &Identity, task_id: &TaskId, wait: Duration) -> Latest {
    let mut watch = gateway.watch_hub().watch(task_id);
    let mut latest = Latest::Unread;
    let reading = async {
        loop {
            if let Ok(record) = admission::ask(gateway, identity.scope().store().task(task_id)).await {
                latest = record.into();
            }
            match &latest {
                Latest::Read(record) if record.status.is_terminal() => return,
                Latest::Forgotten => return,
                Latest::Read(_) | Latest::Unread => watch.changed().await,
            }
        }
    };
    let closed = gateway.drain_state().closed();
    tokio::select! {
        // Over in any case: `latest` says how far it came.
        _ = timeout(wait, reading) => {}
        () = closed.cancelled() => {}
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn that_there_is_no_task_takes_as_long_whatever_reading_it_took() {
        for took_ms in [0, 1, 4] {
            let asked = Instant::now();
            tokio::time::advance(Duration::from_millis(took_ms)).await;
            assert_eq!(no_such_task(asked).await, Refused::not_found());
            assert_eq!(asked.elapsed(), NOT_FOUND_AFTER, "{took_ms} ms");
        }
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        no_such_task(asked).await;
        assert_eq!(asked.elapsed(), Duration::from_secs(1), "nobody waits longer than he has");
    }
}
