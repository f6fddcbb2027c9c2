//! nginx in front of the upstream, as a careful operator would put it there.
//!
//! Responsible for its configuration, one worker and connections that are kept on both sides, and for it ending with
//! its handle. Must never be slowed down on purpose: it is what a gateway's way to the upstream is held against.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::error::HarnessError;
use crate::eventually::eventually;

/// It starts in a moment.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running nginx. It ends with its handle.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    process: Child,
    /// Its configuration and what it writes.
    _directory: TempDir,
}

impl Nginx {
    /// Starts it in front of `upstream`; `None` where it is not installed.
    pub async fn start(upstream: SocketAddr) -> Result<Option<Self>, HarnessError> {
        let directory = tempfile::tempdir().map_err(HarnessError::io("making a directory"))?;
        let address = free_address().await?;
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration(directory.path(), address, upstream))
            .map_err(HarnessError::io("writing a configuration"))?;
        let mut command = Command::new("nginx");
        // Packages install it to where only root looks.
        let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).args(["-e", "stderr", "-c"]).arg(&file).stdin(Stdio::null()).kill_on_drop(true);
        let process = match command.spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HarnessError::io("starting nginx")(error)),
        };
        eventually(START_LIMIT, "nginx listens", || async { TcpStream::connect(address).await.ok() }).await?;
        Ok(Some(Self { address, process, _directory: directory }))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Ends it.
    pub async fn end(mut self) -> Result<(), HarnessError> {
        self.process.kill().await.map_err(HarnessError::io("ending nginx"))
    }
}

/// An address of loopback nobody listens on now.
async fn free_address() -> Result<SocketAddr, HarnessError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(HarnessError::io("binding a port"))?;
    listener.local_addr().map_err(HarnessError::io("reading the bound address"))
}

fn configuration(directory: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    let directory = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {directory}/{name};\n"))
        .concat();
    // Without a master its one process does all the work, so that its processor time is that of one process.
    format!(
        "daemon off; master_process off; pid {directory}/pid; worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
{temporary}
access_log off;
keepalive_requests 1000000000;
upstream application {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}
server {{
  listen {listen};
  location / {{
    proxy_pass http://application;
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
