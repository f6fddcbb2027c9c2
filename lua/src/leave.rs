//! `leave.lua`: a processor has left.

use crate::error::StoreError;
use crate::script::LEAVE;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Forgets a processor: it counts for nothing from now on.
    pub async fn leave(&self, worker: &str) -> Result<(), StoreError> {
        let keys = vec![self.keys.scope(), self.keys.processor(), self.keys.beat()];
        LEAVE.call(&self.store, keys, vec![worker.into()]).await.map(|_| ())
    }
}
