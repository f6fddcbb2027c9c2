//! A sliding window as a list of admissions, and the definition of one.
//!
//! Must never forget an entry by itself: what has left is told by the time alone.

/// A window that rounds each admission up to a tick.
#[derive(Clone, Debug)]
pub struct Window {
    /// `burst`, `hourly`, or the limit's name in the policy.
    pub name: String,
    /// Most units in it.
    pub limit: u64,
    /// How long an entry stays, ms.
    pub length_ms: u64,
    /// What the time of an entry is rounded up to a multiple of, ms.
    pub tick_ms: u64,
    /// Time of each entry, ms, and its units; in the order of admission.
    entries: Vec<(u64, u64)>,
}

impl Window {
    /// A window without entries.
    #[must_use]
    pub fn new(name: &str, limit: u64, length_ms: u64, tick_ms: u64) -> Self {
        Self { name: name.to_owned(), limit, length_ms, tick_ms, entries: Vec::new() }
    }

    /// The same entries under another limit.
    pub(super) fn reshaped(&self, shape: Self) -> Self {
        Self { entries: self.entries.clone(), ..shape }
    }

    /// Adds an entry.
    pub fn admit(&mut self, now_ms: u64, units: u64) {
        self.entries.push((now_ms, units));
    }

    /// Drops the entries that have left.
    pub(super) fn forget(&mut self, now_ms: u64) {
        let (tick_ms, length_ms) = (self.tick_ms, self.length_ms);
        self.entries.retain(|(at_ms, _)| at_ms.div_ceil(tick_ms) * tick_ms + length_ms > now_ms);
    }

    /// Units in it.
    #[must_use]
    pub fn held(&self, now_ms: u64) -> u64 {
        self.inside(now_ms).map(|(_, units)| units).sum()
    }

    /// Units by which `cost` more would exceed the limit.
    #[must_use]
    pub fn excess(&self, now_ms: u64, cost: u64) -> u64 {
        (self.held(now_ms) + cost).saturating_sub(self.limit)
    }

    /// Time until `units` have left, or all there are, ms.
    #[must_use]
    pub fn wait_ms(&self, now_ms: u64, units: u64) -> u64 {
        let (mut gone, mut wait_ms) = (0, 0);
        for (leaves_ms, count) in self.inside(now_ms) {
            if gone >= units {
                break;
            }
            (gone, wait_ms) = (gone + count, leaves_ms - now_ms);
        }
        wait_ms
    }

    /// When each entry leaves that has not yet, ms, and its units.
    fn inside(&self, now_ms: u64) -> impl Iterator<Item = (u64, u64)> {
        let leaves_ms = |at_ms: u64| at_ms.div_ceil(self.tick_ms) * self.tick_ms + self.length_ms;
        self.entries.iter().map(move |(at_ms, units)| (leaves_ms(*at_ms), *units)).filter(move |left| left.0 > now_ms)
    }
}

/// Most units in any span of `window_ms`, open at one end, of admissions in the order of time: what a limit is about.
#[must_use]
pub fn most_in_any_window(admissions: &[(u64, u64)], window_ms: u64) -> u64 {
    let (mut first, mut held, mut most) = (0, 0, 0);
    for &(at_ms, units) in admissions {
        held += units;
        while admissions[first].0 + window_ms <= at_ms {
            held -= admissions[first].1;
            first += 1;
        }
        most = most.max(held);
    }
    most
}
