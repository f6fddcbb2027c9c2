//! `write_limit.lua`: how often a subject may change things or mint credentials.
//!
//! Must never be asked after the write: it counts what it lets through.

use fred::types::Value;

use crate::error::StoreError;
use crate::pack::Packer;
use crate::policy::window;
use crate::reply::Reply;
use crate::script::WRITE_LIMIT;
use crate::store::ScopeStore;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;

/// Most writes of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLimit {
    /// In any minute.
    pub per_minute: u32,
    /// In any hour; the hour is kept in sixtieths, which may hold a write back a minute longer, never let one more
    /// through.
    pub per_hour: u32,
}

impl ScopeStore {
    /// Counts a write of this subject if there is room for it; else the time until there is, ms (0: never).
    pub async fn count_write(&self, subject: &str, limit: WriteLimit) -> Result<Result<(), u64>, StoreError> {
        let windows = window::shape(&[
            ("minute", 1, MINUTE_MS, u64::from(limit.per_minute)),
            ("hour", 2, HOUR_MS, u64::from(limit.per_hour)),
        ]);
        let mut shapes = Packer::default();
        shapes.u8(windows.len() as u8);
        for window in &windows {
            window.pack(&mut shapes);
        }
        let lasts_ms = windows.iter().map(|window| window.length_ms + 2 * window.tick_ms).max().unwrap_or(HOUR_MS);
        let args: Vec<Value> = vec![self.now_arg(), lasts_ms.to_string().into(), shapes.finish().into()];
        let answer = WRITE_LIMIT.call(&self.store, vec![self.keys.write_limit(subject)], args).await?;
        let mut reply = Reply::new("write_limit", answer)?;
        let (counted, retry_ms) = (reply.int()? == 1, reply.int()?.unsigned_abs());
        Ok(if counted { Ok(()) } else { Err(retry_ms) })
    }
}
