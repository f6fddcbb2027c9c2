//! A real load balancer in front of the gateways of a test: nginx or `HAProxy`, as they are in production.
//!
//! Responsible for their configuration, the shipped one or nothing that a careful operator would not say, and for
//! addresses that stay the same when a gateway is restarted: a loopback network of the test's own. Must never be told
//! of a restart: it has to notice.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use portcullis_loadtest::Client;
use portcullis_loadtest::client::http_client;
use portcullis_loadtest::cluster::{Builder, Member};
use rand::RngExt;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::decide::front::shipped;
use crate::fixture::until;

const PORT: u16 = 8080;

/// Where everything listens: `127.a.b.1` and on for the gateways. Nothing else on the machine uses these addresses, so
/// nothing takes them while a gateway is away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network([u8; 2]);

impl Network {
    pub(super) fn new() -> Self {
        let mut random = rand::rng();
        Self([random.random_range(1..=254), random.random_range(1..=254)])
    }

    fn address(self, host: u8) -> SocketAddr {
        let [a, b] = self.0;
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, a, b, host)), PORT)
    }

    fn gateway(self, index: usize) -> SocketAddr {
        self.address(index as u8 + 1)
    }

    /// So many gateways, each at its address, that believe one proxy in front.
    pub(super) fn gateways(self, builder: Builder, count: usize) -> Builder {
        let builder = builder.gateways(count).env("TRUSTED_PROXY_COUNT", "1").env("TRUSTED_PROXY_CIDRS", "127.0.0.0/8");
        (0..count).fold(builder, |builder, index| {
            builder.member_env(Member::Gateway(index), "PORTCULLIS_LISTEN", &self.gateway(index).to_string())
        })
    }
}

/// Which balancer, and what it speaks to the gateways.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Finds out by failing: it has no health checks of its own.
    Nginx,
    /// Asks `/readyz`.
    Haproxy,
    /// Asks `/readyz`, and speaks HTTP/2.
    HaproxyHttp2,
}

/// A running balancer. It ends with its handle.
#[derive(Debug)]
pub(super) struct Balancer {
    address: SocketAddr,
    _process: Child,
    _directory: TempDir,
}

impl Balancer {
    /// Starts one in front of so many gateways, and waits until it listens.
    pub(super) async fn start(kind: Kind, network: Network, gateways: usize) -> Self {
        let (directory, address) = (tempfile::tempdir().expect("a directory"), network.address(100));
        let gateways: Vec<SocketAddr> = (0..gateways).map(|index| network.gateway(index)).collect();
        let (program, config, arguments) = match kind {
            Kind::Nginx => ("nginx", nginx(directory.path(), address, &gateways), &["-e", "stderr", "-c"][..]),
            Kind::Haproxy => ("haproxy", haproxy(address, &gateways, ""), &["-q", "-db", "-f"][..]),
            Kind::HaproxyHttp2 => ("haproxy", haproxy(address, &gateways, "proto h2"), &["-q", "-db", "-f"][..]),
        };
        let file = directory.path().join("balancer.conf");
        std::fs::write(&file, config).expect("a file");
        let mut command = Command::new(program);
        command.env("PATH", search_path()).args(arguments).arg(&file).stdin(Stdio::null()).kill_on_drop(true);
        // nginx says at length how it found out that a gateway is gone.
        command.stderr(std::fs::File::create(directory.path().join("log")).expect("a log"));
        let process = command.spawn().unwrap_or_else(|error| {
            panic!(
                "{program} cannot be started ({error}); deploy/test.sh installs it, and so does the package {program}"
            )
        });
        until("the balancer listens", || async { TcpStream::connect(address).await.ok() }).await;
        Self { address, _process: process, _directory: directory }
    }

    /// A caller in front of it, with connections of its own.
    pub(super) fn client(&self) -> Client {
        Client::new(http_client().expect("a client"), self.address)
    }
}

/// Packages install to where only root looks.
fn search_path() -> String {
    format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default())
}

fn nginx(directory: &Path, listen: SocketAddr, gateways: &[SocketAddr]) -> String {
    let directory = directory.display();
    // A refused connection sends the request to the next one; nothing is said about requests that were sent already.
    let servers = gateways.iter().map(|gateway| format!("server {gateway} max_fails=0; "));
    let servers = servers.collect::<Vec<_>>().concat();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {directory}/{name};\n"))
        .concat();
    format!(
        "daemon off; master_process off; pid {directory}/pid; worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
{temporary}
access_log off;
upstream gateways {{ {servers} keepalive 16; keepalive_timeout 60s; }}
server {{
  listen {listen};
  location / {{
    proxy_pass http://gateways;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  }}
}}
}}
"
    )
}

/// The shipped configuration with these addresses.
fn haproxy(listen: SocketAddr, gateways: &[SocketAddr], protocol: &str) -> String {
    let shipped = shipped("haproxy.cfg");
    let (before_servers, _) = shipped.split_once("    server ").expect("servers, last of all");
    assert!(before_servers.contains("127.0.0.1:8000"), "where it listens");
    let numbered = (0..).zip(gateways);
    let servers = numbered.map(|(index, gateway): (u32, _)| format!("    server g{index} {gateway} {protocol}\n"));
    let servers = servers.collect::<Vec<_>>().concat();
    before_servers.replace("127.0.0.1:8000", &listen.to_string()) + &servers
}
