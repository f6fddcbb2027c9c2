//! A sliding window as a list of admissions, and the definition of one.
//!
//! Must never forget an entry: what has left is told by the time alone.

/// A window that rounds each admission up to a tick.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) name: String,
    pub(crate) limit: u64,
    pub(crate) length_ms: u64,
    pub(crate) tick_ms: u64,
    /// When each entry leaves, ms, and its units; in the order of admission.
    entries: Vec<(u64, u64)>,
}

impl Window {
    pub(crate) fn new(name: &str, limit: u64, length_ms: u64, tick_ms: u64) -> Self {
        Self { name: name.to_owned(), limit, length_ms, tick_ms, entries: Vec::new() }
    }

    pub(crate) fn admit(&mut self, now_ms: u64, units: u64) {
        self.entries.push((now_ms.div_ceil(self.tick_ms) * self.tick_ms + self.length_ms, units));
    }

    pub(crate) fn held(&self, now_ms: u64) -> u64 {
        self.inside(now_ms).map(|(_, units)| units).sum()
    }

    /// Units by which `cost` more would exceed the limit.
    pub(crate) fn excess(&self, now_ms: u64, cost: u64) -> u64 {
        (self.held(now_ms) + cost).saturating_sub(self.limit)
    }

    /// Time until `units` have left, or all there are, ms.
    pub(crate) fn wait_ms(&self, now_ms: u64, units: u64) -> u64 {
        let (mut gone, mut wait_ms) = (0, 0);
        for (leaves_ms, count) in self.inside(now_ms) {
            if gone >= units {
                break;
            }
            (gone, wait_ms) = (gone + count, leaves_ms - now_ms);
        }
        wait_ms
    }

    fn inside(&self, now_ms: u64) -> impl Iterator<Item = (u64, u64)> {
        self.entries.iter().copied().filter(move |(leaves_ms, _)| *leaves_ms > now_ms)
    }
}

/// Most units in any span of `window_ms`, open at one end, of admissions in the order of time: what a limit is about.
pub(crate) fn most_in_any_window(admissions: &[(u64, u64)], window_ms: u64) -> u64 {
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
