//! Making and storing the next policy of a scope.
//!
//! Responsible for the order: count the change, get in step with what is stored, look whether it is what the author has
//! seen, make and check the new document, store it if what it was made of is still stored, put it in force here. Must
//! never store what was not checked, and must never call a change failed of which it is not known.

use std::sync::Arc;

use portcullis_config::{Amended, Amendment, LoadError, amend};
use portcullis_lua::{About, FromBasis, NewRevision, Origin, PolicyStamp, Retention, Revised, StoreError};
use serde_json::Value;

use super::request::ChangeRequest;
use crate::admin::redact;
use crate::admin::scoped::Scoped;
use crate::refusal::{Cause, Refused, RequestFault};

/// How often a change that names no revision is made anew on top of somebody else's.
const ROUNDS: usize = 8;

/// What is to become of the document, and how that is called in the record.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What is to become of it.
    pub(crate) amendment: Amendment,
    /// How the revision comes to be.
    pub(crate) origin: Origin,
    /// The revision whose document it repeats.
    pub(crate) rolled_back_to: Option<u64>,
}

/// A change that was made, or would have been.
#[derive(Debug)]
pub(crate) struct Made {
    /// The document and what is different in it.
    pub(crate) amended: Amended,
    /// Its revision; on a dry run the one it was compared with.
    pub(crate) revision: u64,
    /// How it came to be.
    pub(crate) origin: Origin,
}

/// The document a change is made of.
#[derive(Debug)]
pub(crate) struct Base {
    document: Arc<Value>,
    stamp: PolicyStamp,
}

impl Base {
    /// What is stored, once this gateway is in step with it.
    pub(crate) async fn stored(scoped: &Scoped) -> Result<Self, StoreError> {
        let stamp = scoped.scope().catch_up().await?;
        let held = Self::held(scoped);
        if held.stamp == stamp {
            return Ok(held);
        }
        // It cannot be put in force here, a newer version having stored it, say. It can be replaced all the same.
        let Some(stored) = scoped.read(scoped.store().stored_policy()).await? else { return Ok(held) };
        let document = portcullis_config::from_json(&stored.document).map_err(StoreError::Protocol)?;
        Ok(Self { document: Arc::new(document), stamp: stored.stamp })
    }

    /// What this gateway holds, whatever is stored.
    pub(crate) fn held(scoped: &Scoped) -> Self {
        let policy = scoped.policy();
        let basis = policy.basis();
        let document = match &basis.stored {
            Some(_) => basis.written.clone(),
            // What belongs to this process alone is not handed on to the others.
            None => Arc::new(scoped.live().boot_document()),
        };
        Self { document, stamp: basis.stamp() }
    }

    /// Its revision; 0 for the boot document.
    pub(crate) fn revision(&self) -> u64 {
        self.stamp.revision()
    }

    /// The document that comes of it, or every fault of that.
    pub(crate) fn amended(&self, scoped: &Scoped, amendment: &Amendment) -> Result<Amended, Vec<RequestFault>> {
        // The environment is this process's: asked for here, it would tell the document's readers its secrets, and
        // another replica would read another document.
        let environment = |_: &str| None;
        amend(&self.document, amendment.clone(), scoped.store().scope(), &environment).map_err(faults_of)
    }
}

/// What is wrong with a document, as faults of the request that brought it.
fn faults_of(error: LoadError) -> Vec<RequestFault> {
    match error {
        LoadError::Invalid { faults, .. } => {
            faults.into_iter().map(|fault| RequestFault::new(fault.path, redact::text(&fault.message))).collect()
        }
        LoadError::Unreadable { reason, .. } => vec![RequestFault::new("", reason)],
    }
}

/// Makes the change, unless the request has faults: those already found and those of the document are told together.
pub(crate) async fn make(
    scoped: &Scoped,
    request: &ChangeRequest,
    plan: Option<Plan>,
    faults: Vec<RequestFault>,
) -> Result<Made, Refused> {
    let Some(plan) = plan else { return Err(Refused::invalid(faults)) };
    if faults.is_empty() && !request.dry_run {
        let operator = scoped.operator();
        if operator.is_agent() && request.expected_revision.is_none() {
            return Err(Refused::expected_revision_required());
        }
        operator.count_write(scoped.gateway()).await?;
    }
    let write_id = ulid::Ulid::generate().to_string();
    let mut current = 0;
    for _ in 0..ROUNDS {
        let base = match Base::stored(scoped).await {
            Ok(base) => base,
            // It is refused in any case, and with all its faults.
            Err(_) if !faults.is_empty() => Base::held(scoped),
            Err(error) => return Err(not_stored(&error)),
        };
        current = base.revision();
        if faults.is_empty() && request.expected_revision.is_some_and(|expected| expected != current) {
            return Err(Refused::revision_conflict(current));
        }
        let amended = match base.amended(scoped, &plan.amendment) {
            Ok(amended) if faults.is_empty() => amended,
            Ok(_) => return Err(Refused::invalid(faults)),
            Err(found) => return Err(Refused::invalid(faults.into_iter().chain(found).collect())),
        };
        if request.dry_run {
            return Ok(Made { amended, revision: current, origin: plan.origin });
        }
        match store(scoped, base.stamp, request, &plan, &amended, &write_id).await? {
            Revised::Stored(stored) => {
                let revision = stored.stamp.revision();
                scoped.scope().adopt(stored);
                return Ok(Made { amended, revision, origin: plan.origin });
            }
            Revised::Conflict { current: other } => current = other.revision(),
        }
        if request.expected_revision.is_some() {
            break;
        }
    }
    Err(Refused::revision_conflict(current))
}

async fn store(
    scoped: &Scoped,
    seen: PolicyStamp,
    request: &ChangeRequest,
    plan: &Plan,
    amended: &Amended,
    write_id: &str,
) -> Result<Revised, Refused> {
    let about = About {
        origin: plan.origin,
        actor: scoped.operator().actor(),
        reason: request.reason.clone(),
        rolled_back_to: plan.rolled_back_to,
        changed: amended.changes.iter().map(|change| change.path.clone()).collect(),
    };
    let new = NewRevision { document: amended.document.clone(), about, write_id: write_id.to_owned() };
    let retention = Retention::of(scoped.policy().policy());
    // Not cut short like a question: it looks up by itself what became of an answer that was lost.
    let store = scoped.store_for_changes();
    Box::pin(store.revise(seen, retention, &new)).await.map_err(|error| {
        tracing::warn!(%error, scope = %scoped.store().scope(), "it is not known whether a policy was stored");
        let detail = "Redis did not say whether the policy was stored: look at it before you repeat this.";
        Refused::new(Cause::StoreUnavailable, "Store unavailable", detail)
    })
}

fn not_stored(error: &StoreError) -> Refused {
    tracing::debug!(%error, "redis could not say which policy is stored");
    let detail = "Redis did not say which policy is stored. Nothing was changed.";
    Refused::new(Cause::StoreUnavailable, "Store unavailable", detail)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_config::UserType;
    use serde_json::json;

    use super::*;
    use crate::admin::asked::ScopeNames;
    use crate::admin::operator::Operator;
    use crate::admission::session::known_for_tests;
    use crate::caller::{Caller, Source};
    use crate::state::Gateway;
    use crate::state::tests::options_without_redis;

    /// What comes of a change by this operator, with a Redis that is not there: it is never asked of one that is
    /// refused before.
    async fn refused(actor: Option<&str>, expected_revision: Option<u64>, dry_run: bool, fault: bool) -> Cause {
        let gateway = Gateway::new(options_without_redis());
        let privileged = UserType::new("privileged").unwrap();
        let caller = Caller::new("ada".to_owned(), privileged, "user-ada".to_owned(), Source::Delegation);
        let identity = known_for_tests(&gateway, Caller { actor: actor.map(str::to_owned), ..caller });
        let scope = gateway.scopes().default_scope().clone();
        let scoped = Scoped::new(gateway, scope, Operator::Caller(identity));
        let request = ChangeRequest {
            names: ScopeNames::default(),
            expected_revision,
            reason: None,
            dry_run,
            wait: Duration::ZERO,
        };
        let amendment = Amendment::Patch(json!({"queue": {"lease_ms": 20_000}}));
        let plan = Plan { amendment, origin: Origin::Update, rolled_back_to: None };
        let faults = if fault { vec![RequestFault::new("reason", "is wrong")] } else { Vec::new() };
        make(&scoped, &request, Some(plan), faults).await.unwrap_err().cause
    }

    #[tokio::test]
    async fn an_agent_says_which_revision_it_has_seen_and_nobody_else_has_to() {
        assert_eq!(refused(Some("indexer"), None, false, false).await, Cause::PreconditionRequired);
        assert_eq!(refused(Some("indexer"), Some(0), false, false).await, Cause::StoreUnavailable);
        assert_eq!(refused(Some("indexer"), None, true, false).await, Cause::StoreUnavailable);
        assert_eq!(refused(None, None, false, false).await, Cause::StoreUnavailable);
        assert_eq!(refused(Some("indexer"), None, false, true).await, Cause::Invalid);
    }
}
