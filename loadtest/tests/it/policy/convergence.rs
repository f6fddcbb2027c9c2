//! Which replica holds which policy: everybody is listed, who is behind is named, who is dead does not count.

use portcullis_loadtest::Client;
use serde_json::{Value, json};

use super::operator::{accepted, convergence, number, strings};
use crate::fixture::{cluster, start, until};

/// An update that waits for all replicas; what it says of them.
async fn update_and_wait(admin: &Client, size: u64, seconds: u64) -> Value {
    let change = json!({ "limits": { "max_queue_size": size } });
    let path = format!("/admin/gateway/update-config?wait={seconds}");
    let answer = accepted(admin.post(&path, &change).await.expect("an answer"));
    assert_eq!(answer["convergence"]["revision"], answer["revision"]);
    answer["convergence"].clone()
}

fn replicas<'a>(convergence: &'a Value, role: &str) -> Vec<&'a Value> {
    let all = convergence["replicas"].as_array().unwrap_or_else(|| panic!("no replicas: {convergence}"));
    all.iter().filter(|replica| replica["role"] == role).collect()
}

/// The name under which the process that was started as `instance` reports.
fn name_of(convergence: &Value, role: &str, instance: &str) -> String {
    let names = replicas(convergence, role).into_iter().filter_map(|replica| replica["name"].as_str());
    names.filter(|name| name.contains(instance)).map(str::to_owned).next().unwrap_or_else(|| panic!("{convergence}"))
}

#[tokio::test]
async fn every_replica_is_listed_with_what_it_holds() {
    let cluster = start(cluster().gateways(2).processors(2)).await;
    for size in 1..=3 {
        let seen = update_and_wait(&cluster.admin(size as usize), size, 60).await;
        assert_eq!((&seen["converged"], strings(&seen["waiting_for"])), (&json!(true), vec![]), "{seen}");
        assert_eq!((replicas(&seen, "gateway").len(), replicas(&seen, "processor").len()), (2, 2), "{seen}");
        for replica in replicas(&seen, "gateway").into_iter().chain(replicas(&seen, "processor")) {
            assert_eq!((&replica["revision"], &replica["live"]), (&json!(size), &json!(true)), "{seen}");
            assert!(replica["age_ms"].is_u64() && replica["fault"].is_null(), "{replica}");
            let [since, heard] = ["since_at", "last_heard_at"].map(|field| replica[field].as_str().expect("a time"));
            assert!(since <= heard, "{replica}");
        }
    }
    // Through whichever gateway it is asked for.
    for index in 0..2 {
        let seen = convergence(&cluster.admin(index)).await;
        assert_eq!((&seen["revision"], &seen["converged"]), (&json!(3), &json!(true)), "{seen}");
    }
}

#[tokio::test]
async fn a_replica_that_hangs_is_named_until_it_has_caught_up() {
    // Frozen, it must count as live for as long as this takes.
    let policy = json!({ "monitoring": { "heartbeat_timeout_seconds": 120 } });
    let mut cluster = start(cluster().gateways(2).processors(2).policy(policy)).await;
    let admin = cluster.admin(0);
    let seen = update_and_wait(&admin, 1, 60).await;
    assert_eq!(seen["converged"], json!(true), "{seen}");
    let hanging = [name_of(&seen, "gateway", "gateway-1"), name_of(&seen, "processor", "processor-0")];

    cluster.gateways()[1].pause().expect("frozen");
    cluster.processors()[0].pause().expect("frozen");
    let seen = update_and_wait(&admin, 2, 1).await;
    // The others have a second, which is enough unless the machine has none for them.
    let others_too = strings(&seen["waiting_for"]);
    assert!(hanging.iter().all(|name| others_too.contains(&name.as_str())), "{seen}");
    assert_eq!(seen["converged"], json!(false));
    until("only those that hang are waited for", || async {
        let seen = convergence(&admin).await;
        assert_eq!(seen["converged"], json!(false), "{seen}");
        (strings(&seen["waiting_for"]) == hanging).then_some(())
    })
    .await;
    for replica in convergence(&admin).await["replicas"].as_array().expect("replicas") {
        let behind = hanging.iter().any(|name| replica["name"] == *name);
        assert_eq!(replica["revision"], json!(if behind { 1 } else { 2 }), "{replica}");
    }

    cluster.gateways()[1].resume().expect("awake again");
    cluster.processors()[0].resume().expect("awake again");
    until("all have caught up", || async {
        let seen = convergence(&admin).await;
        (seen["converged"] == json!(true) && strings(&seen["waiting_for"]).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_died_stops_counting() {
    let policy = json!({ "monitoring": { "heartbeat_timeout_seconds": 3 } });
    let mut cluster = start(cluster().gateways(2).processors(2).policy(policy)).await;
    let admin = cluster.admin(0);
    let seen = update_and_wait(&admin, 1, 60).await;
    let dead = [name_of(&seen, "gateway", "gateway-1"), name_of(&seen, "processor", "processor-0")];
    cluster.gateways()[1].kill().await.expect("killed");
    cluster.processors()[0].kill().await.expect("killed");

    let seen = update_and_wait(&admin, 2, 60).await;
    assert_eq!(seen["converged"], json!(true), "{seen}");
    let live: Vec<&Value> =
        seen["replicas"].as_array().expect("replicas").iter().filter(|replica| replica["live"] == true).collect();
    assert_eq!(live.len(), 2, "{seen}");
    assert!(live.iter().all(|replica| replica["revision"] == json!(2)), "{seen}");
    assert!(live.iter().all(|replica| dead.iter().all(|name| replica["name"] != **name)), "{seen}");
    // Gateways are remembered for ten timeouts: it is not because it is forgotten that it does not count.
    assert!(replicas(&seen, "gateway").iter().any(|replica| replica["name"] == *dead[0]), "{seen}");
}

#[tokio::test]
async fn a_replica_that_starts_late_counts_from_its_start_with_the_stored_policy() {
    let mut cluster = start(cluster().gateways(1).processors(1)).await;
    update_and_wait(&cluster.admin(0), 1, 60).await;
    cluster.add_gateway().await.expect("another gateway");
    cluster.add_processor().await.expect("another processor");
    for index in 0..2 {
        let admin = cluster.admin(index);
        until("all four are listed and in step", || async {
            let seen = convergence(&admin).await;
            let all = replicas(&seen, "gateway").len() + replicas(&seen, "processor").len();
            (all == 4 && seen["converged"] == json!(true) && number(&seen) == 1).then_some(())
        })
        .await;
    }
}
