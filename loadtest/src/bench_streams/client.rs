//! Thousands of event streams followed with little memory and little CPU.
//!
//! Responsible for counting what is heard, and when. Must never keep what it has read: a stream's state is the few
//! bytes of a line that has not come to its end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use portcullis_lua::TaskId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::error::HarnessError;

/// Bytes read at once; on the stack while reading, not in every stream.
const READ_BYTES: usize = 4096;

/// What all streams together have heard.
#[derive(Debug)]
pub(super) struct Heard {
    /// Changes of status.
    pub(super) events: AtomicU64,
    /// Pieces of output.
    pub(super) pieces: AtomicU64,
    /// Ends of tasks.
    pub(super) ends: AtomicU64,
    since: Instant,
    latency_us: Mutex<Histogram<u64>>,
}

impl Default for Heard {
    fn default() -> Self {
        let (events, pieces, ends) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { events, pieces, ends, since: Instant::now(), latency_us: Mutex::new(histogram()) }
    }
}

/// Two significant digits, up to a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 2).unwrap_or_else(|_| unreachable!("constant bounds are valid"))
}

impl Heard {
    /// Time of this run, µs: what a piece of output says it was written at.
    pub(super) fn now_us(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }

    /// From the writing of a piece to its delivery, µs.
    pub(super) fn latency_us(&self) -> Histogram<u64> {
        self.latencies().clone()
    }

    fn latencies(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.latency_us.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of a stream; whether it was the last that matters.
    fn line(&self, line: &[u8]) -> bool {
        match line {
            b"event: status" => _ = self.events.fetch_add(1, Ordering::Relaxed),
            b"event: done" => {
                self.ends.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            _ => {
                let written =
                    line.strip_prefix(b"data: ").and_then(|data| std::str::from_utf8(data).ok()?.parse().ok());
                // Only output is a number.
                if let Some(written_us) = written {
                    self.latencies().saturating_record(self.now_us().saturating_sub(written_us));
                    self.pieces.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        false
    }
}

/// A stream that has been answered; what came behind the head is still to be read.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    line: Vec<u8>,
}

/// Asks for a task's events and waits until the answer begins; what comes along with its head is counted.
pub(super) async fn open(
    at: SocketAddr,
    token: &str,
    task: &TaskId,
    heard: &Heard,
) -> Result<Connection, HarnessError> {
    let doing = || HarnessError::io("opening an event stream");
    let mut stream = TcpStream::connect(at).await.map_err(doing())?;
    let request =
        format!("GET /v1/tasks/{task}/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(doing())?;
    let mut connection = Connection { stream, line: Vec::new() };
    let mut status = None;
    while status.is_none() {
        let each = |line: &[u8]| match status {
            None => status = Some(String::from_utf8_lossy(line).into_owned()),
            Some(_) => _ = heard.line(line),
        };
        connection.read(each).await?;
    }
    let status = status.unwrap_or_default();
    if status.starts_with("HTTP/1.1 200 ") { Ok(connection) } else { Err(HarnessError::Answer(status)) }
}

/// Counts what a stream tells until its task has ended.
pub(super) async fn follow(mut connection: Connection, heard: std::sync::Arc<Heard>) -> Result<(), HarnessError> {
    let mut done = false;
    while !done {
        connection.read(|line| done |= heard.line(line)).await?;
    }
    Ok(())
}

impl Connection {
    /// Reads what has come and hands over each line that is complete.
    async fn read(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), HarnessError> {
        let doing = || HarnessError::io("reading an event stream");
        self.stream.readable().await.map_err(doing())?;
        let mut bytes = [0; READ_BYTES];
        let length = match self.stream.try_read(&mut bytes) {
            Ok(0) => return Err(HarnessError::Answer("an event stream ended before its task".to_owned())),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(doing()(error)),
        };
        for piece in bytes[..length].split_inclusive(|&byte| byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.line.extend_from_slice(end);
                    each(self.line.strip_suffix(b"\r").unwrap_or(&self.line));
                    self.line = Vec::new();
                }
                None => self.line.extend_from_slice(piece),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_for_what_they_are() {
        let heard = Heard::default();
        for line in
            ["id: 1-1", "event: status", "data: {\"status\":\"running\"}", "event: output", ": keep-alive", "7b"]
        {
            assert!(!heard.line(line.as_bytes()), "{line}");
        }
        let written = format!("data: {}", heard.now_us());
        assert!(!heard.line(written.as_bytes()));
        assert!(heard.line(b"event: done"));
        let counted = [&heard.events, &heard.pieces, &heard.ends].map(|count| count.load(Ordering::Relaxed));
        assert_eq!((counted, heard.latency_us().len()), ([1, 1, 1], 1));
    }
}
