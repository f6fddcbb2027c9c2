//! `GET /v1/tasks/{id}/events`: the life of a task as server-sent events.
//!
//! Responsible for following a task from any point of its life to its end, to the end of this gateway, or until the
//! caller's credential is taken back. Must never remember what a client has seen: the ids are derived from the task
//! itself, so any gateway resumes any stream.
//!
//! | event | id | data |
//! |---|---|---|
//! | `status` | `0-1` queued; `a-0` attempt a runs; `a-18446744073709551615` it ended and the task waits again | JSON |
//! | `output` | `a-p`: piece p of attempt a | the piece, as text |
//! | `done` | `b-0`, b one more than the last attempt | the task, as `GET` shows it |

mod sequence;
mod frame;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use portcullis_lua::{TaskId, TaskNews};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::session::Identity;
use crate::openapi::{EventsHeader, Following, TaskIdPath};
use crate::refusal::{Cause, Refused, RequestFault};
use crate::state::{EventStreamPlace, Gateway};
use crate::tasks::{TaskPath, owned_task};
use crate::watch_hub::{LOOK_AGAIN, TaskWatch};

use sequence::{Cursor, Event, events_after};

/// A comment is sent when nothing else was for this long, so that no proxy takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Asks nginx not to hold the stream back.
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Streams the caller's task from the event after `Last-Event-ID`, or from the beginning. 204, which tells a client not
/// to connect again, if that event was the last.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/events", operation_id = "follow_task", tag = "tasks",
    summary = "Follows a task of the caller",
    description = "Server-sent events: `status` when it is queued, runs or waits again, `output` for each piece of \
        output, `done` with the task. A stream that breaks off goes on after `Last-Event-ID`, on any gateway.",
    params(TaskIdPath, EventsHeader),
    responses(
        (status = 200, description = "The events; the schema is that of one of them",
            body = ref("#/components/schemas/TaskEvent"), content_type = "text/event-stream"),
        (status = 204, description = "There are none after `Last-Event-ID`, and there will be none"),
        Following
    )
)]
pub(crate) async fn follow(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    TaskPath(task_id): TaskPath,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let cursor = last_event_id(&headers)?;
    // Watched before it is read: whatever happens after the reading wakes the stream.
    let watch = gateway.watch_hub().watch(&task_id);
    let record = owned_task(&gateway, &identity, &task_id).await?;
    if record.status.is_terminal() && cursor >= sequence::end_of(&record.attempts) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if gateway.drain_state().closing() {
        return Err(Refused::draining());
    }
    // The streams are this gateway's, whatever their scope; how many it may have is what the caller's policy says.
    let most = identity.scope().policy().policy().limits.max_sse_connections_per_instance;
    let place = gateway.open_event_stream(most).ok_or_else(too_many_streams)?;
    let stream = EventStream {
        closed: gateway.drain_state().closed(),
        caller: identity,
        task_id,
        watch,
        cursor,
        opened: false,
        ended: false,
        told_at: Instant::now(),
        _place: place,
    };
    let chunks = futures_util::stream::unfold(stream, |mut stream| async move {
        stream.next_chunk().await.map(|chunk| (Ok::<_, std::convert::Infallible>(chunk), stream))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        NO_BUFFERING,
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// This gateway serves as many streams as it may; another one may not.
fn too_many_streams() -> Refused {
    let detail = "This gateway serves as many event streams as it may. Repeat the request, or read the task instead.";
    Refused::new(Cause::StreamLimit, "Too many event streams", detail)
}

fn last_event_id(headers: &HeaderMap) -> Result<Cursor, Refused> {
    let Some(value) = headers.get("last-event-id") else { return Ok(Cursor::START) };
    value.to_str().ok().and_then(Cursor::parse).ok_or_else(|| {
        Refused::invalid(vec![RequestFault::new("Last-Event-ID", "is not the id of an event of a task")])
    })
}

/// One client's view of one task.
struct EventStream {
    caller: Identity,
    task_id: TaskId,
    watch: TaskWatch,
    cursor: Cursor,
    /// Whether the client has been told how soon to connect again.
    opened: bool,
    ended: bool,
    /// When the client last heard anything.
    told_at: Instant,
    closed: CancellationToken,
    _place: EventStreamPlace,
}

impl EventStream {
    /// The next bytes for the client; `None` at the end.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if !self.opened {
            self.opened = true;
            return Some(Bytes::from_static(frame::OPENING));
        }
        let closed = self.closed.clone();
        loop {
            let news = self.look().await;
            // Asked last: nothing is told that was learnt after the caller was revoked.
            if self.caller.is_revoked().await {
                self.ended = true;
                return None;
            }
            if let Some(chunk) = news {
                self.told_at = Instant::now();
                return Some(chunk);
            }
            if self.ended {
                return None;
            }
            // Woken in turns, so a stream needs no timer: what would be late at the next turn is said at this one.
            if self.told_at.elapsed() + LOOK_AGAIN > KEEP_ALIVE {
                self.told_at = Instant::now();
                return Some(Bytes::from_static(frame::COMMENT));
            }
            tokio::select! {
                () = self.watch.changed() => {}
                () = closed.cancelled() => {
                    self.ended = true;
                    return Some(frame::farewell(self.cursor, &self.task_id));
                }
            }
        }
    }

    /// What there is to tell now, if anything. An outage of Redis tells nothing and is waited out.
    async fn look(&mut self) -> Option<Bytes> {
        loop {
            let news = self.caller.scope().looks().decide((self.task_id.clone(), self.cursor.into())).await;
            let TaskNews { progress, ended, output, complete } = match news {
                Ok(Ok(Some(news))) => news,
                Ok(Ok(None)) => {
                    // Its retention is over; there will be no more to tell.
                    self.ended = true;
                    return None;
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "a task that is followed cannot be read");
                    return None;
                }
                Err(_) => return None,
            };
            let (events, look_again) = events_after(self.cursor, &progress, output, complete);
            if let Some(last) = events.last() {
                self.cursor = last.id();
                self.ended = matches!(last, Event::Done { .. });
                return Some(frame::encode(&events, &self.task_id, ended.as_deref()));
            }
            if !look_again {
                return None;
            }
        }
    }
}
