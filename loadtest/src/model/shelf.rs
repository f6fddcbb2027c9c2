//! Where a scope's policy is stored: what `revise.lua` and `restore.lua` must answer.
//!
//! Responsible for the order of policies: stamps never fall, times of writing rise. Must never look into a document.

use portcullis_lua::{About, PolicyStamp, StoredPolicy};

/// The stored policy of a scope, if it has one.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    stored: Option<StoredPolicy>,
}

/// A document to be stored.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The document.
    pub document: String,
    /// Who writes it, why and how.
    pub about: About,
    /// Names this write.
    pub write_id: String,
}

impl Shelf {
    /// What is stored.
    #[must_use]
    pub fn stored(&self) -> Option<&StoredPolicy> {
        self.stored.as_ref()
    }

    /// Names what is stored.
    #[must_use]
    pub fn stamp(&self) -> PolicyStamp {
        self.stored.as_ref().map_or(PolicyStamp::NONE, |stored| stored.stamp)
    }

    /// When it was written, ms; 0 if nothing is stored.
    #[must_use]
    pub fn written_ms(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.at_ms)
    }

    /// Stores a document on top of the one its author saw; else the error is what is stored.
    pub fn revise(&mut self, now_ms: u64, seen: PolicyStamp, draft: Draft) -> Result<StoredPolicy, PolicyStamp> {
        let Draft { document, about, write_id } = draft;
        if let Some(stored) = self.stored.as_ref().filter(|stored| stored.write_id == write_id) {
            return Ok(stored.clone());
        }
        if self.stamp() != seen {
            return Err(self.stamp());
        }
        let stamp = PolicyStamp::new(seen.revision() + 1, &document);
        let at_ms = now_ms.max(self.written_ms() + 1);
        let stored = StoredPolicy { stamp, document, at_ms, about, write_id };
        self.stored = Some(stored.clone());
        Ok(stored)
    }

    /// Somebody gives back what it holds: of held and stored the one written later stays, under a number above the
    /// other's. Names what is stored then.
    pub fn restore(&mut self, held: &StoredPolicy) -> PolicyStamp {
        let current = self.stamp();
        let held_wins = (held.at_ms, held.stamp) > (self.written_ms(), current);
        if !held_wins && (held.stamp == current || current.revision() > held.stamp.revision()) {
            return current;
        }
        let loser = if held_wins { current } else { held.stamp };
        let winner = if held_wins { Some(held.clone()) } else { self.stored.take() };
        self.stored = winner.map(|winner| {
            let number = winner.stamp.revision().max(loser.revision() + 1);
            StoredPolicy { stamp: PolicyStamp::new(number, &winner.document), ..winner }
        });
        self.stamp()
    }
}
