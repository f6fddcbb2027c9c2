//! The same cluster over Sentinel, over Redis Cluster and over links that are cut: tasks are served, and served again
//! after the primary is gone.

use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::cluster::{Layout, Member, TopologyKind};
use serde_json::json;

use crate::fixture::{Fixture, accepted_at_last, cluster, ended, impatient_cluster, start, until};

/// A task of each caller runs to its end, whichever gateway takes it.
async fn serves(cluster: &Fixture, gateways: usize) {
    for index in 0..gateways {
        let client = cluster.gateway(index).caller("privileged", "ada");
        let task_id = accepted_at_last(&client, &Submission::new("demo", json!(index))).await;
        assert_eq!(ended(&client, &task_id).await.task_status(), "succeeded");
    }
}

/// Kills the server that serves the scope; waits until another does, and everything is as it was.
async fn survives_the_loss_of_the_primary(cluster: &mut Fixture) {
    serves(cluster, 2).await;
    let prefix = cluster.key_prefix();
    let topology = cluster.topology().expect("its own");
    let first = topology.primary_of(&prefix).await.expect("a primary");
    topology.server(first).expect("there").kill().await.expect("killed");
    let topology = &*topology;
    let second = until("another serves the scope", || async {
        topology.primary_of(&prefix).await.ok().filter(|index| *index != first)
    })
    .await;
    serves(cluster, 2).await;

    let topology = cluster.topology().expect("its own");
    topology.server(first).expect("there").start_again().await.expect("started again");
    let topology = &*topology;
    until("the old primary follows the new one", || async {
        let info = topology.servers()[first].ask("INFO replication").await.ok()?;
        (info.contains("role:slave") && info.contains("master_link_status:up")).then_some(())
    })
    .await;
    assert_eq!(topology.primary_of(&prefix).await.expect("a primary"), second);
    serves(cluster, 2).await;
}

#[tokio::test]
async fn behind_sentinel_a_cluster_goes_on_after_a_failover() {
    let layout = Layout { topology: TopologyKind::Sentinel, replicas: 1, ..Layout::default() };
    let mut cluster = start(cluster().gateways(2).processors(1).redis(layout)).await;
    survives_the_loss_of_the_primary(&mut cluster).await;
}

#[tokio::test]
async fn on_a_redis_cluster_it_goes_on_after_a_failover() {
    let layout = Layout { topology: TopologyKind::Cluster, replicas: 1, ..Layout::default() };
    let mut cluster = start(cluster().gateways(2).processors(1).redis(layout)).await;
    survives_the_loss_of_the_primary(&mut cluster).await;
}

async fn code(client: &Client) -> String {
    client.submit(&Submission::new("demo", json!(1))).await.expect("an answer").code().to_owned()
}

#[tokio::test]
async fn a_gateway_that_is_cut_off_refuses_and_the_other_does_not() {
    let layout = Layout { proxied: true, ..Layout::default() };
    let cluster = start(impatient_cluster().gateways(2).processors(1).redis(layout)).await;
    serves(&cluster, 2).await;
    let clients = [0, 1].map(|index| cluster.gateway(index).caller("privileged", "ada"));

    cluster.link(Member::Gateway(0)).expect("a link").partition();
    until("it has noticed", || async { (code(&clients[0]).await == "store_unavailable").then_some(()) }).await;
    let task_id = accepted_at_last(&clients[1], &Submission::new("demo", json!(2))).await;
    assert_eq!(ended(&clients[1], &task_id).await.task_status(), "succeeded");

    cluster.link(Member::Gateway(0)).expect("a link").heal();
    serves(&cluster, 2).await;
}

#[tokio::test]
async fn a_process_is_started_again_in_its_place() {
    let mut cluster = start(cluster().gateways(2).processors(1)).await;
    for member in cluster.members() {
        cluster.member(member).expect("there").kill().await.expect("killed");
        cluster.start_again(member).await.expect("started again");
        assert_eq!(cluster.member(member).expect("there").name(), member.to_string());
    }
    serves(&cluster, 2).await;
}
