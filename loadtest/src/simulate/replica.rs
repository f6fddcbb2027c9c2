//! The policy a simulated process holds, and how it keeps up.
//!
//! Responsible for the same steps as `LivePolicy`, one call at a time, with the same judgement
//! ([`portcullis_lua::next`]). Must never hold two looks at once: whoever asks meanwhile waits for its turn.

use std::sync::Arc;

use portcullis_config::Policy;
use portcullis_lua::{Next, PolicyStamp, StoredPolicy, next};

use super::call::{Answer, Call, Heard};
use super::rules;

/// Rounds of one look, as `LivePolicy` has them.
const ROUNDS: u8 = 4;

/// What a process holds.
#[derive(Debug)]
pub(super) struct Replica {
    held: Option<Arc<StoredPolicy>>,
    policy: Arc<Policy>,
    look: Option<Look>,
    /// Takes what is stored, even if it is older.
    never_gives_back: bool,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    heard: Option<PolicyStamp>,
    rounds: u8,
}

/// How a look goes on.
#[derive(Debug)]
pub(super) enum Step {
    /// This is to be asked.
    Ask(Call),
    /// What is stored is in force.
    Done,
    /// Redis did not say.
    Failed,
}

impl Replica {
    /// A replica that was just started: it follows its boot document.
    pub(super) fn new(never_gives_back: bool) -> Self {
        Self { held: None, policy: rules::policy(0), look: None, never_gives_back }
    }

    pub(super) fn stamp(&self) -> PolicyStamp {
        self.held.as_ref().map_or(PolicyStamp::NONE, |held| held.stamp)
    }

    /// When the policy it holds was written, Redis clock, ms; 0 for the boot document.
    pub(super) fn written_ms(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.at_ms)
    }

    pub(super) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Whether a look is under way.
    pub(super) fn is_looking(&self) -> bool {
        self.look.is_some()
    }

    /// Somebody said that this is stored, or nobody said anything and it is time to look.
    pub(super) fn look(&mut self, heard: Option<PolicyStamp>) -> Step {
        if heard == Some(self.stamp()) {
            return Step::Done;
        }
        self.look = Some(Look { heard, rounds: 0 });
        Step::Ask(Call::ReadPolicy)
    }

    /// The answer to what was asked.
    pub(super) fn answered(&mut self, heard: Heard) -> Step {
        let Some(look) = &mut self.look else { return Step::Done };
        match heard {
            Ok(Answer::Policy(stored)) => {
                look.rounds += 1;
                if look.rounds > ROUNDS {
                    self.look = None;
                    return Step::Failed;
                }
                let stored = stored.map(|stored| *stored);
                match (next(self.held.as_ref(), stored.clone(), look.heard), stored) {
                    (Next::GiveBack(_), Some(stored)) if self.never_gives_back => self.take(stored),
                    (Next::GiveBack(held), _) => return Step::Ask(Call::Restore { held }),
                    (Next::Load(stored), _) => self.take(stored),
                    (Next::InStep(_), _) => {}
                }
                self.look = None;
                Step::Done
            }
            Ok(Answer::Stamp(stamp)) if stamp == self.stamp() => {
                self.look = None;
                Step::Done
            }
            Ok(Answer::Stamp(_)) => Step::Ask(Call::ReadPolicy),
            _ => {
                self.look = None;
                Step::Failed
            }
        }
    }

    fn take(&mut self, stored: StoredPolicy) {
        self.policy = rules::read(&stored.document);
        self.held = Some(Arc::new(stored));
    }
}
