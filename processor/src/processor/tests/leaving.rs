//! How a processor leaves: what runs is finished or handed back, and what cannot be settled is named.
//!
//! Responsible for the bounds of a drain. Must never wait for time to pass that is not what the test is about.

use super::*;

/// What is logged.
#[derive(Clone, Default)]
struct Said(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Said {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    fn lines_with(&self, words: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn draining_lets_running_attempts_finish_and_takes_no_more() {
    let (handlers, begun, gate) = gated();
    let case = Case::start(waiting([1]), 2, handlers);
    begun.acquire().await.unwrap().forget();
    case.shutdown.drain.cancel();
    case.store.until(|contents| contents.beats.last().is_some_and(|beat| beat.draining)).await;
    case.store.change(|contents| contents.waiting.push_back(fake::lease("chat", 2)));
    tokio::time::sleep(DRAIN_LIMIT / 2).await;
    gate.add_permits(2);
    let store = Arc::clone(&case.store);
    assert_eq!(case.ending().await, Ending::Drained);
    assert_eq!(store.outcomes(), [(FencingToken(1), "succeeded")]);
    assert_eq!(store.read(|contents| contents.waiting.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_in_the_drain_time_is_handed_back() {
    let case = Case::start(waiting([1, 2]), 2, Handlers::new().with("*", |_| pending::<HandlerOutcome>()));
    case.store.until(|contents| contents.waiting.is_empty()).await;
    let store = Arc::clone(&case.store);
    case.shutdown.drain.cancel();
    let started = Instant::now();
    assert_eq!(case.ending().await, Ending::Drained);
    assert_eq!(started.elapsed(), DRAIN_LIMIT);
    assert_eq!(store.outcomes().iter().map(|(_, word)| *word).collect::<Vec<_>>(), ["handed back"; 2]);
    assert_eq!(store.read(|contents| contents.left.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_although_redis_is_gone() {
    let case = Case::start(waiting([1]), 1, Handlers::new().with("*", |_| pending::<HandlerOutcome>()));
    case.store.until(|contents| contents.waiting.is_empty()).await;
    case.store.change(|contents| contents.outage = true);
    case.shutdown.drain.cancel();
    let started = Instant::now();
    case.ending().await;
    assert!(started.elapsed() <= DRAIN_LIMIT + FLUSH_LIMIT * 2 + LEAVE_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_although_redis_refuses_a_settlement_and_says_which() {
    let said = Said::default();
    let writer = said.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    let contents = Contents { refused: [FencingToken(1)].into(), ..waiting([1, 2]) };
    let case = Case::start(contents, 2, Handlers::new().with("*", Echo));
    let task_id = case.store.read(|contents| contents.waiting[0].task_id.clone());
    case.settled(1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (store, started) = (Arc::clone(&case.store), Instant::now());
    let before = store.read(|contents| contents.settle_calls);
    case.shutdown.drain.cancel();
    assert_eq!(case.ending().await, Ending::Aborted);
    assert!(started.elapsed() <= DRAIN_LIMIT + FLUSH_LIMIT, "{:?}", started.elapsed());
    assert!(store.read(|contents| contents.settle_calls) > before, "it was sent once more");
    assert_eq!(store.outcomes(), [(FencingToken(2), "succeeded")]);
    let left = said.lines_with("not settled: its lease will lapse");
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].contains(&task_id.to_string()), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_at_once_and_leaves_the_rest_to_others() {
    let (told, ended) = tokio::sync::oneshot::channel::<OutputSink>();
    let told = std::sync::Mutex::new(Some(told));
    let handlers = Handlers::new().with("*", move |attempt: AttemptContext| {
        let told = told.lock().unwrap().take().unwrap();
        async move {
            let _ = told.send(attempt.output.clone());
            pending::<HandlerOutcome>().await
        }
    });
    let case = Case::start(waiting([1]), 1, handlers);
    let sink = ended.await.unwrap();
    case.shutdown.abort.cancel();
    let store = Arc::clone(&case.store);
    assert_eq!(case.ending().await, Ending::Aborted);
    assert!(store.outcomes().is_empty());
    // The attempt itself is gone, not just forgotten; its task ends at its next step.
    while sink.send("x").await.is_ok() {
        tokio::task::yield_now().await;
    }
}
