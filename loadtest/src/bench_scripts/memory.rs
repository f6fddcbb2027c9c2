//! What one session's limits weigh in Redis.
//!
//! Responsible for the size of a session whose windows are full, its share of the server's tables included. Must never
//! count the tasks it had to admit to fill the windows.

use portcullis_config::UserType;
use serde_json::{Value, json};

use crate::bench_scripts::workbench::{Workbench, request_of};
use crate::client::CALLERS;
use crate::error::HarnessError;
use crate::report::Table;

/// What a moment of filling cannot show.
pub const NOTE: &str = "Filled within a moment. Traffic spread over its windows takes up to two bytes more per entry; \
    the protocol crate chooses the ticks so that a session's entries stay within a fixed bound whatever the limits.\n";

/// Copies whose memory is weighed together.
const SESSIONS: usize = 10_000;
/// Bytes per session by user type.
#[derive(Debug)]
pub struct Memory {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    user_type: &'static str,
    admitted: u64,
    key_bytes: u64,
    share_bytes: u64,
}

/// Weighs a full session of each user type.
pub async fn measure(bench: &Workbench) -> Result<Memory, HarnessError> {
    let mut rows = Vec::new();
    for user_type in CALLERS {
        bench.empty().await?;
        rows.push(weigh(bench, user_type).await?);
    }
    Ok(Memory { rows })
}

async fn weigh(bench: &Workbench, user_type: &'static str) -> Result<Row, HarnessError> {
    let session = format!("session-{:032x}", rand::random::<u128>());
    let named = UserType::new(user_type).map_err(|name| HarnessError::Policy(name.to_string()))?;
    let admitted = bench.document.limits_of(&named).map_or(0, |limit| limit.burst);
    for _ in 0..admitted {
        bench.scope.admit(&bench.policy, &[request_of(user_type, &session)]).await?;
    }
    let key = limit_key(bench, &session).await?;
    let key_bytes = memory_usage(bench, &key).await?;
    let before = bench.probe.info_number("memory", "used_memory").await?;
    for number in 0..SESSIONS {
        // As long as the original, so that the copies weigh what as many sessions would.
        let copy = format!("{}{number:06}", &key[..key.len() - 6]);
        bench.probe.command("COPY", [&key, &copy]).await?;
    }
    let after = bench.probe.info_number("memory", "used_memory").await?;
    let share_bytes = after.saturating_sub(before) / SESSIONS as u64;
    Ok(Row { user_type, admitted, key_bytes, share_bytes })
}

/// The only string among the scope's keys that is named after nothing but the session.
async fn limit_key(bench: &Workbench, session: &str) -> Result<String, HarnessError> {
    let scope = bench.scope.scope();
    let prefix = format!("{{{}:{}}}", scope.tenant(), scope.project());
    let mut keys = bench.probe.keys(&prefix).await?;
    keys.retain(|key| key.ends_with(session));
    keys.sort_by_key(String::len);
    keys.into_iter().next().ok_or_else(|| HarnessError::Answer(format!("no key ends with {session}")))
}

async fn memory_usage(bench: &Workbench, key: &str) -> Result<u64, HarnessError> {
    Ok(bench.probe.command("MEMORY", ["USAGE", key]).await?.convert()?)
}

impl Memory {
    /// One row for each user type.
    #[must_use]
    pub fn table(&self) -> Table {
        let header = ["user type", "in its burst window", "key bytes", "of the server's memory"];
        let mut table = Table::new(&header);
        for row in &self.rows {
            let numbers = [row.admitted, row.key_bytes, row.share_bytes].map(|n| n.to_string());
            let [admitted, key_bytes, share_bytes] = numbers;
            table.row([row.user_type.to_owned(), admitted, key_bytes, share_bytes]);
        }
        table
    }

    /// The same as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "user_type": row.user_type,
                "admitted": row.admitted,
                "key_bytes": row.key_bytes,
                "share_bytes": row.share_bytes,
            })
        });
        rows.collect()
    }
}
