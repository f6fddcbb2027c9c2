//! Limits that change while they are in use.
//!
//! Responsible for what has been used being carried over, whatever the old and the new shape of the windows. Must
//! never demand what cannot be known: what had left an old, shorter window when it was last written is forgotten.

use portcullis_config::policy::{RoleLimit, Subject};
use portcullis_loadtest::model::Ticks;
use portcullis_lua::{AdmitRequest, CompiledPolicy, PolicyStamp, Verdict};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::stage::{Act, START_MS, Stage, cases, limit, named_limit, request, roomy};
use super::ticks::ticks_of;

const BURSTS: [(u64, u64); 9] =
    [(10, 60), (10, 120), (150, 60), (3, 5), (5_000, 60), (100_000, 60), (40, 600), (7, 3_600), (2, 1)];
const HOURLIES: [i64; 5] = [-1, 60, 120, 4_000, 200_000];
/// Limit and window in seconds of a named limit that every session shares; some policies have none.
const SHARED: [Option<(u64, u64)>; 7] = [
    Some((12, 60)),
    Some((150, 90)),
    None,
    Some((5_000, 60)),
    Some((100_000, 7_200)),
    Some((8, 86_400)),
    Some((900, 600)),
];

/// A policy in force for a while.
struct Rule {
    compiled: CompiledPolicy,
    role: RoleLimit,
    shared: Option<(u64, u64)>,
    ticks: Ticks,
}

impl Rule {
    /// Limit, length and tick of a window, ms; `None` where the policy has none of this name.
    fn window(&self, name: &str) -> Option<(u64, u64, u64)> {
        let tick_ms = *self.ticks.get(&("paid".to_owned(), name.to_owned()))?;
        match name {
            "burst" => Some((self.role.burst, self.role.burst_window * 1000, tick_ms)),
            "shared" => self.shared.map(|(most, window_seconds)| (most, window_seconds * 1000, tick_ms)),
            _ => Some((self.role.hourly.unsigned_abs(), 3_600_000, tick_ms)),
        }
    }
}

/// Admissions of a session, time and units of each, as seen by the windows of one name.
#[derive(Default)]
struct Memory {
    /// Those that no window in force since could forget.
    certain: Vec<(u64, u64)>,
    all: Vec<(u64, u64)>,
    /// By how much rounding, done anew at each change, may have moved an admission.
    slack_ms: u64,
}

impl Memory {
    fn admit(&mut self, now_ms: u64, units: u64, window: Option<(u64, u64, u64)>) {
        let window_ms = window.map_or(0, |(_, window_ms, _)| window_ms);
        self.certain.push((now_ms, units));
        self.certain.retain(|(at_ms, _)| at_ms + window_ms > now_ms);
        self.all.push((now_ms, units));
    }
}

/// Units admitted after `since_ms`.
fn since(admitted: &[(u64, u64)], since_ms: u64) -> u64 {
    admitted.iter().filter(|(at_ms, _)| *at_ms > since_ms).map(|(_, units)| units).sum()
}

async fn rules(stage: &Stage) -> Vec<Rule> {
    let (mut rules, mut shared) = (Vec::new(), SHARED.into_iter().cycle());
    for (burst, burst_window) in BURSTS {
        for hourly in HOURLIES {
            let mut policy = roomy();
            limit(&mut policy, "paid", burst, burst_window, hourly);
            let shared = shared.next().expect("it never ends");
            if let Some((most, window_seconds)) = shared {
                named_limit(&mut policy, "shared", Subject::Tenant, "requests", most, window_seconds);
            }
            let compiled = CompiledPolicy::new(&policy, PolicyStamp::NONE);
            let ticks = ticks_of(stage, &compiled, &["paid"]).await;
            rules.push(Rule { compiled, role: RoleLimit { hourly, burst, burst_window }, shared, ticks });
        }
    }
    rules
}

async fn play(act: &Act, rules: &[Rule], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut memories = ["burst", "hourly", "shared"].map(|name| (name, Memory::default()));
    let mut now_ms = START_MS + random.random_range(0..60_000);
    act.beat(&rules[0].compiled, now_ms, u32::MAX).await;
    for _ in 0..random.random_range(2..7) {
        let rule = rules.choose(&mut random).expect("a rule");
        for (name, memory) in &mut memories {
            memory.slack_ms += rule.window(name).map_or(0, |(_, _, tick_ms)| tick_ms);
        }
        let tightest = ["burst", "hourly", "shared"].iter().filter_map(|name| rule.window(name)).map(|(most, ..)| most);
        let tightest = tightest.min().expect("a window");
        for _ in 0..random.random_range(1..25) {
            now_ms += match random.random_range(0..8) {
                0..3 => random.random_range(0..5),
                3..6 => random.random_range(0..=rule.role.burst_window * 500),
                6 => rule.role.burst_window * 1000,
                _ => random.random_range(0..1_000_000),
            };
            let cost = random.random_range(1..=tightest.div_ceil(2)) as u32;
            let asked = AdmitRequest { cost, ..request("paid", "s") };
            let decisions = act.store.at(now_ms).admit(&rule.compiled, &[asked]).await;
            let decision = decisions.unwrap_or_else(|error| panic!("seed {seed}: {error}")).remove(0);
            let cost = u64::from(cost);
            match decision.verdict {
                Verdict::Admitted { .. } => {
                    for (name, memory) in &mut memories {
                        memory.admit(now_ms, cost, rule.window(name));
                        if let Some((most, window_ms, _)) = rule.window(name) {
                            let held = since(&memory.certain, now_ms - window_ms);
                            assert!(held <= most, "seed {seed}: {held} in the {name} window of {:?}", rule.role);
                        }
                    }
                }
                Verdict::Refused(refusal) => {
                    let name = refusal.name.as_deref().expect("a window");
                    let memory = &memories.iter().find(|(known, _)| *known == name).expect("one of three").1;
                    let (most, window_ms, _) = rule.window(name).expect("a window that refuses");
                    let held = since(&memory.all, now_ms - window_ms - memory.slack_ms);
                    assert!(held + cost > most, "seed {seed}: refused with {held} of {:?}: {refusal:?}", rule.role);
                }
                Verdict::Replayed { .. } | Verdict::Passed { .. } => panic!("seed {seed}: neither of both"),
            }
        }
    }
}

#[tokio::test]
async fn a_changed_limit_is_never_exceeded_and_forgets_nothing() {
    let stage = Stage::set().await;
    let rules = rules(&stage).await;
    // Two entries of a coarse window were carried into a fine one, further apart than a distance reaches.
    let act = stage.act();
    play(&act, &rules, 240_713_516_044_343_769).await;
    act.strike().await;
    let first_seed = rand::random::<u64>() >> 1;
    for case in 0..cases(300) as u64 {
        let act = stage.act();
        play(&act, &rules, first_seed + case).await;
        act.strike().await;
    }
}
