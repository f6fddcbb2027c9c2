//! What differs between two policies, setting by setting.
//!
//! Responsible for comparing what is *in force*, for both components: a document that says the same in other words
//! changes nothing. Must never show a credential.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::fault::{Path, Step};
use crate::load::{LoadError, policies_of};
use crate::policy::Policy;
use crate::redis_url::masked;
use crate::slices::{Component, SLICED_SECTIONS};
use crate::takes_effect::TakesEffect;

/// A setting whose value differs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PolicyChange {
    /// Where it stands, in its component's slice if only that component sees the difference
    /// (`limits.ingress.max_queue_size`); an entry that is new or gone (`budgets.daily`) is one change.
    pub path: String,
    /// Its value before; left out: there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Its value after; left out: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// When the difference takes effect.
    pub takes_effect: TakesEffect,
}

/// What differs between the policies of two written documents that name their scope and hold no placeholder.
pub fn changes(before: &Value, after: &Value) -> Result<Vec<PolicyChange>, LoadError> {
    Ok(compare(&policies_of(before)?, &policies_of(after)?))
}

/// What differs between two policies, each as both components see it, in the order of [`Component::ALL`].
#[must_use]
pub fn compare(before: &[Policy; 2], after: &[Policy; 2]) -> Vec<PolicyChange> {
    let [ingress, proc] = [0, 1].map(|each| {
        let [before, after] = [before, after].map(|policies| serde_json::to_value(&policies[each]).unwrap_or_default());
        let mut found = Vec::new();
        differences(Some(&before), Some(&after), &Path::default(), &mut found);
        found
    });
    let of_ingress = ingress.iter().map(|difference| {
        let of_both = proc.contains(difference);
        difference.told((!of_both).then_some(Component::Ingress))
    });
    let of_proc = proc.iter().filter(|difference| !ingress.contains(difference));
    let mut all: Vec<PolicyChange> =
        of_ingress.chain(of_proc.map(|difference| difference.told(Some(Component::Proc)))).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Two values at one place that are not the same.
#[derive(PartialEq)]
struct Difference {
    place: Path,
    before: Option<Value>,
    after: Option<Value>,
}

impl Difference {
    /// The change it is, seen by this component only or by both.
    fn told(&self, seen_by: Option<Component>) -> PolicyChange {
        let path = match (self.place.steps().first(), seen_by) {
            (Some(Step::Key(section)), Some(component)) if SLICED_SECTIONS.contains(&section.as_str()) => {
                self.place.insert_key(1, &component.to_string())
            }
            _ => self.place.clone(),
        };
        let is_url = self.place == Path::of("redis_url");
        let shown = |value: &Option<Value>| match value {
            Some(Value::String(url)) if is_url => Some(masked(url).into()),
            other => other.clone(),
        };
        let takes_effect = TakesEffect::of(&self.place.to_string()).unwrap_or(TakesEffect::AtOnce);
        PolicyChange { path: path.to_string(), before: shown(&self.before), after: shown(&self.after), takes_effect }
    }
}

/// Goes down as far as both sides are objects: a list is one value.
fn differences(before: Option<&Value>, after: Option<&Value>, place: &Path, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let (Some(Value::Object(old)), Some(Value::Object(new))) = (before, after) else {
        found.push(Difference { place: place.clone(), before: before.cloned(), after: after.cloned() });
        return;
    };
    for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
        differences(old.get(key), new.get(key), &place.key(key), found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(before: &Value, after: &Value) -> Vec<(String, Option<Value>, Option<Value>, TakesEffect)> {
        let named = |document: &Value| {
            let mut document = document.clone();
            document["tenant"] = "acme".into();
            document["project"] = "shop".into();
            document
        };
        let all = changes(&named(before), &named(after)).unwrap();
        all.into_iter().map(|change| (change.path, change.before, change.after, change.takes_effect)).collect()
    }

    #[test]
    fn the_same_said_in_other_words_is_no_change() {
        let flat =
            json!({"limits": {"max_queue_size": 5}, "queue": {"lease_ms": 10_000}, "guarded_rest_patterns": ["/x$"]});
        let sliced = json!({
            "limits": {"proc": {"max_queue_size": 5}},
            "guarded_rest_patterns": {"ingress": ["/x$"], "worker": ["/x$"]},
        });
        assert_eq!(of(&flat, &sliced), []);
    }

    #[test]
    fn a_change_says_what_was_what_is_and_who_sees_it() {
        let before =
            json!({"queue": {"lease_ms": 1000}, "kinds": {"chat": {"cost": 2}}, "pools": {"pg_max_connections": 5}});
        let after = json!({
            "queue": {"lease_ms": 2000}, "kinds": {"report": {"cost": 3}},
            "pools": {"ingress": {"pg_max_connections": 5}},
            "service_capacity": {"processes_per_instance": 2}, "guarded_rest_patterns": {"proc": ["/x$"]},
        });
        let (at_once, restart, never) = (TakesEffect::AtOnce, TakesEffect::AfterRestart, TakesEffect::Never);
        assert_eq!(
            of(&before, &after),
            [
                ("guarded_rest_patterns.proc".to_owned(), Some(json!([])), Some(json!(["/x$"])), at_once),
                ("kinds.chat".to_owned(), Some(json!({"cost": 2})), None, at_once),
                ("kinds.report".to_owned(), None, Some(json!({"cost": 3})), at_once),
                ("pools.proc.pg_max_connections".to_owned(), Some(json!(5)), None, never),
                ("queue.lease_ms".to_owned(), Some(json!(1000)), Some(json!(2000)), at_once),
                ("service_capacity.processes_per_instance".to_owned(), Some(json!(1)), Some(json!(2)), restart),
            ]
        );
    }

    #[test]
    fn components_that_see_different_changes_are_told_apart() {
        let before = json!({"backpressure": {"capacity_buffer": 0.3}});
        let after = json!({"backpressure": {"ingress": {"capacity_buffer": 0.1}, "proc": {"capacity_buffer": 0.4}}});
        let paths: Vec<String> = of(&before, &after).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(paths, ["backpressure.ingress.capacity_buffer", "backpressure.proc.capacity_buffer"]);
    }

    #[test]
    fn another_password_is_a_change_that_shows_none() {
        let url = |word: &str| json!({"redis_url": format!("redis://user:{word}@db")});
        let shown = of(&url("old-word"), &url("new-word"));
        let masked = Some(json!("redis://user:***@db"));
        assert_eq!(shown, [("redis_url".to_owned(), masked.clone(), masked, TakesEffect::AfterRestart)]);
    }
}
