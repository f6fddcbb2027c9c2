//! Who a caller is, proved without Redis: by an issuer's signature, a load balancer's, a key or a token.
//!
//! Responsible for what each kind of credential proves and for the document that says whom to believe. Must never fall
//! back to a weaker proof when one fails, never tell a caller why it failed (the cause is for the audit only), and
//! never look at revocations: whoever asks checks those with what stands in [`Proven`].

pub mod document;
mod user_type;
mod egress;
mod fetch;
mod fetch_record;
mod jwk;
mod jwks;
pub mod jwt;
pub mod alb;
pub mod api_key;
pub mod internal;
pub mod ip_allow;
pub mod failed_attempts;
pub mod providers;
#[cfg(test)]
pub(crate) mod test_issuer;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_config::{Scope, UserType};

pub use document::load;
pub use egress::Egress;
pub(crate) use fetch::{FetchFault, Forbidden};
pub(crate) use fetch_record::FetchWitness;
#[cfg(test)]
pub(crate) use fetch_record::Outcomes;
pub(crate) use providers::Provider;
pub use providers::Providers;
pub use user_type::UserTypes;
pub(crate) use user_type::rank;

/// What a credential proves about whoever presents it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Whom the caller's tasks belong to, unlike that of any other issuer's user.
    pub principal: String,
    /// The tier the credential gives.
    pub user_type: UserType,
    /// What it may be used for; `None`: whoever issues it does not say, so for all that its user type may.
    pub scopes: Option<Vec<String>>,
    /// Where it counts; `None`: in the gateway's default scope.
    pub scope: Option<Scope>,
    /// When it was issued, ms since the epoch. 0 where the credential does not say: it then dies with any revocation
    /// of its principal, however old the credential may be.
    pub issued_at_ms: u64,
    /// When it ends by itself, ms since the epoch; `None`: it does not.
    pub expires_at_ms: Option<u64>,
    /// Kind of credential: `jwt`, `alb`, `api_key` or `internal`.
    pub class: &'static str,
    /// Who vouches for it: the issuer's URL, the load balancer's ARN, the key's id; empty for the internal token.
    pub issuer: String,
}

/// Why a credential proves nothing. One shape for callers, whatever the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Unproven {
    /// For the audit, never for the caller: `snake_case`.
    pub cause: &'static str,
    /// Nobody can tell now: 503 (`store_unavailable`, to be tried again) rather than 401. Only when an issuer's keys
    /// are needed and cannot be had.
    pub unavailable: bool,
}

impl Unproven {
    /// It proves nothing, now and later: 401.
    #[must_use]
    pub const fn because(cause: &'static str) -> Self {
        Self { cause, unavailable: false }
    }

    /// The issuer's keys are needed and cannot be had: 503.
    #[must_use]
    pub const fn idp_unavailable() -> Self {
        Self { cause: "idp_unavailable", unavailable: true }
    }
}

/// How far the clocks of an issuer and of this gateway may be apart, seconds.
pub(crate) const LEEWAY_SECONDS: u64 = 30;

/// Seconds since the epoch. The clock of this machine is the only one to hold a credential's times against: its issuer
/// knows nothing of Redis.
pub(crate) fn epoch_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Milliseconds since the epoch, for what is shown of this gateway alone.
pub(crate) fn epoch_ms(now: SystemTime) -> u64 {
    u64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_issuer_makes_a_credential_worth_trying_again() {
        assert!(!Unproven::because("expired").unavailable);
        assert!(Unproven::idp_unavailable().unavailable);
        assert_eq!(Unproven::because("expired").to_string(), "expired");
    }

    #[test]
    fn a_clock_before_the_epoch_is_the_epoch() {
        assert_eq!(epoch_seconds(UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!(epoch_seconds(UNIX_EPOCH + Duration::from_millis(5999)), 5);
    }
}
