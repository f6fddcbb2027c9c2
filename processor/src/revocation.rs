//! Whether a task that was claimed may still be run: not when its caller's credential was revoked while it waited.
//!
//! Responsible for knowing at least what was revoked when the claim ran; where that was long ago, what is revoked now.
//! Must never run a task on the strength of what was known before: while what is revoked cannot be read, whoever has a
//! credential that can be revoked waits.

use portcullis_lua::{Lease, Outcome, TaskError};
use tokio::time::sleep;

use crate::handler::error;
use crate::store::{self, TaskStore};
use crate::{backoff, metric};

/// What a lease is settled as instead of being run; `None` for one to run. Of a claim that was told this number of
/// revocations just now; `None`: it was told one long ago.
pub(crate) async fn dead(store: &dyn TaskStore, lease: &Lease, number: Option<u64>) -> Option<Outcome> {
    let envelope = &lease.envelope;
    if envelope.members.is_empty() {
        return None;
    }
    let revoked = match store.revocations(number).await {
        Ok(revoked) => revoked,
        Err(fault) => {
            store::failed("revoked", &fault);
            // Handed back it is first in the queue again: not at once, or it would go round and round.
            sleep(backoff::reconnect()).await;
            return Some(Outcome::HandedBack);
        }
    };
    let member = revoked.covers(&envelope.members, envelope.issued_at_ms)?;
    metric::revoked();
    tracing::info!(task_id = %lease.task_id, member, "not run: its caller's credential was revoked");
    Some(Outcome::Revoked { error: error(TaskError::REVOKED, "the credential it was submitted with was revoked") })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_lua::{Member, RevocationView, RevokedMember, RevokedSet};

    use super::*;
    use crate::fake::{self, Contents, FakeStore, word};

    /// `ada` is revoked, for good or as issued until then.
    fn view(not_before_ms: Option<u64>) -> Arc<RevocationView> {
        let member = RevokedMember {
            member: Member::Principal("ada").to_string(),
            expires_ms: fake::NOW_MS + 1000,
            revoked_ms: fake::NOW_MS,
            not_before_ms,
            ceiling: None,
            by: String::new(),
            reason: String::new(),
        };
        let set = RevokedSet { now_ms: fake::NOW_MS, number: 7, members: vec![member], ..RevokedSet::default() };
        Arc::new(RevocationView::of(set))
    }

    async fn outcome(store: &FakeStore, members: &[Member<'_>], issued_at_ms: u64) -> Option<&'static str> {
        let mut lease = fake::lease("chat", 1);
        lease.envelope.members = members.iter().map(ToString::to_string).collect();
        lease.envelope.issued_at_ms = issued_at_ms;
        dead(store, &lease, Some(7)).await.as_ref().map(word)
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_has_a_revoked_member_and_is_not_spared_is_not_run() {
        let (ada, bob) = (Member::Principal("ada"), Member::Principal("bob"));
        let store = FakeStore::with(Contents { revoked: view(None), ..Contents::default() });
        assert_eq!(outcome(&store, &[], 0).await, None);
        assert_eq!(outcome(&store, &[bob], 0).await, None);
        assert_eq!(outcome(&store, &[bob, ada], u64::MAX).await, Some("revoked"));
        store.change(|contents| contents.revoked = view(Some(fake::NOW_MS)));
        assert_eq!(outcome(&store, &[ada], fake::NOW_MS).await, Some("revoked"));
        assert_eq!(outcome(&store, &[ada], fake::NOW_MS + 1).await, None);
        assert!(store.read(|contents| contents.revocations_asked.iter().all(|number| *number == Some(7))));
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_cannot_be_read_what_is_revoked_nobody_is_run_who_could_be() {
        let store = FakeStore::with(Contents { outage: true, ..Contents::default() });
        assert_eq!(outcome(&store, &[Member::Principal("bob")], 0).await, Some("handed back"));
        assert_eq!(outcome(&store, &[], 0).await, None);
    }
}
