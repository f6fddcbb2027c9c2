//! The envelope of a task: what is kept about it beside its payload.
//!
//! Responsible for its packed form, which stands in the task's record and in what is kept of it at its end. Must never
//! be read by a script. Packed rather than JSON, because Redis hashes each byte of it twice at every admission.

use portcullis_config::UserType;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::pack::{Packer, Unpacker};

/// Room for an envelope, bytes.
pub(crate) const ENVELOPE_BYTES: usize = 192;

/// Whether an envelope has the fields that not every one has.
const HAS_ACTOR: u8 = 1;
const HAS_TRACEPARENT: u8 = 2;
const HAS_TRACESTATE: u8 = 4;
const HAS_MEMBERS: u8 = 8;
const HAS_AGENTS: u8 = 16;
/// Most members or agents that are kept: a chain of eight hops has fewer.
const MEMBERS: usize = u8::MAX as usize;

/// What is kept about a task beside its payload: who sent it, what it is, what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// What sort of work it is; chooses the handler and the breaker.
    pub kind: String,
    /// The caller's user type at admission.
    pub user_type: UserType,
    /// The caller's session.
    pub session_id: String,
    /// Whom the task belongs to; nobody else may see it.
    pub principal: String,
    /// The agent that acted for the principal, if any.
    pub actor: Option<String>,
    /// The agents it was handed through, root first, by the names that events of its end have for them; none where no
    /// agent acted.
    pub agents: Vec<String>,
    /// What the caller's credential dies with, and the task with it while it waits.
    pub members: Vec<String>,
    /// When that credential was issued, ms since the epoch; 0 where it is not known, or has no members.
    pub issued_at_ms: u64,
    /// Id of the HTTP request that submitted it.
    pub request_id: String,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// What tracers on the way had added to it.
    pub tracestate: Option<String>,
    /// Content type of the payload.
    pub content_type: String,
    /// Budget holds taken at admission, released or committed when the task ends.
    pub holds: Vec<Hold>,
}

/// An amount of a budget held by a task from its admission to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Name of the budget in the policy.
    pub budget: String,
    /// Whose share of it: empty for the tenant's, else a user type, principal or session.
    pub subject: String,
    /// What is counted.
    pub unit: String,
    /// Units held.
    pub amount: u64,
}

/// An envelope but for its holds, borrowed: an admission is too short to copy every name in it.
#[derive(Debug)]
pub(crate) struct EnvelopeView<'a> {
    pub(crate) kind: &'a str,
    pub(crate) user_type: &'a str,
    pub(crate) session_id: &'a str,
    pub(crate) principal: &'a str,
    pub(crate) actor: Option<&'a str>,
    pub(crate) agents: &'a [String],
    pub(crate) members: &'a [String],
    pub(crate) issued_at_ms: u64,
    pub(crate) request_id: &'a str,
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) tracestate: Option<&'a str>,
    pub(crate) content_type: &'a str,
}

/// A hold, borrowed.
#[derive(Debug)]
pub(crate) struct HoldView<'a> {
    pub(crate) budget: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) amount: u64,
}

impl EnvelopeView<'_> {
    /// `[flags (1): 1 actor, 2 trace context, 4 trace state, 8 members, 16 agents][kind][user type][session][principal]
    /// [actor][agents (1)]`, each agent, `[issued (8)][members (1)]`, each member, `[request id][trace context]
    /// [trace state][content type][holds (2)]` and for each hold `[budget][subject][unit][amount (8)]`; texts with
    /// their lengths.
    pub(crate) fn pack<'h>(&self, packer: &mut Packer, holds: impl ExactSizeIterator<Item = HoldView<'h>>) {
        let flag = |field: Option<&str>, bit| if field.is_some() { bit } else { 0 };
        let trace = flag(self.traceparent, HAS_TRACEPARENT) | flag(self.tracestate, HAS_TRACESTATE);
        let members = &self.members[..self.members.len().min(MEMBERS)];
        let dies = if members.is_empty() { 0 } else { HAS_MEMBERS };
        let agents = &self.agents[..self.agents.len().min(MEMBERS)];
        let acts = if agents.is_empty() { 0 } else { HAS_AGENTS };
        packer.u8(flag(self.actor, HAS_ACTOR) | trace | dies | acts);
        packer.text(self.kind).text(self.user_type).text(self.session_id).text(self.principal);
        if let Some(actor) = self.actor {
            packer.text(actor);
        }
        if !agents.is_empty() {
            packer.u8(agents.len() as u8);
            for agent in agents {
                packer.text(agent);
            }
        }
        if !members.is_empty() {
            packer.f64(self.issued_at_ms as f64).u8(members.len() as u8);
            for member in members {
                packer.text(member);
            }
        }
        packer.text(self.request_id);
        if let Some(traceparent) = self.traceparent {
            packer.text(traceparent);
        }
        if let Some(tracestate) = self.tracestate {
            packer.text(tracestate);
        }
        packer.text(self.content_type).u16(holds.len() as u16);
        for hold in holds {
            packer.text(hold.budget).text(hold.subject).text(hold.unit).f64(hold.amount as f64);
        }
    }
}

impl Hold {
    fn view(&self) -> HoldView<'_> {
        HoldView { budget: &self.budget, subject: &self.subject, unit: &self.unit, amount: self.amount }
    }
}

impl Envelope {
    pub(crate) fn pack(&self, packer: &mut Packer) {
        let view = EnvelopeView {
            kind: &self.kind,
            user_type: self.user_type.as_str(),
            session_id: &self.session_id,
            principal: &self.principal,
            actor: self.actor.as_deref(),
            agents: &self.agents,
            members: &self.members,
            issued_at_ms: self.issued_at_ms,
            request_id: &self.request_id,
            traceparent: self.traceparent.as_deref(),
            tracestate: self.tracestate.as_deref(),
            content_type: &self.content_type,
        };
        view.pack(packer, self.holds.iter().map(Hold::view));
    }

    /// The envelope at the front.
    pub(crate) fn unpack(packed: &mut Unpacker) -> Result<Self, StoreError> {
        let flags = packed.u8()?;
        let (kind, user_type) = (packed.text()?, packed.text()?);
        let user_type = UserType::new(&user_type).map_err(|error| StoreError::Protocol(error.to_string()))?;
        let (session_id, principal) = (packed.text()?, packed.text()?);
        let actor = if flags & HAS_ACTOR == 0 { None } else { Some(packed.text()?) };
        let mut agents = Vec::new();
        if flags & HAS_AGENTS != 0 {
            let number = packed.u8()?;
            agents = (0..number).map(|_| packed.text()).collect::<Result<_, _>>()?;
        }
        let (mut members, mut issued_at_ms) = (Vec::new(), 0);
        if flags & HAS_MEMBERS != 0 {
            issued_at_ms = packed.count()?;
            let number = packed.u8()?;
            members = (0..number).map(|_| packed.text()).collect::<Result<_, _>>()?;
        }
        let request_id = packed.text()?;
        let traceparent = if flags & HAS_TRACEPARENT == 0 { None } else { Some(packed.text()?) };
        let tracestate = if flags & HAS_TRACESTATE == 0 { None } else { Some(packed.text()?) };
        let (content_type, holds) = (packed.text()?, packed.u16()?);
        let hold = |_| {
            let (budget, subject, unit) = (packed.text()?, packed.text()?, packed.text()?);
            Ok::<_, StoreError>(Hold { budget, subject, unit, amount: packed.count()? })
        };
        let holds = (0..holds).map(hold).collect::<Result<_, _>>()?;
        Ok(Self {
            kind,
            user_type,
            session_id,
            principal,
            actor,
            agents,
            members,
            issued_at_ms,
            request_id,
            traceparent,
            tracestate,
            content_type,
            holds,
        })
    }

    /// Stands in for one that cannot be read: of no kind and no principal.
    pub(crate) fn of_nobody() -> Self {
        Self {
            kind: String::new(),
            user_type: UserType::anonymous(),
            session_id: String::new(),
            principal: String::new(),
            actor: None,
            agents: Vec::new(),
            members: Vec::new(),
            issued_at_ms: 0,
            request_id: String::new(),
            traceparent: None,
            tracestate: None,
            content_type: String::new(),
            holds: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Envelopes with and without all that not every one has; their texts are as long as these, and odd.
    fn envelopes() -> impl Iterator<Item = Envelope> {
        let lengths = [0, 1, 254, 255, 256, 70_000];
        lengths.into_iter().flat_map(|length| (0..64).map(move |fields| envelope(length, fields)))
    }

    fn envelope(length: usize, fields: u8) -> Envelope {
        let text = |first: char| std::iter::once(first).chain("é\"\0".chars().cycle()).take(length).collect::<String>();
        let optional = |bit, first| (fields & bit != 0).then(|| text(first));
        let hold = |first| Hold { budget: text(first), subject: text('s'), unit: text('u'), amount: 7 };
        Envelope {
            kind: text('k'),
            user_type: UserType::new("paid").unwrap(),
            session_id: text('i'),
            principal: text('p'),
            actor: optional(1, 'a'),
            agents: optional(32, 'b').into_iter().chain(optional(32, 'd')).collect(),
            members: optional(16, 'm').into_iter().chain(optional(16, 'n')).collect(),
            issued_at_ms: u64::from(fields & 16),
            request_id: text('r'),
            traceparent: optional(2, 't'),
            tracestate: optional(8, 'o'),
            content_type: text('c'),
            holds: if fields & 4 == 0 { Vec::new() } else { vec![hold('x'), hold('y')] },
        }
    }

    fn packed(envelope: &Envelope) -> Bytes {
        let mut packer = Packer::default();
        envelope.pack(&mut packer);
        packer.finish()
    }

    #[test]
    fn what_is_packed_is_unpacked_and_what_follows_is_left() {
        for envelope in envelopes() {
            let mut both = packed(&envelope).to_vec();
            both.extend_from_slice(b"payload");
            let mut unpacker = Unpacker::new(both.into());
            assert_eq!(Envelope::unpack(&mut unpacker).unwrap(), envelope);
            assert_eq!(&unpacker.rest()[..], b"payload");
        }
    }

    #[test]
    fn one_that_is_cut_off_is_an_error() {
        for fields in 0..64 {
            let packed = packed(&envelope(3, fields));
            for length in 0..packed.len() {
                assert!(Envelope::unpack(&mut Unpacker::new(packed.slice(..length))).is_err(), "{length}");
            }
        }
    }
}
