//! What must hold after the demonstration.
//!
//! Responsible for turning observations into sentences that are true or false. Must never be lenient: `--once` is a
//! test, and the first a newcomer runs.

use crate::client::CALLERS;
use crate::demo::ledger::Ledger;
use crate::demo::traffic::{BURST, Observations, pieces};

/// A sentence and whether it holds.
#[derive(Debug)]
pub struct Expectation {
    /// The sentence.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was seen instead.
    pub seen: String,
}

/// Every expectation, checked. `burst_limit` is the policy's for an anonymous session.
#[must_use]
pub fn check(ledger: &Ledger, seen: &Observations, burst_limit: u64) -> Vec<Expectation> {
    let mut all = limits(ledger, seen, burst_limit as usize);
    all.extend(tasks(ledger, seen));
    all
}

fn expect(text: impl Into<String>, holds: bool, seen: impl std::fmt::Debug) -> Expectation {
    Expectation { text: text.into(), holds, seen: format!("{seen:?}") }
}

fn limits(ledger: &Ledger, seen: &Observations, burst_limit: usize) -> Vec<Expectation> {
    let mut all = vec![expect(
        format!("of {BURST} anonymous requests at once over all gateways exactly {burst_limit} were admitted"),
        seen.burst == (burst_limit, BURST - burst_limit),
        seen.burst,
    )];
    for user_type in CALLERS {
        let code = if user_type == CALLERS[3] { "hard_limit" } else { "pressure_threshold" };
        let refusals = ledger.refusals(user_type, code);
        all.push(expect(format!("{user_type} was turned away under pressure ({code})"), refusals > 0, refusals));
    }
    let deeper = seen.depths.len() == CALLERS.len() && seen.depths.windows(2).all(|pair| pair[0].1 < pair[1].1);
    all.push(expect("the higher the user type, the more pressure it was admitted under", deeper, &seen.depths));
    let mute = |(name, row): &(String, super::ledger::Row)| {
        let silent = row.refused.iter().find(|(_, refused)| {
            matches!(refused.status, 429 | 503) && refused.retry_after.is_none_or(|(shortest, _)| shortest.is_zero())
        });
        silent.map(|(code, _)| format!("{name} {code}"))
    };
    let mute: Vec<String> = ledger.rows().iter().filter_map(mute).collect();
    all.push(expect("every 429 and 503 said when to come again", mute.is_empty(), &mute));
    all.push(expect(
        "a wrong credential is 401, not anonymous",
        (seen.wrong_credential.0, seen.wrong_credential.1.as_str()) == (401, "unauthenticated"),
        &seen.wrong_credential,
    ));
    all
}

fn tasks(ledger: &Ledger, seen: &Observations) -> Vec<Expectation> {
    let one_task = seen.replay.len() == 2 && seen.replay[0] == seen.replay[1] && !seen.replay[0].is_empty();
    let outputs = seen.followed.iter().filter(|name| *name == "output").count();
    let told = outputs == pieces() && seen.followed.last().is_some_and(|name| name == "done");
    let accepted = ledger.accepted().len() as u64;
    let ended: u64 = ledger.rows().iter().flat_map(|(_, row)| row.ended.values()).sum();
    vec![
        expect("one idempotency key at two gateways made one task", one_task, &seen.replay),
        expect("a task was followed while it ran: every piece of output, then done", told, &seen.followed),
        expect("the followed task succeeded", seen.followed_end == "succeeded", &seen.followed_end),
        expect("a failed attempt was tried again", seen.retried == ("succeeded".into(), 2), &seen.retried),
        expect("a running task was cancelled", seen.cancelled == "cancelled", &seen.cancelled),
        expect(
            format!("each of the {accepted} accepted tasks reached its end"),
            ended == accepted && seen.lost.is_empty(),
            &seen.lost,
        ),
    ]
}
