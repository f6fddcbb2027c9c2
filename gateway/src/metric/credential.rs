//! Counts of credentials that were worth nothing, and of those that are worth more than they should be.
//!
//! Responsible for what an operator has to see of identities beside decisions. Must never have a principal in a label.

use std::sync::LazyLock;

use metrics::{Unit, counter, describe_counter};

use super::PROMETHEUS;

const REFUSED: &str = "portcullis_credentials_refused_total";
const NOT_LOWERED: &str = "portcullis_lowerings_refused_total";

/// A credential was worth nothing; `cause` is one of those the verifiers name.
pub fn credential_refused(cause: &'static str) {
    LazyLock::force(&PROMETHEUS);
    counter!(REFUSED, "cause" => cause).increment(1);
}

/// A principal that has become less could not be lowered, because too much is revoked: its sessions and delegations go
/// on as what they were made as.
pub(crate) fn lowering_refused() {
    LazyLock::force(&PROMETHEUS);
    counter!(NOT_LOWERED).increment(1);
}

/// Shows at 0 what has not been counted yet: an alert needs something to look at. Part of setting up the recorder.
pub(super) fn begin() {
    counter!(NOT_LOWERED).absolute(0);
}

pub(super) fn describe() {
    describe_counter!(REFUSED, Unit::Count, "Credentials that were worth nothing, by cause.");
    describe_counter!(NOT_LOWERED, Unit::Count, "Principals that could not be lowered: too much is revoked.");
}
