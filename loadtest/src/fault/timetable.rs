//! Which fault begins and ends when.
//!
//! Responsible for times as scenario files give them, and for drawing them from a seed: the same seed is the same
//! timetable, so that what a random run found can be looked for again. Must never look at the cluster: what happens is
//! settled before it starts.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{FaultKind, Lasting, Subject};
use crate::cluster::Member;

/// How often a fault is drawn anew because its subject is in the hands of another.
const DRAWS: usize = 50;
/// Time between the end of one fault and the next of the same subject, seconds: a process has to be up again.
const REST_SECONDS: f64 = 1.5;

/// A fault and its time: the fields of the fault, `at_seconds` and `lasting_seconds`.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedFault {
    /// When it begins, seconds after the load.
    pub at_seconds: f64,
    /// How long until it is undone, seconds; `None` for what cannot be, or to the end of the run.
    pub lasting_seconds: Option<f64>,
    /// What.
    pub kind: FaultKind,
}

impl TimedFault {
    /// Everything wrong with its times.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let name = self.kind.name();
        if !(self.at_seconds.is_finite() && self.at_seconds >= 0.0) {
            faults.push(format!("at_seconds must not be negative, is {}", self.at_seconds));
        }
        match (self.kind.lasting(), self.lasting_seconds) {
            (Lasting::Required, None) => faults.push(format!("{name} needs lasting_seconds")),
            (Lasting::Never, Some(_)) => faults.push(format!("{name} cannot be undone: it takes no lasting_seconds")),
            (_, Some(seconds)) if !(seconds.is_finite() && seconds > 0.0) => {
                faults.push(format!("lasting_seconds must be above 0, is {seconds}"));
            }
            _ => {}
        }
        faults
    }

    fn ends_at(&self) -> Option<f64> {
        self.lasting_seconds.map(|lasting| self.at_seconds + lasting)
    }
}

impl<'de> Deserialize<'de> for TimedFault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut fields = Map::<String, Value>::deserialize(deserializer)?;
        let mut seconds = |name: &str| match fields.remove(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| D::Error::custom(format!("{name} must be a number"))),
        };
        let at_seconds = seconds("at_seconds")?.ok_or_else(|| D::Error::missing_field("at_seconds"))?;
        let lasting_seconds = seconds("lasting_seconds")?;
        let kind = serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)?;
        Ok(Self { at_seconds, lasting_seconds, kind })
    }
}

impl Serialize for TimedFault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serde_json::to_value(&self.kind).map_err(serde::ser::Error::custom)?;
        fields["at_seconds"] = self.at_seconds.into();
        if let Some(lasting) = self.lasting_seconds {
            fields["lasting_seconds"] = lasting.into();
        }
        fields.serialize(serializer)
    }
}

/// Faults to be drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomFaults {
    /// A fault begins about this often, seconds.
    pub every_seconds: f64,
    /// How long each lasts that has to be undone, seconds: from and to.
    pub lasting_seconds: [f64; 2],
    /// When the first may begin, seconds after the load.
    #[serde(default)]
    pub from_seconds: f64,
    /// By when every one is undone, seconds after the load.
    pub until_seconds: f64,
    /// What is drawn from, each as likely: names of faults, or faults with fields. Where `process` is left out it is
    /// drawn too.
    pub of: Vec<Value>,
}

impl RandomFaults {
    /// Everything wrong with it, as `field: what`.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let [least, most] = self.lasting_seconds;
        if !(self.every_seconds.is_finite() && self.every_seconds >= 0.1) {
            faults.push(format!("every_seconds: must be at least 0.1, is {}", self.every_seconds));
        }
        if !(least > 0.0 && most >= least && most.is_finite()) {
            faults.push(format!("lasting_seconds: {least} to {most} is no range of times"));
        }
        if !(self.from_seconds >= 0.0 && self.until_seconds > self.from_seconds && self.until_seconds <= 86_400.0) {
            let (from, until) = (self.from_seconds, self.until_seconds);
            faults.push(format!("until_seconds: {from} to {until} is no range of times"));
        }
        if self.of.is_empty() {
            faults.push("of: nothing to draw from".to_owned());
        }
        for (number, template) in self.of.iter().enumerate() {
            if let Err(reason) = instance(template, Member::Gateway(0)) {
                faults.push(format!("of[{number}]: {reason}"));
            }
        }
        faults
    }

    /// Every kind it may draw, each once, done to the first gateway where it is done to a process.
    #[must_use]
    pub fn kinds(&self) -> Vec<FaultKind> {
        self.of.iter().filter_map(|template| instance(template, Member::Gateway(0)).ok()).collect()
    }

    /// Draws a timetable: by this seed, for these processes. No two faults of one subject overlap.
    #[must_use]
    pub fn draw(&self, seed: u64, members: &[Member]) -> Vec<TimedFault> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut drawn: Vec<TimedFault> = Vec::new();
        let mut at_seconds = self.from_seconds;
        loop {
            at_seconds += self.every_seconds * random.random_range(0.5..1.5);
            if at_seconds >= self.until_seconds || members.is_empty() {
                return drawn;
            }
            let free = (0..DRAWS).find_map(|_| {
                let fault = self.draw_one(&mut random, at_seconds, members)?;
                drawn.iter().all(|other| !in_the_way(other, &fault)).then_some(fault)
            });
            drawn.extend(free);
        }
    }

    fn draw_one(&self, random: &mut StdRng, at_seconds: f64, members: &[Member]) -> Option<TimedFault> {
        let template = &self.of[random.random_range(0..self.of.len())];
        let kind = instance(template, members[random.random_range(0..members.len())]).ok()?;
        let [least, most] = self.lasting_seconds;
        let lasting = random.random_range(least..=most).min(self.until_seconds - at_seconds);
        // To the millisecond, so that it can be written down.
        let rounded = |seconds: f64| (seconds * 1000.0).round().max(1.0) / 1000.0;
        let lasting_seconds = (kind.lasting() != Lasting::Never).then(|| rounded(lasting));
        Some(TimedFault { at_seconds: rounded(at_seconds), lasting_seconds, kind })
    }
}

/// The fault a template stands for, done to this process where it names none.
fn instance(template: &Value, process: Member) -> Result<FaultKind, String> {
    let mut fields = match template {
        Value::String(name) => Map::from_iter([("do".to_owned(), Value::from(name.as_str()))]),
        Value::Object(fields) => fields.clone(),
        _ => return Err("must be the name of a fault, or a fault".to_owned()),
    };
    let name = fields.get("do").and_then(Value::as_str).unwrap_or_default();
    if ["kill", "stop", "pause", "partition", "shift_clock"].contains(&name) && !fields.contains_key("process") {
        fields.insert("process".to_owned(), Value::from(process.to_string()));
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

/// Whether the end of one of the two could undo the other, `earlier` having begun first.
fn in_the_way(earlier: &TimedFault, later: &TimedFault) -> bool {
    let (Some(one), Some(other)) = (earlier.kind.subject(), later.kind.subject()) else { return false };
    let clash = match (one, other) {
        (Subject::Link(None), Subject::Link(_))
        | (Subject::Link(_), Subject::Link(None))
        | (Subject::Fleet, Subject::Process(_))
        | (Subject::Process(_), Subject::Fleet) => true,
        (one, other) => one == other,
    };
    // What has no end of its own goes on to the end of the run, or is over at once.
    let until = match (earlier.ends_at(), earlier.kind.lasting()) {
        (Some(until), _) => until,
        (None, Lasting::Never) => earlier.at_seconds,
        (None, _) => f64::INFINITY,
    };
    clash && later.at_seconds < until + REST_SECONDS
}

/// The faults of one run, in the order in which they begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timetable {
    faults: Vec<TimedFault>,
}

/// A fault begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When, µs after the load.
    pub at_us: u64,
    /// Number of the fault in the timetable.
    pub fault: usize,
    /// Whether it begins.
    pub begins: bool,
}

impl Timetable {
    /// These faults.
    #[must_use]
    pub fn new(mut faults: Vec<TimedFault>) -> Self {
        faults.sort_by(|a, b| a.at_seconds.total_cmp(&b.at_seconds));
        Self { faults }
    }

    /// The faults, in the order in which they begin.
    #[must_use]
    pub fn faults(&self) -> &[TimedFault] {
        &self.faults
    }

    /// Pairs of faults whose ends would undo one another.
    #[must_use]
    pub fn clashes(&self) -> Vec<(&TimedFault, &TimedFault)> {
        let pairs = self
            .faults
            .iter()
            .enumerate()
            .flat_map(|(number, earlier)| self.faults[number + 1..].iter().map(move |later| (earlier, later)));
        pairs.filter(|(earlier, later)| in_the_way(earlier, later)).collect()
    }

    /// Everything that happens, in order; at the same time ends come before beginnings.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        let us = |seconds: f64| (seconds * 1e6) as u64;
        let mut moments = Vec::new();
        for (fault, timed) in self.faults.iter().enumerate() {
            moments.push(Moment { at_us: us(timed.at_seconds), fault, begins: true });
            moments.extend(timed.ends_at().map(|end| Moment { at_us: us(end), fault, begins: false }));
        }
        moments.sort_by_key(|moment| (moment.at_us, moment.begins));
        moments
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members() -> Vec<Member> {
        vec![Member::Gateway(0), Member::Gateway(1), Member::Processor(0)]
    }

    fn chaos() -> RandomFaults {
        RandomFaults {
            every_seconds: 1.0,
            lasting_seconds: [0.5, 3.0],
            from_seconds: 2.0,
            until_seconds: 60.0,
            of: vec![json!("kill"), json!("pause_redis"), json!("flush_scripts"), json!({"do": "partition"})],
        }
    }

    #[test]
    fn a_seed_is_a_timetable() {
        let (one, same) = (chaos().draw(7, &members()), chaos().draw(7, &members()));
        assert_eq!(one, same);
        assert!(one.len() > 30, "{} faults in a minute", one.len());
        assert_ne!(one, chaos().draw(8, &members()));
    }

    #[test]
    fn drawn_faults_stay_within_their_time_and_out_of_each_others_way() {
        for seed in 0..200 {
            let timetable = Timetable::new(chaos().draw(seed, &members()));
            assert_eq!(timetable.clashes(), []);
            for fault in timetable.faults() {
                assert_eq!(fault.faults(), Vec::<String>::new());
                let until = fault.ends_at().unwrap_or(fault.at_seconds);
                assert!(fault.at_seconds >= 2.0 && until <= 60.002, "{fault:?}");
            }
        }
    }

    #[test]
    fn a_fault_is_written_as_it_is_read() {
        let text = "{at_seconds: 2, lasting_seconds: 1.5, do: kill, process: gateway-1}";
        let fault: TimedFault = serde_yaml_ng::from_str(text).expect("a fault");
        assert_eq!(fault.kind, FaultKind::Kill { process: Member::Gateway(1) });
        let value = serde_json::to_value(&fault).expect("a value");
        assert_eq!(serde_json::from_value::<TimedFault>(value).expect("a fault"), fault);
        for wrong in [
            "{do: kill, process: gateway-1}",
            "{at_seconds: 1, do: kill, process: redis}",
            "{at_seconds: 1, do: pause_redis, process: gateway-1}",
            "{at_seconds: soon, do: pause_redis}",
        ] {
            assert!(serde_yaml_ng::from_str::<TimedFault>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_begins_ends_and_ends_come_first() {
        let fault =
            |at_seconds, lasting_seconds| TimedFault { at_seconds, lasting_seconds, kind: FaultKind::PauseRedis {} };
        let timetable = Timetable::new(vec![fault(3.0, Some(1.0)), fault(1.0, Some(2.0))]);
        let order: Vec<_> =
            timetable.moments().iter().map(|moment| (moment.at_us, moment.fault, moment.begins)).collect();
        assert_eq!(order, [(1_000_000, 0, true), (3_000_000, 0, false), (3_000_000, 1, true), (4_000_000, 1, false)]);
        assert_eq!(timetable.clashes().len(), 1, "no time to be up again");
    }

    #[test]
    fn what_lasts_must_say_how_long_and_what_does_not_must_not() {
        let fault = |lasting_seconds, kind| TimedFault { at_seconds: 1.0, lasting_seconds, kind };
        assert_eq!(fault(None, FaultKind::PauseRedis {}).faults().len(), 1);
        assert_eq!(fault(Some(1.0), FaultKind::FlushScripts {}).faults().len(), 1);
        assert_eq!(fault(None, FaultKind::LosePubsub {}).faults(), Vec::<String>::new());
        assert_eq!(fault(Some(0.0), FaultKind::PauseRedis {}).faults().len(), 1);
    }
}
