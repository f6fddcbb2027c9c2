//! The scenarios that come with the harness.
//!
//! Responsible for finding a scenario by its name, wherever the harness was installed. Must never differ from the files
//! people read: they are compiled in.

use super::Scenario;
use super::parse::{ScenarioError, nearest, parse};

/// Names and texts, in the order in which they are worth reading.
macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".yaml")))),*]
    };
}

const SHIPPED: &[(&str, &str)] = shipped![
    "steady",
    "burst",
    "overload-2x",
    "overload-10x",
    "retry-storm",
    "metastability",
    "noisy-neighbour",
    "policy-change",
    "rolling-restart",
    "gateway-crash",
    "processor-crash",
    "partition",
    "slow-redis",
    "lost-pubsub",
    "redis-pause",
    "redis-restart",
    "redis-failover",
    "redis-cluster",
    "clock-skew",
    "chaos",
];

/// Names of all of them, in the order in which they are worth reading.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The text of the file of this name.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The scenario of this name.
#[must_use]
pub fn scenario(name: &str) -> Option<Result<Scenario, ScenarioError>> {
    text(name).map(|text| parse(name, text))
}

/// The name that is most like this one.
#[must_use]
pub fn like(name: &str) -> Option<&'static str> {
    nearest(name, names())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_one_and_says_what_it_expects() {
        for name in names() {
            let scenario = scenario(name).expect("listed").unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.expect.is_empty() && scenario.about.len() > 20, "{name}");
            assert!(scenario.load.duration_seconds() <= 60.0, "{name} takes too long for a look");
        }
    }

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        assert_eq!(like("overload10x"), Some("overload-10x"));
        assert!(text("overload10x").is_none());
    }
}
