//! Which pages a browser lets read answers is what the policy says, from one update to the next.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::{Answer, Submission};
use serde_json::json;

use crate::fixture::{cluster, start};

const PAGE: &str = "https://app.example.com";

async fn shown_to(client: &Client, origin: &str) -> Option<String> {
    let answer = client.with_header("origin", origin).limits().await.expect("an answer");
    answer.header("access-control-allow-origin").map(str::to_owned)
}

fn errors(answer: &Answer) -> String {
    answer.body["errors"].to_string()
}

#[tokio::test]
async fn origins_come_and_go_with_the_policy() {
    let cluster = start(cluster().gateways(2)).await;
    let (admin, clients) = (cluster.admin(0), [0, 1].map(|index| cluster.gateway(index).caller("paid", "ada")));
    for client in &clients {
        assert_eq!(shown_to(client, PAGE).await, None);
    }
    let update = "/admin/gateway/update-config?wait=60";
    let open = json!({ "cors": { "allowed_origins": [PAGE], "allow_credentials": true } });
    assert_eq!(admin.post(update, &open).await.expect("an answer").status, 200);
    for client in &clients {
        assert_eq!(shown_to(client, PAGE).await.as_deref(), Some(PAGE));
        assert_eq!(shown_to(client, &format!("{PAGE}.evil.example")).await, None);
        let refused = client.with_header("origin", PAGE).submit(&Submission::new("no kind", json!(1))).await;
        let refused = refused.expect("an answer");
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (400, Some(PAGE)));
    }

    let open_to_all = json!({ "cors": { "allowed_origins": ["*"] } });
    let refused = admin.post(update, &open_to_all).await.expect("an answer");
    assert!(refused.status == 400 && errors(&refused).contains("any page"), "{}", refused.text);
    assert_eq!(shown_to(&clients[1], PAGE).await.as_deref(), Some(PAGE), "nothing has changed");

    let closed = json!({ "cors": { "allowed_origins": [] } });
    assert_eq!(admin.post(update, &closed).await.expect("an answer").status, 200);
    for client in &clients {
        assert_eq!(shown_to(client, PAGE).await, None);
    }
}

#[tokio::test]
async fn a_preflight_takes_no_decision_and_needs_no_credential() {
    let policy = json!({ "cors": { "allowed_origins": [PAGE] },
        "rate_limits": { "roles": { "anonymous": { "burst": 1, "burst_window": 60 } } } });
    let mut cluster = start(cluster().policy(policy)).await;
    cluster.stand_in(100).await.expect("capacity");
    let http = portcullis_loadtest::client::http_client().expect("a client");
    for _ in 0..10 {
        let preflight = http.request(reqwest::Method::OPTIONS, format!("{}/v1/tasks", cluster.gateway(0).base()));
        let preflight = preflight.header("origin", PAGE).header("access-control-request-method", "POST");
        let answer = preflight.header("access-control-request-headers", "idempotency-key").send().await;
        let answer = answer.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
            (204, &PAGE.parse().expect("a value"))
        );
        assert_eq!(answer.headers()["access-control-allow-headers"], "idempotency-key");
    }
    let submitted = cluster.gateway(0).submit(&Submission::new("demo", json!(1))).await.expect("an answer");
    assert!(submitted.is_accepted(), "the preflights took nothing: {}", submitted.text);
}
