//! Proofs of possession (RFC 9449): what makes a stolen chain worthless.
//!
//! Responsible for a proof being good for one request of one holder. Must never let time pass: proofs that are old are
//! made old.

use portcullis_delegation::prove;
use portcullis_loadtest::client::Client;
use serde_json::{Value, json};

use super::agent::{Agent, bound, target};
use super::key::{Key, now_seconds};
use super::terms::{Terms, with_api_key};
use crate::fixture::start;

const PATH: &str = "/v1/limits";

async fn status(client: &Client) -> u16 {
    client.get(PATH).await.expect("an answer").status
}

/// The claims of the proof that the holder makes, and its header.
fn claims_of(proof: &str) -> (Value, Value) {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let part = |place: usize| {
        let bytes = URL_SAFE_NO_PAD.decode(proof.split('.').nth(place).expect("a part")).expect("base64url");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    (part(0), part(1))
}

#[tokio::test]
async fn a_proof_is_good_once_for_one_request_of_its_holder() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let cluster = start(terms.cluster().gateways(2)).await;
    let [anyone, elsewhere] = [cluster.gateway(0), cluster.gateway(1)];
    let ada = with_api_key(&anyone, "adaskey1");
    let agent = Agent::of(&ada, "orchestrator", &["quota:read"], json!({})).await;
    let other = Agent::of(&ada, "orchestrator", &["quota:read"], json!({})).await;
    let (chain, secret, now) = (&agent.chain, agent.key.secret(), now_seconds());

    let proof = agent.proof("GET", PATH);
    assert_eq!(status(&bound(&anyone, chain, &proof)).await, 200);
    assert_eq!(status(&bound(&anyone, chain, &proof)).await, 401, "used before");
    assert_eq!(status(&bound(&elsewhere, chain, &proof)).await, 401, "used before, at another gateway");
    assert_eq!(status(&bound(&elsewhere, chain, &agent.proof("GET", PATH))).await, 200);
    // All at once: exactly one is let in.
    let proof = agent.proof("GET", PATH);
    let clients: Vec<Client> = (0..20).map(|index| bound(&cluster.gateway(index), chain, &proof)).collect();
    let statuses = futures_util::future::join_all(clients.iter().map(status)).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 19, "{statuses:?}");

    let made = |method: &str, path: &str, at| prove(&secret, chain, method, &target(path), at).expect("a proof");
    let moved = "http://gw.example/v1/limits".parse().expect("an address");
    let another_host = format!("{}{PATH}", anyone.base()).parse().expect("an address");
    for (what, proof) in [
        ("another method", made("POST", PATH, now)),
        ("a method in small letters", made("get", PATH, now)),
        ("another path", made("GET", "/v1/tasks", now)),
        ("a longer path", made("GET", "/v1/limits/", now)),
        ("another scheme", prove(&secret, chain, "GET", &moved, now).expect("a proof")),
        ("the address it was sent to", prove(&secret, chain, "GET", &another_host, now).expect("a proof")),
        ("two minutes ago", made("GET", PATH, now - 120)),
        ("in two minutes", made("GET", PATH, now + 120)),
        ("another chain of the same holder", other_chain_of(&ada, &agent).await),
        ("another holder", other.proof("GET", PATH)),
        ("another key", prove(&other.key.secret(), chain, "GET", &target(PATH), now).expect("a proof")),
        ("nothing", String::new()),
        ("nonsense", "a.b.c".to_owned()),
        ("too much", "A".repeat(5000)),
    ] {
        assert_eq!(status(&bound(&anyone, chain, &proof)).await, 401, "{what}");
    }
    let with_query = agent.at(&anyone, "GET", PATH).get("/v1/limits?kind=demo").await.expect("an answer");
    assert_eq!(with_query.status, 200, "a query is not part of what is proven");
}

#[tokio::test]
async fn where_another_proxy_asks_the_proof_is_for_the_request_it_asks_about() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let agent = Agent::of(&with_api_key(&anyone, "adaskey1"), "caller", &["routes:call:*"], json!({})).await;
    let asked = async |proven: (&str, &str), said: [(&str, &str); 2], path: &str| {
        let client = agent.at(&anyone, proven.0, proven.1);
        let [uri, method] = said;
        client.with_header(uri.0, uri.1).with_header(method.0, method.1).get(path).await.expect("an answer").status
    };
    let nginx = [("x-original-uri", "/reports/7?full=1"), ("x-original-method", "PUT")];
    let traefik = [("x-forwarded-uri", "/reports/7?full=1"), ("x-forwarded-method", "PUT")];
    let about = ("PUT", "/reports/7");
    for (profile, said) in [("nginx", nginx), ("traefik", traefik), ("plain", nginx)] {
        let path = format!("/v1/decide?profile={profile}");
        let status = asked(about, said, &path).await;
        assert!(status != 401, "{profile}: {status}");
        for proven in [("GET", "/v1/decide"), ("GET", "/reports/7"), ("PUT", "/reports/8")] {
            assert_eq!(asked(proven, said, &path).await, 401, "{profile}: a proof for {proven:?}");
        }
    }
    // What one proxy would set, a client behind another may have written.
    assert_eq!(asked(about, traefik, "/v1/decide?profile=nginx").await, 401);
    assert_eq!(asked(about, nginx, "/v1/limits").await, 401, "an answer of its own has nobody else's request");
    let envoy = agent.at(&anyone, "GET", "/reports/7").get("/v1/decide/envoy/reports/7").await.expect("an answer");
    assert!(envoy.status != 401, "{}", envoy.text);
}

/// A proof by the key of this agent for another chain that is bound to it.
async fn other_chain_of(ada: &Client, agent: &Agent) -> String {
    let chain = super::agent::mint(ada, "orchestrator", &["quota:read"], json!({ "key": agent.key.jwk() })).await;
    Agent { key: agent.key.clone(), chain }.proof("GET", PATH)
}

#[tokio::test]
async fn a_proof_is_of_its_form_and_a_bound_chain_wants_one() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let agent = Agent::of(&with_api_key(&anyone, "adaskey1"), "orchestrator", &["quota:read"], json!({})).await;
    let signed = |head: &Value, claims: &Value| agent.key.sign(head, claims);
    let fresh = || claims_of(&agent.proof("GET", PATH));
    let (head, claims) = fresh();
    assert_eq!(status(&bound(&anyone, &agent.chain, &signed(&head, &claims))).await, 200, "a proof made by hand");
    for (name, value) in [
        ("typ", json!("JWT")),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("jwk", Key::generate().jwk()),
        ("crit", json!(["iat"])),
        ("kid", json!("mine")),
    ] {
        let (mut head, claims) = fresh();
        head[name] = value.clone();
        assert_eq!(status(&bound(&anyone, &agent.chain, &signed(&head, &claims))).await, 401, "{name} {value}");
    }
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        let (head, mut claims) = fresh();
        claims.as_object_mut().expect("an object").remove(name);
        assert_eq!(status(&bound(&anyone, &agent.chain, &signed(&head, &claims))).await, 401, "without {name}");
    }
    let text = agent.chain.presented();
    let dpop = anyone.with_header("authorization", &format!("DPoP {text}"));
    assert_eq!(status(&dpop).await, 401, "no proof");
    assert_eq!(status(&anyone.bearer(text)).await, 401, "as a bearer token");
    let shown = anyone.bearer(text).with_header("dpop", &agent.proof("GET", PATH));
    assert_eq!(status(&shown).await, 401, "as a bearer token with a proof");
    let twice = agent.at(&anyone, "GET", PATH).with_header("dpop", &agent.proof("GET", PATH));
    assert_eq!(status(&twice).await, 400, "two proofs");
    let leaf = agent.bearer("helper");
    assert_eq!(status(&anyone.bearer(leaf.presented())).await, 200);
    let bound_leaf = bound(&anyone, &leaf, &agent.proof("GET", PATH));
    assert_eq!(status(&bound_leaf).await, 401, "a bearer token is not bound to anybody");
}
