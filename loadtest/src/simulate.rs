//! Deterministic simulation: whole clusters over the model of the scripts, with the time and every accident injected.
//!
//! Responsible for finding what no test of a part can find: a rule that does not hold when a lost answer, a crash and a
//! clock come together. A run is a function of its plan, and a plan of its seed, so what was found once is found again.
//! Nothing here has a thread, a timer or a clock of its own: time goes from one event to the next.
//!
//! Actors (`gateway`, `processor`, `operator`, `client`) go by the product's own code where that is pure, and
//! restate it, saying so, where it lives in async code. Redis is [`crate::model`], which the integration tests hold the
//! scripts to. The `judge` keeps an account of its own and holds the cluster to it.
//!
//! Must never be taken for the cluster: what the operating system, HTTP and the client library do is not in it.

mod agenda;
mod dice;
mod clock;
mod mistake;
mod rules;
mod plan;
mod call;
mod event;
mod trace;
mod coverage;
mod judge;
mod context;
mod store;
mod replica;
mod gateway;
mod processor;
mod client;
mod operator;
mod world;
mod series;
mod shrink;
mod report;

use tokio::time::Instant;

use crate::report::say;

pub use coverage::Coverage;
pub use judge::Violation;
pub use mistake::Mistake;
pub use plan::{Place, Plan, Trouble, What};
pub use report::{figures, finding};
pub use series::{Series, series};
pub use shrink::shrink;
pub use world::Run;

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct SimulateOptions {
    /// The first seed.
    pub seed: u64,
    /// How many seeds, one after the other.
    pub seeds: u64,
    /// For how long callers come in each run, s.
    pub seconds: u64,
    /// Print everything that happens in the run of the first seed.
    pub trace: bool,
}

/// Simulates and prints what was found; whether no rule was broken.
#[must_use]
pub fn simulate(options: SimulateOptions) -> bool {
    let plan = |seed| Plan::of(seed, options.seconds);
    if options.trace {
        let run = run_traced(&plan(options.seed));
        run.trace.iter().for_each(say);
        if let Some(violation) = &run.violation {
            say(format!("{} is broken: {}", violation.rule, violation.what));
        }
        return run.violation.is_none();
    }
    let started = Instant::now();
    let series = series(options.seed, options.seeds, plan);
    say(figures(&series, started.elapsed()));
    if let Some(finding) = series.failed.as_ref().and_then(|(seed, _)| finding(&plan(*seed))) {
        say(finding);
    }
    series.failed.is_none()
}

/// Makes the run of a plan.
#[must_use]
pub fn run(plan: &Plan) -> Run {
    world::World::new(plan, false).run()
}

/// Makes the run of a plan and keeps what happened.
#[must_use]
pub fn run_traced(plan: &Plan) -> Run {
    world::World::new(plan, true).run()
}
