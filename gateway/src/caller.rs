//! Who a credential proved its bearer to be.
//!
//! Responsible for what every kind of credential says in the same words: principal, user type, session, what it may be
//! used for, and by what it can be taken back. Must never hold the credential itself.

use std::sync::Arc;

use portcullis_config::{Scope, UserType};
use portcullis_lua::{Hop, Once, SessionKey};

use crate::digest;

/// What a resolver knows about the bearer of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where it may do anything; `None`: in the gateway's default scope.
    pub scope: Option<Scope>,
    /// Whom the caller's tasks belong to.
    pub principal: String,
    /// The tier it is served as.
    pub user_type: UserType,
    /// The session its limits are counted on.
    pub session_id: String,
    /// The agent acting for the principal, if any.
    pub actor: Option<String>,
    /// Which kind of credential said so.
    pub source: Source,
    /// What it may be used for; `None`: for everything its user type may do.
    pub rights: Option<Arc<[String]>>,
    /// The delegations it acts under, the principal's own first; empty for who acts for itself.
    pub hops: Arc<[Hop]>,
    /// The names under which the credential can be revoked.
    pub members: Arc<[String]>,
    /// When it was issued, ms since the epoch: a revocation from then on takes it back.
    pub issued_at_ms: u64,
    /// From when on it is worth nothing, ms since the epoch.
    pub expires_at_ms: Option<u64>,
    /// The login it came of, if it has an opaque session.
    pub login: Option<SessionKey>,
    /// Whether browsers send its credential by themselves, whichever page asks.
    pub ambient: bool,
    /// The proof of possession that came with it, by its id: checked, and not spent yet.
    pub proof: Option<Once>,
}

impl Caller {
    /// A caller acting for itself, who may do all that its user type may.
    #[must_use]
    pub fn new(principal: String, user_type: UserType, session_id: String, source: Source) -> Self {
        Self {
            scope: None,
            principal,
            user_type,
            session_id,
            actor: None,
            source,
            rights: None,
            hops: Arc::default(),
            members: Arc::default(),
            issued_at_ms: 0,
            expires_at_ms: None,
            login: None,
            ambient: false,
            proof: None,
        }
    }
}

/// The session that limits of a principal are counted on, whichever credential it shows: another login or another agent
/// does not make new windows.
pub(crate) fn session_of(principal: &str) -> String {
    format!("user-{}", digest::short_hex(&["principal", principal]))
}

/// How a caller was identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// By the address it came from, without a credential.
    Address,
    /// By a development token.
    DevToken,
    /// By a proxy that knows its callers, and whom this gateway takes at its word.
    Vouched,
    /// By a session this deployment opened for it.
    Session,
    /// By a token of an identity provider.
    Jwt,
    /// By the balancer that logged it in.
    Balancer,
    /// By the token of an internal service.
    InternalToken,
    /// By an API key.
    ApiKey,
    /// By a chain of delegations.
    Delegation,
}

impl Source {
    /// The word for it in decisions, audit events and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::DevToken => "dev_token",
            Self::Vouched => "vouched",
            Self::Session => "session",
            Self::Jwt => "jwt",
            Self::Balancer => "balancer",
            Self::InternalToken => "internal_token",
            Self::ApiKey => "api_key",
            Self::Delegation => "delegation",
        }
    }
}
