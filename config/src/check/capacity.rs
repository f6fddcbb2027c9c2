//! Capacity: what one instance of the processors could do, against what callers are promised.
//!
//! Responsible for the reference system's capacity advice. None of it is an error, since capacity is that of the live
//! processors, which no document knows. Must never decide an admission.

use super::Findings;
use crate::fault::Path;
use crate::identity::UserType;
use crate::policy::Policy;

/// Most processes of one instance before its author is asked whether they are meant.
const MANY_PROCESSES: u64 = 16;
/// Most requests one instance may take in before its author is asked whether they are meant.
const MANY_REQUESTS: u64 = 1000;

/// Compares one instance's capacity with limits, thresholds and itself.
pub(super) fn check(policy: &Policy, findings: &mut Findings) {
    let section = Path::of("service_capacity");
    let pressure = Path::of("backpressure");
    let (capacity, backpressure) = (&policy.service_capacity, &policy.backpressure);
    let (per_process, processes) = (capacity.concurrent_requests_per_process, capacity.processes_per_instance);
    let slots = per_process * processes;
    let sizes = [section.key("concurrent_requests_per_process"), section.key("processes_per_instance")];
    let (buffer, multiplier) = (pressure.key("capacity_buffer"), pressure.key("queue_depth_multiplier"));

    if capacity.concurrent_requests_per_instance.is_some_and(|stated| stated != slots) {
        let message =
            format!("this is not {per_process} per process x {processes} processes = {slots}, which is what counts");
        findings.warning(&[section.key("concurrent_requests_per_instance")], message);
    }
    if processes > MANY_PROCESSES {
        findings.warning(&sizes[1..], format!("{processes} processes in one instance are unusually many"));
    }
    let running = (slots as f64 * (1.0 - backpressure.capacity_buffer)).floor();
    let waiting = (slots as f64 * backpressure.queue_depth_multiplier).floor();
    if running < per_process as f64 {
        let message = format!(
            "capacity_buffer leaves room for {running} running requests, less than one process runs ({per_process})"
        );
        findings.warning(&[buffer.clone(), sizes[0].clone(), sizes[1].clone()], message);
    }
    if waiting < slots as f64 {
        let message = format!(
            "queue_depth_multiplier lets {waiting} requests wait, fewer than an instance runs at once ({slots})"
        );
        findings.warning(&[multiplier.clone(), sizes[0].clone(), sizes[1].clone()], message);
    }
    let total = running + waiting;
    if total > MANY_REQUESTS as f64 {
        let message = format!("one instance takes in {total} requests, which is unusually many");
        findings.warning(&[sizes[0].clone(), sizes[1].clone(), multiplier.clone(), buffer.clone()], message);
    }
    if !matches!(backpressure.capacity_source_component.parse(), Ok(crate::slices::Component::Proc)) {
        let message = "only proc sends heartbeats; capacity is that of the live processors whatever stands here";
        findings.warning(&[pressure.key("capacity_source_component")], message);
    }
    never_admitted(policy, total, &[&sizes[..], &[buffer, multiplier]].concat(), findings);
    more_than_an_instance_can_do(policy, slots, &sizes, findings);
}

/// Thresholds are shares of whole requests: a low one of a small capacity is none at all.
fn never_admitted(policy: &Policy, total: f64, causes: &[Path], findings: &mut Findings) {
    let thresholds = ["anonymous", "registered", "paid", "privileged"].into_iter().filter_map(|name| {
        let threshold = policy.threshold_of(&UserType::new(name).ok()?)?;
        Some((name, threshold))
    });
    for (name, threshold) in thresholds.filter(|(_, threshold)| (total * threshold).floor() < 1.0) {
        let key = if name == "privileged" { "hard_limit".to_owned() } else { format!("{name}_pressure") };
        let place = Path::of("backpressure").key(&format!("{key}_threshold"));
        let share = format!("{threshold} of the {total} requests one instance takes in is less than one");
        let message = format!("{share}: {name} callers are never admitted to it");
        findings.warning(&[&[place], causes].concat(), message);
    }
}

/// One session's hourly limit against what an instance can finish in an hour.
fn more_than_an_instance_can_do(policy: &Policy, slots: u64, sizes: &[Path], findings: &mut Findings) {
    let service_time = policy.service_capacity.avg_processing_time_seconds;
    let hourly = (slots as f64 * 3600.0 / service_time).floor();
    for name in ["anonymous", "registered"] {
        let Some(role) = policy.rate_limits.roles.get(name).filter(|role| role.hourly as f64 > hourly) else {
            continue;
        };
        let place = Path::of("rate_limits.roles").key(name).key("hourly");
        let message = format!("one session may send {} requests an hour, an instance finishes {hourly}", role.hourly);
        let service_time = Path::of("service_capacity.avg_processing_time_seconds");
        findings.warning(&[&[place, service_time], sizes].concat(), message);
    }
}
