//! The decision events: written by `admit.lua`, one stream entry per batch; read here, one event per decision.

use std::collections::HashMap;

use bytes::Bytes;
use fred::interfaces::StreamsInterface;
use fred::types::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::{BURST, HOURLY, Reason};
use crate::error::StoreError;
use crate::pack::{Packer, Unpacker, text};
use crate::provenance::RequestOrigin;
use crate::question::Question;
use crate::reply::Reply;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::task::TASK_ID_BYTES;

mod hops;

use hops::Said;

/// One decision, as it was recorded by the script that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// What pass was asked for; `None` for a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<PassAsked>,
    /// The pass that was given a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_id: Option<String>,
    /// The caller's user type.
    pub user_type: String,
    /// The caller's session.
    pub session_id: String,
    /// The caller.
    pub principal: String,
    /// The agent acting for it.
    pub actor: Option<String>,
    /// Kind of the task asked for; of a pass, its route class.
    pub kind: String,
    /// Where the request came from.
    #[serde(flatten)]
    pub origin: RequestOrigin,
    /// Id of the HTTP request.
    pub request_id: String,
    /// Load of the scope after the decision, or passes in flight in the pool.
    pub depth: u64,
    /// Capacity at the decision, or places of the pool.
    pub capacity: u64,
}

/// What sort of pass a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PassAsked {
    /// A place among the passes in flight; else only a decision.
    pub place: bool,
    /// Whether depth and capacity are those of a pool of its class's own.
    pub pooled: bool,
    /// Whether rate limits apply.
    pub throttled: bool,
}

/// How far the stream of decision events goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionMark {
    /// Stream id of the newest batch, which may have been cut off since.
    pub last_id: String,
    /// Batches that were ever added; `None` where the server does not count them.
    pub batches_added: Option<u64>,
}

/// A piece of the stream of decision events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecisionPage {
    /// The decisions, oldest first.
    pub events: Vec<DecisionEvent>,
    /// Batches they were recorded in.
    pub batches: u64,
    /// Stream id of the last batch; `None` when there was none.
    pub last_id: Option<String>,
}

/// What an event says about a request: fields in this order, separated by a unit separator; among them, where named
/// limits apply, the names of all limits in the order of the script's reply; then budget names. Written here and read
/// here; the script only passes it on.
const SEPARATOR: char = '\u{1f}';
/// Longest method in an event, bytes: no registered one is longer, and clients may call theirs as they like.
const METHOD_BYTES: usize = 32;
/// Between the names of limits, none of which has one.
const NAME_SEPARATOR: &str = ",";

/// What the event of a batch says about its requests, one after another: `[length (4)][fields]`.
pub(crate) fn abouts(questions: &[Question<'_>]) -> Bytes {
    let mut all = Packer::with_capacity(192 * questions.len());
    let mut about = String::with_capacity(192);
    for (number, question) in questions.iter().enumerate() {
        about.clear();
        push_about(&mut about, question, &questions[..number]);
        all.u32(about.len() as u32).bytes(about.as_bytes());
    }
    all.finish()
}

fn push_about(about: &mut String, question: &Question<'_>, before: &[Question<'_>]) {
    let request = question.request;
    let provenance = &request.provenance;
    let latency_us = provenance.received.map(|received| received.elapsed().as_micros().to_string());
    let mut chain = String::new();
    hops::push(&mut chain, &provenance.hops, before.iter().map(|question| &*question.request.provenance.hops));
    let limits = if question.uses.is_empty() && question.hop_uses.is_empty() {
        String::new()
    } else {
        question.windows().map(|window| window.name.as_str()).collect::<Vec<_>>().join(NAME_SEPARATOR)
    };
    let pass = PassAsked::of(question).map(PassAsked::letters).unwrap_or_default();
    let fields = [
        request.task_id.as_str(),
        request.user_type.as_str(),
        &request.session_id,
        &request.principal,
        request.actor.as_deref().unwrap_or_default(),
        &request.kind,
        &request.request_id,
        &pass,
        &limits,
        provenance.source,
        provenance.network.as_deref().unwrap_or_default(),
        hops::cut(provenance.method.as_deref().unwrap_or_default(), METHOD_BYTES),
        provenance.route,
        request.trace_id(),
        latency_us.as_deref().unwrap_or_default(),
        &chain,
    ];
    for field in fields.into_iter().chain(question.draws.iter().map(|draw| draw.name)) {
        if field.contains(SEPARATOR) {
            about.extend(field.chars().filter(|&c| c != SEPARATOR));
        } else {
            about.push_str(field);
        }
        about.push(SEPARATOR);
    }
}

impl PassAsked {
    fn of(question: &Question<'_>) -> Option<Self> {
        let terms = question.request.pass?;
        Some(Self { place: terms.lease_ms > 0, pooled: question.pool.is_some(), throttled: terms.throttled })
    }

    /// A letter for each that holds; the first stands for the pass.
    fn letters(self) -> String {
        let flags = [(true, 'p'), (self.place, 'l'), (self.pooled, 'o'), (self.throttled, 't')];
        flags.into_iter().filter_map(|(holds, letter)| holds.then_some(letter)).collect()
    }

    fn read(letters: &str) -> Option<Self> {
        let has = |letter| letters.contains(letter);
        has('p').then(|| Self { place: has('l'), pooled: has('o'), throttled: has('t') })
    }
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

    /// How far the decision events go; `None` when nothing was ever decided.
    pub async fn decision_mark(&self) -> Result<Option<DecisionMark>, StoreError> {
        let client = self.store.client();
        let about: Result<HashMap<String, Value>, _> = client.xinfo_stream(self.keys.decision(), false, None).await;
        let about = match about {
            Err(error) if error.details().contains("no such key") => return Ok(None),
            about => about?,
        };
        let last_id = about.get("last-generated-id").and_then(Value::as_string);
        let last_id = last_id.ok_or_else(|| StoreError::Protocol("a stream without a last id".to_owned()))?;
        Ok(Some(DecisionMark { last_id, batches_added: about.get("entries-added").and_then(Value::as_u64) }))
    }

    /// The oldest `batches` batches of decisions that came after the batch `after` (`None`: from the beginning) and not
    /// after the batch `until`. What the stream's bound has cut off is missing: compare with
    /// [`DecisionMark::batches_added`].
    pub async fn decisions_between(
        &self,
        after: Option<&str>,
        until: &str,
        batches: u32,
    ) -> Result<DecisionPage, StoreError> {
        let start = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let client = self.store.client();
        let entries: Value = client.xrange(self.keys.decision(), start, until, Some(u64::from(batches))).await?;
        let mut page = DecisionPage::default();
        if entries.is_null() {
            return Ok(page);
        }
        let mut entries = Reply::new("decisions", entries)?;
        while !entries.is_empty() {
            let mut entry = Reply::new("decisions", entries.value()?)?;
            let id = entry.text()?;
            page.events.extend(read_batch(&id, Reply::new("decisions", entry.value()?)?)?);
            page.batches += 1;
            page.last_id = Some(id);
        }
        Ok(page)
    }
}

/// The events of one stream entry: `batch` `[policy stamp d][time d]`, `about`, `outcome` as `admit.lua` returns it.
/// Its place in the chain is not read here.
fn read_batch(batch_id: &str, mut fields: Reply) -> Result<Vec<DecisionEvent>, StoreError> {
    let (mut batch, mut abouts, mut outcomes) = (Bytes::new(), Bytes::new(), Bytes::new());
    while !fields.is_empty() {
        let (name, value) = (fields.bytes()?, fields.bytes()?);
        match &name[..] {
            b"batch" => batch = value,
            b"about" => abouts = value,
            b"outcome" => outcomes = value,
            _ => {}
        }
    }
    let (mut batch, mut abouts, mut outcomes) = (Unpacker::new(batch), Unpacker::new(abouts), Unpacker::new(outcomes));
    let (policy_revision, at_ms) = (PolicyStamp::from_u64(batch.count()?).revision(), batch.count()?);
    let (mut events, mut chains) = (Vec::new(), Vec::<Said>::new());
    while !abouts.is_empty() {
        let length = abouts.u32()?;
        let about = text(&abouts.take(length as usize)?)?;
        let about: Vec<&str> = about.split_terminator(SEPARATOR).collect();
        let Some((known, budgets)) = about.split_first_chunk::<16>() else {
            return Err(StoreError::Protocol("a decision event that says too little".to_owned()));
        };
        let [id, user_type, session_id, principal, actor, kind, request_id, pass, limits, origin @ .., chain] = known;
        let chain = hops::read(chain, |number| chains.get(number))?;
        let event = DecisionEvent {
            id: format!("{batch_id}.{}", events.len()),
            at_ms,
            policy_revision,
            outcome: "refused".to_owned(),
            step: None,
            code: None,
            name: None,
            retry_after_ms: 0,
            task_id: None,
            pass: PassAsked::read(pass),
            pass_id: None,
            user_type: (*user_type).to_owned(),
            session_id: (*session_id).to_owned(),
            principal: (*principal).to_owned(),
            actor: (!actor.is_empty()).then(|| (*actor).to_owned()),
            kind: (*kind).to_owned(),
            origin: origin_of(*origin, &chain),
            request_id: (*request_id).to_owned(),
            depth: 0,
            capacity: 0,
        };
        let names = Names { limits, budgets };
        events.push(decided(event, id, &names, &mut outcomes)?);
        chains.push(chain);
    }
    Ok(events)
}

fn origin_of([source, network, method, route, trace_id, latency_us]: [&str; 6], chain: &Said) -> RequestOrigin {
    let known = |field: &str| (!field.is_empty()).then(|| field.to_owned());
    RequestOrigin {
        source: known(source),
        network: known(network),
        method: known(method),
        route: known(route),
        trace_id: known(trace_id),
        latency_us: latency_us.parse().ok(),
        hops: chain.hops.clone(),
        hops_cut: chain.cut,
    }
}

/// What the number of an exhausted limit or budget stands for.
struct Names<'a> {
    limits: &'a str,
    budgets: &'a [&'a str],
}

fn decided(
    mut event: DecisionEvent,
    id: &str,
    names: &Names<'_>,
    outcome: &mut Unpacker,
) -> Result<DecisionEvent, StoreError> {
    let (code, which) = (outcome.u8()?, usize::from(outcome.u8()?));
    event.retry_after_ms = outcome.count()?;
    (event.depth, event.capacity) = (outcome.count()?, outcome.count()?);
    match code {
        0 => {
            "admitted".clone_into(&mut event.outcome);
            match event.pass {
                None => event.task_id = Some(id.to_owned()),
                Some(asked) => event.pass_id = asked.place.then(|| id.to_owned()),
            }
        }
        255 => {
            "replayed".clone_into(&mut event.outcome);
            event.task_id = Some(text(&outcome.take(TASK_ID_BYTES)?)?);
        }
        code => {
            let reason = Reason::from_code(code)
                .ok_or_else(|| StoreError::Protocol(format!("a decision event with the code {code}")))?;
            event.step = Some(reason.step().as_str().to_owned());
            event.code = Some(reason.code().to_owned());
            event.name = match reason {
                Reason::BurstLimit => Some(BURST.to_owned()),
                Reason::HourlyLimit => Some(HOURLY.to_owned()),
                Reason::RateLimit => names.limits.split(NAME_SEPARATOR).nth(which.wrapping_sub(1)).map(str::to_owned),
                Reason::BudgetExhausted => names.budgets.get(which.wrapping_sub(1)).map(|name| (*name).to_owned()),
                _ => None,
            };
        }
    }
    Ok(event)
}
