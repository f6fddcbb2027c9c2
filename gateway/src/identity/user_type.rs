//! From a user's groups to a user type.
//!
//! Responsible for exact names: `Admin` and `admin ` are not `admin`, and a group of one issuer means nothing at
//! another. Must never give `anonymous`, which a credential cannot prove.

use std::collections::BTreeMap;

use portcullis_config::UserType;

/// What the groups of one issuer are worth.
#[derive(Clone, Debug)]
pub struct UserTypes {
    by_group: BTreeMap<String, UserType>,
    baseline: UserType,
}

impl UserTypes {
    /// Of these groups; a user in none of them is `baseline`.
    #[must_use]
    pub fn new(by_group: BTreeMap<String, UserType>, baseline: UserType) -> Self {
        Self { by_group, baseline }
    }

    /// The highest type that one of the groups gives; without one, the baseline, be it higher or lower.
    ///
    /// Of types that only a policy declares, each stands above `registered` and below `paid`; among themselves the
    /// alphabet decides.
    #[must_use]
    pub fn of<'a>(&self, groups: impl IntoIterator<Item = &'a str>) -> UserType {
        let given = groups.into_iter().filter_map(|group| self.by_group.get(group));
        given.max_by(|a, b| rank(a).cmp(&rank(b)).then(b.cmp(a))).unwrap_or(&self.baseline).clone()
    }
}

/// Place among the user types, higher is more. The built-in ones take the even places, lowest first.
pub(crate) fn rank(user_type: &UserType) -> usize {
    let built_in = UserType::BUILT_IN.iter().position(|name| *name == user_type.as_str());
    let registered = UserType::BUILT_IN.iter().position(|name| *name == "registered").unwrap_or_default();
    built_in.map_or(2 * registered + 1, |place| 2 * place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_type(groups: &[&str]) -> String {
        let map =
            [("admin", "privileged"), ("paid", "paid"), ("gold", "gold"), ("bronze", "bronze"), ("p", "external")];
        let by_group = map.map(|(group, name)| (group.to_owned(), UserType::new(name).unwrap())).into();
        UserTypes::new(by_group, UserType::new("registered").unwrap()).of(groups.iter().copied()).to_string()
    }

    #[test]
    fn the_highest_group_wins_by_its_exact_name() {
        assert_eq!(user_type(&["paid", "admin"]), "privileged");
        assert_eq!(user_type(&["admin", "paid"]), "privileged");
        assert_eq!(user_type(&["paid"]), "paid");
        for group in ["Admin", "admin ", " admin", "ADMIN", "", "super-admin"] {
            assert_eq!(user_type(&[group]), "registered", "{group:?}");
        }
        assert_eq!(user_type(&[]), "registered");
    }

    #[test]
    fn a_partner_is_external_and_declared_types_stand_between_registered_and_paid() {
        assert_eq!(user_type(&["p"]), "external");
        assert_eq!(user_type(&["p", "gold"]), "gold");
        assert_eq!(user_type(&["gold", "paid"]), "paid");
        assert_eq!(user_type(&["gold", "bronze"]), "bronze");
        assert_eq!(user_type(&["bronze", "gold"]), "bronze", "whatever their order");
    }
}
