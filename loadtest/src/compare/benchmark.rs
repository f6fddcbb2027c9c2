//! What Redis alone can do on this machine, by `redis-benchmark`.
//!
//! Responsible for running the tool and reading its figures. Must never replace it: its client is the one Redis is
//! usually measured with, so its figures can be held against those of others.

use std::net::SocketAddr;

use tokio::process::Command;

use crate::error::HarnessError;

/// The tool, in the order of preference; Valkey's is the same program.
const TOOLS: [&str; 2] = ["redis-benchmark", "valkey-benchmark"];

/// One run of the tool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Benchmarked {
    /// Requests answered.
    pub answers: u64,
    /// Requests per second.
    pub per_second: f64,
    /// Median time of a request, ms.
    pub p50_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
}

/// The tool that is installed, if one is.
pub async fn tool() -> Option<&'static str> {
    for tool in TOOLS {
        if Command::new(tool).arg("--version").output().await.is_ok() {
            return Some(tool);
        }
    }
    None
}

/// Sends `command` this often over so many connections, `pipeline` of them at a time on each.
pub async fn run(
    tool: &str,
    redis: SocketAddr,
    command: &[&str],
    connections: u32,
    pipeline: u32,
    requests: u64,
) -> Result<Benchmarked, HarnessError> {
    let mut process = Command::new(tool);
    process.args(["-h", &redis.ip().to_string(), "-p", &redis.port().to_string(), "--csv"]);
    process.args(["-c", &connections.to_string(), "-P", &pipeline.to_string(), "-n", &requests.to_string()]);
    let output = process.args(command).kill_on_drop(true).output().await;
    let output = output.map_err(HarnessError::io(format!("running {tool}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = || {
        let words = String::from_utf8_lossy(&output.stderr);
        HarnessError::Answer(format!("{tool} printed no figures: {text}{words}"))
    };
    parse(&text, requests).ok_or_else(complaint)
}

/// A line of titles, then one of figures.
fn parse(csv: &str, requests: u64) -> Option<Benchmarked> {
    let mut lines = csv.lines().skip_while(|line| !line.starts_with("\"test\""));
    let cells = |line: &str| -> Vec<String> { line.split("\",\"").map(|cell| cell.replace('"', "")).collect() };
    let (titles, figures) = (cells(lines.next()?), cells(lines.next()?));
    let figure = |title: &str| figures.get(titles.iter().position(|one| one == title)?)?.parse::<f64>().ok();
    Some(Benchmarked {
        answers: requests,
        per_second: figure("rps")?,
        p50_ms: figure("p50_latency_ms")?,
        p99_ms: figure("p99_latency_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_tools_table() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                   \"p99_latency_ms\",\"max_latency_ms\"\n\"EVALSHA a 0\",\"100000.00\",\"0.3\",\"0.1\",\"0.25\",\
                   \"0.5\",\"0.75\",\"1.0\"\n";
        let expected = Benchmarked { answers: 7, per_second: 100_000.0, p50_ms: 0.25, p99_ms: 0.75 };
        assert_eq!(parse(csv, 7), Some(expected));
        assert_eq!(parse("ERR no such command\n", 7), None);
    }
}
