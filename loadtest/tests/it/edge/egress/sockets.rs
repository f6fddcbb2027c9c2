//! The sockets of processes, looked at again and again while they live.
//!
//! Responsible for who is connected to where, from the first moment of a process on: processes are found by a mark in
//! their environment, whoever starts them. Must never slow them down: it reads what the kernel tells. A connection that
//! is over between two looks is not seen: see [`super`] for what sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const LISTENING: &str = "0A";

/// Pause between two looks: others want the processor, too.
const PAUSE: Duration = Duration::from_millis(2);

/// Who was seen with sockets to where.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// What each process opened to others, by its role: over TCP to whom.
    pub(super) connected: BTreeSet<(String, SocketAddr)>,
    /// Sockets of UDP, by role.
    pub(super) datagrams: BTreeSet<(String, SocketAddr)>,
    /// Processes that were looked at, by role.
    pub(super) processes: BTreeMap<String, usize>,
}

/// Looks until it is told to stop.
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Seen>,
}

impl Watcher {
    /// Looks at every process that begins from now on with this in its environment.
    pub(super) fn start(variable: &str, value: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let looking = spawn({
            let (stop, mark) = (stop.clone(), format!("{variable}={value}"));
            let mut look = Look { mark, others: processes(), ..Look::default() };
            move || {
                while !stop.load(Ordering::Relaxed) {
                    look.once();
                    sleep(PAUSE);
                }
                look.seen
            }
        });
        Self { stop, looking }
    }

    /// What was seen until now.
    pub(super) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().expect("it looked")
    }
}

#[derive(Default)]
struct Look {
    mark: String,
    /// Processes that were there before.
    others: BTreeSet<u32>,
    /// Those that are looked at, and their roles.
    known: BTreeMap<u32, String>,
    /// Ports that a process listens on, whether or not it still does.
    listening: BTreeMap<u32, BTreeSet<u16>>,
    seen: Seen,
}

impl Look {
    fn once(&mut self) {
        self.find();
        for (pid, role) in self.known.clone() {
            self.at(pid, &role);
        }
    }

    /// Processes that have begun since the last look, and none that are over.
    fn find(&mut self) {
        let now = processes();
        self.known.retain(|pid, _| now.contains(pid));
        for &pid in now.difference(&self.others) {
            // One that has not executed its program yet has another's environment: it is asked again.
            if !self.known.contains_key(&pid)
                && let Some(role) = self.role_of(pid)
            {
                *self.seen.processes.entry(role.clone()).or_default() += 1;
                self.known.insert(pid, role);
            }
        }
    }

    fn role_of(&self, pid: u32) -> Option<String> {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let marked = read("environ").split(|byte| *byte == 0).any(|each| each == self.mark.as_bytes());
        let arguments = read("cmdline");
        let role = arguments.split(|byte| *byte == 0).nth(1)?;
        marked.then(|| String::from_utf8_lossy(role).into_owned())
    }

    fn at(&mut self, pid: u32, role: &str) {
        let inodes = inodes_of(pid);
        for table in ["tcp", "tcp6"] {
            for socket in sockets(pid, table).filter(|socket| inodes.contains(&socket.inode)) {
                if socket.state == LISTENING {
                    self.listening.entry(pid).or_default().insert(socket.local.port());
                    continue;
                }
                let accepted = self.listening.get(&pid).is_some_and(|ports| ports.contains(&socket.local.port()));
                if !accepted && socket.remote.port() != 0 {
                    self.seen.connected.insert((role.to_owned(), socket.remote));
                }
            }
        }
        for table in ["udp", "udp6"] {
            for socket in sockets(pid, table).filter(|socket| inodes.contains(&socket.inode)) {
                self.seen.datagrams.insert((role.to_owned(), socket.remote));
            }
        }
    }
}

fn processes() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn inodes_of(pid: u32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let target = |path: &Path| fs::read_link(path).ok()?.to_str().map(str::to_owned);
    let inode = |text: String| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    entries.filter_map(|entry| inode(target(&entry.path())?)).collect()
}

#[derive(Debug, PartialEq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: String,
    inode: u64,
}

/// The sockets of a process's network namespace.
fn sockets(pid: u32, table: &str) -> impl Iterator<Item = Socket> + use<> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let lines: Vec<Socket> = text.lines().skip(1).filter_map(socket).collect();
    lines.into_iter()
}

/// A line as `proc_pid_net(5)` has it.
fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (address(words.next()?)?, address(words.next()?)?, words.next()?.to_owned());
    let inode = words.nth(5)?.parse().ok()?;
    Some(Socket { local, remote, state, inode })
}

/// Words of four bytes as this machine has them in memory, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..ip.len() / 8)
        .map(|word| Some(u32::from_str_radix(ip.get(word * 8..word * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::from(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[test]
fn lines_of_the_kernel_are_read() {
    let line =
        "   0: 0100007F:1F90 0200A8C0:01BB 01 00000000:00000000 00:00000000 00000000  0        0 4711 1 0 20 4 30";
    let expected = Socket {
        local: "127.0.0.1:8080".parse().expect("an address"),
        remote: "192.168.0.2:443".parse().expect("an address"),
        state: "01".to_owned(),
        inode: 4711,
    };
    assert_eq!(socket(line), Some(expected));
    let mapped = address("0000000000000000FFFF00000100007F:0050");
    assert_eq!(mapped, Some("127.0.0.1:80".parse().expect("an address")));
    let v6 = address("B80D0120000000000000000001000000:0050");
    assert_eq!(v6, Some("[2001:db8::1]:80".parse().expect("an address")));
}
