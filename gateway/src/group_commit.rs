//! Group commit of questions to Redis, of admissions above all: what has gathered while the last calls were in flight
//! goes out as one batch.
//!
//! Responsible for the order of requests, the size of a batch and for who hears what. Must never wait for a batch to
//! fill: an idle gateway sends a request the moment it comes, so batching adds no latency and no timer.
//!
//! Nor has a caller a timer: a call that gets no answer ends by itself, and takes with it all that has gathered behind
//! it. Those were never sent, so they can be told for certain that nothing was decided.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_lua::{ADMIT_BATCH, StoreError};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use crate::background::Background;

/// Most requests that wait for their call. More could not be decided within [`PATIENCE`] at any rate seen.
const MAX_WAITING: usize = 4096;

/// Payload bytes in one call, or what takes the script as long, unless a single request has more: it copies each byte a
/// few times, and should be over within a millisecond.
const BATCH_BYTES: usize = 256 * 1024;

/// Tasks that send batches, so calls in flight at once: while Redis decides one, the next is made ready.
pub(crate) const SENDERS: usize = 2;

/// Longest time a request waits for its call: one that waited longer goes back to its caller instead of to Redis.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a sender waits for more before it ends. A gateway serves thousands of scopes, of which few are busy; a busy
/// one never pays for starting a task.
const LINGER: Duration = Duration::from_secs(3);

/// Whoever decides a batch.
pub(crate) trait Decide: Send + Sync + 'static {
    /// What is asked.
    type Question: Debug + Send + 'static;
    /// What is heard.
    type Answer: Debug + Send + 'static;

    /// How much of [`BATCH_BYTES`] a question takes.
    fn bytes(&self, question: &Self::Question) -> usize;

    /// Told how many had gathered when a sender came for them.
    fn gathered(&self, _: usize) {}

    /// Told how many were decided by a call, and how long it took.
    fn called(&self, _: usize, _: Duration) {}

    /// One answer per question, in order.
    fn decide(
        &self,
        questions: Vec<Self::Question>,
    ) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

/// The admissions of one scope.
#[derive(Debug)]
pub(crate) struct GroupCommit<D: Decide>(Arc<Group<D>>);

#[derive(Debug)]
struct Group<D: Decide> {
    decider: D,
    background: Background,
    most_senders: usize,
    queue: Mutex<Queue<D>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Queue<D: Decide> {
    waiting: VecDeque<Waiting<D>>,
    /// Tasks that send.
    senders: usize,
    /// Those of them that wait for work.
    idle: usize,
}

#[derive(Debug)]
struct Waiting<D: Decide> {
    question: D::Question,
    since: Instant,
    answer: Heard<D>,
}

/// Where a caller waits for its answer.
type Heard<D> = oneshot::Sender<Result<<D as Decide>::Answer, StoreError>>;

impl<D: Decide> GroupCommit<D> {
    /// Nothing waits and nothing runs yet: senders are started by requests, among the tasks of `background`.
    pub(crate) fn new(decider: D, background: Background, most_senders: usize) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), senders: 0, idle: 0 });
        Self(Arc::new(Group { decider, background, most_senders, queue, arrived: Notify::new() }))
    }

    /// The decision about one request. When the caller goes away before its batch was sent, nothing is decided.
    pub(crate) async fn decide(&self, question: D::Question) -> Result<D::Answer, StoreError> {
        let (answer, decision) = oneshot::channel();
        self.0.hand_in(Waiting { question, since: Instant::now(), answer })?;
        decision.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the request was dropped unsent".to_owned())))
    }
}

impl<D: Decide> Group<D> {
    fn hand_in(self: &Arc<Self>, waiting: Waiting<D>) -> Result<(), StoreError> {
        if self.background.stopping().is_cancelled() {
            return Err(StoreError::Unavailable("the gateway has stopped".to_owned()));
        }
        let mut queue = self.lock();
        if queue.waiting.len() >= MAX_WAITING {
            return Err(StoreError::Unavailable("too many requests wait for redis".to_owned()));
        }
        queue.waiting.push_back(waiting);
        self.call_sender(queue);
        Ok(())
    }

    /// Sees to it that somebody takes what waits: an idle sender, a new one, or, if all are in flight, the next to be
    /// back.
    fn call_sender(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue<D>>) {
        if queue.idle > 0 {
            self.arrived.notify_one();
        } else if queue.senders < self.most_senders {
            queue.senders += 1;
            // A runtime that is going away drops the task at once, which takes the lock.
            drop(queue);
            self.background.spawn(Sender { group: self.clone(), left: false }.send_batches());
        }
    }

    /// What has gathered, as much as a batch may have.
    fn take(self: &Arc<Self>) -> Vec<Waiting<D>> {
        let mut queue = self.lock();
        if self.background.stopping().is_cancelled() {
            // Their callers hear of it at once.
            queue.waiting.clear();
        }
        let gathered = queue.waiting.len();
        let taken: Vec<_> = queue.waiting.drain(..gathered.min(ADMIT_BATCH)).collect();
        if !taken.is_empty() {
            self.decider.gathered(gathered);
        }
        if gathered > taken.len() {
            self.call_sender(queue);
        }
        taken
    }

    /// Waits until somebody may have come; `false` if nobody did for long, or the gateway stops.
    async fn somebody_came(&self) -> bool {
        {
            let mut queue = self.lock();
            if !queue.waiting.is_empty() {
                return true;
            }
            queue.idle += 1;
        }
        let came = tokio::select! {
            () = self.arrived.notified() => true,
            () = sleep(LINGER) => false,
            () = self.background.stopping().cancelled() => false,
        };
        self.lock().idle -= 1;
        came
    }

    /// Sends what was taken, in calls that stay short.
    async fn send(&self, mut gathered: Vec<Waiting<D>>) {
        let worth_sending = |waiting: &Waiting<D>| !waiting.answer.is_closed() && waiting.since.elapsed() <= PATIENCE;
        while !gathered.is_empty() {
            let batch = gathered.drain(..self.fitting(&gathered)).filter(worth_sending);
            let (questions, answers): (Vec<_>, Vec<_>) =
                batch.map(|waiting| (waiting.question, waiting.answer)).unzip();
            if questions.is_empty() {
                continue;
            }
            let (size, started) = (questions.len(), Instant::now());
            let result = self.decider.decide(questions).await;
            self.decider.called(size, started.elapsed());
            if matches!(result, Err(StoreError::Unavailable(_))) {
                gathered.clear();
                self.lock().waiting.clear();
            }
            answer_all::<D>(answers, result);
        }
    }

    /// How many of these go into one call: as many as keep the script short, at least one.
    fn fitting(&self, gathered: &[Waiting<D>]) -> usize {
        let mut bytes = 0;
        let more = gathered.iter().take_while(|waiting| {
            bytes += self.decider.bytes(&waiting.question);
            bytes <= BATCH_BYTES
        });
        more.count().max(1)
    }

    fn lock(&self) -> MutexGuard<'_, Queue<D>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the senders.
struct Sender<D: Decide> {
    group: Arc<Group<D>>,
    /// The place has been given back.
    left: bool,
}

impl<D: Decide> Sender<D> {
    /// Sends batches while there is work, and a while longer.
    async fn send_batches(mut self) {
        loop {
            let gathered = self.group.take();
            if !gathered.is_empty() {
                self.group.send(gathered).await;
            } else if !self.group.somebody_came().await && self.leave() {
                return;
            }
        }
    }

    /// Gives the place back, unless somebody came between the last look and now.
    fn leave(&mut self) -> bool {
        let mut queue = self.group.lock();
        if !queue.waiting.is_empty() {
            return false;
        }
        queue.senders -= 1;
        self.left = true;
        // A burst leaves a large buffer behind.
        queue.waiting.shrink_to_fit();
        true
    }
}

impl<D: Decide> Drop for Sender<D> {
    /// A task that did not come to its end gives its place back all the same. Those who wait are told, because nobody
    /// may be left to call another sender.
    fn drop(&mut self) {
        if !self.left {
            let mut queue = self.group.lock();
            queue.senders -= 1;
            queue.waiting.clear();
        }
    }
}

/// A caller that has gone meanwhile is no reason to stop.
fn answer_all<D: Decide>(to: Vec<Heard<D>>, result: Result<Vec<D::Answer>, StoreError>) {
    let error = match result {
        Ok(answers) if answers.len() == to.len() => {
            for (heard, answer) in to.into_iter().zip(answers) {
                let _ = heard.send(Ok(answer));
            }
            return;
        }
        Ok(answers) => StoreError::Protocol(format!("{} decisions for {} requests", answers.len(), to.len())),
        Err(error) => error,
    };
    for heard in to {
        let _ = heard.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests;
