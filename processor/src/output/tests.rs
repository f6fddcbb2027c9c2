//! Order, exactness and the end of streamed output.

use super::*;
use crate::fake::{self, Contents, FakeStore};

#[tokio::test]
async fn pieces_arrive_once_and_in_order_although_answers_are_lost() {
    let store = FakeStore::with(Contents { lost_answers: 2, ..Contents::default() });
    let (lease, answered) = (fake::lease("chat", 1), CancellationToken::new());
    let (sink, writer) = channel();
    let handler = async {
        for piece in 0..200 {
            sink.send(piece.to_string()).await.unwrap();
        }
        answered.cancel();
    };
    let ((), written) = tokio::join!(handler, writer.write(store.as_ref(), &lease, answered.clone()));
    assert_eq!(written, Ok(()));
    let expected: Vec<Bytes> = (0..200).map(|piece| Bytes::from(piece.to_string())).collect();
    assert_eq!(store.read(|contents| contents.output.clone()), expected);
}

#[tokio::test(start_paused = true)]
async fn pieces_wait_out_an_outage() {
    let store = FakeStore::with(Contents { outage: true, ..Contents::default() });
    let (lease, answered) = (fake::lease("chat", 1), CancellationToken::new());
    let (sink, writer) = channel();
    sink.send("late").await.unwrap();
    answered.cancel();
    let recovery = async {
        sleep(std::time::Duration::from_secs(20)).await;
        store.change(|contents| contents.outage = false);
    };
    let ((), written) = tokio::join!(recovery, writer.write(store.as_ref(), &lease, answered.clone()));
    assert_eq!(written, Ok(()));
    assert_eq!(store.read(|contents| contents.output.clone()), ["late"]);
}

#[tokio::test]
async fn a_stale_token_ends_the_stream() {
    let store = FakeStore::default();
    let lease = fake::lease("chat", 1);
    store.change(|contents| contents.stale.insert(lease.token));
    let (sink, writer) = channel();
    sink.send("zombie").await.unwrap();
    assert_eq!(writer.write(&store, &lease, CancellationToken::new()).await, Err(StaleOutput));
    assert_eq!(sink.send("more").await, Err(AttemptOver));
}

#[tokio::test]
async fn a_sink_that_outlives_its_handler_does_not_keep_the_attempt() {
    let (store, answered) = (FakeStore::default(), CancellationToken::new());
    let (sink, writer) = channel();
    sink.send("before").await.unwrap();
    answered.cancel();
    assert_eq!(writer.write(&store, &fake::lease("chat", 1), answered).await, Ok(()));
    assert_eq!(store.read(|contents| contents.output.clone()), ["before"]);
    assert_eq!(sink.send("after").await, Err(AttemptOver));
}
