//! Reads server-sent events as they arrive.
//!
//! Responsible for the framing of the WHATWG event stream format, as far as the gateway uses it. Must never reconnect
//! by itself: tests decide where a stream breaks.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::time::Duration;

use crate::client::Answer;
use crate::error::HarnessError;

/// A silent stream is broken: the gateway sends a comment every 15 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(40);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// To be sent as `Last-Event-ID` when resuming.
    pub id: String,
    /// `status`, `output` or `done`.
    pub name: String,
    /// Its data, lines joined by newlines.
    pub data: String,
}

/// A stream of events being read.
pub struct EventReader {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    unread: Vec<u8>,
}

impl std::fmt::Debug for EventReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventReader").field("unread", &self.unread.len()).finish_non_exhaustive()
    }
}

impl EventReader {
    pub(crate) async fn open(response: reqwest::Response) -> Result<Self, HarnessError> {
        if response.status().as_u16() == 200 {
            return Ok(Self { bytes: response.bytes_stream().boxed(), unread: Vec::new() });
        }
        let answer = Answer::read(response, tokio::time::Instant::now()).await?;
        Err(HarnessError::Answer(format!("no event stream but {}: {}", answer.status, answer.text)))
    }

    /// The next event; `None` once the stream has ended.
    pub async fn next(&mut self) -> Result<Option<Event>, HarnessError> {
        loop {
            while let Some(block) = take_block(&mut self.unread) {
                if let Some(event) = parse_event(&block) {
                    return Ok(Some(event));
                }
            }
            match tokio::time::timeout(SILENCE_LIMIT, self.bytes.next()).await {
                Ok(Some(piece)) => self.unread.extend_from_slice(&piece?),
                Ok(None) => return Ok(None),
                Err(_) => return Err(HarnessError::Timeout(SILENCE_LIMIT, "the event stream says anything".into())),
            }
        }
    }

    /// Every event up to and including `done`, or to the end of the stream.
    pub async fn until_done(&mut self) -> Result<Vec<Event>, HarnessError> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            let done = event.name == "done";
            events.push(event);
            if done {
                break;
            }
        }
        Ok(events)
    }
}

/// Cuts off the first complete block, which ends with an empty line.
fn take_block(unread: &mut Vec<u8>) -> Option<String> {
    let end = unread.windows(2).position(|pair| pair == b"\n\n")?;
    let block: Vec<u8> = unread.drain(..end + 2).collect();
    Some(String::from_utf8_lossy(&block).into_owned())
}

/// `None` for a block without an event: a comment, or `retry` alone.
fn parse_event(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut data: Vec<&str> = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut event.id),
            "event" => value.clone_into(&mut event.name),
            "data" => data.push(value),
            _ => {}
        }
    }
    event.data = data.join("\n");
    (!event.name.is_empty() || !data.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_event_with_several_data_lines() {
        let event = parse_event("id: 1-2\nevent: output\ndata: a\ndata: b\n\n").expect("an event");
        assert_eq!(event, Event { id: "1-2".into(), name: "output".into(), data: "a\nb".into() });
    }

    #[test]
    fn passes_over_comments_and_retry() {
        assert_eq!(parse_event(": still here\n\n"), None);
        assert_eq!(parse_event("retry: 1000\n\n"), None);
    }

    #[test]
    fn waits_for_the_end_of_a_block() {
        let mut unread = b"id: 1\nevent: status\n".to_vec();
        assert_eq!(take_block(&mut unread), None);
        unread.extend_from_slice(b"data: {}\n\nid: 2");
        assert!(take_block(&mut unread).is_some());
        assert_eq!(unread, b"id: 2");
    }
}
