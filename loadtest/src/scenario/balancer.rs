//! Which gateways take part, by their health: the balancer in front of a cluster.
//!
//! Responsible for what balancers do (probe, take out, put back in, send to everybody where nobody is healthy), so that
//! a gateway that dies fails as many calls as it would behind one. Must never be told of a fault: it has to notice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::error::HarnessError;
use crate::load::Targets;

/// Between two probes of a gateway.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// A probe without an answer after this long has failed.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// So many probes in a row must fail until a gateway is taken out; one that succeeds puts it back in.
const FAILURES: u32 = 2;

/// Where each gateway listens, by number.
type Addresses = Arc<Mutex<BTreeMap<u32, SocketAddr>>>;

/// A running balancer. It ends with its handle.
#[derive(Debug)]
pub struct Balancer {
    addresses: Addresses,
    _probing: AbortOnDropHandle<()>,
}

impl Balancer {
    /// Puts every gateway in, and looks after them from now on.
    pub fn start(targets: &Targets, gateways: BTreeMap<u32, SocketAddr>) -> Result<Self, HarnessError> {
        for (gateway, address) in &gateways {
            targets.put(*gateway, format!("http://{address}"));
        }
        let http = reqwest::Client::builder().no_proxy().timeout(PROBE_LIMIT).pool_max_idle_per_host(0).build()?;
        let addresses = Arc::new(Mutex::new(gateways));
        let probing = AbortOnDropHandle::new(tokio::spawn(probe(http, targets.clone(), Arc::clone(&addresses))));
        Ok(Self { addresses, _probing: probing })
    }

    /// A gateway listens elsewhere now. It is put in when it is found to be healthy.
    pub fn moved(&self, gateway: u32, address: SocketAddr) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).insert(gateway, address);
    }
}

async fn probe(http: reqwest::Client, targets: Targets, addresses: Addresses) {
    let mut failures: BTreeMap<u32, u32> = BTreeMap::new();
    let mut rounds = tokio::time::interval(PROBE_EVERY);
    loop {
        rounds.tick().await;
        let gateways = addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let probes = gateways.iter().map(|(gateway, address)| {
            let answer = http.get(format!("http://{address}/readyz")).send();
            async move { (*gateway, answer.await.is_ok_and(|answer| answer.status().is_success())) }
        });
        for (gateway, healthy) in futures_util::future::join_all(probes).await {
            let failed = failures.entry(gateway).or_default();
            *failed = if healthy { 0 } else { failed.saturating_add(1) };
        }
        let out = |gateway: &u32| failures.get(gateway).is_some_and(|failed| *failed >= FAILURES);
        let nobody = gateways.keys().all(out);
        for (gateway, address) in &gateways {
            if nobody || failures.get(gateway) == Some(&0) {
                put(&targets, *gateway, *address);
            } else if out(gateway) {
                targets.remove(*gateway);
            }
        }
    }
}

/// Puts a gateway in unless it is.
fn put(targets: &Targets, gateway: u32, address: SocketAddr) {
    let url = format!("http://{address}");
    if !targets.present().iter().any(|target| target.gateway == gateway && *target.url == *url) {
        targets.put(gateway, url);
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;
    use crate::eventually::eventually;

    async fn healthy() -> (SocketAddr, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/readyz", get(|| async { "ready\n" }));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        (address, AbortOnDropHandle::new(serving))
    }

    async fn until_in(targets: &Targets, wanted: &[(u32, SocketAddr)]) {
        let wanted: Vec<_> = wanted.iter().map(|(gateway, address)| (*gateway, format!("http://{address}"))).collect();
        eventually(Duration::from_secs(30), "these are in", || async {
            let present: Vec<_> = targets.present().iter().map(|at| (at.gateway, at.url.to_string())).collect();
            (present == wanted).then_some(())
        })
        .await
        .expect("noticed");
    }

    #[tokio::test]
    async fn a_gateway_that_dies_is_taken_out_and_put_in_where_it_comes_back() {
        let ((first, _first), (second, dying)) = (healthy().await, healthy().await);
        let targets = Targets::default();
        let balancer = Balancer::start(&targets, BTreeMap::from([(0, first), (1, second)])).expect("started");
        until_in(&targets, &[(0, first), (1, second)]).await;
        drop(dying);
        until_in(&targets, &[(0, first)]).await;
        let (again, _again) = healthy().await;
        balancer.moved(1, again);
        until_in(&targets, &[(0, first), (1, again)]).await;
    }

    #[tokio::test]
    async fn where_nobody_is_healthy_everybody_is_asked() {
        let (address, dying) = healthy().await;
        let targets = Targets::default();
        drop(dying);
        let _balancer = Balancer::start(&targets, BTreeMap::from([(0, address)])).expect("started");
        targets.remove(0);
        until_in(&targets, &[(0, address)]).await;
    }
}
