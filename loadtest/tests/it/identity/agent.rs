//! An agent that acts for somebody: the holder of a key and of a chain that is bound to it.
//!
//! Responsible for presenting chains as agents do. Must never take a shortcut past HTTP: what it holds was minted by a
//! gateway, or narrowed as any agent would.

use portcullis_delegation::{Chain, Narrowing, SKEW_SECONDS, TargetUri, attenuate, prove};
use portcullis_loadtest::client::{Answer, Client, Submission};
use serde_json::{Value, json};

use super::key::{Key, now_seconds};
use super::terms::RESOURCE;

/// An agent with a bound chain.
pub(super) struct Agent {
    pub(super) key: Key,
    pub(super) chain: Chain,
}

impl Agent {
    /// Has this caller mint a delegation bound to a new key; `more` is merged over the wish.
    pub(super) async fn of(caller: &Client, name: &str, scopes: &[&str], more: Value) -> Self {
        let key = Key::generate();
        let mut wish = more;
        wish["key"] = key.jwk();
        let chain = mint(caller, name, scopes, wish).await;
        Self { key, chain }
    }

    /// The agent below this one, with a key of its own.
    pub(super) fn below(&self, name: &str) -> Self {
        let key = Key::generate();
        let narrowing = Narrowing { holder: Some(key.public()), ..narrowing(name) };
        Self { chain: self.narrowed(narrowing), key }
    }

    /// A bearer token for the agent below this one.
    pub(super) fn bearer(&self, name: &str) -> Chain {
        self.narrowed(narrowing(name))
    }

    pub(super) fn narrowed(&self, narrowing: Narrowing) -> Chain {
        attenuate(&self.chain, &self.key.secret(), narrowing, now_seconds()).expect("a narrower chain")
    }

    /// A proof for a request of this method and path.
    pub(super) fn proof(&self, method: &str, path: &str) -> String {
        self.proof_made_at(now_seconds(), method, path)
    }

    /// The same, good for nearly twice as long: as made by a clock that is ahead.
    pub(super) fn lasting_proof(&self, method: &str, path: &str) -> String {
        self.proof_made_at(now_seconds() + SKEW_SECONDS - 2, method, path)
    }

    fn proof_made_at(&self, seconds: u64, method: &str, path: &str) -> String {
        prove(&self.key.secret(), &self.chain, method, &target(path), seconds).expect("a proof")
    }

    /// This listener as the agent, for one request.
    pub(super) fn at(&self, client: &Client, method: &str, path: &str) -> Client {
        bound(client, &self.chain, &self.proof(method, path))
    }

    pub(super) async fn get(&self, client: &Client, path: &str) -> Answer {
        self.at(client, "GET", path).get(path).await.expect("an answer")
    }

    pub(super) async fn delete(&self, client: &Client, path: &str) -> Answer {
        self.at(client, "DELETE", path).delete(path).await.expect("an answer")
    }

    pub(super) async fn post(&self, client: &Client, path: &str, body: &Value) -> Answer {
        self.at(client, "POST", path).post(path, body).await.expect("an answer")
    }

    pub(super) async fn submit(&self, client: &Client) -> Answer {
        let task = Submission::new("demo", json!(1));
        self.at(client, "POST", "/v1/tasks").submit(&task).await.expect("an answer")
    }
}

/// The listener with this chain and this proof.
pub(super) fn bound(client: &Client, chain: &Chain, proof: &str) -> Client {
    client.with_header("authorization", &format!("DPoP {}", chain.presented())).with_header("dpop", proof)
}

/// Where a proof for this path is made out to.
pub(super) fn target(path: &str) -> TargetUri {
    format!("{RESOURCE}{path}").parse().expect("an address")
}

/// Everything of the parent, for a bearer.
pub(super) fn narrowing(name: &str) -> Narrowing {
    Narrowing::of_all(name, format!("{name} helps"))
}

/// Has this caller mint a delegation. Without `key` in `more` it is a bearer token.
pub(super) async fn mint(caller: &Client, name: &str, scopes: &[&str], more: Value) -> Chain {
    let answer = caller.post("/v1/delegations", &wish(name, scopes, more)).await.expect("an answer");
    assert_eq!(answer.status, 201, "not minted: {}", answer.text);
    Chain::parse(answer.body["token"].as_str().expect("a token")).expect("a chain")
}

/// The body of a wish for a delegation.
pub(super) fn wish(name: &str, scopes: &[&str], more: Value) -> Value {
    let mut wish = json!({ "agent": name, "scopes": scopes, "reason": "plans the work" });
    if let (Some(wish), Value::Object(more)) = (wish.as_object_mut(), more) {
        wish.extend(more);
    }
    wish
}
