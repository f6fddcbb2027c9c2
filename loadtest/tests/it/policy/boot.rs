//! Which document a replica begins with: the stored one, then what its environment names, then the shipped one.
//!
//! Responsible for the precedence at a start, with Redis there or not. Must never pass a setting by another way than a
//! deployment would: environment variables and files.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::Submission;
use serde_json::{Value, json};

use super::operator::{config, decided_under, number, revisions, updated};
use crate::fixture::{Fixture, accepted_at_last, cluster, impatient_cluster, start, until};

const FORCE: &str = "GATEWAY_CONFIG_FORCE_ENV_ON_STARTUP";
const JSON: &str = "GATEWAY_CONFIG_JSON";

/// A document with a number that tells it from others.
fn marked(number: u64) -> Value {
    json!({ "limits": { "max_queue_size": number } })
}

/// Revision and mark of the policy in force at a gateway.
async fn in_force(admin: &Client) -> (u64, u64) {
    let config = config(admin).await;
    (number(&config), config["effective"]["limits"]["max_queue_size"].as_u64().expect("a number"))
}

async fn add_gateway(cluster: &mut Fixture) -> Client {
    cluster.add_gateway().await.expect("it starts");
    let last = cluster.gateways().len() - 1;
    cluster.admin(last)
}

/// Waits until this many gateways and one processor hold what is stored; its revision.
async fn converged(admin: &Client, gateways: usize) -> u64 {
    until("every replica holds what is stored", || async {
        let convergence = admin.get("/admin/gateway/config/convergence").await.ok()?.body;
        let live = |role: &str| {
            let replicas = convergence["replicas"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
            replicas.filter(|replica| replica["role"] == role && replica["live"] == json!(true)).count()
        };
        let all = convergence["converged"] == json!(true) && (live("gateway"), live("processor")) == (gateways, 1);
        all.then(|| number(&convergence))
    })
    .await
}

#[tokio::test]
async fn the_environment_is_searched_in_its_order_and_the_stored_document_comes_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = |name: &str, number: u64| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("limits:\n  max_queue_size: {number}\n")).expect("written");
        path.to_string_lossy().into_owned()
    };
    yaml("gateway.yaml", 11);
    let other = yaml("other.yaml", 12);
    // A variable set to nothing is not set: the shipped document has no bound.
    let mut cluster = start(cluster().env(JSON, "")).await;
    assert_eq!(in_force(&cluster.admin(0)).await, (0, 0));
    cluster.set_env("PLATFORM_DESCRIPTORS_DIR", &folder.path().to_string_lossy());
    assert_eq!(in_force(&add_gateway(&mut cluster).await).await, (0, 11));
    cluster.set_env("GATEWAY_YAML_PATH", &other);
    assert_eq!(in_force(&add_gateway(&mut cluster).await).await, (0, 12));
    cluster.set_env(JSON, &marked(13).to_string());
    assert_eq!(in_force(&add_gateway(&mut cluster).await).await, (0, 13));

    updated(&cluster.admin(1), &marked(14)).await;
    cluster.set_env(JSON, &marked(15).to_string());
    let late = add_gateway(&mut cluster).await;
    assert_eq!(in_force(&late).await, (1, 14));
    let index = cluster.gateways().len() - 1;
    let first = cluster.gateway(index).caller("paid", "ada").limits().await.expect("an answer");
    assert_eq!(decided_under(&first), 1, "from its first answer on");
    cluster.add_processor().await.expect("a processor");
    assert_eq!(converged(&late, index + 1).await, 1);
    let processors = late.get("/admin/processors").await.expect("an answer").body;
    assert_eq!(processors["processors"][0]["policy_revision"], json!(1), "{processors}");
    assert_eq!(revisions(&late).await.len(), 1, "starting stores nothing");
}

#[tokio::test]
async fn forced_replicas_make_their_document_a_revision_once_and_only_if_it_differs() {
    const GATEWAYS: usize = 3;
    let mut cluster = start(cluster().gateways(0).env(FORCE, "1")).await;
    // Started with a document, again with the same, with another, and so on.
    for (mark, revision) in [(21, 1), (21, 1), (22, 2), (21, 3), (21, 3)] {
        for mut gateway in std::mem::take(cluster.gateways()) {
            gateway.terminate().expect("asked to end");
            gateway.wait().await.expect("it ends");
        }
        for mut processor in std::mem::take(cluster.processors()) {
            processor.terminate().expect("asked to end");
            processor.wait().await.expect("it ends");
        }
        cluster.set_env(JSON, &marked(mark).to_string());
        cluster.add_gateways(GATEWAYS).await.expect("they start");
        cluster.add_processor().await.expect("it starts");
        let admin = cluster.admin(0);
        until("the forced document is in force", || async {
            (in_force(&admin).await == (revision, mark)).then_some(())
        })
        .await;
        assert_eq!(converged(&admin, GATEWAYS).await, revision);
        let kept: Vec<(u64, Value)> =
            revisions(&admin).await.iter().map(|each| (number(each), each["origin"].clone())).collect();
        let all: Vec<(u64, Value)> = (1..=revision).rev().map(|each| (each, json!("boot"))).collect();
        assert_eq!(kept, all, "started with {mark}");
    }
}

#[tokio::test]
async fn a_gateway_started_while_redis_is_away_follows_the_stored_document_once_it_is_back() {
    let mut cluster = start(impatient_cluster().append_only(true).processors(1).policy(marked(31))).await;
    assert_eq!(number(&updated(&cluster.admin(0), &marked(32)).await), 1);
    let work = Submission::new("demo", json!(1));

    cluster.redis().expect("its own").stop().await.expect("stopped");
    cluster.set_env(JSON, &marked(33).to_string());
    let late = cluster.add_gateway().await.expect("it starts without redis").caller("paid", "ada");
    assert_eq!(late.submit(&work).await.expect("an answer").code(), "store_unavailable");
    cluster.redis().expect("its own").start_again().await.expect("started again");
    accepted_at_last(&late, &work).await;
    let decisions = cluster.store().await.expect("a store").decisions(100).await.expect("an answer");
    let admitted: Vec<_> = decisions.iter().filter(|decision| decision.outcome == "admitted").collect();
    assert!(!admitted.is_empty() && admitted.iter().all(|decision| decision.policy_revision == 1), "{decisions:?}");
    assert_eq!(in_force(&cluster.admin(1)).await, (1, 32));

    cluster.redis().expect("its own").stop().await.expect("stopped");
    cluster.set_env(FORCE, "true");
    cluster.add_gateway().await.expect("it starts without redis");
    cluster.redis().expect("its own").start_again().await.expect("started again");
    for index in 0..3 {
        let admin = cluster.admin(index);
        until("the forced document is in force everywhere", || async {
            let answer = admin.get("/admin/gateway/config").await.ok()?;
            (answer.status == 200 && in_force(&admin).await == (2, 33)).then_some(())
        })
        .await;
    }
    let revisions = revisions(&cluster.admin(0)).await;
    let origins: Vec<Value> = revisions.iter().map(|each| each["origin"].clone()).collect();
    assert_eq!(origins, [json!("boot"), json!("update")]);
    assert_eq!(revisions[0]["changed"], revisions[1]["changed"], "the same setting was changed");
    assert_eq!(revisions[0]["changed"].as_array().map(Vec::len), Some(1));
}
