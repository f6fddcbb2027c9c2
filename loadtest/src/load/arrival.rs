//! When requests of an open loop arrive.
//!
//! Responsible for the times of each pattern, exact and the same for the same seed on every machine. Must never look at
//! a clock or at an answer: that is what makes the loop open.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, Exp1};

use super::plan::{Arrivals, Phase};

/// The generator of everything random in a load: fast, and the same on every platform and in every release.
pub(super) type Random = Xoshiro256PlusPlus;

/// Times of arrivals, µs since the stream began, ascending.
pub(super) type Times = Box<dyn Iterator<Item = u64> + Send>;

const US_PER_SECOND: f64 = 1e6;

/// Times below `seconds`. A replay has none of its own: they stand in its trace.
pub(super) fn times(arrivals: &Arrivals, seconds: f64, mut random: Random) -> Times {
    let end_us = micros(seconds);
    match *arrivals {
        Arrivals::Constant { per_second } => until(end_us, (0..).map(move |k| f64::from(k) / per_second)),
        Arrivals::Poisson { per_second } => {
            let mut at = 0.0;
            let next = move || {
                let gap: f64 = Exp1.sample(&mut random);
                at += gap / per_second;
                at
            };
            until(end_us, std::iter::repeat_with(next))
        }
        Arrivals::Burst { size, every_seconds } => {
            let moments = (0u32..).map(move |k| f64::from(k) * every_seconds);
            until(end_us, moments.flat_map(move |at| std::iter::repeat_n(at, size as usize)))
        }
        Arrivals::Ramp { from_per_second, to_per_second } => {
            let ramp = Ramp { from: from_per_second, slope: (to_per_second - from_per_second) / seconds };
            until(end_us, (0u32..).map_while(move |k| ramp.time_of(f64::from(k))))
        }
        Arrivals::Phases { ref phases } => in_phases(phases, &mut random),
        Arrivals::Replay { .. } => Box::new(std::iter::empty()),
    }
}

/// Whole µs.
pub(super) fn micros(seconds: f64) -> u64 {
    (seconds * US_PER_SECOND).round() as u64
}

fn until(end_us: u64, seconds: impl Iterator<Item = f64> + Send + 'static) -> Times {
    Box::new(seconds.map(micros).take_while(move |&at_us| at_us < end_us))
}

fn in_phases(phases: &[Phase], random: &mut Random) -> Times {
    let mut from_us = 0;
    let mut parts: Vec<Times> = Vec::with_capacity(phases.len());
    for phase in phases {
        if let Some(arrivals) = &phase.arrivals {
            let part = times(arrivals, phase.seconds, Random::from_rng(random));
            parts.push(Box::new(part.map(move |at_us| from_us + at_us)));
        }
        from_us += micros(phase.seconds);
    }
    Box::new(parts.into_iter().flatten())
}

/// A rate that changes linearly. Up to `t`, `from·t + slope·t²/2` requests have arrived; arrival k is where that is k.
#[derive(Clone, Copy)]
struct Ramp {
    from: f64,
    slope: f64,
}

impl Ramp {
    /// Seconds at which this many have arrived; `None` if a falling rate never gets there.
    fn time_of(self, arrived: f64) -> Option<f64> {
        let under_root = self.from * self.from + 2.0 * self.slope * arrived;
        if under_root < 0.0 {
            return None;
        }
        // This form of the solution loses no digits where the slope is small.
        let below = self.from + under_root.sqrt();
        if below > 0.0 { Some(2.0 * arrived / below) } else { (self.slope > 0.0 && arrived == 0.0).then_some(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(arrivals: &Arrivals, seconds: f64, seed: u64) -> Vec<u64> {
        times(arrivals, seconds, Random::seed_from_u64(seed)).collect()
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_do_not_drift() {
        let found = all(&Arrivals::Constant { per_second: 3.0 }, 100.0, 0);
        assert_eq!(found.len(), 300);
        for (k, &at_us) in found.iter().enumerate() {
            assert!((at_us as f64 - k as f64 * 1e6 / 3.0).abs() <= 0.5, "arrival {k} at {at_us}");
        }
    }

    #[test]
    fn poisson_gaps_are_independent_and_exponential() {
        let found = all(&Arrivals::Poisson { per_second: 1000.0 }, 100.0, 7);
        let gaps: Vec<f64> = found.windows(2).map(|two| (two[1] - two[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Of 100,000 draws: 1 % is three standard errors of the mean, 3 % of the variance five.
        assert!((mean / 1000.0 - 1.0).abs() < 0.01, "mean gap {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "deviation {} of mean {mean}", variance.sqrt());
        let long = gaps.iter().filter(|&&gap| gap > 3000.0).count() as f64 / gaps.len() as f64;
        assert!((long / (-3.0_f64).exp() - 1.0).abs() < 0.1, "{long} of the gaps are above three means");
        let product = gaps.windows(2).map(|two| (two[0] - mean) * (two[1] - mean)).sum::<f64>() / gaps.len() as f64;
        assert!((product / variance).abs() < 0.02, "gaps depend on the ones before them");
    }

    #[test]
    fn bursts_come_at_once_and_again() {
        let found = all(&Arrivals::Burst { size: 3, every_seconds: 0.5 }, 1.2, 0);
        assert_eq!(found, [0, 0, 0, 500_000, 500_000, 500_000, 1_000_000, 1_000_000, 1_000_000]);
    }

    #[test]
    fn a_ramp_has_the_rate_of_each_moment() {
        let found = all(&Arrivals::Ramp { from_per_second: 100.0, to_per_second: 300.0 }, 10.0, 0);
        assert_eq!(found.len(), 2000);
        for second in 0..10u64 {
            let within = second * 1_000_000..(second + 1) * 1_000_000;
            let count = found.iter().filter(|at_us| within.contains(at_us)).count() as f64;
            let mean_rate = 100.0 + 20.0 * (second as f64 + 0.5);
            assert!((count - mean_rate).abs() <= 1.0, "{count} in second {second}, not {mean_rate}");
        }
    }

    #[test]
    fn a_ramp_may_begin_or_end_with_nothing() {
        let rising = all(&Arrivals::Ramp { from_per_second: 0.0, to_per_second: 200.0 }, 10.0, 0);
        let falling = all(&Arrivals::Ramp { from_per_second: 200.0, to_per_second: 0.0 }, 10.0, 0);
        assert_eq!((rising.len(), rising[0], falling[0]), (1000, 0, 0));
        assert!((999..=1000).contains(&falling.len()));
        assert!(rising[1] - rising[0] > falling[1] - falling[0]);
        assert_eq!(all(&Arrivals::Ramp { from_per_second: 0.0, to_per_second: 0.0 }, 10.0, 0), Vec::<u64>::new());
        let level = all(&Arrivals::Ramp { from_per_second: 50.0, to_per_second: 50.0 }, 2.0, 0);
        assert_eq!(level, all(&Arrivals::Constant { per_second: 50.0 }, 2.0, 0));
    }

    #[test]
    fn phases_follow_one_another() {
        let constant = |per_second| Some(Arrivals::Constant { per_second });
        let phase = |seconds, arrivals| Phase { seconds, arrivals };
        let phases = vec![phase(1.0, constant(2.0)), phase(1.0, None), phase(0.5, constant(4.0))];
        assert_eq!(all(&Arrivals::Phases { phases }, 2.5, 0), [0, 500_000, 2_000_000, 2_250_000]);
    }

    proptest! {
        #[test]
        fn every_pattern_ascends_ends_in_time_and_repeats(
            pattern in 0..4, rate in 1.0..2000.0f64, other in 0.0..2000.0f64, seconds in 0.01..5.0f64, seed: u64,
        ) {
            let arrivals = match pattern {
                0 => Arrivals::Constant { per_second: rate },
                1 => Arrivals::Poisson { per_second: rate },
                2 => Arrivals::Burst { size: rate as u32, every_seconds: seconds / 3.0 },
                _ => Arrivals::Ramp { from_per_second: rate, to_per_second: other },
            };
            let found = all(&arrivals, seconds, seed);
            prop_assert!(found.is_sorted());
            prop_assert!(found.last().is_none_or(|&last| last < micros(seconds)));
            prop_assert_eq!(&found, &all(&arrivals, seconds, seed));
            let expected = match pattern {
                2 => f64::from(rate as u32) * 3.0,
                3 => rate.midpoint(other) * seconds,
                _ => rate * seconds,
            };
            // Of Poisson eight standard deviations.
            let slack = if pattern == 1 { 8.0 * expected.sqrt() + 8.0 } else if pattern == 2 { rate } else { 1.5 };
            prop_assert!((found.len() as f64 - expected).abs() <= slack, "{} instead of {}", found.len(), expected);
        }
    }
}
