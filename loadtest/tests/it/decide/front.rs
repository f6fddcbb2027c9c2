//! A proxy as it comes from its package, with a shipped configuration.
//!
//! Responsible for its process, its directory and its port. Must never leave either behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::fixture::until;

/// Where packages put servers that no login shell has on its path.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
/// How often a port is chosen: somebody else may have taken it before the proxy did.
const PORTS: usize = 5;

/// A running proxy. It ends with its handle.
pub(super) struct Front {
    address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Front {
    /// nginx, asking this gateway about requests for this application.
    pub(super) async fn nginx(gateway: SocketAddr, application: SocketAddr) -> Self {
        let addresses = [("127.0.0.1:8080", gateway), ("127.0.0.1:9000", application)];
        Self::start("nginx", "nginx.conf", &addresses, |command, directory| {
            // One process: a master that is killed would leave its workers behind.
            command.arg("-p").arg(directory).arg("-c").arg(directory.join("nginx.conf"));
            command.args(["-g", "daemon off; master_process off;"]);
        })
        .await
    }

    /// Caddy, likewise.
    pub(super) async fn caddy(gateway: SocketAddr, application: SocketAddr) -> Self {
        let addresses = [("127.0.0.1:8080", gateway), ("127.0.0.1:9000", application)];
        Self::start("caddy", "Caddyfile", &addresses, |command, directory| {
            command.arg("run").arg("--config").arg(directory.join("Caddyfile")).args(["--adapter", "caddyfile"]);
            command.env("HOME", directory).env("XDG_DATA_HOME", directory).env("XDG_CONFIG_HOME", directory);
        })
        .await
    }

    /// `HAProxy` in front of two gateways.
    pub(super) async fn haproxy(gateways: [SocketAddr; 2]) -> Self {
        let addresses = [("127.0.0.1:8080", gateways[0]), ("127.0.0.1:8180", gateways[1])];
        Self::start("haproxy", "haproxy.cfg", &addresses, |command, directory| {
            command.arg("-db").arg("-f").arg(directory.join("haproxy.cfg"));
        })
        .await
    }

    async fn start(
        name: &str,
        config: &str,
        addresses: &[(&str, SocketAddr)],
        arguments: impl Fn(&mut Command, &Path),
    ) -> Self {
        for _ in 0..PORTS {
            let directory = tempfile::Builder::new().prefix("portcullis-proxy-").tempdir().expect("a directory");
            let address = free_address();
            let mut text = shipped(config);
            for (shipped, real) in addresses.iter().copied().chain([("127.0.0.1:8000", address)]) {
                assert!(text.contains(shipped), "{config} does not name {shipped}");
                // Through a name that is no address, or an address just put in could be taken for a shipped one.
                text =
                    text.replace(shipped, &format!("<{shipped}>")).replace(&format!("<{shipped}>"), &real.to_string());
            }
            fs::write(directory.path().join(config), text).expect("written");
            let log = fs::File::create(directory.path().join("log")).expect("a log");
            let mut command = Command::new(executable(name));
            arguments(&mut command, directory.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
            let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
            let mut front = Self { address, child, directory };
            if front.listens().await {
                return front;
            }
            let words = front.words();
            assert!(words.contains("in use"), "{name} ended: {words}");
        }
        panic!("{name} found no port");
    }

    /// Whether it accepts connections; not if it has ended.
    async fn listens(&mut self) -> bool {
        let (address, child) = (self.address, std::cell::RefCell::new(&mut self.child));
        until("the proxy listens or ends", || async {
            if TcpStream::connect(address).await.is_ok() {
                return Some(true);
            }
            matches!(child.borrow_mut().try_wait(), Ok(Some(_))).then_some(false)
        })
        .await
    }

    /// Where clients reach it.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has written to its log.
    pub(super) fn words(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// A configuration as it is shipped.
pub(crate) fn shipped(config: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/proxies").join(config);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
}

fn executable(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed; deploy/install-proxies.sh installs it"))
}
