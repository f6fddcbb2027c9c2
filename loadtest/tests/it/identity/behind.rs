//! The application behind a gateway, and everybody who must not reach it.
//!
//! Responsible for every class of paths: those that take no gates want a caller all the same, and one whose credential
//! was given for them. Must never look at the answer alone: what counts is what reached the application.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use portcullis_loadtest::client::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::routes::Route;
use super::terms::{Terms, with_api_key};
use crate::fixture::{Fixture, start, until};

/// A path of each class, and some that look like the gateway's own.
const PATHS: [&str; 7] =
    ["/work/report", "/free/hook", "/", "/v2/tasks", "/health", "/.well-known/security.txt", "/admin/queues"];

/// An application that counts what reaches it; it ends with what is returned.
pub(super) async fn application(reached: Arc<AtomicUsize>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(move || {
        reached.fetch_add(1, Ordering::SeqCst);
        async { "reached" }
    });
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.expect("served") });
    (url, serving)
}

/// A gateway in front of this application that serves nobody without a credential.
async fn closed_gateway(cluster: &mut Fixture, terms: Terms, url: &str) -> Client {
    let terms = terms.section("anonymous", json!({ "enabled": false }));
    for (name, value) in terms.variables() {
        cluster.set_env(name, &value);
    }
    cluster.set_env("UPSTREAM_URL", url);
    let anyone = cluster.add_gateway().await.expect("a gateway");
    let good = with_api_key(&anyone, "ownerkey");
    until("it is ready", || async { (good.limits().await.ok()?.status == 200).then_some(()) }).await;
    anyone
}

#[tokio::test]
async fn nothing_reaches_the_application_but_from_whom_it_may() {
    let reached = Arc::<AtomicUsize>::default();
    let (url, _serving) = application(reached.clone()).await;
    let terms = Terms::new().api_key("ownerkey", "acme:owner", "paid").api_key_with(
        "narrow01",
        "acme:owner",
        "paid",
        json!({ "scopes": ["routes:call:work", "tasks:read"] }),
    );
    let policy = json!({
        "route_classes": { "work": { "patterns": ["^/work/"], "max_concurrent": 10 } },
        "bypass_throttling_patterns": ["^/free/"],
    });
    let mut cluster = start(terms.cluster().policy(policy)).await;
    let anyone = closed_gateway(&mut cluster, terms, &url).await;
    let count = || reached.load(Ordering::SeqCst);

    let nobody = [
        anyone.clone(),
        anyone.bearer("nonsense"),
        anyone.bearer(&format!("gs_{}", "A".repeat(43))),
        anyone.bearer(cluster.admin_token()),
        anyone.with_header("authorization", "Basic YWRhOmFkYQ=="),
        anyone.with_header("x-internal-token", "guessed-guessed-guessed-guessed-guessed"),
        anyone.with_header("x-api-key", ""),
        anyone.with_header("cookie", "__Host-portcullis_session=x"),
        with_api_key(&anyone, "ownerkey").with_header("authorization", "Bearer nonsense"),
    ];
    for (index, client) in nobody.iter().enumerate() {
        for path in PATHS {
            for method in ["GET", "POST", "DELETE"] {
                let answer = Route::new(method, path).ask(client, "").await;
                let told = (answer.status, answer.code());
                assert_eq!(told, (401, "unauthenticated"), "{method} {path} as nobody {index}");
            }
        }
    }
    assert_eq!(count(), 0, "nobody reached it");
    let owner = with_api_key(&anyone, "ownerkey");
    for path in PATHS {
        let answer = owner.get(path).await.expect("an answer");
        assert_eq!((answer.status, answer.text.as_str()), (200, "reached"), "{path}");
    }
    assert_eq!(count(), PATHS.len());
    let narrow = with_api_key(&anyone, "narrow01");
    for path in PATHS {
        let answer = narrow.get(path).await.expect("an answer");
        let expected = if path.starts_with("/work/") { (200, "") } else { (403, "insufficient_scope") };
        assert_eq!((answer.status, answer.code()), expected, "{path}");
    }
    assert_eq!(count(), PATHS.len() + 1, "only what its credential was given for");
}
