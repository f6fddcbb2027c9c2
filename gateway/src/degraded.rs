//! What a gateway rests on instead of what it should: every fallback there is, by its one name.
//!
//! Responsible for the names and for finding out, from live state, which of them is in use. Must never remember one: a
//! fallback that is over is not named any longer. Nor must it ask anybody: what only Redis can tell is handed in by
//! whoever has asked already.

use std::collections::BTreeSet;

use portcullis_config::Scope;
use portcullis_lua::{ProcessorView, QueueView};
use schemars::JsonSchema;
use serde::Serialize;

use crate::identity::{Provider, Providers};
use crate::scope::ServedScope;
use crate::state::Gateway;

/// A fallback in use, as `degraded` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fallback {
    /// Redis has not answered: what would need it is refused unasked.
    StoreUnavailable,
    /// Changes of the scope are not heard of over pub/sub: they are noticed by asking.
    SubscriptionLost,
    /// What is stored has not been looked at since there was news of it: the policy held is in force meanwhile, or the
    /// one the gateway was started with.
    PolicyUnconfirmed,
    /// The stored policy cannot be put in force here: the one before it stays, and admissions are refused.
    PolicyUnusable,
    /// What is revoked has not been confirmed lately: only tokens of issuers are believed, and balancers.
    RevocationsStale,
    /// Redis has lost revocations and no operator has acknowledged it: delegated callers are refused.
    RevocationsLost,
    /// What was decided could not be written to the statistics: it is kept, and written later.
    StatisticsDelayed,
    /// The keys of an issuer could not be fetched again: those held go on to be believed, up to a day.
    IssuerKeysStale,
    /// No key of an issuer is held, because none could be fetched: its users are refused.
    IssuerKeysMissing,
    /// No attempt has been measured yet: waits are estimated from the policy's `avg_processing_time_seconds`.
    ServiceTimeUnmeasured,
    /// A processor has not been heard of in time and has not taken its leave: its slots do not count.
    HeartbeatStale,
}

impl Fallback {
    /// Those that only Redis can tell of.
    pub(crate) const TOLD: [Self; 2] = [Self::ServiceTimeUnmeasured, Self::HeartbeatStale];

    /// Those that a gateway knows of by itself.
    pub(crate) const OWN: [Self; 9] = [
        Self::StoreUnavailable,
        Self::SubscriptionLost,
        Self::PolicyUnconfirmed,
        Self::PolicyUnusable,
        Self::RevocationsStale,
        Self::RevocationsLost,
        Self::StatisticsDelayed,
        Self::IssuerKeysStale,
        Self::IssuerKeysMissing,
    ];

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::StoreUnavailable => "store_unavailable",
            Self::SubscriptionLost => "subscription_lost",
            Self::PolicyUnconfirmed => "policy_unconfirmed",
            Self::PolicyUnusable => "policy_unusable",
            Self::RevocationsStale => "revocations_stale",
            Self::RevocationsLost => "revocations_lost",
            Self::StatisticsDelayed => "statistics_delayed",
            Self::IssuerKeysStale => "issuer_keys_stale",
            Self::IssuerKeysMissing => "issuer_keys_missing",
            Self::ServiceTimeUnmeasured => "service_time_unmeasured",
            Self::HeartbeatStale => "heartbeat_stale",
        }
    }
}

/// Fallbacks in use, each once.
pub(crate) type Degraded = BTreeSet<Fallback>;

/// What this gateway knows of by itself, of its process and its default scope.
pub(crate) fn of_gateway(gateway: &Gateway) -> Degraded {
    own(gateway, gateway.scopes().default_scope(), None)
}

/// What this gateway knows of by itself that matters to a scope.
pub(crate) fn of_scope(gateway: &Gateway, scope: &ServedScope) -> Degraded {
    own(gateway, scope, Some(scope.store().scope()))
}

/// What Redis tells of a scope; nothing where it was not asked.
pub(crate) fn told(queue: Option<&QueueView>, processors: Option<&[ProcessorView]>) -> Degraded {
    let unmeasured = queue.is_some_and(|queue| queue.service_ms.is_none());
    let lapsed = |processor: &ProcessorView| !processor.live && !processor.beat.draining;
    let stale = processors.is_some_and(|processors| processors.iter().any(lapsed));
    let unmeasured = unmeasured.then_some(Fallback::ServiceTimeUnmeasured);
    unmeasured.into_iter().chain(stale.then_some(Fallback::HeartbeatStale)).collect()
}

/// Those of the issuers whose users may be callers of this scope; without one, of all.
fn own(gateway: &Gateway, scope: &ServedScope, users_of: Option<&Scope>) -> Degraded {
    let default = gateway.scopes().default_scope().store().scope();
    let publishing = gateway.providers().map(Providers::publishing).unwrap_or_default();
    let wanted = publishing.iter().filter(|each| users_of.is_none_or(|scope| each.serves(scope, default)));
    let of_process = gateway.store_breaker().is_open().then_some(Fallback::StoreUnavailable);
    of_process.into_iter().chain(scope.fallbacks()).chain(wanted.filter_map(Provider::fallback)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_lua::StoreError;
    use serde_json::json;

    use super::*;
    use crate::state::tests::options_without_redis;

    #[test]
    fn every_fallback_has_one_name_wherever_it_is_written() {
        let all: Degraded = Fallback::OWN.into_iter().chain(Fallback::TOLD).collect();
        let names: BTreeSet<&str> = all.iter().map(|each| each.as_str()).collect();
        assert_eq!((all.len(), names.len()), (11, 11));
        for each in &all {
            assert_eq!(json!(each), each.as_str());
        }
        let schema = schemars::schema_for!(Fallback);
        assert_eq!(schema.as_value()["oneOf"].as_array().map(Vec::len), Some(all.len()), "{schema:?}");
    }

    #[test]
    fn every_fallback_is_in_the_readme() {
        let readme = include_str!("../../README.md");
        for each in Fallback::OWN.into_iter().chain(Fallback::TOLD) {
            assert!(readme.contains(&format!("| `{}` |", each.as_str())), "{}", each.as_str());
        }
    }

    #[tokio::test]
    async fn a_gateway_that_has_not_met_redis_yet_says_what_it_does_not_know() {
        let gateway = Gateway::new(options_without_redis());
        let expected = [Fallback::SubscriptionLost, Fallback::PolicyUnconfirmed, Fallback::RevocationsStale];
        assert_eq!(of_gateway(&gateway), expected.into());
        let broken = Err::<(), _>(StoreError::Unavailable("no connection".to_owned()));
        gateway.store_breaker().learn(&broken, Duration::ZERO);
        assert!(of_gateway(&gateway).contains(&Fallback::StoreUnavailable));
    }
}
