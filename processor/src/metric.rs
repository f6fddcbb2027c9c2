//! Every metric of a processor: name, unit, labels. Must never carry a task, session or principal in a label: their
//! number has no bound.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

const ATTEMPTS: &str = "portcullis_processor_attempts_total";
const ATTEMPT_SECONDS: &str = "portcullis_processor_attempt_duration_seconds";
const WAIT_SECONDS: &str = "portcullis_processor_queue_wait_seconds";
const RUNNING: &str = "portcullis_processor_attempts_running";
const SLOTS: &str = "portcullis_processor_slots";
const DRAINING: &str = "portcullis_processor_draining";
const POLICY_REVISION: &str = "portcullis_processor_policy_revision";
const CLAIMS: &str = "portcullis_processor_claims_total";
const RENEWALS: &str = "portcullis_processor_renewals_total";
const SETTLEMENTS: &str = "portcullis_processor_settlements_total";
const REQUEUED: &str = "portcullis_processor_requeued_total";
const REVOKED: &str = "portcullis_processor_revoked_tasks_total";
const OUTPUT_PIECES: &str = "portcullis_processor_output_pieces_total";
const STORE_ERRORS: &str = "portcullis_processor_store_errors_total";

/// Bucket bounds of durations, seconds: from a wake-up to a long agent run.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

/// The process's recorder, installed on first use. Where another recorder was installed before (a program that embeds
/// several components), the metrics go there and this handle renders nothing.
pub(crate) fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> PrometheusHandle {
    // The only error is an empty list of buckets.
    let recorder = PrometheusBuilder::new().set_buckets(&SECONDS).unwrap_or_default().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("another metrics recorder is installed in this process");
    }
    describe();
    handle
}

fn describe() {
    describe_counter!(ATTEMPTS, "Attempts that ended, by handler and outcome");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "Run time of attempts, by handler");
    describe_histogram!(WAIT_SECONDS, Unit::Seconds, "Admission to first claim, Redis clock");
    describe_gauge!(RUNNING, "Attempts running now");
    describe_gauge!(SLOTS, "Attempts that may run at once");
    describe_gauge!(DRAINING, "1 while this processor takes no more work");
    describe_gauge!(POLICY_REVISION, "Revision of the policy in force; 0 is the document it was started with");
    describe_counter!(CLAIMS, "Claims, by result: tasks, empty, error");
    describe_counter!(RENEWALS, "Leases at renewal, by result: held, cancelled, lost");
    describe_counter!(SETTLEMENTS, "Settlements, by the status they led to, stale, abandoned, or left");
    describe_counter!(REQUEUED, "Lapsed leases of others put back into the queue");
    describe_counter!(REVOKED, "Claimed tasks that were not run because their caller's credential was revoked");
    describe_counter!(OUTPUT_PIECES, "Pieces of streamed output appended");
    describe_counter!(STORE_ERRORS, "Failed calls to Redis, by script; policy is following the policy");
}

/// An attempt ended. `handler` is the kind it is registered for, never the kind a client sent.
pub(crate) fn attempt(handler: &str, outcome: &'static str, ran: Duration) {
    counter!(ATTEMPTS, "handler" => handler.to_owned(), "outcome" => outcome).increment(1);
    histogram!(ATTEMPT_SECONDS, "handler" => handler.to_owned()).record(ran.as_secs_f64());
}

/// A task was claimed for the first time, this long after its admission.
pub(crate) fn queue_wait(waited_ms: u64) {
    histogram!(WAIT_SECONDS).record(waited_ms as f64 / 1000.0);
}

/// How busy this processor is.
pub(crate) fn occupancy(running: u32, slots: u32, draining: bool) {
    gauge!(RUNNING).set(f64::from(running));
    gauge!(SLOTS).set(f64::from(slots));
    gauge!(DRAINING).set(if draining { 1.0 } else { 0.0 });
}

/// Which policy is in force here.
pub(crate) fn policy_revision(revision: u64) {
    gauge!(POLICY_REVISION).set(revision as f64);
}

/// A claim was answered or failed.
pub(crate) fn claim(result: &'static str) {
    counter!(CLAIMS, "result" => result).increment(1);
}

/// One lease's answer at renewal.
pub(crate) fn renewal(result: &'static str) {
    counter!(RENEWALS, "result" => result).increment(1);
}

/// One settlement was answered or given up.
pub(crate) fn settlement(result: &'static str) {
    counter!(SETTLEMENTS, "result" => result).increment(1);
}

/// Lapsed leases were put back into the queue.
pub(crate) fn requeued(count: u64) {
    counter!(REQUEUED).increment(count);
}

/// A task was not run because its caller's credential was revoked.
pub(crate) fn revoked() {
    counter!(REVOKED).increment(1);
}

/// Pieces of output were appended.
pub(crate) fn output_pieces(count: usize) {
    counter!(OUTPUT_PIECES).increment(count as u64);
}

/// A call to Redis failed.
pub(crate) fn store_error(script: &'static str) {
    counter!(STORE_ERRORS, "script" => script).increment(1);
}
