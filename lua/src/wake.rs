//! Claims of who runs tasks, on a connection of its own, and waiting for work without polling: a blocking pop with the
//! claim right behind it.
//!
//! While the pop blocks, the claim lies unread in the server's buffer of that connection. What ends the pop, a wake-up
//! or its limit, lets the server go on with the claim at once, before it answers either: a task is in hand one hop
//! after its admission. A connection that breaks first takes the claim with it unrun.
//!
//! Must never give up a claim because its answer is late: it runs all the same, and its leases would lie idle until
//! they lapse. While Redis answers nobody there is nothing better to do than to listen. Must never wait for ever:
//! whatever happens to the connection, a wait ends shortly after its limit, or after Redis has answered anybody else,
//! because a parked worker that nobody wakes is the most reported fault of Redis queues. Must never leave a claim
//! behind that nobody listens to: where one is abandoned its connection is cut, not closed politely behind the claim.

use std::convert::Infallible;
use std::future::pending;
use std::pin::{Pin, pin};
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

/// Time between two attempts to have Redis answer anything.
const PING_EVERY: Duration = Duration::from_millis(50);

/// Claims work in one scope, and waits for it. One processor needs one.
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
    /// Claims as [`ScopeStore::claim`] does, but hears of its leases however late Redis answers: while it answers
    /// nobody, this waits. On an error nothing is known about its effect; the connection is gone and the next call
    /// makes a new one, after a pause of the caller's. Dropped half-way, it may leave leases that nobody knows of.
    pub async fn claim_now(&mut self, policy: &CompiledPolicy, slots: u32) -> Result<Claimed, StoreError> {
        let connection = self.connected().await?;
        let claimed = self.claim_on(&connection, policy, slots).await?;
        self.connection = Some(connection);
        Ok(claimed)
    }

    /// The same as soon as there may be work, and after `limit` or `hurry` in any case. The claim may run at any time
    /// between this call and its return.
    pub async fn claim(
        &mut self,
        policy: &CompiledPolicy,
        slots: u32,
        limit: Duration,
        hurry: impl Future<Output = ()>,
    ) -> Result<Claimed, StoreError> {
        let connection = self.connected().await?;
        let (popped, claimed) = self.pop_and_claim(&connection, policy, slots, limit, hurry).await?;
        let claimed = match claimed {
            // The wake-up is spent, so the claim must follow.
            Err(error) if script::is_unknown(&error) => self.claim_on(&connection, policy, slots).await?,
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
        let due = limit + TICK + self.scope.store.command_timeout();
        let mut answers = pin!(self.answer(due, Box::pin(both.try_all::<Value>())));
        let answers = tokio::select! {
            answers = &mut answers => answers,
            () = hurry => tokio::select! {
                answers = &mut answers => answers,
                never = self.unblock(connection.id) => match never {},
            },
        };
        let mut answers = answers?.into_iter();
        match (answers.next(), answers.next()) {
            (Some(popped), Some(claimed)) => Ok((popped, claimed)),
            (Some(Err(error)), None) => Err(error.into()),
            _ => Err(StoreError::Protocol("a wait had no answer".to_owned())),
        }
    }

    /// A claim alone.
    async fn claim_on(
        &self,
        connection: &Connection,
        policy: &CompiledPolicy,
        slots: u32,
    ) -> Result<Claimed, StoreError> {
        let claim = || {
            let (keys, args) = self.scope.claim_call(policy, slots);
            let (command, args) = CLAIM.command(keys, args);
            let answer = Box::pin(connection.client.custom::<Value, _>(command, args));
            self.answer(self.scope.store.command_timeout(), answer)
        };
        match claim().await? {
            Err(error) if script::is_unknown(&error) => {
                CLAIM.load(&self.scope.store, self.slot()).await?;
                read_claim(claim().await??)
            }
            answer => read_claim(answer?),
        }
    }

    /// An answer that should be there after `due`. A late one counts, unless Redis answers others and goes on owing it.
    async fn answer<T>(&self, due: Duration, mut answer: Pin<Box<impl Future<Output = T>>>) -> Result<T, StoreError> {
        if let Ok(answer) = timeout(due, &mut answer).await {
            return Ok(answer);
        }
        let dead = || StoreError::Unavailable("no answer, though others have one".to_owned());
        tokio::select! {
            answer = &mut answer => Ok(answer),
            () = Box::pin(self.answers_others()) => Err(dead()),
        }
    }

    /// Resolves when Redis has answered on another connection, and has had time to answer on this one.
    async fn answers_others(&self) {
        let ping = || CustomCommand::new_static("PING", self.slot(), false);
        let no_words = Vec::<String>::new;
        while let Err(error) = self.scope.store.client().custom::<Value, _>(ping(), no_words()).await {
            // Whatever else it says, it is there.
            if !matches!(StoreError::from(error), StoreError::Unavailable(_)) {
                break;
            }
            sleep(PING_EVERY).await;
        }
        sleep(self.scope.store.command_timeout()).await;
    }

    /// The connection there is, or a new one.
    async fn connected(&mut self) -> Result<Connection, StoreError> {
        match self.connection.take() {
            Some(connection) if !connection.routing.is_finished() => Ok(connection),
            _ => self.connect().await,
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
        CustomCommand::new_static("CLIENT", self.slot(), false)
    }

    fn slot(&self) -> ClusterHash {
        ClusterHash::Custom(self.scope.keys.wake().cluster_hash())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // QUIT would wait for the pop, and the claim would run with nobody to hear of it.
        self.routing.abort();
    }
}
