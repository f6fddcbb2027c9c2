//! What a request for a decision asks: about which request, and on which terms.
//!
//! Responsible for reading it where each proxy writes it, and nowhere else: what one proxy sets, a client behind
//! another may have written. Must never choose between two readings.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::admission::pass::Outcome;
use crate::refusal::RequestFault;

use super::profile::{self, Profile};
use super::{RequestLine, below};

/// Longest place that may be asked for, seconds.
pub(crate) const MAX_LEASE_SECONDS: u64 = 3600;

/// How a request may be said to have ended.
pub(crate) const OUTCOMES: [(&str, Outcome); 3] =
    [("succeeded", Outcome::Succeeded), ("failed", Outcome::Failed), ("abandoned", Outcome::Abandoned)];

const NOT_AN_ASKER: &str = "may only be asked for by the operator's own proxies (PORTCULLIS_DECIDE_CIDRS)";

const FORWARDED: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-uri"), HeaderName::from_static("x-forwarded-method")];
const ORIGINAL: [HeaderName; 2] =
    [HeaderName::from_static("x-original-uri"), HeaderName::from_static("x-original-method")];

/// A request for a decision.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Which request it is about; `None`: that was not said.
    pub(super) line: Option<RequestLine>,
    /// How long a place it wants; `None`: none.
    pub(super) lease: Option<Duration>,
}

impl Asked {
    /// Reads it, or says all that is wrong; `may_hold`: whether a place may be asked for.
    pub(super) fn of(parts: &Parts, may_hold: bool) -> Result<Self, Vec<RequestFault>> {
        let original = below(parts.uri.path()).and_then(profile::original_path);
        if let Some(path) = original {
            // The query is the original request's as well.
            let path = if path.is_empty() { "/" } else { path };
            let line = RequestLine::new(Some(parts.method.to_string()), path);
            let line = line.map_err(|message| vec![RequestFault::new("path", message)])?;
            return Ok(Self { line: Some(line), lease: None });
        }
        let mut faults = Vec::new();
        if let Some(name) = profile::name(parts).filter(|name| Profile::named(name).is_none()) {
            let names = Profile::NAMES.map(|(name, _)| name).join(", ");
            faults.push(RequestFault::new("profile", format!("must be one of {names}; not {name:?}")));
        }
        let lease = lease(parts, may_hold, &mut faults);
        let line = line(Profile::of(parts).unwrap_or(Profile::Plain), &parts.headers, &mut faults);
        if faults.is_empty() { Ok(Self { line, lease }) } else { Err(faults) }
    }
}

fn lease(parts: &Parts, may_hold: bool, faults: &mut Vec<RequestFault>) -> Option<Duration> {
    let mut lease = None;
    let mut seen = Vec::new();
    for (name, value) in profile::pairs(parts) {
        if seen.contains(&name) {
            faults.push(RequestFault::new(name.clone(), "must be given once"));
        }
        match name.as_str() {
            "profile" => {}
            "lease_seconds" if !may_hold => faults.push(RequestFault::new(name.clone(), NOT_AN_ASKER)),
            "lease_seconds" => {
                lease = value.parse().ok().filter(|seconds| (1..=MAX_LEASE_SECONDS).contains(seconds));
                if lease.is_none() {
                    let message = format!("must be a whole number of seconds from 1 to {MAX_LEASE_SECONDS}");
                    faults.push(RequestFault::new("lease_seconds", message));
                }
            }
            _ => faults.push(RequestFault::new(name.clone(), "is not known; profile and lease_seconds are")),
        }
        seen.push(name);
    }
    lease.map(Duration::from_secs)
}

/// The request as this proxy describes it.
fn line(profile: Profile, headers: &HeaderMap, faults: &mut Vec<RequestFault>) -> Option<RequestLine> {
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
) -> Option<RequestLine> {
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
    match RequestLine::new(method_line, &target) {
        Ok(line) => Some(line),
        Err(message) => {
            faults.push(RequestFault::new(uri.as_str(), message));
            None
        }
    }
}

/// `?outcome=` of the end of a pass; `None`: nothing is said about the application.
pub(super) fn outcome(parts: &Parts) -> Result<Option<Outcome>, Vec<RequestFault>> {
    let pairs = profile::pairs(parts);
    let fault = |path: &str, message: String| Err(vec![RequestFault::new(path, message)]);
    match pairs.as_slice() {
        [] => Ok(None),
        [(name, value)] if name == "outcome" => {
            let said = OUTCOMES.into_iter().find(|(known, _)| known == value);
            let names = || OUTCOMES.map(|(name, _)| name).join(", ");
            said.map_or_else(|| fault(name, format!("must be one of {}", names())), |(_, outcome)| Ok(Some(outcome)))
        }
        _ => fault("query", "may have `outcome`, once, and nothing else".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn asked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Asked, Vec<String>> {
        let request = Request::builder().method(method).uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let asked = Asked::of(&request.body(()).unwrap().into_parts().0, true);
        asked.map_err(|faults| faults.into_iter().map(|fault| fault.path).collect())
    }

    fn line(method: Option<&str>, target: &str) -> RequestLine {
        RequestLine::new(method.map(str::to_owned), target).unwrap()
    }

    const ORIGINALLY: [(&str, &str); 2] = [("x-original-uri", "/a?b=c"), ("x-original-method", "PUT")];
    const FORWARDED: [(&str, &str); 2] = [("x-forwarded-uri", "/d"), ("x-forwarded-method", "POST")];

    #[test]
    fn each_proxy_describes_the_request_in_its_own_way() {
        let both = [ORIGINALLY, FORWARDED].concat();
        let read = |uri: &str| asked("GET", uri, &both).unwrap().line;
        assert_eq!(read("/v1/decide?profile=nginx"), Some(line(Some("PUT"), "/a")));
        assert_eq!(read("/v1/decide?profile=traefik"), Some(line(Some("POST"), "/d")));
        assert_eq!(read("/v1/decide?profile=caddy"), Some(line(Some("POST"), "/d")));
        assert_eq!(read("/v1/decide?profile=envoy"), None, "its prefix is missing: guarded");
        let envoy = asked("PATCH", "/v1/decide/envoy/e/f?profile=plain&lease_seconds=0", &both).unwrap();
        assert_eq!(envoy, Asked { line: Some(line(Some("PATCH"), "/e/f")), lease: None });
        assert_eq!(asked("GET", "/v1/decide/envoy", &[]).unwrap().line, Some(line(Some("GET"), "/")));
    }

    #[test]
    fn plainly_either_way_will_do_but_not_two_that_differ() {
        let read = |headers: &[(&str, &str)]| asked("POST", "/v1/decide", headers).map(|asked| asked.line);
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&ORIGINALLY), Ok(Some(line(Some("PUT"), "/a"))));
        assert_eq!(read(&FORWARDED), Ok(Some(line(Some("POST"), "/d"))));
        assert_eq!(read(&FORWARDED[..1]), Ok(Some(line(None, "/d"))));
        assert_eq!(read(&[ORIGINALLY, FORWARDED].concat()), Err(vec!["X-Original-URI".to_owned()]));
    }

    #[test]
    fn what_has_two_readings_or_none_is_refused() {
        let faults = |uri: &str, headers: &[(&str, &str)]| asked("GET", uri, headers).unwrap_err();
        assert_eq!(faults("/v1/decide?profile=squid&lease_seconds=0&x=1", &[]), ["profile", "lease_seconds", "x"]);
        assert_eq!(faults("/v1/decide?profile=nginx&profile=plain", &[]), ["profile"]);
        let twice = [("x-original-uri", "/a"), ("x-original-uri", "/b")];
        assert_eq!(faults("/v1/decide?profile=nginx", &twice), ["x-original-uri"]);
        assert_eq!(faults("/v1/decide?profile=caddy", &FORWARDED[1..]), ["x-forwarded-uri"]);
        assert_eq!(faults("/v1/decide?profile=nginx", &[("x-original-uri", "/a#b")]), ["x-original-uri"]);
    }

    #[test]
    fn a_place_lasts_as_long_as_was_asked_for_within_bounds() {
        let lease = |query: &str| asked("GET", &format!("/v1/decide{query}"), &[]).map(|asked| asked.lease);
        assert_eq!(lease(""), Ok(None));
        assert_eq!(lease("?lease_seconds=3600"), Ok(Some(Duration::from_secs(3600))));
        for query in ["?lease_seconds=", "?lease_seconds=0", "?lease_seconds=3601", "?lease_seconds=1.5"] {
            assert!(lease(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_place_is_for_those_who_may_hold_one_and_a_plain_question_is_for_anybody() {
        let asked = |query: &str| {
            let request = Request::get(format!("/v1/decide{query}")).header("x-original-uri", "/a").body(()).unwrap();
            let asked = Asked::of(&request.into_parts().0, false).map(|asked| asked.lease);
            asked.map_err(|faults| faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>())
        };
        assert_eq!(asked("?profile=nginx"), Ok(None));
        for query in ["?lease_seconds=60", "?profile=plain&lease_seconds=0"] {
            assert_eq!(asked(query), Err(vec!["lease_seconds".to_owned()]), "{query}");
        }
    }

    #[test]
    fn the_profile_is_named_by_the_path_or_the_query_and_by_no_header() {
        let profile = |uri: &str| {
            let request = Request::get(uri).header("x-portcullis-profile", "nginx").body(()).unwrap();
            Profile::of(&request.into_parts().0)
        };
        assert_eq!(profile("/v1/decide"), Some(Profile::Plain));
        assert_eq!(profile("/v1/decide?profile=traefik"), Some(Profile::Traefik));
        assert_eq!(profile("/v1/decide?profile=squid"), Some(Profile::Plain));
        assert_eq!(profile("/v1/decide/envoy/x?profile=plain"), Some(Profile::Envoy));
        assert_eq!(profile("/v1/decide/envoyx"), None);
        assert_eq!(profile("/v1/decided"), None);
    }

    #[test]
    fn an_end_says_one_outcome_or_none() {
        let said =
            |query: &str| outcome(&Request::delete(format!("/v1/decide/x{query}")).body(()).unwrap().into_parts().0);
        assert_eq!(said("").unwrap(), None);
        assert_eq!(said("?outcome=failed").unwrap(), Some(Outcome::Failed));
        for query in ["?outcome=", "?outcome=ok", "?result=failed", "?outcome=failed&outcome=failed"] {
            assert!(said(query).is_err(), "{query}");
        }
    }
}
