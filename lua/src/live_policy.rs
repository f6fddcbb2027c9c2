//! The policy of one scope as a replica holds it, and how it keeps up with the one that is stored.
//!
//! Responsible for one thing at a time: whatever a replica hears (a message, a reconnect, a poll, a refusal of `admit`)
//! leads to the same question, "what is stored?", and to one of three answers: nothing to do, load it, or give back
//! what Redis has lost. A reader gets one whole policy, the old or the new, and never waits. Must never put a document
//! in force that does not check, nor decide which of two policies is the newer: `restore.lua` does.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use portcullis_config::{Component, LoadError, Loaded, Policy, Source};
use serde_json::Value;
use tokio::sync::watch;

use crate::error::StoreError;
use crate::policy::CompiledPolicy;
use crate::revise::{NewRevision, Revised};
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::stored_policy::{About, Origin, Retention, StoredPolicy};

/// Rounds of one [`LivePolicy::catch_up`]: each ends with Redis and replica in step unless somebody wrote meanwhile.
const ROUNDS: usize = 4;

/// How often a replica tries to store its boot document against other writers.
const FORCE_ROUNDS: usize = 8;

/// One revision of the policy, before a process makes its own forms of it.
#[derive(Clone, Debug)]
pub struct PolicyBasis {
    /// What this component makes of the document.
    pub policy: Arc<Policy>,
    /// What the scripts are called with.
    pub compiled: Arc<CompiledPolicy>,
    /// What its author wrote.
    pub written: Arc<Value>,
    /// How it is stored; `None` for the boot document of a scope that has none of its own.
    pub stored: Option<Arc<StoredPolicy>>,
    /// Where the boot document came from; `None` for a stored one.
    pub boot_source: Option<String>,
}

impl PolicyBasis {
    /// What it is stored as.
    #[must_use]
    pub fn stamp(&self) -> PolicyStamp {
        self.compiled.stamp()
    }

    fn boot(loaded: &Loaded) -> Self {
        Self::new(loaded.clone(), None)
    }

    fn new(loaded: Loaded, stored: Option<StoredPolicy>) -> Self {
        let stamp = stored.as_ref().map_or(PolicyStamp::NONE, |stored| stored.stamp);
        Self {
            compiled: Arc::new(CompiledPolicy::new(&loaded.policy, stamp)),
            policy: Arc::new(loaded.policy),
            written: Arc::new(loaded.written),
            boot_source: stored.is_none().then(|| loaded.source.to_string()),
            stored: stored.map(Arc::new),
        }
    }
}

/// All that a process keeps of one revision, made once when it comes into force.
pub trait FromBasis: Send + Sync + 'static {
    /// Makes it.
    fn from_basis(basis: PolicyBasis) -> Self;

    /// What it was made of.
    fn basis(&self) -> &PolicyBasis;
}

/// Handle on the policy of one scope. Cheap to clone; every clone sees the same policy.
pub struct LivePolicy<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    store: ScopeStore,
    /// In audit events, the replica that gave a policy back.
    replica: String,
    component: Component,
    boot: Loaded,
    current: ArcSwap<T>,
    stamps: watch::Sender<PolicyStamp>,
    fault: Mutex<Option<Fault>>,
    /// Held while asking Redis, so that many who heard the same news ask once.
    asking: tokio::sync::Mutex<()>,
}

/// Why a stored policy is not in force here.
#[derive(Clone, Debug)]
struct Fault {
    stamp: PolicyStamp,
    reason: String,
}

/// What a look at Redis leads to.
#[derive(Debug)]
pub enum Next {
    /// Nothing: what is held is what is stored.
    InStep(PolicyStamp),
    /// The stored policy is put in force.
    Load(StoredPolicy),
    /// The held policy is handed to `restore`, and Redis is looked at again.
    GiveBack(Arc<StoredPolicy>),
}

impl<T: FromBasis> LivePolicy<T> {
    /// The policy of the store's scope, beginning with its boot document.
    #[must_use]
    pub fn new(store: ScopeStore, component: Component, mut boot: Loaded, replica: impl Into<String>) -> Self {
        // What belongs to one process was read at its start and is no part of a scope's policy, stored or not.
        (boot.policy.instance_id, boot.policy.redis_url) = (None, None);
        let current = ArcSwap::from_pointee(T::from_basis(PolicyBasis::boot(&boot)));
        let inner = Inner {
            store,
            replica: replica.into(),
            component,
            boot,
            current,
            stamps: watch::Sender::new(PolicyStamp::NONE),
            fault: Mutex::new(None),
            asking: tokio::sync::Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What is in force now. Hold it for one decision, not for longer.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.inner.current.load_full()
    }

    /// What is held, as it is stored.
    #[must_use]
    pub fn stamp(&self) -> PolicyStamp {
        self.inner.current.load().basis().stamp()
    }

    /// The document this replica was started with.
    #[must_use]
    pub fn boot(&self) -> &Loaded {
        &self.inner.boot
    }

    /// The boot document as it may be stored: of this scope, without what belongs to one process.
    #[must_use]
    pub fn boot_document(&self) -> Value {
        portcullis_config::storable(&self.inner.boot.written, self.inner.store.scope())
    }

    /// Tells each change of what is in force.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<PolicyStamp> {
        self.inner.stamps.subscribe()
    }

    /// Why the stored policy is not in force here, if it is not: an older binary does not know a key, say.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault_slot().as_ref().map(|fault| fault.reason.clone())
    }

    /// Somebody says what is stored: catches up if it is not what is held.
    pub async fn hear(&self, stored: PolicyStamp) -> Result<PolicyStamp, StoreError> {
        {
            let mut fault = self.fault_slot();
            if stored == self.stamp() {
                *fault = None;
                return Ok(stored);
            }
            if fault.as_ref().is_some_and(|fault| fault.stamp == stored) {
                return Ok(stored);
            }
        }
        self.look(Some(stored)).await
    }

    /// Asks Redis what is stored and gets in step with it; what is stored then.
    pub async fn catch_up(&self) -> Result<PolicyStamp, StoreError> {
        self.look(None).await
    }

    /// Puts in force what this replica has just stored, unless a newer one has been heard of meanwhile.
    pub fn adopt(&self, stored: StoredPolicy) {
        let at_ms = stored.at_ms;
        self.put_in_force(stored, |held| held.stored.as_ref().is_none_or(|held| held.at_ms < at_ms));
    }

    /// Makes the boot document the stored policy, unless it is; whether it had to.
    pub async fn force_boot(&self) -> Result<bool, StoreError> {
        if self.inner.boot.source == Source::Shipped {
            tracing::warn!(scope = %self.inner.store.scope(),
                "no document is configured, so the shipped policy is what is forced over the stored one");
        }
        let document = self.boot_document();
        for _ in 0..FORCE_ROUNDS {
            let seen = self.catch_up().await?;
            let held = self.load();
            if held.basis().stored.is_some() && *held.basis().written == document {
                return Ok(false);
            }
            let about = About {
                origin: Origin::Boot,
                actor: self.inner.replica.clone(),
                reason: Some("GATEWAY_CONFIG_FORCE_ENV_ON_STARTUP".to_owned()),
                rolled_back_to: None,
                changed: changed(held.basis(), &document),
            };
            let new = NewRevision { document: document.clone(), about, write_id: ulid::Ulid::generate().to_string() };
            match self.inner.store.revise(seen, Retention::of(&held.basis().policy), &new).await? {
                Revised::Stored(stored) => {
                    self.adopt(stored);
                    return Ok(true);
                }
                Revised::Conflict { .. } => {}
            }
        }
        Err(StoreError::Protocol("others kept changing the policy".to_owned()))
    }

    async fn look(&self, heard: Option<PolicyStamp>) -> Result<PolicyStamp, StoreError> {
        let _turn = self.inner.asking.lock().await;
        // Somebody else may have caught up while we waited for our turn.
        if heard.is_some_and(|heard| heard == self.stamp()) {
            return Ok(self.stamp());
        }
        for _ in 0..ROUNDS {
            let held = self.load();
            let stored = self.inner.store.stored_policy().await?;
            match next(held.basis().stored.as_ref(), stored, heard) {
                Next::InStep(stamp) => {
                    // What could not be put in force here is not stored any longer.
                    *self.fault_slot() = None;
                    return Ok(stamp);
                }
                Next::Load(stored) => {
                    let stamp = stored.stamp;
                    self.put_in_force(stored, |_| true);
                    return Ok(stamp);
                }
                Next::GiveBack(held_policy) => {
                    tracing::warn!(held = %held_policy.stamp, scope = %self.inner.store.scope(),
                        "redis has another policy than this replica holds; the newer one will be stored");
                    let retention = Retention::of(&held.basis().policy);
                    let stamp = self.inner.store.restore(&held_policy, retention, &self.inner.replica).await?;
                    if stamp == self.stamp() {
                        *self.fault_slot() = None;
                        return Ok(stamp);
                    }
                }
            }
        }
        Err(StoreError::Protocol("the policy kept changing".to_owned()))
    }

    /// Checks a stored policy and puts it in force where it is still `wanted` then; one that does not check leaves the
    /// present one in place.
    fn put_in_force(&self, stored: StoredPolicy, wanted: impl Fn(&PolicyBasis) -> bool) {
        let stamp = stored.stamp;
        let prepared = read(&stored, self.inner.component)
            .map(|loaded| Arc::new(T::from_basis(PolicyBasis::new(loaded, Some(stored)))));
        // Held over the look and the change, so that nobody changes it in between.
        let mut fault = self.fault_slot();
        if !wanted(self.inner.current.load().basis()) {
            return;
        }
        match prepared {
            Ok(prepared) => {
                *fault = None;
                self.inner.current.store(prepared);
                tracing::info!(policy = %stamp, scope = %self.inner.store.scope(), "policy in force");
                self.inner.stamps.send_replace(stamp);
            }
            Err(error) => {
                tracing::error!(policy = %stamp, scope = %self.inner.store.scope(), %error,
                    "the stored policy cannot be put in force here");
                *fault = Some(Fault { stamp, reason: error.to_string() });
            }
        }
    }

    fn fault_slot(&self) -> std::sync::MutexGuard<'_, Option<Fault>> {
        self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The paths whose value a document changes; none where nothing was stored before it.
fn changed(held: &PolicyBasis, document: &Value) -> Vec<String> {
    let before = if held.stored.is_some() { held.written.as_ref() } else { document };
    // What this process cannot read it cannot compare.
    let changes = portcullis_config::changes(before, document).unwrap_or_default();
    changes.into_iter().map(|change| change.path).collect()
}

/// What to do about the two, where `heard` is what somebody said is stored. A stored policy that is later and higher
/// is simply the next one; anything else that differs is for the script to judge.
#[must_use]
pub fn next(held: Option<&Arc<StoredPolicy>>, stored: Option<StoredPolicy>, heard: Option<PolicyStamp>) -> Next {
    match (held, stored) {
        (None, None) => Next::InStep(PolicyStamp::NONE),
        (None, Some(stored)) => Next::Load(stored),
        // `admit` goes by the scope's own stamp, which may be lost on its own.
        (Some(held), Some(stored)) if stored.stamp == held.stamp => match heard {
            Some(heard) if heard != held.stamp => Next::GiveBack(held.clone()),
            _ => Next::InStep(held.stamp),
        },
        (Some(held), Some(stored)) if stored.at_ms >= held.at_ms && stored.stamp.revision() > held.stamp.revision() => {
            Next::Load(stored)
        }
        (Some(held), _) => Next::GiveBack(held.clone()),
    }
}

/// A stored document says everything itself: no environment is asked.
fn read(stored: &StoredPolicy, component: Component) -> Result<Loaded, LoadError> {
    portcullis_config::parse(&stored.document, component, &|_| None)
}

impl<T> Clone for LivePolicy<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> fmt::Debug for LivePolicy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LivePolicy").field("scope", self.inner.store.scope()).finish_non_exhaustive()
    }
}
