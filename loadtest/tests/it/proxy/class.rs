//! Which paths take which gates, and that a refused request never reaches the application.

use serde_json::json;

use super::application::Application;
use super::{before, guarded, until_in_flight, view};
use crate::fixture::{start, until};

#[tokio::test]
async fn paths_are_guarded_by_whole_segments_behind_any_prefix() {
    let application = Application::start().await;
    let policy = json!({
        "rate_limits": { "roles": { "paid": { "burst": 3, "burst_window": 3600, "hourly": -1 } } },
        "guarded_rest_patterns": ["^/reports/[^/]+$", "/both$"],
        "bypass_throttling_patterns": ["^/webhooks/", "/both$"],
    });
    let mut cluster = start(before(&application, policy)).await;
    cluster.stand_in(100).await.expect("capacity");
    let client = cluster.gateway(0).caller("paid", "ada");
    let status = async |path: &str| client.get(path).await.expect("an answer").status;
    for path in ["/reports/a", "/api/x/y/reports/b?since=1", "/reports/../reports/c"] {
        assert_eq!(status(path).await, 200, "{path}");
    }
    let passed = application.seen("");
    for path in ["/reports/a", "/api/x/y/reports/b", "//reports//a/", "/reports%2fa", "/%72eports/a"] {
        let refused = client.get(path).await.expect("an answer");
        assert_eq!((refused.status, refused.code(), refused.step()), (429, "burst_limit", "rate_limit"), "{path}");
        assert!(refused.retry_after().is_some() && refused.header("ratelimit").is_some());
    }
    assert_eq!(application.seen(""), passed, "a refused request never reaches the application");
    for path in ["/xreports/a", "/reports/a/b", "/webhooks/stripe", "/", "/both", "/api/both"] {
        assert_eq!(status(path).await, 200, "{path} is not throttled");
    }
    let session = client.limits().await.expect("limits");
    assert_eq!(session.body["limits"][0]["remaining"], json!(0));
}

#[tokio::test]
async fn what_is_guarded_and_bypassed_keeps_pressure() {
    let application = Application::start().await;
    let policy = json!({ "guarded_rest_patterns": ["/both$"], "bypass_throttling_patterns": ["/both$", "/free$"] });
    let cluster = start(before(&application, policy)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let refused = client.get("/both").await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (503, "no_live_processors"));
    assert_eq!(client.get("/free").await.expect("an answer").status, 200);
    assert_eq!(application.seen("/both"), 0);
}

#[tokio::test]
async fn a_declared_class_has_a_pool_methods_and_bounds_of_its_own() {
    let own = json!({ "route_classes": { "work": { "methods": ["GET"], "throttled": false, "max_request_bytes": 4 } },
        "rate_limits": { "roles": { "paid": { "burst": 1, "burst_window": 3600, "hourly": -1 } } } });
    let (cluster, application) = guarded(3, &own).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let held: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/guarded/held").await.expect("an answer").status })
        })
        .collect();
    until_in_flight(&cluster, 2).await;
    let refused = client.get("/guarded/ok").await.expect("an answer");
    assert_eq!((refused.status, refused.step()), (503, "backpressure"), "{}", refused.text);
    assert_eq!(application.seen("/guarded/ok"), 0);
    assert_eq!(view(&cluster).await.passes, 0, "a pool of its own is no load of the scope");
    let other_method = client.post("/guarded/ok", &json!("more than four bytes")).await.expect("an answer");
    assert_eq!(other_method.status, 200, "the class is not for this method: {}", other_method.text);
    application.release(2);
    for answer in held {
        assert_eq!(answer.await.expect("it ran"), 200);
    }
    until_in_flight(&cluster, 0).await;
    assert_eq!(client.get("/guarded/ok").await.expect("an answer").status, 200);
}

#[tokio::test]
async fn requests_in_flight_count_as_load_of_the_scope_until_they_end() {
    let application = Application::start().await;
    let policy = json!({ "guarded_rest_patterns": ["/held$", "/ok$"],
        "backpressure": { "capacity_buffer": 0.5, "queue_depth_multiplier": 0.5 } });
    let mut cluster = start(before(&application, policy)).await;
    cluster.stand_in(10).await.expect("capacity");
    let client = cluster.gateway(0).caller("paid", "ada");
    let held: Vec<_> = (0..9)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/held").await.expect("an answer").status })
        })
        .collect();
    let store = cluster.store().await.expect("a store");
    until("nine are in flight", || async {
        (store.queues(&cluster.compiled_policy()).await.ok()?.passes == 9).then_some(())
    })
    .await;
    let refused = client.get("/ok").await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (503, "hard_limit"));
    let task = portcullis_loadtest::client::Submission::new("demo", json!(1));
    let refused = client.submit(&task).await.expect("an answer");
    assert_eq!((refused.status, refused.step()), (503, "backpressure"), "a task finds the same load");
    application.release(9);
    for answer in held {
        assert_eq!(answer.await.expect("it ran"), 200);
    }
    until("nothing is in flight", || async {
        (store.queues(&cluster.compiled_policy()).await.ok()?.passes == 0).then_some(())
    })
    .await;
    assert_eq!(client.get("/ok").await.expect("an answer").status, 200);
}

#[tokio::test]
async fn classes_change_at_run_time() {
    let application = Application::start().await;
    let cluster = start(before(&application, json!({}))).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    assert_eq!(client.get("/later").await.expect("an answer").status, 200);
    let update = json!({ "guarded_rest_patterns": ["^/later$"] });
    let updated = cluster.admin(0).post("/admin/gateway/update-config", &update).await.expect("an answer");
    assert_eq!(updated.status, 200, "{}", updated.text);
    let refused = client.get("/later").await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (503, "no_live_processors"));
    assert_eq!(refused.header("x-policy-revision"), Some("1"));
}

#[tokio::test]
async fn without_an_application_other_paths_are_not_found() {
    let cluster = start(crate::fixture::cluster()).await;
    let answer = cluster.gateway(0).get("/anything").await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (404, "not_found"));
}
