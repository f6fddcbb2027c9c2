//! On a Redis Cluster: every script stays within its scope's slot.
//!
//! Responsible for a node that refuses any script that touches keys of two slots. Must never need a second node: a
//! single one with every slot refuses all the same.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use portcullis_loadtest::eventually;
use portcullis_loadtest::probe::Probe;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;

use super::cast::tight;
use super::sequence::play_many;
use super::stage::{Stage, cases};

/// A cluster of one node. Dropping it kills the process and removes its directory.
pub(crate) struct Node {
    _child: Child,
    _directory: TempDir,
    port: u16,
}

impl Node {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let [port, bus] = [free_port(), free_port()];
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--cluster-port", &bus.to_string(), "--cluster-enabled", "yes"])
            .args([
                "--bind",
                "127.0.0.1",
                "--cluster-announce-ip",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server starts");
        let node = Self { _child: child, _directory: directory, port };
        let probe = eventually(Duration::from_secs(20), "the node answers", || async {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).await.ok()?;
            Probe::connect(&node.url("redis")).await.ok()
        });
        let probe = probe.await.expect("a connection");
        probe.command("CLUSTER", ["ADDSLOTSRANGE", "0", "16383"]).await.expect("all slots");
        let ready = eventually(Duration::from_secs(20), "the cluster is whole", || async {
            let info: String = probe.command("CLUSTER", ["INFO"]).await.ok()?.convert().ok()?;
            info.contains("cluster_state:ok").then_some(())
        });
        ready.await.expect("a cluster");
        probe.close().await;
        node
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

/// A port that was free a moment ago, below those that connections are given.
fn free_port() -> u16 {
    let ports = (0..100).map(|_| rand::random_range(12_000..32_000));
    let mut free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("a free port")
}

#[test]
fn random_histories_stay_within_a_slot_of_a_cluster() {
    let runtime = Runtime::new().expect("a runtime");
    let node = runtime.block_on(Node::start());
    let stage = runtime.block_on(Stage::on(&node.url("redis-cluster"), &node.url("redis")));
    play_many(&runtime, &stage, &tight(), cases(8));
}
