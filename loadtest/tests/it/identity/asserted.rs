//! Sessions and delegations follow what a balancer says of their principal.
//!
//! Responsible for a provider that dates nothing: its headers say when they are over, and not since when their balancer
//! has known. Must never rest on which of two headers was signed first.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::Router;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use portcullis_loadtest::client::{Client, Submission};
use portcullis_lua::ScopeStore;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::agent::mint;
use super::key::now_seconds;
use super::sight::who;
use super::terms::Terms;
use crate::fixture::{Fixture, accepted, record, start, until};

const SIGNER: &str = "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/app/front/1";
const KID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// A balancer in front of two gateways.
struct Scene {
    cluster: Fixture,
    store: ScopeStore,
    key: EcdsaKeyPair,
    _serving: JoinSet<()>,
}

impl Scene {
    async fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().expect("DER");
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = Router::new().route(&format!("/{KID}"), get(async || pem));
        let mut serving = JoinSet::new();
        serving.spawn(async move { drop(axum::serve(listener, routes).await) });
        let alb = json!({
            "signer": SIGNER, "region": "eu-central-1", "subnets": ["127.0.0.1/32"], "principal_prefix": "alb:",
            "key_url": url, "groups_claim": ["groups"], "user_types": { "paid": "paid" },
        });
        let mut cluster = start(Terms::new().section("alb", alb).cluster().gateways(2)).await;
        cluster.stand_in(100).await.expect("capacity");
        let store = cluster.store().await.expect("a store");
        Self { cluster, store, key, _serving: serving }
    }

    /// Ada, of these groups by what the balancer says to this gateway.
    fn said(&self, gateway: usize, groups: &[&str]) -> Client {
        let part = |value: &Value| URL_SAFE.encode(value.to_string());
        let expires = now_seconds() + 120;
        let head = json!({ "typ": "JWT", "alg": "ES256", "kid": KID, "signer": SIGNER, "exp": expires });
        let signed = format!("{}.{}", part(&head), part(&json!({ "sub": "ada", "groups": groups })));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        let header = format!("{signed}.{}", URL_SAFE.encode(signature.as_ref()));
        self.cluster.gateway(gateway).with_header("x-amzn-oidc-data", &header)
    }

    /// A session that this caller opens, at the second gateway.
    async fn session(&self, client: &Client) -> Client {
        let opened = client.post("/v1/sessions", &json!({})).await.expect("an answer");
        assert_eq!(opened.status, 201, "{}", opened.text);
        self.cluster.gateway(1).bearer(opened.body["token"].as_str().expect("a token"))
    }

    /// Waits until the second gateway has heard that this session is paid again.
    async fn raised(&self, session: &Client) {
        until("it is raised", || async { (who(session).await == "alb:ada by session as paid").then_some(()) }).await;
    }

    /// As what a task of this caller's was charged.
    async fn charged(&self, client: &Client) -> String {
        let task_id = accepted(client, &Submission::new("demo", json!(1))).await;
        record(&self.store, &task_id).await.envelope.user_type.to_string()
    }
}

#[tokio::test]
async fn the_last_thing_a_balancer_says_is_what_its_users_are() {
    let scene = Scene::new().await;
    let session = scene.session(&scene.said(0, &["paid"])).await;
    // What is delegated in a session is as old as the session, and says nothing about who it is by now.
    let helper = mint(&session, "helper", &["tasks:submit:demo"], json!({ "max_depth": 1 })).await;
    let helper = scene.cluster.gateway(1).bearer(helper.presented());
    for client in [&session, &helper] {
        assert_eq!(scene.charged(client).await, "paid");
    }
    assert_eq!(who(&scene.said(0, &[])).await, "alb:ada by balancer as registered");
    for client in [&session, &helper] {
        assert_eq!(scene.charged(client).await, "registered");
    }
    // Who logs in again is what the balancer says then, and so is what there was before.
    let again = scene.session(&scene.said(0, &["paid"])).await;
    scene.raised(&again).await;
    for client in [&again, &session, &helper] {
        assert_eq!(scene.charged(client).await, "paid");
    }
}

#[tokio::test]
async fn sessions_do_not_follow_every_turn_of_two_logins_that_say_different_things() {
    let scene = Scene::new().await;
    let session = scene.session(&scene.said(0, &["paid"])).await;
    assert_eq!(who(&scene.said(0, &[])).await, "alb:ada by balancer as registered");
    assert_eq!(scene.charged(&session).await, "registered");
    let number = scene.store.revocations().await.expect("an answer").number;
    for _ in 0..10 {
        assert_eq!(who(&scene.said(0, &["paid"])).await, "alb:ada by balancer as paid");
        assert_eq!(who(&scene.said(0, &[])).await, "alb:ada by balancer as registered");
    }
    assert_eq!(scene.store.revocations().await.expect("an answer").number, number, "nobody has to read anything anew");
    assert_eq!(scene.charged(&session).await, "registered");
    // Another gateway has not heard the one that said less, and asks.
    assert_eq!(who(&scene.said(1, &["paid"])).await, "alb:ada by balancer as paid");
    assert_eq!(scene.store.revocations().await.expect("an answer").number, number);
    assert_eq!(scene.charged(&session).await, "registered");
}
