//! The scripts: source assembled from `lua/`, digest, and the one place that calls them.
//!
//! A call is `EVALSHA`; where the server does not know the script (first use, `SCRIPT FLUSH`, a failover) it is loaded
//! and called again within the same call, so no caller ever sees it. Must never retry anything else: a script whose
//! answer was lost may have run.

use std::sync::LazyLock;

use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Key, Value};

use crate::error::StoreError;
use crate::store::Store;

/// A script of `lua/`, with the includes it uses before it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
    sha: LazyLock<String>,
}

macro_rules! scripts {
    ($($constant:ident = $name:literal [$($include:literal),*]);+ $(;)?) => {
        $(
            pub(crate) static $constant: Script = Script {
                name: $name,
                source: concat!(
                    $(include_str!(concat!("../include/", $include, ".lua")), "\n",)*
                    include_str!(concat!("../", $name, ".lua"))
                ),
                sha: LazyLock::new(|| fred::util::sha1_hash($constant.source)),
            };
        )+
        /// Every script, for tests and tools.
        pub(crate) static ALL: &[&Script] = &[$(&$constant),+];
    };
}

scripts! {
    ADMIT = "admit" [
        "now", "strings", "scope", "window", "limit", "breaker", "budget", "record", "capacity", "order", "wake",
        "pass", "once", "state", "chain"
    ];
    CLAIM = "claim" ["now", "scope", "class", "record", "wake"];
    RENEW = "renew" ["now"];
    SETTLE = "settle" [
        "now", "scope", "class", "breaker", "tenth", "feed", "budget", "hold", "record", "order", "wake", "chain",
        "audit", "ended"
    ];
    RECLAIM = "reclaim" ["now", "scope", "class", "record", "order", "wake"];
    FINISH = "finish" ["now", "breaker", "tenth", "feed", "budget", "hold", "pass", "chain", "audit", "ended"];
    EXTEND = "extend" ["now", "breaker", "tenth", "feed", "pass"];
    LAPSE = "lapse" ["now"];
    HEARTBEAT = "heartbeat" ["now", "scope", "capacity"];
    LEAVE = "leave" ["scope", "capacity"];
    CANCEL = "cancel" ["now", "scope", "class", "breaker", "budget", "record", "chain", "audit", "ended"];
    OUTPUT = "output" ["record"];
    INSPECT = "inspect" [];
    LOOK = "look" [];
    SURVEY = "survey" ["now", "scope", "capacity", "pass"];
    TALLY = "tally" ["now", "chain", "audit"];
    REVISE = "revise" ["now", "scope", "chain", "audit", "stamp"];
    RESTORE = "restore" ["now", "scope", "chain", "audit", "stamp"];
    FOLLOW = "follow" ["now", "report"];
    LOGIN = "login" ["now", "scope", "chain", "audit", "revocation", "revoked_member"];
    RECOGNIZE = "recognize" ["now"];
    REVOKE = "revoke" ["now", "scope", "chain", "audit", "revocation", "revoked_member"];
    REVOKED = "revoked" ["now", "scope", "revocation"];
    LOSS = "loss" ["now", "scope", "chain", "audit", "revocation"];
    ACKNOWLEDGE = "acknowledge" ["now", "scope", "chain", "audit", "revocation"];
    WRITE_LIMIT = "write_limit" ["now", "window"];
    WITNESS = "witness" ["now", "scope", "chain", "audit", "revocation"];
    GRANT = "grant" ["now", "scope", "chain", "audit", "revocation", "revoked_member"];
}

/// Name and assembled source of every script, in alphabetical order.
#[must_use]
pub fn sources() -> Vec<(&'static str, &'static str)> {
    let mut sources: Vec<_> = ALL.iter().map(|script| (script.name, script.source)).collect();
    sources.sort_unstable();
    sources
}

impl Script {
    /// Calls the script; loads it first if the server does not know it.
    pub(crate) async fn call(&self, store: &Store, keys: Vec<Key>, args: Vec<Value>) -> Result<Value, StoreError> {
        self.call_again(store, || Ok((keys.clone(), args.clone()))).await
    }

    /// The same for a call whose arguments are many: they are made again where they have to be sent again, instead of
    /// being kept for that case.
    pub(crate) async fn call_again(
        &self,
        store: &Store,
        arguments: impl Fn() -> Result<(Vec<Key>, Vec<Value>), StoreError>,
    ) -> Result<Value, StoreError> {
        let client = store.client();
        let (keys, args) = arguments()?;
        let slot = slot_of(&keys);
        let (evalsha, args) = self.command(keys, args);
        match client.custom(evalsha.clone(), args).await {
            Err(error) if is_unknown(&error) => {
                self.load(store, slot).await?;
                let (keys, args) = arguments()?;
                Ok(client.custom(evalsha, self.command(keys, args).1).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Makes it known to the server of this slot.
    pub(crate) async fn load(&self, store: &Store, slot: ClusterHash) -> Result<(), StoreError> {
        tracing::info!(script = self.name, "loading a script the server does not know");
        let load = CustomCommand::new_static("SCRIPT", slot, false);
        let _: String = store.client().custom(load, vec!["LOAD", self.source]).await?;
        Ok(())
    }

    /// The command that calls the script, for whoever sends it on a connection of its own. The server may not know the
    /// script: [`is_unknown`].
    pub(crate) fn command(&self, keys: Vec<Key>, args: Vec<Value>) -> (CustomCommand, Vec<Value>) {
        // The client's own `evalsha` ignores per-call options: no deadline, and it would send a lost call again.
        let evalsha = CustomCommand::new_static("EVALSHA", slot_of(&keys), false);
        let mut command: Vec<Value> = Vec::with_capacity(2 + keys.len() + args.len());
        command.push(self.sha.as_str().into());
        command.push((keys.len() as i64).into());
        command.extend(keys.into_iter().map(Value::from));
        command.extend(args);
        (evalsha, command)
    }
}

/// Whether the server refused a call because it does not know the script.
pub(crate) fn is_unknown(error: &Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}

fn slot_of(keys: &[Key]) -> ClusterHash {
    keys.first().map_or(ClusterHash::Random, |key| ClusterHash::Custom(key.cluster_hash()))
}
