//! The chains of decisions and audit events on a real Redis: whole as the scripts write them, broken by whoever touches
//! them; and the number of revocations that every decision is made under.

use std::sync::Arc;

use portcullis_lua::{
    About, AdmitRequest, Chain, ChainBreak, ChainEntry, CompiledPolicy, Hop, NewRevision, Origin, PolicyStamp,
    Provenance, Retention, Revised, StoreError, TallyEntry, TallyFlush, Verdict, verify_chain,
};

use tokio::time::Instant;

use super::stage::{Act, START_MS, Stage, request, roomy};

/// Entries of each chain.
const LENGTH: u64 = 9;

/// Takes a stream apart and puts it together again with one thing changed: how, and at which entry.
const TAMPER: &str = "
local entries, how, at = redis.call('XRANGE', KEYS[1], '-', '+'), ARGV[1], tonumber(ARGV[2])
redis.call('DEL', KEYS[1])
if how == 'drop' then table.remove(entries, at) end
if how == 'swap' then entries[at][2], entries[at + 1][2] = entries[at + 1][2], entries[at][2] end
local fields = entries[at] and entries[at][2]
if how == 'change' then fields[#fields] = fields[#fields] .. '.' end
if how == 'add' then fields[#fields + 1], fields[#fields + 2] = 'more', '1' end
if how == 'rename' then fields[#fields - 1] = 'other' end
if how == 'repeat' then entries[#entries + 1] = { '*', fields } end
if how == 'strip' then for _ = 1, 6 do table.remove(fields, 1) end end
for _, entry in ipairs(entries) do redis.call('XADD', KEYS[1], entry[1], unpack(entry[2])) end
return #entries";

async fn entries(act: &Act, chain: Chain) -> Vec<ChainEntry> {
    let (first, mut all) = (act.store.chain_entries(chain, None, 4).await.expect("entries"), Vec::new());
    all.extend(first);
    while let Some(last) = all.last().map(|entry: &ChainEntry| entry.id.clone()) {
        let more = act.store.chain_entries(chain, Some(&last), 4).await.expect("entries");
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    all
}

/// A scope with so many entries in the chains of audit and decisions.
async fn written(stage: &Stage) -> Act {
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 100).await;
    for number in 0..LENGTH {
        let batch: Vec<AdmitRequest> = (0..=number % 3).map(|_| request("paid", "s")).collect();
        act.store.at(START_MS + number).admit(&policy, &batch).await.expect("decisions");
    }
    let mut current = PolicyStamp::NONE;
    for number in 0..LENGTH {
        let actor = "a test".to_owned();
        let about = About { origin: Origin::Update, actor, reason: None, rolled_back_to: None, changed: Vec::new() };
        let document = serde_json::json!({"tenant": number});
        let new = NewRevision { document, about, write_id: number.to_string() };
        let revised = act.store.revise(current, Retention::of(&roomy()), &new).await.expect("an answer");
        let Revised::Stored(stored) = revised else { panic!("{revised:?}") };
        current = stored.stamp;
    }
    act
}

fn stream(chain: Chain) -> &'static str {
    match chain {
        Chain::Decisions => "decision",
        Chain::Audit => "audit",
        Chain::Counts => "counted",
        Chain::Ends => "ended",
    }
}

#[tokio::test]
async fn whatever_is_done_to_an_entry_of_a_chain_is_found() {
    let stage = Stage::set().await;
    for chain in [Chain::Decisions, Chain::Audit] {
        let act = written(&stage).await;
        let head = act.store.chain_head(chain).await.expect("an answer").expect("a head");
        let whole = verify_chain(&entries(&act, chain).await, Some(&head)).expect("whole").expect("entries");
        assert_eq!((whole.first, whole.last.number, &whole.last), (1, LENGTH, &head), "{chain:?}");
        for how in ["drop", "swap", "change", "add", "rename", "repeat", "strip"] {
            for place in [1, 5, 8, 9] {
                if how == "swap" && place == 9 {
                    continue;
                }
                let act = written(&stage).await;
                let head = act.store.chain_head(chain).await.expect("an answer").expect("a head");
                let key = act.key(stream(chain));
                act.probe.command("EVAL", [TAMPER, "1", &key, how, &place.to_string()]).await.expect("tampered");
                let found = verify_chain(&entries(&act, chain).await, Some(&head));
                let place = u64::try_from(place).expect("small");
                match (how, found) {
                    // As if it had been trimmed: the oldest may go.
                    ("drop", Ok(Some(rest))) if place == 1 => assert_eq!(rest.first, 2),
                    ("drop", Err(ChainBreak::Truncated { last: 8, head: LENGTH })) => assert_eq!(place, LENGTH),
                    ("drop", Err(ChainBreak::Missing { after, number, .. })) => {
                        assert_eq!((after, number), (place - 1, place + 1));
                    }
                    ("swap", Err(ChainBreak::Missing { .. } | ChainBreak::Reordered { .. }))
                    | ("repeat", Err(ChainBreak::Reordered { .. }))
                    | ("strip", Err(ChainBreak::Foreign { .. })) => {}
                    ("change" | "add" | "rename", Err(ChainBreak::Altered { number, .. })) => assert_eq!(number, place),
                    (how, found) => panic!("{chain:?}: {how} {place}: {found:?}"),
                }
                act.strike().await;
            }
        }
    }
}

#[tokio::test]
async fn a_chain_goes_on_where_its_oldest_entries_were_trimmed_and_an_export_of_it_is_enough() {
    let stage = Stage::set().await;
    let act = written(&stage).await;
    for chain in [Chain::Decisions, Chain::Audit] {
        act.probe.command("XTRIM", [&act.key(stream(chain)), "MAXLEN", "4"]).await.expect("trimmed");
        let head = act.store.chain_head(chain).await.expect("an answer");
        let exported = entries(&act, chain).await;
        let exported: Vec<String> =
            exported.iter().map(|entry| serde_json::to_string(entry).expect("a line")).collect();
        let read: Vec<ChainEntry> = exported.iter().map(|line| serde_json::from_str(line).expect("an entry")).collect();
        let range = verify_chain(&read, head.as_ref()).expect("whole").expect("entries");
        assert_eq!((range.first, range.last.number), (LENGTH - 3, LENGTH));
    }
}

#[tokio::test]
async fn who_knows_of_other_revocations_than_there_are_decides_nothing() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 100).await;
    act.store.at(START_MS).admit(&policy, &[request("paid", "s")]).await.expect("a decision");
    // 3.0 in eight bytes.
    let three = "\0\0\0\0\0\0\u{8}@";
    act.probe.command("SETRANGE", [&act.key("scope"), "56", three]).await.expect("an answer");
    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    for held in [0, 2, 4] {
        let store = act.store.at(START_MS).knowing(held);
        let refused = Err(StoreError::StaleRevocations { held, current: 3 });
        assert_eq!(store.admit(&policy, &[request("paid", "s")]).await, refused);
        assert_eq!(store.peek(&policy, &[request("paid", "s")]).await, refused);
        assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before, "held {held}");
    }
    let decided = act.store.at(START_MS).knowing(3).admit(&policy, &[request("paid", "s")]).await;
    assert!(matches!(decided.expect("a decision")[0].verdict, Verdict::Admitted { .. }));
}

#[tokio::test]
async fn an_event_says_where_its_request_came_from() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 100).await;
    let hop = |client_id: &str, reason: &str| Hop {
        client_id: client_id.to_owned(),
        reason: reason.to_owned(),
        hash: format!("hash of {client_id}"),
        exp: 7,
        ..Hop::default()
    };
    let provenance = Provenance {
        source: "delegation",
        network: Some("192.0.2.0/24".to_owned()),
        method: Some("POST".to_owned()),
        route: "/v1/tasks",
        received: Some(Instant::now()),
        hops: Arc::new([hop("planner", "plans \"trips\""), hop("searcher", "looks")]),
        ..Provenance::default()
    };
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let asked = || AdmitRequest {
        provenance: provenance.clone(),
        traceparent: Some(context.to_owned()),
        ..request("paid", "s")
    };
    let before = Instant::now();
    act.store.at(START_MS).admit(&policy, &[asked(), request("paid", "s"), asked()]).await.expect("decisions");
    let longest_us = u64::try_from(before.elapsed().as_micros()).expect("not for ever") + 1_000_000;
    let mut told = act.store.decisions(3).await.expect("decisions");
    let first = told.pop().expect("three");
    assert_eq!((&first.origin.hops, &first.origin.trace_id), (&told[0].origin.hops, &told[0].origin.trace_id));
    assert_eq!(told[0].origin.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    assert!(told[0].origin.latency_us.is_some_and(|latency_us| latency_us < longest_us), "{:?}", told[0].origin);
    assert_eq!(told[0].origin.source.as_deref(), Some("delegation"));
    assert_eq!(told[0].origin.network, provenance.network);
    assert_eq!((&told[0].origin.method, told[0].origin.route.as_deref()), (&provenance.method, Some(provenance.route)));
    assert_eq!(told[0].origin.hops, provenance.hops[..]);
    assert_eq!(told[1].origin, portcullis_lua::RequestOrigin::default());
}

#[tokio::test]
async fn a_chain_stands_once_in_a_batch_and_takes_no_more_than_its_bytes() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 1000).await;
    let long = |number: usize| Hop {
        client_id: format!("{number}{}", "c".repeat(255)),
        jti: format!("{number}{}", "j".repeat(255)),
        hash: format!("{number:x>43}"),
        scope: "tasks:submit ".repeat(60),
        exp: u64::MAX,
        reason: "r".repeat(200),
        calls_per_min: None,
        calls_per_hour: None,
    };
    let through = |first: usize| AdmitRequest {
        provenance: Provenance {
            hops: (first..first + 8).map(long).collect(),
            method: Some("M".repeat(60_000)),
            ..Provenance::default()
        },
        ..request("paid", "s")
    };
    let bytes = async || {
        let entry = act.probe.command("XREVRANGE", [&act.key("decision"), "+", "-", "COUNT", "1"]).await;
        let entry: Vec<(String, Vec<Vec<u8>>)> = entry.expect("an entry").convert().expect("fields");
        entry[0].1.iter().map(Vec::len).sum::<usize>()
    };
    for (chains, most) in [(1, 12_000), (32, 32 * 2_400)] {
        let batch: Vec<AdmitRequest> = (0..32).map(|number| through(number % chains)).collect();
        act.store.at(START_MS).admit(&policy, &batch).await.expect("decisions");
        let (bytes, told) = (bytes().await, act.store.decisions(32).await.expect("decisions"));
        assert!(bytes < most, "{chains} chains: {bytes}");
        for (event, asked) in told.iter().rev().zip(&batch) {
            let hashes = |hops: &[Hop]| hops.iter().map(|hop| hop.hash.clone()).collect::<Vec<_>>();
            assert_eq!(hashes(&event.origin.hops), hashes(&asked.provenance.hops));
            assert!(event.origin.hops_cut);
        }
    }
}

#[tokio::test]
async fn counts_that_are_sent_twice_count_once_and_those_without_an_event_get_one() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    let entry = |code: &str, count, unrecorded| TallyEntry {
        code: code.to_owned(),
        user_type: "paid".to_owned(),
        count,
        unrecorded,
    };
    let flush = |number, entries| TallyFlush { counter: "one".to_owned(), number, entries };
    let first = flush(1, vec![entry("admitted", 5, 0), entry("burst_limit", 7, 3), entry("unauthenticated", 2, 2)]);
    let second = flush(2, vec![entry("admitted", 1, 0)]);
    let third = flush(3, vec![entry("burst_limit", 4, 4)]);
    let other = TallyFlush { counter: "two".to_owned(), ..third.clone() };
    for sent in [&first, &first, &second, &first, &third, &other, &third] {
        act.store.tally(&policy, "gateway", sent).await.expect("an answer");
    }
    let mut sums = std::collections::BTreeMap::new();
    for hour in act.store.statistics(2).await.expect("statistics") {
        for (field, count) in hour.counts {
            *sums.entry(field).or_insert(0) += count;
        }
    }
    let expected = [("admitted:paid", 6), ("burst_limit:paid", 15), ("unauthenticated:paid", 2)];
    assert_eq!(sums, expected.into_iter().map(|(field, count)| (field.to_owned(), count)).collect());
    let events = act.store.counted(10).await.expect("events");
    let told: Vec<_> = events.iter().map(|event| (event.event.as_str(), event.about["counts"].to_string())).collect();
    let counted = |counts: &str| ("decisions.counted", counts.to_owned());
    let four = counted(r#"{"burst_limit:paid":4}"#);
    assert_eq!(told, [four.clone(), four, counted(r#"{"burst_limit:paid":3,"unauthenticated:paid":2}"#)]);
    let head = act.store.chain_head(Chain::Counts).await.expect("an answer");
    let whole = verify_chain(&entries(&act, Chain::Counts).await, head.as_ref()).expect("whole").expect("events");
    assert_eq!((whole.first, whole.last.number), (1, 3));
}
