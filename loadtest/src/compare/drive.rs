//! Closed-loop load: so many connections, each sending again as soon as it was answered.
//!
//! Responsible for the load and its account. Must never count an answer of another kind than the one being measured as
//! one of it: they are counted apart and shown. Must never do more for one kind of request than for another: what the
//! client spends is taken from what the server could have.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::compare::connection::Connection;
use crate::error::HarnessError;
use crate::report::quantiles::histogram;

/// Callers that a load may rotate through: enough that none comes near its limits, and five digits each.
const CALLERS: u64 = 20_000;
const DIGITS: usize = 5;
const BODY: &str = r#"{"kind":"bench","payload":{"question":"what does one decision cost","words":[1,2,3,4,5,6,7,8]}}"#;

/// What every connection sends.
#[derive(Clone, Debug)]
pub struct Load {
    request: Vec<u8>,
    /// Where the number of the caller stands in it.
    number_at: Option<usize>,
    expected: u16,
}

impl Load {
    /// The same submission over and over, without a credential.
    #[must_use]
    pub fn post(path: &str, expected: u16) -> Self {
        Self { request: post(path, ""), number_at: None, expected }
    }

    /// Each submission by another caller of this user type.
    #[must_use]
    pub fn many_callers(path: &str, user_type: &str, expected: u16) -> Self {
        Self::of_callers(user_type, expected, |header| post(path, header))
    }

    /// Each question by another caller of this user type.
    #[must_use]
    pub fn get_by_many_callers(path: &str, user_type: &str, expected: u16) -> Self {
        Self::of_callers(user_type, expected, |header| get(path, header))
    }

    fn of_callers(user_type: &str, expected: u16, request: impl FnOnce(&str) -> Vec<u8>) -> Self {
        let before = format!("Authorization: Bearer dev:{user_type}:caller-");
        let request = request(&format!("{before}{:0DIGITS$}\r\n", 0));
        let number_at = request.windows(before.len()).position(|window| window == before.as_bytes());
        Self { request, number_at: number_at.map(|at| at + before.len()), expected }
    }

    /// The same question over and over.
    #[must_use]
    pub fn get(path: &str, expected: u16) -> Self {
        Self { request: get(path, ""), number_at: None, expected }
    }

    /// The bytes of one request.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The status that is wanted.
    #[must_use]
    pub fn expected(&self) -> u16 {
        self.expected
    }

    /// Writes the caller's number into the request, in place.
    fn address(&mut self, caller: u64) {
        let Some(at) = self.number_at else { return };
        let mut rest = caller % CALLERS;
        for digit in self.request[at..at + DIGITS].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

fn get(path: &str, header: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{header}\r\n").into_bytes()
}

fn post(path: &str, header: &str) -> Vec<u8> {
    let length = BODY.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
         {header}Content-Length: {length}\r\n\r\n{BODY}"
    )
    .into_bytes()
}

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// Answers of the expected status.
    pub answers: u64,
    /// All others.
    pub unexpected: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Time of each exchange.
    pub latency_us: Histogram<u64>,
    /// Length of an expected answer, head and body.
    pub answer_bytes: usize,
}

impl Driven {
    fn nothing() -> Self {
        let (elapsed, latency_us) = (Duration::ZERO, histogram());
        Self { answers: 0, unexpected: 0, elapsed, latency_us, answer_bytes: 0 }
    }
}

/// Sends `load` over these connections for this long.
pub async fn drive(connections: Vec<Connection>, load: &Load, time: Duration) -> Result<Driven, HarnessError> {
    let (mut running, step) = (JoinSet::new(), connections.len() as u64);
    let started = Instant::now();
    for (first, connection) in (0..).zip(connections) {
        running.spawn(repeat(connection, load.clone(), first, step, started + time));
    }
    let mut total = Driven::nothing();
    while let Some(joined) = running.join_next().await {
        let one = joined.map_err(|panic| HarnessError::Answer(panic.to_string()))??;
        total.answers += one.answers;
        total.unexpected += one.unexpected;
        total.latency_us += one.latency_us;
        total.answer_bytes = total.answer_bytes.max(one.answer_bytes);
    }
    total.elapsed = started.elapsed();
    Ok(total)
}

async fn repeat(
    mut connection: Connection,
    mut load: Load,
    first: u64,
    step: u64,
    end: Instant,
) -> Result<Driven, HarnessError> {
    let (mut driven, mut caller) = (Driven::nothing(), first);
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(driven);
        }
        load.address(caller);
        let status = connection.exchange(&load.request).await?;
        driven.latency_us.saturating_record(sent.elapsed().as_micros() as u64);
        if status == load.expected {
            driven.answers += 1;
            driven.answer_bytes = connection.answer().len();
        } else {
            driven.unexpected += 1;
        }
        caller += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_caller_has_a_number_of_its_own() {
        let mut load = Load::many_callers("/v1/tasks", "paid", 202);
        let length = load.request().len();
        load.address(CALLERS + 1234);
        let text = String::from_utf8(load.request().to_vec()).expect("text");
        assert!(text.contains("Authorization: Bearer dev:paid:caller-01234\r\n"), "{text}");
        assert_eq!(text.len(), length);
        assert!(text.ends_with(BODY) && text.contains(&format!("Content-Length: {}\r\n", BODY.len())));
    }

    #[test]
    fn who_has_no_number_stays_as_it_is() {
        let mut load = Load::post("/bare", 202);
        let before = load.request().to_vec();
        load.address(7);
        assert_eq!(load.request(), before);
    }
}
