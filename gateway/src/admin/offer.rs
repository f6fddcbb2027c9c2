//! Which operations the admin listener has at all.
//!
//! Responsible for leaving out what a deployment does not offer: such a route is not registered, so that it is the same
//! nothing as any unknown path, and no fault of a check behind it can open it. Must never take back an operation by a
//! check within its handler, nor know of an operation that the description of the listener does not have.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;

use super::Admin;
use crate::openapi;

/// The operations that change something.
pub(crate) const WRITES: [&str; 5] = ["update_config", "reset_config", "rollback_config", "revoke", "acknowledge_loss"];

/// Which operations are offered, by the names they have in `/openapi.json`. By default all.
#[derive(Clone, Debug, Default)]
pub struct AdminOffer {
    without_writes: bool,
    /// `None`: every one.
    operations: Option<BTreeSet<String>>,
}

impl AdminOffer {
    /// Offers these operations, or all without a list; those that change something only if writes are allowed.
    ///
    /// # Errors
    ///
    /// A line for each name that no operation has, and one if there is a list and it names nothing: that is no way to
    /// ask for everything.
    pub fn new(allow_writes: bool, operations: &[String]) -> Result<Self, Vec<String>> {
        let known = openapi::admin_operations();
        let named: BTreeSet<String> =
            operations.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let unknown: Vec<String> = named
            .iter()
            .filter(|name| !known.contains(name))
            .map(|name| format!("there is no operation `{name}`; there are: {}", known.join(", ")))
            .collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        if named.is_empty() && !operations.is_empty() {
            return Err(vec!["names no operation; leave it out to offer all".to_owned()]);
        }
        Ok(Self { without_writes: !allow_writes, operations: (!named.is_empty()).then_some(named) })
    }

    /// Whether this operation is offered.
    pub(crate) fn has(&self, operation: &str) -> bool {
        let written = self.without_writes && WRITES.contains(&operation);
        !written && self.operations.as_ref().is_none_or(|operations| operations.contains(operation))
    }
}

/// A table of routes of which only those are kept that are offered.
#[derive(Debug)]
pub(crate) struct OfferedRoutes<'a> {
    offer: &'a AdminOffer,
    router: Router<Arc<Admin>>,
}

impl<'a> OfferedRoutes<'a> {
    /// Without a route.
    pub(crate) fn new(offer: &'a AdminOffer) -> Self {
        Self { offer, router: Router::new() }
    }

    /// Adds a route if its operation is offered.
    pub(crate) fn route(self, path: &str, operation: &str, handler: MethodRouter<Arc<Admin>>) -> Self {
        if !self.offer.has(operation) {
            return self;
        }
        Self { router: self.router.route(path, handler), ..self }
    }

    /// What was kept.
    pub(crate) fn into_router(self) -> Router<Arc<Admin>> {
        self.router
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(allow_writes: bool, operations: &[&str]) -> Result<AdminOffer, Vec<String>> {
        AdminOffer::new(allow_writes, &operations.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn everything_is_offered_unless_it_is_said_otherwise() {
        for offer in [AdminOffer::default(), offer(true, &[]).unwrap()] {
            assert!(openapi::admin_operations().iter().all(|operation| offer.has(operation)));
        }
    }

    #[test]
    fn a_list_that_names_nothing_offers_nothing() {
        for list in [&[""][..], &[" "], &["", ""], &["\t", " "]] {
            assert_eq!(offer(true, list).unwrap_err().len(), 1, "{list:?}");
        }
        let offer = offer(true, &["read_queues", ""]).unwrap();
        assert!(offer.has("read_queues") && !offer.has("read_config"), "a comma at the end is no fault");
    }

    #[test]
    fn only_what_is_listed_is_offered_and_a_write_not_even_then() {
        let listed = offer(true, &["read_queues", " update_config"]).unwrap();
        assert!(listed.has("read_queues") && listed.has("update_config") && !listed.has("read_config"));
        let reading = offer(false, &["read_queues", "update_config"]).unwrap();
        assert!(reading.has("read_queues") && !reading.has("update_config"));
        let writes = offer(false, &[]).unwrap();
        let left: Vec<String> =
            openapi::admin_operations().into_iter().filter(|operation| !writes.has(operation)).collect();
        let mut expected = WRITES.map(str::to_owned).to_vec();
        expected.sort_unstable();
        assert_eq!(left, expected);
    }

    #[test]
    fn a_name_that_no_operation_has_is_a_fault() {
        let faults = offer(true, &["read_queues", "read_everything", "Update_Config"]).unwrap_err();
        assert_eq!(faults.len(), 2);
        assert!(faults[0].contains("`Update_Config`") && faults[1].contains("`read_everything`"), "{faults:?}");
    }
}
