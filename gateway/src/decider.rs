//! A batch of one scope decided under the scope's policy, and under no other.
//!
//! Responsible for what happens when Redis says that this gateway holds another policy than the stored one: nothing was
//! decided, so the stored one is loaded and the same requests are asked about again, within the same call; and likewise
//! where Redis has other revocations than this gateway knows of. Must never send a request that the policy in force
//! does not allow to be asked about, or whose credential is revoked: bodies are read under one policy and may be
//! decided under the next.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{
    AdmitRequest, CatchUp, Decision, Hop, LivePolicy, LiveRevocations, News, Provenance, RevocationView, ScopeStore,
    StoreError, Verdict,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admission::{circuit_breaker, enqueue};
use crate::caller::Source;
use crate::group_commit::Decide;
use crate::identity::rank;
use crate::metric;
use crate::pass_keeper::{PassKeeper, PassScope, Place};
use crate::policy_in_force::PolicyInForce;
use crate::refusal::Refused;
use crate::store_breaker::StoreBreaker;

/// What a named limit counts for in the size of a batch: deciding by one takes the script some 5 µs, about as long as
/// copying this much.
const LIMIT_BYTES: usize = 2048;

/// Under how many policies a batch is sent: what changes twice while one call is on its way is not changed by people.
const ROUNDS: usize = 3;

/// How often it is sent because something was revoked meanwhile: anybody may log out at any time.
const REVOCATION_ROUNDS: usize = 10;

/// A request for admission, but for what the policy decides about it.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The request; its cost and attempts are those of the policy it is decided under.
    pub(crate) request: AdmitRequest,
    /// What goes before the policy.
    pub(crate) wish: Wish,
}

/// What a request asks for where the policy would decide otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// Attempts; `None` leaves them to the policy.
    pub(crate) max_attempts: Option<u32>,
    /// Of a pass: estimates that go before those of its class.
    pub(crate) estimates: Vec<(String, u64)>,
    /// Of a pass: how long its place lasts, ms; `None` leaves it to the policy.
    pub(crate) lease_ms: Option<u64>,
    /// Until when it may be sent to Redis; `None`: for as long as somebody waits for it.
    pub(crate) send_until: Option<Instant>,
}

/// What became of a question.
#[derive(Debug)]
pub(crate) struct Decided {
    /// The policy it was decided under.
    pub(crate) policy: Arc<PolicyInForce>,
    /// As how many requests it counts under that policy.
    pub(crate) cost: u32,
    /// When the call was sent that decided it.
    pub(crate) asked_at: Instant,
    /// The place of a pass, given back when nobody takes it.
    pub(crate) place: Option<Place>,
    /// The script's decision, or why this policy does not let the script be asked.
    pub(crate) outcome: Result<Decision, Refused>,
}

/// Whether to act on a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Consume, enqueue and record.
    Admit,
    /// Only look.
    Peek,
}

/// Decides what one scope is asked.
#[derive(Clone, Debug)]
pub(crate) struct ScopeDecider {
    pub(crate) store: ScopeStore,
    pub(crate) live: LivePolicy<PolicyInForce>,
    /// What is revoked in the scope, as far as this gateway knows.
    pub(crate) revocations: LiveRevocations,
    pub(crate) breaker: Arc<StoreBreaker>,
    /// Who keeps the places of passes.
    pub(crate) passes: Arc<PassKeeper>,
    /// The scope as those places know it.
    pub(crate) pass_scope: Arc<PassScope>,
    /// Told when another policy has come into force.
    pub(crate) changed: Arc<Notify>,
}

impl Decide for ScopeDecider {
    type Question = Question;
    type Answer = Decided;

    fn bytes(&self, question: &Question) -> usize {
        weight(&question.request, &self.live.load())
    }

    fn gathered(&self, waiting: usize) {
        metric::gathered(waiting);
    }

    fn called(&self, decided: usize, took: Duration) {
        metric::admit_batch(decided, took.as_secs_f64());
    }

    async fn decide(&self, questions: Vec<Question>) -> Result<Vec<Decided>, StoreError> {
        self.ask(questions, Mode::Admit).await
    }
}

impl ScopeDecider {
    /// Asks until one policy was in force here and in Redis. An error means that nothing is known to be decided; for a
    /// stale policy, that nothing was.
    pub(crate) async fn ask(&self, questions: Vec<Question>, mode: Mode) -> Result<Vec<Decided>, StoreError> {
        let (mut requests, wishes): (Vec<_>, Vec<_>) =
            questions.into_iter().map(|Question { request, wish }| (request, wish)).unzip();
        let (mut round, mut revocation_round) = (1, 1);
        loop {
            let (policy, asked_at) = (self.live.load(), Instant::now());
            let revoked = self.revocations.load();
            let fitted = requests.iter_mut().zip(&wishes).enumerate();
            let misfits: Vec<(usize, Refused)> = fitted
                .filter_map(|(index, (request, wish))| {
                    lower(request, &revoked);
                    Some((index, askable(request, wish, &policy, &revoked).err()?))
                })
                .collect();
            let answer = if misfits.is_empty() {
                self.call(&policy, revoked.number(), &requests, mode).await
            } else {
                let misfit = |index: usize| misfits.iter().any(|(each, _)| *each == index);
                let fitting = requests.iter().enumerate().filter(|(index, _)| !misfit(*index));
                let fitting: Vec<AdmitRequest> = fitting.map(|(_, request)| request.clone()).collect();
                if fitting.is_empty() && round < ROUNDS {
                    // Nothing is asked of the script, which would say whether this policy still counts.
                    self.breaker.call(self.live.catch_up()).await?;
                    if self.live.stamp() != policy.stamp() {
                        round += 1;
                        continue;
                    }
                }
                self.call(&policy, revoked.number(), &fitting, mode).await
            };
            match answer {
                Ok(decisions) => {
                    let mut decided = merged(&policy, asked_at, &requests, misfits, decisions);
                    for each in &mut decided {
                        self.keep_place(each);
                    }
                    return Ok(decided);
                }
                Err(StoreError::StalePolicy { held, current }) if round < ROUNDS => {
                    metric::stale_policy();
                    self.breaker.call(self.live.hear(current)).await?;
                    self.changed.notify_one();
                    if self.live.fault().is_some() {
                        // It cannot be put in force here: another replica may be able to decide.
                        return Err(StoreError::StalePolicy { held, current });
                    }
                    round += 1;
                }
                Err(StoreError::StaleRevocations { current, .. }) if revocation_round < REVOCATION_ROUNDS => {
                    self.learn_of(News::of(current)).await?;
                    revocation_round += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Does for a caller what would outlive a revocation that spares what is issued later, such as opening a session:
    /// by what is revoked when the script runs.
    pub(crate) async fn vouch<T, F>(
        &self,
        caller: &Provenance,
        act: impl Fn(ScopeStore) -> F + Send,
    ) -> Result<T, Refused>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let unavailable = |error: StoreError| circuit_breaker::unavailable(&error);
        let mut round = 1;
        loop {
            let known = self.revocations.load();
            alive(caller, &known)?;
            match self.breaker.call(act(self.store.knowing(known.number()))).await {
                Err(StoreError::StaleRevocations { current, .. }) if round < REVOCATION_ROUNDS => {
                    self.learn_of(News::of(current)).await.map_err(unavailable)?;
                    round += 1;
                }
                done => return done.map_err(unavailable),
            }
        }
    }

    /// What is revoked, with this news. Each page of a long set is a command of its own, with a command's time; waiting
    /// for others who ask is none.
    pub(crate) async fn learn_of(&self, news: News) -> Result<Arc<RevocationView>, StoreError> {
        loop {
            let mut turn = match self.revocations.begin(news).await? {
                CatchUp::Known(view) => return Ok(view),
                CatchUp::Ask(turn) => turn,
            };
            match self.breaker.call(turn.ask()).await {
                Ok(Some(view)) => return Ok(view),
                Ok(None) => {}
                Err(error) => {
                    turn.was_in_vain();
                    return Err(error);
                }
            }
        }
    }

    /// A pass has a place from now on, whether or not its caller is still there to hear of it.
    fn keep_place(&self, decided: &mut Decided) {
        if let Ok(Decision { verdict: Verdict::Passed { lease }, .. }) = &mut decided.outcome
            && let Some(lease) = lease.take()
        {
            decided.place = Some(self.passes.keep(self.pass_scope.clone(), lease, decided.asked_at));
        }
    }

    async fn call(
        &self,
        policy: &PolicyInForce,
        revocations: u64,
        requests: &[AdmitRequest],
        mode: Mode,
    ) -> Result<Vec<Decision>, StoreError> {
        let store = self.store.knowing(revocations);
        match mode {
            Mode::Admit => self.breaker.call(store.admit(policy.compiled(), requests)).await,
            Mode::Peek => self.breaker.call(store.peek(policy.compiled(), requests)).await,
        }
    }
}

/// How much of a batch a request takes under this policy.
fn weight(request: &AdmitRequest, policy: &PolicyInForce) -> usize {
    let of_hop = |hop: &Hop| usize::from(hop.calls_per_min.is_some()) + usize::from(hop.calls_per_hour.is_some());
    let of_chain: usize = request.provenance.hops.iter().map(of_hop).sum();
    request.payload.len() + LIMIT_BYTES * (policy.compiled().named_limits_of(&request.user_type) + of_chain)
}

/// Gives a request what this policy decides about it, or says why it cannot be asked about now.
fn askable(
    request: &mut AdmitRequest,
    wish: &Wish,
    policy: &PolicyInForce,
    revoked: &RevocationView,
) -> Result<(), Refused> {
    alive(&request.provenance, revoked)?;
    if wish.send_until.is_some_and(|until| Instant::now() > until) {
        return Err(Refused::unauthenticated());
    }
    fit(request, wish, policy)
}

/// Whether a credential is alive, as far as is known. Where Redis has lost revocations, nothing is known of
/// delegations.
fn alive(provenance: &Provenance, revoked: &RevocationView) -> Result<(), Refused> {
    let issued_at_ms = provenance.issued_at_ms.unwrap_or(0);
    if revoked.covers(&provenance.members, issued_at_ms).is_some() {
        return Err(Refused::unauthenticated());
    }
    if revoked.is_lost() && !provenance.hops.is_empty() {
        let lost = StoreError::Unavailable("revocations were lost, and nobody has acknowledged it".to_owned());
        return Err(circuit_breaker::unavailable(&lost));
    }
    Ok(())
}

/// A principal that has become less since its caller was resolved is decided about as what it is now.
fn lower(request: &mut AdmitRequest, revoked: &RevocationView) {
    let derived =
        [Source::Session, Source::Delegation].iter().any(|source| request.provenance.source == source.as_str());
    if derived
        && let Some(ceiling) = revoked.ceiling(&request.principal)
        && rank(ceiling) < rank(&request.user_type)
    {
        request.user_type = ceiling.clone();
    }
}

/// Gives a request what this policy decides about it, or says why it cannot be asked about: the policy does not know
/// its user type any longer, or its body is beyond bounds that were wider when it was read.
fn fit(request: &mut AdmitRequest, wish: &Wish, policy: &PolicyInForce) -> Result<(), Refused> {
    if !policy.compiled().knows(&request.user_type) {
        return Err(Refused::unauthenticated());
    }
    let document = policy.policy();
    if let Some(terms) = &mut request.pass {
        if terms.lease_ms > 0 {
            terms.lease_ms = wish.lease_ms.unwrap_or(document.proxy.lease_ms);
        }
        let of_class = document.estimates_of(&request.kind);
        let silent = of_class.into_iter().filter(|(unit, _)| wish.estimates.iter().all(|(known, _)| known != unit));
        request.estimates = wish.estimates.iter().cloned().chain(silent).collect();
    } else {
        enqueue::within_bounds(request, wish.max_attempts, document)?;
    }
    // Checked documents have neither above a million.
    let cost = u32::try_from(document.cost_of(&request.kind)).unwrap_or(u32::MAX);
    request.cost = cost.saturating_mul(request.pass.map_or(1, |terms| terms.hits.max(1)));
    let shipped = || u32::try_from(document.max_attempts_of(&request.kind)).unwrap_or(u32::MAX);
    request.max_attempts = wish.max_attempts.unwrap_or_else(shipped);
    Ok(())
}

/// Everybody's answer in the order of the questions.
fn merged(
    policy: &Arc<PolicyInForce>,
    asked_at: Instant,
    requests: &[AdmitRequest],
    misfits: Vec<(usize, Refused)>,
    decisions: Vec<Decision>,
) -> Vec<Decided> {
    let mut outcomes: Vec<Result<Decision, Refused>> = decisions.into_iter().map(Ok).collect();
    // In rising order, so that each finds the place it had.
    for (index, refused) in misfits {
        outcomes.insert(index.min(outcomes.len()), Err(refused));
    }
    let decided = |(outcome, request): (_, &AdmitRequest)| {
        let (policy, cost) = (policy.clone(), request.cost);
        Decided { policy, cost, asked_at, place: None, outcome }
    };
    outcomes.into_iter().zip(requests).map(decided).collect()
}

#[cfg(test)]
mod tests;
