//! Each pass in one list, each list bounded.

use portcullis_lua::{PassEnded, TaskId};
use tokio::time::advance;

use super::*;
use crate::state::Gateway;
use crate::state::tests::options_without_redis;

const LEASE_MS: u64 = 9_000;
const THIRD: Duration = Duration::from_millis(LEASE_MS / 3);

fn scope() -> Arc<PassScope> {
    Gateway::new(options_without_redis()).scopes().default_scope().decider().pass_scope.clone()
}

fn lease() -> PassLease {
    let (kind, holds) = ("guarded".to_owned(), Vec::new());
    PassLease { pass_id: TaskId::generate(), kind, lease_ms: LEASE_MS, pooled: false, holds, acting: None }
}

fn end(kept: &mut Kept, number: u64) -> (usize, bool) {
    kept.end(number, PassOutcome::Succeeded, Vec::new(), None)
}

#[tokio::test(start_paused = true)]
async fn what_ends_is_written_once_in_batches_of_one_scope() {
    let (mut kept, here, there) = (Kept::default(), scope(), scope());
    assert_eq!(kept.next_due(), None);
    let numbers: Vec<u64> = [&here, &there, &here, &here]
        .into_iter()
        .map(|scope| kept.keep(scope.clone(), lease(), Instant::now()).0)
        .collect();
    for (number, left) in numbers.iter().zip([3, 2, 1, 0]) {
        assert_eq!(end(&mut kept, *number), (left, true));
    }
    let batches = kept.take_ended(Instant::now(), 2);
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    for batch in &batches {
        assert!(batch.iter().all(|ended| Arc::ptr_eq(&ended.scope, &batch[0].scope)));
    }
    assert!(kept.take_ended(Instant::now(), 2).is_empty());
    assert_eq!(kept.next_due(), None);
    assert_eq!(end(&mut kept, numbers[0]), (0, true), "what has ended cannot end again");
    assert!(kept.take_ended(Instant::now(), 2).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_comes_first_and_not_at_once() {
    let (mut kept, scope) = (Kept::default(), scope());
    let numbers: Vec<u64> = (0..3).map(|_| kept.keep(scope.clone(), lease(), Instant::now()).0).collect();
    let ids = |batches: &[Vec<Ended>]| -> Vec<String> {
        batches.iter().flatten().map(|ended| ended.end.lease.pass_id.to_string()).collect()
    };
    end(&mut kept, numbers[0]);
    end(&mut kept, numbers[1]);
    let mut taken = kept.take_ended(Instant::now(), 64);
    let mut expected = ids(&taken);
    let again_at = Instant::now() + THIRD / 10;
    kept.put_back(taken.remove(0), again_at);
    end(&mut kept, numbers[2]);
    assert!(kept.take_ended(Instant::now(), 64).is_empty());
    assert_eq!(kept.next_due(), Some(again_at));
    advance(THIRD / 10).await;
    let taken = kept.take_ended(Instant::now(), 64);
    assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), 3);
    expected.push(taken[0][2].end.lease.pass_id.to_string());
    assert_eq!(ids(&taken), expected);
}

#[tokio::test(start_paused = true)]
async fn what_lasts_is_extended_after_each_third_of_its_lease() {
    let (mut kept, scope, asked_at) = (Kept::default(), scope(), Instant::now());
    advance(THIRD / 2).await;
    let (number, ..) = kept.keep(scope, lease(), asked_at);
    assert_eq!(kept.next_due(), Some(asked_at + THIRD), "the lease began no earlier than it was asked for");
    assert!(kept.take_due(Instant::now(), 64).is_empty());
    advance(THIRD / 2).await;
    let due = kept.take_due(Instant::now(), 64);
    assert_eq!(due[0][0].number, number);
    assert!(kept.take_due(Instant::now(), 64).is_empty(), "while it is being extended it is not due again");
    kept.not_extended(&due[0][0], Instant::now() + THIRD / 10);
    assert_eq!(kept.next_due(), Some(Instant::now() + THIRD / 10), "what Redis did not answer is tried again sooner");
    assert!(!kept.was_extended(number, true, Instant::now()));
    assert_eq!(kept.next_due(), Some(Instant::now() + THIRD));
    assert!(kept.was_extended(number, false, Instant::now()), "this is how it is known that it was lost");
    assert!(!kept.was_extended(number, false, Instant::now()), "once");
    assert_eq!(kept.next_due(), None);
    assert_eq!(end(&mut kept, number), (0, true));
    assert!(kept.take_ended(Instant::now(), 64).is_empty(), "what has lapsed is not ended");
}

#[tokio::test(start_paused = true)]
async fn how_an_answer_began_is_told_once_with_an_extension_and_again_only_if_that_was_not_answered() {
    let mut kept = Kept::default();
    let (number, ..) = kept.keep(scope(), lease(), Instant::now());
    let head = PassHead { answered_ms: 7, failed: true };
    let mut told = Vec::new();
    for (answered, begins) in [(true, false), (false, true), (true, false), (true, false)] {
        if begins {
            kept.answered(number, head);
        }
        advance(THIRD).await;
        let due = kept.take_due(Instant::now(), 64).remove(0).remove(0);
        told.push(due.extension.head);
        if answered {
            kept.was_extended(number, true, Instant::now());
        } else {
            kept.not_extended(&due, Instant::now());
        }
    }
    assert_eq!(told, [None, Some(head), Some(head), None]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_is_lost_only_if_it_can_have_lapsed_and_counts_once() {
    let (mut kept, scope) = (Kept::default(), scope());
    let numbers: Vec<u64> = (0..2).map(|_| kept.keep(scope.clone(), lease(), Instant::now()).0).collect();
    advance(THIRD).await;
    let due = kept.take_due(Instant::now(), 64).remove(0);
    assert_eq!(due.len(), 2);
    // One is held until a lease from now, the other ends while it is not known whether it is.
    assert!(!kept.was_extended(numbers[0], true, Instant::now()));
    end(&mut kept, numbers[0]);
    end(&mut kept, numbers[1]);
    assert!(!kept.was_extended(numbers[1], false, Instant::now()), "its end tells");
    let ended = kept.take_ended(Instant::now(), 64).remove(0);
    for (answer, lost) in [(PassEnded::Before, true), (PassEnded::Refused, true), (PassEnded::Now, false)] {
        assert!(ended.iter().all(|ended| ended.is_lost(answer, Instant::now()) == lost), "{answer:?}");
    }
    kept.put_back(ended, Instant::now());
    let again = kept.take_ended(Instant::now(), 64).remove(0);
    let lost = |after: u32| {
        let said_at = Instant::now() + THIRD * after - Duration::from_millis(1);
        [0, 1].map(|index: usize| again[index].is_lost(PassEnded::Before, said_at))
    };
    assert_eq!(lost(2), [false, false], "it was ended by the call that was not answered");
    assert_eq!(lost(3), [false, true], "the one whose lease had not been extended can have lapsed since");
    assert_eq!(lost(4), [true, true]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_fill_the_memory() {
    let (mut kept, scope) = (Kept::default(), scope());
    for _ in 0..MAX_ENDED {
        let (number, ..) = kept.keep(scope.clone(), lease(), Instant::now());
        assert_eq!(end(&mut kept, number), (0, true));
    }
    let (number, ..) = kept.keep(scope, lease(), Instant::now());
    assert_eq!(end(&mut kept, number), (0, false));
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_over_is_neither_ended_nor_extended_here() {
    let (mut kept, lease) = (Kept::default(), lease());
    let pass_id = lease.pass_id.clone();
    let number = kept.keep(scope(), lease, Instant::now()).0;
    assert_eq!(kept.hand_over(number), (0, Some(pass_id)));
    assert_eq!((kept.next_due(), kept.hand_over(number)), (None, (0, None)));
    assert_eq!(end(&mut kept, number), (0, true));
    assert!(kept.take_ended(Instant::now(), 64).is_empty());
}
