//! Web pages that would use the session of whoever reads them.
//!
//! Responsible for the cookie counting for its own pages only. Must never be about bearer tokens, which no page has.

use portcullis_loadtest::client::Submission;
use serde_json::json;

use super::sight::who;
use super::terms::{Terms, with_api_key};
use crate::fixture::{accepted, start};

const ADA: &str = "acme:ada by session as paid";

#[tokio::test]
async fn a_page_of_somebody_else_changes_nothing_with_its_readers_cookie() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let listed = json!({ "cors": { "allowed_origins": ["https://app.example"], "allow_credentials": true } });
    let mut cluster = start(terms.cluster().policy(listed)).await;
    cluster.stand_in(100).await.expect("capacity");
    let anyone = cluster.gateway(0);
    let opened = with_api_key(&anyone, "adaskey1").post("/v1/sessions", &json!({})).await.expect("an answer");
    let token = opened.body["token"].as_str().expect("a token");
    let reader = anyone.with_header("cookie", &format!("__Host-portcullis_session={token}"));
    let task = Submission::new("demo", json!(1));
    let task_id = accepted(&reader, &task).await;
    let path = format!("/v1/tasks/{task_id}");
    let own = anyone.base().to_owned();
    let foreign = [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example:8443",
        "",
    ];
    for origin in foreign {
        let page = reader.with_header("origin", origin);
        let refused = page.submit(&task).await.expect("an answer");
        assert_eq!((refused.status, refused.code(), refused.step()), (403, "forbidden", "session"), "{origin:?}");
        for path in [path.as_str(), "/v1/sessions/current"] {
            assert_eq!(page.delete(path).await.expect("an answer").status, 403, "{path} from {origin:?}");
        }
        let wish = json!({ "agent": "thief", "scopes": ["*"], "reason": "to steal" });
        assert_eq!(page.post("/v1/delegations", &wish).await.expect("an answer").status, 403);
        let read = page.get("/v1/sessions/current").await.expect("an answer");
        assert!(read.header("access-control-allow-origin").is_none(), "{origin:?} may not read the answer");
        let bearer = anyone.bearer(token).with_header("origin", origin);
        assert_eq!(bearer.submit(&task).await.expect("an answer").status, 202, "no browser adds a bearer token");
    }
    assert_eq!(who(&reader).await, ADA, "nothing was left");
    assert_eq!(reader.task(&task_id).await.expect("an answer").task_status(), "queued", "nothing was cancelled");
    for origin in [own.as_str(), "https://app.example"] {
        accepted(&reader.with_header("origin", origin), &task).await;
    }
}
