//! Lets faults begin and end at their times, and writes down what was done.
//!
//! Responsible for undoing every fault in every case: at its time, when the load is over, or when another fault went
//! wrong. Must never go on after something went wrong: what comes then would be judged by a timetable that was not
//! kept.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::error::HarnessError;
use crate::fault::{Injector, Lasting, Moment, Timetable, Undo};
use crate::record::{Fault, RunClock};

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
    let mut play = Play { timetable, clock, note, undos: BTreeMap::new(), done: Conducted::default() };
    for moment in timetable.moments() {
        let waited = over.run_until_cancelled(tokio::time::sleep_until(clock.instant(moment.at_us))).await;
        if waited.is_none() {
            break;
        }
        let played =
            if moment.begins { play.begin(injector, moment).await } else { play.end(injector, moment.fault).await };
        if let Err(error) = played {
            play.done.error = Some(error);
            over.cancel();
            break;
        }
    }
    over.cancelled().await;
    let left: Vec<usize> = play.undos.keys().copied().collect();
    for fault in left {
        if let Err(error) = play.end(injector, fault).await {
            play.done.error.get_or_insert(error);
        }
    }
    play.done
}

struct Play<'a> {
    timetable: &'a Timetable,
    clock: RunClock,
    note: &'a (dyn Fn(&str) + Send + Sync),
    /// How to undo what goes on, and where it is written down, by its number in the timetable.
    undos: BTreeMap<usize, (Undo, usize)>,
    done: Conducted,
}

impl Play<'_> {
    async fn begin(&mut self, injector: &mut Injector<'_>, moment: Moment) -> Result<(), HarnessError> {
        let kind = &self.timetable.faults()[moment.fault].kind;
        let written = self.done.faults.len();
        let (name, detail) = (kind.name().to_owned(), kind.to_string());
        (self.note)(&format!("{:6.1} s  {detail}", self.clock.now_us() as f64 / 1e6));
        self.done.faults.push(Fault { name, detail, at_us: self.clock.now_us(), until_us: None });
        match injector.begin(kind).await? {
            Some(undo) => _ = self.undos.insert(moment.fault, (undo, written)),
            None if kind.lasting() == Lasting::Never => self.done.faults[written].until_us = Some(self.clock.now_us()),
            None => {}
        }
        Ok(())
    }

    async fn end(&mut self, injector: &mut Injector<'_>, fault: usize) -> Result<(), HarnessError> {
        let Some((undo, written)) = self.undos.remove(&fault) else { return Ok(()) };
        injector.undo(undo).await?;
        let fault = &mut self.done.faults[written];
        fault.until_us = Some(self.clock.now_us());
        (self.note)(&format!("{:6.1} s  {} is over", self.clock.now_us() as f64 / 1e6, fault.detail));
        Ok(())
    }
}
