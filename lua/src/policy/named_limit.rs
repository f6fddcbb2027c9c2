//! Named limits as the scripts take them.
//!
//! Responsible for whether one applies to a request and how many units that is. Must never count: the script does.

use std::collections::BTreeMap;

use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_config::policy;

use super::window::{SHAPE_BYTES, Window, shape};
use crate::decision::{AdmitRequest, Reason};
use crate::pack::Packer;

/// A named limit of the policy.
#[derive(Clone, Debug)]
pub(crate) struct NamedLimit {
    /// Its place in the policy's list, from 1.
    pub(crate) number: u8,
    pub(crate) window: Window,
    rule: policy::NamedLimit,
}

/// What a request uses of a named limit.
#[derive(Debug)]
pub(crate) struct Use<'a> {
    pub(crate) limit: &'a NamedLimit,
    pub(crate) subject: &'a str,
    pub(crate) units: u64,
}

/// The policy's named limits, each with a window of its own.
pub(super) fn numbered(named: &BTreeMap<String, policy::NamedLimit>) -> Vec<NamedLimit> {
    let windows = named.iter().flat_map(|(name, rule)| {
        let window_ms = rule.window_seconds * 1000;
        shape(&[(name.as_str(), Reason::RateLimit.number(), window_ms, rule.limit)])
    });
    let numbered = (1u8..).zip(named.values().cloned().zip(windows));
    numbered.map(|(number, (rule, window))| NamedLimit { number, window, rule }).collect()
}

/// The windows one after another.
pub(super) fn pack(limits: &[NamedLimit]) -> Bytes {
    let mut packer = Packer::with_capacity(SHAPE_BYTES * limits.len());
    for limit in limits {
        limit.window.pack(&mut packer);
    }
    packer.finish()
}

impl NamedLimit {
    /// Whether it may apply to a caller of this type.
    pub(super) fn applies_to_type(&self, user_type: &UserType) -> bool {
        self.rule.user_types.as_ref().is_none_or(|types| types.contains(user_type))
    }

    /// What a request uses of it; `None` if it does not apply to it.
    pub(crate) fn used_by<'a>(&'a self, request: &'a AdmitRequest) -> Option<Use<'a>> {
        if !self.rule.applies_to(&request.user_type, &request.kind) {
            return None;
        }
        let units = request.units(&self.rule.unit, self.rule.default_estimate.unwrap_or(0));
        Some(Use { limit: self, subject: request.subject(self.rule.per)?, units })
    }
}
