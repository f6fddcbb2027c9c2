//! Lets faults begin and end at their times, and writes down what was done.
//!
//! Responsible for undoing every fault in every case: at its time, when the load is over, or when another fault went
//! wrong. Must never go on after something went wrong: what comes then would be judged by a timetable that was not
//! kept.

use std::collections::{BTreeMap, VecDeque};

use tokio_util::sync::CancellationToken;

use crate::error::HarnessError;
use crate::fault::{Begun, FaultKind, Injector, Moment, Timetable, Undo};
use crate::record::{Fault, RunClock};

/// What could not happen is tried again so much later, µs: an operator does not give up while Redis is away.
const AGAIN_US: u64 = 300_000;

/// What was done to a cluster.
#[derive(Debug, Default)]
pub struct Conducted {
    /// In the order in which it began.
    pub faults: Vec<Fault>,
    /// What went wrong first.
    pub error: Option<HarnessError>,
}

/// Plays a timetable until `over` is cancelled, which it does itself when something goes wrong; then undoes what goes
/// on. `note` is told of everything that is done.
pub async fn conduct(
    timetable: &Timetable,
    injector: &mut Injector<'_>,
    clock: RunClock,
    over: &CancellationToken,
    note: &(dyn Fn(&str) + Send + Sync),
) -> Conducted {
    let mut play =
        Play { timetable, clock, note, waiting: BTreeMap::new(), undos: BTreeMap::new(), done: Conducted::default() };
    let mut coming: VecDeque<Moment> = timetable.moments().into();
    while let Some(moment) = coming.pop_front() {
        let waited = over.run_until_cancelled(tokio::time::sleep_until(clock.instant(moment.at_us))).await;
        if waited.is_none() {
            break;
        }
        let played = if moment.begins {
            play.begin(injector, moment.fault).await
        } else {
            play.end(injector, moment.fault).await
        };
        match played {
            Ok(true) => {}
            Ok(false) => {
                let again = Moment { at_us: clock.now_us() + AGAIN_US, ..moment };
                coming.insert(coming.partition_point(|other| other.at_us <= again.at_us), again);
            }
            Err(error) => {
                play.done.error = Some(error);
                over.cancel();
                break;
            }
        }
    }
    over.cancelled().await;
    let left: Vec<usize> = play.undos.keys().copied().collect();
    for fault in left {
        if let Err(error) = play.end(injector, fault).await {
            play.done.error.get_or_insert(error);
        }
    }
    for written in play.waiting.into_values() {
        play.done.faults[written].detail.push_str(" (never accepted)");
    }
    play.done
}

struct Play<'a> {
    timetable: &'a Timetable,
    clock: RunClock,
    note: &'a (dyn Fn(&str) + Send + Sync),
    /// What could not happen yet: where it is written down, by its number in the timetable.
    waiting: BTreeMap<usize, usize>,
    /// How to undo what goes on, and where it is written down, by its number in the timetable.
    undos: BTreeMap<usize, (Undo, usize)>,
    done: Conducted,
}

impl Play<'_> {
    /// Whether it has begun. What has not is written down all the same: it may have had an effect.
    async fn begin(&mut self, injector: &mut Injector<'_>, fault: usize) -> Result<bool, HarnessError> {
        let kind = &self.timetable.faults()[fault].kind;
        let written = match self.waiting.remove(&fault) {
            Some(written) => written,
            None => self.write_down(kind),
        };
        match injector.begin(kind, self.done.faults[written].at_us).await? {
            Begun::Lasts(undo) => _ = self.undos.insert(fault, (undo, written)),
            Begun::Over => self.done.faults[written].until_us = Some(self.clock.now_us()),
            Begun::NotYet => {
                self.waiting.insert(fault, written);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write_down(&mut self, kind: &FaultKind) -> usize {
        let (name, detail, at_us) = (kind.name().to_owned(), kind.to_string(), self.clock.now_us());
        (self.note)(&format!("{:6.1} s  {detail}", at_us as f64 / 1e6));
        self.done.faults.push(Fault { name, detail, at_us, until_us: None });
        self.done.faults.len() - 1
    }

    /// Undoes it, if it goes on.
    async fn end(&mut self, injector: &mut Injector<'_>, fault: usize) -> Result<bool, HarnessError> {
        let Some((undo, written)) = self.undos.remove(&fault) else { return Ok(true) };
        injector.undo(undo).await?;
        let fault = &mut self.done.faults[written];
        fault.until_us = Some(self.clock.now_us());
        (self.note)(&format!("{:6.1} s  {} is over", self.clock.now_us() as f64 / 1e6, fault.detail));
        Ok(true)
    }
}
