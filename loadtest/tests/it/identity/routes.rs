//! Every route of a listener, as the gateway itself describes them, and those that no description lists.
//!
//! Responsible for finding them. Must never be a list to be kept up: a route that is added is walked from then on.

use portcullis_loadtest::client::{Answer, Client};
use serde_json::{Value, json};

use crate::fixture::PATIENCE;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) method: &'static str,
    /// As it is described, its variables not filled in.
    pub(super) path: String,
}

impl Route {
    pub(super) fn new(method: &'static str, path: &str) -> Self {
        Self { method, path: path.to_owned() }
    }

    /// Its path about this task, where it is about one.
    pub(super) fn filled(&self, task_id: &str) -> String {
        self.path.replace("{id}", task_id).replace("{pass_id}", task_id).replace("{n}", "1")
    }

    /// Asks for it as this caller, about this task where it is about one.
    pub(super) async fn ask(&self, client: &Client, task_id: &str) -> Answer {
        let path = self.filled(task_id);
        let asked = async {
            match self.method {
                "GET" => client.get(&path).await,
                "DELETE" => client.delete(&path).await,
                _ => client.post(&path, &self.body()).await,
            }
        };
        // Whoever is let into a stream of events gets no end of an answer.
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        answer.unwrap_or_else(|_| panic!("no end of the answer to {self:?}")).expect("an answer")
    }

    /// A body that is sound, so that nothing but the caller can be wrong.
    fn body(&self) -> Value {
        match self.path.as_str() {
            "/v1/tasks" => json!({ "kind": "demo", "payload": 1 }),
            "/v1/delegations" => json!({ "agent": "helper", "scopes": ["tasks:read"], "reason": "to help" }),
            "/v1/delegations/revoke" => json!({ "chain": "nobody's" }),
            _ => json!({}),
        }
    }
}

/// Every route of a listener, asked for its description as this caller.
pub(super) async fn routes_of(listener: &Client) -> Vec<Route> {
    let document = listener.get("/openapi.json").await.expect("an answer");
    assert_eq!(document.status, 200, "{}", document.text);
    let mut routes = listed(&document.body);
    assert!(routes.len() > 8, "hardly any routes: {routes:?}");
    routes.extend(unlisted());
    routes
}

/// The operations that a listener's `openapi.json` lists.
fn listed(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let method = match method.as_str() {
                "get" => "GET",
                "post" => "POST",
                "delete" => "DELETE",
                "parameters" | "summary" | "description" => continue,
                other => panic!("{other} {path}: say how to walk it"),
            };
            routes.push(Route::new(method, path));
        }
    }
    routes
}

/// What is served besides, and what is not served at all.
fn unlisted() -> Vec<Route> {
    [
        ("GET", "/v1/tasks"),
        ("DELETE", "/v1/tasks"),
        ("POST", "/v1/tasks/{id}"),
        ("POST", "/v1/tasks/{id}/events"),
        ("GET", "/v1/sessions"),
        ("POST", "/v1/sessions/current"),
        ("GET", "/v1/delegations"),
        ("POST", "/openapi.json"),
        ("GET", "/v1/decide/anything"),
        ("GET", "/nothing/here"),
        ("GET", "/.well-known/openid-configuration"),
        ("GET", "/"),
        ("GET", "//v1/limits"),
        ("GET", "/healthz/"),
    ]
    .map(|(method, path)| Route::new(method, path))
    .into()
}

/// Whether a route needs no credential, by the public interface.
pub(super) fn is_public(route: &Route) -> bool {
    let open = ["/healthz", "/readyz", "/.well-known/oauth-protected-resource"];
    route.method == "GET" && open.contains(&route.path.as_str())
}
