//! Group commit of admissions: what has gathered while the last calls were in flight goes out as one batch.
//!
//! Responsible for the order of requests, the size of a batch and for who hears what. Must never wait for a batch to
//! fill: an idle gateway sends a request the moment it comes, so batching adds no latency and no timer.
//!
//! Nor has a caller a timer: a call that gets no answer ends by itself, and takes with it all that has gathered behind
//! it. Those were never sent, so they can be told for certain that nothing was decided.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{ADMIT_BATCH, AdmitRequest, Decision, StoreError};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metric;

/// Most requests that wait for their call. More could not be decided within [`PATIENCE`] at any rate seen.
const MAX_WAITING: usize = 4096;

/// Payload bytes in one call, unless a single request has more: the script copies each byte a few times, and should be
/// over within a millisecond.
const BATCH_BYTES: usize = 256 * 1024;

/// Tasks that send batches, so calls in flight at once: while Redis decides one, the next is made ready.
pub(crate) const SENDERS: usize = 2;

/// Longest time a request waits for its call: one that waited longer goes back to its caller instead of to Redis.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whoever decides a batch: the scope's `admit` script.
pub(crate) trait Decide: Send + Sync + 'static {
    /// One decision per request, in order.
    fn decide(&self, requests: &[AdmitRequest]) -> impl Future<Output = Result<Vec<Decision>, StoreError>> + Send;
}

#[derive(Debug)]
struct Waiting {
    request: AdmitRequest,
    since: Instant,
    answer: oneshot::Sender<Result<Decision, StoreError>>,
}

/// Where requests are handed in.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    queue: mpsc::Sender<Waiting>,
}

/// Where they are taken out, by the tasks that send batches.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    queue: Arc<Mutex<mpsc::Receiver<Waiting>>>,
}

/// The two ends of a queue of admissions.
pub(crate) fn group_commit() -> (GroupCommit, Gathered) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (GroupCommit { queue: sender }, Gathered { queue: Arc::new(Mutex::new(receiver)) })
}

impl GroupCommit {
    /// The decision about one request. When the caller goes away before its batch was sent, nothing is decided.
    pub(crate) async fn decide(&self, request: AdmitRequest) -> Result<Decision, StoreError> {
        let (answer, decision) = oneshot::channel();
        self.queue
            .try_send(Waiting { request, since: Instant::now(), answer })
            .map_err(|_| StoreError::Unavailable("too many requests wait for redis".to_owned()))?;
        decision.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the request was dropped unsent".to_owned())))
    }
}

impl Gathered {
    /// Sends batches until told to stop. What waits then is dropped, which its callers hear at once.
    pub(crate) async fn send_batches(self, decider: impl Decide, stop: CancellationToken) {
        let mut gathered = Vec::with_capacity(ADMIT_BATCH);
        let (mut requests, mut answers) = (Vec::with_capacity(ADMIT_BATCH), Vec::with_capacity(ADMIT_BATCH));
        loop {
            let receive = async {
                let mut queue = self.queue.lock().await;
                let count = queue.recv_many(&mut gathered, ADMIT_BATCH).await;
                metric::gathered(count + queue.len());
                count
            };
            if stop.run_until_cancelled(receive).await.unwrap_or(0) == 0 {
                return;
            }
            while !gathered.is_empty() {
                let worth_sending =
                    |waiting: &Waiting| !waiting.answer.is_closed() && waiting.since.elapsed() <= PATIENCE;
                for Waiting { request, answer, .. } in gathered.drain(..fitting(&gathered)).filter(worth_sending) {
                    requests.push(request);
                    answers.push(answer);
                }
                if requests.is_empty() {
                    continue;
                }
                let started = Instant::now();
                let result = decider.decide(&requests).await;
                metric::admit_batch(requests.len(), started.elapsed().as_secs_f64());
                requests.clear();
                if matches!(result, Err(StoreError::Unavailable(_))) {
                    gathered.clear();
                    self.drop_waiting();
                }
                answer_all(answers.drain(..), result);
            }
        }
    }

    /// Drops what has gathered, which tells its callers. Where another task holds the queue it is empty: that task
    /// waits for more.
    fn drop_waiting(&self) {
        if let Ok(mut queue) = self.queue.try_lock() {
            for _ in 0..queue.len() {
                drop(queue.try_recv());
            }
        }
    }
}

/// How many of these go into one call: as many as keep the script short, at least one.
fn fitting(gathered: &[Waiting]) -> usize {
    let mut bytes = 0;
    let more = gathered.iter().take_while(|waiting| {
        bytes += waiting.request.payload.len();
        bytes <= BATCH_BYTES
    });
    more.count().max(1)
}

/// A caller that has gone meanwhile is no reason to stop.
fn answer_all(
    answers: impl ExactSizeIterator<Item = oneshot::Sender<Result<Decision, StoreError>>>,
    result: Result<Vec<Decision>, StoreError>,
) {
    match result {
        Ok(decisions) if decisions.len() == answers.len() => {
            for (answer, decision) in answers.zip(decisions) {
                let _ = answer.send(Ok(decision));
            }
        }
        Ok(decisions) => {
            let error = format!("{} decisions for {} requests", decisions.len(), answers.len());
            answers.for_each(|answer| drop(answer.send(Err(StoreError::Protocol(error.clone())))));
        }
        Err(error) => answers.for_each(|answer| drop(answer.send(Err(error.clone())))),
    }
}

#[cfg(test)]
mod tests;
