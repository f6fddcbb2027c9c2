//! `revoked.lua`: reading what is revoked.
//!
//! Responsible for a whole set, although it is read a page at a time and goes on changing. Must never read again what
//! has not changed.

use std::collections::HashMap;

use portcullis_config::UserType;
use serde::Serialize;

use crate::error::StoreError;
use crate::reply::Reply;
use crate::revoke::{RevokedBy, SPARES_LATER, is_ceiling};
use crate::script::REVOKED;
use crate::store::ScopeStore;
use crate::stored_policy::json;

/// Members of one page: few enough for everybody's commands to wait behind it, and for one command's time.
const PAGE: usize = 1024;

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
    /// The last acknowledgement of a loss, if there was one.
    pub acknowledged: Option<String>,
    /// The loss that was noticed and that nobody has acknowledged.
    pub lost: Option<String>,
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
    /// Of a ceiling: what the principal counts as at most; `None`: it was taken away.
    pub ceiling: Option<UserType>,
    /// Who made it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What a look at the stored set found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevokedPage {
    /// What the scope says, and the members of this page.
    pub(crate) set: RevokedSet,
    /// Whether the members are what was changed since the set that was named; else they are the first of all.
    pub(crate) goes_on: bool,
    /// Number of the set that is known with this page.
    pub(crate) told: u64,
}

impl RevokedPage {
    /// Whether there is no more.
    pub(crate) fn is_last(&self) -> bool {
        self.told == self.set.number
    }
}

impl ScopeStore {
    /// What is revoked now, for people: what has not expired.
    pub async fn revocations(&self) -> Result<RevokedSet, StoreError> {
        let mut set = self.revoked_set().await?;
        let now_ms = set.now_ms;
        set.members.retain(|member| {
            let raised = member.ceiling.is_none() && is_ceiling(&member.member);
            member.expires_ms > now_ms && !raised
        });
        Ok(set)
    }

    /// What is stored, with what has expired and is still there.
    pub async fn revoked_set(&self) -> Result<RevokedSet, StoreError> {
        let mut page = self.revoked_page(0, None).await?;
        let mut members = Vec::new();
        loop {
            if !page.goes_on {
                members.clear();
            }
            // What was changed between two pages comes again as what it is now.
            members.append(&mut page.set.members);
            if page.is_last() {
                break;
            }
            page = self.revoked_page(page.told, page.set.epoch.as_deref()).await?;
        }
        let mut latest: HashMap<(String, bool), RevokedMember> = HashMap::with_capacity(members.len());
        for member in members {
            latest.insert((member.member.clone(), member.not_before_ms.is_some()), member);
        }
        Ok(RevokedSet { members: latest.into_values().collect(), ..page.set })
    }

    /// What was changed since the set of this number and epoch.
    pub(crate) async fn revoked_page(&self, number: u64, epoch: Option<&str>) -> Result<RevokedPage, StoreError> {
        let k = &self.keys;
        let keys = vec![k.scope(), k.revoked(), k.revocation(), k.revoked_order(), k.revocation_head()];
        let args =
            vec![self.now_arg(), number.to_string().into(), epoch.unwrap_or_default().into(), PAGE.to_string().into()];
        let mut reply = Reply::new("revoked", REVOKED.call(&self.store, keys, args).await?)?;
        let mut set = RevokedSet {
            now_ms: reply.int()?.unsigned_abs(),
            number: reply.int()?.unsigned_abs(),
            epoch: named(reply.text()?),
            acknowledged: named(reply.text()?),
            lost: named(reply.text()?),
            members: Vec::new(),
        };
        let (goes_on, told) = (reply.int()? == 1, reply.int()?.unsigned_abs());
        set.members.reserve(reply.len() / 6);
        while !reply.is_empty() {
            set.members.push(member(&mut reply)?);
        }
        Ok(RevokedPage { set, goes_on, told })
    }
}

fn named(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
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
