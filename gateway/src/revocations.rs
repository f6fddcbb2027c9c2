//! What the decider must know of a scope's revocations.
//!
//! Responsible for the seam between deciding and whoever keeps the set. Must never call somebody alive whom the set of
//! the number it names does not: the script only compares numbers.

use std::fmt;

use async_trait::async_trait;
use portcullis_lua::{Provenance, StoreError};

/// A scope's revocations, as this gateway knows them.
#[async_trait]
pub(crate) trait Revocations: fmt::Debug + Send + Sync {
    /// How many are known. What is asked of [`covers`](Self::covers) after this knows of at least as many.
    fn number(&self) -> u64;

    /// Whether one of them kills the credential of this request.
    fn covers(&self, provenance: &Provenance) -> bool;

    /// There are others, this many, in Redis: gets in step. Fails where it cannot.
    async fn hear(&self, current: u64) -> Result<(), StoreError>;
}

/// No revocation is known. Where there is one, nothing is decided.
#[derive(Debug)]
pub(crate) struct NoneKnown;

#[async_trait]
impl Revocations for NoneKnown {
    fn number(&self) -> u64 {
        0
    }

    fn covers(&self, _: &Provenance) -> bool {
        false
    }

    async fn hear(&self, current: u64) -> Result<(), StoreError> {
        Err(StoreError::StaleRevocations { held: 0, current })
    }
}
