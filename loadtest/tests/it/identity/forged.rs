//! Chains that somebody made wider, longer-lived or another's, every signature good.
//!
//! Responsible for each rule between two hops being broken once, and nothing else with it. Must never forge what the
//! holder of the parent's key could not: who has the root key may do anything.

use portcullis_delegation::{Chain, Claims, Constraint};
use portcullis_loadtest::client::Client;
use serde_json::{Value, json};

use super::agent::Agent;
use super::key::{Key, now_seconds, unsigned};
use super::sight::Sight;
use super::terms::{Terms, resource_of, root_head, with_api_key};
use crate::fixture::start;

const SCOPES: [&str; 2] = ["quota:read", "tasks:submit:demo"];

/// What is wrong, and how it is made so.
type Change<'a> = (&'static str, &'a dyn Fn(&mut Claims));

fn set(member: &mut String, text: &str) {
    text.clone_into(member);
}

fn head() -> Value {
    json!({ "alg": "EdDSA", "typ": "at+jwt" })
}

/// The parent's chain with a child of these claims, signed by whoever has this key.
fn below(parent: &Chain, head: &Value, claims: &Value, signer: &Key) -> String {
    format!("{}~{}", parent.presented(), signer.sign(head, claims))
}

async fn sight(anyone: &Client, token: &str) -> (u16, Sight) {
    let answer = anyone.bearer(token).limits().await.expect("an answer");
    (answer.status, Sight::of(&answer))
}

/// Each rule between parent and child, broken; by what is wrong.
fn widenings(parent: &Claims, child: &Claims) -> Vec<(&'static str, Value)> {
    let with = |what: &'static str, change: &dyn Fn(&mut Claims)| {
        let mut claims = child.clone();
        change(&mut claims);
        (what, serde_json::to_value(claims).expect("JSON"))
    };
    let bound = |max| vec![Constraint { key: "calls_per_min".to_owned(), max }];
    let mut all = vec![
        with("a scope more", &|claims| set(&mut claims.scope, "quota:read tasks:read")),
        with("a scope wider", &|claims| set(&mut claims.scope, "quota:read tasks:submit:*")),
        with("everything", &|claims| set(&mut claims.scope, "*")),
        with("an audience more", &|claims| claims.aud.push("https://notion.mcp".to_owned())),
        with("no audience", &|claims| claims.aud.clear()),
        with("longer than the parent", &|claims| claims.exp = parent.exp + 1),
        with("longer than fifteen minutes", &|claims| claims.exp = claims.iat + 901),
        with("over", &|claims| {
            claims.iat -= 60;
            claims.exp = claims.iat + 1;
        }),
        with("issued long before the parent", &|claims| claims.iat = parent.iat - 120),
        with("issued in the future", &|claims| {
            claims.iat += 120;
            claims.exp = claims.iat + 60;
        }),
        with("deeper than the parent may be", &|claims| claims.del_max_depth = parent.del_max_depth + 1),
        with("at another depth", &|claims| claims.del_depth = 2),
        with("another root", &|claims| claims.del_depth = 0),
        with("a looser bound", &|claims| claims.constraints = bound(61)),
        with("no bound", &|claims| claims.constraints.clear()),
        with("another principal", &|claims| set(&mut claims.sub, "acme:bob")),
        with("another tenant", &|claims| set(&mut claims.tid, "other/place")),
        with("another session", &|claims| set(&mut claims.sid, "user-1")),
        with("a user type of its own", &|claims| claims.ut = Some("privileged".to_owned())),
        with("no parent", &|claims| claims.par_hash = None),
        with("another parent", &|claims| claims.par_hash = Some("A".repeat(43))),
        with("no reason", &|claims| claims.reason = String::new()),
        with("another issuer", &|claims| {
            claims.iss =
                format!("urn:ietf:params:oauth:jwk-thumbprint:sha-256:{}", Key::generate().public().thumbprint());
        }),
        with("the deployment for an issuer", &|claims| set(&mut claims.iss, &parent.iss)),
        with("an id that is none", &|claims| set(&mut claims.jti, "1")),
    ];
    let mut unknown = serde_json::to_value(child).expect("JSON");
    unknown["admin"] = json!(true);
    all.push(("a member that is not known", unknown));
    all
}

#[tokio::test]
async fn no_holder_gets_more_out_of_a_chain_than_was_put_in() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let ada = with_api_key(&anyone, "adaskey1");
    let more = json!({ "constraints": { "calls_per_min": 60 }, "max_depth": 3 });
    let agent = Agent::of(&ada, "orchestrator", &SCOPES, more.clone()).await;
    let other = Agent::of(&ada, "orchestrator", &SCOPES, more).await;
    let child = agent.bearer("helper");
    let (parent, own) = (agent.chain.leaf().claims(), child.leaf().claims());
    let good = serde_json::to_value(own).expect("JSON");
    let resigned = below(&agent.chain, &head(), &good, &agent.key);
    assert_eq!(sight(&anyone, &resigned).await.0, 200, "what is forged below differs by what it is named after");
    let shape = sight(&anyone, "nonsense").await;
    assert_eq!(shape.0, 401);

    for (what, claims) in widenings(parent, own) {
        assert_eq!(sight(&anyone, &below(&agent.chain, &head(), &claims, &agent.key)).await, shape, "{what}");
    }
    let (root, leaf) = (agent.chain.presented(), child.leaf().compact());
    let signed = unsigned(&head(), &good);
    for (what, head) in [
        ("another type", json!({ "alg": "EdDSA", "typ": "JWT" })),
        ("no algorithm", json!({ "alg": "none", "typ": "at+jwt" })),
        ("a shared secret", json!({ "alg": "HS256", "typ": "at+jwt" })),
        ("a name for its key", json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "root" })),
        ("a critical extension", json!({ "alg": "EdDSA", "typ": "at+jwt", "crit": ["exp"] })),
        ("a key it brings along", json!({ "alg": "EdDSA", "typ": "at+jwt", "jwk": agent.key.jwk() })),
    ] {
        assert_eq!(sight(&anyone, &below(&agent.chain, &head, &good, &agent.key)).await, shape, "{what}");
    }
    for (what, forged) in [
        ("signed by somebody else", below(&agent.chain, &head(), &good, &other.key)),
        ("signed by the root key", below(&agent.chain, &head(), &good, terms.root())),
        ("not signed", format!("{root}~{signed}.")),
        ("below another root of the same person", format!("{}~{leaf}", other.chain.presented())),
        ("without its root", leaf.to_owned()),
        ("without its leaf", root.to_owned()),
        ("the leaf first", format!("{leaf}~{root}")),
        ("the leaf twice", format!("{}~{leaf}", child.presented())),
        ("the root twice", format!("{root}~{}", child.presented())),
        ("an empty token more", format!("{}~", child.presented())),
        ("an empty token first", format!("~{}", child.presented())),
        ("nine tokens", [leaf; 9].join("~")),
        ("nine kilobytes", format!("{}~{}", child.presented(), "A".repeat(9000))),
    ] {
        assert_eq!(sight(&anyone, &forged).await, shape, "{what}");
    }
    // Where no header was meant for a chain it is none.
    for (name, value) in [
        ("x-api-key", child.presented().to_owned()),
        ("x-internal-token", child.presented().to_owned()),
        ("cookie", format!("__Host-portcullis_session={}", child.presented())),
        ("authorization", format!("DPoP {}", child.presented())),
    ] {
        let answer = anyone.with_header(name, &value).limits().await.expect("an answer");
        assert_eq!(answer.status, 401, "{name}");
    }
    let query = format!("/v1/tasks/{}/events?bearer_token={}", portcullis_lua::TaskId::generate(), child.presented());
    assert_eq!(anyone.get(&query).await.expect("an answer").status, 401, "never in a query");
    assert_eq!(sight(&anyone, child.presented()).await.0, 200, "and it is still good");
}

#[tokio::test]
async fn a_bearer_token_is_nobodys_parent() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let agent = Agent::of(&with_api_key(&anyone, "adaskey1"), "orchestrator", &SCOPES, json!({})).await;
    let leaf = agent.bearer("helper");
    let thief = Key::generate();
    let mut claims = leaf.leaf().claims().clone();
    claims.del_depth = 2;
    claims.par_hash = Some(leaf.leaf().hash().to_owned());
    claims.exp = claims.iat + 60;
    for key in [&thief, &agent.key] {
        claims.iss = format!("urn:ietf:params:oauth:jwk-thumbprint:sha-256:{}", key.public().thumbprint());
        let forged = below(&leaf, &head(), &serde_json::to_value(&claims).expect("JSON"), key);
        assert_eq!(sight(&anyone, &forged).await.0, 401);
    }
}

#[tokio::test]
async fn a_root_is_one_of_this_deployment_for_this_tenant_and_lives_an_hour() {
    let terms = Terms::new();
    let cluster = start(terms.cluster()).await;
    let anyone = cluster.gateway(0);
    let own = cluster.scope().to_string();
    let good = terms.root_of(&own, &resource_of(&own), None, now_seconds());
    let status = async |head: Value, claims: &Claims, key: &Key| sight(&anyone, &key.sign(&head, claims)).await.0;
    assert_eq!(status(root_head(), &good, terms.root()).await, 200);
    let thief = Key::generate();
    assert_eq!(status(root_head(), &good, &thief).await, 401, "another key of the same name");
    for kid in [json!("stolen"), json!(""), json!("../root"), Value::Null] {
        let mut head = root_head();
        head["kid"] = kid.clone();
        assert_eq!(status(head, &good, terms.root()).await, 401, "{kid}");
    }
    let changes: [Change<'_>; 9] = [
        ("another deployment", &|claims| set(&mut claims.iss, "https://gw.evil")),
        ("another tenant", &|claims| set(&mut claims.tid, "other/place")),
        ("another tenant's resource", &|claims| claims.aud = vec![resource_of("other/place")]),
        ("the deployment as a whole", &|claims| claims.aud = vec!["https://gw.example".to_owned()]),
        ("no resource", &|claims| claims.aud.clear()),
        ("more than an hour", &|claims| claims.exp = claims.iat + 3601),
        ("over", &|claims| {
            claims.iat -= 3600;
            claims.exp = claims.iat + 3000;
        }),
        ("a tenant that cannot be", &|claims| set(&mut claims.tid, "a}b/c")),
        ("no reason", &|claims| set(&mut claims.reason, " ")),
    ];
    for (what, change) in changes {
        let mut claims = good.clone();
        change(&mut claims);
        assert_eq!(status(root_head(), &claims, terms.root()).await, 401, "{what}");
    }
    let mut several = good.clone();
    several.aud.insert(0, "https://notion.mcp".to_owned());
    assert_eq!(status(root_head(), &several, terms.root()).await, 200, "one of its resources is ours");
}
