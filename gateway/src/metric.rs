//! Every metric of a gateway: its name, unit and labels, and one function for each thing that is counted.
//!
//! Responsible for keeping the names in one place and the labels few: an outcome, a step, a code, a user type, a route,
//! never the id of a session, task, principal or request, because each of those would be a time series that never ends.
//! Must never be where something is decided.
//!
//! Names follow Prometheus: prefix `portcullis_`, base units (seconds, not milliseconds), `_total` on counters.
//! A handle is looked up once per label set and then reused, so that counting costs a lookup and an addition.

mod credential;
mod degraded;
pub use credential::credential_refused;
pub(crate) use credential::lowering_refused;
pub(crate) use degraded::degraded;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use portcullis_config::{Scope, UserType};
use portcullis_lua::QueueView;

const DECISIONS: &str = "portcullis_decisions_total";
const LOCAL_REFUSALS: &str = "portcullis_local_refusals_total";
const ADMIT_BATCH: &str = "portcullis_admit_batch_requests";
const ADMIT_DURATION: &str = "portcullis_admit_duration_seconds";
const GATHERED: &str = "portcullis_gathered_requests";
const HTTP_DURATION: &str = "portcullis_http_request_duration_seconds";
const STORE_BREAKER: &str = "portcullis_store_breaker_open";
const EVENT_STREAMS: &str = "portcullis_event_streams";
const BUILD: &str = "portcullis_build_info";
const PASSES_IN_FLIGHT: &str = "portcullis_passes_in_flight";
const PASSES_LOST: &str = "portcullis_passes_lost_total";
const PASSES_TAKEN_BACK: &str = "portcullis_passes_taken_back_total";
const UPSTREAM_FAILURES: &str = "portcullis_upstream_failures_total";
const RLS_QUESTIONS: &str = "portcullis_rls_questions_total";
const SCOPES: &str = "portcullis_scopes";
const POLICY_LOADS: &str = "portcullis_policy_loads_total";
const STALE_POLICY: &str = "portcullis_stale_policy_total";
const UPKEEP_FAILURES: &str = "portcullis_scope_upkeep_failures_total";
const SCOPE_READABLE: &str = "portcullis_scope_readable";
const SCOPE_TASKS: &str = "portcullis_scope_tasks";
const SCOPE_QUEUED: &str = "portcullis_scope_queued_tasks";
const SCOPE_THRESHOLD: &str = "portcullis_scope_threshold_tasks";
const SCOPE_HARD_LIMIT: &str = "portcullis_scope_hard_limit_tasks";
const SCOPE_DEPTH: &str = "portcullis_scope_depth_tasks";
const SCOPE_CAPACITY: &str = "portcullis_scope_capacity_tasks";
const SCOPE_SLOTS: &str = "portcullis_scope_slots";
const SCOPE_PRESSURE: &str = "portcullis_scope_pressure_ratio";
const SCOPE_PROCESSORS: &str = "portcullis_scope_live_processors";
const SCOPE_OLDEST_WAIT: &str = "portcullis_scope_oldest_wait_seconds";
const SCOPE_SERVICE: &str = "portcullis_scope_service_seconds";
const SCOPE_REVISION: &str = "portcullis_scope_policy_revision";

/// Bucket bounds of durations, seconds: a local refusal takes microseconds, `Prefer: wait` up to a minute.
const DURATION_BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0];

/// Bucket bounds of a batch's size, requests: powers of two up to the most one call takes.
const BATCH_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// A request was decided: `outcome` is `admitted`, `passed`, `replayed` or `refused`; `step` and `code` are empty
/// unless refused.
pub fn decision(outcome: &'static str, step: &'static str, code: &'static str, user_type: &UserType) {
    METRICS.decisions.add((outcome, step, code), user_type, |(outcome, step, code), user_type| {
        counter!(DECISIONS, "outcome" => outcome, "step" => step, "code" => code, "user_type" => user_type)
    });
}

/// A request was refused from memory, without a call to Redis.
pub fn local_refusal(code: &'static str, user_type: &UserType) {
    METRICS.local_refusals.add(
        code,
        user_type,
        |code, user_type| counter!(LOCAL_REFUSALS, "code" => code, "user_type" => user_type),
    );
}

/// One call of `admit` decided `size` requests and was answered after `seconds`.
pub fn admit_batch(size: usize, seconds: f64) {
    METRICS.admit_batch.record(size as f64);
    METRICS.admit_duration.record(seconds);
    METRICS.admit_calls.fetch_add(1, Ordering::Relaxed);
    METRICS.admit_micros.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
}

/// A request on the public listener was answered with `status` after `seconds`; `route` is the pattern, not the path.
pub fn http_request(route: &'static str, status: u16, seconds: f64) {
    METRICS.http.record((route, status), seconds);
}

/// The breaker for Redis itself opened or closed.
pub fn store_breaker(open: bool) {
    METRICS.store_breaker.set(if open { 1.0 } else { 0.0 });
}

/// Event streams opened (positive) or ended (negative).
pub fn event_streams(delta: i64) {
    METRICS.event_streams.increment(delta as f64);
}

/// Requests that had gathered when the latest call of `admit` was made, those it took included.
pub fn gathered(depth: usize) {
    METRICS.gathered.set(depth as f64);
}

/// Passes of this gateway that are in flight now.
pub fn passes_in_flight(count: usize) {
    METRICS.passes_in_flight.set(count as f64);
}

/// Passes that had lapsed, or were no longer known, when this gateway said how they ended.
pub fn passes_lost(count: usize) {
    METRICS.passes_lost.increment(count as u64);
}

/// Lapsed passes, of any gateway, that this one took back.
pub fn passes_taken_back(count: u64) {
    METRICS.passes_taken_back.increment(count);
}

/// A proxied request was not answered by the application; `code` is the refusal's.
pub fn upstream_failure(code: &'static str) {
    LazyLock::force(&METRICS);
    counter!(UPSTREAM_FAILURES, "code" => code).increment(1);
}

/// A question of Envoy's rate limit service was answered with this gRPC status.
pub fn rls_question(code: &'static str) {
    LazyLock::force(&METRICS);
    counter!(RLS_QUESTIONS, "code" => code).increment(1);
}

/// Scopes served now.
pub fn scopes(count: usize) {
    METRICS.scopes.set(count as f64);
}

/// A revision of a scope's policy was made ready for use; boot documents count.
pub fn policy_loaded() {
    METRICS.policy_loads.increment(1);
}

/// Redis refused to decide under the policy this gateway held; the stored one is loaded and the call repeated.
pub fn stale_policy() {
    METRICS.stale_policy.increment(1);
}

/// Redis did not answer when a scope's policy was looked at or reported; it is tried again.
pub fn upkeep_failed() {
    METRICS.upkeep_failures.increment(1);
}

/// What Redis says about a scope now. `user_types` are all that were ever shown: one without waiting tasks shows none.
pub(crate) fn scope(scope: &Scope, view: &QueueView, user_types: &BTreeSet<String>) {
    let of = |name: &'static str, value: f64| {
        gauge!(name, "tenant" => scope.tenant().to_owned(), "project" => scope.project().to_owned()).set(value);
    };
    let by = |name: &'static str, label: &'static str, value: &str, amount: u64| {
        let (tenant, project) = (scope.tenant().to_owned(), scope.project().to_owned());
        gauge!(name, "tenant" => tenant, "project" => project, label => value.to_owned()).set(amount as f64);
    };
    of(SCOPE_READABLE, 1.0);
    of(SCOPE_DEPTH, (view.queued + view.running) as f64);
    of(SCOPE_CAPACITY, view.capacity as f64);
    of(SCOPE_SLOTS, view.slots as f64);
    of(SCOPE_PRESSURE, view.pressure);
    of(SCOPE_PROCESSORS, view.live_processors as f64);
    of(SCOPE_HARD_LIMIT, view.hard_limit as f64);
    of(SCOPE_REVISION, view.policy_revision as f64);
    of(SCOPE_OLDEST_WAIT, view.oldest_wait_ms.unwrap_or(0) as f64 / 1e3);
    of(SCOPE_SERVICE, view.service_ms.map_or(f64::NAN, |service_ms| service_ms / 1e3));
    let states = [("queued", view.queued), ("running", view.running), ("delayed", view.delayed), ("dead", view.dead)];
    for (state, tasks) in states {
        by(SCOPE_TASKS, "state", state, tasks);
    }
    for user_type in user_types {
        by(SCOPE_QUEUED, "user_type", user_type, view.queued_by_type.get(user_type).copied().unwrap_or(0));
    }
    for (user_type, tasks) in &view.thresholds {
        by(SCOPE_THRESHOLD, "user_type", user_type, *tasks);
    }
}

/// Redis could not be asked about a scope: its other gauges are as old as the last answer.
pub(crate) fn scope_unreadable(scope: &Scope) {
    let (tenant, project) = (scope.tenant().to_owned(), scope.project().to_owned());
    gauge!(SCOPE_READABLE, "tenant" => tenant, "project" => project).set(0.0);
}

/// Refusals of this process that cost Redis nothing, since its start: code, user type, how many.
pub(crate) fn local_refusals() -> Vec<(&'static str, String, u64)> {
    METRICS.local_refusals.counts()
}

/// Calls of `admit` by this process since its start, and the mean time until they were answered, ms.
pub(crate) fn admit_latency() -> (u64, Option<f64>) {
    let calls = METRICS.admit_calls.load(Ordering::Relaxed);
    let micros = METRICS.admit_micros.load(Ordering::Relaxed);
    (calls, (calls > 0).then(|| micros as f64 / calls as f64 / 1e3))
}

/// Installs the recorder of this process on the first call; later calls give the same handle.
///
/// Every function above does so by itself: a handle made before there is a recorder would count nothing for ever.
pub fn install() -> PrometheusHandle {
    PROMETHEUS.clone()
}

/// Gives every metric its unit and its help text.
pub fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(DECISIONS, Unit::Count, "Requests decided, by outcome, refusing step, code and user type.");
    describe_counter!(LOCAL_REFUSALS, Unit::Count, "Requests refused from memory, without a call to Redis.");
    describe_histogram!(ADMIT_BATCH, Unit::Count, "Requests decided by one call of the admit script.");
    describe_histogram!(ADMIT_DURATION, Unit::Seconds, "Time until a call of the admit script was answered.");
    describe_gauge!(
        GATHERED,
        Unit::Count,
        "Requests that had gathered when the latest call of the admit script was made."
    );
    describe_histogram!(HTTP_DURATION, Unit::Seconds, "Time until a request was answered, by route and status.");
    describe_gauge!(STORE_BREAKER, Unit::Count, "1 while the breaker for Redis is open, else 0.");
    describe_gauge!(EVENT_STREAMS, Unit::Count, "Open event streams.");
    describe_gauge!(PASSES_IN_FLIGHT, Unit::Count, "Passes of this gateway in flight.");
    describe_counter!(PASSES_LOST, Unit::Count, "Passes that lapsed before this gateway said how they ended.");
    describe_counter!(PASSES_TAKEN_BACK, Unit::Count, "Lapsed passes, of any gateway, that this one took back.");
    describe_counter!(UPSTREAM_FAILURES, Unit::Count, "Proxied requests that the application did not answer, by code.");
    describe_counter!(RLS_QUESTIONS, Unit::Count, "Questions of Envoy's rate limit service, by gRPC status.");
    credential::describe();
    describe_gauge!(BUILD, Unit::Count, "Always 1; the version is in the label.");
    degraded::describe();
    describe_gauge!(SCOPES, Unit::Count, "Scopes served by this gateway.");
    describe_counter!(POLICY_LOADS, Unit::Count, "Revisions of policies made ready for use.");
    describe_counter!(STALE_POLICY, Unit::Count, "Calls that Redis refused under a policy that is not the stored one.");
    describe_counter!(UPKEEP_FAILURES, Unit::Count, "Looks at a policy and reports of it that Redis did not answer.");
    describe_gauge!(SCOPE_READABLE, Unit::Count, "1 if Redis answered the last question about the scope, else 0.");
    describe_gauge!(SCOPE_TASKS, Unit::Count, "Tasks of the scope that have not ended, and dead letters, by state.");
    describe_gauge!(SCOPE_QUEUED, Unit::Count, "Waiting tasks by user type.");
    describe_gauge!(SCOPE_THRESHOLD, Unit::Count, "Depth at which a user type is refused.");
    describe_gauge!(SCOPE_HARD_LIMIT, Unit::Count, "Depth at which everyone is refused.");
    describe_gauge!(SCOPE_DEPTH, Unit::Count, "Queued and running tasks.");
    describe_gauge!(SCOPE_CAPACITY, Unit::Count, "Depth the live processors stand for.");
    describe_gauge!(SCOPE_SLOTS, Unit::Count, "Attempts the live processors run at once.");
    describe_gauge!(SCOPE_PRESSURE, Unit::Count, "Depth against capacity; 1 is full.");
    describe_gauge!(SCOPE_PROCESSORS, Unit::Count, "Processors that count for capacity.");
    describe_gauge!(SCOPE_OLDEST_WAIT, Unit::Seconds, "How long the oldest waiting task has waited.");
    describe_gauge!(SCOPE_SERVICE, Unit::Seconds, "Measured mean duration of an attempt; NaN until measured.");
    describe_gauge!(SCOPE_REVISION, Unit::Count, "Policy revision the scope is at.");
}

static PROMETHEUS: LazyLock<PrometheusHandle> = LazyLock::new(|| {
    let bucket = |builder: PrometheusBuilder, name: &str, bounds: &[f64]| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds).expect("the bounds are not empty")
    };
    let builder = bucket(PrometheusBuilder::new(), ADMIT_BATCH, &BATCH_BUCKETS);
    let builder = bucket(builder, ADMIT_DURATION, &DURATION_BUCKETS);
    let recorder = bucket(builder, HTTP_DURATION, &DURATION_BUCKETS).build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("this process already records its metrics elsewhere; /metrics stays empty");
    }
    describe();
    credential::begin();
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    handle
});

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    LazyLock::force(&PROMETHEUS);
    Metrics {
        decisions: CountersByUserType::default(),
        local_refusals: CountersByUserType::default(),
        admit_batch: histogram!(ADMIT_BATCH),
        admit_duration: histogram!(ADMIT_DURATION),
        admit_calls: AtomicU64::new(0),
        admit_micros: AtomicU64::new(0),
        gathered: gauge!(GATHERED),
        http: HttpHistograms::default(),
        store_breaker: gauge!(STORE_BREAKER),
        event_streams: gauge!(EVENT_STREAMS),
        passes_in_flight: gauge!(PASSES_IN_FLIGHT),
        passes_lost: counter!(PASSES_LOST),
        passes_taken_back: counter!(PASSES_TAKEN_BACK),
        scopes: gauge!(SCOPES),
        policy_loads: counter!(POLICY_LOADS),
        stale_policy: counter!(STALE_POLICY),
        upkeep_failures: counter!(UPKEEP_FAILURES),
    }
});

struct Metrics {
    decisions: CountersByUserType<(&'static str, &'static str, &'static str)>,
    local_refusals: CountersByUserType<&'static str>,
    admit_batch: Histogram,
    admit_duration: Histogram,
    /// A histogram handle can only be written to; these two are for the monitoring document.
    admit_calls: AtomicU64,
    admit_micros: AtomicU64,
    gathered: Gauge,
    http: HttpHistograms,
    store_breaker: Gauge,
    event_streams: Gauge,
    passes_in_flight: Gauge,
    passes_lost: Counter,
    passes_taken_back: Counter,
    scopes: Gauge,
    policy_loads: Counter,
    stale_policy: Counter,
    upkeep_failures: Counter,
}

/// Counters of one name by user type and further labels that are fixed in the code.
struct CountersByUserType<K> {
    /// There are a handful of labels and of user types: a list is searched faster than a key with names is hashed.
    by_labels: RwLock<Vec<(K, Vec<Counted>)>>,
}

struct Counted {
    user_type: UserType,
    counter: Counter,
    /// What `counter` holds: a handle of the recorder can only be written to.
    count: AtomicU64,
}

impl<K> Default for CountersByUserType<K> {
    fn default() -> Self {
        Self { by_labels: RwLock::default() }
    }
}

impl<K: Copy + Eq> CountersByUserType<K> {
    fn add(&self, labels: K, user_type: &UserType, register: impl FnOnce(K, String) -> Counter) {
        let known = self.by_labels.read().unwrap_or_else(PoisonError::into_inner);
        let entries = known.iter().find(|(known, _)| *known == labels);
        if let Some(entry) = entries.and_then(|(_, entries)| Counted::find(entries, user_type)) {
            return entry.increment();
        }
        drop(known);
        let mut known = self.by_labels.write().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().position(|(known, _)| *known == labels).unwrap_or_else(|| {
            known.push((labels, Vec::new()));
            known.len() - 1
        });
        let entries = &mut known[place].1;
        if Counted::find(entries, user_type).is_none() {
            let counter = register(labels, user_type.as_str().to_owned());
            entries.push(Counted { user_type: user_type.clone(), counter, count: AtomicU64::new(0) });
        }
        if let Some(entry) = Counted::find(entries, user_type) {
            entry.increment();
        }
    }

    fn counts(&self) -> Vec<(K, String, u64)> {
        let known = self.by_labels.read().unwrap_or_else(PoisonError::into_inner);
        let entries = known.iter().flat_map(|(labels, entries)| entries.iter().map(move |entry| (*labels, entry)));
        entries
            .map(|(labels, entry)| (labels, entry.user_type.to_string(), entry.count.load(Ordering::Relaxed)))
            .collect()
    }
}

impl Counted {
    fn find<'a>(entries: &'a [Self], user_type: &UserType) -> Option<&'a Self> {
        entries.iter().find(|entry| entry.user_type == *user_type)
    }

    fn increment(&self) {
        self.counter.increment(1);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The duration histogram of the public listener, by route and status.
#[derive(Default)]
struct HttpHistograms(RwLock<Vec<((&'static str, u16), Histogram)>>);

impl HttpHistograms {
    fn record(&self, labels: (&'static str, u16), seconds: f64) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, histogram)) = known.iter().find(|(known, _)| *known == labels) {
            return histogram.record(seconds);
        }
        drop(known);
        let (route, status) = labels;
        // Of two who come first both get a handle on the same histogram.
        let histogram = histogram!(HTTP_DURATION, "route" => route, "status" => status.to_string());
        histogram.record(seconds);
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((labels, histogram));
    }
}

#[cfg(test)]
mod tests;
