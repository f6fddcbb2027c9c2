//! The trace a request belongs to: W3C Trace Context, or what a load balancer of AWS says instead.
//!
//! Responsible for a `traceparent` and `tracestate` that any tracer reads, whatever the client sent. Must never pass on
//! what is malformed: a handler that takes a trace over would lose the request's own.

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderName};

/// Where the trace goes on, in queues and towards upstreams.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What each tracer on the way adds to it.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// How an Application Load Balancer names the request.
const AMAZON: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Longest `tracestate` kept, bytes: as much as the specification wants propagated at least.
const MAX_STATE: usize = 512;
/// Most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// Members longer than this go first when there is too much, bytes.
const LONG_MEMBER: usize = 128;

/// A well-formed trace context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    /// `00-TRACE-PARENT-FLAGS`.
    pub(crate) traceparent: String,
    /// Only with a `traceparent` that the client sent.
    pub(crate) tracestate: Option<String>,
}

impl TraceContext {
    /// The trace of a request with these headers: the client's, else that of the balancer's `Root`, else a new one if
    /// what was sent cannot be read. `None`: nobody speaks of one.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut sent = headers.get_all(TRACEPARENT).iter();
        let (first, more) = (sent.next(), sent.next().is_some());
        if let Some(value) = first.filter(|_| !more)
            && let Some(traceparent) = value.to_str().ok().and_then(w3c)
        {
            return Some(Self { traceparent, tracestate: tracestate(headers) });
        }
        let amazon = headers.get(AMAZON);
        if first.is_none() && amazon.is_none() {
            return None;
        }
        let derived = amazon.and_then(|value| value.to_str().ok()).and_then(of_amazon);
        Some(Self { traceparent: derived.unwrap_or_else(new_trace), tracestate: None })
    }
}

/// A `traceparent` in the shape of version 00. Of a later version the part that version 00 has, as the specification
/// asks (§ 4.3, "Versioning of traceparent").
fn w3c(text: &str) -> Option<String> {
    const LENGTH: usize = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".len();
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let parts: Vec<&str> = known.split('-').collect();
    let &[version, trace, parent, flags] = &parts[..] else { return None };
    let well_formed = [(version, 2), (trace, 32), (parent, 16), (flags, 2)].into_iter().all(is_hex);
    let of_its_version = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    if !well_formed || version == "ff" || !of_its_version || is_zero(trace) || is_zero(parent) {
        return None;
    }
    Some(format!("00-{trace}-{parent}-{flags}"))
}

/// The trace of `Root=1-TIME-UNIQUE;Parent=…;Sampled=…`, whose two parts together are as long as a trace id.
fn of_amazon(text: &str) -> Option<String> {
    let field = |wanted: &str| {
        let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| value).next()
    };
    let (time, unique) = field("Root")?.strip_prefix("1-")?.split_once('-')?;
    if !is_hex((time, 8)) || !is_hex((unique, 24)) || (is_zero(time) && is_zero(unique)) {
        return None;
    }
    let parent = field("Parent").filter(|parent| is_hex((parent, 16)) && !is_zero(parent));
    let parent = parent.map_or_else(|| format!("{:016x}", random_bits()), str::to_owned);
    let flags = if field("Sampled") == Some("1") { "01" } else { "00" };
    Some(format!("00-{time}{unique}-{parent}-{flags}"))
}

/// A trace that begins here, not sampled.
fn new_trace() -> String {
    format!("00-{:032x}-{:016x}-00", ulid::Ulid::generate().0, random_bits())
}

/// The random end of a ULID; zero is no valid id.
fn random_bits() -> u64 {
    (ulid::Ulid::generate().0 as u64).max(1)
}

fn is_hex((text, length): (&str, usize)) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_zero(hex: &str) -> bool {
    hex.bytes().all(|digit| digit == b'0')
}

/// The members that fit, the newest of them first as they came. Where there is too much, long members go first and then
/// the oldest (§ 3.3.1.5, "Limits").
fn tracestate(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    let members = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| is_member(member));
    let members: Vec<&str> = members.collect();
    let total: usize = members.iter().map(|member| member.len() + 1).sum();
    let longest = if total > MAX_STATE + 1 { LONG_MEMBER } else { MAX_STATE };
    let mut state = String::new();
    for member in members.into_iter().filter(|member| member.len() <= longest).take(MAX_MEMBERS) {
        let separator = if state.is_empty() { "" } else { "," };
        if state.len() + separator.len() + member.len() > MAX_STATE {
            break;
        }
        // Writing to a String does not fail.
        let _ = write!(state, "{separator}{member}");
    }
    (!state.is_empty()).then_some(state)
}

/// `key=value` of printable characters.
fn is_member(member: &str) -> bool {
    let key_byte =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@');
    let value_byte = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
    member.split_once('=').is_some_and(|(key, value)| {
        !key.is_empty() && key.bytes().all(key_byte) && !value.is_empty() && value.bytes().all(value_byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(lines: &[(&'static str, &str)]) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        TraceContext::of(&headers)
    }

    fn parent(lines: &[(&'static str, &str)]) -> String {
        of(lines).unwrap().traceparent
    }

    #[test]
    fn a_sound_trace_is_kept_with_its_state() {
        let kept = of(&[("traceparent", GOOD), ("tracestate", "a=1, b@v=x y"), ("tracestate", "c=3")]).unwrap();
        assert_eq!((kept.traceparent.as_str(), kept.tracestate.as_deref()), (GOOD, Some("a=1,b@v=x y,c=3")));
        assert_eq!(of(&[("tracestate", "a=1")]), None, "a state alone belongs to no trace");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        assert_eq!(parent(&[("traceparent", &format!("{}-what-ever", GOOD.replacen("00", "cc", 1)))]), GOOD);
        assert_eq!(parent(&[("traceparent", &GOOD.replacen("00", "01", 1))]), GOOD);
    }

    #[test]
    fn what_is_malformed_is_replaced_and_its_state_dropped() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_parent = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let (upper, later) = (GOOD.to_uppercase(), GOOD.replacen("00", "ff", 1));
        for bad in ["", "00-0af7", &upper, &later, &format!("{GOOD}-00"), &format!("{GOOD}x"), zero_trace, zero_parent]
        {
            let replaced = of(&[("traceparent", bad), ("tracestate", "a=1")]).unwrap();
            assert_eq!(w3c(&replaced.traceparent).as_ref(), Some(&replaced.traceparent), "{bad}");
            assert!(replaced.traceparent != bad && replaced.tracestate.is_none(), "{bad}");
        }
        assert_ne!(parent(&[("traceparent", GOOD), ("traceparent", GOOD)]), GOOD, "two are none");
    }

    #[test]
    fn a_balancers_root_is_the_trace_where_there_is_no_other() {
        let amazon = "Self=1-67891234-12456789abcdef012345678a;Root=1-67891233-abcdef012345678912345678";
        let derived = parent(&[("x-amzn-trace-id", amazon)]);
        assert!(derived.starts_with("00-67891233abcdef012345678912345678-") && derived.ends_with("-00"), "{derived}");
        assert!(w3c(&derived).is_some());
        let sampled = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1";
        assert_eq!(parent(&[("x-amzn-trace-id", sampled)]), "00-67891233abcdef012345678912345678-53995c3f42cd8ad8-01");
        assert_eq!(parent(&[("x-amzn-trace-id", sampled), ("traceparent", GOOD)]), GOOD);
        let invalid = parent(&[("x-amzn-trace-id", sampled), ("traceparent", "junk")]);
        assert!(invalid.contains("67891233abcdef012345678912345678"), "{invalid}");
        for junk in ["", "Root=", "Root=1-67891233", "Root=2-67891233-abcdef012345678912345678", "Root=1-0-0"] {
            assert!(w3c(&parent(&[("x-amzn-trace-id", junk)])).is_some(), "{junk}");
        }
    }

    #[test]
    fn a_state_that_is_too_long_loses_long_members_and_then_the_oldest() {
        let long = format!("long={}", "x".repeat(150));
        let short: Vec<String> = (0..30).map(|n| format!("k{n}={}", "y".repeat(30))).collect();
        let sent = format!("{long},{}", short.join(","));
        let kept = of(&[("traceparent", GOOD), ("tracestate", &sent)]).unwrap().tracestate.unwrap();
        assert!(kept.len() <= MAX_STATE && kept.starts_with("k0=") && !kept.contains("k29="), "{kept}");
        let one = of(&[("traceparent", GOOD), ("tracestate", &long)]).unwrap().tracestate;
        assert_eq!(one, Some(long));
        let many = vec!["a=1"; 40].join(",");
        let kept = of(&[("traceparent", GOOD), ("tracestate", &many)]).unwrap().tracestate.unwrap();
        assert_eq!(kept.split(',').count(), MAX_MEMBERS);
        for junk in ["", ",", "no value", "=x", "A=1", "a=b=c"] {
            assert_eq!(of(&[("traceparent", GOOD), ("tracestate", junk)]).unwrap().tracestate, None, "{junk}");
        }
    }
}
