//! `GET /admin/decisions`: what was decided lately, newest first.
//!
//! Responsible for its parameters: each is checked and every fault is named. Must never answer a filter it does not
//! know as if it had applied it.

use portcullis_lua::{DecisionEvent, Step};

use super::asked::whole;

/// Most events one answer gives, and the most that are looked through for those a filter wants.
pub(crate) const MAX_EVENTS: u32 = 1000;

/// Events given when the caller does not say how many.
pub(crate) const DEFAULT_EVENTS: u32 = 50;

/// What may have become of a request.
pub(crate) const OUTCOMES: [&str; 3] = ["admitted", "replayed", "refused"];
/// The six steps, in their order.
pub(crate) const STEPS: [Step; 6] =
    [Step::Session, Step::RateLimit, Step::Backpressure, Step::CircuitBreaker, Step::Economics, Step::Enqueue];

/// Which decisions are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    limit: u32,
    outcome: Option<String>,
    step: Option<String>,
}

impl Filter {
    /// The parameters it knows.
    pub(crate) const PARAMETERS: [&str; 3] = ["limit", "outcome", "step"];

    /// Reads one of them.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "limit" => self.limit = whole(value, 1, MAX_EVENTS)?,
            "outcome" => self.outcome = Some(one_of(value, OUTCOMES)?),
            _ => self.step = Some(one_of(value, STEPS.map(Step::as_str))?),
        }
        Ok(())
    }

    /// How many of the newest events have to be read.
    pub(crate) fn reach(&self) -> u32 {
        if self.outcome.is_none() && self.step.is_none() { self.limit } else { MAX_EVENTS }
    }

    /// Those of the events that are wanted, in their order.
    pub(crate) fn select<'a>(&self, events: &'a [DecisionEvent]) -> Vec<&'a DecisionEvent> {
        let wanted = |event: &&DecisionEvent| {
            self.outcome.as_ref().is_none_or(|outcome| event.outcome == *outcome)
                && self.step.as_ref().is_none_or(|step| event.step.as_ref() == Some(step))
        };
        events.iter().filter(wanted).take(self.limit as usize).collect()
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self { limit: DEFAULT_EVENTS, outcome: None, step: None }
    }
}

fn one_of<const N: usize>(value: &str, words: [&str; N]) -> Result<String, String> {
    if words.contains(&value) { Ok(value.to_owned()) } else { Err(format!("must be one of {}", words.join(", "))) }
}

#[cfg(test)]
mod tests {
    use portcullis_lua::RequestOrigin;

    use super::*;
    use crate::admin::asked::tests::asked;

    fn parse(query: &[(&str, &str)]) -> Result<Filter, Vec<String>> {
        let mut filter = Filter::default();
        let read = asked(query).of_scope(&Filter::PARAMETERS, |name, value| filter.set(name, value));
        read.map(|_| filter).map_err(|refused| refused.faults.into_iter().map(|fault| fault.path).collect())
    }

    fn event(id: &str, outcome: &str, step: Option<&str>) -> DecisionEvent {
        DecisionEvent {
            id: id.to_owned(),
            at_ms: 0,
            policy_revision: 0,
            outcome: outcome.to_owned(),
            step: step.map(str::to_owned),
            code: None,
            name: None,
            retry_after_ms: 0,
            task_id: None,
            pass: None,
            pass_id: None,
            user_type: "paid".to_owned(),
            session_id: String::new(),
            principal: String::new(),
            actor: None,
            kind: String::new(),
            origin: RequestOrigin::default(),
            request_id: String::new(),
            depth: 0,
            capacity: 0,
        }
    }

    #[test]
    fn without_parameters_the_newest_fifty_are_wanted() {
        assert_eq!(parse(&[]), Ok(Filter { limit: 50, outcome: None, step: None }));
    }

    #[test]
    fn every_bad_parameter_is_named() {
        for limit in ["0", "1001", "-1", "ten", ""] {
            assert_eq!(parse(&[("limit", limit)]), Err(vec!["limit".to_owned()]), "{limit}");
        }
        let query = [("limit", "x"), ("outcome", "maybe"), ("step", "luck"), ("sort", "asc"), ("step", "session")];
        let expected = ["limit", "outcome", "step", "sort", "step"].map(str::to_owned).to_vec();
        assert_eq!(parse(&query), Err(expected));
    }

    #[test]
    fn filters_apply_before_the_limit() {
        let events = [
            event("5", "admitted", None),
            event("4", "refused", Some("rate_limit")),
            event("3", "refused", Some("backpressure")),
            event("2", "refused", Some("rate_limit")),
            event("1", "refused", Some("rate_limit")),
        ];
        let ids = |query: &[(&str, &str)]| -> Vec<String> {
            parse(query).unwrap().select(&events).iter().map(|event| event.id.clone()).collect()
        };
        assert_eq!(ids(&[("limit", "1"), ("outcome", "admitted")]), ["5"]);
        assert_eq!(ids(&[("limit", "2"), ("step", "rate_limit")]), ["4", "2"]);
        assert_eq!(ids(&[("outcome", "refused"), ("step", "backpressure")]), ["3"]);
        assert_eq!(ids(&[("limit", "3")]), ["5", "4", "3"]);
        assert_eq!(parse(&[("limit", "3")]).unwrap().reach(), 3);
        assert_eq!(parse(&[("limit", "3"), ("step", "session")]).unwrap().reach(), MAX_EVENTS);
    }
}
