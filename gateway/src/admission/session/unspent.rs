//! Proofs of possession that were checked and are not spent yet.
//!
//! Responsible for each of them letting one request through, at one gateway: the script that decides about the request
//! spends it, or a command of its own, before anything is done for its caller. Must never be made but in the session
//! step, and never be let go of by who answers: what is left of it is spent before the answer goes out. Only who comes
//! to no answer lets go of it: one that panics, whose caller leaves, or who cannot ask Redis.
//!
//! Nothing is decided twice with one proof: what was sent and not answered counts as spent for this request, and its
//! caller is told that Redis is away. Whether another may still come with that proof is known to Redis alone.

use std::time::Duration;

use portcullis_lua::{Decision, Once, Reason, Refusal, Verdict};
use tokio::time::Instant;

use super::identity::Identity;
use super::turned_away;
use crate::admission::{ask, circuit_breaker};
use crate::client_address::ClientAddress;
use crate::credential::Unproven;
use crate::decider::{Decided, Question};
use crate::refusal::{Limits, Refused};
use crate::state::Gateway;

/// Longest time from the check of a proof until Redis is asked to spend it: half a minute for a body to arrive, and
/// some.
const LATEST: Duration = Duration::from_secs(35);

/// Longest time from its check until it is spent, seconds: each time it is sent, it is within [`LATEST`], and what was
/// sent does not lie before a Redis that serves for longer than the rest. What was spent has to be remembered for as
/// much longer than it is fresh: another request with the same proof may be on its way just as long.
pub(super) const LONGEST_UNSPENT_SECONDS: u64 = LATEST.as_secs() + 15;

/// What a request has to spend, if anything.
#[derive(Debug)]
#[must_use]
pub(crate) struct Unspent(Option<Proof>);

#[derive(Debug)]
struct Proof {
    once: Once,
    checked: Instant,
    /// Where it came from: who keeps sending proofs that were used is not heard for a while.
    address: ClientAddress,
}

impl Unspent {
    /// Of who shows no proof.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    /// Of a caller whose proof, if it has one, was checked no earlier than at `checked`.
    pub(super) fn new(proof: Option<Once>, checked: Instant, address: ClientAddress) -> Self {
        Self(proof.map(|once| Proof { once, checked, address }))
    }

    /// Spends what is left, by a command of its own; refuses who has nothing but what was spent before.
    pub(crate) async fn spend(&mut self, gateway: &Gateway, caller: &Identity) -> Result<(), Refused> {
        let Some(proof) = self.0.take() else { return Ok(()) };
        proof.check_age(gateway)?;
        // Rare, and large as a future: every request for anything would carry it.
        let first = Box::pin(ask(gateway, caller.scope().store().use_once(&proof.once))).await?;
        if first { Ok(()) } else { Err(proof.replayed(gateway)) }
    }

    /// The answer to a request, once its proof is spent: where the script was not asked, by a command of its own.
    pub(crate) async fn spend_for<T>(
        &mut self,
        gateway: &Gateway,
        caller: &Identity,
        answer: Result<T, Refused>,
    ) -> Result<T, Refused> {
        self.spend(gateway, caller).await?;
        answer
    }

    /// Has the script decide, and spend the proof whatever it decides.
    pub(in crate::admission) async fn decide(
        &mut self,
        gateway: &Gateway,
        caller: &Identity,
        mut question: Question,
    ) -> Result<Decided, Refused> {
        let proof = self.0.take();
        if let Some(proof) = &proof {
            proof.check_age(gateway)?;
            question.request.provenance.once = Some(proof.once.clone());
            question.wish.send_until = Some(proof.checked + LATEST);
        }
        let decided = caller.scope().admissions().decide(question).await;
        let decided = decided.map_err(|error| circuit_breaker::unavailable(&error))?;
        match (&decided.outcome, proof) {
            (
                Ok(Decision { verdict: Verdict::Refused(Refusal { reason: Reason::ProofUsed, .. }), .. }),
                Some(proof),
            ) => {
                // The script's event tells of it.
                let limits = Limits { recorded: true, ..Limits::default() };
                return Err(Refused { limits, ..proof.replayed(gateway) });
            }
            // The script was not asked: the policy in force does not let it be, or it was too late for that.
            (Err(_), proof) => self.0 = proof,
            (Ok(_), _) => {}
        }
        Ok(decided)
    }
}

impl Proof {
    fn check_age(&self, gateway: &Gateway) -> Result<(), Refused> {
        if self.checked.elapsed() <= LATEST {
            return Ok(());
        }
        Err(turned_away(gateway, &Unproven::Failed("proof_stale"), self.address))
    }

    fn replayed(&self, gateway: &Gateway) -> Refused {
        turned_away(gateway, &Unproven::Failed("proof_replayed"), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::session::identity_for_tests;
    use crate::refusal::Cause;
    use crate::state::tests::options_without_redis;

    /// What becomes of a proof that is spent this long after its check, and when it is spent again.
    async fn spent_after(seconds: u64) -> [Result<(), Cause>; 2] {
        let gateway = Gateway::new(options_without_redis());
        let caller = identity_for_tests(&gateway, "paid", "s");
        let mut proof = Unspent::new(Some(Once::new("jti", 1)), Instant::now(), ClientAddress::Unknown);
        tokio::time::advance(Duration::from_secs(seconds)).await;
        [proof.spend(&gateway, &caller).await, proof.spend(&gateway, &caller).await]
            .map(|spent| spent.map_err(|refused| refused.cause))
    }

    #[tokio::test(start_paused = true)]
    async fn a_proof_that_was_checked_too_long_ago_is_worth_nothing_whatever_redis_remembers() {
        let [in_time, again] = spent_after(LATEST.as_secs()).await;
        assert_eq!((in_time, again), (Err(Cause::StoreUnavailable), Ok(())), "Redis is asked, and once");
        assert_eq!(spent_after(LATEST.as_secs() + 1).await[0], Err(Cause::Unauthenticated));
    }

    #[tokio::test]
    async fn who_has_nothing_to_spend_costs_redis_nothing() {
        let gateway = Gateway::new(options_without_redis());
        let caller = identity_for_tests(&gateway, "paid", "s");
        assert_eq!(Unspent::nothing().spend(&gateway, &caller).await, Ok(()));
        assert_eq!(Unspent::new(None, Instant::now(), ClientAddress::Unknown).spend(&gateway, &caller).await, Ok(()));
    }
}
