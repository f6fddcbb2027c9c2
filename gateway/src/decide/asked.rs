//! What a request for a decision asks: about which request, and on which terms.
//!
//! Responsible for reading it where each proxy writes it, and nowhere else: what one proxy sets, a client behind another
//! may have written. Must never choose between two readings.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::admission::pass::Outcome;
use crate::refusal::RequestFault;

use super::profile::{self, Profile};
use super::{Subject, below};

/// Longest place that may be asked for, seconds.
const MAX_LEASE_SECONDS: u64 = 3600;

const FORWARDED: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-uri"), HeaderName::from_static("x-forwarded-method")];
const ORIGINAL: [HeaderName; 2] =
    [HeaderName::from_static("x-original-uri"), HeaderName::from_static("x-original-method")];

/// A request for a decision.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Which request it is about; `None`: that was not said.
    pub(super) subject: Option<Subject>,
    /// How long a place it wants; `None`: none.
    pub(super) lease: Option<Duration>,
}

impl Asked {
    /// Reads it, or says all that is wrong.
    pub(super) fn of(parts: &Parts) -> Result<Self, Vec<RequestFault>> {
        let original = below(parts.uri.path()).and_then(profile::original_path);
        if let Some(path) = original {
            // The query is the original request's as well.
            let path = if path.is_empty() { "/" } else { path };
            let subject = Subject::new(Some(parts.method.to_string()), path);
            let subject = subject.map_err(|message| vec![RequestFault::new("path", message)])?;
            return Ok(Self { subject: Some(subject), lease: None });
        }
        let mut faults = Vec::new();
        if let Some(name) = profile::name(parts).filter(|name| Profile::named(name).is_none()) {
            let names = Profile::NAMES.map(|(name, _)| name).join(", ");
            faults.push(RequestFault::new("profile", format!("must be one of {names}; not {name:?}")));
        }
        let lease = lease(parts, &mut faults);
        let subject = subject(Profile::of(parts).unwrap_or(Profile::Plain), &parts.headers, &mut faults);
        if faults.is_empty() { Ok(Self { subject, lease }) } else { Err(faults) }
    }
}

fn lease(parts: &Parts, faults: &mut Vec<RequestFault>) -> Option<Duration> {
    let mut lease = None;
    let mut seen = Vec::new();
    for (name, value) in profile::pairs(parts) {
        if seen.contains(&name) {
            faults.push(RequestFault::new(name.clone(), "must be given once"));
        }
        match name.as_str() {
            "profile" => {}
            "lease_seconds" => match value.parse() {
                Ok(seconds @ 1..=MAX_LEASE_SECONDS) => lease = Some(Duration::from_secs(seconds)),
                _ => {
                    let message = format!("must be a whole number of seconds from 1 to {MAX_LEASE_SECONDS}");
                    faults.push(RequestFault::new("lease_seconds", message));
                }
            },
            _ => faults.push(RequestFault::new(name.clone(), "is not known; profile and lease_seconds are")),
        }
        seen.push(name);
    }
    lease
}

/// The request as this proxy describes it.
fn subject(profile: Profile, headers: &HeaderMap, faults: &mut Vec<RequestFault>) -> Option<Subject> {
    match profile {
        // It describes the request by its own path and method.
        Profile::Envoy => None,
        Profile::Nginx => described(&ORIGINAL, headers, faults),
        Profile::Traefik | Profile::Caddy => described(&FORWARDED, headers, faults),
        Profile::Plain => {
            let ways = [&ORIGINAL, &FORWARDED].map(|names| described(names, headers, faults));
            match ways {
                [Some(original), Some(forwarded)] if original != forwarded => {
                    faults.push(RequestFault::new("X-Original-URI", "says another request than X-Forwarded-Uri does"));
                    None
                }
                [original, forwarded] => original.or(forwarded),
            }
        }
    }
}

fn described(
    [uri, method]: &[HeaderName; 2],
    headers: &HeaderMap,
    faults: &mut Vec<RequestFault>,
) -> Option<Subject> {
    let [uri_line, method_line] = [uri, method].map(|name| {
        let mut lines = headers.get_all(name).iter();
        let (line, another) = (lines.next(), lines.next());
        if another.is_some() {
            faults.push(RequestFault::new(name.as_str(), "must be given once"));
        }
        // What is no UTF-8 cannot match by accident.
        line.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
    });
    let Some(target) = uri_line.filter(|target| !target.is_empty()) else {
        if method_line.is_some_and(|method| !method.is_empty()) {
            faults.push(RequestFault::new(uri.as_str(), format!("is required beside {method}")));
        }
        return None;
    };
    match Subject::new(method_line, &target) {
        Ok(subject) => Some(subject),
        Err(message) => {
            faults.push(RequestFault::new(uri.as_str(), message));
            None
        }
    }
}

/// How a request is said to have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    outcome: Option<Outcome>,
}

impl Said {
    /// Whether it says something about the application, which breakers go by.
    pub(super) fn is_judgement(self) -> bool {
        self.outcome.is_some()
    }

    /// What is taken from it.
    pub(super) fn of_pass(self) -> Outcome {
        self.outcome.unwrap_or(Outcome::Succeeded)
    }
}

/// `?outcome=` of the end of a pass; nothing is said where it is left out, and it is taken to have gone well.
pub(super) fn outcome(parts: &Parts) -> Result<Said, Vec<RequestFault>> {
    let pairs = profile::pairs(parts);
    let outcome = match pairs.as_slice() {
        [] => None,
        [(name, value)] if name == "outcome" => match value.as_str() {
            "succeeded" => Some(Outcome::Succeeded),
            "failed" => Some(Outcome::Failed),
            "abandoned" => Some(Outcome::Abandoned),
            _ => return Err(vec![RequestFault::new("outcome", "must be one of succeeded, failed, abandoned")]),
        },
        _ => return Err(vec![RequestFault::new("query", "may have `outcome`, once, and nothing else")]),
    };
    Ok(Said { outcome })
}
