//! Waiting for a condition instead of for a time.
//!
//! Responsible for the one bounded polling loop of the harness. Must never be used to sleep: a caller that knows no
//! condition has nothing to wait for.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::HarnessError;

const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until `condition` gives a value; after `limit` fails with `what` was waited for.
pub async fn eventually<T, F, Fut>(limit: Duration, what: &str, mut condition: F) -> Result<T, HarnessError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(HarnessError::Timeout(limit, what.to_owned()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gives_the_value_of_the_first_true_condition() {
        let mut asked = 0;
        let value = eventually(Duration::from_secs(1), "three questions", || {
            asked += 1;
            let value = (asked == 3).then_some(asked);
            async move { value }
        })
        .await;
        assert_eq!(value.expect("within a second"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_after_the_limit_naming_what_was_waited_for() {
        let outcome = eventually(Duration::from_secs(1), "a miracle", || async { None::<()> }).await;
        assert!(outcome.expect_err("never true").to_string().contains("a miracle"));
    }
}
