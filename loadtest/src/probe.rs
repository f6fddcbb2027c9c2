//! A plain Redis connection for looking in from outside.
//!
//! Responsible for what no part of the cluster needs: server statistics, dumps of a scope to compare, `CLIENT KILL`,
//! the bare `EVALSHA return 1` that everything is measured against. Only `lua/` may speak to Redis for the cluster; the
//! harness judges that crate and so must not see Redis through it.

use std::collections::BTreeMap;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{Config, ConnectionConfig, ReconnectPolicy};
use fred::types::{Builder, ClusterHash, CustomCommand, Key, Value};

use crate::error::HarnessError;

/// A connection of the harness's own.
#[derive(Clone)]
pub struct Probe {
    client: Client,
    /// Which node of a Redis Cluster is asked.
    node: ClusterHash,
}

/// Time between two attempts of a lasting connection to reach a Redis that is gone, ms.
const RECONNECT_MS: u32 = 100;
/// A command of a lasting connection without an answer after this long has failed.
const COMMAND_LIMIT: Duration = Duration::from_secs(1);

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

/// Calls and time of one command, or the difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CommandCost {
    /// How often it ran.
    pub calls: u64,
    /// Server time it took, µs. A script's time includes the commands inside it.
    pub usec: u64,
}

impl Probe {
    /// Connects, once: a broken connection stays broken.
    pub async fn connect(url: &str) -> Result<Self, HarnessError> {
        let client = Builder::from_config(Config::from_url(url)?).build()?;
        client.init().await?;
        Ok(Self { client, node: ClusterHash::FirstKey })
    }

    /// Connects in the background and comes back by itself after every outage; meanwhile commands fail within a second.
    /// Asks the node that holds the keys of the scope whose keys start with `key_prefix`.
    pub fn lasting(url: &str, key_prefix: &str) -> Result<Self, HarnessError> {
        let mut builder = Builder::from_config(Config::from_url(url)?);
        builder
            .with_connection_config(|connection: &mut ConnectionConfig| {
                connection.connection_timeout = COMMAND_LIMIT;
                connection.internal_command_timeout = COMMAND_LIMIT;
                connection.max_command_attempts = 1;
                connection.unresponsive.max_timeout = Some(COMMAND_LIMIT);
                connection.unresponsive.interval = COMMAND_LIMIT / 4;
            })
            .with_performance_config(|performance| performance.default_command_timeout = COMMAND_LIMIT)
            .set_policy(ReconnectPolicy::new_constant(0, RECONNECT_MS));
        let client = builder.build()?;
        client.connect();
        Ok(Self { client, node: ClusterHash::Custom(Key::from(key_prefix).cluster_hash()) })
    }

    /// Runs any command.
    pub async fn command<const N: usize>(&self, name: &'static str, args: [&str; N]) -> Result<Value, HarnessError> {
        let args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
        Ok(self.client.custom(CustomCommand::new_static(name, self.node.clone(), false), args).await?)
    }

    /// Loads a script; its digest for [`Probe::evalsha`].
    pub async fn load_script(&self, source: &str) -> Result<String, HarnessError> {
        Ok(self.command("SCRIPT", ["LOAD", source]).await?.convert()?)
    }

    /// Runs a loaded script without keys.
    pub async fn evalsha(&self, digest: &str) -> Result<Value, HarnessError> {
        self.command("EVALSHA", [digest, "0"]).await
    }

    /// Empties the command statistics.
    pub async fn reset_statistics(&self) -> Result<(), HarnessError> {
        self.command("CONFIG", ["RESETSTAT"]).await.map(drop)
    }

    /// Cost of every command since the last reset, by lower-case name (`config|resetstat` for subcommands).
    pub async fn command_costs(&self) -> Result<BTreeMap<String, CommandCost>, HarnessError> {
        Ok(parse_command_costs(&self.info("commandstats").await?))
    }

    /// One number of an `INFO` section, such as `used_memory` of `memory`.
    pub async fn info_number(&self, section: &str, field: &str) -> Result<u64, HarnessError> {
        let text = self.info(section).await?;
        let value = text.lines().find_map(|line| line.trim_end().strip_prefix(field)?.strip_prefix(':')?.parse().ok());
        value.ok_or_else(|| HarnessError::Answer(format!("INFO has no number {field}")))
    }

    async fn info(&self, section: &str) -> Result<String, HarnessError> {
        Ok(self.command("INFO", [section]).await?.convert()?)
    }

    /// Redis's clock, ms since the epoch.
    pub async fn time_ms(&self) -> Result<u64, HarnessError> {
        let (seconds, micros): (u64, u64) = self.command("TIME", []).await?.convert()?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Every key that starts with `prefix`, sorted.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, HarnessError> {
        let pattern = format!("{prefix}*");
        let mut cursor = "0".to_owned();
        let mut keys = Vec::new();
        loop {
            let answer = self.command("SCAN", [&cursor, "MATCH", &pattern, "COUNT", "1000"]).await?;
            let (next, page): (String, Vec<String>) = answer.convert()?;
            keys.extend(page);
            if next == "0" {
                keys.sort_unstable();
                keys.dedup();
                return Ok(keys);
            }
            cursor = next;
        }
    }

    /// The content of every key that starts with `prefix`, in a form that is equal exactly when the content is.
    /// Lifetimes are not part of it.
    pub async fn dump(&self, prefix: &str) -> Result<BTreeMap<String, String>, HarnessError> {
        let mut dump = BTreeMap::new();
        for key in self.keys(prefix).await? {
            let kind: String = self.command("TYPE", [&key]).await?.convert()?;
            let content = match kind.as_str() {
                "string" => self.command("GET", [&key]).await?,
                "list" => self.command("LRANGE", [&key, "0", "-1"]).await?,
                "zset" => self.command("ZRANGE", [&key, "0", "-1", "WITHSCORES"]).await?,
                "stream" => self.command("XRANGE", [&key, "-", "+"]).await?,
                "set" => sorted(self.command("SMEMBERS", [&key]).await?, 1),
                "hash" => sorted(self.command("HGETALL", [&key]).await?, 2),
                // Expired between the listing and the look at it.
                _ => continue,
            };
            dump.insert(key, format!("{kind} {content:?}"));
        }
        Ok(dump)
    }

    /// Closes the connection.
    pub async fn close(&self) {
        // It is closed either way; an error only says that it already was.
        drop(self.client.quit().await);
    }
}

/// Members come in no order of their own; fields travel with their values.
fn sorted(value: Value, width: usize) -> Value {
    let flat = match value {
        Value::Map(map) => map.inner().into_iter().flat_map(|(field, value)| [Value::from(field), value]).collect(),
        Value::Array(members) => members,
        other => return other,
    };
    let mut entries: Vec<Vec<Value>> = flat.chunks(width).map(<[Value]>::to_vec).collect();
    entries.sort_by_cached_key(|entry| format!("{entry:?}"));
    Value::Array(entries.into_iter().flatten().collect())
}

fn parse_command_costs(text: &str) -> BTreeMap<String, CommandCost> {
    let lines = text.lines().filter_map(|line| line.trim_end().strip_prefix("cmdstat_")?.split_once(':'));
    lines
        .map(|(name, fields)| {
            let field = |wanted: &str| {
                let pairs = fields.split(',').filter_map(|pair| pair.split_once('='));
                pairs.filter(|(key, _)| *key == wanted).find_map(|(_, value)| value.parse().ok()).unwrap_or_default()
            };
            (name.to_owned(), CommandCost { calls: field("calls"), usec: field("usec") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_command_statistics() {
        let text = "# Commandstats\r\ncmdstat_evalsha:calls=3,usec=12,usec_per_call=4.00,rejected_calls=0\r\n\
                    cmdstat_config|resetstat:calls=1,usec=9,usec_per_call=9.00\r\n";
        let costs = parse_command_costs(text);
        assert_eq!(costs["evalsha"], CommandCost { calls: 3, usec: 12 });
        assert_eq!(costs["config|resetstat"].calls, 1);
    }

    #[test]
    fn a_dump_does_not_depend_on_the_order_of_members() {
        let members = |names: [&str; 3]| Value::Array(names.iter().map(|name| Value::from(*name)).collect());
        assert_eq!(sorted(members(["b", "a", "c"]), 1), sorted(members(["c", "b", "a"]), 1));
    }
}
