//! What is due, and when.

use std::sync::Arc;

use tokio::time::advance;

use super::*;
use crate::state::Gateway;
use crate::state::tests::options_without_redis;

impl ServedScope {
    /// As if everything that is due had been done now.
    pub(crate) fn settle_for_tests(&self) {
        let holding = self.holding();
        let mut due = self.due();
        due.subscribed = true;
        due.looked = due.heard;
        due.reported = Some(holding);
        due.report_at = Instant::now() + Duration::from_secs(5);
        due.lapse_at = Instant::now() + Duration::from_secs(5);
        due.revocations_asked = Some(Instant::now() + Duration::from_secs(3600));
    }
}

fn scope() -> Arc<ServedScope> {
    Gateway::new(options_without_redis()).scopes().default_scope().clone()
}

#[tokio::test(start_paused = true)]
async fn a_new_scope_is_reported_and_then_from_time_to_time() {
    let scope = scope();
    assert!(scope.is_due());
    scope.settle_for_tests();
    assert!(!scope.is_due());
    advance(Duration::from_secs(5)).await;
    assert!(scope.is_due());
}

#[tokio::test(start_paused = true)]
async fn passes_are_taken_back_from_time_to_time_whether_or_not_the_policy_guards_a_path() {
    let scope = scope();
    scope.settle_for_tests();
    scope.due().report_at = Instant::now() + Duration::from_secs(3600);
    assert!(!scope.policy().guards_paths() && !scope.is_due());
    advance(Duration::from_secs(5)).await;
    assert!(scope.is_due());
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_is_asked_every_other_second_while_somebody_is_served_and_seldom_else() {
    let scope = scope();
    let asked_now = || {
        scope.settle_for_tests();
        let mut due = scope.due();
        due.revocations_asked = Some(Instant::now());
        due.report_at += Duration::from_secs(3600);
        due.lapse_at += Duration::from_secs(3600);
    };
    asked_now();
    advance(Duration::from_millis(1999)).await;
    assert!(!scope.is_due());
    advance(Duration::from_millis(1)).await;
    assert!(scope.is_due());
    advance(QUIET).await;
    asked_now();
    advance(Duration::from_secs(59)).await;
    assert!(!scope.is_due(), "nobody has used it for a while");
}

#[tokio::test(start_paused = true)]
async fn news_is_due_until_it_has_been_looked_at() {
    let scope = scope();
    scope.settle_for_tests();
    scope.note_news();
    assert!(scope.is_due() && !scope.is_abreast());
    scope.keep_in_step().await;
    assert!(!scope.is_due(), "redis is away: it is left alone for a while");
    advance(RETRY).await;
    assert!(scope.is_due(), "and looked at again");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_now_but_was_not_reported_is_due_at_once() {
    let scope = scope();
    scope.settle_for_tests();
    scope.due().reported = Some((PolicyStamp::new(1, "{}"), None));
    assert!(scope.is_due());
    scope.settle_for_tests();
    scope.due().reported = Some((PolicyStamp::NONE, Some("it could not be read".to_owned())));
    assert!(scope.is_due(), "so is a policy that can be put in force again");
}

#[tokio::test]
async fn a_scope_without_a_subscription_is_never_abreast() {
    let scope = scope();
    scope.settle_for_tests();
    assert!(!scope.is_abreast());
}

#[tokio::test]
async fn counts_that_cannot_be_written_are_kept() {
    let scope = scope();
    scope.tally().count("admitted", &portcullis_config::UserType::anonymous(), true);
    assert!(!scope.flush_tally().await, "there is no Redis");
    let kept = scope.tally().next_flush().expect("it was kept");
    assert_eq!(kept.entries[0].count, 1);
    scope.tally().written(&kept);
    assert!(scope.flush_tally().await, "nothing is left");
}
