//! What can happen to a scope, as values that can be drawn, printed and shrunk.
//!
//! Responsible for the odds: rare cases must be common here. Must never hold an id or a time: those come from the run.

use portcullis_lua::{PassEnd, PassExtension, PassHead, PassLease, PassOutcome, PassTerms};
use proptest::prelude::*;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Pass(Jump),
    Beat { worker: u8, slots: u32, draining: bool },
    Leave { worker: u8 },
    Admit(Vec<Ask>),
    Peek(Vec<Ask>),
    Claim { slots: u32 },
    Renew(Vec<Pick>),
    Write { lease: Pick, pieces: usize },
    Settle(Vec<(Pick, End)>),
    Reclaim,
    Finish(Vec<(Pick, Leaving)>),
    Extend(Vec<(Pick, Lasting)>),
    Lapse,
    Cancel { task: Pick, by_owner: bool },
}

/// How time passes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Jump {
    Ms(u64),
    Seconds(u64),
    Hours(u64),
    /// To this many ms after the end of the calendar period: 0 minute, 1 hour, 2 day, 3 week, 4 month; −1 is just
    /// before it.
    PeriodEnd(usize, i64),
    /// To this many ms after the next heartbeat lapses.
    BeatLapse(i64),
    /// To this many ms after the next lease lapses.
    LeaseLapse(i64),
    /// To this many ms after the next pass lapses.
    PassLapse(i64),
    /// To this many ms after the next deadline of a task.
    Deadline(i64),
    /// To this many ms after the next open breaker lets probes through.
    Probe(i64),
}

/// One of those there are, oldest first.
pub(crate) type Pick = prop::sample::Index;

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Which of the callers.
    pub(crate) caller: usize,
    pub(crate) kind: u8,
    pub(crate) cost: u32,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) delay_ms: u64,
    pub(crate) max_attempts: u32,
    /// Idempotency key and body.
    pub(crate) key: Option<(u8, u8)>,
    pub(crate) tokens: Option<u64>,
    /// Asks for a pass.
    pub(crate) pass: Option<PassTerms>,
    /// What it shows that counts once.
    pub(crate) proof: Option<u8>,
}

/// How a pass ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    outcome: PassOutcome,
    tokens: Option<u64>,
    answered_ms: Option<u64>,
}

impl Leaving {
    pub(crate) fn of(self, lease: PassLease) -> PassEnd {
        let usage = self.tokens.map(|tokens| ("tokens".to_owned(), tokens)).into_iter().collect();
        PassEnd { lease, outcome: self.outcome, usage, answered_ms: self.answered_ms }
    }
}

/// How a pass goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasting {
    head: Option<PassHead>,
}

impl Lasting {
    pub(crate) fn of(self, lease: PassLease) -> PassExtension {
        PassExtension { lease, head: self.head }
    }
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Succeeded(Option<u64>),
    Failed(Option<u64>),
    Retry(u64),
    Cancelled,
    Expired,
    Dead,
    HandedBack,
}

/// A history of a scope: most of it work, some of it trouble.
pub(crate) fn history(length: usize) -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        4 => jump().prop_map(Operation::Pass),
        3 => (0..3u8, 1..5u32, prop::bool::weighted(0.1))
            .prop_map(|(worker, slots, draining)| Operation::Beat { worker, slots, draining }),
        1 => (0..3u8).prop_map(|worker| Operation::Leave { worker }),
        9 => prop::collection::vec(ask(), 1..6).prop_map(Operation::Admit),
        1 => prop::collection::vec(ask(), 1..3).prop_map(Operation::Peek),
        5 => (0..6u32).prop_map(|slots| Operation::Claim { slots }),
        2 => prop::collection::vec(any::<Pick>(), 1..8).prop_map(Operation::Renew),
        1 => (any::<Pick>(), 1..4usize).prop_map(|(lease, pieces)| Operation::Write { lease, pieces }),
        5 => prop::collection::vec((any::<Pick>(), end()), 1..6).prop_map(Operation::Settle),
        2 => Just(Operation::Reclaim),
        4 => prop::collection::vec((any::<Pick>(), leaving()), 1..6).prop_map(Operation::Finish),
        2 => prop::collection::vec((any::<Pick>(), lasting()), 1..6).prop_map(Operation::Extend),
        1 => Just(Operation::Lapse),
        2 => (any::<Pick>(), prop::bool::weighted(0.9))
            .prop_map(|(task, by_owner)| Operation::Cancel { task, by_owner }),
    ];
    prop::collection::vec(operation, 1..=length)
}

fn jump() -> impl Strategy<Value = Jump> {
    prop_oneof![
        6 => (1..50u64).prop_map(Jump::Ms),
        4 => (1..40u64).prop_map(Jump::Seconds),
        1 => (1..30u64).prop_map(Jump::Hours),
        2 => (0..5usize, -1..2i64).prop_map(|(period, after)| Jump::PeriodEnd(period, after)),
        1 => (-1..2i64).prop_map(Jump::BeatLapse),
        2 => (-1..2i64).prop_map(Jump::LeaseLapse),
        2 => (-1..2i64).prop_map(Jump::PassLapse),
        2 => (-1..2i64).prop_map(Jump::Deadline),
        2 => (-1..2i64).prop_map(Jump::Probe),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let deadline = prop::option::weighted(0.25, prop_oneof![1..2_000u64, 2_000..200_000u64]);
    let delay = prop_oneof![8 => Just(0), 1 => 1..100u64, 1 => 100..100_000u64];
    let key = prop::option::weighted(0.2, (0..3u8, prop_oneof![3 => Just(0u8), 1 => Just(1)]));
    let tokens = prop::option::weighted(0.7, prop_oneof![5 => 0..200u64, 1 => 200..2_500u64]);
    // Most of the passes ask for a place; some places are extended, most end or lapse within a few operations.
    let lease = prop_oneof![1 => Just(0u64), 2 => 1..50u64, 4 => 50..60_000u64];
    let pass =
        (lease, prop::bool::weighted(0.8)).prop_map(|(lease_ms, throttled)| PassTerms { lease_ms, throttled, hits: 1 });
    (
        0..6usize,
        0..4u8,
        prop_oneof![10 => Just(1u32), 2 => 0..4u32, 1 => 4..11u32],
        deadline,
        delay,
        1..4u32,
        key,
        tokens,
        (prop::option::weighted(0.3, pass), prop::option::weighted(0.15, any::<u8>())),
    )
        .prop_map(|(caller, kind, cost, deadline_ms, delay_ms, max_attempts, key, tokens, (pass, proof))| Ask {
            caller,
            kind,
            cost,
            deadline_ms,
            delay_ms,
            max_attempts,
            key,
            tokens,
            pass,
            proof,
        })
}

fn lasting() -> impl Strategy<Value = Lasting> {
    let head = (prop_oneof![3 => 0..100u64, 1 => 2_900..5_100u64], any::<bool>());
    let head = head.prop_map(|(answered_ms, failed)| PassHead { answered_ms, failed });
    prop::option::of(head).prop_map(|head| Lasting { head })
}

fn leaving() -> impl Strategy<Value = Leaving> {
    let outcome = prop_oneof![
        4 => Just(PassOutcome::Succeeded),
        3 => Just(PassOutcome::Failed),
        2 => Just(PassOutcome::Abandoned),
    ];
    let answered = prop::option::of(prop_oneof![3 => 0..100u64, 1 => 2_900..5_100u64]);
    (outcome, prop::option::of(0..300u64), answered).prop_map(|(outcome, tokens, answered_ms)| Leaving {
        outcome,
        tokens,
        answered_ms,
    })
}

fn end() -> impl Strategy<Value = End> {
    let usage = || prop::option::of(0..300u64);
    prop_oneof![
        4 => usage().prop_map(End::Succeeded),
        1 => usage().prop_map(End::Failed),
        3 => prop_oneof![Just(0), 1..20_000u64].prop_map(End::Retry),
        1 => Just(End::Cancelled),
        1 => Just(End::Expired),
        1 => Just(End::Dead),
        2 => Just(End::HandedBack),
    ]
}
