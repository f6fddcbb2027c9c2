//! Following the changes of one scope's tasks.

use fred::interfaces::PubsubInterface;
use tokio::sync::broadcast;

use crate::changes::Change;
use crate::error::StoreError;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Follows the changes of this scope's tasks, on a connection all watches of the store share. While Redis is away
    /// the watch is made all the same: it resyncs when Redis is back.
    pub async fn watch(&self) -> Result<broadcast::Receiver<Change>, StoreError> {
        let (client, watches) = self.store.subscriber().await?;
        let channel = self.keys.changes();
        let (receiver, new) = watches.join(&channel);
        if new {
            let (client, watches) = (client.clone(), watches.clone());
            // Subscribing waits for the connection; the reconnect task above covers it should this one fail.
            tokio::spawn(async move {
                match client.subscribe(channel).await {
                    Ok(()) => watches.resync(),
                    Err(error) => tracing::warn!(%error, "could not subscribe"),
                }
            });
        }
        Ok(receiver)
    }
}
