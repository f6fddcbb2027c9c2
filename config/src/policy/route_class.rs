//! Route classes and the proxy: which paths of the application behind the gateway have gates of their own, and how long
//! and how large a proxied exchange may be.
//!
//! Responsible for their shape and bounds, and for what a class gets that says nothing. Must never match a path: that
//! is `route.rs`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::Policy;

/// The class of paths that `guarded_rest_patterns` name.
pub const GUARDED: &str = "guarded";

/// Names that a declared class may not have, because they are a class already.
pub(crate) const BUILT_IN: [&str; 3] = [GUARDED, "read", "bypass"];

/// A class of paths with gates of its own. Its name is the kind by which limits, costs, budgets and breakers know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteClassSettings {
    /// Its paths (regular expressions), matched as `guarded_rest_patterns` are.
    #[schemars(length(max = 64))]
    pub patterns: Vec<String>,
    /// Methods it is for, GET including HEAD; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(regex(pattern = r"^[A-Z][A-Z-]{0,31}$")))]
    pub methods: Option<Vec<String>>,
    /// Units that one request is expected to use, by unit; held of budgets and counted by limits of that unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "propertyNames" = { "pattern": "^[a-z][a-z0-9_]{0,31}$" },
        "additionalProperties" = { "type": "integer", "minimum": 0, "maximum": 1_000_000_000 },
        "maxProperties" = 32
    ))]
    pub estimate: Option<BTreeMap<String, u64>>,
    /// Most of its requests in flight, over all gateways, whatever the processors; user types are refused at their
    /// share of it. Left out: its requests count as load of the scope, against the capacity of the live processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_concurrent: Option<u64>,
    /// Longest wait for the head of a response, milliseconds; left out: `proxy.response_timeout_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800_000))]
    pub timeout_ms: Option<u64>,
    /// Largest request body, bytes; left out: `proxy.max_request_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_099_511_627_776_u64))]
    pub max_request_bytes: Option<u64>,
    /// Whether rate limits apply to it; left out: they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<bool>,
}

/// How long and how large a proxied exchange may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxySettings {
    /// How long a request in flight counts as load after its gateway was last heard of, milliseconds.
    #[schemars(range(min = 200, max = 3_600_000))]
    pub lease_ms: u64,
    /// Longest wait for a connection to the application, milliseconds.
    #[schemars(range(min = 1, max = 604_800_000))]
    pub connect_timeout_ms: u64,
    /// Longest wait for the head of a response, milliseconds.
    #[schemars(range(min = 1, max = 604_800_000))]
    pub response_timeout_ms: u64,
    /// Longest wait between two pieces of a body, milliseconds.
    #[schemars(range(min = 1, max = 604_800_000))]
    pub idle_timeout_ms: u64,
    /// Largest request body, bytes.
    #[schemars(range(min = 0, max = 1_099_511_627_776_u64))]
    pub max_request_bytes: u64,
    /// Largest response body, bytes; 0 is no bound.
    #[schemars(range(min = 0, max = 1_099_511_627_776_u64))]
    pub max_response_bytes: u64,
    /// What a client has to send, at least, in each `idle_timeout_ms` in which it is waited for, bytes; 0: anything.
    #[schemars(range(min = 0, max = 65_536))]
    pub min_request_bytes_per_pause: u64,
    /// Most tunnels (WebSocket) of one caller at one gateway; 0 is no bound.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_tunnels_per_caller: u64,
}

impl Policy {
    /// Longest wait for the head of a response to a request of this class, ms.
    #[must_use]
    pub fn response_timeout_ms_of(&self, class: &str) -> u64 {
        self.route_classes.get(class).and_then(|own| own.timeout_ms).unwrap_or(self.proxy.response_timeout_ms)
    }

    /// Largest request body of this class, bytes.
    #[must_use]
    pub fn max_request_bytes_of(&self, class: &str) -> u64 {
        self.route_classes.get(class).and_then(|own| own.max_request_bytes).unwrap_or(self.proxy.max_request_bytes)
    }

    /// What one request of this class is expected to use, by unit.
    #[must_use]
    pub fn estimates_of(&self, class: &str) -> Vec<(String, u64)> {
        let own = self.route_classes.get(class).and_then(|own| own.estimate.as_ref());
        own.into_iter().flatten().map(|(unit, amount)| (unit.clone(), *amount)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_class_leaves_out_comes_from_the_proxy() {
        let mut policy = Policy::shipped("acme", "shop");
        let class = serde_json::json!({"patterns": ["/r$"], "timeout_ms": 7, "estimate": {"tokens": 9}});
        policy.route_classes.insert("reports".to_owned(), serde_json::from_value(class).unwrap());
        assert_eq!(policy.response_timeout_ms_of("reports"), 7);
        assert_eq!(policy.response_timeout_ms_of(GUARDED), policy.proxy.response_timeout_ms);
        assert_eq!(policy.max_request_bytes_of("reports"), policy.proxy.max_request_bytes);
        assert_eq!(policy.estimates_of("reports"), [("tokens".to_owned(), 9)]);
        assert_eq!(policy.estimates_of(GUARDED), []);
    }
}
