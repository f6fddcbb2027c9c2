//! One command to one Redis server, on a connection that lives no longer than the answer.
//!
//! Responsible for what an operator does with `redis-cli` and what no client library lets through: a question to this
//! very node, be it a sentinel, a replica, a node of a cluster or one that is loading. Must never be on the way of any
//! load: every question is a connection.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::error::HarnessError;

/// A server that is asked here is not under load beyond what it can bear; one that is frozen never answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Sends a command, its words quoted as for `redis-cli`. Strings and numbers of the answer, one per line, whatever
/// arrays they stand in; an error of Redis is an error.
pub async fn ask(server: SocketAddr, command: &str) -> Result<String, HarnessError> {
    let asked = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        read_answer(&mut BufReader::new(stream)).await
    };
    let answered = tokio::time::timeout(ANSWER_LIMIT, asked).await;
    let answered = answered.map_err(|_| HarnessError::Timeout(ANSWER_LIMIT, format!("redis answers {command:?}")))?;
    answered.map_err(HarnessError::io(format!("asking redis {command:?}")))
}

/// Reads one answer of RESP 2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
async fn read_answer(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut expected: u64 = 1;
    while expected > 0 {
        expected -= 1;
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let Some(body) = line.strip_suffix("\r\n").and_then(|line| line.get(1..)) else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        match line.as_bytes()[0] {
            b'+' | b':' => parts.push(body.to_owned()),
            b'-' => return Err(std::io::Error::other(body.to_owned())),
            b'*' => expected += body.parse::<u64>().unwrap_or(0),
            b'$' => match body.parse::<u64>() {
                Ok(length) => parts.push(read_text(from, length).await?),
                // Minus one: there is no such value.
                Err(_) => parts.push(String::new()),
            },
            _ => return Err(std::io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(parts.join("\n"))
}

async fn read_text(from: &mut (impl AsyncBufRead + Unpin), length: u64) -> std::io::Result<String> {
    let mut text = Vec::new();
    from.take(length + 2).read_to_end(&mut text).await?;
    if text.len() as u64 != length + 2 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    text.truncate(text.len() - 2);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(wire: &str) -> std::io::Result<String> {
        read_answer(&mut BufReader::new(wire.as_bytes())).await
    }

    #[tokio::test]
    async fn reads_every_kind_of_answer() {
        for (wire, text) in [
            ("+OK\r\n", "OK"),
            (":12\r\n", "12"),
            ("$5\r\na\r\nbc\r\n", "a\r\nbc"),
            ("$-1\r\n", ""),
            ("*0\r\n", ""),
            ("*2\r\n*1\r\n$1\r\na\r\n:7\r\n", "a\n7"),
        ] {
            assert_eq!(answer(wire).await.expect(wire), text, "{wire:?}");
        }
    }

    #[tokio::test]
    async fn an_error_and_a_broken_answer_are_errors() {
        for wire in ["-MOVED 7 127.0.0.1:7000\r\n", "", "+OK", "$5\r\nabc", "*2\r\n:1\r\n"] {
            assert!(answer(wire).await.is_err(), "{wire:?}");
        }
    }
}
