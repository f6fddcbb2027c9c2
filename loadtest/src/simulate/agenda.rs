//! What is going to happen, in the order of time.
//!
//! Responsible for one order of everything: by time, and of the same time by when it was put down. Must never depend
//! on anything else, or a seed would not reproduce.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Things to come, each at a time in µs.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    entries: BinaryHeap<Entry<T>>,
    written: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at_us: u64,
    number: u64,
    what: T,
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self { entries: BinaryHeap::new(), written: 0 }
    }

    pub(super) fn put(&mut self, at_us: u64, what: T) {
        self.written += 1;
        self.entries.push(Entry { at_us, number: self.written, what });
    }

    /// What is next, and when.
    pub(super) fn next(&mut self) -> Option<(u64, T)> {
        self.entries.pop().map(|entry| (entry.at_us, entry.what))
    }
}

/// The heap has its largest entry on top, which must be the one that comes first.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_of_one_time_the_first_put_down() {
        let mut agenda = Agenda::new();
        for (at_us, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            agenda.put(at_us, what);
        }
        let order: String = std::iter::from_fn(|| agenda.next()).map(|(_, what)| what).collect();
        assert_eq!(order, "abcd");
    }
}
