//! Chance, from a seed.
//!
//! Responsible for every random choice of a simulation. Each actor has dice of its own, so that leaving out a fault or
//! an actor changes as little as possible of what the others do. Must never be seeded by anything but a number, and
//! uses a named algorithm, so that a seed means the same tomorrow.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Dice of one actor.
#[derive(Clone, Debug)]
pub(super) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// The dice of this actor in the run of this seed.
    pub(super) fn of(seed: u64, actor: u64) -> Self {
        // An odd constant spreads neighbouring numbers over all bits.
        Self(Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_add(actor.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    pub(super) fn fraction(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// A time that is exponentially distributed around its mean, at most twenty times as long.
    pub(super) fn exponential(&mut self, mean: u64) -> u64 {
        let uniform: f64 = self.0.random();
        (-(1.0 - uniform).ln() * mean as f64).min(20.0 * mean as f64) as u64
    }

    /// One of them; `None` of nothing.
    pub(super) fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let last = among.len().checked_sub(1)? as u64;
        among.get(self.between(0, last) as usize)
    }
}
