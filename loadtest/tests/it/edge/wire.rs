//! Bytes to a gateway and what it answers to them.
//!
//! Must never repair what a test sends.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fixture::PATIENCE;

/// Everything a gateway answers to these bytes until it closes the connection: what is sent has to make it.
pub(super) async fn answers(address: SocketAddr, bytes: &[u8]) -> Vec<String> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // It may have closed before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut text = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    assert!(read.is_ok(), "still open after {:?}: {}", String::from_utf8_lossy(bytes), String::from_utf8_lossy(&text));
    let text = String::from_utf8_lossy(&text).into_owned();
    let starts: Vec<usize> = text.match_indices("HTTP/1.1 ").map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| text[*start..end].to_owned()).collect()
}

/// The status of an answer.
pub(super) fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// The statuses of all answers.
pub(super) async fn statuses(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    answers(address, bytes).await.iter().map(|answer| status(answer)).collect()
}

/// A value of a header of an answer; empty if it has none.
pub(super) fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let lines = answer.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    let fields = lines.filter_map(|line| line.split_once(':'));
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .next()
        .unwrap_or_default()
}
