//! What the tasks of a scenario are to use and use, of units that budgets count.
//!
//! Responsible for the most that any handler reports and the least that any caller estimates, at any time of the run: a
//! budget may be passed by what lies between. Must never be taken from what was observed: that is judged by it.

use std::collections::BTreeMap;

use super::{Faults, Scenario};
use crate::fault::FaultKind;
use crate::observe::Work;
use crate::record::UnitUse;

/// By kind and unit, of every unit that handlers report.
pub(super) fn of(scenario: &Scenario) -> Vec<UnitUse> {
    let meanwhile: Vec<FaultKind> = match &scenario.faults {
        Faults::Timed(faults) => faults.iter().map(|fault| fault.kind.clone()).collect(),
        Faults::Random(random) => random.kinds(),
    };
    let changed = meanwhile.iter().filter_map(|fault| match fault {
        FaultKind::ChangeBackend { kind, work } => Some((kind, work)),
        _ => None,
    });
    let mut most: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let works: Vec<(&String, &Work)> = scenario.backend.iter().chain(changed).collect();
    for (kind, work) in works {
        for (unit, used) in &work.usage {
            let most = most.entry((kind, unit)).or_default();
            *most = (*most).max(*used);
        }
    }
    let used = most.into_iter().map(|((kind, unit), used)| {
        let (kind, unit) = (kind.to_owned(), unit.to_owned());
        UnitUse { estimate: least_estimate(scenario, &kind, &unit), kind, unit, used }
    });
    used.collect()
}

/// `None` if any caller leaves it to the policy, or nobody asks for this kind.
fn least_estimate(scenario: &Scenario, kind: &str, unit: &str) -> Option<u64> {
    let asked = scenario.load.0.values().flat_map(|stream| &stream.kinds).filter(|each| each.kind == kind);
    let estimates = asked.map(|each| each.estimate.get(unit).copied());
    estimates.reduce(|least, other| Some(least?.min(other?))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse::parse;

    const TEXT: &str = "
name: spending
about: Tasks use more than they were to.
cluster: { gateways: 1, processors: 1, slots: 1 }
backend:
  chat: { service: { distribution: constant, ms: 1 }, usage: { tokens: 7, credits: 2 } }
load:
  one:
    arrivals: { pattern: constant, per_second: 1 }
    duration_seconds: 1
    callers: [{ user_type: paid, count: 1 }]
    kinds: [{ kind: chat, estimate: { tokens: 5, credits: 1 } }, { kind: chat, estimate: { tokens: 3 } }]
faults:
  - { at_seconds: 0.5, do: change_backend, kind: chat,
      work: { service: { distribution: constant, ms: 1 }, usage: { tokens: 9 } } }
";

    #[test]
    fn the_most_that_is_used_and_the_least_that_is_estimated() {
        let scenario = parse("a test", TEXT).expect("a scenario");
        let used =
            |unit: &str, estimate, used| UnitUse { kind: "chat".to_owned(), unit: unit.to_owned(), estimate, used };
        assert_eq!(of(&scenario), [used("credits", None, 2), used("tokens", Some(3), 9)]);
    }
}
