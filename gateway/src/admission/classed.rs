//! Admission of what has a route class: a request for the application behind this gateway, or one that another proxy
//! holds and asks about.
//!
//! Responsible for the class being the one that the request has under the policy it is decided under, and under no
//! other. Must never decide: classes that take gates ask for a pass.

use std::sync::Arc;

use portcullis_config::RouteClass;

use super::pass::{self, Entry, Pass};
use super::session::{Identity, Unspent};
use crate::policy_in_force::PolicyInForce;
use crate::refusal::Refused;
use crate::respond::RequestId;
use crate::right;
use crate::state::Gateway;

/// How often a request is classed: policies that change twice while it is being decided are not changed by people.
const ROUNDS: usize = 3;

/// A request that may go on.
#[derive(Debug)]
pub(crate) struct Classed {
    /// The policy it was decided under.
    pub(crate) policy: Arc<PolicyInForce>,
    /// The name of its class.
    pub(crate) class: Arc<str>,
    /// `None`: its class takes no gates.
    pub(crate) pass: Option<Pass>,
}

/// Takes a request through the gates of its class. `entry` is its request for a pass, but for class and throttling;
/// what does not fit its class, by name, is refused before a gate is asked.
pub(crate) async fn admit(
    gateway: &Gateway,
    identity: &Identity,
    proof: &mut Unspent,
    request_id: &RequestId,
    classify: impl Fn(&PolicyInForce) -> RouteClass,
    fits: impl Fn(&PolicyInForce, &str) -> Result<(), Refused>,
    entry: Entry,
) -> Result<Classed, Refused> {
    let scope = identity.scope();
    let mut policy = scope.policy();
    let mut round = 1;
    loop {
        let class = classify(&policy);
        let (name, throttled): (Arc<str>, _) = match &class {
            RouteClass::Guarded { class, throttled } => (class.clone(), Some(*throttled)),
            RouteClass::Read => ("read".into(), None),
            RouteClass::Bypass => ("bypass".into(), None),
        };
        let misfit = permitted(identity, &name).and_then(|()| fits(&policy, &name)).err();
        let Some(throttled) = throttled.filter(|_| misfit.is_none()) else {
            // Nothing is asked of the script, which would say whether this policy still counts.
            if round < ROUNDS && scope.has_moved_on_from(policy.stamp()).await {
                (policy, round) = (scope.policy(), round + 1);
                continue;
            }
            let answer = match misfit {
                Some(refused) => Err(Refused { policy: Some(policy), ..refused }),
                None => Ok(Classed { policy, class: name, pass: None }),
            };
            let outcome = proof.spend_for(gateway, identity, answer).await;
            return outcome.inspect_err(|refused| super::count_refused(identity, refused));
        };
        let entry = Entry { class: name.clone(), throttled, ..entry.clone() };
        let outcome = pass::pass(gateway, identity, proof, request_id, entry).await;
        let decided_under = match &outcome {
            Ok(pass) => pass.policy().clone(),
            Err(refused) => refused.policy.clone().unwrap_or_else(|| policy.clone()),
        };
        let same = decided_under.stamp() == policy.stamp() || classify(&decided_under) == class;
        if same || round == ROUNDS {
            return outcome.map(|pass| Classed { policy: decided_under, class: name, pass: Some(pass) });
        }
        (policy, round) = (decided_under, round + 1);
    }
}

/// Refuses a caller whose credential was not given for requests of this class.
fn permitted(identity: &Identity, class: &str) -> Result<(), Refused> {
    if identity.caller().rights.is_none() { Ok(()) } else { identity.require(&right::call(class)) }
}
