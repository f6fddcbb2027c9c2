//! Following changes over pub/sub, of all scopes on one connection.
//!
//! Pub/sub is lossy, so nothing may rest on a message: after every reconnect a [`Change::Resync`] tells followers to
//! look again, and followers look again by themselves every so often. Must never claim to hear what it may have missed:
//! a channel counts as heard only from its confirmed subscription to the next sign of trouble.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Value;
use portcullis_config::Scope;
use tokio::sync::broadcast;

use crate::error::StoreError;
use crate::task::TaskId;

/// Changes a follower may lag behind before it is told to look at everything again.
const BACKLOG: usize = 4096;
/// Length of a task id in a message.
const ID_LENGTH: usize = 26;
/// Channels subscribed to in one command.
const AT_ONCE: usize = 128;
/// Pause before a subscription that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This task has a new status or new output.
    Task(TaskId),
    /// This scope has a new policy, or is followed from now on: what it was before, is to be looked at.
    Policy(Scope),
    /// Something was revoked in this scope.
    Revoked(Scope),
    /// Messages may have been lost: look again at everything followed.
    Resync,
}

/// What can be followed in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Statuses and output of its tasks.
    Tasks,
    /// Its policy, and what is revoked in it.
    Policy,
}

/// The channels followed, and where their messages go.
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    sender: broadcast::Sender<Change>,
}

#[derive(Debug)]
struct Channel {
    topic: Topic,
    scope: Scope,
    /// Subscribed, and no sign of trouble since.
    heard: bool,
}

impl Watches {
    /// Passes on the messages of `client`, and after each reconnect subscribes again and says [`Change::Resync`].
    /// Its tasks end with the client.
    pub(crate) fn follow(client: &Client) -> Self {
        let watches = Self { channels: Arc::default(), sender: broadcast::Sender::new(BACKLOG) };
        let (mut messages, passing) = (client.message_rx(), watches.clone());
        tokio::spawn(async move {
            loop {
                match messages.recv().await {
                    Ok(message) => passing.pass(&message.channel, &message.value),
                    Err(broadcast::error::RecvError::Lagged(_)) => passing.resync(),
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        let (mut troubles, deafened) = (client.error_rx(), watches.clone());
        tokio::spawn(async move {
            while !matches!(troubles.recv().await, Err(broadcast::error::RecvError::Closed)) {
                deafened.deafen();
            }
        });
        let (mut reconnects, resuming, client) = (client.reconnect_rx(), watches.clone(), client.clone());
        tokio::spawn(async move {
            while !matches!(reconnects.recv().await, Err(broadcast::error::RecvError::Closed)) {
                resuming.deafen();
                resuming.subscribe_all(&client).await;
                resuming.resync();
            }
        });
        watches
    }

    pub(crate) fn receiver(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
    }

    /// Tells every follower to look again.
    pub(crate) fn resync(&self) {
        self.say(Change::Resync);
    }

    /// Tells every follower.
    pub(crate) fn say(&self, change: Change) {
        // Nobody follows: nobody needs to know.
        _ = self.sender.send(change);
    }

    /// Enters channels to be subscribed, now and after each reconnect; which of them are new.
    pub(crate) fn enter(&self, scope: &Scope, channels: Vec<(Topic, String)>) -> Vec<String> {
        let mut known = self.lock();
        let mut new = Vec::new();
        for (topic, name) in channels {
            if !known.contains_key(&name) {
                known.insert(name.clone(), Channel { topic, scope: scope.clone(), heard: false });
                new.push(name);
            }
        }
        new
    }

    /// Takes channels out again.
    pub(crate) fn leave(&self, channels: &[String]) {
        let mut known = self.lock();
        for name in channels {
            known.remove(name);
        }
    }

    /// Whether no message of this channel can have been missed unnoticed.
    pub(crate) fn hears(&self, channel: &str) -> bool {
        self.lock().get(channel).is_some_and(|channel| channel.heard)
    }

    /// These channels are subscribed.
    fn confirm(&self, channels: &[String]) {
        let mut known = self.lock();
        for name in channels {
            if let Some(channel) = known.get_mut(name) {
                channel.heard = true;
            }
        }
    }

    fn deafen(&self) {
        self.lock().values_mut().for_each(|channel| channel.heard = false);
    }

    /// Subscribes to these channels, and knows for certain: the client's own `subscribe` returns when the command is
    /// written, whatever Redis makes of it. What it asks next on the same connection is answered after that, and with
    /// the refusal's error if there was one.
    pub(crate) async fn subscribe(&self, client: &Client, channels: &[String]) -> Result<(), StoreError> {
        client.subscribe(channels.to_vec()).await?;
        let nonce = ulid::Ulid::generate().to_string();
        let echo: Value = client.ping(Some(nonce.clone())).await?;
        if !echoes(&echo, &nonce) {
            return Err(StoreError::Protocol("a subscription was not confirmed".to_owned()));
        }
        self.confirm(channels);
        Ok(())
    }

    /// Subscribes to all that is followed; gives up when the connection is lost again, which brings another reconnect.
    async fn subscribe_all(&self, client: &Client) {
        let names: Vec<String> = self.lock().keys().cloned().collect();
        for some in names.chunks(AT_ONCE) {
            if let Err(error) = self.subscribe(client, some).await {
                tracing::warn!(%error, "could not subscribe again");
                tokio::time::sleep(RETRY).await;
                start_over(client).await;
                return;
            }
        }
    }

    fn pass(&self, channel: &str, value: &Value) {
        let (topic, scope) = {
            let channels = self.lock();
            let Some(channel) = channels.get(channel) else { return };
            (channel.topic, channel.scope.clone())
        };
        if topic == Topic::Policy {
            let revoked = value.as_str().is_some_and(|message| message.starts_with("revoked "));
            self.say(if revoked { Change::Revoked(scope) } else { Change::Policy(scope) });
            return;
        }
        let Some(ids) = value.as_str() else { return };
        for id in ids.as_bytes().chunks(ID_LENGTH) {
            if let Ok(id) = std::str::from_utf8(id) {
                self.say(Change::Task(TaskId::from_store(id.to_owned())));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After a refused subscription answers no longer belong to their questions: a new connection begins with none.
pub(crate) async fn start_over(client: &Client) {
    if client.is_connected()
        && let Err(error) = client.force_reconnection().await
    {
        tracing::debug!(%error, "the subscribing connection is being made anew already");
    }
}

/// Whether this is a subscriber's echo: in RESP2 `["pong", nonce]`. Whoever has subscribed to nothing hears the nonce
/// alone; the error that says why is lost if it comes before anything waits for an answer.
fn echoes(echo: &Value, nonce: &str) -> bool {
    matches!(echo, Value::Array(parts) if parts.last().and_then(Value::as_str).is_some_and(|text| text == nonce))
}
