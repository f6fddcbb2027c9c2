//! What gathers, in which order, and who hears what.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_lua::{TaskId, Verdict};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::*;

/// Answers every request with its own task id, one call per permit.
#[derive(Clone, Debug)]
struct Script {
    permits: Arc<Semaphore>,
    calls: Arc<Mutex<Vec<Vec<String>>>>,
    answer: fn(&[AdmitRequest]) -> Result<Vec<Decision>, StoreError>,
}

impl Script {
    fn new(permits: usize, answer: fn(&[AdmitRequest]) -> Result<Vec<Decision>, StoreError>) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), calls: Arc::default(), answer }
    }

    fn calls(&self) -> Vec<Vec<String>> {
        self.calls.lock().unwrap().clone()
    }
}

impl Decide for Script {
    async fn decide(&self, requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        self.calls.lock().unwrap().push(requests.iter().map(|request| request.request_id.clone()).collect());
        self.permits.acquire().await.unwrap().forget();
        (self.answer)(requests)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a script may fail; this one does not")]
fn admit_all(requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
    let admitted = |request: &AdmitRequest| Decision {
        verdict: Verdict::Admitted { task_id: request.task_id.clone(), estimated_wait_ms: 0 },
        depth: 1,
        capacity: 1,
        limits: Vec::new(),
        budgets: Vec::new(),
    };
    Ok(requests.iter().map(admitted).collect())
}

fn request(request_id: usize) -> AdmitRequest {
    AdmitRequest {
        task_id: TaskId::generate(),
        user_type: UserType::anonymous(),
        session_id: "s".to_owned(),
        principal: "p".to_owned(),
        actor: None,
        kind: "chat".to_owned(),
        cost: 1,
        deadline_ms: None,
        delay_ms: 0,
        max_attempts: 1,
        idempotency: None,
        estimates: Vec::new(),
        request_id: request_id.to_string(),
        traceparent: None,
        content_type: "application/json".to_owned(),
        payload: Bytes::new(),
    }
}

/// Hands in requests `ids`, each from a task of its own, in this order.
async fn hand_in(
    group: &Arc<GroupCommit>,
    ids: std::ops::Range<usize>,
) -> JoinSet<(AdmitRequest, Result<Decision, StoreError>)> {
    let mut callers = JoinSet::new();
    for id in ids {
        let (group, request) = (group.clone(), request(id));
        callers.spawn(async move { (request.clone(), group.decide(request).await) });
        tokio::task::yield_now().await;
    }
    callers
}

#[tokio::test(start_paused = true)]
async fn what_gathers_during_a_call_goes_out_together_in_order_and_bounded() {
    let (group, gathered) = group_commit();
    let (group, script, stop) = (Arc::new(group), Script::new(0, admit_all), CancellationToken::new());
    let sender = tokio::spawn(gathered.send_batches(script.clone(), stop.clone()));
    let mut callers = hand_in(&group, 0..1 + ADMIT_BATCH + 5).await;
    assert_eq!(script.calls().len(), 1, "the first request is in flight alone");
    script.permits.add_permits(3);
    while let Some(answered) = callers.join_next().await {
        let (request, decision) = answered.unwrap();
        let Verdict::Admitted { task_id, .. } = decision.unwrap().verdict else { panic!("not admitted") };
        assert_eq!(task_id, request.task_id, "everybody hears of their own request");
    }
    let names = |ids: std::ops::Range<usize>| ids.map(|id| id.to_string()).collect::<Vec<_>>();
    assert_eq!(script.calls(), [names(0..1), names(1..33), names(33..38)]);
    stop.cancel();
    sender.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_went_away_is_not_sent() {
    let (group, gathered) = group_commit();
    let (group, script) = (Arc::new(group), Script::new(0, admit_all));
    let sender = tokio::spawn(gathered.send_batches(script.clone(), CancellationToken::new()));
    let mut first = hand_in(&group, 0..1).await;
    let mut gone = hand_in(&group, 1..3).await;
    gone.shutdown().await;
    let mut last = hand_in(&group, 3..4).await;
    script.permits.add_permits(2);
    assert!(first.join_next().await.unwrap().unwrap().1.is_ok());
    assert!(last.join_next().await.unwrap().unwrap().1.is_ok());
    assert_eq!(script.calls(), [["0"], ["3"]]);
    sender.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_takes_along_what_gathered_behind_it_unsent() {
    fn lose(_: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        Err(StoreError::Unavailable("no answer in time".to_owned()))
    }
    let (group, gathered) = group_commit();
    let (group, script) = (Arc::new(group), Script::new(0, lose));
    let sender = tokio::spawn(gathered.send_batches(script.clone(), CancellationToken::new()));
    let callers = hand_in(&group, 0..100).await;
    script.permits.add_permits(1);
    for (_, decision) in callers.join_all().await {
        assert!(matches!(decision, Err(StoreError::Unavailable(_))));
    }
    assert_eq!(script.calls(), [["0"]], "only the first was ever sent");
    sender.abort();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_too_long_is_not_sent() {
    let (group, gathered) = group_commit();
    let (group, script) = (Arc::new(group), Script::new(0, admit_all));
    let sender = tokio::spawn(gathered.send_batches(script.clone(), CancellationToken::new()));
    let first = hand_in(&group, 0..1).await;
    let late = hand_in(&group, 1..2).await;
    tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
    let last = hand_in(&group, 2..3).await;
    script.permits.add_permits(2);
    assert!(first.join_all().await[0].1.is_ok());
    assert!(matches!(late.join_all().await[0].1, Err(StoreError::Unavailable(_))));
    assert!(last.join_all().await[0].1.is_ok());
    assert_eq!(script.calls(), [["0"], ["2"]]);
    sender.abort();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_answers_at_once() {
    let (group, gathered) = group_commit();
    let group = Arc::new(group);
    let waiting = hand_in(&group, 0..MAX_WAITING).await;
    let started = Instant::now();
    assert!(matches!(group.decide(request(MAX_WAITING)).await, Err(StoreError::Unavailable(_))));
    assert_eq!(started.elapsed(), Duration::ZERO);
    drop((waiting, gathered));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_to_the_whole_batch_and_the_next_batch_goes_on() {
    fn fail_the_first(requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        if requests[0].request_id == "0" {
            Err(StoreError::StalePolicy { held: 1, current: 2 })
        } else {
            admit_all(requests)
        }
    }
    let (group, gathered) = group_commit();
    let sender = tokio::spawn(gathered.send_batches(Script::new(9, fail_the_first), CancellationToken::new()));
    assert!(matches!(group.decide(request(0)).await, Err(StoreError::StalePolicy { .. })));
    assert!(group.decide(request(1)).await.is_ok());
    sender.abort();
}

#[tokio::test(start_paused = true)]
async fn a_script_that_answers_too_little_is_believed_by_nobody() {
    let (group, gathered) = group_commit();
    let none = |_: &[AdmitRequest]| Ok(Vec::new());
    let sender = tokio::spawn(gathered.send_batches(Script::new(9, none), CancellationToken::new()));
    assert!(matches!(group.decide(request(0)).await, Err(StoreError::Protocol(_))));
    sender.abort();
}

#[tokio::test(start_paused = true)]
async fn callers_hear_at_once_when_the_sender_has_stopped() {
    let (group, gathered) = group_commit();
    let stop = CancellationToken::new();
    stop.cancel();
    gathered.send_batches(Script::new(0, admit_all), stop).await;
    assert!(matches!(group.decide(request(0)).await, Err(StoreError::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn large_payloads_share_a_call_only_as_far_as_it_stays_short() {
    let (group, gathered) = group_commit();
    let (group, script) = (Arc::new(group), Script::new(0, admit_all));
    let mut callers = JoinSet::new();
    // The first two fit together; the third is larger than a call's share, and goes alone all the same.
    for (id, bytes) in [BATCH_BYTES / 2, BATCH_BYTES / 2, BATCH_BYTES + 1, 1].into_iter().enumerate() {
        let (group, large) = (group.clone(), AdmitRequest { payload: vec![b'x'; bytes].into(), ..request(id) });
        callers.spawn(async move { group.decide(large).await });
        tokio::task::yield_now().await;
    }
    let sender = tokio::spawn(gathered.send_batches(script.clone(), CancellationToken::new()));
    script.permits.add_permits(3);
    while let Some(answered) = callers.join_next().await {
        assert!(answered.unwrap().is_ok());
    }
    assert_eq!(script.calls(), [vec!["0", "1"], vec!["2"], vec!["3"]]);
    sender.abort();
}
