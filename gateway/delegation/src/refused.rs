//! Why a chain, a key's use or a proof is refused.
//!
//! Responsible for the stable codes that audit events carry and for saying which token of a chain is at fault. Must
//! never be shown to the caller whose chain was refused: one who is told what was wrong is told how to get closer.

use std::fmt;

use thiserror::Error;

/// A refusal: what is wrong, and with which token of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub struct Refused {
    /// What is wrong.
    pub fault: Fault,
    /// The token at fault, counted from the root, which is 0. `None`: the chain as a whole, or the proof.
    pub hop: Option<usize>,
}

impl Refused {
    /// The stable name of the fault, for audit events.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hop {
            Some(hop) => write!(out, "token {hop}: {}", self.fault),
            None => self.fault.fmt(out),
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, hop: None }
    }
}

/// What can be wrong. The names of [`Fault::code`] never change; more may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Fault {
    /// More than [`PRESENTED_MAX`](crate::PRESENTED_MAX) bytes or [`HOPS_MAX`](crate::HOPS_MAX) tokens.
    #[error("longer than a chain may be")]
    Oversize,
    /// Not a chain of compact JWS with exactly the members of the format.
    #[error("not of the format")]
    Malformed,
    /// Signed with anything but Ed25519, or not said to be.
    #[error("not signed with Ed25519")]
    AlgorithmRefused,
    /// A scope outside the grammar, none at all, or `*` below the root.
    #[error("a scope is not of the grammar")]
    ScopeMalformed,
    /// No reason, or one that is too long or not text.
    #[error("a reason of 1 to 200 characters is required")]
    ReasonRequired,
    /// Nobody is named for whom the token is.
    #[error("an audience is required")]
    AudienceRequired,
    /// The tokens do not stand in the order of their depth.
    #[error("the depth is not the place in the chain")]
    DepthMismatch,
    /// The chain is longer than one of its tokens, or the format, allows.
    #[error("deeper than allowed")]
    TooDeep,
    /// A root that may be delegated names no key of its holder.
    #[error("a delegable root names the key of its holder")]
    HolderKeyRequired,
    /// A public key of small order, or one that is not encoded canonically.
    #[error("a weak key")]
    WeakKey,
    /// Issued later than now, by more than the clocks may differ.
    #[error("issued in the future")]
    IssuedInFuture,
    /// Over.
    #[error("expired")]
    Expired,
    /// Valid for longer than its depth allows, or for no time at all.
    #[error("valid for longer than its depth allows")]
    LifetimeExceeded,
    /// Issued under a token without a holder's key, which can have no children.
    #[error("its parent cannot be delegated")]
    NotDelegable,
    /// Issued by another key than that of the parent's holder.
    #[error("not issued by the holder of its parent")]
    WrongIssuer,
    /// Issued under another parent than the one before it.
    #[error("not issued under the token before it")]
    Spliced,
    /// Another principal, tenant or session than the root's.
    #[error("speaks for another principal, tenant or session than its root")]
    IdentityChanged,
    /// Issued before its parent, by more than the clocks may differ.
    #[error("issued before its parent")]
    IssuedBeforeParent,
    /// Grants something its parent does not.
    #[error("grants more than its parent: {0}")]
    NotNarrower(Widened),
    /// The root names an issuer that is not trusted here.
    #[error("an unknown issuer")]
    UnknownIssuer,
    /// The root names no key of its issuer, or none where several are trusted.
    #[error("an unknown key of the issuer")]
    UnknownKey,
    /// For another tenant or project.
    #[error("for another tenant")]
    WrongTenant,
    /// The last token is not meant for this resource.
    #[error("for another audience")]
    WrongAudience,
    /// A signature that is not its issuer's.
    #[error("a bad signature")]
    BadSignature,
    /// The last token is bound to a key, and there is no proof of it.
    #[error("a proof of possession is required")]
    ProofRequired,
    /// There is a proof, and the last token is bound to no key.
    #[error("a proof of possession for a token that is bound to no key")]
    ProofUnexpected,
    /// Not a proof of the format.
    #[error("the proof is not of the format")]
    ProofMalformed,
    /// Made with another key than the one that the last token is bound to.
    #[error("the proof is of another key")]
    ProofWrongKey,
    /// Made for another method or address.
    #[error("the proof is for another request")]
    ProofWrongTarget,
    /// Made too long ago, or in the future.
    #[error("the proof is not of now")]
    ProofStale,
    /// Made for another chain.
    #[error("the proof is for another chain")]
    ProofWrongToken,
    /// A signature that is not of the key in the proof.
    #[error("the proof has a bad signature")]
    ProofBadSignature,
}

impl Fault {
    /// The stable name, for audit events.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Malformed => "malformed",
            Self::AlgorithmRefused => "algorithm_refused",
            Self::ScopeMalformed => "scope_malformed",
            Self::ReasonRequired => "reason_required",
            Self::AudienceRequired => "audience_required",
            Self::DepthMismatch => "depth_mismatch",
            Self::TooDeep => "too_deep",
            Self::HolderKeyRequired => "holder_key_required",
            Self::WeakKey => "weak_key",
            Self::IssuedInFuture => "issued_in_future",
            Self::Expired => "expired",
            Self::LifetimeExceeded => "lifetime_exceeded",
            Self::NotDelegable => "not_delegable",
            Self::WrongIssuer => "wrong_issuer",
            Self::Spliced => "spliced",
            Self::IdentityChanged => "identity_changed",
            Self::IssuedBeforeParent => "issued_before_parent",
            Self::NotNarrower(_) => "not_narrower",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnknownKey => "unknown_key",
            Self::WrongTenant => "wrong_tenant",
            Self::WrongAudience => "wrong_audience",
            Self::BadSignature => "bad_signature",
            Self::ProofRequired => "proof_required",
            Self::ProofUnexpected => "proof_unexpected",
            Self::ProofMalformed => "proof_malformed",
            Self::ProofWrongKey => "proof_wrong_key",
            Self::ProofWrongTarget => "proof_wrong_target",
            Self::ProofStale => "proof_stale",
            Self::ProofWrongToken => "proof_wrong_token",
            Self::ProofBadSignature => "proof_bad_signature",
        }
    }

    /// This fault, of that token of the chain.
    pub(crate) fn at(self, hop: usize) -> Refused {
        Refused { fault: self, hop: Some(hop) }
    }
}

/// In what a token grants more than its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Widened {
    /// An audience that the parent does not name.
    #[error("audience")]
    Audience,
    /// Valid for longer than the parent.
    #[error("expiry")]
    Expiry,
    /// May be delegated further than the parent.
    #[error("depth")]
    Depth,
    /// A scope that no scope of the parent covers.
    #[error("scope")]
    Scope,
    /// A constraint of the parent is missing, or looser.
    #[error("constraint")]
    Constraint,
}
