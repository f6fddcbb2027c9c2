//! At rest nothing is left but what is meant to stay.
//!
//! Concludes from the end: a task of the run that has not ended in the time the scenario gives is stuck. Once every
//! task has ended, nothing is queued, leased or delayed, and of the keys that never expire only those exist that hold
//! the scope itself, its history, and its dead letters.

use super::accounted::ENDED;
use super::case::Case;
use super::verdict::Findings;
use crate::record::Ending;

/// Keys that may stay for ever, each of a bounded size (the table in `lua/src/key.rs`).
const LASTING: [&str; 20] = [
    "scope",
    "wake",
    "decision",
    "processor",
    "beat",
    "breaker-kind",
    "policy",
    "revision",
    "audit",
    "audit-head",
    "counted",
    "counted-head",
    "ended",
    "ended-head",
    "revoked",
    "revocation",
    "revoked-order",
    "revocation-head",
    // Of dead letters.
    "dead",
    "task",
];
/// Of them those that exist only while there are dead letters.
const OF_DEAD_LETTERS: [&str; 2] = ["dead", "task"];

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let Some(ending) = &case.record.ending else { return };
    if ending.rested_us.is_none() {
        stuck(ending, findings);
        return;
    }
    for (what, count) in [("queued", ending.queued), ("leased", ending.running), ("delayed", ending.delayed)] {
        findings.check(count == 0, || format!("{count} tasks are {what} at rest"), Vec::new);
    }
    let buried = ending.tasks.values().any(|task| task.status.as_deref() == Some("dead"));
    // Dead letters of earlier runs are not in this record.
    let earlier = case.record.samples.first().is_some_and(|sample| sample.dead.unwrap_or(0) > 0);
    for key in &ending.lasting_keys {
        let may_stay = LASTING.contains(&key.as_str());
        let has_reason = buried || earlier || !OF_DEAD_LETTERS.contains(&key.as_str());
        findings.check(may_stay && has_reason, || format!("key {key} stays for ever"), Vec::new);
    }
}

/// What is still there when the time is over. Others may go on using the cluster, but what the run's own callers
/// submitted has had its time.
fn stuck(ending: &Ending, findings: &mut Findings) {
    let ended = |status: &str| ENDED.iter().any(|end| end.as_str() == status);
    let open = ending.tasks.iter().filter(|(_, end)| end.status.as_deref().is_some_and(|status| !ended(status)));
    let open: Vec<String> = open
        .map(|(task, end)| {
            let status = end.status.as_deref().unwrap_or("unknown");
            format!("task {task} is {status}, attempts {}", end.attempts)
        })
        .collect();
    if open.is_empty() {
        findings.not_applicable("it did not come to rest in the time given");
        return;
    }
    let Ending { queued, running, delayed, .. } = ending;
    findings.check(
        false,
        || {
            let left = format!("{queued} queued, {running} running, {delayed} delayed");
            format!("{} tasks have not ended in the time given; {left}", open.len())
        },
        || open.clone(),
    );
}

#[cfg(test)]
mod tests {
    use super::super::hand::{Hand, held, not_applicable, violation};

    fn rested(status: &str, keys: &[&str]) -> Hand {
        let mut hand = Hand::new().admitted("paid", 0, 1, 10).ended(status, 100);
        hand.ending().lasting_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        hand
    }

    #[test]
    fn only_the_scope_and_its_history_stay() {
        assert_eq!(held(&rested("succeeded", &["scope", "decision", "wake"]), "rest"), 6);
        for leaked in ["limit:s", "run", "lease", "cancelled", "queue", "budget:daily:s"] {
            assert_eq!(
                violation(&rested("succeeded", &["scope", leaked]), "rest").what,
                format!("key {leaked} stays for ever")
            );
        }
    }

    #[test]
    fn records_stay_only_of_dead_letters() {
        held(&rested("dead", &["dead", "task"]), "rest");
        assert!(violation(&rested("succeeded", &["task"]), "rest").what.contains("task"));
    }

    #[test]
    fn nothing_waits_at_rest() {
        let mut hand = rested("succeeded", &[]);
        hand.ending().running = 1;
        assert_eq!(violation(&hand, "rest").what, "1 tasks are leased at rest");
        hand.ending().rested_us = None;
        assert!(not_applicable(&hand, "rest").contains("rest"), "others use it");
        hand.ending().tasks.get_mut("task-0").unwrap().status = Some("running".to_owned());
        let stuck = violation(&hand, "rest");
        assert_eq!(stuck.what, "1 tasks have not ended in the time given; 0 queued, 1 running, 0 delayed");
        assert!(stuck.evidence[0].contains("task-0"), "{:?}", stuck.evidence);
        not_applicable(&Hand::new(), "rest");
    }
}
