//! What was admitted lately, for one window of one subject.
//!
//! Responsible for sliding in constant time per admission. Must never be the scripts' encoding: it counts admissions at
//! the times their events say, and nothing else.

use std::collections::VecDeque;

/// Admissions of the last while, oldest first.
#[derive(Debug, Default)]
pub(super) struct Track {
    entries: VecDeque<Entry>,
    held: u64,
    newest_ms: u64,
    window_ms: u64,
}

/// One admission.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at_ms: u64,
    units: u64,
    event: usize,
}

impl Track {
    /// Forgets what is `window_ms` old or older. A clock that went back counts as standing still, as in the scripts.
    pub(super) fn slide(&mut self, at_ms: u64, window_ms: u64) {
        let now_ms = at_ms.max(self.newest_ms);
        while let Some(oldest) = self.entries.front().filter(|entry| entry.at_ms.saturating_add(window_ms) <= now_ms) {
            self.held -= oldest.units;
            self.entries.pop_front();
        }
    }

    /// Forgets what a window of another length than before cannot know: what had left the old one, and all of it where
    /// nothing was admitted for the old one's length, after which its key may have expired.
    pub(super) fn reshape(&mut self, at_ms: u64, window_ms: u64) {
        if self.window_ms != window_ms && at_ms >= self.newest_ms + self.window_ms {
            self.clear();
        }
        self.window_ms = window_ms;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.held = 0;
    }

    /// Takes up an admission; `event` is its place in the record.
    pub(super) fn add(&mut self, at_ms: u64, units: u64, event: usize) {
        self.newest_ms = at_ms.max(self.newest_ms);
        self.entries.push_back(Entry { at_ms: self.newest_ms, units, event });
        self.held += units;
    }

    /// Units of all that is not forgotten.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Places of their events, oldest first.
    pub(super) fn events(&self) -> impl Iterator<Item = usize> {
        self.entries.iter().map(|entry| entry.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_came_within_the_window() {
        let mut track = Track::default();
        for (event, at_ms) in [0, 10, 999].into_iter().enumerate() {
            track.add(at_ms, 2, event);
        }
        track.slide(999, 1000);
        assert_eq!(track.held(), 6);
        track.slide(1000, 1000);
        assert_eq!((track.held(), track.events().collect::<Vec<_>>()), (4, vec![1, 2]));
    }

    #[test]
    fn a_clock_that_went_back_releases_nothing_early_and_nothing_late() {
        let mut track = Track::default();
        track.add(5000, 1, 0);
        track.add(3000, 1, 1);
        track.slide(3999, 1000);
        assert_eq!(track.held(), 2);
        track.slide(6000, 1000);
        assert_eq!(track.held(), 0);
    }

    #[test]
    fn a_longer_window_knows_only_what_the_shorter_one_still_held() {
        let mut track = Track::default();
        track.reshape(0, 1000);
        track.add(0, 1, 0);
        track.reshape(500, 9000);
        assert_eq!(track.held(), 1, "it was still held");
        track.reshape(500, 1000);
        track.reshape(1000, 9000);
        assert_eq!(track.held(), 0, "its key may have expired");
    }
}
