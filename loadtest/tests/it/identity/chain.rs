//! Delegations as they are meant: minted by a gateway, narrowed by agents, believed by tools and gateways.
//!
//! Responsible for the chain that the format was made for, from end to end, and for how clients find out about it. Must
//! never verify a chain with anything a tool server would not have.

use portcullis_delegation::{Chain, Expected, Jwk, Lifetimes, Narrowing, Presentation, PublicKey, RootKey, Verifier};
use portcullis_loadtest::client::{Client, Submission};
use serde_json::{Value, json};

use super::agent::{Agent, mint, narrowing, wish};
use super::key::{Key, now_seconds};
use super::sight::who;
use super::terms::{RESOURCE, Terms, resource_of, with_api_key};
use crate::fixture::start;

const TOOL: &str = "https://notion.mcp";
const METADATA: &str = "/.well-known/oauth-protected-resource";

fn terms() -> Terms {
    Terms::new().api_key("adaskey1", "acme:ada", "paid").api_key("bobskey1", "acme:bob", "paid")
}

/// What a tool server makes of the keys that a gateway publishes.
async fn published_verifier(anyone: &Client) -> Verifier {
    let metadata = anyone.get(METADATA).await.expect("an answer").body;
    let keys_path =
        metadata["jwks_uri"].as_str().and_then(|url| url.strip_prefix(RESOURCE)).expect("an address of ours");
    let keys = anyone.get(keys_path).await.expect("an answer").body;
    let key = &keys["keys"][0];
    let text = |name: &str| key[name].as_str().expect("text").to_owned();
    let jwk = Jwk { kty: text("kty"), crv: text("crv"), x: text("x") };
    assert!(key.get("d").is_none(), "the public half");
    let key = PublicKey::from_jwk(&jwk).expect("a key");
    Verifier::new(vec![RootKey { issuer: RESOURCE.to_owned(), key_id: text("kid"), key }], Lifetimes::CAPS)
}

#[tokio::test]
async fn a_person_lets_an_orchestrator_let_a_researcher_let_a_tool_be_called() {
    let cluster = start(terms().cluster()).await;
    let anyone = cluster.gateway(0);
    let ada = with_api_key(&anyone, "adaskey1");
    let own = resource_of(&cluster.scope().to_string());
    let wish = json!({ "audience": [own, TOOL] });
    let orchestrator = Agent::of(&ada, "orchestrator", &["tools:call:*", "quota:read"], wish).await;
    let key = Key::generate();
    let search = Narrowing {
        scopes: Some("tools:call:search".parse().expect("a scope")),
        holder: Some(key.public()),
        ..narrowing("researcher")
    };
    let researcher = Agent { chain: orchestrator.narrowed(search), key };
    let leaf = researcher.narrowed(Narrowing { audience: Some(vec![TOOL.to_owned()]), ..narrowing("leaf") });
    let lifetimes: Vec<u64> = leaf.tokens().iter().map(|token| token.claims().exp - token.claims().iat).collect();
    assert!(lifetimes[0] == 3600 && lifetimes[1] <= 900 && lifetimes[2] <= 300, "{lifetimes:?}");

    let verifier = published_verifier(&anyone).await;
    let now = now_seconds();
    let at_the_tool = verifier.verify(&leaf, &Expected { resource: TOOL, tenant: None }, now).expect("verified");
    let presented = at_the_tool.present(&Presentation::Bearer, now).expect("a bearer token");
    let delegation = presented.delegation;
    assert_eq!((delegation.principal.as_str(), delegation.actor.as_str()), ("acme:ada", "leaf"));
    let reasons: Vec<&str> = delegation.hops.iter().map(|hop| hop.reason.as_str()).collect();
    assert_eq!(reasons, ["plans the work", "researcher helps", "leaf helps"]);
    assert_eq!(who(&anyone.bearer(leaf.presented())).await, "401", "the leaf is for the tool, not for the gateway");

    for agent in [&orchestrator, &researcher] {
        let answer = agent.get(&anyone, "/v1/sessions/current").await;
        assert_eq!((answer.status, &answer.body["principal"]), (200, &json!("acme:ada")), "{}", answer.text);
        assert_eq!(answer.body["actor"], agent.chain.leaf().claims().client_id.as_str());
        assert_eq!((&answer.body["source"], &answer.body["user_type"]), (&json!("delegation"), &json!("paid")));
        let scopes: Vec<&str> =
            answer.body["scopes"].as_array().expect("scopes").iter().filter_map(Value::as_str).collect();
        assert_eq!(scopes.join(" "), agent.chain.leaf().claims().scope);
    }
    // A leaf for the gateway needs no signing by whatever runs the agent.
    let bearer = orchestrator.bearer("helper");
    assert_eq!(anyone.bearer(bearer.presented()).limits().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn clients_find_out_where_and_for_what_to_ask() {
    let cluster = start(terms().cluster()).await;
    let anyone = cluster.gateway(0);
    let own = resource_of(&cluster.scope().to_string());
    let place = own.strip_prefix(RESOURCE).expect("an address of ours");
    for (path, resource) in [
        (METADATA.to_owned(), own.clone()),
        (format!("{METADATA}{place}"), own.clone()),
        (format!("{METADATA}/t/nobody/p/nothing"), resource_of("nobody/nothing")),
    ] {
        let answer = anyone.get(&path).await.expect("an answer");
        assert_eq!((answer.status, &answer.body["resource"]), (200, &json!(resource)), "whoever it is: {path}");
        assert_eq!(answer.body["bearer_methods_supported"], json!(["header"]));
        assert_eq!(answer.body["dpop_signing_alg_values_supported"], json!(["EdDSA"]));
        assert!(answer.body["authorization_servers"].is_array() && answer.body["scopes_supported"].is_array());
    }
    let chain = mint(&with_api_key(&anyone, "adaskey1"), "helper", &["quota:read"], json!({ "max_depth": 1 })).await;
    assert_eq!(chain.root().claims().aud, [own.as_str()], "the resource is byte for byte what is accepted");
    let helper = anyone.bearer(chain.presented());
    assert_eq!(who(&helper).await, "acme:ada by delegation as paid");

    let metadata = format!("resource_metadata=\"{RESOURCE}{METADATA}{place}\"");
    let missing = anyone.post("/v1/delegations", &wish("helper", &["*"], json!({}))).await.expect("an answer");
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some(&*format!("Bearer {metadata}"))));
    let invalid = anyone.bearer("nonsense").limits().await.expect("an answer");
    let challenge = format!("Bearer {metadata}, error=\"invalid_token\"");
    assert_eq!((invalid.status, invalid.header("www-authenticate")), (401, Some(challenge.as_str())));
    let insufficient = helper.submit(&Submission::new("demo", json!(1))).await.expect("an answer");
    assert_eq!((insufficient.status, insufficient.code()), (403, "insufficient_scope"), "{}", insufficient.text);
    let challenge = insufficient.header("www-authenticate").expect("a challenge");
    assert!(challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope=\"tasks:submit:demo\""));
}

#[tokio::test]
async fn nobody_mints_more_than_it_may_itself() {
    let terms = terms().api_key_with(
        "narrow01",
        "acme:ada",
        "paid",
        json!({ "scopes": ["delegations:mint", "tasks:submit:chat"] }),
    );
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let narrow = with_api_key(&anyone, "narrow01");
    mint(&narrow, "helper", &["tasks:submit:chat"], json!({ "max_depth": 1 })).await;
    for scopes in
        [&["*"][..], &["tasks:submit:*"], &["tasks:submit:chat", "admin"], &["delegations:mint", "tasks:read"]]
    {
        let wish = wish("helper", scopes, json!({ "max_depth": 1 }));
        let answer = narrow.post("/v1/delegations", &wish).await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (403, "insufficient_scope"), "{scopes:?}");
    }
    let ada = with_api_key(&anyone, "adaskey1");
    let orchestrator = Agent::of(&ada, "orchestrator", &["*"], json!({})).await;
    let helper = orchestrator.bearer_of("helper", "delegations:mint tasks:read");
    let wished = wish("mine", &["tasks:read"], json!({ "max_depth": 1 }));
    let minted = orchestrator.post(&anyone, "/v1/delegations", &wished).await;
    assert_eq!((minted.status, minted.code()), (403, "forbidden"), "an agent narrows, and is not given another");
    let minted = anyone.bearer(helper.presented()).post("/v1/delegations", &wished).await.expect("an answer");
    assert_eq!((minted.status, minted.code()), (403, "forbidden"));
    for (fault, more) in [
        ("longer than an hour", json!({ "ttl_seconds": 3601, "max_depth": 1 })),
        ("no time at all", json!({ "ttl_seconds": 0, "max_depth": 1 })),
        ("deeper than eight", json!({ "max_depth": 9, "key": Key::generate().jwk() })),
        ("deep without a key", json!({ "max_depth": 2 })),
        ("no audience", json!({ "audience": [], "max_depth": 1 })),
        ("no reason", json!({ "reason": "", "max_depth": 1 })),
        ("an endless reason", json!({ "reason": "x".repeat(201), "max_depth": 1 })),
        ("for another principal", json!({ "principal": "acme:bob", "max_depth": 1 })),
        ("as a higher type", json!({ "user_type": "privileged", "max_depth": 1 })),
        ("somebody's weak key", json!({ "key": { "kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43) } })),
        ("a secret key", json!({ "key": serde_json::from_str::<Value>(&secret_jwk()).expect("JSON") })),
    ] {
        let answer = ada.post("/v1/delegations", &wish("helper", &["*"], more)).await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{fault}: {}", answer.text);
    }
    let unexplained = json!({ "agent": "helper", "scopes": ["*"], "max_depth": 1 });
    assert_eq!(ada.post("/v1/delegations", &unexplained).await.expect("an answer").status, 400);
}

fn secret_jwk() -> String {
    Key::generate().secret().to_jwk_text().expect("JSON").to_string()
}

impl Agent {
    fn bearer_of(&self, name: &str, scopes: &str) -> Chain {
        self.narrowed(Narrowing { scopes: Some(scopes.parse().expect("scopes")), ..narrowing(name) })
    }
}
