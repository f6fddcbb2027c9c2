//! Credentials that are worth nothing say nothing about who works here: no breaker hears of them.
//!
//! Responsible for the breakers of task kinds and for that of Redis itself. Must never be about how often somebody may
//! fail: that is a limit of his address.

use portcullis_loadtest::client::Submission;
use portcullis_loadtest::credentials::Credentials;
use serde_json::json;

use super::get;
use crate::fixture::{accepted, cluster, start};

#[tokio::test]
async fn a_flood_of_credentials_that_fail_opens_no_breaker() {
    let patient = json!({ "failed_attempts": { "per_minute": 1000 } });
    let credentials = Credentials::new(&patient).await.expect("credentials");
    // One failure would be enough.
    let policy = json!({ "circuit_breakers": { "tasks": { "minimum_calls": 1, "open_seconds": 600 } } });
    let mut cluster = start(credentials.believed_by(cluster()).policy(policy)).await;
    cluster.stand_in(100).await.expect("capacity");
    let (anyone, order) = (cluster.gateway(0), Submission::new("demo", json!(1)));
    let expired = credentials.jwt("ada", &[]).expect("a token").replace("eyJ", "eyK");
    let bad = [
        ("authorization", "Bearer nonsense".to_owned()),
        ("authorization", format!("Bearer {expired}")),
        ("authorization", "Bearer gs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        ("x-internal-token", "guessed-guessed-guessed-guessed-guessed".to_owned()),
        ("x-api-key", "gk_robot001_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
    ];
    for (name, value) in bad.iter().cycle().take(40) {
        let answer = anyone.with_header(name, value).submit(&order).await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{name}");
    }
    // Known, and not allowed: its scopes are others.
    let robot = anyone.with_header("x-api-key", credentials.api_key());
    let wish = json!({ "agent": "helper", "scopes": ["quota:read"], "reason": "test" });
    let forbidden = robot.post("/v1/delegations", &wish).await.expect("an answer");
    assert_eq!(forbidden.status, 403, "{}", forbidden.text);
    accepted(&robot, &order).await;
    let seen = get(&cluster.admin(0), "/admin/circuit-breakers").await;
    assert_eq!(seen["store"]["breaker"], "closed", "{seen}");
    let states: Vec<_> =
        seen["circuit_breakers"].as_array().expect("a list").iter().map(|each| &each["state"]).collect();
    assert!(states.iter().all(|state| *state == "closed"), "{seen}");
    let probe = cluster.probe().await.expect("a connection");
    let keys = probe.keys(&format!("{}:breaker", cluster.key_prefix())).await.expect("keys");
    assert_eq!(keys, Vec::<String>::new(), "nobody has told a breaker anything");
}
