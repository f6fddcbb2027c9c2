//! When an issuer's keys are fetched, and what becomes of tokens meanwhile. Responsible for the counts of fetches: time
//! stands still here unless it is moved.

use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use jsonwebtoken::DecodingKey;
use tokio::time::{advance, sleep};

use super::*;
use crate::identity::Egress;
use crate::identity::fetch_record::tests::record;
use crate::identity::test_issuer::{Answer, TestKey, TestServer, key_set};

const MINUTE: Duration = Duration::from_secs(60);

/// Publishes the names it holds; `None`: it cannot be reached.
#[derive(Clone, Debug)]
struct FakeSource(Arc<(StdMutex<Option<Vec<&'static str>>>, AtomicUsize)>);

#[async_trait]
impl KeySource for FakeSource {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        // Long enough for everybody else to come along.
        sleep(Duration::from_millis(100)).await;
        let kids = self
            .0
            .0
            .lock()
            .unwrap()
            .clone()
            .ok_or_else(|| FetchError::Failed(FetchFault::Unreachable, "down".to_owned()))?;
        let key = || Arc::new(VerifyingKey::new(vec![Algorithm::RS256], DecodingKey::from_secret(b"")));
        Ok(kids.into_iter().map(|kid| (kid.to_owned(), key())).collect())
    }
}

impl FakeSource {
    fn publish(&self, kids: &[&'static str]) {
        *self.0.0.lock().unwrap() = Some(kids.to_vec());
    }

    fn go_down(&self) {
        *self.0.0.lock().unwrap() = None;
    }

    fn fetches(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

fn keys(published: &[&'static str]) -> (Arc<IssuerKeys>, FakeSource) {
    let source = FakeSource(Arc::new((StdMutex::new(Some(published.to_vec())), AtomicUsize::new(0))));
    (IssuerKeys::new(record().0, Box::new(source.clone()), Background::default()), source)
}

async fn cause(keys: &Arc<IssuerKeys>, kid: &str) -> &'static str {
    keys.key(kid).await.map_or_else(|unproven| unproven.cause, |_| "found")
}

#[tokio::test(start_paused = true)]
async fn everybody_waits_for_one_fetch() {
    let (keys, source) = keys(&["a"]);
    let causes = join_all((0..100).map(|_| cause(&keys, "a"))).await;
    assert!(causes.iter().all(|cause| *cause == "found"));
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_unknown_names_fetches_once_in_half_a_minute() {
    let (keys, source) = keys(&["a"]);
    assert_eq!(cause(&keys, "a").await, "found");
    advance(MINUTE).await;
    for round in 0..2 {
        let names: Vec<String> = (0..1000).map(|number| format!("{round}-{number}")).collect();
        let causes = join_all(names.iter().map(|name| cause(&keys, name))).await;
        assert!(causes.iter().all(|cause| *cause == "unknown_kid"));
        assert_eq!(source.fetches(), 2 + round);
        advance(FETCH_EVERY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_unknown_is_asked_for_again_after_half_a_minute() {
    let (keys, source) = keys(&["a"]);
    assert_eq!(cause(&keys, "b").await, "unknown_kid");
    advance(FETCH_EVERY.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!((cause(&keys, "b").await, source.fetches()), ("unknown_kid", 1));
    advance(Duration::from_millis(1)).await;
    assert_eq!((cause(&keys, "b").await, source.fetches()), ("unknown_kid", 2));
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_names_of_no_key_does_not_hide_a_new_one() {
    let (keys, source) = keys(&["old"]);
    assert_eq!(cause(&keys, "guess").await, "unknown_kid");
    source.publish(&["old", "new"]);
    assert_eq!(cause(&keys, "new").await, "unknown_kid", "it has just been looked");
    advance(FETCH_EVERY).await;
    assert_eq!((cause(&keys, "new").await, source.fetches()), ("found", 2), "though it was unknown a moment ago");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_taken_back_is_forgotten_though_nobody_asks() {
    let (keys, source) = keys(&["old"]);
    assert_eq!(cause(&keys, "old").await, "found");
    source.publish(&["new"]);
    sleep(SOFT + Duration::from_secs(1)).await;
    assert_eq!(source.fetches(), 2);
    assert_eq!(cause(&keys, "old").await, "unknown_kid", "not even the first token after a quiet time counts");
    assert_eq!((cause(&keys, "new").await, source.fetches()), ("found", 2));
    source.go_down();
    sleep(SOFT + FETCH_EVERY * 5 / 2).await;
    assert_eq!(source.fetches(), 5, "an issuer that is down is asked every half minute");
    source.publish(&["newer"]);
    sleep(FETCH_EVERY * 2).await;
    assert_eq!(source.fetches(), 6);
    assert_eq!((cause(&keys, "newer").await, cause(&keys, "new").await), ("found", "unknown_kid"));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_takes_all_keys_back_is_not_one_that_is_down() {
    let (keys, source) = keys(&["a"]);
    assert_eq!(cause(&keys, "a").await, "found");
    source.publish(&[]);
    sleep(SOFT + Duration::from_secs(1)).await;
    assert_eq!(cause(&keys, "a").await, "unknown_kid");
    source.publish(&["a"]);
    sleep(FETCH_EVERY).await;
    assert_eq!(cause(&keys, "a").await, "found");
}

#[tokio::test(start_paused = true)]
async fn keys_outlive_an_issuer_that_is_down_by_a_day_and_no_more() {
    let (keys, source) = keys(&["a"]);
    assert_eq!(cause(&keys, "a").await, "found");
    source.go_down();
    for _ in 0..(HARD.as_secs() / SOFT.as_secs() - 1) {
        advance(SOFT).await;
        assert_eq!(cause(&keys, "a").await, "found");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(cause(&keys, "b").await, "idp_unavailable", "whether there is such a key cannot be told");
    advance(SOFT).await;
    assert_eq!(cause(&keys, "a").await, "idp_unavailable");
    source.publish(&["a"]);
    advance(RETRY_EVERY).await;
    assert_eq!(cause(&keys, "a").await, "found");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_set_that_is_fetched_again() {
    let (keys, source) = keys(&["a"]);
    assert_eq!(cause(&keys, "a").await, "found");
    advance(SOFT).await;
    while source.fetches() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(keys.last_look.try_lock().is_err(), "it is under way");
    let causes = join_all((0..100).map(|_| cause(&keys, "a"))).await;
    assert!(causes.iter().all(|cause| *cause == "found"));
    assert!(keys.last_look.try_lock().is_err(), "still");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(source.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_was_never_reached_is_tried_again_but_not_by_everybody() {
    let (keys, source) = keys(&[]);
    source.go_down();
    for round in 1..=3 {
        let causes = join_all((0..100).map(|_| cause(&keys, "a"))).await;
        assert!(causes.iter().all(|cause| *cause == "idp_unavailable"));
        assert_eq!(source.fetches(), round);
        advance(RETRY_EVERY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_was_never_reached_is_found_when_it_is_back_though_nobody_asks() {
    let (keys, source) = keys(&["a"]);
    source.go_down();
    assert_eq!(cause(&keys, "junk").await, "idp_unavailable");
    sleep(FETCH_EVERY * 5 / 2).await;
    assert_eq!(source.fetches(), 3, "every half minute");
    source.publish(&["a"]);
    sleep(FETCH_EVERY).await;
    assert_eq!((keys.status().0, source.fetches()), (1, 4));
    sleep(SOFT).await;
    assert_eq!(source.fetches(), 5, "then as ever");
}

#[tokio::test(start_paused = true)]
async fn callers_who_go_away_do_not_take_the_fetch_along() {
    let (keys, source) = keys(&["a"]);
    let hang_up = async |kid| tokio::time::timeout(Duration::from_millis(10), keys.key(kid)).await.is_err();
    assert!(hang_up("a").await);
    assert_eq!((cause(&keys, "a").await, source.fetches()), ("found", 1));
    source.publish(&["b"]);
    advance(FETCH_EVERY).await;
    assert!(hang_up("guess").await);
    assert_eq!((cause(&keys, "b").await, source.fetches()), ("found", 2));
}

#[tokio::test]
async fn a_key_set_is_found_by_the_issuers_own_discovery_document_only() {
    let server = TestServer::start().await;
    let key = TestKey::es256("e");
    let issuer = server.url("/tenant/");
    let published = || Published {
        issuer: issuer.clone(),
        jwks_url: None,
        algorithms: vec![Algorithm::ES256],
        fetcher: Fetcher::new(Egress::new(["127.0.0.1".to_owned()])).unwrap(),
    };
    let document = |issuer: &str, keys: &str| {
        Answer::ok(serde_json::json!({ "issuer": issuer, "jwks_uri": keys }).to_string().into_bytes())
    };
    let path = "/tenant/.well-known/openid-configuration";
    server.answer("/keys", key_set(&[&key]));
    server.answer(path, document(&issuer, &server.url("/keys")));
    assert!(published().fetch().await.unwrap().contains_key("e"));

    server.answer(path, document(&server.url("/other"), &server.url("/keys")));
    assert!(published().fetch().await.is_err(), "another issuer's");
    server.answer(path, document(&issuer, "http://169.254.169.254/latest"));
    assert!(matches!(published().fetch().await, Err(FetchError::Forbidden(_))));
    server.answer(path, Answer::redirect(&server.url("/keys")));
    assert!(published().fetch().await.is_err());
    assert_eq!(server.asked("/keys"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_status_shows_the_last_of_each_outcome_and_the_keys_that_are_held() {
    let (keys, source) = keys(&[]);
    let status = || {
        let (held, _, outcomes) = keys.status();
        (held, outcomes.last_ok_ms.is_some(), outcomes.last_error.map(|(_, fault)| fault))
    };
    assert_eq!(status(), (0, false, None), "nobody has asked yet");
    source.go_down();
    assert_eq!(cause(&keys, "a").await, "idp_unavailable");
    assert_eq!(status(), (0, false, Some(FetchFault::Unreachable)));
    source.publish(&["a", "b"]);
    advance(RETRY_EVERY).await;
    assert_eq!(cause(&keys, "a").await, "found");
    assert_eq!(status(), (2, true, Some(FetchFault::Unreachable)), "both are shown");
    source.publish(&[]);
    sleep(SOFT + Duration::from_secs(1)).await;
    assert_eq!(status(), (0, true, Some(FetchFault::NoUsableKey)));
    source.publish(&["a"]);
    sleep(SOFT).await;
    source.go_down();
    assert_eq!(status(), (1, true, Some(FetchFault::NoUsableKey)));
    advance(HARD).await;
    assert_eq!(status().0, 0, "keys that prove nothing are not held");
}

#[tokio::test(start_paused = true)]
async fn keys_are_overdue_from_the_first_fetch_that_failed_to_the_next_that_did_not() {
    let (keys, source) = keys(&["a"]);
    let overdue = || keys.status().1;
    assert_eq!((cause(&keys, "a").await, overdue()), ("found", false));
    source.go_down();
    advance(MINUTE).await;
    assert_eq!((cause(&keys, "b").await, overdue()), ("idp_unavailable", false), "those held are fresh");
    sleep(SOFT).await;
    assert_eq!((cause(&keys, "a").await, overdue()), ("found", true));
    source.publish(&["a"]);
    sleep(MINUTE).await;
    assert!(!overdue());
}

#[tokio::test]
async fn a_discovery_document_that_leads_inside_is_told_of() {
    let server = TestServer::start().await;
    let issuer = server.url("");
    let inside = serde_json::json!({ "issuer": issuer, "jwks_uri": "https://169.254.169.254/latest" });
    server.answer("/.well-known/openid-configuration", Answer::ok(inside.to_string().into_bytes()));
    let fetcher = Fetcher::new(Egress::new(["127.0.0.1".to_owned()])).unwrap();
    let published = Published { issuer, jwks_url: None, algorithms: vec![Algorithm::ES256], fetcher };
    let (record, told) = record();
    let keys = IssuerKeys::new(record, Box::new(published), Background::default());
    assert_eq!(cause(&keys, "a").await, "idp_unavailable");
    assert_eq!(keys.status().2.last_error.unwrap().1, FetchFault::AddressRefused);
    let address = "169.254.169.254".to_owned();
    assert_eq!(told.all(), [("i".to_owned(), address.clone(), Some(address))]);
}
