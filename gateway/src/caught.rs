//! Faults of the gateway itself while it answers a request.
//!
//! Responsible for a panic being one request's affair: it is logged under the request's id, its caller is told 500 with
//! that id and nothing else, and whoever shares the connection goes on. Must never be used to go on with what broke:
//! the work is dropped. Nor may it say what a panic says: that may quote a request or a secret, so only the place is
//! told.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;

use axum::http::Method;
use futures_util::FutureExt;
use portcullis_config::logging;

use crate::refusal::{Cause, Refused};
use crate::respond::RequestId;

thread_local! {
    /// Where this thread panicked last, until it is told under a request's id.
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics of this process logged, and remembered until they are told under the request that they were about.
pub(crate) fn log_panics() {
    logging::log_panics(|at| PANICKED_AT.set(Some(at.to_owned())));
}

/// The outcome of this work, or the refusal to give instead. `route` is the request's, as metrics name it.
pub(crate) fn caught<T>(
    request_id: &RequestId,
    method: &Method,
    route: &str,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Refused>> {
    // What is shared with other requests is whole at every step: locks that broke are taken over as they are. No
    // future of its own, which would hold the work twice.
    let refused = move |_| {
        // Nothing else has run on this thread since.
        let at = PANICKED_AT.take();
        let request_id = request_id.as_str();
        tracing::error!(request_id, %method, route, at, "a request was dropped because answering it failed");
        let detail = "This gateway failed to answer. Its log has more under the request's id.";
        Refused::new(Cause::Internal, "Internal error", detail)
    };
    AssertUnwindSafe(work).catch_unwind().map(move |done| done.map_err(refused))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use axum::http::HeaderMap;
    use portcullis_config::logging::LogFormat;
    use serde_json::Value;

    use super::*;
    use crate::answer_headers::REQUEST_ID;

    /// Tells a test that it is the process of its own that it has started, whose hook it may take over.
    const STARTED: &str = "STARTED_BY_A_TEST";

    async fn broken() {
        tokio::task::yield_now().await;
        panic!("canary");
    }

    #[tokio::test]
    async fn a_panic_is_one_requests_affair_and_says_nothing_of_itself() {
        let request_id = RequestId::of(&HeaderMap::new());
        let refused = caught(&request_id, &Method::GET, "/v1/limits", broken()).await.unwrap_err();
        assert_eq!(refused.cause, Cause::Internal);
        assert!(!format!("{refused:?}").contains("canary"));
        assert_eq!(caught(&request_id, &Method::GET, "/v1/limits", async { 7 }).await, Ok(7));
    }

    async fn panic_and_log_it() {
        logging::start("info", Some(LogFormat::Json)).unwrap();
        log_panics();
        let headers = HeaderMap::from_iter([(REQUEST_ID, "the-request".parse().unwrap())]);
        caught(&RequestId::of(&headers), &Method::POST, "/v1/tasks", broken()).await.unwrap_err();
    }

    #[tokio::test]
    async fn the_log_says_under_the_requests_id_where_it_panicked_and_nowhere_why() {
        if std::env::var_os(STARTED).is_some() {
            return panic_and_log_it().await;
        }
        let this = "caught::tests::the_log_says_under_the_requests_id_where_it_panicked_and_nowhere_why";
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", this, "--nocapture"]).env(STARTED, "1").env("RUST_BACKTRACE", "0");
        let output = process.output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !log.contains("canary"), "{log}");
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let [panicked, dropped] = &lines[..] else { panic!("{log}") };
        assert!(panicked["at"].as_str().unwrap().contains("caught.rs:"), "{log}");
        let told = ["at", "request_id", "method", "route"].map(|name| &dropped[name]);
        assert_eq!(told, [&panicked["at"], &"the-request".into(), &"POST".into(), &"/v1/tasks".into()], "{log}");
    }
}
