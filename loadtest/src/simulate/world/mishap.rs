//! What goes wrong in a simulated cluster, and how it is over again.
//!
//! Responsible for the effect of each trouble of the plan. Must never draw anything: what happens stands in the plan.

use super::World;
use crate::simulate::call::unavailable;
use crate::simulate::event::Event;
use crate::simulate::plan::{Place, What};

/// How soon after its connections broke a processor subscribes again, µs.
const RESUBSCRIBE_US: u64 = 150_000;

/// How often it is looked whether a draining process has left, µs.
const LEFT_US: u64 = 200_000;

impl World<'_> {
    pub(super) fn trouble(&mut self, number: usize) {
        let Some(trouble) = self.plan.troubles.get(number) else { return };
        let (what, lasts_us, context) = (trouble.what.clone(), trouble.lasts_us, &mut self.context);
        context.trace.note(context.now_us, || format!("trouble: {what:?} for {lasts_us} us"));
        context.after(lasts_us, Event::Healed(number));
        context.coverage.count(what.name());
        match what {
            What::Crash(place) => self.crash(place),
            What::Drain(place) => self.drain(place, lasts_us),
            What::Freeze(place) => {
                if self.is_alive(place) {
                    let until_us = self.context.now_us + lasts_us;
                    let (until, _) = self.frozen.entry(place).or_default();
                    *until = until_us.max(*until);
                }
            }
            What::Partition(place) => context.cut(place, lasts_us),
            What::Flaky(place) => context.make_flaky(place, lasts_us),
            What::Deaf(place) => context.deafen(place, lasts_us),
            What::BreakConnections(place) => self.break_connections(place),
            What::RestartRedis => self.take_down(lasts_us),
            What::FreezeRedis => {
                self.redis_frozen_until_us = self.redis_frozen_until_us.max(context.now_us + lasts_us);
            }
            What::JumpClock(ms) => {
                self.store.jump(ms);
                context.judge.excuse_leases(context.now_us);
            }
            What::Failover { .. } => self.fail_over(number, lasts_us),
            What::FailBackend => {
                context.backend_fails_until_us = context.backend_fails_until_us.max(context.now_us + lasts_us);
            }
            What::ChangePolicy(policy) => self.operator.change(context, policy),
        }
    }

    pub(super) fn heal(&mut self, number: usize) {
        let Some(trouble) = self.plan.troubles.get(number) else { return };
        match trouble.what {
            What::Crash(place) | What::Drain(place) => {
                if !self.is_alive(place) {
                    self.start(place);
                } else if self.is_leaving(place) {
                    self.context.after(LEFT_US, Event::Healed(number));
                }
            }
            What::Freeze(place) => self.thaw(place),
            What::Partition(place) => self.lose_connections(place),
            What::RestartRedis | What::Failover { .. } => {
                self.places().into_iter().for_each(|place| self.lose_connections(place));
            }
            _ => {}
        }
    }

    fn is_alive(&self, place: Place) -> bool {
        match place {
            Place::Gateway(number) => self.gateways[number].life.alive,
            Place::Processor(number) => self.processors[number].life.alive,
            Place::Operator => true,
        }
    }

    fn is_leaving(&self, place: Place) -> bool {
        match place {
            Place::Gateway(number) => self.gateways[number].draining,
            Place::Processor(number) => self.processors[number].is_leaving(),
            Place::Operator => false,
        }
    }

    fn crash(&mut self, place: Place) {
        if !self.is_alive(place) {
            return;
        }
        self.store.disconnect(place);
        if let Some((_, waiting)) = self.frozen.remove(&place) {
            // Who was on the way to it finds nobody.
            waiting.into_iter().filter(|event| matches!(event, Event::Asked { .. })).for_each(|event| {
                self.context.after(1, event);
            });
        }
        match place {
            Place::Gateway(number) => self.gateways[number].crash(&mut self.context),
            Place::Processor(number) => self.processors[number].crash(&mut self.context),
            Place::Operator => {}
        }
    }

    fn drain(&mut self, place: Place, limit_us: u64) {
        if !self.is_alive(place) || self.is_leaving(place) || self.frozen.contains_key(&place) {
            return;
        }
        match place {
            Place::Gateway(number) => self.gateways[number].drain(&mut self.context),
            Place::Processor(number) => self.processors[number].drain(&mut self.context, limit_us),
            Place::Operator => {}
        }
    }

    /// A process goes on, and finds all that has come meanwhile.
    fn thaw(&mut self, place: Place) {
        if self.frozen.get(&place).is_some_and(|(until_us, _)| *until_us <= self.context.now_us)
            && let Some((_, waiting)) = self.frozen.remove(&place)
        {
            for event in waiting {
                self.context.after(0, event);
            }
        }
    }

    /// Calls under way get no answer; some have had their effect, and some will have.
    fn break_connections(&mut self, place: Place) {
        let under_way = match place {
            Place::Gateway(number) => self.gateways[number].life.under_way(),
            Place::Processor(number) => self.processors[number].life.under_way(),
            Place::Operator => self.operator.life.under_way(),
        };
        for (life, id) in under_way {
            self.context.after(0, Event::Answered { to: place, life, id, heard: Box::new(Err(unavailable())) });
        }
        self.lose_connections(place);
    }

    /// The server has dropped the connections of a process, which makes new ones.
    fn lose_connections(&mut self, place: Place) {
        self.store.disconnect(place);
        match place {
            Place::Gateway(number) => self.gateways[number].unsubscribed(),
            Place::Processor(_) => self.context.after(RESUBSCRIBE_US, Event::News { to: place }),
            Place::Operator => {}
        }
    }

    fn take_down(&mut self, lasts_us: u64) {
        self.redis_down_until_us = self.redis_down_until_us.max(self.context.now_us + lasts_us);
        self.places().into_iter().for_each(|place| self.lose_connections(place));
    }

    /// Another server takes over with what it has.
    fn fail_over(&mut self, number: usize, lasts_us: u64) {
        self.take_down(lasts_us);
        let Some((data, ledger)) = self.copies.remove(&number) else { return };
        // The others follow the new one from here on.
        self.copies.values_mut().for_each(|copy| *copy = (data.clone(), ledger.clone()));
        self.has_lost_data = true;
        let judge = &mut self.context.judge;
        if ledger.accepted() < judge.ledger.accepted() {
            self.context.coverage.count("accepted tasks lost");
        }
        judge.ledger = ledger;
        judge.excuse_leases(self.context.now_us);
        let written_ms = data.policies.written_ms();
        judge.policies_lost(written_ms);
        for place in self.places() {
            if let Some((life, held_ms)) = self.held_by(place).filter(|(_, held_ms)| *held_ms > written_ms) {
                self.keepers.push((place, life, held_ms));
            }
        }
        self.store.fail_over(data);
    }
}
