//! Following a scope's changes: which channels a store listens to.

use fred::interfaces::{ClientLike, PubsubInterface};
use tokio::sync::broadcast;

use crate::changes::{Change, Topic, start_over};
use crate::error::StoreError;
use crate::store::{ScopeStore, Store};

impl Store {
    /// Hears the changes of every scope that has been subscribed to, on a connection of its own. While Redis is away
    /// the receiver is made all the same: it is told to resync when Redis is back.
    pub async fn watch(&self) -> Result<broadcast::Receiver<Change>, StoreError> {
        Ok(self.subscriber().await?.1.receiver())
    }
}

impl ScopeStore {
    /// From soon on, the store's receivers hear these topics of this scope; it begins with a [`Change::Policy`],
    /// because the policy may have changed before. Needs no Redis at this moment: what cannot be subscribed now is
    /// after the next reconnect.
    pub async fn subscribe(&self, topics: &[Topic]) -> Result<(), StoreError> {
        let (client, watches) = self.store.subscriber().await?;
        let channels = topics.iter().map(|&topic| (topic, self.channel(topic))).collect();
        let new = watches.enter(self.scope(), channels);
        if new.is_empty() {
            return Ok(());
        }
        let (client, watches, scope) = (client.clone(), watches.clone(), self.scope().clone());
        // Subscribing waits for the connection, for which nobody here should wait.
        tokio::spawn(async move {
            match watches.subscribe(&client, &new).await {
                // Only of this scope: whoever serves thousands should not look at all of them for each.
                Ok(()) => watches.say(Change::Policy(scope)),
                Err(error) => {
                    tracing::warn!(%error, "could not subscribe");
                    start_over(&client).await;
                }
            }
        });
        Ok(())
    }

    /// Follows nothing of this scope any longer.
    pub async fn unsubscribe(&self) -> Result<(), StoreError> {
        let (client, watches) = self.store.subscriber().await?;
        let channels = [self.channel(Topic::Tasks), self.channel(Topic::Policy)];
        watches.leave(&channels);
        if client.is_connected() {
            client.unsubscribe(channels.to_vec()).await?;
        }
        Ok(())
    }

    /// Whether no message about this scope's policy can have been missed unnoticed, as far as can be told from here.
    #[must_use]
    pub fn hears_policy(&self) -> bool {
        self.store
            .subscribed()
            .is_some_and(|(client, watches)| client.is_connected() && watches.hears(self.keys.policy_changes()))
    }

    fn channel(&self, topic: Topic) -> String {
        match topic {
            Topic::Tasks => self.keys.changes(),
            Topic::Policy => self.keys.policy_changes().to_owned(),
        }
    }
}
