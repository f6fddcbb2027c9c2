//! Deterministic simulation: whole clusters over the model of the scripts, with the time and every accident injected.
//!
//! Responsible for finding what no test of a part can find: a rule that does not hold when a lost answer, a crash and a
//! clock come together. A run is a function of its plan, and a plan of its seed, so what was found once is found again.
//! Nothing here has a thread, a timer or a clock of its own: time goes from one event to the next.
//!
//! Actors ([`gateway`], [`processor`], [`operator`], [`client`]) go by the product's own code where that is pure, and
//! restate it, saying so, where it lives in async code. Redis is [`crate::model`], which the integration tests hold the
//! scripts to. The [`judge`] keeps an account of its own and holds the cluster to it.
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

pub use coverage::Coverage;
pub use judge::Violation;
pub use mistake::Mistake;
pub use plan::{Place, Plan, Trouble, What};
pub use world::Run;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let mut coverage = Coverage::default();
        let mut events = 0;
        for seed in 0..20 {
            let run = run(&Plan::of(seed, 20));
            if let Some(violation) = run.violation {
                let traced = run_traced(&Plan::of(seed, 20));
                panic!("{seed} {violation:#?}\n{}", traced.evidence.join("\n"));
            }
            coverage.add(&run.coverage);
            events += run.events;
        }
        println!("{events} {coverage:#?}");
    }
}
