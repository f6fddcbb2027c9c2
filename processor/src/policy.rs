//! The policy in force, as the parts of a processor see it.
//!
//! Responsible for handing out policy and compiled form of the same revision together. Must never mix two revisions:
//! a lease is as long as the policy its script was called with says.

use std::sync::Arc;

use portcullis_config::Policy;
use portcullis_lua::CompiledPolicy;
use tokio::sync::watch;

/// Handle on the policy of one scope. Cheap to clone; all clones see a replacement at once.
#[derive(Clone, Debug)]
pub struct PolicyHandle {
    current: watch::Sender<Arc<ActivePolicy>>,
}

/// One revision of the policy.
#[derive(Debug)]
pub(crate) struct ActivePolicy {
    /// What people wrote.
    pub(crate) policy: Policy,
    /// What the scripts are called with.
    pub(crate) compiled: CompiledPolicy,
}

impl PolicyHandle {
    /// A handle on this policy; revision 0 is a document read at boot.
    #[must_use]
    pub fn new(policy: Policy, revision: u64) -> Self {
        Self { current: watch::Sender::new(Arc::new(ActivePolicy::new(policy, revision))) }
    }

    /// Puts another revision in force. An older one than the present is ignored: messages may arrive out of order.
    pub fn replace(&self, policy: Policy, revision: u64) {
        self.current.send_if_modified(|current| {
            let newer = revision > current.compiled.revision();
            if newer {
                *current = Arc::new(ActivePolicy::new(policy, revision));
            }
            newer
        });
    }

    pub(crate) fn load(&self) -> Arc<ActivePolicy> {
        Arc::clone(&self.current.borrow())
    }

    /// Resolves at the next replacement for whoever keeps the receiver.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<ActivePolicy>> {
        self.current.subscribe()
    }
}

impl ActivePolicy {
    fn new(policy: Policy, revision: u64) -> Self {
        Self { compiled: CompiledPolicy::new(&policy, revision), policy }
    }
}
