//! Whether a policy would lock out those who could mend it.
//!
//! Responsible for the paths by which a scope is told a better policy and seen to be alive: none of them may have to
//! pass the gates, because a scope that refuses everybody would then refuse its operators too. Must never be more
//! lenient than the classes of `route.rs`, which it asks.

use super::Findings;
use crate::fault::Path;
use crate::policy::Policy;
use crate::route;

/// The paths that must stay reachable under any load.
const ADMINISTRATION: [&str; 6] = [
    "/admin/gateway/update-config",
    "/admin/gateway/config/rollback",
    "/admin/gateway/reset-config",
    "/monitoring/system",
    "/healthz",
    "/readyz",
];

/// Checks that no administration path is guarded, unless it skips throttling as well.
pub(super) fn check(policy: &Policy, findings: &mut Findings) {
    // Patterns that do not compile are told as that.
    let Ok(bypass) = route::compile(&policy.bypass_throttling_patterns) else { return };
    let exposed: Vec<&str> = ADMINISTRATION.into_iter().filter(|path| !route::matches(&bypass, path)).collect();
    let classes = policy.route_classes.iter();
    let declared = classes.map(|(name, class)| (Path::of("route_classes").key(name).key("patterns"), &class.patterns));
    for (place, patterns) in
        std::iter::once((Path::of("guarded_rest_patterns"), &policy.guarded_rest_patterns)).chain(declared)
    {
        for (index, pattern) in patterns.iter().enumerate() {
            let Ok(guarded) = route::compile(std::slice::from_ref(pattern)) else { continue };
            let Some(path) = exposed.iter().find(|path| route::matches(&guarded, path)) else { continue };
            let message = format!(
                "guards {path}, so an overloaded scope could not be told a better policy; make it narrower, or name \
                 that path in bypass_throttling_patterns"
            );
            findings.error(&[place.index(index), Path::of("bypass_throttling_patterns")], message);
        }
    }
}
