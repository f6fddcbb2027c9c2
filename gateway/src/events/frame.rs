//! The bytes of server-sent events (WHATWG HTML, "Server-sent events").
//!
//! Responsible for that framing. Must never let what a handler wrote end a line of the framing: every line of data gets
//! a prefix of its own.

use std::fmt::Write;
use std::ops::RangeInclusive;

use bytes::Bytes;
use portcullis_lua::{TaskId, TaskRecord};
use serde::Serialize;

use super::sequence::{Cursor, Event};
use crate::task_view;

/// Tells the client how soon to connect again, ms, and gets the headers on their way.
pub(super) const OPENING: &[u8] = b"retry: 1000\n\n";

/// How soon the clients of a gateway that goes come back elsewhere, ms: spread, because they all do.
const COME_BACK: RangeInclusive<u64> = 100..=2000;

/// Means nothing to the client.
pub(super) const COMMENT: &[u8] = b": keep-alive\n\n";

#[derive(Serialize)]
struct StatusData<'a> {
    task_id: &'a TaskId,
    status: &'static str,
    attempt: u32,
}

/// The events of a task in their order; `ended` is what `done` shows of it.
pub(super) fn encode(events: &[Event], task_id: &TaskId, ended: Option<&TaskRecord>) -> Bytes {
    let mut text = String::new();
    for event in events {
        match event {
            Event::Status { id, status, attempt } => {
                let data = StatusData { task_id, status: status.as_str(), attempt: *attempt };
                frame(&mut text, *id, "status", &serde_json::to_string(&data).unwrap_or_default());
            }
            Event::Output { id, data } => frame(&mut text, *id, "output", &String::from_utf8_lossy(data)),
            Event::Done { id } => {
                let shown = ended.map(task_view::json).unwrap_or_default();
                frame(&mut text, *id, "done", &String::from_utf8_lossy(&shown));
            }
        }
    }
    Bytes::from(text)
}

/// The last words of a gateway that goes: no event, but where the client stands and how soon it may go on elsewhere.
pub(super) fn farewell(last: Cursor, task_id: &TaskId) -> Bytes {
    let mixed = task_id.as_str().bytes().fold(0_u64, |mixed, byte| mixed.wrapping_mul(31).wrapping_add(byte.into()));
    let retry_ms = COME_BACK.start() + mixed % (COME_BACK.end() - COME_BACK.start() + 1);
    Bytes::from(format!(": draining\nretry: {retry_ms}\nid: {last}\n\n"))
}

fn frame(text: &mut String, id: Cursor, event: &str, data: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "id: {id}\nevent: {event}");
    // The format's three line ends; its client joins the lines again with line feeds.
    let mut rest = data;
    loop {
        let (line, after) = match rest.find(['\r', '\n']) {
            Some(at) if rest[at..].starts_with("\r\n") => (&rest[..at], Some(&rest[at + 2..])),
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let _ = writeln!(text, "data: {line}");
        match after {
            Some(after) => rest = after,
            None => break,
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use portcullis_lua::TaskStatus;

    use super::*;
    use crate::task_view::tests::record;

    fn output(data: &'static str) -> String {
        let event = Event::Output { id: Cursor::parse("1-2").unwrap(), data: Bytes::from_static(data.as_bytes()) };
        let bytes = encode(&[event], &TaskId::generate(), None);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn every_line_of_data_is_prefixed_whatever_ends_it() {
        assert_eq!(output("a"), "id: 1-2\nevent: output\ndata: a\n\n");
        assert_eq!(
            output(" a\nb\r\nc\rid: 9-9\n"),
            "id: 1-2\nevent: output\ndata:  a\ndata: b\ndata: c\ndata: id: 9-9\ndata: \n\n"
        );
        assert_eq!(output(""), "id: 1-2\nevent: output\ndata: \n\n");
    }

    #[test]
    fn a_farewell_is_no_event_and_says_where_the_client_stands() {
        let retries: std::collections::HashSet<String> = (0..100)
            .map(|_| {
                let bytes = farewell(Cursor::parse("2-7").unwrap(), &TaskId::generate());
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                let [comment, retry, id, "", ""] = text.split('\n').collect::<Vec<_>>()[..] else { panic!("{text:?}") };
                assert_eq!((comment, id), (": draining", "id: 2-7"));
                let retry = retry.strip_prefix("retry: ").unwrap();
                assert!(COME_BACK.contains(&retry.parse().unwrap()), "{retry}");
                retry.to_owned()
            })
            .collect();
        assert!(retries.len() > 10, "not all at the same time: {retries:?}");
    }

    #[test]
    fn status_and_done_carry_json() {
        let record = record(TaskStatus::Cancelled, &[]);
        let events = [
            Event::Status { id: Cursor::parse("0-1").unwrap(), status: TaskStatus::Queued, attempt: 0 },
            Event::Done { id: Cursor::parse("1-0").unwrap() },
        ];
        let text = String::from_utf8(encode(&events, &record.task_id, Some(&record)).to_vec()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["id: 0-1", "event: status"]);
        let data = r#"data: {"task_id":"01JD7Y5M3T0000000000000000","status":"queued","attempt":0}"#;
        assert_eq!(lines[2], data);
        assert_eq!(lines[4..6], ["id: 1-0", "event: done"]);
        assert_eq!(lines[6], format!("data: {}", String::from_utf8(task_view::json(&record)).unwrap()));
    }
}
