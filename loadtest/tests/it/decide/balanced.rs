//! `HAProxy` in front of gateways, which pass on to the application themselves.

use portcullis_loadtest::cluster::Member;
use serde_json::json;

use super::application::Application;
use super::front::Front;
use super::{asked, client_of};
use crate::fixture::{start, until};

#[tokio::test]
async fn haproxy_balances_gateways_that_guard_the_application() {
    let application = Application::start().await;
    let upstream = format!("http://{}", application.address());
    let mut cluster = start(asked().gateways(2).env("UPSTREAM_URL", &upstream)).await;
    let front = Front::haproxy([cluster.public_address(0), cluster.public_address(1)]).await;
    let client = client_of(&front);
    let ada =
        client.caller("paid", "ada").with_header("x-user-type", "privileged").with_header("x-forwarded-for", "::1");
    until("a gateway is known to be ready", || async { (client.get("/free").await.ok()?.status == 200).then_some(()) })
        .await;
    for _ in 0..3 {
        assert_eq!(ada.post("/work/1", &json!(1)).await.expect("an answer").status, 200);
        assert_eq!(application.latest().header("x-user-type"), "paid");
    }
    let before = application.count();
    let refused = ada.post("/work/1", &json!(1)).await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (429, "burst_limit"), "both gateways count the same");
    assert!(refused.retry_after().is_some());
    let overloaded = client.caller("paid", "bob").get("/guarded/1").await.expect("an answer");
    assert_eq!((overloaded.status, overloaded.code()), (503, "no_live_processors"));
    assert_eq!(client.bearer("nonsense").get("/free").await.expect("an answer").status, 401);
    for path in ["/v1/decide", "/v1/decide/envoy/free"] {
        assert_eq!(client.get(path).await.expect("an answer").status, 404, "{path} is for proxies");
    }
    assert_eq!(application.count(), before);

    cluster.member(Member::Gateway(0)).expect("it is there").kill().await.expect("killed");
    for _ in 0..6 {
        let answer = client.get("/free").await.expect("an answer");
        assert_eq!(answer.status, 200, "another gateway takes it: {}", answer.text);
    }
    cluster.member(Member::Gateway(1)).expect("it is there").kill().await.expect("killed");
    let before = application.count();
    assert_eq!(client.get("/free").await.expect("an answer").status, 503);
    assert_eq!(application.count(), before);
}
