//! Reads a scenario file.
//!
//! Responsible for naming everything that is wrong with a file at once, each with its path and, for a slip, what was
//! probably meant. Must never start anything: a file is right or wrong wherever it is read.

use std::collections::BTreeMap;
use std::fmt;

use portcullis_config::{Fault, Scope};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{ClusterSpec, Expectation, Faults, Scenario};
use crate::cluster::builder::effective_policy;
use crate::fault::{FaultKind, RandomFaults, TimedFault};
use crate::load::{Plan, Stream};
use crate::observe::Work;

const SECTIONS: [&str; 8] = ["name", "about", "cluster", "backend", "load", "faults", "expect", "rest_seconds"];
/// How long what was accepted may take to end where a file does not say, seconds.
const REST_SECONDS: f64 = 30.0;

/// Everything that is wrong with a scenario file.
#[derive(Debug, thiserror::Error)]
pub struct ScenarioError {
    /// Where it came from.
    pub source_name: String,
    /// What is wrong; at least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no scenario:", self.source_name)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// Reads a scenario from YAML, or JSON, which is YAML.
pub fn parse(source_name: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let mut reader = Reader::default();
    let scenario = match serde_yaml_ng::from_str::<Value>(text) {
        Ok(Value::Object(document)) => reader.scenario(document),
        Ok(_) => reader.fault("", "must be an object"),
        Err(error) => reader.fault("", error.to_string()),
    };
    match scenario {
        Some(scenario) if reader.faults.is_empty() => Ok(scenario),
        _ => Err(ScenarioError { source_name: source_name.to_owned(), faults: reader.faults }),
    }
}

/// Collects faults while it reads: a section that is wrong does not hide what is wrong with the next.
#[derive(Default)]
struct Reader {
    faults: Vec<Fault>,
}

impl Reader {
    fn fault<T>(&mut self, path: impl Into<String>, message: impl Into<String>) -> Option<T> {
        self.faults.push(Fault { path: path.into(), message: message.into() });
        None
    }

    fn read<T: DeserializeOwned>(&mut self, path: impl Into<String>, value: Value) -> Option<T> {
        match serde_json::from_value(value) {
            Ok(read) => Some(read),
            Err(error) => self.fault(path, with_nearest(&error.to_string())),
        }
    }

    fn scenario(&mut self, mut document: Map<String, Value>) -> Option<Scenario> {
        for key in document.keys().filter(|key| !SECTIONS.contains(&key.as_str())) {
            let like = nearest(key, SECTIONS).unwrap_or_default();
            self.fault::<()>(key, format!("unknown section; the nearest known one is `{like}`"));
        }
        let mut take = |section: &str| document.remove(section);
        let [name, about, cluster, backend] = ["name", "about", "cluster", "backend"].map(&mut take);
        let [load, faults, expect, rest_seconds] = ["load", "faults", "expect", "rest_seconds"].map(&mut take);

        let name = self.required("name", name);
        let about = self.required("about", about);
        let cluster: Option<ClusterSpec> = self.required("cluster", cluster);
        let backend = self.entries::<Work>("backend", backend);
        let load = self.entries::<Stream>("load", load).map(Plan);
        let faults = self.faults(faults);
        let expect = self.expectations(expect);
        let rest_seconds = rest_seconds.map_or(Some(REST_SECONDS), |seconds| self.read("rest_seconds", seconds));

        // Of every section that could be read, what is wrong with it is told, whatever the others are like.
        if let Some(load) = &load {
            self.faults.extend(load.faults().into_iter().map(|fault| within("load", &fault)));
        }
        for (kind, work) in backend.iter().flatten() {
            let named = work.faults().into_iter();
            self.faults
                .extend(named.map(|(field, message)| Fault { path: format!("backend.{kind}.{field}"), message }));
        }
        if let Some(cluster) = &cluster {
            self.cluster(cluster);
        }
        if let (Some(cluster), Some(backend), Some(faults)) = (&cluster, &backend, &faults) {
            self.feasible(cluster, backend, faults);
        }
        if let (Some(backend), Some(load)) = (&backend, &load) {
            self.handled(backend, load);
        }
        Some(Scenario {
            name: name?,
            about: about?,
            cluster: cluster?,
            backend: backend?,
            load: load?,
            faults: faults?,
            expect: expect?,
            rest_seconds: rest_seconds?,
        })
    }

    fn required<T: DeserializeOwned>(&mut self, path: &str, value: Option<Value>) -> Option<T> {
        match value {
            Some(value) => self.read(path, value),
            None => self.fault(path, "missing"),
        }
    }

    /// An object whose values are of one type.
    fn entries<T: DeserializeOwned>(&mut self, path: &str, value: Option<Value>) -> Option<BTreeMap<String, T>> {
        let entries: Map<String, Value> = self.required(path, value)?;
        let mut read = BTreeMap::new();
        let count = entries.len();
        for (key, value) in entries {
            if let Some(value) = self.read(format!("{path}.{key}"), value) {
                read.insert(key, value);
            }
        }
        (read.len() == count).then_some(read)
    }

    fn faults(&mut self, value: Option<Value>) -> Option<Faults> {
        match value {
            None => Some(Faults::Timed(Vec::new())),
            Some(Value::Array(list)) => {
                let count = list.len();
                let mut timed: Vec<TimedFault> = Vec::new();
                for (number, value) in list.into_iter().enumerate() {
                    if let Some(fault) = self.read::<TimedFault>(format!("faults[{number}]"), value) {
                        let wrong = fault.faults().into_iter();
                        self.faults.extend(wrong.map(|message| Fault { path: format!("faults[{number}]"), message }));
                        timed.push(fault);
                    }
                }
                (timed.len() == count).then_some(Faults::Timed(timed))
            }
            Some(Value::Object(mut fields)) if fields.len() == 1 && fields.contains_key("random") => {
                let random = fields.remove("random").unwrap_or_default();
                let random: RandomFaults = self.read("faults.random", random)?;
                self.faults.extend(random.faults().into_iter().map(|fault| within("faults.random", &fault)));
                Some(Faults::Random(random))
            }
            Some(_) => self.fault("faults", "must be a list of faults, or `random:` and what to draw from"),
        }
    }

    fn expectations(&mut self, value: Option<Value>) -> Option<Vec<Expectation>> {
        let Some(value) = value else { return Some(Vec::new()) };
        let wanted: Map<String, Value> = self.read("expect", value)?;
        let count = wanted.len();
        let mut expectations = Vec::new();
        for (name, wanted) in wanted {
            let read = match wanted.as_str() {
                Some(wanted) => Expectation::parse(&name, wanted),
                None => Err("must be a comparison such as \">= 0.95\"".to_owned()),
            };
            match read {
                Ok(expectation) => expectations.push(expectation),
                Err(message) => _ = self.fault::<()>(format!("expect.{name}"), message),
            }
        }
        (expectations.len() == count).then_some(expectations)
    }

    fn cluster(&mut self, cluster: &ClusterSpec) {
        for (field, count, range) in
            [("gateways", cluster.gateways, 1..=64), ("processors", cluster.processors, 0..=64)]
        {
            if !range.contains(&count) {
                self.fault::<()>(format!("cluster.{field}"), format!("must be {range:?}, is {count}"));
            }
        }
        if !(1..=10_000).contains(&cluster.slots) {
            self.fault::<()>("cluster.slots", format!("must be 1 to 10000, is {}", cluster.slots));
        }
        for member in cluster.clocks_ahead_seconds.keys().filter(|member| !cluster.members().contains(member)) {
            self.fault::<()>("cluster.clocks_ahead_seconds", format!("there is no {member}"));
        }
        let scope = Scope::new("scenario", "cluster");
        let document = if cluster.policy.is_null() { json!({}) } else { cluster.policy.clone() };
        if let Ok(scope) = scope
            && let Err(error) = effective_policy(&document, &scope)
        {
            self.fault::<()>("cluster.policy", error.to_string());
        }
    }

    /// Whether what is to be done can be done to this cluster.
    fn feasible(&mut self, cluster: &ClusterSpec, backend: &BTreeMap<String, Work>, faults: &Faults) {
        let places: Vec<(String, FaultKind)> = match faults {
            Faults::Timed(timed) => {
                let places = timed.iter().enumerate();
                places.map(|(number, fault)| (format!("faults[{number}]"), fault.kind.clone())).collect()
            }
            Faults::Random(random) => {
                random.kinds().into_iter().map(|kind| ("faults.random.of".to_owned(), kind)).collect()
            }
        };
        for (path, kind) in places {
            if let Some(process) = kind.process().filter(|process| !cluster.members().contains(process)) {
                self.fault::<()>(&path, format!("there is no {process}"));
            }
            if let Some(missing) = kind.missing(&cluster.redis) {
                self.fault::<()>(&path, format!("{} {missing}", kind.name()));
            }
            if let FaultKind::ChangeBackend { kind, .. } = &kind
                && !backend.contains_key(kind)
            {
                self.fault::<()>(&path, format!("no handler of kind {kind:?}"));
            }
        }
        if let Faults::Timed(timed) = faults {
            let timetable = crate::fault::Timetable::new(timed.clone());
            for (earlier, later) in timetable.clashes() {
                let what = format!("{} at {} s is not over", earlier.kind, earlier.at_seconds);
                self.fault::<()>("faults", format!("{what} when {} begins at {} s", later.kind, later.at_seconds));
            }
        }
    }

    /// Whether somebody does what the load asks for.
    fn handled(&mut self, backend: &BTreeMap<String, Work>, load: &Plan) {
        for (name, stream) in &load.0 {
            for kind in stream.kinds.iter().filter(|kind| !backend.contains_key(&kind.kind)) {
                self.fault::<()>(
                    format!("load.{name}.kinds"),
                    format!("no handler of kind {:?} in backend", kind.kind),
                );
            }
        }
    }
}

/// A fault as `path: message` below this section.
fn within(section: &str, fault: &str) -> Fault {
    match fault.split_once(": ") {
        Some((path, message)) => Fault { path: format!("{section}.{path}"), message: message.to_owned() },
        None => Fault { path: section.to_owned(), message: fault.to_owned() },
    }
}

/// Serde's message about an unknown name, with the known name that is most like it.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(name) if message.starts_with("unknown ") => match nearest(name, quoted) {
            Some(like) => format!("{message}; the nearest is `{like}`"),
            None => message.to_owned(),
        },
        _ => message.to_owned(),
    }
}

/// Of these names the one most like the given one.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
}
