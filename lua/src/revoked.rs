//! `revoked.lua`: reading what is revoked.
//!
//! Responsible for the set as it was at one moment, although it is read a page at a time. Must never answer with parts
//! of two sets.

use portcullis_config::UserType;
use serde::Serialize;

use crate::error::StoreError;
use crate::reply::Reply;
use crate::revoke::{RevokedBy, SPARES_LATER};
use crate::script::REVOKED;
use crate::store::ScopeStore;
use crate::stored_policy::json;

/// Members of one page.
const PAGE: usize = 4096;
/// How often the set is read anew because it changed between two pages.
const ROUNDS: usize = 16;

/// What is revoked in a scope at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedSet {
    /// Redis clock, ms since the epoch.
    pub now_ms: u64,
    /// Grows with every change; a later set that was read after a failover may have a smaller one.
    pub number: u64,
    /// Names the data: another one is another Redis, or one that was emptied. `None` before the first session or
    /// revocation.
    pub epoch: Option<String>,
    /// The last acknowledged loss, if there was one.
    pub acknowledged: Option<String>,
    /// The members; some may have expired.
    pub members: Vec<RevokedMember>,
}

/// One of its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevokedMember {
    /// What dies: a [`Member`](crate::Member) as text, or `u:` and a principal for a ceiling.
    pub member: String,
    /// When the revocation ends, Redis clock, ms since the epoch.
    pub expires_ms: u64,
    /// When it was made, Redis clock, ms since the epoch.
    pub revoked_ms: u64,
    /// Credentials issued later than this live, ms since the epoch; `None`: none does.
    pub not_before_ms: Option<u64>,
    /// Of a ceiling: what the principal counts as at most.
    pub ceiling: Option<UserType>,
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A page, or the news that there is none to read.
struct Page {
    now_ms: u64,
    number: u64,
    epoch: String,
    acknowledged: String,
    /// Members in all; `None`: what is held is what is stored.
    total: Option<usize>,
    members: Vec<RevokedMember>,
}

/// What a look at the stored set found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokedLook {
    /// It is the set that is held; the time is Redis's, ms since the epoch.
    Same(u64),
    /// It is another.
    Other(RevokedSet),
}

impl ScopeStore {
    /// What is revoked now, unless it is the set of this number and epoch.
    pub async fn revoked(&self, number: u64, epoch: Option<&str>) -> Result<RevokedLook, StoreError> {
        for _ in 0..ROUNDS {
            let first = self.revoked_page(number, epoch, 0).await?;
            let Some(total) = first.total else { return Ok(RevokedLook::Same(first.now_ms)) };
            let (mut members, mut whole) = (first.members, true);
            while whole && members.len() < total {
                let page = self.revoked_page(number, epoch, members.len()).await?;
                whole = page.number == first.number && page.epoch == first.epoch && !page.members.is_empty();
                members.extend(page.members);
            }
            if whole {
                return Ok(RevokedLook::Other(RevokedSet {
                    now_ms: first.now_ms,
                    number: first.number,
                    epoch: Some(first.epoch).filter(|epoch| !epoch.is_empty()),
                    acknowledged: Some(first.acknowledged).filter(|name| !name.is_empty()),
                    members,
                }));
            }
        }
        Err(StoreError::Unavailable("what is revoked kept changing".to_owned()))
    }

    /// What is revoked now, for people: what has not expired.
    pub async fn revocations(&self) -> Result<RevokedSet, StoreError> {
        match self.revoked(u64::MAX, None).await? {
            RevokedLook::Other(mut set) => {
                set.members.retain(|member| member.expires_ms > set.now_ms);
                Ok(set)
            }
            RevokedLook::Same(_) => Err(StoreError::Protocol("a number of revocations that cannot be".to_owned())),
        }
    }

    async fn revoked_page(&self, number: u64, epoch: Option<&str>, from: usize) -> Result<Page, StoreError> {
        let k = &self.keys;
        let keys = vec![k.scope(), k.revoked(), k.revocation(), k.revocation_head()];
        let args = vec![
            self.now_arg(),
            number.to_string().into(),
            epoch.unwrap_or_default().into(),
            from.to_string().into(),
            PAGE.to_string().into(),
        ];
        let mut reply = Reply::new("revoked", REVOKED.call(&self.store, keys, args).await?)?;
        let (now_ms, number) = (reply.int()?.unsigned_abs(), reply.int()?.unsigned_abs());
        let (epoch, acknowledged) = (reply.text()?, reply.text()?);
        let total = usize::try_from(reply.int()?).ok();
        let mut members = Vec::with_capacity(reply.len() / 6);
        while !reply.is_empty() {
            members.push(member(&mut reply)?);
        }
        Ok(Page { now_ms, number, epoch, acknowledged, total, members })
    }
}

fn member(reply: &mut Reply) -> Result<RevokedMember, StoreError> {
    let member = reply.text()?;
    let (expires_ms, revoked_ms) = (reply.int()?.unsigned_abs(), reply.int()?.unsigned_abs());
    let (not_before_ms, ceiling) = (reply.int()?.unsigned_abs(), reply.text()?);
    let kept = reply.bytes()?;
    let RevokedBy { by, reason } = if kept.is_empty() { RevokedBy::default() } else { json(&kept)? };
    let ceiling = match ceiling.as_str() {
        "" => None,
        name => Some(UserType::new(name).map_err(|error| StoreError::Protocol(error.to_string()))?),
    };
    Ok(RevokedMember {
        member: member.strip_prefix(SPARES_LATER).map_or_else(|| member.clone(), str::to_owned),
        expires_ms,
        revoked_ms,
        not_before_ms: (not_before_ms > 0).then_some(not_before_ms),
        ceiling,
        by,
        reason,
    })
}
