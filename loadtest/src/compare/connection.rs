//! One HTTP/1.1 connection that spends as little of the machine as it can.
//!
//! Responsible for sending prepared bytes and finding the end of the answer. Must never be used where an answer's
//! content matters: it reads only the status and the length.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::HarnessError;

const READ_BYTES: usize = 4096;

/// A kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// Connects, with Nagle's algorithm off.
    pub async fn open(address: SocketAddr) -> Result<Self, HarnessError> {
        let doing = || HarnessError::io("connecting");
        let stream = TcpStream::connect(address).await.map_err(doing())?;
        stream.set_nodelay(true).map_err(doing())?;
        Ok(Self { stream, received: Vec::with_capacity(READ_BYTES) })
    }

    /// So many connections to one address.
    pub async fn open_all(address: SocketAddr, count: u32) -> Result<Vec<Self>, HarnessError> {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(Self::open(address).await?);
        }
        Ok(connections)
    }

    /// Sends a whole request and reads its whole answer; the status.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16, HarnessError> {
        self.stream.write_all(request).await.map_err(HarnessError::io("sending"))?;
        self.received.clear();
        loop {
            if let Some((status, length)) = complete(&self.received) {
                if self.received.len() == length {
                    return Ok(status);
                }
                return Err(HarnessError::Answer("more than one answer to one request".to_owned()));
            }
            let read = self.stream.read_buf(&mut self.received).await.map_err(HarnessError::io("receiving"))?;
            if read == 0 {
                return Err(HarnessError::Answer("the server closed the connection".to_owned()));
            }
        }
    }

    /// The last answer, head and body, byte for byte.
    #[must_use]
    pub fn answer(&self) -> &[u8] {
        &self.received
    }
}

/// Status and total length of the answer, once all of it is there.
fn complete(received: &[u8]) -> Option<(u16, usize)> {
    let head_end = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&received[..head_end]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let lengths = head.lines().filter_map(|line| line.split_once(':'));
    let length = lengths
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .find_map(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    (received.len() >= head_end + length).then_some((status, head_end + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_whole_body() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(complete(&answer[..answer.len() - 1]), None);
        assert_eq!(complete(answer), Some((202, answer.len())));
    }

    #[test]
    fn takes_an_answer_without_length_for_empty() {
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(complete(answer), Some((204, answer.len())));
    }
}
