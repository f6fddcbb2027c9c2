//! The way of one process to Redis, which can be slowed down and cut.
//!
//! Responsible for faults of a network that no process notices at once: latency, silence, resets. Must never touch what
//! is carried over it.

use std::net::SocketAddr;
use std::time::Duration;

use redis_server_wrapper::{Delay, Direction, FaultProxy};

use crate::error::HarnessError;

const BOTH: [Direction; 2] = [Direction::ClientToUpstream, Direction::UpstreamToClient];

/// A proxy of one process's own in front of Redis. Connections end when it is dropped or when either side closes them.
pub struct Link {
    proxy: FaultProxy,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("address", &self.proxy.addr()).finish_non_exhaustive()
    }
}

impl Link {
    /// A way to this server, on a free loopback port.
    pub async fn to(server: SocketAddr) -> Result<Self, HarnessError> {
        let proxy = FaultProxy::spawn(server).await;
        let proxy = proxy.map_err(|error| HarnessError::Answer(format!("starting a proxy: {error}")))?;
        Ok(Self { proxy })
    }

    /// What the process is given instead of the server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.proxy.addr())
    }

    /// Everything takes longer by this, half of it on each way; with `jitter` up to so much more.
    pub fn slow(&self, latency: Duration, jitter: Duration) {
        let (min, max) = (latency / 2, (latency + jitter) / 2);
        for direction in BOTH {
            self.proxy.set_delay(direction, Delay::Random { min, max });
        }
    }

    /// Nothing arrives on either side, and nobody is told: the connections stay open.
    pub fn partition(&self) {
        for direction in BOTH {
            self.proxy.set_stall(direction);
        }
    }

    /// Every connection is reset, once. New ones are served.
    pub fn reset(&self) {
        self.proxy.reset_peer();
    }

    /// Carries again as if nothing had been; what was held back arrives now.
    pub fn heal(&self) {
        self.proxy.reset();
    }
}
