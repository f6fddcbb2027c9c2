//! The property of patches: one of any single setting, to any value it may have, on any document, changes that setting
//! and not one other byte of what either component makes of the document.

use portcullis_config::{Amendment, Component, Scope, amend, parse_value};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::leaves::{self, Leaf};
use super::{env, loaded};

/// Sections that may differ by component.
const SLICED: [&str; 8] = [
    "rate_limits",
    "service_capacity",
    "backpressure",
    "pools",
    "limits",
    "data_bus",
    "guarded_rest_patterns",
    "bypass_throttling_patterns",
];
/// Settings of the processors that a gateway without its own takes from them.
const SHARED: [&str; 2] = ["limits.max_queue_size", "service_capacity.avg_processing_time_seconds"];
/// Settings that an amendment cannot change.
const FIXED: [&str; 3] = ["tenant", "project", "instance_id"];

/// A document with slices for everything that may have them.
const SLICES: &str = "
rate_limits: { ingress: { paid: { burst: 90 } }, worker: { paid: { burst: 80 }, anonymous: { hourly: 90 } } }
service_capacity: { proc: { concurrent_requests_per_process: 9, avg_processing_time_seconds: 5 } }
backpressure: { capacity_buffer: 0.3, ingress: { capacity_buffer: 0.1 }, processor: { hard_limit_threshold: 0.97 } }
pools: { pg_max_connections: 9, ingress: { pg_pool_max_size: 8 }, proc: { pg_pool_max_size: 9 } }
limits: { max_integrations_concurrency: 3, ingress: { max_queue_size: 9 }, worker: { max_queue_size: 8 } }
data_bus: { ingress: { publish_limits: { paid: { enabled: true } } } }
guarded_rest_patterns: [^/x1$, ^/x2$]
bypass_throttling_patterns: { proc: [^/x3$] }
";

/// How a patch says whom it is for.
#[derive(Clone, Copy, Debug)]
enum Form {
    Both,
    Slice(Component, &'static str),
    Beside(Component, &'static str),
}

impl Form {
    fn component(self) -> Option<Component> {
        match self {
            Self::Both => None,
            Self::Slice(component, _) | Self::Beside(component, _) => Some(component),
        }
    }
}

#[derive(Clone, Debug)]
struct Change {
    leaf: Leaf,
    /// Which of the document's own names stands for each `*`.
    choice: prop::sample::Index,
    value: Value,
    form: Form,
}

fn value_of(leaf: &Leaf) -> BoxedStrategy<Value> {
    let last = leaf.path.rsplit('.').next().unwrap_or_default();
    match last {
        "guarded_rest_patterns" | "bypass_throttling_patterns" => {
            return prop::collection::vec("\\^/x[a-z]{1,6}\\$", 0..4).prop_map(|list| json!(list)).boxed();
        }
        "patterns" => {
            return prop::collection::vec("\\^/x[a-z]{1,6}\\$", 1..4).prop_map(|list| json!(list)).boxed();
        }
        "methods" => return prop::collection::vec("[A-Z]{1,7}", 1..3).prop_map(|list| json!(list)).boxed(),
        "allowed_origins" => {
            return prop::collection::vec("https://[a-z]{1,6}\\.example", 0..4).prop_map(|list| json!(list)).boxed();
        }
        "redis_url" => return "redis://[a-z]{1,6}:6379".prop_map(Value::from).boxed(),
        "capacity_source_component" => return "[a-z:]{1,9}".prop_map(Value::from).boxed(),
        "falls_back_to" => return prop::sample::select(vec!["anonymous", "paid"]).prop_map(Value::from).boxed(),
        "user_types" => {
            let types = prop::sample::subsequence(vec!["anonymous", "registered", "paid"], 1..3);
            return types.prop_map(|types| json!(types)).boxed();
        }
        "kinds" => return prop::collection::vec("[a-z][a-z.]{0,5}", 1..3).prop_map(|kinds| json!(kinds)).boxed(),
        _ => {}
    }
    of_schema(&leaf.schema)
}

fn of_schema(schema: &Value) -> BoxedStrategy<Value> {
    let names = schema["enum"].as_array().cloned().or_else(|| {
        let variants = schema["oneOf"].as_array()?;
        Some(variants.iter().map(|variant| variant["const"].clone()).collect())
    });
    if let Some(names) = names {
        return prop::sample::select(names).boxed();
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default();
    let bound = |inclusive: &str, exclusive: &str| schema[inclusive].as_f64().or(schema[exclusive].as_f64());
    let (least, most) = (bound("minimum", "exclusiveMinimum"), bound("maximum", "exclusiveMaximum"));
    match kind {
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => {
            let (least, most) = (least.unwrap_or(0.0) as i64, most.unwrap_or(1e9) as i64);
            // Small numbers agree with others more often than those from a wide range.
            prop_oneof![least..=most, least..=most.min(least + 100), least..=most.min(100_000)]
                .prop_map(Value::from)
                .boxed()
        }
        "number" => {
            let (least, most) = (least.unwrap_or(0.0), most.unwrap_or(1e6));
            prop_oneof![least..most, least..most.min(least + 1.0)]
                .prop_map(|x| json!((x * 1000.0).ceil() / 1000.0))
                .boxed()
        }
        "string" => {
            let pattern = schema["pattern"].as_str().unwrap_or("[a-z]{1,8}").trim_matches(['^', '$']);
            proptest::string::string_regex(pattern).unwrap().prop_map(Value::from).boxed()
        }
        other => panic!("no value of type {other:?}"),
    }
}

fn form() -> impl Strategy<Value = Form> {
    prop::sample::select(vec![
        Form::Both,
        Form::Slice(Component::Ingress, "ingress"),
        Form::Slice(Component::Proc, "proc"),
        Form::Slice(Component::Proc, "worker"),
        Form::Beside(Component::Ingress, "chat-rest"),
        Form::Beside(Component::Proc, "processor"),
    ])
}

fn change_of(leaf: Leaf) -> impl Strategy<Value = Change> {
    (value_of(&leaf), any::<prop::sample::Index>(), form()).prop_map(move |(value, choice, form)| Change {
        leaf: leaf.clone(),
        choice,
        value,
        form,
    })
}

fn changeable() -> Vec<Leaf> {
    leaves::all().into_iter().filter(|leaf| !FIXED.contains(&leaf.path.as_str())).collect()
}

fn change() -> impl Strategy<Value = Change> {
    prop::sample::select(changeable()).prop_flat_map(change_of)
}

fn base() -> impl Strategy<Value = Value> {
    let written = |text: &str| loaded(text).written;
    prop::sample::select(vec![json!({}), written(SLICES), written(include_str!("../../gateway.example.yaml"))])
}

fn effective(document: &Value, component: Component) -> Value {
    parse_value(document.clone(), component, &env).unwrap_or_else(|e| panic!("{e}")).document
}

/// The keys to the setting in this document, if it has the entry that the setting belongs to.
fn keys(change: &Change, effective: &Value) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    let mut inner = Some(effective);
    for key in change.leaf.path.split('.') {
        let names = || inner?.as_object().filter(|map| !map.is_empty());
        let key =
            if key == "*" { names()?.keys().nth(change.choice.index(names()?.len()))?.clone() } else { key.to_owned() };
        inner = inner.and_then(|inner| inner.get(&key));
        keys.push(key);
    }
    Some(keys)
}

fn patch(change: &Change, keys: &[String]) -> Value {
    let mut keys = keys.to_vec();
    let sliced = SLICED.contains(&keys[0].as_str());
    if let Form::Slice(_, name) = change.form
        && sliced
    {
        keys.insert(1, name.to_owned());
    }
    let mut patch = keys.into_iter().rev().fold(change.value.clone(), |inner, key| json!({ key: inner }));
    if let Form::Beside(_, name) = change.form {
        patch["component"] = name.into();
    }
    patch
}

/// The document patched, unless the change is at odds with the rest of it.
fn applied(base: &Value, change: &Change) -> Option<(Value, Vec<String>)> {
    let component = change.form.component().unwrap_or_default();
    let keys = keys(change, &effective(base, component))?;
    let scope = Scope::new("acme", "shop").unwrap();
    let amended = amend(base, Amendment::Patch(patch(change, &keys)), &scope, &env).ok()?;
    Some((amended.document, keys))
}

/// The text of a document without this setting, and the setting. An entry of the author's own that `before` has not is
/// part of the setting: it is taken away as a whole.
fn apart(mut document: Value, keys: &[String], before: &Value) -> (String, Option<Value>) {
    let (last, outer) = keys.split_last().unwrap();
    let holder = outer.iter().try_fold(&mut document, |inner, key| inner.get_mut(key));
    let setting = holder.and_then(|holder| holder.as_object_mut()?.shift_remove(last));
    let is_new = outer.iter().try_fold(before, |inner, key| inner.get(key)).is_none();
    if let (true, Some((entry, outer))) = (is_new, outer.split_last()) {
        let entries = outer.iter().try_fold(&mut document, |inner, key| inner.get_mut(key));
        let held = entries.and_then(|entries| entries.as_object_mut()?.shift_remove(entry));
        assert!(held.is_none_or(|held| held == json!({})), "more than the setting came with its entry");
    }
    (document.to_string(), setting)
}

fn same(found: Option<&Value>, wanted: &Value) -> bool {
    found.is_some_and(|found| found == wanted || (wanted.is_number() && found.as_f64() == wanted.as_f64()))
}

fn holds(base: &Value, change: &Change) -> Result<(), TestCaseError> {
    let Some((after, keys)) = applied(base, change) else { return Ok(()) };
    let sliced = SLICED.contains(&keys[0].as_str());
    for component in Component::ALL {
        let meant = !sliced || change.form.component().is_none_or(|meant| meant == component);
        let (before, now) = (effective(base, component), effective(&after, component));
        let (other_before, _) = apart(before.clone(), &keys, &before);
        let (other_now, setting) = apart(now.clone(), &keys, &before);
        if meant {
            prop_assert!(same(setting.as_ref(), &change.value), "{component}: {:?} in {}", change, now);
            prop_assert_eq!(other_now, other_before, "{}", component);
        } else if SHARED.contains(&change.leaf.path.as_str()) {
            prop_assert_eq!(other_now, other_before, "{}", component);
        } else {
            prop_assert_eq!(now.to_string(), before.to_string(), "{}", component);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_patch_of_one_setting_leaves_every_other_byte_alone(
        base in base(),
        earlier in prop::collection::vec(change(), 0..4),
        change in change(),
    ) {
        let base = earlier.iter().fold(base, |base, change| applied(&base, change).map_or(base, |(after, _)| after));
        holds(&base, &change)?;
    }
}

#[test]
fn every_setting_can_be_patched_and_alone() {
    let mut runner = TestRunner::deterministic();
    let base = loaded(include_str!("../../gateway.example.yaml")).written;
    for leaf in changeable() {
        let carried_entries = leaf.path.starts_with("data_bus");
        let strategy = change_of(leaf.clone());
        let mut accepted = (0..500).filter_map(|_| {
            let change = strategy.new_tree(&mut runner).unwrap().current();
            applied(&base, &change).map(|_| change)
        });
        match accepted.next() {
            Some(change) => holds(&base, &change).unwrap_or_else(|e| panic!("{}: {e}", leaf.path)),
            None => assert!(carried_entries, "no value of {} was ever accepted", leaf.path),
        }
    }
}
