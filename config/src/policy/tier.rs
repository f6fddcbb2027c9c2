//! What the policy grants a user type: its limits, its threshold, its weight, its budgets.
//!
//! Responsible for following `falls_back_to`. Must never loop: a chain is followed for at most as many steps as there
//! are types, so that even a policy that was never checked ends.

use std::collections::BTreeSet;
use std::iter;

use crate::identity::{InvalidName, Scope, UserType};
use crate::policy::{Budget, Policy, RoleLimit};

impl Policy {
    /// The scope this policy belongs to, or which of its two names is refused.
    pub fn scope(&self) -> Result<Scope, InvalidName> {
        Scope::new(self.tenant.as_str(), self.project.as_str())
    }

    /// Every user type there is: the built-in ones, lowest first, then the declared ones by name.
    #[must_use]
    pub fn known_types(&self) -> Vec<UserType> {
        let built_in = UserType::BUILT_IN.into_iter().filter_map(|name| UserType::new(name).ok());
        let declared = self.user_types.keys().filter(|t| !UserType::BUILT_IN.contains(&t.as_str())).cloned();
        built_in.chain(declared).collect()
    }

    /// The windows of a session of this user type, its own or borrowed; `None` for an unknown type.
    #[must_use]
    pub fn limits_of(&self, user_type: &UserType) -> Option<&RoleLimit> {
        self.fallbacks_of(user_type).find_map(|t| self.rate_limits.roles.get(t))
    }

    /// The share of capacity at which this user type is refused, its own or borrowed; `None` for an unknown type.
    #[must_use]
    pub fn threshold_of(&self, user_type: &UserType) -> Option<f64> {
        self.fallbacks_of(user_type).find_map(|t| {
            let of_built_in = match t.as_str() {
                "anonymous" => Some(self.backpressure.anonymous_pressure_threshold),
                "registered" => Some(self.backpressure.registered_pressure_threshold),
                "paid" => Some(self.backpressure.paid_pressure_threshold),
                "privileged" => Some(self.backpressure.hard_limit_threshold),
                _ => None,
            };
            of_built_in.or_else(|| self.user_types.get(t)?.pressure_threshold)
        })
    }

    /// The share of the queue of this user type, its own or borrowed; `None` for an unknown type.
    #[must_use]
    pub fn weight_of(&self, user_type: &UserType) -> Option<f64> {
        self.fallbacks_of(user_type).find_map(|t| self.user_types.get(t)?.weight)
    }

    /// The budgets a request of this user type draws on, by name.
    pub fn budgets_of(&self, user_type: &UserType) -> impl Iterator<Item = (&str, &Budget)> {
        let applies = move |budget: &Budget| budget.user_types.as_ref().is_none_or(|types| types.contains(user_type));
        self.budgets.iter().filter(move |(_, budget)| applies(budget)).map(|(name, budget)| (name.as_str(), budget))
    }

    /// The type itself, then whom it falls back to, and so on; each type once.
    fn fallbacks_of<'a>(&'a self, user_type: &'a UserType) -> impl Iterator<Item = &'a UserType> {
        let mut seen = BTreeSet::new();
        iter::successors(Some(user_type), |t| self.user_types.get(*t)?.falls_back_to.as_ref())
            .take_while(move |t| seen.insert(*t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_type(name: &str) -> UserType {
        UserType::new(name).unwrap()
    }

    fn policy_with_gold() -> Policy {
        let mut policy = Policy::shipped("acme", "shop");
        let gold = crate::policy::UserTypeSettings { falls_back_to: Some(user_type("paid")), ..Default::default() };
        policy.user_types.insert(user_type("gold"), gold);
        policy
    }

    #[test]
    fn each_built_in_type_has_its_shipped_limit_threshold_and_weight() {
        let policy = Policy::shipped("acme", "shop");
        let shipped = [
            ("anonymous", 120, 10, 0.6, 1.0),
            ("external", 120, 10, 0.6, 1.0),
            ("registered", 2000, 100, 0.8, 2.0),
            ("paid", 4000, 150, 0.9, 4.0),
            ("privileged", -1, 300, 0.95, 8.0),
        ];
        for (name, hourly, burst, threshold, weight) in shipped {
            let t = user_type(name);
            assert_eq!(policy.limits_of(&t), Some(&RoleLimit { hourly, burst, burst_window: 60 }), "{name}");
            assert_eq!(policy.threshold_of(&t), Some(threshold), "{name}");
            assert_eq!(policy.weight_of(&t), Some(weight), "{name}");
        }
    }

    #[test]
    fn a_declared_type_borrows_only_what_it_lacks() {
        let mut policy = policy_with_gold();
        let gold = user_type("gold");
        assert_eq!(policy.limits_of(&gold), policy.limits_of(&user_type("paid")));
        assert_eq!(policy.threshold_of(&gold), Some(0.9));

        policy.user_types.get_mut(&gold).unwrap().pressure_threshold = Some(0.92);
        policy.user_types.get_mut(&gold).unwrap().weight = Some(6.0);
        assert_eq!(policy.threshold_of(&gold), Some(0.92));
        assert_eq!(policy.weight_of(&gold), Some(6.0));
        assert_eq!(policy.threshold_of(&user_type("paid")), Some(0.9));
    }

    #[test]
    fn known_types_are_the_built_in_ones_then_the_declared_ones() {
        let policy = policy_with_gold();
        let names: Vec<String> = policy.known_types().into_iter().map(String::from).collect();
        assert_eq!(names, ["anonymous", "external", "registered", "paid", "privileged", "gold"]);
    }

    #[test]
    fn an_unknown_type_is_granted_nothing() {
        let policy = Policy::shipped("acme", "shop");
        let nobody = user_type("nobody");
        assert_eq!(policy.limits_of(&nobody), None);
        assert_eq!(policy.threshold_of(&nobody), None);
        assert_eq!(policy.weight_of(&nobody), None);
    }

    #[test]
    fn a_cycle_of_fallbacks_ends() {
        let mut policy = policy_with_gold();
        let (gold, silver) = (user_type("gold"), user_type("silver"));
        let back_to_gold = crate::policy::UserTypeSettings { falls_back_to: Some(gold.clone()), ..Default::default() };
        policy.user_types.insert(silver.clone(), back_to_gold);
        policy.user_types.get_mut(&gold).unwrap().falls_back_to = Some(silver.clone());
        assert_eq!(policy.limits_of(&gold), None);
        assert_eq!(policy.weight_of(&silver), None);
    }

    #[test]
    fn budgets_come_by_name_and_only_those_of_the_type() {
        let mut policy = Policy::shipped("acme", "shop");
        let budget = |user_types| Budget {
            unit: "tokens".to_owned(),
            amount: 10,
            period: crate::policy::Period::Day,
            per: crate::policy::Subject::Principal,
            default_estimate: 1,
            user_types,
        };
        policy.budgets.insert("zeal".to_owned(), budget(None));
        policy.budgets.insert("alms".to_owned(), budget(Some(vec![user_type("paid")])));
        let names = |name| policy.budgets_of(&user_type(name)).map(|(n, _)| n.to_owned()).collect::<Vec<_>>();
        assert_eq!(names("paid"), ["alms", "zeal"]);
        assert_eq!(names("anonymous"), ["zeal"]);
    }

    #[test]
    fn the_scope_is_refused_when_a_name_could_close_the_hash_tag() {
        assert_eq!(Policy::shipped("acme", "shop").scope().unwrap().to_string(), "acme/shop");
        assert_eq!(Policy::shipped("ac}me", "shop").scope().unwrap_err().what, "tenant");
        assert_eq!(Policy::shipped("acme", "").scope().unwrap_err().what, "project");
    }
}
