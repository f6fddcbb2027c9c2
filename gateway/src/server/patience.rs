//! How long a connection is put up with.
//!
//! Responsible for telling a client that is slow, or gone, from one that is merely quiet. Must never be lenient to one
//! that draws things out byte by byte: what counts is how far it has come, not that it moves. Pure: it is shown the
//! counters of a connection every [`LOOK`] and says what to do.

use std::time::Duration;

use tokio::time::Instant;

use super::activity::Glance;

/// How often a connection is looked at, and so how late a limit may be noticed.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// Longest time for the head of a request to arrive.
const HEAD: Duration = Duration::from_secs(20);

/// Longest time in which a client that is sent something may read less than [`LEAST_READ`].
pub(super) const STALL: Duration = Duration::from_secs(20);

/// What a client has to read in [`STALL`], bytes, unless it has read everything. Slower than the slowest radio.
const LEAST_READ: u64 = 4 * 1024;

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// Nothing has been asked for so long that it may go.
    Idle,
    /// The head of a request does not come to its end.
    SlowHead,
    /// The client does not read what it asked for.
    Stalled,
}

/// What was seen of a connection so far.
#[derive(Debug)]
pub(super) struct Patience {
    keep_alive: Duration,
    /// Whether bytes between requests are the head of one; with HTTP/2 they may be anything.
    heads_are_plain: bool,
    begun: u64,
    quiet_since: Option<Instant>,
    head_since: Option<Instant>,
    reading: Reading,
}

/// How far a client has come with reading what it is sent.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Since when it owes reading, and what had been written by then.
    owing_since: Option<(Instant, u64)>,
}

impl Patience {
    /// Of a new connection, which may be silent for `keep_alive`.
    pub(super) fn new(keep_alive: Duration, heads_are_plain: bool, now: Instant) -> Self {
        Self {
            keep_alive,
            heads_are_plain,
            begun: 0,
            quiet_since: Some(now),
            head_since: None,
            reading: Reading::default(),
        }
    }

    /// Judges by what is seen now.
    pub(super) fn judge(&mut self, glance: Glance, now: Instant) -> Verdict {
        // A request that came and went meanwhile: the silence after it began by now.
        let anew = std::mem::replace(&mut self.begun, glance.begun) != glance.begun;
        let since = |before: Option<Instant>, holds: bool| holds.then(|| before.filter(|_| !anew).unwrap_or(now));
        let over = |since: Option<Instant>, limit: Duration| since.is_some_and(|since| now - since >= limit);
        self.quiet_since = since(self.quiet_since, !glance.running);
        self.head_since = since(self.head_since, !glance.running && glance.arriving && self.heads_are_plain);
        if self.reading.stalls(glance.owing, glance.written, STALL, now) {
            Verdict::Stalled
        } else if over(self.head_since, HEAD) {
            Verdict::SlowHead
        } else if over(self.quiet_since, self.keep_alive) {
            Verdict::Idle
        } else {
            Verdict::Keep
        }
    }
}

impl Reading {
    /// Whether the client has owed reading for `longest` by now, and has hardly read meanwhile.
    pub(super) fn stalls(&mut self, owing: bool, written: u64, longest: Duration, now: Instant) -> bool {
        let (since, before) = match self.owing_since.filter(|_| owing) {
            Some((since, before)) if written - before < LEAST_READ => (since, before),
            _ => (now, written),
        };
        self.owing_since = owing.then_some((since, before));
        owing && now - since >= longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(75);

    /// The verdict on a connection that is looked at until it is not kept, and when that was; `None` after ten minutes.
    fn verdict(heads_are_plain: bool, glance: impl Fn(u64) -> Glance) -> Option<(Verdict, u64)> {
        let start = Instant::now();
        let mut patience = Patience::new(KEEP_ALIVE, heads_are_plain, start);
        (1..60).find_map(|look| {
            let seconds = look * LOOK.as_secs();
            let verdict = patience.judge(glance(seconds), start + Duration::from_secs(seconds));
            (verdict != Verdict::Keep).then_some((verdict, seconds))
        })
    }

    #[test]
    fn a_silent_connection_is_kept_as_long_as_said_and_not_much_longer() {
        assert_eq!(verdict(true, |_| Glance::default()), Some((Verdict::Idle, 80)));
        let once = |seconds| Glance { begun: u64::from(seconds >= 50), ..Glance::default() };
        assert_eq!(verdict(true, once), Some((Verdict::Idle, 130)), "counted from the last request");
    }

    #[test]
    fn a_busy_connection_and_a_long_answer_are_kept() {
        assert_eq!(verdict(true, |seconds| Glance { begun: seconds, arriving: true, ..Glance::default() }), None);
        assert_eq!(verdict(true, |_| Glance { begun: 1, running: true, ..Glance::default() }), None);
    }

    #[test]
    fn a_head_has_its_time_however_it_trickles() {
        let trickle = |_| Glance { arriving: true, ..Glance::default() };
        assert_eq!(verdict(true, trickle), Some((Verdict::SlowHead, 30)));
        assert_eq!(verdict(false, trickle), Some((Verdict::Idle, 80)), "pings are no head, and no request");
    }

    #[test]
    fn a_client_has_to_read_what_it_asked_for() {
        let reading = |rate: u64| {
            move |seconds: u64| Glance {
                begun: 1,
                running: true,
                owing: true,
                written: rate * seconds,
                arriving: false,
            }
        };
        assert_eq!(verdict(true, reading(0)), Some((Verdict::Stalled, 30)));
        assert_eq!(verdict(true, reading(100)), Some((Verdict::Stalled, 30)), "drop by drop is not at all");
        assert_eq!(verdict(true, reading(1000)), None);
        let now_and_then = |seconds| Glance { owing: seconds % 20 == 0, ..reading(0)(seconds) };
        assert_eq!(verdict(true, now_and_then), None, "it keeps up");
    }
}
