//! Nothing a client sends is longer, or more, than a gateway reads; and every answer has a name.

use portcullis_loadtest::client::Submission;
use serde_json::json;

use super::wire::{answers, header, status, statuses};
use crate::fixture::{cluster, start};

/// What a submission may have around its payload, bytes.
const ENVELOPE: usize = 16 * 1024;

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_431() {
    let cluster = start(cluster()).await;
    let address = cluster.public_address(0);
    let head = |lines: &str| format!("GET /v1/limits HTTP/1.1\r\nHost: h\r\n{lines}Connection: close\r\n\r\n");
    let wide = format!("X-Wide: {}\r\n", "x".repeat(70_000));
    let deep = (0..120).map(|n| format!("X-{n}: a\r\n")).collect::<Vec<_>>().concat();
    for lines in [wide, deep] {
        assert_eq!(statuses(address, head(&lines).as_bytes()).await, [431]);
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(70_000));
    assert!(matches!(statuses(address, long.as_bytes()).await[..], [414 | 431]));
    let most = format!("X-Wide: {}\r\n", "x".repeat(16_000)).repeat(3);
    assert_eq!(statuses(address, head(&most).as_bytes()).await, [200], "what a balancer passes on");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_413_before_it_is_read() {
    let cluster = start(cluster()).await;
    let address = cluster.public_address(0);
    let most = cluster.policy().queue.max_payload_bytes;
    let head = "POST /v1/tasks HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
    // Announced and never sent: it is not waited for.
    let announced = answers(address, format!("{head}Content-Length: {}\r\n\r\n", most * 2).as_bytes()).await;
    assert!(status(&announced[0]) == 413 && announced[0].contains("payload_too_large"), "{announced:?}");
    let expecting = format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", most * 2);
    assert_eq!(statuses(address, expecting.as_bytes()).await, [413], "nobody is told to go on");
    // Nothing is left to read when the first byte too many has come: nothing takes the answer away from its client.
    let most = most as usize + ENVELOPE;
    let pieces = format!("{most:x}\r\n{}\r\n1\r\nx", "x".repeat(most));
    let streamed = answers(address, format!("{head}Transfer-Encoding: chunked\r\n\r\n{pieces}").as_bytes()).await;
    assert_eq!(streamed.iter().map(|answer| status(answer)).collect::<Vec<_>>(), [413], "{streamed:?}");
    assert!(streamed[0].contains("payload_too_large"), "{streamed:?}");
}

#[tokio::test]
async fn answers_that_decide_nothing_repeat_what_is_left() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(100).await.expect("capacity");
    let (client, task) = (cluster.gateway(0).caller("registered", "ada"), Submission::new("demo", json!(1)));
    let submitted = client.submit(&task).await.expect("an answer");
    let left = submitted.header("ratelimit").expect("a decision").to_owned();
    assert!(left.contains("\"burst\";r=99"), "{left}");
    for path in [format!("/v1/tasks/{}", submitted.task_id()), "/nothing".to_owned()] {
        let answer = client.get(&path).await.expect("an answer");
        assert_eq!(answer.header("ratelimit"), Some(left.as_str()), "{path}");
        assert_eq!(answer.header("ratelimit-policy"), submitted.header("ratelimit-policy"), "{path}");
    }
    let elsewhere = cluster.gateway(1).caller("registered", "ada").get("/nothing").await.expect("an answer");
    assert_eq!(elsewhere.header("ratelimit"), None, "which knows the quota and not what is left");
    assert!(elsewhere.header("ratelimit-policy").is_some());
}

#[tokio::test]
async fn every_answer_has_the_clients_request_id_if_it_is_sane() {
    let cluster = start(cluster()).await;
    let address = cluster.public_address(0);
    for (method, path) in
        [("GET", "/v1/limits"), ("GET", "/nothing"), ("GET", "/readyz"), ("GET", "/healthz"), ("POST", "/v1/tasks")]
    {
        let ask = async |id: &str| {
            let bytes =
                format!("{method} {path} HTTP/1.1\r\nHost: h\r\nX-Request-Id: {id}\r\nConnection: close\r\n\r\n");
            header(&answers(address, bytes.as_bytes()).await[0], "x-request-id").to_owned()
        };
        assert_eq!(ask("order-7.a_B").await, "order-7.a_B", "{path}");
        for insane in ["", "a b", "a\"b", &"x".repeat(200)] {
            let given = ask(insane).await;
            assert!(given.len() == 26 && given != insane, "{path} {insane:?}: {given}");
        }
    }
}
