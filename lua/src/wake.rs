//! Waiting for work without polling: a blocking pop on a connection of its own.
//!
//! Must never wait for ever: whatever happens to the connection, a wait ends shortly after its limit, because a parked
//! worker that nobody wakes is the most reported fault of Redis queues.

use std::time::Duration;

use fred::clients::Client;
use fred::error::ErrorKind;
use fred::interfaces::{ClientLike, ListInterface};
use fred::types::{Key, Value};

use crate::error::StoreError;
use crate::store::{ScopeStore, Store};

/// How long past its limit an answer may be before the connection counts as broken.
const GRACE: Duration = Duration::from_millis(500);

/// A blocking listener for new work in one scope. One idle processor needs one.
#[derive(Debug)]
pub struct Waker {
    store: Store,
    key: Key,
    client: Option<Client>,
}

impl ScopeStore {
    /// A listener for new work, on a connection of its own that is made on first use.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { store: self.store.clone(), key: self.keys.wake(), client: None }
    }
}

impl Waker {
    /// Waits until there may be work, at most `limit`: `true` when woken, `false` when the limit passed. On an error
    /// the connection is dropped and the next call makes a new one; back off briefly and claim before waiting again.
    pub async fn wait(&mut self, limit: Duration) -> Result<bool, StoreError> {
        let client = self.connected().await?;
        let popped = client.blpop::<Value, _>(self.key.clone(), limit.as_secs_f64().max(0.001));
        match tokio::time::timeout(limit + GRACE, popped).await {
            Ok(Ok(value)) => Ok(!value.is_null()),
            // The client has no timeout of its own here: this is how it reports an empty answer.
            Ok(Err(error)) if *error.kind() == ErrorKind::Timeout => Ok(false),
            Ok(Err(error)) => {
                self.drop_connection().await;
                Err(error.into())
            }
            Err(_) => {
                self.drop_connection().await;
                Err(StoreError::Unavailable("a blocking wait outlived its limit".to_owned()))
            }
        }
    }

    async fn connected(&mut self) -> Result<Client, StoreError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = self.store.dedicated()?;
        client.connect();
        match tokio::time::timeout(Duration::from_secs(1), client.wait_for_connect()).await {
            Ok(Ok(())) => {
                self.client = Some(client.clone());
                Ok(client)
            }
            Ok(Err(error)) => {
                _ = client.quit().await;
                Err(error.into())
            }
            Err(_) => {
                _ = client.quit().await;
                Err(StoreError::Unavailable("no connection within a second".to_owned()))
            }
        }
    }

    async fn drop_connection(&mut self) {
        if let Some(client) = self.client.take() {
            // A hung server never answers QUIT.
            _ = tokio::time::timeout(Duration::from_millis(100), client.quit()).await;
        }
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        if let Some(client) = self.client.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { tokio::time::timeout(Duration::from_millis(100), client.quit()).await });
        }
    }
}
