//! What the handlers of a run do: how long they take, how often they fail, what they use.
//!
//! Responsible for the shape of a task kind's work in a scenario and for drawing from it. Must never know who called:
//! a backend is the same for everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp, LogNormal};
use serde::{Deserialize, Serialize};

/// Longest time drawn: a long tail must not outlive the run.
const LONGEST_MS: f64 = 3_600_000.0;

/// What a handler does with each attempt of a task kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// How long an attempt takes.
    pub service: ServiceTime,
    /// Share of attempts that end with an error to be retried, 0 to 1.
    #[serde(default)]
    pub failure_rate: f64,
    /// Share of attempts that never answer, 0 to 1.
    #[serde(default)]
    pub hang_rate: f64,
    /// What each attempt says it used, by unit such as `tokens`.
    #[serde(default)]
    pub usage: BTreeMap<String, u64>,
}

/// How long an attempt takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "distribution", rename_all = "snake_case", deny_unknown_fields)]
pub enum ServiceTime {
    /// Always the same.
    Constant {
        /// That long, ms.
        ms: f64,
    },
    /// Without memory: many short, some long.
    Exponential {
        /// On average, ms.
        mean_ms: f64,
    },
    /// Most near the median and a heavy tail, as model servers have it.
    Lognormal {
        /// Half take longer, ms.
        median_ms: f64,
        /// Standard deviation of the logarithm; 0.5 has a p99 of three medians.
        sigma: f64,
    },
    /// Anything between two bounds.
    Uniform {
        /// At least, ms.
        from_ms: f64,
        /// At most, ms.
        to_ms: f64,
    },
}

impl Default for ServiceTime {
    fn default() -> Self {
        Self::Constant { ms: 0.0 }
    }
}

/// What is drawn for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It answers with success after this long.
    Succeeds(Duration),
    /// It answers with an error after this long.
    Fails(Duration),
    /// It never answers.
    Hangs,
}

impl Work {
    /// Every attempt takes this long and succeeds.
    #[must_use]
    pub fn constant(ms: f64) -> Self {
        Self { service: ServiceTime::Constant { ms }, ..Self::default() }
    }

    /// Everything that is wrong with it: field and reason.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for (field, rate) in [("failure_rate", self.failure_rate), ("hang_rate", self.hang_rate)] {
            if !(0.0..=1.0).contains(&rate) {
                faults.push((field, format!("{rate} is not between 0 and 1")));
            }
        }
        if self.failure_rate + self.hang_rate > 1.0 {
            faults.push(("hang_rate", "more attempts fail or hang than there are".to_owned()));
        }
        faults.extend(self.service.fault().map(|reason| ("service", reason)));
        faults
    }

    /// The mean duration of an attempt that answers, ms: with the slots it makes the capacity of a cluster.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        match self.service {
            ServiceTime::Constant { ms } => ms,
            ServiceTime::Exponential { mean_ms } => mean_ms,
            ServiceTime::Lognormal { median_ms, sigma } => median_ms * (sigma * sigma / 2.0).exp(),
            ServiceTime::Uniform { from_ms, to_ms } => f64::midpoint(from_ms, to_ms),
        }
    }

    /// What becomes of one attempt.
    pub(super) fn draw(&self, random: &mut impl Rng) -> Fate {
        let share: f64 = random.random_range(0.0..1.0);
        if share < self.hang_rate {
            return Fate::Hangs;
        }
        let took = self.service.draw(random);
        if share < self.hang_rate + self.failure_rate { Fate::Fails(took) } else { Fate::Succeeds(took) }
    }
}

impl ServiceTime {
    fn fault(&self) -> Option<String> {
        let usable = |ms: f64| (0.0..=LONGEST_MS).contains(&ms);
        let (numbers, positive): (&[f64], bool) = match self {
            Self::Constant { ms } => (&[*ms], true),
            Self::Exponential { mean_ms } => (&[*mean_ms], *mean_ms > 0.0),
            Self::Lognormal { median_ms, sigma } => (&[*median_ms, *sigma], *median_ms > 0.0),
            Self::Uniform { from_ms, to_ms } => (&[*from_ms, *to_ms], from_ms <= to_ms),
        };
        (!positive || !numbers.iter().copied().all(usable)).then(|| format!("{self:?} is no distribution of times"))
    }

    /// Draws a time; a distribution with faults draws none.
    fn draw(&self, random: &mut impl Rng) -> Duration {
        let ms = match *self {
            Self::Constant { ms } => ms,
            Self::Exponential { mean_ms } => Exp::new(1.0 / mean_ms).map_or(0.0, |exp| exp.sample(random)),
            Self::Lognormal { median_ms, sigma } => {
                LogNormal::new(median_ms.ln(), sigma).map_or(0.0, |normal| normal.sample(random))
            }
            Self::Uniform { from_ms, to_ms } if from_ms < to_ms => random.random_range(from_ms..to_ms),
            Self::Uniform { from_ms, .. } => from_ms,
        };
        Duration::from_secs_f64(if ms.is_finite() { ms.clamp(0.0, LONGEST_MS) / 1000.0 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn drawn(work: &Work) -> Vec<Fate> {
        let mut random = StdRng::seed_from_u64(4);
        (0..20_000).map(|_| work.draw(&mut random)).collect()
    }

    #[test]
    fn each_distribution_draws_its_mean() {
        let distributions = [
            ServiceTime::Constant { ms: 20.0 },
            ServiceTime::Exponential { mean_ms: 20.0 },
            ServiceTime::Lognormal { median_ms: 20.0, sigma: 0.5 },
            ServiceTime::Uniform { from_ms: 10.0, to_ms: 30.0 },
        ];
        for service in distributions {
            let work = Work { service, ..Work::default() };
            assert_eq!(work.faults(), []);
            let total: f64 = drawn(&work)
                .iter()
                .map(|fate| match fate {
                    Fate::Succeeds(took) => took.as_secs_f64() * 1000.0,
                    other => panic!("{other:?}"),
                })
                .sum();
            let mean = total / 20_000.0;
            assert!((mean / work.mean_ms() - 1.0).abs() < 0.05, "{:?} drew {mean}", work.service);
        }
    }

    #[test]
    fn the_shares_of_failing_and_hanging_attempts_are_those_asked_for() {
        let fates = drawn(&Work { failure_rate: 0.3, hang_rate: 0.1, ..Work::constant(5.0) });
        let count = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
        let took = Duration::from_millis(5);
        assert!((5_600..6_400).contains(&count(Fate::Fails(took))), "{}", count(Fate::Fails(took)));
        assert!((1_700..2_300).contains(&count(Fate::Hangs)), "{}", count(Fate::Hangs));
    }

    #[test]
    fn a_work_that_is_none_says_all_that_is_wrong() {
        let uniform = ServiceTime::Uniform { from_ms: 5.0, to_ms: 1.0 };
        let work = Work { service: uniform, failure_rate: 1.5, hang_rate: f64::NAN, ..Work::default() };
        let fields: Vec<&str> = work.faults().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["failure_rate", "hang_rate", "service"]);
        let exponential = ServiceTime::Exponential { mean_ms: 0.0 };
        assert_eq!(Work { service: exponential, ..Work::default() }.faults().len(), 1);
    }

    #[test]
    fn reads_as_it_stands_in_a_scenario() {
        let text = "service: { distribution: lognormal, median_ms: 20, sigma: 0.5 }\nusage: { tokens: 7 }\n";
        let work: Work = serde_yaml_ng::from_str(text).unwrap();
        assert_eq!(work.service, ServiceTime::Lognormal { median_ms: 20.0, sigma: 0.5 });
        assert_eq!(work.usage["tokens"], 7);
        let typo = "service: { distribution: constant, milliseconds: 20 }\n";
        serde_yaml_ng::from_str::<Work>(typo).unwrap_err();
    }
}
