//! Places for tunnels: a tunnel outlives the request it began as, so nothing else bounds how many there are.
//!
//! Responsible for a bound on all of a gateway's and on those of one caller. Must never remember a caller who has none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admission::session::Identity;

/// Most tunnels of a gateway: their connections are no longer among those that a listener counts.
const MAX_TUNNELS: usize = 8192;

/// Whose tunnels are counted together: a principal of a scope.
type Caller = (u64, Box<str>);

/// The tunnels of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// How many each caller has, never 0.
    by_caller: HashMap<Caller, u64>,
}

/// A place for one tunnel; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    caller: Caller,
}

impl Places {
    /// A place for a caller who may have `most` (0: no bound); `None` if there is none.
    pub(crate) fn open(self: &Arc<Self>, caller: &Identity, most: u64) -> Option<Place> {
        let caller = (caller.scope().number(), caller.principal().into());
        self.take(caller, most)
    }

    fn take(self: &Arc<Self>, caller: Caller, most: u64) -> Option<Place> {
        let mut taken = self.taken();
        let own = taken.by_caller.get(&caller).copied().unwrap_or(0);
        if taken.all >= MAX_TUNNELS || (most > 0 && own >= most) {
            return None;
        }
        taken.all += 1;
        taken.by_caller.insert(caller.clone(), own + 1);
        Some(Place { places: self.clone(), caller })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        match taken.by_caller.get_mut(&self.caller) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.by_caller.remove(&self.caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_so_many_and_everybody_together_so_many() {
        let places = Arc::<Places>::default();
        let caller = |name: &str| (1, Box::from(name));
        let own: Vec<Place> = (0..2).map(|_| places.take(caller("ada"), 2).unwrap()).collect();
        assert!(places.take(caller("ada"), 2).is_none());
        assert!(places.take((2, "ada".into()), 2).is_some(), "somebody else of that name");
        let bob = places.take(caller("bob"), 1);
        assert!(bob.is_some() && places.take(caller("bob"), 1).is_none());
        drop(own);
        let all: Vec<Place> = (1..MAX_TUNNELS).map(|_| places.take(caller("ada"), 0).unwrap()).collect();
        assert!(places.take(caller("ada"), 0).is_none() && places.take(caller("eve"), 9).is_none());
        drop((all, bob));
        assert!(places.taken().by_caller.is_empty() && places.taken().all == 0, "nobody is remembered");
    }
}
