//! The server that was told of a revocation dies, and one takes its place that was told, or was not.
//!
//! Responsible for certainty about which of both it is: a replica that is not to have the revocation has lost its
//! primary before, and cannot hear of it. Must never let who is revoked through at any moment in between.

use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::cluster::{Layout, Topology, TopologyKind};
use portcullis_loadtest::credentials::principal_of;
use serde_json::json;

use super::cast::{Cast, boundless, read};
use crate::fixture::{cluster, until};

const GATEWAYS: usize = 2;

/// Somebody at every gateway.
type Everywhere = Vec<Client>;

struct Scene {
    cast: Cast,
    /// An agent of somebody whom nobody revokes.
    alive: Everywhere,
    /// An agent, a session and a token of the provider's of who is revoked.
    revoked: [Everywhere; 3],
    /// Whom the provider vouches for.
    person: Everywhere,
    primary: usize,
    replica: usize,
}

impl Scene {
    async fn on(topology: TopologyKind) -> Self {
        let layout = Layout { topology, replicas: 1, ..Layout::default() };
        let policy = json!({ "rate_limits": boundless() });
        let mut cast = Cast::on(cluster().gateways(GATEWAYS).redis(layout).policy(policy)).await;
        cast.cluster.stand_in(1000).await.expect("capacity");
        let eve = principal_of("eve");
        let jwt = |subject| cast.credentials.jwt(subject, &["paid"]).expect("a token");
        let revoked = [cast.crew(&eve).reading.presented().to_owned(), cast.log_in("eve").await, jwt("eve")];
        let (alive, person) = (cast.crew(&principal_of("ada")).reading.presented().to_owned(), jwt("carol"));
        let everywhere =
            |token: &str| -> Everywhere { (0..GATEWAYS).map(|at| cast.cluster.gateway(at).bearer(token)).collect() };
        let (alive, person) = (everywhere(&alive), everywhere(&person));
        let revoked = revoked.each_ref().map(|token| everywhere(token));
        let prefix = cast.cluster.key_prefix();
        let topology = cast.cluster.topology().expect("its own");
        let primary = topology.primary_of(&prefix).await.expect("a primary");
        let replica = replica_of(topology, primary).await;
        let scene = Self { cast, alive, revoked, person, primary, replica };
        for client in scene.revoked.iter().flatten().chain(&scene.alive).chain(&scene.person) {
            assert_eq!((read(client).await, submit(client).await), (200, 202));
        }
        scene
    }

    /// By the operator, and until every gateway holds it.
    async fn revoke(&self) {
        let wish = json!({ "kind": "principal", "id": principal_of("eve"), "reason": "stolen" });
        let answer = self.cast.cluster.admin(0).post("/admin/revocations", &wish).await.expect("an answer");
        assert_eq!((answer.status, &answer.body["changed"]), (200, &json!(1)), "{}", answer.text);
        for client in self.revoked.iter().flatten() {
            until("it is heard", || async { (read(client).await == 401).then_some(()) }).await;
        }
    }

    /// Nobody who is revoked gets anything at any gateway.
    async fn keeps_out_the_revoked(&self) {
        for client in self.revoked.iter().flatten() {
            for status in [read(client).await, submit(client).await] {
                assert!([401, 503].contains(&status), "{status}");
            }
        }
    }

    /// The primary dies; until the other serves whom the provider vouches for.
    async fn fail_over(&mut self) {
        let prefix = self.cast.cluster.key_prefix();
        let topology = self.cast.cluster.topology().expect("its own");
        topology.server(self.primary).expect("there").kill().await.expect("killed");
        topology.server(self.replica).expect("there").resume().expect("awake");
        let (topology, replica) = (&*self.cast.cluster.topology().expect("its own"), self.replica);
        until("the replica serves the scope", || async {
            (topology.primary_of(&prefix).await.ok() == Some(replica)).then_some(())
        })
        .await;
        for client in &self.person {
            until("people are served", || async {
                self.keeps_out_the_revoked().await;
                (submit(client).await == 202).then_some(())
            })
            .await;
        }
    }
}

async fn submit(client: &Client) -> u16 {
    client.submit(&Submission::new("demo", json!(1))).await.expect("an answer").status
}

async fn replica_of(topology: &Topology, primary: usize) -> usize {
    let of = format!("master_port:{}", topology.servers()[primary].address().port());
    for (index, server) in topology.servers().iter().enumerate() {
        let info = server.ask("INFO replication").await.expect("an answer");
        if info.lines().any(|line| line.trim_end() == of) {
            return index;
        }
    }
    panic!("it has no replica")
}

/// How far a server is in what is replicated.
async fn offset(topology: &Topology, server: usize) -> u64 {
    let info = topology.servers()[server].ask("INFO replication").await.expect("an answer");
    let name = if info.contains("role:slave") { "slave_repl_offset:" } else { "master_repl_offset:" };
    let offset = info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.parse().ok());
    offset.expect("an offset")
}

async fn a_revocation_that_is_lost_is_noticed(topology: TopologyKind) {
    let mut scene = Scene::on(topology).await;
    let (primary, replica) = (scene.primary, scene.replica);
    let topology = scene.cast.cluster.topology().expect("its own");
    topology.server(replica).expect("there").pause().expect("frozen");
    // Whatever is written from here on never reaches it.
    let cut = topology.servers()[primary].ask("CLIENT KILL TYPE replica").await.expect("an answer");
    assert_eq!(cut, "1");
    scene.revoke().await;
    scene.fail_over().await;

    for client in &scene.alive {
        assert_eq!(submit(client).await, 503, "nobody knows whether it is alive");
        until("nor is it read", || async { (read(client).await == 503).then_some(()) }).await;
    }
    scene.keeps_out_the_revoked().await;
    let shown = scene.cast.cluster.admin(1).get("/admin/revocations").await.expect("an answer");
    assert_eq!((&shown.body["lost"], &shown.body["total"]), (&json!(true), &json!(0)), "{}", shown.text);

    let reason = json!({ "reason": "looked" });
    let noted = scene.cast.cluster.admin(0).post("/admin/revocations/acknowledge", &reason).await.expect("an answer");
    assert_eq!((noted.status, &noted.body["lost"]), (200, &json!(false)), "{}", noted.text);
    for client in &scene.alive {
        until("agents act again", || async { (submit(client).await == 202).then_some(()) }).await;
    }
}

#[tokio::test]
async fn behind_sentinel_a_revocation_that_the_new_primary_lacks_is_noticed() {
    Box::pin(a_revocation_that_is_lost_is_noticed(TopologyKind::Sentinel)).await;
}

#[tokio::test]
async fn on_a_redis_cluster_a_revocation_that_the_new_primary_lacks_is_noticed() {
    Box::pin(a_revocation_that_is_lost_is_noticed(TopologyKind::Cluster)).await;
}

#[tokio::test]
async fn a_revocation_that_the_new_primary_has_holds_and_stops_nobody_else() {
    let mut scene = Scene::on(TopologyKind::Sentinel).await;
    scene.revoke().await;
    let (topology, primary, replica) = (scene.cast.cluster.topology().expect("its own"), scene.primary, scene.replica);
    let (topology, told) = (&*topology, offset(topology, primary).await);
    until("the replica has it", || async { (offset(topology, replica).await >= told).then_some(()) }).await;
    scene.fail_over().await;

    for client in &scene.alive {
        until("agents act", || async { (submit(client).await == 202).then_some(()) }).await;
        until("agents read", || async { (read(client).await == 200).then_some(()) }).await;
    }
    for client in scene.revoked.iter().flatten() {
        until("it is refused", || async { (submit(client).await == 401).then_some(()) }).await;
        until("it is turned away", || async { (read(client).await == 401).then_some(()) }).await;
    }
    let shown = scene.cast.cluster.admin(0).get("/admin/revocations").await.expect("an answer");
    assert_eq!((&shown.body["lost"], &shown.body["total"]), (&json!(false), &json!(1)), "{}", shown.text);
}
