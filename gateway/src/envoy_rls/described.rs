//! The one request that all descriptors of a question describe.
//!
//! Responsible for reading the descriptors together and for refusing what has two readings or none. Must never pass
//! over what it does not know: a limit that somebody believes to be in force would not be.

use std::net::IpAddr;

use portcullis_config::{Scope, UserType, nearest};

use super::message::{RateLimitDescriptor, RateLimitRequest};
use crate::admission::enqueue;
use crate::admission::session::Vouched;
use crate::client_address::ClientAddress;
use crate::decide::RequestLine;

/// Most descriptors of one question.
const MAX_DESCRIPTORS: usize = 32;
/// Longest session id or principal, bytes.
const MAX_NAME: usize = 256;

/// What is told by a key: where it is kept, and its other name if it has one.
const KEYS: [(&str, &str); 8] = [
    ("user_type", "user_type"),
    ("session", "session_id"),
    ("principal", "principal"),
    ("client_address", "remote_address"),
    ("agent", "agent"),
    ("kind", "route_class"),
    ("path", "path"),
    ("method", "method"),
];

/// Said only so that a proxy's own configuration can tell its rules apart.
const GENERIC: &str = "generic_key";

/// The request, its caller and its weight.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) caller: Vouched,
    pub(super) target: Target,
    /// As how many requests it counts.
    pub(super) hits: u32,
}

/// What the request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A route class or kind, by name.
    Named(String),
    /// Something with a path, or nothing that was said.
    Line(Option<RequestLine>),
}

/// What was said, by the place in [`KEYS`].
#[derive(Debug, Default)]
struct Told([Option<String>; KEYS.len()]);

impl Described {
    /// Reads a question; the error says what is wrong with it.
    pub(super) fn of(request: &RateLimitRequest) -> Result<Self, String> {
        let count = request.descriptors.len();
        if !(1..=MAX_DESCRIPTORS).contains(&count) {
            return Err(format!("there must be 1 to {MAX_DESCRIPTORS} descriptors, not {count}"));
        }
        let mut told = Told::default();
        for entry in request.descriptors.iter().flat_map(|descriptor| &descriptor.entries) {
            told.add(&entry.key, &entry.value)?;
        }
        let hits = hits(request)?;
        let target = told.target()?;
        Ok(Self { caller: told.caller(&request.domain)?, target, hits })
    }
}

impl Told {
    fn add(&mut self, key: &str, value: &str) -> Result<(), String> {
        if key == GENERIC {
            return Ok(());
        }
        let Some(place) = KEYS.iter().position(|(name, alias)| *name == key || *alias == key) else {
            let known = KEYS.iter().flat_map(|(name, alias)| [*name, *alias]).chain([GENERIC]);
            let like = nearest(key, known).unwrap_or_default();
            return Err(format!("unknown descriptor key {key:?}; the nearest known one is {like:?}"));
        };
        match &self.0[place] {
            Some(before) if before != value => {
                Err(format!("{key} is {before:?} and {value:?}: all descriptors of a question describe one request"))
            }
            _ => {
                self.0[place] = Some(value.to_owned());
                Ok(())
            }
        }
    }

    /// What was said; nothing is said by an empty value.
    fn take(&mut self, key: &str) -> Option<String> {
        let place = KEYS.iter().position(|(name, _)| *name == key)?;
        self.0[place].take().filter(|value| !value.is_empty())
    }

    fn target(&mut self) -> Result<Target, String> {
        let (kind, path, method) = (self.take("kind"), self.take("path"), self.take("method"));
        match (kind, path, method) {
            (Some(_), Some(_), _) => Err("kind and path are both given: either names the route class".to_owned()),
            (Some(kind), None, _) => match enqueue::kind_fault(&kind) {
                Some(fault) => Err(format!("kind {}", fault.message)),
                None => Ok(Target::Named(kind)),
            },
            (None, Some(path), method) => {
                let line = RequestLine::new(method, &path).map_err(|message| format!("path {message}"))?;
                Ok(Target::Line(Some(line)))
            }
            (None, None, Some(_)) => Err("method is given without a path".to_owned()),
            (None, None, None) => Ok(Target::Line(None)),
        }
    }

    fn caller(&mut self, domain: &str) -> Result<Vouched, String> {
        let user_type = self.take("user_type").map(UserType::new).transpose();
        let address = match self.take("client_address") {
            Some(text) => {
                let address: IpAddr =
                    text.parse().map_err(|_| format!("client_address {text:?} is not an IP address"))?;
                ClientAddress::Known(address.to_canonical())
            }
            None => ClientAddress::Unknown,
        };
        Ok(Vouched {
            scope: scope(domain)?,
            user_type: user_type.map_err(|error| format!("user_type {error}"))?,
            session_id: self.name("session", |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))?,
            principal: self.name("principal", |c| !c.is_control())?,
            actor: self.name("agent", |c| !c.is_control())?,
            address,
        })
    }

    fn name(&mut self, key: &str, fits: impl Fn(char) -> bool) -> Result<Option<String>, String> {
        let name = self.take(key);
        if name.as_deref().is_some_and(|name| name.len() > MAX_NAME || !name.chars().all(&fits)) {
            return Err(format!("{key} must have at most {MAX_NAME} bytes and only characters that a name has"));
        }
        Ok(name)
    }
}

/// `tenant/project`; `None`, for the gateway's own scope, for a name of any other form.
fn scope(domain: &str) -> Result<Option<Scope>, String> {
    let Some((tenant, project)) = domain.split_once('/') else { return Ok(None) };
    Scope::new(tenant, project).map(Some).map_err(|error| format!("domain {domain:?}: {error}"))
}

/// As how many requests it counts: what its descriptors say goes before what the question says.
fn hits(request: &RateLimitRequest) -> Result<u32, String> {
    let mut hits = None;
    for RateLimitDescriptor { limit, hits_addend, is_negative_hits, .. } in &request.descriptors {
        if limit.is_some() {
            return Err("limit is given: the limits are those of the policy".to_owned());
        }
        if *is_negative_hits {
            return Err("is_negative_hits is set: what was consumed is not given back".to_owned());
        }
        match (hits, hits_addend) {
            (Some(before), Some(own)) if before != *own => {
                return Err(format!("hits_addend is {before} and {own}: the descriptors describe one request"));
            }
            (_, Some(own)) => hits = Some(*own),
            (_, None) => {}
        }
    }
    let hits = hits.unwrap_or(u64::from(request.hits_addend));
    Ok(u32::try_from(hits).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests;
