//! An export of both chains, whole and after somebody was at it.
//!
//! Responsible for what was written by a whole cluster. Must never repair what it broke: each attempt has a copy.

use portcullis_loadtest::client::Submission;
use portcullis_loadtest::credentials::Credentials;
use portcullis_loadtest::probe::Probe;
use portcullis_lua::{Chain, ChainBreak, ChainEntry, ChainHead, ScopeStore, verify_chain};
use serde_json::{Value, json};

use crate::fixture::{Fixture, accepted, cluster, start};

const TASKS: usize = 12;
/// More than is written.
const MOST: u32 = 1000;

/// A line for each entry, as an export has them.
fn lines(entries: &[ChainEntry]) -> Vec<Value> {
    entries.iter().map(|entry| serde_json::to_value(entry).expect("a line")).collect()
}

fn verdict(lines: &[Value], head: &ChainHead) -> Result<u64, ChainBreak> {
    let read = |line: &Value| serde_json::from_value(line.clone()).expect("an entry");
    let entries: Vec<ChainEntry> = lines.iter().map(read).collect();
    verify_chain(&entries, Some(head)).map(|range| range.map_or(0, |range| range.last.number))
}

/// A cluster with events of many kinds in both chains.
async fn written() -> (Fixture, ScopeStore) {
    let credentials = Credentials::new(&json!({})).await.expect("credentials");
    let mut cluster = start(credentials.believed_by(cluster()).gateways(2)).await;
    cluster.stand_in(1000).await.expect("capacity");
    for number in 0..TASKS {
        let jwt = credentials.jwt(&format!("user-{number}"), &["paid"]).expect("a token");
        let client = cluster.gateway(number).bearer(&jwt);
        let session = client.post("/v1/sessions", &json!({})).await.expect("an answer");
        assert_eq!(session.status, 201, "{}", session.text);
        accepted(&client, &Submission::new("demo", json!(number))).await;
    }
    let store = cluster.store().await.expect("a store");
    (cluster, store)
}

async fn export(store: &ScopeStore, chain: Chain) -> (Vec<Value>, ChainHead) {
    let head = store.chain_head(chain).await.expect("an answer").expect("a head");
    let entries = store.chain_entries(chain, None, MOST).await.expect("entries");
    (lines(&entries), head)
}

#[tokio::test]
async fn an_export_is_whole_and_whatever_is_done_to_it_is_found() {
    let (_cluster, store) = written().await;
    for chain in [Chain::Decisions, Chain::Audit] {
        let (whole, head) = export(&store, chain).await;
        let count = whole.len();
        assert!(count >= TASKS, "{count}");
        assert!(verdict(&whole, &head).is_ok_and(|last| last >= head.number), "{chain:?}");
        let broken = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut copy = whole.clone();
            change(&mut copy);
            verdict(&copy, &head).expect_err("it is found")
        };
        let swapped = broken(&|lines| lines.swap(3, 4));
        assert!(matches!(swapped, ChainBreak::Missing { .. } | ChainBreak::Reordered { .. }), "{swapped}");
        let missing = broken(&|lines| drop(lines.remove(5)));
        assert!(matches!(missing, ChainBreak::Missing { .. }), "{missing}");
        // Behind `prev`, `hash` and `n` come the fields that say something.
        let altered = broken(&|lines| lines[6]["fields"][4][1] = json!("another"));
        assert!(matches!(altered, ChainBreak::Altered { .. }), "{altered}");
        let renamed = broken(&|lines| lines[6]["fields"][4][0] = json!("another"));
        assert!(matches!(renamed, ChainBreak::Altered { .. }), "{renamed}");
        let foreign = broken(&|lines| lines.insert(7, json!({ "id": "1-1", "fields": [["event", "nothing"]] })));
        assert!(matches!(foreign, ChainBreak::Foreign { .. }), "{foreign}");
        let repeated = broken(&|lines| lines.insert(7, lines[2].clone()));
        assert!(matches!(repeated, ChainBreak::Reordered { .. }), "{repeated}");
        let cut = broken(&|lines| lines.truncate(count - 2));
        assert!(matches!(cut, ChainBreak::Truncated { .. }), "{cut}");
    }
}

/// The ids of the entries, oldest first.
fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["id"].as_str().expect("an id")).collect()
}

/// Copies an entry under the next number, as if it had happened again.
const FORGE: &str = "
local fields = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', '1')[1][2]
for at = 1, #fields, 2 do
  if fields[at] == 'n' then fields[at + 1] = string.format('%d', tonumber(fields[at + 1]) + 1) end
end
return redis.call('XADD', KEYS[1], '*', unpack(fields))";

#[tokio::test]
async fn whoever_deletes_or_forges_an_event_in_redis_is_found() {
    let (cluster, store) = written().await;
    let probe: Probe = cluster.probe().await.expect("a connection");
    for (chain, name) in [(Chain::Decisions, "decision"), (Chain::Audit, "audit")] {
        let key = format!("{}:{name}", cluster.key_prefix());
        let (whole, head) = export(&store, chain).await;
        let forged = probe.command("EVAL", [FORGE, "1", &key]).await.expect("forged");
        let forged: String = forged.convert().expect("an id");
        let (with_forged, _) = export(&store, chain).await;
        let found = verdict(&with_forged, &head).expect_err("it is found");
        assert!(matches!(&found, ChainBreak::Altered { id, .. } if *id == forged), "{found}");
        probe.command("XDEL", [&key, &forged]).await.expect("deleted");

        let newest = *ids(&whole).last().expect("entries");
        let middle = ids(&whole)[whole.len() / 2];
        probe.command("XDEL", [&key, newest]).await.expect("deleted");
        let (cut, _) = export(&store, chain).await;
        let found = verdict(&cut, &head).expect_err("it is found");
        assert!(matches!(found, ChainBreak::Truncated { .. }), "{found}");
        probe.command("XDEL", [&key, middle]).await.expect("deleted");
        let (holed, _) = export(&store, chain).await;
        let found = verdict(&holed, &head).expect_err("it is found");
        assert!(matches!(found, ChainBreak::Missing { .. }), "{found}");
    }
}
