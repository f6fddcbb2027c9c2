//! Redis cannot be reached: what is revoked is not known any more after five seconds, and not known is not alive.
//!
//! Responsible for credentials that die by nothing but revocation. Must never take a slow machine for a wrong answer: a
//! request counts as late only by when it was sent.

use std::time::Duration;

use portcullis_loadtest::client::Client;
use portcullis_loadtest::credentials::principal_of;
use serde_json::json;
use tokio::time::Instant;

use super::cast::{Cast, boundless, read};
use crate::fixture::{impatient_cluster, until};

/// How old what is known of revocations may be.
const STALENESS: Duration = Duration::from_secs(5);
/// For how long it is asked after that.
const LONGER: Duration = Duration::from_secs(3);

#[tokio::test]
async fn sessions_and_agents_are_answered_for_five_seconds_without_redis_and_then_not_until_it_is_back() {
    let mut cast = Cast::on(impatient_cluster().policy(json!({ "rate_limits": boundless() }))).await;
    let session = cast.log_in("ada").await;
    let agent = cast.crew(&principal_of("ada")).reading.presented().to_owned();
    let callers: Vec<Client> = [session, agent].iter().map(|token| cast.cluster.gateway(0).bearer(token)).collect();
    for caller in &callers {
        // Who has been seen is remembered: what is refused below is not refused for being unknown.
        until("it is answered", || async { (read(caller).await == 200).then_some(()) }).await;
    }
    cast.cluster.redis().expect("its own").pause().expect("frozen");
    let frozen = Instant::now();
    let mut unknown = 0;
    while frozen.elapsed() < STALENESS + LONGER || unknown == 0 {
        for caller in &callers {
            let sent = frozen.elapsed();
            let status = read(caller).await;
            assert!(status == 200 || status == 503, "{status}");
            assert!(status == 503 || sent <= STALENESS, "answered with {status} {sent:?} after Redis was gone");
            unknown += usize::from(status == 503);
        }
    }
    cast.cluster.redis().expect("its own").resume().expect("awake again");
    for caller in &callers {
        until("it is answered again", || async { (read(caller).await == 200).then_some(()) }).await;
    }
}
