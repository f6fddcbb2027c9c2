//! One gateway that believes all kinds of credentials, and one sample of any of them.
//!
//! Responsible for the same gateway and the same connection for every kind. Must never take an answer of another kind
//! for the one that is measured.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_lua::ScopeStore;
use serde_json::json;
use tokio::time::Instant;

use crate::bench_credentials::credential::{Credential, Issued, Requests};
use crate::bench_credentials::processor_time;
use crate::cluster::{Cluster, Launcher};
use crate::compare::connection::Connection;
use crate::credentials::Credentials;
use crate::error::HarnessError;
use crate::report::quantiles::histogram;

/// What one round of one kind came to, per request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Processor time of the gateway, µs.
    pub gateway_us: f64,
    /// Processor time of Redis, µs.
    pub redis_us: f64,
    /// Median time of an exchange, µs.
    pub p50_us: f64,
}

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    credentials: Credentials,
    cluster: Cluster,
    store: ScopeStore,
    gateway: u32,
    redis: u32,
}

impl Stage {
    /// Starts everything.
    pub async fn start(launcher: Launcher) -> Result<Self, HarnessError> {
        let credentials = Credentials::new(&json!({})).await?;
        let builder = Cluster::builder(launcher).gateways(1).env("PORTCULLIS_LOG", "warn");
        // Full load on few cores is not an outage.
        let builder = builder.env("PORTCULLIS_STORE_TIMEOUT_MS", "2000");
        let mut cluster = credentials.believed_by(builder).start().await?;
        let ended = || HarnessError::Answer("a process has ended".to_owned());
        let gateway = cluster.gateways()[0].id().ok_or_else(ended)?;
        let redis = cluster.redis()?.id().ok_or_else(ended)?;
        Ok(Self { store: cluster.store().await?, credentials, cluster, gateway, redis })
    }

    /// Measures a kind with so many requests.
    pub async fn sample(&self, credential: Credential, count: u32) -> Result<Sample, HarnessError> {
        let issued = Issued { credentials: &self.credentials, store: &self.store };
        let requests = credential.requests(&issued, count).await?;
        let address: SocketAddr = self.cluster.public_address(0);
        let mut connection = Connection::open(address).await?;
        let first = match &requests {
            Requests::Same(request) => request.clone(),
            // The connection is there before anything is measured; who nobody is, is no kind of these.
            Requests::Each(_) => b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n".to_vec(),
        };
        expect(credential, connection.exchange(&first).await?)?;
        let mut latency_us = histogram();
        let before = (processor_time::of(self.gateway)?, processor_time::of(self.redis)?);
        for number in 0..count as usize {
            let request = match &requests {
                Requests::Same(request) => request,
                Requests::Each(requests) => &requests[number],
            };
            let sent = Instant::now();
            expect(credential, connection.exchange(request).await?)?;
            latency_us.saturating_record(sent.elapsed().as_micros() as u64);
        }
        let used = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(count);
        Ok(Sample {
            gateway_us: used(processor_time::of(self.gateway)?, before.0),
            redis_us: used(processor_time::of(self.redis)?, before.1),
            p50_us: latency_us.value_at_quantile(0.5) as f64,
        })
    }

    /// Ends everything.
    pub async fn end(mut self) -> Result<(), HarnessError> {
        self.cluster.end().await
    }
}

fn expect(credential: Credential, status: u16) -> Result<(), HarnessError> {
    if status == 200 {
        return Ok(());
    }
    Err(HarnessError::Answer(format!("{}: answered with {status}", credential.title())))
}
