//! The decision events: written by `admit.lua`, one stream entry per batch; read here, one event per decision.

use bytes::Bytes;
use fred::interfaces::StreamsInterface;
use fred::types::Value;
use serde::{Deserialize, Serialize};

use crate::decision::Reason;
use crate::pack::{Unpacker, text};
use crate::reply::Reply;
use crate::store::{ScopeStore, StoreError};
use crate::task::{Envelope, TaskId};

/// One decision, as it was recorded by the script that made it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionEvent {
    /// Stream id of the batch and number within it.
    pub id: String,
    /// When, Redis clock, ms since the epoch.
    pub at_ms: u64,
    /// Revision of the policy it was made under.
    pub policy_revision: u64,
    /// `admitted`, `refused` or `replayed`.
    pub outcome: String,
    /// The step that refused.
    pub step: Option<String>,
    /// The refusal's code.
    pub code: Option<String>,
    /// The exhausted limit or budget.
    pub name: Option<String>,
    /// When the caller may come again, ms after the decision.
    pub retry_after_ms: u64,
    /// The task, where there is one.
    pub task_id: Option<String>,
    /// The caller's user type.
    pub user_type: String,
    /// The caller's session.
    pub session_id: String,
    /// The caller.
    pub principal: String,
    /// The agent acting for it.
    pub actor: Option<String>,
    /// Kind of the task asked for.
    pub kind: String,
    /// Id of the HTTP request.
    pub request_id: String,
    /// Queued and running after the decision.
    pub depth: u64,
    /// Capacity at the decision.
    pub capacity: u64,
}

/// What an event says about a request, written by the gateway and not read by the script.
#[derive(Debug, Serialize, Deserialize)]
struct About<'a> {
    #[serde(rename = "t")]
    task_id: std::borrow::Cow<'a, str>,
    #[serde(rename = "u")]
    user_type: std::borrow::Cow<'a, str>,
    #[serde(rename = "s")]
    session_id: std::borrow::Cow<'a, str>,
    #[serde(rename = "p")]
    principal: std::borrow::Cow<'a, str>,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    actor: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "k")]
    kind: std::borrow::Cow<'a, str>,
    #[serde(rename = "r")]
    request_id: std::borrow::Cow<'a, str>,
    #[serde(rename = "b", default, skip_serializing_if = "Vec::is_empty")]
    budgets: Vec<std::borrow::Cow<'a, str>>,
}

pub(crate) fn about(task_id: &TaskId, envelope: &Envelope) -> String {
    let about = About {
        task_id: task_id.as_str().into(),
        user_type: envelope.user_type.as_str().into(),
        session_id: envelope.session_id.as_str().into(),
        principal: envelope.principal.as_str().into(),
        actor: envelope.actor.as_deref().map(Into::into),
        kind: envelope.kind.as_str().into(),
        request_id: envelope.request_id.as_str().into(),
        budgets: envelope.holds.iter().map(|hold| hold.budget.as_str().into()).collect(),
    };
    serde_json::to_string(&about).unwrap_or_default()
}

impl ScopeStore {
    /// The newest `limit` decisions, newest first.
    pub async fn decisions(&self, limit: u32) -> Result<Vec<DecisionEvent>, StoreError> {
        let limit = limit as usize;
        let batches: Value = self.store.client().xrevrange(self.keys.decision(), "+", "-", Some(limit as u64)).await?;
        if batches.is_null() {
            return Ok(Vec::new());
        }
        let mut batches = Reply::new("decisions", batches)?;
        let mut events = Vec::new();
        while !batches.is_empty() && events.len() < limit {
            let mut entry = Reply::new("decisions", batches.value()?)?;
            let id = entry.text()?;
            events.extend(read_batch(&id, Reply::new("decisions", entry.value()?)?)?.into_iter().rev());
        }
        events.truncate(limit);
        Ok(events)
    }
}

fn read_batch(id: &str, mut fields: Reply) -> Result<Vec<DecisionEvent>, StoreError> {
    fields.bytes()?;
    let mut batch = Unpacker::new(fields.bytes()?);
    let (policy_revision, at_ms) = (batch.count()?, batch.count()?);
    let mut events = Vec::with_capacity(fields.len() / 2);
    while !fields.is_empty() {
        let about = fields.bytes()?;
        let about: About<'_> = serde_json::from_slice(&about)
            .map_err(|error| StoreError::Protocol(format!("a decision event: {error}")))?;
        let event = DecisionEvent {
            id: format!("{id}.{}", events.len()),
            at_ms,
            policy_revision,
            outcome: "refused".to_owned(),
            step: None,
            code: None,
            name: None,
            retry_after_ms: 0,
            task_id: None,
            user_type: about.user_type.clone().into_owned(),
            session_id: about.session_id.clone().into_owned(),
            principal: about.principal.clone().into_owned(),
            actor: about.actor.clone().map(std::borrow::Cow::into_owned),
            kind: about.kind.clone().into_owned(),
            request_id: about.request_id.clone().into_owned(),
            depth: 0,
            capacity: 0,
        };
        events.push(decided(event, &about, fields.bytes()?)?);
    }
    Ok(events)
}

fn decided(mut event: DecisionEvent, about: &About<'_>, outcome: Bytes) -> Result<DecisionEvent, StoreError> {
    let mut outcome = Unpacker::new(outcome);
    let (code, which) = (outcome.u8()?, usize::from(outcome.u8()?));
    event.retry_after_ms = outcome.count()?;
    (event.depth, event.capacity) = (outcome.count()?, outcome.count()?);
    match code {
        0 => {
            "admitted".clone_into(&mut event.outcome);
            event.task_id = Some(about.task_id.clone().into_owned());
        }
        255 => {
            "replayed".clone_into(&mut event.outcome);
            event.task_id = Some(text(&outcome.rest())?);
        }
        code => {
            let reason = Reason::from_code(code)
                .ok_or_else(|| StoreError::Protocol(format!("a decision event with the code {code}")))?;
            event.step = Some(reason.step().as_str().to_owned());
            event.code = Some(reason.code().to_owned());
            event.name = match reason {
                Reason::BurstLimit => Some("burst".to_owned()),
                Reason::HourlyLimit => Some("hourly".to_owned()),
                Reason::BudgetExhausted => about.budgets.get(which.wrapping_sub(1)).map(|name| name.clone().into_owned()),
                _ => None,
            };
        }
    }
    Ok(event)
}
