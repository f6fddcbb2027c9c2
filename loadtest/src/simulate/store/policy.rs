//! The stored policy of a simulated scope, and what gateways report of theirs (`follow.lua`).
//!
//! Responsible for telling the judge what is stored. Must never look into a document.

use std::collections::BTreeMap;

use portcullis_lua::{About, Origin, PolicyStamp};

use crate::model::{Draft, Shelf};
use crate::simulate::call::{Answer, Call, Heard, unavailable};
use crate::simulate::context::Context;

/// What is stored, and what gateways say they hold.
#[derive(Clone, Debug, Default)]
pub(in crate::simulate) struct Policies {
    shelf: Shelf,
    /// By gateway: the stamp it holds, and until when that counts, ms.
    reports: BTreeMap<String, (PolicyStamp, u64)>,
}

impl Policies {
    pub(in crate::simulate) fn stamp(&self) -> PolicyStamp {
        self.shelf.stamp()
    }

    /// When the stored policy was written, ms; 0 if none is.
    pub(in crate::simulate) fn written_ms(&self) -> u64 {
        self.shelf.written_ms()
    }

    /// A gateway has left.
    pub(super) fn forget(&mut self, name: &str) {
        self.reports.remove(name);
    }

    /// Answers the calls that are about the policy and nothing else.
    pub(super) fn answer(&mut self, context: &mut Context, now_ms: u64, call: Call) -> Heard {
        Ok(match call {
            Call::ReadPolicy => Answer::Policy(self.shelf.stored().cloned().map(Box::new)),
            Call::Revise { expected, document, write_id } => {
                let draft = Draft { document, about: about(), write_id };
                let revised = self.shelf.revise(now_ms, expected, draft);
                if let Ok(stored) = &revised {
                    context.coverage.count("policy stored");
                    context.judge.stored(stored);
                }
                Answer::Revised(revised.map(Box::new))
            }
            Call::Restore { held } => {
                let before = self.stamp();
                let stamp = self.shelf.restore(&held);
                if let Some(stored) = self.shelf.stored().filter(|_| stamp != before) {
                    context.coverage.count("policy given back");
                    context.judge.stored(stored);
                }
                Answer::Stamp(stamp)
            }
            Call::Follow { name, stamp, timeout_ms } => {
                self.reports.retain(|_, (_, until_ms)| *until_ms + 9 * timeout_ms > now_ms);
                self.reports.insert(name, (stamp, now_ms + timeout_ms));
                Answer::Stamp(self.stamp())
            }
            Call::Convergence => {
                let live = self.reports.values().filter(|(_, until_ms)| now_ms < *until_ms);
                Answer::Converged(live.into_iter().all(|(stamp, _)| *stamp == self.stamp()))
            }
            _ => return Err(unavailable()),
        })
    }
}

fn about() -> About {
    About {
        origin: Origin::Update,
        actor: "operator".to_owned(),
        reason: None,
        rolled_back_to: None,
        changed: Vec::new(),
    }
}
