//! A simulated gateway keeping its scope in step, as the gateway's `scope/upkeep.rs` does.
//!
//! Responsible for subscriptions, news and reports, one duty at a time. Must never be what correctness rests on.

use std::time::Duration;

use portcullis_lua::PolicyStamp;

use super::{Awaited, Gateway, Looker};
use crate::simulate::call::{Answer, Call, Heard};
use crate::simulate::context::Context;
use crate::simulate::event::Timer;

/// Pause before something that Redis did not answer is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Longest time between two looks at what is due.
const TICK: Duration = Duration::from_millis(200);

/// What a scope is waiting for.
#[derive(Debug, Default)]
pub(super) struct Due {
    subscribed: bool,
    heard: u64,
    looked: u64,
    report_at_us: u64,
    not_before_us: u64,
    reported: Option<PolicyStamp>,
    /// A duty is under way.
    busy: bool,
}

impl Due {
    /// Nothing can have been missed, and nothing has been heard that was not looked at.
    pub(super) fn is_abreast(&self) -> bool {
        self.subscribed && self.heard == self.looked
    }

    pub(super) fn over(&mut self) {
        self.busy = false;
    }
}

impl Gateway {
    /// What it is called in its reports.
    pub(super) fn name(&self) -> String {
        format!("{:?}-{}", self.life.place, self.life.number)
    }

    /// There may be another policy.
    pub(in crate::simulate) fn news(&mut self, context: &mut Context) {
        self.due.heard += 1;
        self.keep_in_step(context);
    }

    /// The subscribing connection is gone.
    pub(in crate::simulate) fn unsubscribed(&mut self) {
        self.due.subscribed = false;
    }

    pub(super) fn upkeep(&mut self, context: &mut Context) {
        context.wake(&self.life, TICK, Timer::Upkeep);
        self.keep_in_step(context);
    }

    fn keep_in_step(&mut self, context: &mut Context) {
        let now_us = context.now_us;
        if self.breaker.is_open() || self.due.busy || now_us < self.due.not_before_us {
            return;
        }
        let report = now_us >= self.due.report_at_us || self.due.reported != Some(self.replica.stamp());
        if !self.due.subscribed {
            self.due.busy = self.call(context, Call::Subscribe, Awaited::Subscribe).is_ok();
        } else if self.due.heard != self.due.looked {
            self.due.busy = true;
            self.look(context, None, Looker::News(self.due.heard));
        } else if report {
            let (name, stamp) = (self.name(), self.replica.stamp());
            let timeout_ms = self.replica.policy().monitoring.heartbeat_timeout_seconds * 1000;
            let call = Call::Follow { name, stamp, timeout_ms };
            self.due.busy = self.call(context, call, Awaited::Report(stamp)).is_ok();
        }
    }

    /// A subscription begins with news.
    pub(super) fn subscribed(&mut self, context: &mut Context, answered: bool) {
        self.due.busy = false;
        if answered {
            self.due.subscribed = true;
            self.due.heard += 1;
        } else {
            self.put_off(context);
        }
        self.keep_in_step(context);
    }

    /// News up to this number have been looked at, or Redis did not answer.
    pub(super) fn looked(&mut self, context: &mut Context, upto: Option<u64>) {
        self.due.busy = false;
        match upto {
            Some(upto) => self.due.looked = upto,
            None => self.put_off(context),
        }
        self.keep_in_step(context);
    }

    /// A report was answered with what is stored, or not at all.
    pub(super) fn reported(&mut self, context: &mut Context, held: PolicyStamp, heard: &Heard) {
        let Ok(Answer::Stamp(stored)) = heard else {
            self.due.busy = false;
            return self.put_off(context);
        };
        let timeout_us = self.replica.policy().monitoring.heartbeat_timeout_seconds * 1_000_000;
        self.due.report_at_us = context.now_us + timeout_us / 2;
        self.due.reported = Some(held);
        self.look(context, Some(*stored), Looker::Report);
    }

    fn put_off(&mut self, context: &Context) {
        self.due.not_before_us = context.now_us + self.life.clock.truly(RETRY);
    }
}
