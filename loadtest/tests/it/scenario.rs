//! Scenarios from the command line, as users run them: played, judged, written, refused.
//!
//! Responsible for the way from a file to an exit code. Must never expect a figure that a busy machine cannot keep.

use std::path::Path;
use std::process::{Output, Stdio};

use portcullis_loadtest::invariant;
use portcullis_loadtest::record::Record;
use portcullis_loadtest::report::Summary;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::process::Command;

use crate::fixture::{turn, until};

const STEADY: &str = "
name: short
about: a few seconds of a small load
cluster: { gateways: 2, processors: 2, slots: 10, store_timeout_ms: 5000 }
backend:
  chat: { service: { distribution: uniform, from_ms: 5, to_ms: 20 } }
load:
  users:
    arrivals: { pattern: poisson, per_second: 60 }
    duration_seconds: 3
    callers:
      - { user_type: registered, count: 20 }
      - { user_type: paid, count: 10 }
    kinds:
      - { kind: chat }
";

const CHAOS: &str = "
name: short-chaos
about: a few seconds in which much breaks
cluster:
  gateways: 2
  processors: 2
  slots: 10
  redis: { append_only: true, proxied: true }
  policy:
    queue: { lease_ms: 1000, retry: { initial_ms: 100 } }
    monitoring: { heartbeat_timeout_seconds: 1 }
backend:
  chat: { service: { distribution: uniform, from_ms: 5, to_ms: 100 } }
load:
  users:
    arrivals: { pattern: constant, per_second: 40 }
    duration_seconds: 9
    callers:
      - { user_type: registered, count: 20 }
      - { user_type: paid, count: 10 }
    kinds:
      - { kind: chat, idempotent: true, max_attempts: 20 }
    retry: { retry_after: obey, max_tries: 5, patience_seconds: 6 }
faults:
  random:
    every_seconds: 0.6
    lasting_seconds: [0.3, 1.5]
    from_seconds: 1
    until_seconds: 7
    of: [kill, pause, partition, kill_redis, pause_redis, flush_scripts, cut_connections, lose_pubsub,
         { do: update_policy, patch: { rate_limits: { roles: { paid: { burst: 90 } } } } }]
expect:
  accepted_not_ended: \"== 0\"
  unexpected_answers: \"== 0\"
";

fn scenario(folder: &TempDir, text: &str) -> String {
    let file = folder.path().join("scenario.yaml");
    std::fs::write(&file, text).expect("written");
    file.to_string_lossy().into_owned()
}

async fn loadtest(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-loadtest"));
    command.args(args).kill_on_drop(true).output().await.expect("it runs")
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> T {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// State and parent of every process, by id, as the kernel has them.
#[cfg(target_os = "linux")]
fn processes() -> Vec<(u32, char, u32)> {
    let ids = std::fs::read_dir("/proc").expect("a process table").flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let process = |id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        Some((id, fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
    };
    ids.filter_map(process).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_ends_a_run_leaves_no_process_behind() {
    use rustix::process::{Pid, Signal, kill_process};

    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = scenario(&folder, STEADY);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-loadtest"));
        command.args(["run", &file]).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut harness = command.spawn().expect("it runs");
        let id = harness.id().expect("it runs");
        let cluster = until("redis, two gateways and two processors run", || async {
            let of_harness = processes().into_iter().filter(|(_, _, parent)| *parent == id);
            let children: Vec<u32> = of_harness.map(|(child, ..)| child).collect();
            (children.len() == 5).then_some(children)
        })
        .await;
        let pid = Pid::from_raw(id.try_into().expect("an id")).expect("an id");
        kill_process(pid, signal).expect("told to end");
        let status = harness.wait().await.expect("it ends");
        assert_eq!(status.code(), Some(1), "{signal:?}: {status}");
        until("every process is gone", || async {
            let left = processes().into_iter().any(|(id, state, _)| cluster.contains(&id) && state != 'Z');
            (!left).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_steady_run_is_good_and_is_written_down() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let expect = "expect: { succeeded_share: \"== 1\", accepted_not_ended: \"== 0\", failed_calls: \"== 0\" }\n";
    let file = scenario(&folder, &format!("{STEADY}{expect}"));
    let out = folder.path().join("out");
    let output = loadtest(&["run", &file, "--seed", "3", "--out", &out.to_string_lossy()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    let (record, summary): (Record, Summary) = (read(&out, "record.json"), read(&out, "summary.json"));
    assert_eq!((record.name.as_str(), record.seed), ("short", 3));
    assert!(record.calls.len() > 100 && !record.samples.is_empty(), "{} calls", record.calls.len());
    assert_eq!(record.attempts.len(), record.calls.iter().filter(|call| call.is_accepted()).count());
    // Handlers and clients are on one clock, though handlers are started before it.
    let last_us = record.calls.iter().map(|call| call.ended_us).max().expect("calls");
    assert!(record.attempts.iter().all(|attempt| attempt.started_us < last_us + 5_000_000));
    assert!(invariant::check(&record).hold() && summary.is_good());
    let page = std::fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(page.contains("short") && page.contains("<svg"));
}

#[tokio::test]
async fn under_short_chaos_every_invariant_holds() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, out) = (scenario(&folder, CHAOS), folder.path().join("out"));
    let output = loadtest(&["run", &file, "--seed", "11", "--out", &out.to_string_lossy()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let record: Record = read(&out, "record.json");
    assert!(record.faults.len() >= 5, "{:?}", record.faults);
    assert!(record.faults.iter().all(|fault| fault.until_us.is_some()), "all undone: {:?}", record.faults);
}

#[tokio::test]
async fn an_expectation_that_is_not_met_fails_the_run() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = scenario(&folder, &format!("{STEADY}expect: {{ admitted_share: \"<= 0.5\" }}\n"));
    let output = loadtest(&["run", &file, "--duration", "0.3"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("admitted_share"), "{}", text(&output));
}

#[tokio::test]
async fn a_file_with_faults_is_refused_with_all_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = STEADY
        .replace("slots: 10", "slots: 0")
        .replace("duration_seconds: 3", "duration_secs: 3")
        .replace("about:", "abuot:")
        + "
faults:
  - { at_seconds: 1, do: kill, process: gateway-7, lasting_seconds: 1 }
  - { at_seconds: 2, do: slow_redis, latency_ms: 5 }
  - { at_seconds: 2, do: pause_rediss, lasting_seconds: 1 }
expect: { goodput_of_capasity: \">= 1\", failed_calls: none }
";
    let output = loadtest(&["run", "steady", &scenario(&folder, &wrong)]).await;
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    let told = text(&output);
    for fault in [
        "abuot: unknown section; the nearest known one is `about`",
        "about: missing",
        "cluster.slots: must be 1 to 10000, is 0",
        "load.users: unknown field `duration_secs`",
        "the nearest is `duration_seconds`",
        "faults[1]: slow_redis needs lasting_seconds",
        "faults[2]: unknown variant `pause_rediss`",
        "the nearest is `pause_redis`",
        "expect.goodput_of_capasity: unknown figure; the nearest known one is `goodput_of_capacity`",
        "expect.failed_calls: \"none\" is no comparison",
    ] {
        assert!(told.contains(fault), "{fault:?} is not in:\n{told}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_to_a_cluster_is_refused_before_it_is_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let faults = "
faults:
  - { at_seconds: 1, do: kill, process: gateway-7, lasting_seconds: 1 }
  - { at_seconds: 1, do: partition, process: processor-0, lasting_seconds: 1 }
  - { at_seconds: 2, do: pause_redis, lasting_seconds: 2 }
  - { at_seconds: 3, do: kill_redis, lasting_seconds: 1 }
";
    let output = loadtest(&["run", &scenario(&folder, &format!("{STEADY}{faults}"))]).await;
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    let told = text(&output);
    for fault in ["faults[0]: there is no gateway-7", "faults[1]: partition needs", "pause_redis at 2 s is not over"] {
        assert!(told.contains(fault), "{fault:?} is not in:\n{told}");
    }
}

#[tokio::test]
async fn shipped_scenarios_are_listed_and_printed() {
    let listed = text(&loadtest(&["scenarios"]).await);
    assert!(listed.lines().any(|line| line.starts_with("overload-10x ")), "{listed}");
    let printed = loadtest(&["scenarios", "chaos"]).await;
    assert!(text(&printed).contains("name: chaos"));
    let output = loadtest(&["scenarios", "kaos"]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output).contains("\"chaos\""), "{}", text(&output));
    assert_eq!(loadtest(&["run", "kaos"]).await.status.code(), Some(64));
}
