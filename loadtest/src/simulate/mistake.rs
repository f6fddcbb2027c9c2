//! Mistakes that can be planted into the simulated protocol.
//!
//! Responsible for proving that the simulation finds things: each of these is a rule broken, and some seed must say so.
//! Must never be planted outside of tests.

/// A rule of the protocol that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A lease is trusted for twelve tenths of its length.
    TrustsTooLong,
    /// A lease is trusted from the receipt of an answer instead of from the sending of its call.
    TrustsFromReceipt,
    /// `settle` does not look at the fencing token.
    SettlesWithoutToken,
    /// Tokens are only counted up, so that a failover repeats them.
    CountsTokens,
    /// A gateway repeats a refusal whatever policy it was decided under, and whatever it has heard.
    RemembersOverRevisions,
    /// A gateway remembers a refusal from the receipt of the answer instead of from the sending of the call.
    RemembersFromReceipt,
    /// A gateway sends an admission again whose answer was lost.
    ResendsAdmissions,
    /// `admit` decides under whatever policy the caller holds.
    AdmitsUnderAnyPolicy,
    /// Nobody looks for lapsed leases.
    NeverReclaims,
    /// A settlement whose answer was lost is not sent again, and its lease renewed for ever.
    SettlesOnce,
    /// A task that ends keeps what it holds of its budgets.
    LeaksHolds,
    /// A draining processor still counts for capacity.
    CountsDraining,
    /// A replica that holds another policy than is stored takes the stored one, whichever is newer.
    NeverGivesBack,
}
