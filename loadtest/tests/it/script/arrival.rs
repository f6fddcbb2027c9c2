//! Limits over thousands of random arrival patterns: never over, never late by more than a tick, never pushed back by
//! what was refused.
//!
//! Responsible for the limiter alone: every other gate is wide open. Must never judge by the scripts' own rounding what
//! the definition of a window judges.

use futures_util::future::join_all;
use portcullis_config::Policy;
use portcullis_loadtest::model::{Ticks, Window, most_in_any_window};
use portcullis_lua::{AdmitRequest, CompiledPolicy, Decision, PolicyStamp, TaskId, Verdict};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::Mutex;

use super::stage::{Act, FOR_EVER_SECONDS, START_MS, Stage, cases, limit, request, roomy};
use super::ticks::ticks_of;

/// Sessions that share their instants, each coming at some of them: as many as one call decides.
const LOCKSTEP: usize = 32;
/// Groups under way at once.
const ABREAST: usize = 2;
const INSTANTS: usize = 70;

/// A user type whose limits are tried.
struct Trial {
    policy: Policy,
    compiled: CompiledPolicy,
    user_type: &'static str,
    ticks: Ticks,
}

/// A session's way of coming, what it was given, and a window that only knows what it was given.
struct Pattern {
    odds: f64,
    largest: u32,
    windows: Vec<Window>,
    admitted: Vec<(u64, u64)>,
    refused: usize,
}

impl Trial {
    async fn new(stage: &Stage, policy: Policy, user_type: &'static str) -> Self {
        let compiled = CompiledPolicy::new(&policy, PolicyStamp::NONE);
        let ticks = ticks_of(stage, &compiled, &[user_type]).await;
        Self { policy, compiled, user_type, ticks }
    }

    fn windows(&self) -> Vec<Window> {
        let role = self.policy.limits_of(&super::stage::user_type(self.user_type)).expect("limits");
        let hourly = u64::try_from(role.hourly).ok().map(|hourly| ("hourly", hourly, 3_600_000));
        let all = [("burst", role.burst, role.burst_window * 1000)].into_iter().chain(hourly);
        let tick_ms = |name: &str| self.ticks[&(self.user_type.to_owned(), name.to_owned())];
        all.map(|(name, most, window_ms)| Window::new(name, most, window_ms, tick_ms(name))).collect()
    }

    /// Two patterns in three fill their tightest limit many times over; the third comes one by one.
    fn pattern(&self, random: &mut StdRng) -> Pattern {
        let windows = self.windows();
        let tightest = windows.iter().map(|window| window.limit).min().expect("a window") as u32;
        let largest = *[1, tightest / 3, tightest].choose(random).expect("three");
        let odds = random.random_range(0.3..1.0);
        Pattern { odds, largest: largest.max(1), windows, admitted: Vec::new(), refused: 0 }
    }
}

/// Instants of a group: Poisson, bursts, a crowd at the start, and the edges of windows to the millisecond.
fn instants(random: &mut StdRng, windows: &[Window]) -> Vec<u64> {
    let longest_ms = windows.iter().map(|window| window.length_ms).max().expect("a window");
    let mean_ms = windows.choose(random).expect("a window").length_ms as f64 / random.random_range(10.0..60.0);
    let crowd = random.random_bool(0.3);
    let mut now_ms = START_MS + random.random_range(0..longest_ms);
    let mut instants = vec![now_ms];
    while instants.len() < INSTANTS {
        let window = windows.choose(random).expect("a window");
        let earlier = *instants.choose(random).expect("one");
        now_ms = match random.random_range(0..10) {
            _ if crowd && instants.len() < INSTANTS / 2 => now_ms + random.random_range(0..30),
            0..4 => now_ms + (-mean_ms * random.random_range(f64::EPSILON..1.0).ln()) as u64,
            4..6 => now_ms + random.random_range(0..20),
            6..8 => earlier + window.length_ms + random.random_range(0..3) - 1,
            8 => earlier.next_multiple_of(window.tick_ms) + window.length_ms + random.random_range(0..3) - 1,
            _ => earlier + window.length_ms + window.tick_ms + random.random_range(0..3) - 1,
        };
        instants.push(now_ms);
    }
    instants.sort_unstable();
    instants.dedup();
    instants
}

/// Plays a group of patterns; each pattern as it was given.
async fn play(act: &Act, trial: &Trial, seed: u64) -> Vec<Pattern> {
    let mut random = StdRng::seed_from_u64(seed);
    let instants = instants(&mut random, &trial.windows());
    let mut patterns: Vec<Pattern> = (0..LOCKSTEP).map(|_| trial.pattern(&mut random)).collect();
    act.beat(&trial.compiled, START_MS, u32::MAX).await;
    for now_ms in instants {
        let store = act.store.at(now_ms);
        let coming: Vec<usize> = (0..LOCKSTEP).filter(|index| random.random_bool(patterns[*index].odds)).collect();
        let requests: Vec<AdmitRequest> = coming
            .iter()
            .map(|index| {
                let cost = random.random_range(1..=patterns[*index].largest);
                AdmitRequest { cost, ..request(trial.user_type, &format!("s{index}")) }
            })
            .collect();
        let decisions = store.admit(&trial.compiled, &requests).await.expect("decisions");
        let mut given = Vec::new();
        for ((index, asked), decision) in coming.iter().zip(&requests).zip(decisions) {
            if patterns[*index].judge(now_ms, u64::from(asked.cost), &decision, seed) {
                let session_id = format!("twin-{index}");
                let twin = AdmitRequest { task_id: TaskId::generate(), session_id, ..asked.clone() };
                given.push((twin, decision.limits));
            }
        }
        // A twin sends only what its other half was given, and so must stand exactly where that stands.
        let twins: Vec<AdmitRequest> = given.iter().map(|(twin, _)| twin.clone()).collect();
        let decisions = store.admit(&trial.compiled, &twins).await.expect("decisions");
        for ((twin, limits), decision) in given.iter().zip(decisions) {
            assert!(matches!(decision.verdict, Verdict::Admitted { .. }), "seed {seed}: {twin:?} {decision:?}");
            assert_eq!(decision.limits, *limits, "seed {seed}: refusals changed {}", twin.session_id);
        }
    }
    patterns
}

impl Pattern {
    /// Compares a decision with what the windows say; whether it was admitted.
    fn judge(&mut self, now_ms: u64, cost: u64, decision: &Decision, seed: u64) -> bool {
        let waits = self.windows.iter().filter_map(|window| {
            let excess = window.excess(now_ms, cost);
            (excess > 0).then(|| window.wait_ms(now_ms, excess))
        });
        match (waits.max(), &decision.verdict) {
            (None, Verdict::Admitted { .. }) => {
                for window in &mut self.windows {
                    window.admit(now_ms, cost);
                }
                self.admitted.push((now_ms, cost));
                true
            }
            (Some(wait_ms), Verdict::Refused(refusal)) => {
                assert_eq!(refusal.retry_after_ms, wait_ms, "seed {seed}");
                self.refused += 1;
                false
            }
            (expected, verdict) => panic!("seed {seed}: a wait of {expected:?} ms, but {verdict:?} at {now_ms}"),
        }
    }
}

/// Plays `number` patterns of one user type.
async fn try_patterns(stage: &Stage, policy: Policy, user_type: &'static str, number: usize) {
    let trial = Trial::new(stage, policy, user_type).await;
    let groups = number.div_ceil(LOCKSTEP);
    let (first_seed, next) = (rand::random::<u64>() >> 1, Mutex::new(0..groups as u64));
    let refused = join_all((0..ABREAST).map(|_| async {
        let mut refused = 0;
        loop {
            let Some(group) = next.lock().await.next() else { return refused };
            let (act, seed) = (stage.act(), first_seed + group);
            for pattern in play(&act, &trial, seed).await {
                for window in &pattern.windows {
                    let most = most_in_any_window(&pattern.admitted, window.length_ms);
                    assert!(most <= window.limit, "seed {seed}: {most} in a window of {}", window.limit);
                }
                refused += pattern.refused;
            }
            act.strike().await;
        }
    }))
    .await;
    assert!(refused.iter().sum::<usize>() > number, "patterns that hardly ever reach the limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hour_of_ten_thousand_arrival_patterns_holds_more_than_its_limit() {
    let stage = Stage::set().await;
    let mut policy = roomy();
    limit(&mut policy, "anonymous", 1_000_000, 60, 120);
    try_patterns(&stage, policy, "anonymous", cases(10_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shipped_limits_hold_and_release_their_bursts_within_ten_milliseconds() {
    let stage = Stage::set().await;
    let mut policy = Policy::shipped("t", "p");
    policy.monitoring.heartbeat_timeout_seconds = FOR_EVER_SECONDS;
    for user_type in ["anonymous", "registered", "paid", "privileged"] {
        let trial = Trial::new(&stage, policy.clone(), user_type).await;
        let burst = &trial.windows()[0];
        assert!(burst.tick_ms <= 10, "{user_type}: {} ms", burst.tick_ms);
        try_patterns(&stage, policy.clone(), user_type, cases(128)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_any_size_hold() {
    let stage = Stage::set().await;
    for (burst, burst_window, hourly) in
        [(5_000, 60, -1), (100_000, 60, -1), (1_000_000, 60, 60), (300, 7_200, 4_000), (2, 1, 100_000)]
    {
        let mut policy = roomy();
        limit(&mut policy, "paid", burst, burst_window, hourly);
        for window in Trial::new(&stage, policy.clone(), "paid").await.windows() {
            let most_ms = window.length_ms / if window.name == "hourly" { 60 } else { 10 };
            assert!(window.tick_ms <= most_ms, "{} {}: {} ms", window.name, window.limit, window.tick_ms);
        }
        try_patterns(&stage, policy, "paid", cases(96)).await;
    }
}

#[tokio::test]
async fn a_steady_118_an_hour_is_never_refused_by_a_limit_of_120() {
    let stage = Stage::set().await;
    let mut policy = roomy();
    limit(&mut policy, "anonymous", 1_000_000, 60, 120);
    let (policy, act) = (CompiledPolicy::new(&policy, PolicyStamp::NONE), stage.act());
    act.beat(&policy, START_MS, u32::MAX).await;
    let phases: Vec<u64> = (0..16).map(|_| rand::random_range(0..60_000)).collect();
    for arrival in 0..118 * 6 {
        let now_ms = START_MS + arrival * 3_600_000 / 118;
        for (session, phase_ms) in phases.iter().enumerate() {
            let asked = request("anonymous", &format!("s{session}"));
            let decisions = act.store.at(now_ms + phase_ms).admit(&policy, &[asked]).await.expect("a decision");
            let admitted = matches!(decisions[0].verdict, Verdict::Admitted { .. });
            assert!(admitted, "arrival {arrival}, phase {phase_ms}: {:?}", decisions[0]);
        }
    }
}
