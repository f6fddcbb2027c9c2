//! Closed-loop load: so many connections, each sending again as soon as it was answered.
//!
//! Responsible for the load and its account. Must never count an answer of another kind than the one being measured as
//! one of it: they are counted apart and shown.

use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bench_http::connection::Connection;
use crate::error::HarnessError;

/// Callers the admitted load rotates through: enough that none comes near its limits.
const CALLERS: u64 = 20_000;
const BODY: &str = r#"{"kind":"bench","payload":{"question":"what does one decision cost","words":[1,2,3,4,5,6,7,8]}}"#;

/// What every connection sends.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    path: &'static str,
    expected: u16,
    many_callers: bool,
}

impl Load {
    /// The same request over and over, without a credential.
    #[must_use]
    pub fn plain(path: &'static str, expected: u16) -> Self {
        Self { path, expected, many_callers: false }
    }

    /// Each request by another privileged caller.
    #[must_use]
    pub fn many_callers(path: &'static str, expected: u16) -> Self {
        Self { path, expected, many_callers: true }
    }

    fn request(&self, number: u64) -> Vec<u8> {
        let credential = if self.many_callers {
            format!("Authorization: Bearer dev:privileged:caller-{}\r\n", number % CALLERS)
        } else {
            String::new()
        };
        format!(
            "POST {} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             {credential}Content-Length: {}\r\n\r\n{BODY}",
            self.path,
            BODY.len()
        )
        .into_bytes()
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// Answers of the expected status.
    pub answers: u64,
    /// All others.
    pub unexpected: u64,
    elapsed: Duration,
    latency_us: Histogram<u64>,
}

impl Driven {
    /// Expected answers per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    /// Time of an exchange at this quantile, ms.
    #[must_use]
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency_us.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Sends `load` over this many connections for this long.
pub async fn drive(at: SocketAddr, load: &Load, connections: u32, time: Duration) -> Result<Driven, HarnessError> {
    let mut running = JoinSet::new();
    let started = Instant::now();
    for number in 0..connections {
        let load = *load;
        running
            .spawn(async move { repeat(at, &load, u64::from(number), u64::from(connections), started + time).await });
    }
    let mut total = Driven { answers: 0, unexpected: 0, elapsed: time, latency_us: histogram() };
    while let Some(joined) = running.join_next().await {
        let one = joined.map_err(|panic| HarnessError::Answer(panic.to_string()))??;
        total.answers += one.answers;
        total.unexpected += one.unexpected;
        total.latency_us += one.latency_us;
    }
    total.elapsed = started.elapsed();
    Ok(total)
}

async fn repeat(at: SocketAddr, load: &Load, first: u64, step: u64, end: Instant) -> Result<Driven, HarnessError> {
    let mut connection = Connection::open(at).await?;
    let mut driven = Driven { answers: 0, unexpected: 0, elapsed: Duration::ZERO, latency_us: histogram() };
    let mut number = first;
    let mut request = load.request(number);
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(driven);
        }
        let status = connection.exchange(&request).await?;
        driven.latency_us.saturating_record(sent.elapsed().as_micros() as u64);
        if status == load.expected {
            driven.answers += 1;
        } else {
            driven.unexpected += 1;
        }
        if load.many_callers {
            number += step;
            request = load.request(number);
        }
    }
}

/// Two significant digits, up to a minute.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 2).unwrap_or_else(|_| unreachable!("constant bounds are valid"))
}
