//! Who a caller is, is decided by the gateway and by nothing the caller writes into a header.

use portcullis_loadtest::client::Submission;
use serde_json::json;

use crate::fixture::{cluster, start};

#[tokio::test]
async fn headers_do_not_make_another_session() {
    let roles = json!({ "anonymous": { "burst": 3, "burst_window": 60 } });
    let mut cluster = start(cluster().gateways(2).policy(json!({ "rate_limits": { "roles": roles } }))).await;
    cluster.stand_in(100).await.expect("capacity");
    let task = Submission::new("demo", json!(1));
    let mut sessions = Vec::new();
    let mut admitted = 0;
    for attempt in 0..12 {
        let forged = cluster
            .gateway(attempt)
            .with_header("x-session-id", &format!("forged-{attempt}"))
            .with_header("x-user-type", "privileged")
            .with_header("x-principal", "root")
            .with_header("x-forwarded-for", &format!("203.0.113.{attempt}"))
            .with_header("forwarded", &format!("for=203.0.113.{attempt}"))
            .with_header("user-agent", &format!("browser/{attempt}"));
        let answer = forged.submit(&task).await.expect("an answer");
        admitted += usize::from(answer.is_accepted());
        assert_eq!(answer.header("x-user-type"), Some("anonymous"));
        sessions.push(answer.header("x-session-id").expect("a session").to_owned());
    }
    sessions.dedup();
    assert_eq!((admitted, sessions.len()), (3, 1), "one caller, one session: {sessions:?}");
}

#[tokio::test]
async fn a_credential_that_fails_is_never_anonymous() {
    let mut cluster = start(cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let task = Submission::new("demo", json!(1));
    for token in ["nonsense", "dev:", "dev:no such type:ada", "dev:nosuchtype:ada", "eyJhbGciOiJub25lIn0.e30."] {
        let answer = cluster.gateway(0).bearer(token).submit(&task).await.expect("an answer");
        assert_eq!((answer.status, answer.code(), answer.step()), (401, "unauthenticated", "session"), "{token}");
    }
    let queues = cluster.store().await.expect("a store").queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!(queues.queued, 0);
}

#[tokio::test]
async fn the_admin_listener_wants_its_token() {
    let cluster = start(cluster()).await;
    let admin = cluster.admin(0);
    assert_eq!(admin.get("/monitoring/system").await.expect("an answer").status, 200);
    for path in ["/metrics", "/monitoring/system", "/admin/processors", "/admin/queues", "/admin/decisions"] {
        assert_eq!(admin.get(path).await.expect("an answer").status, 200, "{path}");
        let stranger = admin.bearer("guessed-guessed-guessed-guessed-guessed");
        assert_eq!(stranger.get(path).await.expect("an answer").status, 401, "{path}");
        assert_eq!(cluster.gateway(0).get(path).await.expect("an answer").status, 404, "{path} on the public listener");
    }
}
