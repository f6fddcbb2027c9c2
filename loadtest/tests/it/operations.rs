//! Operators at the admin listener: what they revoke is dead at once and stands in the chain, their changes are
//! counted, and they see no scope but theirs.

mod unproven;

use std::collections::BTreeMap;
use std::io::Write;

use futures_util::future::join_all;
use portcullis_loadtest::client::{Client, Submission};
use portcullis_lua::{ChainEntry, ChainHead, ExportLine, verify_chain};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::fixture::{accepted, cluster, start, until};

/// An API key, and its digest as the identity document has it.
const OPERATOR: &str = "gk_operator_0000000000000000000000000000000000000000000";
const OPERATOR_SHA256: &str = "d3884f94cdd484747676612dc93628a4b7e618eb7a27667588f174021cd9a284";

/// An identity document in which that key is a privileged caller's, given for `admin`.
fn identity() -> NamedTempFile {
    let key = json!({
        "id": "operator", "sha256": OPERATOR_SHA256, "owner": "grace", "user_type": "privileged", "scopes": ["admin"],
    });
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(json!({"api_keys": [key]}).to_string().as_bytes()).expect("written");
    file
}

async fn post(admin: &Client, path: &str, body: &Value) -> Value {
    let answer = admin.post(path, body).await.expect("an answer");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.body
}

async fn get(admin: &Client, path: &str) -> Value {
    let answer = admin.get(path).await.expect("an answer");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.body
}

/// Entries of an export, and its head if it has one.
async fn exported(admin: &Client, query: &str) -> (Vec<ChainEntry>, Option<ChainHead>) {
    let answer = admin.get(&format!("/admin/audit/export?{query}")).await.expect("an answer");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"), "{}", answer.text);
    let (mut entries, mut found) = (Vec::new(), None);
    for line in answer.text.lines() {
        assert!(found.is_none(), "the head is the last line");
        match serde_json::from_str(line).expect("a line of an export") {
            ExportLine::Entry(entry) => entries.push(entry),
            ExportLine::Head { head } => found = head,
        }
    }
    (entries, found)
}

#[tokio::test]
async fn what_an_operator_revokes_is_dead_everywhere_and_stands_in_the_chain() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(1000).await.expect("capacity");
    let (ada, order) = (cluster.gateway(0).caller("paid", "ada"), Submission::new("demo", json!(1)));
    let open = async || {
        let answer = ada.post("/v1/sessions", &json!({"label": "test"})).await.expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.body["token"].as_str().expect("a token").to_owned()
    };
    let session = open().await;
    for index in 0..2 {
        accepted(&cluster.gateway(index).bearer(&session), &order).await;
    }

    let admin = cluster.admin(0);
    let wish = json!({"kind": "principal", "id": "dev:ada", "reason": "left the company"});
    let first = post(&admin, "/admin/revocations", &wish).await;
    assert_eq!((&first["changed"], &first["kind"], &first["id"]), (&json!(1), &wish["kind"], &wish["id"]));
    for index in 0..2 {
        let answer = cluster.gateway(index).bearer(&session).submit(&order).await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "gateway {index}");
    }
    let again = post(&cluster.admin(1), "/admin/revocations", &wish).await;
    assert_eq!(again["id"], wish["id"], "again, of what was issued meanwhile");
    let agent = json!({"kind": "agent", "id": "indexer", "reason": "no longer used"});
    let first = post(&admin, "/admin/revocations", &agent).await;
    let repeated = post(&cluster.admin(1), "/admin/revocations", &agent).await;
    assert_eq!((&repeated["changed"], &repeated["number"]), (&json!(0), &first["number"]), "once is as good as twice");
    // Who comes back is somebody new.
    until("a later session counts", || async {
        let later = open().await;
        let answer = cluster.gateway(1).bearer(&later).submit(&order).await.expect("an answer");
        answer.is_accepted().then_some(())
    })
    .await;

    let listed = get(&cluster.admin(1), "/admin/revocations").await;
    assert_eq!((&listed["total"], &listed["lost"], &listed["number"]), (&json!(2), &json!(false), &first["number"]));
    assert_eq!(listed["revocations"][0]["kind"], "agent", "newest first");
    let shown = &listed["revocations"][1];
    assert_eq!((&shown["kind"], &shown["id"], &shown["by"]), (&wish["kind"], &wish["id"], &json!("admin_token")));
    assert_eq!((&shown["reason"], &shown["revoked_at"]), (&wish["reason"], &shown["not_before"]));

    let events = get(&admin, "/admin/audit?event=principal.revoked&by=admin_token").await;
    let events = events["events"].as_array().expect("a list");
    assert_eq!(events.len(), 2, "{events:?}");
    let (entries, head) = exported(&admin, "stream=audit").await;
    let range = verify_chain(&entries, head.as_ref()).expect("whole").expect("entries");
    let number = events[0]["n"].as_u64().expect("a number");
    assert!((range.first..=range.last.number).contains(&number), "{number}: {range:?}");
    assert!(events[0]["hash"].as_str().is_some_and(|hash| hash.len() == 40) && events[0]["prev"].is_string());
}

#[tokio::test]
async fn an_export_in_pieces_is_the_whole() {
    let mut cluster = start(cluster()).await;
    cluster.stand_in(1000).await.expect("capacity");
    let order = Submission::new("demo", json!(1));
    for _ in 0..5 {
        accepted(&cluster.gateway(0).caller("paid", "ada"), &order).await;
    }
    let admin = cluster.admin(0);
    for index in 0..5 {
        let wish = json!({"kind": "agent", "id": format!("agent-{index}"), "reason": "to have events"});
        post(&admin, "/admin/revocations", &wish).await;
    }
    for stream in ["audit", "decision"] {
        let (whole, head) = exported(&admin, &format!("stream={stream}")).await;
        let head = head.expect("a chain that has begun has a head");
        assert!(verify_chain(&whole, Some(&head)).expect("whole").is_some_and(|range| range.first == 1), "{stream}");
        let mut pieces: Vec<ChainEntry> = Vec::new();
        let last = loop {
            let after = pieces.last().map(|entry| format!("&after={}", entry.id)).unwrap_or_default();
            let (piece, head) = exported(&admin, &format!("stream={stream}&limit=2{after}")).await;
            assert!(piece.len() == 2 || head.is_some(), "{stream}");
            pieces.extend(piece);
            if let Some(head) = head {
                break head;
            }
        };
        // More may have been written meanwhile.
        assert!(last.number >= head.number && pieces.starts_with(&whole), "{stream}");
        verify_chain(&pieces, Some(&last)).expect("whole");
    }
}

#[tokio::test]
async fn the_changes_of_a_caller_are_counted_wherever_it_makes_them_and_whatever_it_calls_itself() {
    let identity = identity();
    let path = identity.path().to_str().expect("a path").to_owned();
    let cluster = start(cluster().gateways(2).env("PORTCULLIS_IDENTITY_PATH", &path)).await;
    let wish = json!({"kind": "principal", "id": "mallory", "reason": "left"});
    let change = async |number: usize| {
        let operator = cluster.admin(number).bearer(OPERATOR);
        let operator = operator
            .with_header("x-request-id", &format!("r-{number}"))
            .with_header("user-agent", &format!("agent-{number}"))
            .with_header("x-agent-id", &format!("agent-{number}"));
        let answer = operator.post("/admin/revocations", &wish).await.expect("an answer");
        if answer.status == 429 {
            assert_eq!((answer.code(), &answer.body["limit"]), ("rate_limit", &json!("writes")));
            assert!(answer.retry_after().is_some());
        }
        answer.status
    };
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for status in join_all((0..80).map(change)).await {
        *statuses.entry(status).or_default() += 1;
    }
    assert_eq!(statuses, [(200, 60), (429, 20)].into());
    // Neither can it change the policy; nothing of that has changed, and it may still look.
    let operator = cluster.admin(0).bearer(OPERATOR);
    let lease = json!({"queue": {"lease_ms": 20_000}});
    let answer = operator.post("/admin/gateway/update-config", &lease).await.expect("an answer");
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert_eq!(get(&operator, "/admin/gateway/config").await["revision"], 0);
    let mut dry = lease.clone();
    dry["dry_run"] = json!(true);
    post(&operator, "/admin/gateway/update-config", &dry).await;
    // The bearer of the token is not counted.
    assert_eq!(post(&cluster.admin(0), "/admin/gateway/update-config", &lease).await["revision"], 1);
    let by = get(&operator, "/admin/audit?event=principal.revoked").await;
    assert_eq!(by["events"][0]["by"], "user:grace", "{by}");

    let foreign = operator.get("/admin/audit?tenant=globex").await.expect("an answer");
    let missing = operator.get("/admin/nothing").await.expect("an answer");
    assert_eq!((foreign.status, foreign.text.len()), (404, missing.text.len()));
}
