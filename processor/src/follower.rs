//! Keeping the policy in force in step with the one that is stored.
//!
//! A message on the scope's channel makes it quick, and the answer to every heartbeat makes it certain: it says what is
//! stored, so whatever was missed or has failed is made good by the next one. Responsible for never holding up a
//! heartbeat or a claim, which is why it is a task of its own. Must never judge which of two policies counts: the
//! scripts do.

use std::future::pending;
use std::sync::Arc;

use portcullis_config::Scope;
use portcullis_lua::{Change, PolicyStamp, StoreError};
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;

use crate::attempt::Runner;
use crate::{backoff, store};

/// What a heartbeat was sent with, and what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) held: PolicyStamp,
    pub(crate) stored: PolicyStamp,
}

/// Follows the policy on behalf of one processor.
pub(crate) struct Follower {
    pub(crate) runner: Arc<Runner>,
    pub(crate) heard: watch::Receiver<Heard>,
    /// The boot document is to become the stored one.
    pub(crate) force_boot: bool,
}

impl Follower {
    /// Asks what is stored, before anything is claimed under the boot document. Returns when Redis has answered:
    /// without it there is nothing to claim. An answer that is of no use leaves the boot document in force.
    pub(crate) async fn begin(&self) {
        while let Err(fault) = self.first_look().await {
            store::failed("policy", &fault);
            if !matches!(fault, StoreError::Unavailable(_)) {
                return;
            }
            sleep(backoff::reconnect()).await;
        }
    }

    async fn first_look(&self) -> Result<(), StoreError> {
        if self.force_boot {
            let stored = self.runner.store.force_boot().await?;
            tracing::info!(stored, "the boot document is the stored policy");
            Ok(())
        } else {
            self.runner.store.catch_up().await
        }
    }

    /// Follows until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut changes = loop {
            match self.runner.store.changes().await {
                Ok(changes) => break changes,
                Err(fault) => store::failed("policy", &fault),
            }
            sleep(backoff::reconnect()).await;
        };
        loop {
            let looked = tokio::select! {
                () = news(&mut changes, &self.runner.scope) => self.runner.store.catch_up().await,
                heard = self.heard.changed() => {
                    if heard.is_err() {
                        return;
                    }
                    let Heard { held, stored } = *self.heard.borrow_and_update();
                    // What was heard before the present policy came into force may be older than it.
                    if held != self.runner.policy.stamp() {
                        continue;
                    }
                    self.runner.store.hear(stored).await
                }
            };
            if let Err(fault) = looked {
                store::failed("policy", &fault);
            }
        }
    }
}

/// Resolves when the scope may have another policy.
async fn news(changes: &mut broadcast::Receiver<Change>, scope: &Scope) {
    loop {
        match changes.recv().await {
            Ok(Change::Policy(of)) if of == *scope => return,
            Ok(Change::Resync) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Ok(Change::Policy(_) | Change::Revoked(_) | Change::Task(_)) => {}
            Err(broadcast::error::RecvError::Closed) => pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
