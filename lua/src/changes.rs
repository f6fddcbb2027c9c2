//! Following changes of tasks over pub/sub.
//!
//! Pub/sub is lossy, so nothing may rest on a message: after every reconnect a [`Change::Resync`] tells followers to
//! look again, and followers read again by themselves every so often.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fred::clients::Client;
use fred::interfaces::{EventInterface, PubsubInterface};
use fred::types::Value;
use tokio::sync::broadcast;

use crate::task::TaskId;

/// Changes a follower may lag behind before it is told to look at everything again.
const BACKLOG: usize = 4096;
/// Length of a task id in a message.
const ID_LENGTH: usize = 26;

/// Something happened to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This task has a new status or new output.
    Task(TaskId),
    /// Messages may have been lost: look again at every task followed.
    Resync,
}

/// The followers of each channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    channels: Arc<Mutex<HashMap<String, broadcast::Sender<Change>>>>,
}

impl Watches {
    /// Passes on the messages of `client`, and after each reconnect subscribes again and says [`Change::Resync`].
    /// The two tasks end with the client.
    pub(crate) fn follow(client: &Client) -> Self {
        let watches = Self::default();
        let mut messages = client.message_rx();
        let passing = watches.clone();
        tokio::spawn(async move {
            loop {
                match messages.recv().await {
                    Ok(message) => passing.pass(&message.channel, &message.value),
                    Err(broadcast::error::RecvError::Lagged(_)) => passing.resync(),
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        let mut reconnects = client.reconnect_rx();
        let (subscriber, resuming) = (client.clone(), watches.clone());
        tokio::spawn(async move {
            while !matches!(reconnects.recv().await, Err(broadcast::error::RecvError::Closed)) {
                for channel in resuming.names() {
                    if let Err(error) = subscriber.subscribe(channel).await {
                        tracing::warn!(%error, "could not subscribe again");
                    }
                }
                resuming.resync();
            }
        });
        watches
    }

    fn pass(&self, channel: &str, value: &Value) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(sender), Some(ids)) = (channels.get(channel), value.as_str()) else { return };
        for id in ids.as_bytes().chunks(ID_LENGTH) {
            if let Ok(id) = std::str::from_utf8(id) {
                _ = sender.send(Change::Task(TaskId::from_store(id.to_owned())));
            }
        }
    }

    pub(crate) fn resync(&self) {
        for sender in self.channels.lock().unwrap_or_else(PoisonError::into_inner).values() {
            _ = sender.send(Change::Resync);
        }
    }

    fn names(&self) -> Vec<String> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// A receiver of a channel, and whether it must be subscribed first.
    pub(crate) fn join(&self, channel: &str) -> (broadcast::Receiver<Change>, bool) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = channels.get(channel) {
            return (sender.subscribe(), false);
        }
        let (sender, receiver) = broadcast::channel(BACKLOG);
        channels.insert(channel.to_owned(), sender);
        (receiver, true)
    }
}
