//! An export of a chain, whole and after somebody was at it, as an operator reads and checks it.
//!
//! Responsible for what was written by a whole cluster, and for the command that needs none. Must never repair what it
//! broke: each attempt has a copy.

use std::process::Stdio;

use portcullis_loadtest::client::Submission;
use portcullis_loadtest::credentials::Credentials;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::fixture::{Fixture, accepted, cluster, start};

const TASKS: usize = 12;
/// The streams that much is written to, as the route calls them and as Redis does.
const STREAMS: [&str; 2] = ["decision", "audit"];

/// What `verify-audit` says of these lines, and whether it is content.
pub(crate) async fn verdict(lines: &[Value]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-loadtest"));
    command.args(["gateway", "verify-audit", "-"]).kill_on_drop(true);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("started");
    let mut stdin = child.stdin.take().expect("its input");
    for line in lines {
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("read");
    }
    drop(stdin);
    let output = child.wait_with_output().await.expect("ended");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    (output.status.success(), said)
}

/// Fails unless the command finds these lines broken, in these words.
async fn is_broken(lines: &[Value], words: &[&str]) {
    let (content, said) = verdict(lines).await;
    assert!(!content && words.iter().any(|words| said.contains(words)), "{words:?}: {said}");
}

/// A line for each entry, then the head.
pub(crate) async fn export(cluster: &Fixture, stream: &str) -> Vec<Value> {
    let path = format!("/admin/audit/export?stream={stream}");
    let answer = cluster.admin(1).get(&path).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

/// A cluster with events of many kinds in the chains of audit and decisions.
async fn written() -> Fixture {
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
    cluster
}

#[tokio::test]
async fn an_export_is_whole_and_whatever_is_done_to_it_is_found() {
    let cluster = written().await;
    for stream in STREAMS {
        let whole = export(&cluster, stream).await;
        let (content, said) = verdict(&whole).await;
        assert!(content && whole.len() > TASKS, "{said}");
        let changed = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut copy = whole.clone();
            change(&mut copy);
            copy
        };
        is_broken(&changed(&|lines| lines.swap(3, 4)), &["are missing", "out of order"]).await;
        is_broken(&changed(&|lines| drop(lines.remove(5))), &["are missing"]).await;
        // Behind `prev`, `hash` and `n` come the fields that say something.
        is_broken(&changed(&|lines| lines[6]["fields"][4][1] = json!("another")), &["has been changed"]).await;
        is_broken(&changed(&|lines| lines[6]["fields"][4][0] = json!("another")), &["has been changed"]).await;
        let foreign = json!({ "id": "1-1", "fields": [["event", "nothing"]] });
        is_broken(&changed(&|lines| lines.insert(7, foreign.clone())), &["no entry of a chain"]).await;
        is_broken(&changed(&|lines| lines.insert(7, lines[2].clone())), &["out of order"]).await;
        // The last line is the head.
        let newest = whole.len() - 2;
        is_broken(&changed(&|lines| drop(lines.remove(newest))), &["its head is entry"]).await;
    }
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
    let cluster = written().await;
    let probe = cluster.probe().await.expect("a connection");
    for stream in STREAMS {
        let key = format!("{}:{stream}", cluster.key_prefix());
        let whole = export(&cluster, stream).await;
        let id = |line: usize| whole[line]["id"].as_str().expect("an id");
        let forged = probe.command("EVAL", [FORGE, "1", &key]).await.expect("forged");
        let forged: String = forged.convert().expect("an id");
        is_broken(&export(&cluster, stream).await, &[&format!("({forged}) has been changed")]).await;
        probe.command("XDEL", [&key, &forged]).await.expect("deleted");

        probe.command("XDEL", [&key, id(whole.len() - 2)]).await.expect("deleted");
        is_broken(&export(&cluster, stream).await, &["its head is entry"]).await;
        probe.command("XDEL", [&key, id(5)]).await.expect("deleted");
        is_broken(&export(&cluster, stream).await, &["are missing"]).await;
    }
}
