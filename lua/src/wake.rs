//! Waiting for work without polling: a blocking pop with the claim right behind it, on a connection of its own.
//!
//! While the pop blocks, the claim lies unread in the server's buffer of that connection. What ends the pop, a wake-up
//! or its limit, lets the server go on with the claim at once, before it answers either: a task is in hand one hop
//! after its admission. A connection that breaks first takes the claim with it unrun.
//!
//! Must never wait for ever: whatever happens to the connection, a wait ends shortly after its limit, because a parked
//! worker that nobody wakes is the most reported fault of Redis queues. Must never leave a claim behind that nobody
//! listens to: where a wait is abandoned its connection is cut, not closed politely behind the claim.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, ListInterface};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value};
use tokio::time::{sleep, timeout};

use crate::claim::{Claimed, read_claim};
use crate::error::StoreError;
use crate::policy::CompiledPolicy;
use crate::script::{self, CLAIM};
use crate::store::ScopeStore;

/// How late beyond its limit a server may end a pop: an idle one looks ten times a second.
const TICK: Duration = Duration::from_millis(200);

/// Time for a connection to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Time between two requests to end a wait: the first may be there before the pop is.
const HURRY_EVERY: Duration = Duration::from_millis(50);

/// Waits for work in one scope and claims it. One idle processor needs one.
#[derive(Debug)]
pub struct Waker {
    scope: ScopeStore,
    /// `None` while a wait is under way, so that one which is dropped half-way cuts it.
    connection: Option<Connection>,
}

/// A connection that is cut when this is dropped.
#[derive(Debug)]
struct Connection {
    client: Client,
    routing: ConnectHandle,
    /// The server's number of it; `None` where the server does not tell, and then no wait can be ended early.
    id: Option<i64>,
}

impl ScopeStore {
    /// Waits for work on a connection of its own that is made on first use.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { scope: self.clone(), connection: None }
    }
}

impl Waker {
    /// Claims as [`ScopeStore::claim`] does, as soon as there may be work, and after `limit` or `hurry` in any case.
    /// The claim may run at any time between this call and its return. On an error nothing is known about its effect;
    /// the connection is gone and the next call makes a new one, after a pause of the caller's. Dropped half-way, it
    /// may leave leases that nobody knows of.
    pub async fn claim(
        &mut self,
        policy: &CompiledPolicy,
        slots: u32,
        limit: Duration,
        hurry: impl Future<Output = ()>,
    ) -> Result<Claimed, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) if !connection.routing.is_finished() => connection,
            _ => self.connect().await?,
        };
        let (popped, claimed) = self.pop_and_claim(&connection, policy, slots, limit, hurry).await?;
        let claimed = match claimed {
            // The wake-up is spent, so the claim must follow.
            Err(error) if script::is_unknown(&error) => self.scope.claim(policy, slots).await?,
            answer => read_claim(answer?)?,
        };
        match popped {
            // An empty answer may come as a timeout.
            Err(error) if *error.kind() != ErrorKind::Timeout => {
                // Leases that were handed out all the same must be heard of; the error comes again if it lasts.
                if claimed.leases.is_empty() { Err(error.into()) } else { Ok(claimed) }
            }
            _ => {
                self.connection = Some(connection);
                Ok(claimed)
            }
        }
    }

    /// Both answers, each as it is.
    async fn pop_and_claim(
        &self,
        connection: &Connection,
        policy: &CompiledPolicy,
        slots: u32,
        limit: Duration,
        hurry: impl Future<Output = ()>,
    ) -> Result<(Result<Value, Error>, Result<Value, Error>), StoreError> {
        let (keys, args) = self.scope.claim_call(policy, slots);
        let (command, args) = CLAIM.command(keys, args);
        let both = connection.client.pipeline();
        let _: Value = both.blpop(self.scope.keys.wake(), limit.as_secs_f64().max(0.001)).await?;
        let _: Value = both.custom(command, args).await?;
        let mut answers = pin!(timeout(limit + TICK + self.scope.store.command_timeout(), both.try_all::<Value>()));
        let answers = tokio::select! {
            answers = &mut answers => answers,
            () = hurry => tokio::select! {
                answers = &mut answers => answers,
                never = self.unblock(connection.id) => match never {},
            },
        };
        let answers = answers.map_err(|_| StoreError::Unavailable("a blocking wait outlived its limit".to_owned()))?;
        let mut answers = answers.into_iter();
        match (answers.next(), answers.next()) {
            (Some(popped), Some(claimed)) => Ok((popped, claimed)),
            (Some(Err(error)), None) => Err(error.into()),
            _ => Err(StoreError::Protocol("a wait had no answer".to_owned())),
        }
    }

    async fn connect(&self) -> Result<Connection, StoreError> {
        let client = self.scope.store.dedicated()?;
        let mut connection = Connection { routing: client.connect(), client, id: None };
        let known = async {
            connection.client.wait_for_connect().await?;
            // Not permitted, perhaps: a connection that is broken shows it at the first wait.
            Ok::<_, Error>(connection.client.custom::<i64, _>(self.client_command(), vec!["ID"]).await.ok())
        };
        connection.id = timeout(CONNECT_LIMIT, known)
            .await
            .map_err(|_| StoreError::Unavailable("no connection within a second".to_owned()))??;
        Ok(connection)
    }

    /// Ends the pop of a connection, over and over, until this is dropped. Where the server does not allow it, the
    /// pop's limit does.
    async fn unblock(&self, id: Option<i64>) -> Infallible {
        let Some(id) = id else { return pending().await };
        loop {
            let client = self.scope.store.client();
            let ended = client.custom::<i64, _>(self.client_command(), vec!["UNBLOCK".to_owned(), id.to_string()]);
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a wait cannot be ended early");
            }
            sleep(HURRY_EVERY).await;
        }
    }

    /// `CLIENT`, sent to the server that has the scope.
    fn client_command(&self) -> CustomCommand {
        CustomCommand::new_static("CLIENT", ClusterHash::Custom(self.scope.keys.wake().cluster_hash()), false)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // QUIT would wait for the pop, and the claim would run with nobody to hear of it.
        self.routing.abort();
    }
}
