//! What a request that was turned away is told: the cause, in words, and when it may come again.
//!
//! Responsible for the vocabulary between the steps that refuse and `respond.rs`, which turns it into HTTP. Must never
//! name an HTTP status: one file does.

use std::sync::Arc;

use portcullis_lua::{LimitState, Reason, Step};
use schemars::JsonSchema;
use serde::Serialize;

use crate::policy_in_force::PolicyInForce;

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The script decided so, or a memory of what it decided.
    Decided(Reason),
    /// No identity could be resolved. One shape for every reason there may be.
    Unauthenticated,
    /// The caller is known, and may not do this; or a page that asks in their name may not.
    Forbidden,
    /// The request cannot be attributed to anybody: contradictory credentials or an absurd forwarding header.
    Unattributable,
    /// The credential was not given for this; `name` says for what it would have to be.
    InsufficientScope,
    /// Nobody from this address is let in.
    AddressRefused,
    /// Too many credentials from this address were worth nothing.
    FailedAttempts,
    /// Too many changes or credentials were asked for by this caller.
    TooManyWrites,
    /// Who vouches for the credential cannot be asked, or nobody can say whether it has been revoked.
    IdentityUnavailable,
    /// Redis cannot be asked, or did not answer in time.
    StoreUnavailable,
    /// The body or a header says something this interface does not know.
    Invalid,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The payload, or the body around it, is larger than the policy allows.
    PayloadTooLarge,
    /// There is no such thing, or it belongs to somebody else: the two cannot be told apart.
    NotFound,
    /// Another policy is stored than the author of a change has seen.
    RevisionConflict {
        /// Its revision.
        current: u64,
    },
    /// An agent did not say which revision of the policy it has seen.
    PreconditionRequired,
    /// This gateway is going away.
    Draining,
    /// This gateway serves as many event streams as the policy allows it, or as many tunnels as it can or as the policy
    /// allows the caller; or it can open no connection to the application.
    StreamLimit,
    /// This gateway itself is broken.
    Internal,
    /// The application behind this gateway could not be reached.
    UpstreamUnreachable,
    /// The application did not answer in time.
    UpstreamTimeout,
    /// The application's answer cannot be passed on.
    UpstreamInvalid,
}

impl Cause {
    /// Every cause there is but those the script decides.
    const OWN: [Self; 21] = [
        Self::Unauthenticated,
        Self::Unattributable,
        Self::Forbidden,
        Self::InsufficientScope,
        Self::AddressRefused,
        Self::FailedAttempts,
        Self::TooManyWrites,
        Self::IdentityUnavailable,
        Self::StoreUnavailable,
        Self::Invalid,
        Self::BodyTimeout,
        Self::PayloadTooLarge,
        Self::NotFound,
        Self::RevisionConflict { current: 0 },
        Self::PreconditionRequired,
        Self::Draining,
        Self::StreamLimit,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::UpstreamInvalid,
        Self::Internal,
    ];

    /// Every cause there is, what it carries left at zero.
    pub fn all() -> impl Iterator<Item = Self> {
        Reason::ALL.into_iter().map(Self::Decided).chain(Self::OWN)
    }

    /// The `code` of the refusal, as fixed by the public interface.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Decided(reason) => reason.code(),
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::InsufficientScope => "insufficient_scope",
            Self::AddressRefused => "ip_refused",
            Self::FailedAttempts | Self::TooManyWrites => Reason::RateLimit.code(),
            Self::IdentityUnavailable => "identity_unavailable",
            Self::StoreUnavailable => "store_unavailable",
            Self::Unattributable | Self::Invalid | Self::BodyTimeout => "invalid_request",
            Self::PayloadTooLarge => "payload_too_large",
            Self::NotFound => "not_found",
            Self::RevisionConflict { .. } => "revision_conflict",
            Self::PreconditionRequired => "expected_revision_required",
            Self::Draining => "draining",
            Self::StreamLimit => "stream_limit",
            Self::Internal => "internal_error",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamInvalid => "upstream_invalid",
        }
    }

    /// The step that refused; `None` for refusals that may come at any point.
    #[must_use]
    pub fn step(self) -> Option<Step> {
        match self {
            Self::Decided(reason) => Some(reason.step()),
            Self::Unauthenticated
            | Self::Unattributable
            | Self::Forbidden
            | Self::InsufficientScope
            | Self::AddressRefused
            | Self::IdentityUnavailable => Some(Step::Session),
            Self::FailedAttempts | Self::TooManyWrites => Some(Step::RateLimit),
            Self::StreamLimit => Some(Step::Backpressure),
            Self::StoreUnavailable => Some(Step::CircuitBreaker),
            Self::Invalid | Self::BodyTimeout | Self::PayloadTooLarge => Some(Step::Enqueue),
            Self::NotFound
            | Self::RevisionConflict { .. }
            | Self::PreconditionRequired
            | Self::Draining
            | Self::Internal
            | Self::UpstreamUnreachable
            | Self::UpstreamTimeout
            | Self::UpstreamInvalid => None,
        }
    }
}

/// A fault of a request: where and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RequestFault {
    /// Path in the body such as `estimate.tokens`, or the name of a header or query parameter.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl RequestFault {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// The caller's limits as a decision found them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Each of them at the decision.
    pub states: Arc<[LimitState]>,
    /// How long ago that was, ms: what is repeated from memory is not read again.
    pub aged_ms: u32,
    /// Whether the decision was about this very request, so that an event tells of it.
    pub recorded: bool,
    /// Whether the decision's wait rests on the policy's service time, because none has been measured.
    pub assumed: bool,
}

impl From<Arc<[LimitState]>> for Limits {
    /// Of a decision made just now.
    fn from(states: Arc<[LimitState]>) -> Self {
        Self { states, aged_ms: 0, recorded: true, assumed: false }
    }
}

impl Limits {
    /// Whether an earlier answer has said the same: nothing of it is new.
    pub(crate) fn are_repeated(&self) -> bool {
        !self.recorded && !self.states.is_empty()
    }
}

/// A refusal on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub cause: Cause,
    /// The kind of refusal in a few words.
    pub title: &'static str,
    /// What happened and what to do about it, for a person.
    pub detail: &'static str,
    /// When it may come again, ms from now; 0 where waiting does not help or nobody knows.
    pub retry_after_ms: u64,
    /// Name of the exhausted limit or budget, where the refusal is about one.
    pub name: Option<Box<str>>,
    /// The caller's limits at the decision; empty when there was none.
    pub limits: Limits,
    /// Every fault of the request, where it was refused as invalid.
    pub faults: Box<[RequestFault]>,
    /// The policy it was refused under, where it is known; else the one in force when the answer is written.
    pub policy: Option<Arc<PolicyInForce>>,
}

impl Refused {
    pub(crate) fn new(cause: Cause, title: &'static str, detail: &'static str) -> Self {
        let (name, limits, faults) = (None, Limits::default(), Box::default());
        Self { cause, title, detail, retry_after_ms: 0, name, limits, faults, policy: None }
    }

    /// There is nothing there for this caller. Always the same, so that it tells nothing.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Cause::NotFound, "Not found", "There is nothing here under this name.")
    }

    /// The caller could not be resolved. Always the same, so that it tells nothing about the credential.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(Cause::Unauthenticated, "Unauthenticated", "The presented credential is not accepted here.")
    }

    /// The credential was not given for what is asked, whatever it is about: `needed` would have to be among its
    /// scopes.
    #[must_use]
    pub fn insufficient_scope(needed: &str) -> Self {
        let detail = "The presented credential was not given for this.";
        Self { name: Some(needed.into()), ..Self::new(Cause::InsufficientScope, "Insufficient scope", detail) }
    }

    /// This caller may not do this, whatever it is about.
    #[must_use]
    pub fn forbidden(detail: &'static str) -> Self {
        Self::new(Cause::Forbidden, "Forbidden", detail)
    }

    /// The request is malformed, in these places.
    #[must_use]
    pub fn invalid(faults: Vec<RequestFault>) -> Self {
        let title = "Invalid request";
        let faults = faults.into();
        Self { faults, ..Self::new(Cause::Invalid, title, "The request has the faults listed under `errors`.") }
    }

    /// The policy is at this revision, not at the one a change was made for.
    #[must_use]
    pub fn revision_conflict(current: u64) -> Self {
        let detail = "The policy is at revision `current` by now: look at it and decide again. Nothing was changed.";
        Self::new(Cause::RevisionConflict { current }, "Revision conflict", detail)
    }

    /// An agent changes nothing that it has not looked at.
    #[must_use]
    pub fn expected_revision_required() -> Self {
        let detail = "An agent has to say in `expected_revision` which policy it has seen. Nothing was changed.";
        Self::new(Cause::PreconditionRequired, "Expected revision required", detail)
    }

    /// This gateway takes no new work; another one does.
    #[must_use]
    pub fn draining() -> Self {
        let detail = "This gateway is shutting down. Repeat the request: another gateway will take it.";
        Self::new(Cause::Draining, "Draining", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_among_all() {
        // A new variant does not compile here until it has a place, and has none until it is in the list.
        let place = |cause: &Cause| match cause {
            Cause::Decided(_) => 0,
            Cause::Unauthenticated => 1,
            Cause::Unattributable => 2,
            Cause::Forbidden => 3,
            Cause::InsufficientScope => 4,
            Cause::AddressRefused => 5,
            Cause::FailedAttempts => 6,
            Cause::TooManyWrites => 7,
            Cause::IdentityUnavailable => 8,
            Cause::StoreUnavailable => 9,
            Cause::Invalid => 10,
            Cause::BodyTimeout => 11,
            Cause::PayloadTooLarge => 12,
            Cause::NotFound => 13,
            Cause::RevisionConflict { .. } => 14,
            Cause::PreconditionRequired => 15,
            Cause::Draining => 16,
            Cause::StreamLimit => 17,
            Cause::UpstreamUnreachable => 18,
            Cause::UpstreamTimeout => 19,
            Cause::UpstreamInvalid => 20,
            Cause::Internal => 21,
        };
        assert_eq!(Cause::OWN.iter().map(place).collect::<Vec<_>>(), (1..=21).collect::<Vec<_>>());
        assert_eq!(Cause::all().filter(|cause| place(cause) == 0).count(), Reason::ALL.len());
    }
}
