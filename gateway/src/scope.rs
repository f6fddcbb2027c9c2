//! One scope as a gateway serves it.
//!
//! Responsible for holding what is the scope's own: its policy, its queue of admissions, its counts. Must stay small: a
//! gateway serves thousands of scopes, so nothing here runs or allocates while the scope is idle. What scopes can share
//! (connections, the breaker for Redis, the memory of refusals, the hub of watchers) they share.

mod upkeep;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_config::{Component, Loaded, UserType};
use portcullis_lua::{
    Grounds, LivePolicy, LiveRevocations, News, PolicyStamp, RevocationView, ScopeStore, StoreError, StoredPolicy,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::background::Background;
use crate::decider::ScopeDecider;
use crate::group_commit::{GroupCommit, SENDERS};
use crate::looker::Looker;
use crate::pass_keeper::{PassKeeper, PassScope};
use crate::policy_in_force::PolicyInForce;
use crate::store_breaker::StoreBreaker;
use crate::tally::Tally;

use upkeep::Due;

/// How exactly it is known when a scope was last used, ms: what rests on it counts in minutes.
const TOUCHED_EVERY_MS: u64 = 1000;

/// What the scopes of one gateway have in common.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) breaker: Arc<StoreBreaker>,
    pub(crate) passes: Arc<PassKeeper>,
    pub(crate) background: Background,
    /// Whose slice of a document is in force here.
    pub(crate) component: Component,
    /// What this gateway is called in the reports of replicas.
    pub(crate) replica: Arc<str>,
    /// Wakes the upkeep: a scope has news, or has just put another policy in force.
    pub(crate) wake: Arc<Notify>,
    /// When this gateway was made; times of use are counted from here.
    pub(crate) made: Instant,
}

/// One scope as this gateway serves it.
#[derive(Debug)]
pub struct ServedScope {
    number: u64,
    store: ScopeStore,
    live: LivePolicy<PolicyInForce>,
    revocations: LiveRevocations,
    decider: ScopeDecider,
    admissions: GroupCommit<ScopeDecider>,
    looks: GroupCommit<Looker>,
    tally: Tally,
    shared: Shared,
    due: Mutex<Due>,
    /// Since the gateway was made, ms.
    last_used: AtomicU64,
    /// When the last look for an unknown user type began.
    looked_for_type: tokio::sync::Mutex<Option<Instant>>,
    /// Held by whoever goes on asking what is revoked until Redis is away for certain; when that was last in vain.
    asked_in_vain: tokio::sync::Mutex<Option<Instant>>,
}

impl ServedScope {
    /// The scope of `store`, under its boot document until it has caught up. `number` is its own in this gateway.
    pub(crate) fn new(number: u64, store: ScopeStore, boot: Loaded, shared: &Shared) -> Self {
        let live = LivePolicy::new(store.clone(), shared.component, boot, shared.replica.as_ref());
        let revocations = LiveRevocations::new(store.clone());
        let decider = ScopeDecider {
            store: store.clone(),
            live: live.clone(),
            revocations: revocations.clone(),
            breaker: shared.breaker.clone(),
            passes: shared.passes.clone(),
            pass_scope: Arc::new(PassScope { store: store.clone(), live: live.clone() }),
            changed: shared.wake.clone(),
        };
        let scope = Self {
            number,
            looks: GroupCommit::new(
                Looker { store: store.clone(), breaker: shared.breaker.clone() },
                shared.background.clone(),
                SENDERS,
            ),
            admissions: GroupCommit::new(decider.clone(), shared.background.clone(), SENDERS),
            store,
            live,
            revocations,
            decider,
            tally: Tally::new(),
            shared: shared.clone(),
            due: Mutex::new(Due::at_once()),
            last_used: AtomicU64::new(0),
            looked_for_type: tokio::sync::Mutex::new(None),
            asked_in_vain: tokio::sync::Mutex::new(None),
        };
        scope.touch();
        scope
    }

    /// The scripts of the scope.
    #[must_use]
    pub fn store(&self) -> &ScopeStore {
        &self.store
    }

    /// The handle through which its policy changes; [`adopt`](Self::adopt) and [`catch_up`](Self::catch_up) also see to
    /// it that this gateway reports the change at once.
    #[must_use]
    pub fn live(&self) -> &LivePolicy<PolicyInForce> {
        &self.live
    }

    /// What is in force now, all forms of one revision. Hold it for one decision, not for longer.
    #[must_use]
    pub fn policy(&self) -> Arc<PolicyInForce> {
        self.live.load()
    }

    /// Revision of the policy in force.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.live.stamp().revision()
    }

    /// Puts in force what this gateway has just stored.
    pub fn adopt(&self, stored: StoredPolicy) {
        self.live.adopt(stored);
        self.shared.wake.notify_one();
    }

    /// Gets in step with Redis; the stamp that is stored then.
    ///
    /// # Errors
    ///
    /// When Redis is being left alone, or does not answer in time.
    pub async fn catch_up(&self) -> Result<PolicyStamp, StoreError> {
        let held = self.live.stamp();
        let stored = self.shared.breaker.call(self.live.catch_up()).await?;
        if self.live.stamp() != held {
            self.shared.wake.notify_one();
        }
        Ok(stored)
    }

    /// What is revoked in the scope, as far as this gateway knows.
    pub(crate) fn revocations(&self) -> &LiveRevocations {
        &self.revocations
    }

    /// Who goes on asking what is revoked while it is not certain that Redis is away holds this; when that was last in
    /// vain.
    pub(crate) fn asked_in_vain(&self) -> &tokio::sync::Mutex<Option<Instant>> {
        &self.asked_in_vain
    }

    /// What is revoked in the scope, asked for now. That Redis lost some of it is said there, for those who were
    /// started since.
    ///
    /// # Errors
    ///
    /// When Redis is being left alone, or does not answer in time.
    pub(crate) async fn catch_up_with_revocations(&self) -> Result<Arc<RevocationView>, StoreError> {
        let view = self.decider.learn_of(News::unknown()).await?;
        if view.is_untold_loss() {
            let policy = self.policy();
            let grounds = Grounds {
                by: &self.shared.replica,
                reason: "revocations that were held are not stored",
                max_audit_events: policy.policy().monitoring.max_audit_events,
            };
            self.shared.breaker.call(self.store.note_loss(view.number(), grounds)).await?;
        }
        Ok(view)
    }

    /// Whether the policy knows this user type, or does once it has caught up: a type is known everywhere from the
    /// moment its declaration was stored, whatever became of the message about it.
    ///
    /// A look that began after the caller came answers for it too, so a flood of made-up types has one look under way
    /// at a time, and never an answer from before its own question.
    ///
    /// # Errors
    ///
    /// When Redis does not say what is stored.
    pub(crate) async fn knows(&self, user_type: &UserType) -> Result<bool, StoreError> {
        let known = || self.policy().compiled().knows(user_type);
        if known() {
            return Ok(true);
        }
        let came = Instant::now();
        let mut looked = self.looked_for_type.lock().await;
        if looked.is_none_or(|began| began <= came) {
            // Noted when it is over: one that failed, or whose caller went away, has answered nobody.
            let began = Instant::now();
            *looked = None;
            self.catch_up().await?;
            *looked = Some(began);
        }
        drop(looked);
        Ok(known())
    }

    /// Whether another policy is in force than the one of this stamp. A gateway that may have missed a change looks
    /// first.
    pub(crate) async fn has_moved_on_from(&self, stamp: PolicyStamp) -> bool {
        if self.live.stamp() == stamp && !self.is_abreast() {
            // Without an answer there is nothing to judge by but what is held.
            _ = self.catch_up().await;
        }
        self.live.stamp() != stamp
    }

    /// Tells it from every other scope that this gateway serves or has served.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn decider(&self) -> &ScopeDecider {
        &self.decider
    }

    pub(crate) fn admissions(&self) -> &GroupCommit<ScopeDecider> {
        &self.admissions
    }

    /// Looks at tasks that somebody follows.
    pub(crate) fn looks(&self) -> &GroupCommit<Looker> {
        &self.looks
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Somebody is served. Stored once in a while only: all requests, on all processors, come by here.
    pub(crate) fn touch(&self) {
        let now_ms = self.shared.made.elapsed().as_millis() as u64;
        if now_ms.saturating_sub(self.last_used.load(Ordering::Relaxed)) >= TOUCHED_EVERY_MS {
            self.last_used.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Time since somebody was served, up to a second more.
    pub(crate) fn unused_for(&self) -> Duration {
        let last_used = Duration::from_millis(self.last_used.load(Ordering::Relaxed));
        self.shared.made.elapsed().saturating_sub(last_used)
    }
}
