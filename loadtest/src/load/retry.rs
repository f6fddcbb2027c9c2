//! What a client does with a refusal or a failure: whether it comes back, and when.
//!
//! Responsible for the two sorts of clients there are, those that obey `Retry-After` and those that do not. Must never
//! come back earlier than an obedient client was told, by any rounding.

use rand::RngExt;

use super::arrival::Random;
use super::plan::{Obedience, Retry};
use crate::record::{Call, Outcome};

/// Statuses that invite a client to try again.
const TRANSIENT: [u16; 4] = [429, 502, 503, 504];

/// When the client sends its request again, µs since the run began; `None` if it takes the answer for an answer.
/// `first_us` is when it first wanted to.
pub(super) fn comes_back_us(retry: &Retry, call: &Call, first_us: u64, random: &mut Random) -> Option<u64> {
    let told_seconds = match &call.outcome {
        Outcome::Answered(answered) if TRANSIENT.contains(&answered.status) => answered.retry_after_seconds,
        Outcome::Answered(_) => return None,
        Outcome::Failed { .. } => None,
    };
    if call.repetition + 1 >= retry.max_tries {
        return None;
    }
    let growth = retry.backoff.factor.powi(call.repetition.min(1000) as i32);
    let own_ms = (retry.backoff.initial_ms * growth).min(retry.backoff.max_ms);
    let wait_us = match (retry.retry_after, told_seconds) {
        (Obedience::Obey, Some(seconds)) => seconds as f64 * 1e6,
        _ => own_ms * 1e3,
    };
    let wait_us = wait_us * (1.0 + retry.jitter * random.random::<f64>());
    let at_us = call.ended_us.saturating_add(wait_us.ceil() as u64);
    let patience_us = (retry.patience_seconds * 1e6) as u64;
    (at_us.saturating_sub(first_us) <= patience_us).then_some(at_us)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::load::plan::Backoff;
    use crate::record::Answered;

    fn retry(retry_after: Obedience) -> Retry {
        let backoff = Backoff { initial_ms: 100.0, factor: 2.0, max_ms: 500.0 };
        Retry { retry_after, max_tries: 10, patience_seconds: 20.0, jitter: 0.5, backoff }
    }

    fn call(repetition: u32, outcome: Outcome) -> Call {
        let (intended_us, sent_us, ended_us) = (0, 0, 1_000_000);
        Call {
            caller: 0,
            request: 0,
            repetition,
            gateway: 0,
            kind: String::new(),
            intended_us,
            sent_us,
            ended_us,
            outcome,
        }
    }

    fn answered(status: u16, retry_after_seconds: Option<u64>) -> Outcome {
        Outcome::Answered(Answered { status, retry_after_seconds, ..Answered::default() })
    }

    fn back_us(retry: &Retry, call: &Call) -> Option<u64> {
        comes_back_us(retry, call, 0, &mut Random::seed_from_u64(call.ended_us))
    }

    #[test]
    fn an_obedient_client_is_late_rather_than_early() {
        for seed in 0..1000 {
            let call = call(0, answered(429, Some(3)));
            let mut random = Random::seed_from_u64(seed);
            let at_us = comes_back_us(&retry(Obedience::Obey), &call, 0, &mut random).expect("it comes back");
            assert!((4_000_000..=5_500_001).contains(&at_us), "{at_us}");
        }
    }

    #[test]
    fn others_wait_as_they_like_longer_each_time_up_to_a_bound() {
        let ignoring = Retry { jitter: 0.0, ..retry(Obedience::Ignore) };
        let waits: Vec<u64> = (0..5)
            .filter_map(|repetition| back_us(&ignoring, &call(repetition, answered(503, Some(9)))))
            .map(|at_us| (at_us - 1_000_000) / 1000)
            .collect();
        assert_eq!(waits, [100, 200, 400, 500, 500]);
        let at_once = Retry { backoff: Backoff { initial_ms: 0.0, ..ignoring.backoff }, ..ignoring };
        assert_eq!(back_us(&at_once, &call(3, answered(503, Some(9)))), Some(1_000_000));
    }

    #[test]
    fn no_answer_is_worth_another_try_and_a_final_one_is_not() {
        let obedient = retry(Obedience::Obey);
        assert!(back_us(&obedient, &call(0, Outcome::Failed { why: "timeout".to_owned(), sent: true })).is_some());
        for status in [200, 202, 400, 401, 403, 413, 422, 500] {
            assert_eq!(back_us(&obedient, &call(0, answered(status, Some(1)))), None, "{status}");
        }
    }

    #[test]
    fn tries_and_patience_end() {
        let obedient = retry(Obedience::Obey);
        assert!(back_us(&obedient, &call(8, answered(429, Some(1)))).is_some());
        assert_eq!(back_us(&obedient, &call(9, answered(429, Some(1)))), None, "the tenth was the last");
        assert_eq!(back_us(&obedient, &call(0, answered(429, Some(20)))), None, "longer than its patience");
    }
}
