//! How many files a gateway may have open: each connection is one, to clients and to the application.
//!
//! Responsible for taking all that the system allows, because soft limits are those of interactive shells, and for
//! saying how many that is. Must never fail a start: with fewer, connections wait to be accepted.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and logs what holds then.
pub(super) fn raise_limit() {
    let given = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: given.maximum, ..given });
    let held = getrlimit(Resource::Nofile).current.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    match raised {
        Ok(()) => tracing::info!(open_files = held, "open files"),
        Err(error) => tracing::warn!(%error, open_files = held, "the limit of open files could not be raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be_afterwards() {
        raise_limit();
        let held = getrlimit(Resource::Nofile);
        assert_eq!(held.current, held.maximum);
    }
}
