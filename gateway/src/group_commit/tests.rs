//! What gathers, in which order, and who hears what.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_lua::{AdmitRequest, Decision, PolicyStamp, Provenance, TaskId, Verdict};
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
    type Question = AdmitRequest;
    type Answer = Decision;

    fn bytes(&self, question: &AdmitRequest) -> usize {
        question.payload.len()
    }

    async fn decide(&self, requests: Vec<AdmitRequest>) -> Result<Vec<Decision>, StoreError> {
        self.calls.lock().unwrap().push(requests.iter().map(|request| request.request_id.clone()).collect());
        self.permits.acquire().await.unwrap().forget();
        (self.answer)(&requests)
    }
}

/// Admissions that one sender at a time asks the script about.
fn group(script: &Script) -> Arc<GroupCommit<Script>> {
    Arc::new(GroupCommit::new(script.clone(), Background::default(), 1))
}

/// How many senders run now, and how many of them wait.
fn senders(group: &GroupCommit<Script>) -> (usize, usize) {
    let queue = group.0.lock();
    (queue.senders, queue.idle)
}

#[expect(clippy::unnecessary_wraps, reason = "a script may fail; this one does not")]
fn admit_all(requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
    let admitted = |request: &AdmitRequest| Decision {
        verdict: Verdict::Admitted { task_id: request.task_id.clone(), estimated_wait_ms: 0, assumed: false },
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
        client_address: None,
        kind: "chat".to_owned(),
        pass: None,
        cost: 1,
        deadline_ms: None,
        delay_ms: 0,
        max_attempts: 1,
        idempotency: None,
        estimates: Vec::new(),
        provenance: Provenance::default(),
        request_id: request_id.to_string(),
        traceparent: None,
        tracestate: None,
        content_type: "application/json".to_owned(),
        payload: Bytes::new(),
    }
}

/// Hands in requests `ids`, each from a task of its own, in this order.
async fn hand_in(
    group: &Arc<GroupCommit<Script>>,
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
    let script = Script::new(0, admit_all);
    let group = group(&script);
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
}

#[tokio::test(start_paused = true)]
async fn the_next_call_is_made_while_the_last_one_is_in_flight() {
    let script = Script::new(0, admit_all);
    let group = Arc::new(GroupCommit::new(script.clone(), Background::default(), 2));
    let callers = hand_in(&group, 0..2 + ADMIT_BATCH).await;
    assert_eq!(script.calls(), [["0"], ["1"]], "two calls at most");
    script.permits.add_permits(3);
    assert!(callers.join_all().await.iter().all(|(_, decision)| decision.is_ok()));
    assert_eq!(script.calls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_batch_keeps_every_sender_busy() {
    let script = Script::new(9, admit_all);
    let group = Arc::new(GroupCommit::new(script.clone(), Background::default(), 2));
    // One idle sender; the other has to be called by whoever leaves something behind.
    assert!(group.decide(request(0)).await.is_ok());
    assert_eq!(senders(&group), (1, 1));
    script.permits.forget_permits(9);
    let mut callers = JoinSet::new();
    for id in 1..=ADMIT_BATCH + 5 {
        let group = group.clone();
        callers.spawn(async move { group.decide(request(id)).await });
    }
    for _ in 0..ADMIT_BATCH + 8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(senders(&group), (2, 0));
    script.permits.add_permits(9);
    assert!(callers.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn senders_end_when_nobody_comes_and_start_again_when_somebody_does() {
    let script = Script::new(9, admit_all);
    let group = group(&script);
    assert_eq!(senders(&group), (0, 0), "an idle scope has no task");
    assert!(group.decide(request(0)).await.is_ok());
    assert_eq!(senders(&group), (1, 1));
    let background = group.0.background.clone();
    sleep(LINGER / 2).await;
    assert!(group.decide(request(1)).await.is_ok());
    sleep(LINGER.mul_f64(0.9)).await;
    assert_eq!(senders(&group), (1, 1), "the last request is what counts");
    sleep(LINGER / 2).await;
    assert_eq!(senders(&group), (0, 0));
    assert!(group.decide(request(2)).await.is_ok());
    assert!(background.finish(Duration::from_secs(1)).await, "the new sender is one of the gateway's tasks");
}

#[tokio::test]
async fn nobody_is_forgotten_when_senders_come_and_go_under_load() {
    let script = Script::new(usize::MAX >> 3, admit_all);
    let group = Arc::new(GroupCommit::new(script.clone(), Background::default(), 2));
    tokio::time::pause();
    let mut callers = JoinSet::new();
    for id in 0..2000u64 {
        let group = group.clone();
        callers.spawn(async move {
            // Around the moment at which a sender gives up waiting.
            sleep(LINGER * (id as u32 % 7) + Duration::from_millis(id % 3)).await;
            group.decide(request(id as usize)).await
        });
    }
    assert!(callers.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_went_away_is_not_sent() {
    let script = Script::new(0, admit_all);
    let group = group(&script);
    let mut first = hand_in(&group, 0..1).await;
    let mut gone = hand_in(&group, 1..3).await;
    gone.shutdown().await;
    let mut last = hand_in(&group, 3..4).await;
    script.permits.add_permits(2);
    assert!(first.join_next().await.unwrap().unwrap().1.is_ok());
    assert!(last.join_next().await.unwrap().unwrap().1.is_ok());
    assert_eq!(script.calls(), [["0"], ["3"]]);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_takes_along_what_gathered_behind_it_unsent() {
    fn lose(_: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        Err(StoreError::Unavailable("no answer in time".to_owned()))
    }
    let script = Script::new(0, lose);
    let group = group(&script);
    let callers = hand_in(&group, 0..100).await;
    script.permits.add_permits(1);
    for (_, decision) in callers.join_all().await {
        assert!(matches!(decision, Err(StoreError::Unavailable(_))));
    }
    assert_eq!(script.calls(), [["0"]], "only the first was ever sent");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_too_long_is_not_sent() {
    let script = Script::new(0, admit_all);
    let group = group(&script);
    let first = hand_in(&group, 0..1).await;
    let late = hand_in(&group, 1..2).await;
    tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
    let last = hand_in(&group, 2..3).await;
    script.permits.add_permits(2);
    assert!(first.join_all().await[0].1.is_ok());
    assert!(matches!(late.join_all().await[0].1, Err(StoreError::Unavailable(_))));
    assert!(last.join_all().await[0].1.is_ok());
    assert_eq!(script.calls(), [["0"], ["2"]]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_answers_at_once() {
    let group = group(&Script::new(0, admit_all));
    // A batch at most is in flight; of the others as many wait as may.
    let waiting = hand_in(&group, 0..MAX_WAITING + ADMIT_BATCH).await;
    while group.0.lock().waiting.len() < MAX_WAITING {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    assert!(matches!(group.decide(request(0)).await, Err(StoreError::Unavailable(_))));
    assert_eq!(started.elapsed(), Duration::ZERO);
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_to_the_whole_batch_and_the_next_batch_goes_on() {
    fn fail_the_first(requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        if requests[0].request_id == "0" {
            Err(StoreError::StalePolicy { held: PolicyStamp::NONE, current: PolicyStamp::new(2, "{}") })
        } else {
            admit_all(requests)
        }
    }
    let group = group(&Script::new(9, fail_the_first));
    assert!(matches!(group.decide(request(0)).await, Err(StoreError::StalePolicy { .. })));
    assert!(group.decide(request(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_script_that_answers_too_little_is_believed_by_nobody() {
    let group = group(&Script::new(9, |_| Ok(Vec::new())));
    assert!(matches!(group.decide(request(0)).await, Err(StoreError::Protocol(_))));
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_dies_is_replaced() {
    fn panic_at_the_first(requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        assert_ne!(requests[0].request_id, "0", "as a fault of this program would");
        admit_all(requests)
    }
    let group = group(&Script::new(9, panic_at_the_first));
    assert!(matches!(group.decide(request(0)).await, Err(StoreError::Unavailable(_))));
    assert_eq!(senders(&group), (0, 0));
    assert!(group.decide(request(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn callers_hear_at_once_when_the_gateway_stops() {
    let script = Script::new(0, admit_all);
    let group = group(&script);
    let callers = hand_in(&group, 0..3).await;
    let background = group.0.background.clone();
    let stopping = tokio::spawn(async move { background.finish(Duration::from_secs(1)).await });
    tokio::task::yield_now().await;
    assert!(matches!(group.decide(request(3)).await, Err(StoreError::Unavailable(_))));
    script.permits.add_permits(1);
    for (request, decision) in callers.join_all().await {
        assert_eq!(decision.is_ok(), request.request_id == "0", "what is in flight is waited for");
    }
    assert!(stopping.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn large_payloads_share_a_call_only_as_far_as_it_stays_short() {
    let script = Script::new(0, admit_all);
    let group = group(&script);
    let mut callers = hand_in(&group, 0..1).await;
    // The first two fit together; the third is larger than a call's share, and goes alone all the same.
    for (id, bytes) in [BATCH_BYTES / 2, BATCH_BYTES / 2, BATCH_BYTES + 1, 1].into_iter().enumerate() {
        let (group, large) = (group.clone(), AdmitRequest { payload: vec![b'x'; bytes].into(), ..request(id + 1) });
        callers.spawn(async move { (large.clone(), group.decide(large).await) });
        tokio::task::yield_now().await;
    }
    script.permits.add_permits(4);
    assert!(callers.join_all().await.iter().all(|(_, decision)| decision.is_ok()));
    assert_eq!(script.calls(), [vec!["0"], vec!["1", "2"], vec!["3"], vec!["4"]]);
}
