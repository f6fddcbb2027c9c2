//! Faults of the gateway itself while it answers a request.
//!
//! Responsible for a panic being one request's affair: it is logged under the request's id, its caller is told 500 with
//! that id and nothing else, and whoever shares the connection goes on. Must never be used to go on with what broke:
//! the work is dropped.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::refusal::{Cause, Refused};
use crate::respond::RequestId;

/// The outcome of this work, or the refusal to give instead.
pub(crate) fn caught<T>(
    request_id: &RequestId,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Refused>> {
    // What is shared with other requests is whole at every step: locks that broke are taken over as they are. No
    // future of its own, which would hold the work twice.
    let refused = |_| {
        tracing::error!(request_id = request_id.as_str(), "a request was dropped because answering it failed");
        let detail = "This gateway failed to answer. Its log has more under the request's id.";
        Refused::new(Cause::Internal, "Internal error", detail)
    };
    AssertUnwindSafe(work).catch_unwind().map(move |done| done.map_err(refused))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_one_requests_affair_and_says_nothing_of_itself() {
        let request_id = RequestId::of(&HeaderMap::new());
        let broken = async {
            tokio::task::yield_now().await;
            panic!("canary");
        };
        let refused = caught::<()>(&request_id, broken).await.unwrap_err();
        assert_eq!(refused.cause, Cause::Internal);
        assert!(!format!("{refused:?}").contains("canary"));
        assert_eq!(caught(&request_id, async { 7 }).await, Ok(7));
    }
}
