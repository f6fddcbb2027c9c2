//! The listener for operators: is it alive, does it take work, what has it done.
//!
//! Responsible for never serving metrics to strangers: off loopback only with a token. Must never change anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the recorder sorts what was measured into its buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the listener shows.
pub(crate) struct Admin {
    pub(crate) metrics: PrometheusHandle,
    /// Bearer token for the metrics; none only on loopback.
    pub(crate) token: Option<SecretString>,
    pub(crate) drain: CancellationToken,
}

/// Why metrics may not be served as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not loopback, and PORTCULLIS_ADMIN_TOKEN is not set: its metrics would be open to everyone")]
pub(crate) struct OpenToEveryone(SocketAddr);

/// Refuses an address off loopback without a token, before anything is bound.
pub(crate) fn check(listen: SocketAddr, token: Option<&SecretString>) -> Result<(), OpenToEveryone> {
    if listen.ip().is_loopback() || token.is_some() { Ok(()) } else { Err(OpenToEveryone(listen)) }
}

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, admin: Admin) {
    let metrics = admin.metrics.clone();
    let upkeep = async {
        loop {
            sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    };
    let router = router(admin);
    tokio::select! {
        served = async { axum::serve(listener, router).await } => {
            if let Err(fault) = served {
                tracing::error!(%fault, "the admin listener ended");
            }
        }
        () = upkeep => {}
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(Arc::new(admin))
}

/// Ready means willing: an outage of Redis, which all share, must not have every processor replaced.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    if admin.drain.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

async fn scrape(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    if !admin.token.as_ref().is_none_or(|token| presents(&headers, token)) {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, "unauthenticated\n").into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, admin.metrics.render()).into_response()
}

fn presents(headers: &HeaderMap, token: &SecretString) -> bool {
    let presented = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let Some((scheme, credential)) = presented.split_at_checked("Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(credential.ct_eq(token.expose_secret().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    async fn start(token: Option<&str>, drain: CancellationToken) -> (String, tokio::task::JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = tokio::task::JoinSet::new();
        let admin = Admin { metrics: crate::metric::recorder(), token: token.map(SecretString::from), drain };
        serving.spawn(serve(listener, admin));
        (url, serving)
    }

    async fn status(url: &str, path: &str, credential: Option<&str>) -> u16 {
        let request = reqwest::Client::new().get(format!("{url}{path}"));
        let request = credential.into_iter().fold(request, |request, text| request.header("authorization", text));
        request.send().await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn readiness_ends_with_draining_and_health_does_not() {
        let drain = CancellationToken::new();
        let (url, _serving) = start(None, drain.clone()).await;
        assert_eq!(status(&url, "/readyz", None).await, 200);
        drain.cancel();
        assert_eq!(status(&url, "/readyz", None).await, 503);
        assert_eq!(status(&url, "/healthz", None).await, 200);
    }

    #[tokio::test]
    async fn metrics_need_the_token_where_there_is_one() {
        let (url, _serving) = start(Some(TOKEN), CancellationToken::new()).await;
        for (credential, expected) in [
            (None, 401),
            (Some(TOKEN), 401),
            (Some("Bearer "), 401),
            (Some("Bearer 0123456789abcdef0123456789abcdeX"), 401),
            (Some("bearer 0123456789abcdef0123456789abcdef"), 200),
        ] {
            assert_eq!(status(&url, "/metrics", credential).await, expected, "{credential:?}");
        }
        assert_eq!(status(&url, "/healthz", None).await, 200);
    }

    #[test]
    fn off_loopback_there_must_be_a_token() {
        let everywhere: SocketAddr = "0.0.0.0:8082".parse().unwrap();
        let loopback: SocketAddr = "[::1]:8082".parse().unwrap();
        assert!(check(everywhere, None).is_err());
        assert!(check(everywhere, Some(&TOKEN.into())).is_ok());
        assert!(check(loopback, None).is_ok());
    }
}
