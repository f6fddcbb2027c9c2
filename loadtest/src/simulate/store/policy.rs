//! The stored policy, as `revise.lua`, `restore.lua` and `follow.lua` keep it.
//!
//! Responsible for the order of policies: stamps never fall, times of writing rise. Must never look into a document.

use std::collections::BTreeMap;

use portcullis_lua::{About, Origin, PolicyStamp, StoredPolicy};

use crate::simulate::call::{Answer, Call, Heard, unavailable};
use crate::simulate::context::Context;

/// What is stored, and what gateways say they hold.
#[derive(Clone, Debug, Default)]
pub(in crate::simulate) struct Policies {
    stored: Option<StoredPolicy>,
    /// By gateway: the stamp it holds, and until when that counts, ms.
    reports: BTreeMap<String, (PolicyStamp, u64)>,
}

impl Policies {
    pub(in crate::simulate) fn stamp(&self) -> PolicyStamp {
        self.stored.as_ref().map_or(PolicyStamp::NONE, |stored| stored.stamp)
    }

    /// When the stored policy was written, ms; 0 if none is.
    pub(in crate::simulate) fn written_ms(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.at_ms)
    }

    /// A gateway has left.
    pub(super) fn forget(&mut self, name: &str) {
        self.reports.remove(name);
    }

    /// Answers the calls that are about the policy and nothing else.
    pub(super) fn answer(&mut self, context: &mut Context, now_ms: u64, call: Call) -> Heard {
        Ok(match call {
            Call::ReadPolicy => Answer::Policy(self.stored.clone().map(Box::new)),
            Call::Revise { expected, document, write_id } => {
                let revised = self.revise(now_ms, expected, document, write_id);
                if let Ok(stored) = &revised {
                    context.coverage.count("policy stored");
                    context.judge.stored(stored);
                }
                Answer::Revised(revised.map(Box::new))
            }
            Call::Restore { held } => {
                let before = self.stamp();
                let stamp = self.restore(&held);
                if let Some(stored) = self.stored.as_ref().filter(|_| stamp != before) {
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

    /// Stores a document on top of the one its author saw, or says what is stored.
    fn revise(
        &mut self,
        now_ms: u64,
        expected: PolicyStamp,
        document: String,
        write_id: String,
    ) -> Result<StoredPolicy, PolicyStamp> {
        if let Some(stored) = self.stored.as_ref().filter(|stored| stored.write_id == write_id) {
            return Ok(stored.clone());
        }
        if self.stamp() != expected {
            return Err(self.stamp());
        }
        let revision = self.stamp().revision() + 1;
        let at_ms = now_ms.max(self.written_ms() + 1);
        let about = About {
            origin: Origin::Update,
            actor: "operator".to_owned(),
            reason: None,
            rolled_back_to: None,
            changed: Vec::new(),
        };
        let stored = StoredPolicy { stamp: PolicyStamp::new(revision, &document), document, at_ms, about, write_id };
        self.stored = Some(stored.clone());
        Ok(stored)
    }

    /// Of held and stored the one written later wins, and gets a number above both unless it has one.
    fn restore(&mut self, held: &StoredPolicy) -> PolicyStamp {
        let current = self.stamp();
        let held_wins = (held.at_ms, held.stamp) > (self.written_ms(), current);
        if !held_wins && (held.stamp == current || current.revision() > held.stamp.revision()) {
            return current;
        }
        let loser = if held_wins { current } else { held.stamp };
        let winner = if held_wins { Some(held.clone()) } else { self.stored.take() };
        self.stored = winner.map(|winner| {
            let number = loser.revision() + 1;
            let stamp = if winner.stamp.revision() <= loser.revision() {
                PolicyStamp::new(number, &winner.document)
            } else {
                winner.stamp
            };
            StoredPolicy { stamp, ..winner }
        });
        self.stamp()
    }
}
