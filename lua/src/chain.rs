//! The chains of the audit and decision streams: reading their entries as they are stored, and checking that none was
//! changed, taken away, moved or put in.
//!
//! Responsible for the same hash as `include/chain.lua`. Must never need Redis to check: an export is enough, and
//! whoever checks one need not trust the server it came from. SHA-1 is all that Redis offers scripts; whoever can write
//! to Redis can write a whole chain anew, which only a head kept elsewhere shows.

use bytes::Bytes;
use fred::interfaces::{KeysInterface, StreamsInterface};
use fred::types::Value;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::error::StoreError;
use crate::pack::Unpacker;
use crate::reply::Reply;
use crate::store::ScopeStore;

mod text;
mod export;

pub use export::ExportLine;
use text::{Text, hex};

/// The hash before the first entry.
const BEGIN: &str = "0000000000000000000000000000000000000000";
/// The fields every entry begins with, in this order; the first two are not part of what is hashed.
const FIRST_FIELDS: [&str; 3] = ["prev", "hash", "n"];
/// Where the decisions' head stands in the scope's state.
const DECISIONS_AT: usize = 64;

/// Which chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// One entry for each batch of decisions.
    Decisions,
    /// What was changed by whom.
    Audit,
    /// How many decisions were made without an event of their own.
    Counts,
    /// How ended what agents were let do.
    Ends,
}

/// An entry as it is stored. What else stands in a line of an export, nobody has hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEntry {
    /// Its id in the stream: Redis gives it, so that it is in no hash. When something was, its fields say.
    pub id: String,
    /// Names and values in their order.
    fields: Vec<(String, Text)>,
}

/// The newest entry of a chain, as the scripts keep it apart from the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// Its number, from 1.
    pub number: u64,
    /// Its hash, 40 hexadecimal digits.
    pub hash: String,
}

/// A piece of a chain without a break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRange {
    /// Number of the oldest entry that is kept.
    pub first: u64,
    /// The newest.
    pub last: ChainHead,
}

/// Where a chain breaks first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// It is no entry of a chain.
    #[error("{id} is no entry of a chain")]
    Foreign {
        /// Its stream id.
        id: String,
    },
    /// What it says is not what its hash was made of.
    #[error("entry {number} ({id}) has been changed")]
    Altered {
        /// Its number.
        number: u64,
        /// Its stream id.
        id: String,
    },
    /// Entries are missing before it.
    #[error("after entry {after} comes entry {number} ({id}): those between are missing")]
    Missing {
        /// Number of the entry before it.
        after: u64,
        /// Its number.
        number: u64,
        /// Its stream id.
        id: String,
    },
    /// It stands after one that it came before.
    #[error("after entry {after} comes entry {number} ({id}): they are out of order")]
    Reordered {
        /// Number of the entry before it.
        after: u64,
        /// Its number.
        number: u64,
        /// Its stream id.
        id: String,
    },
    /// It, or the one before it, is not the one that was written there.
    #[error("entry {number} ({id}) does not follow the entry before it, or is not the one the head names")]
    Replaced {
        /// Its number.
        number: u64,
        /// Its stream id.
        id: String,
    },
    /// The newest entries are missing.
    #[error("the chain ends at entry {last}, its head is entry {head}")]
    Truncated {
        /// Number of the last entry there is; 0 where there is none.
        last: u64,
        /// Number of the newest.
        head: u64,
    },
}

impl ChainEntry {
    /// Its number and hash, as it says itself; `None` if it is no entry of a chain.
    #[must_use]
    pub fn claimed(&self) -> Option<ChainHead> {
        let (number, _, hash) = self.place()?;
        Some(ChainHead { number, hash: hash.to_owned() })
    }

    /// Its number, the hash it says comes before it, and its own; `None` if it is no entry of a chain.
    fn place(&self) -> Option<(u64, &str, &str)> {
        let [prev, hash, number, ..] = &self.fields[..] else { return None };
        let named = [prev, hash, number].map(|(name, _)| name.as_str());
        let text = |(_, value): &'_ (String, Text)| std::str::from_utf8(value.bytes()).ok().map(str::len);
        if named != FIRST_FIELDS || [prev, hash].map(text) != [Some(BEGIN.len()); 2] {
            return None;
        }
        let read = |value| std::str::from_utf8(value).ok();
        let number = read(number.1.bytes())?.parse().ok()?;
        Some((number, read(prev.1.bytes())?, read(hash.1.bytes())?))
    }

    /// The hash of what it says.
    fn hash(&self, prev: &str) -> String {
        let mut hash = Sha1::new();
        hash.update(prev.as_bytes());
        for (name, value) in self.fields.iter().skip(2) {
            for piece in [name.as_bytes(), value.bytes()] {
                hash.update((piece.len() as u32).to_le_bytes());
                hash.update(piece);
            }
        }
        hex(&hash.finalize())
    }
}

/// Checks entries in the order of their stream, oldest first. Of a chain whose oldest entries were trimmed, the rest is
/// checked. `head` is the newest as it was known before the entries were read, or longer ago; without one it is not
/// noticed that the newest are missing.
///
/// # Errors
///
/// The first break.
pub fn verify_chain<'a>(
    entries: impl IntoIterator<Item = &'a ChainEntry>,
    head: Option<&ChainHead>,
) -> Result<Option<ChainRange>, ChainBreak> {
    let mut range: Option<ChainRange> = None;
    for entry in entries {
        let id = || entry.id.clone();
        let Some((number, prev, hash)) = entry.place() else { return Err(ChainBreak::Foreign { id: id() }) };
        if entry.hash(prev) != hash {
            return Err(ChainBreak::Altered { number, id: id() });
        }
        let expected = match &range {
            None => (number == 1).then_some(BEGIN),
            Some(ChainRange { last, .. }) if number > last.number + 1 => {
                return Err(ChainBreak::Missing { after: last.number, number, id: id() });
            }
            Some(ChainRange { last, .. }) if number <= last.number => {
                return Err(ChainBreak::Reordered { after: last.number, number, id: id() });
            }
            Some(ChainRange { last, .. }) => Some(last.hash.as_str()),
        };
        let other_head = head.is_some_and(|head| head.number == number && head.hash != hash);
        if expected.is_some_and(|expected| expected != prev) || other_head {
            return Err(ChainBreak::Replaced { number, id: id() });
        }
        let last = ChainHead { number, hash: hash.to_owned() };
        range = Some(ChainRange { first: range.map_or(number, |range| range.first), last });
    }
    let last = range.as_ref().map_or(0, |range| range.last.number);
    match head {
        Some(head) if head.number > last => Err(ChainBreak::Truncated { last, head: head.number }),
        _ => Ok(range),
    }
}

impl ScopeStore {
    /// The oldest `most` entries that come after the one of this stream id (`None`: from the beginning).
    pub async fn chain_entries(
        &self,
        chain: Chain,
        after: Option<&str>,
        most: u32,
    ) -> Result<Vec<ChainEntry>, StoreError> {
        let key = match chain {
            Chain::Decisions => self.keys.decision(),
            Chain::Audit => self.keys.audit(),
            Chain::Counts => self.keys.counted(),
            Chain::Ends => self.keys.ended(),
        };
        let start = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let entries: Value = self.store.client().xrange(key, start, "+", Some(u64::from(most))).await?;
        if entries.is_null() {
            return Ok(Vec::new());
        }
        let mut entries = Reply::new("chain", entries)?;
        let mut read = Vec::with_capacity(entries.len());
        while !entries.is_empty() {
            let mut entry = Reply::new("chain", entries.value()?)?;
            let (id, mut values) = (entry.text()?, Reply::new("chain", entry.value()?)?);
            let mut fields = Vec::with_capacity(values.len() / 2);
            while !values.is_empty() {
                fields.push((values.text()?, Text::new(values.bytes()?)));
            }
            read.push(ChainEntry { id, fields });
        }
        Ok(read)
    }

    /// The newest entry as the scripts keep it; `None` where there never was one. Read it before the entries.
    pub async fn chain_head(&self, chain: Chain) -> Result<Option<ChainHead>, StoreError> {
        let key = match chain {
            Chain::Decisions => self.keys.scope(),
            Chain::Audit => self.keys.audit_head(),
            Chain::Counts => self.keys.counted_head(),
            Chain::Ends => self.keys.ended_head(),
        };
        let packed: Option<Bytes> = self.store.client().get(key).await?;
        let at = if chain == Chain::Decisions { DECISIONS_AT } else { 0 };
        let packed = packed.filter(|packed| packed.len() >= at + 8 + BEGIN.len());
        let Some(packed) = packed else { return Ok(None) };
        let mut packed = Unpacker::new(packed.slice(at..));
        let (number, hash) = (packed.count()?, packed.take(BEGIN.len())?);
        if number == 0 {
            return Ok(None);
        }
        Ok(Some(ChainHead { number, hash: crate::pack::text(&hash)? }))
    }
}

#[cfg(test)]
mod tests;
