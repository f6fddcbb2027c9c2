//! Which gates a path takes, by the patterns of the policy.
//!
//! Responsible for reading a path in all the ways an application may: decoded before it is taken apart or after, with
//! dot segments resolved or not, so that no other spelling of a guarded path escapes its guard. Must never take longer
//! than its bounds allow: patterns compile into a bounded size and run in linear time, and a path deeper than
//! `MAX_SEGMENTS` is not searched but guarded.

use std::sync::Arc;

use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use crate::policy::{GUARDED, Policy, RouteClassSettings};

/// Deepest path whose suffixes are searched.
const MAX_SEGMENTS: usize = 64;
/// Largest compiled form of one pattern, bytes.
const MAX_PATTERN_BYTES: usize = 1 << 18;
/// Largest compiled form of a list of patterns, bytes.
const MAX_LIST_BYTES: usize = 1 << 22;

/// Which gates a proxied request takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteClass {
    /// Pressure, breaker and budget; rate limits too if it is throttled.
    Guarded {
        /// `guarded`, or the name of the declared class: its kind in limits, costs, budgets and breakers.
        class: Arc<str>,
        /// Whether rate limits apply: not to a path that bypasses them as well, nor where its class says so.
        throttled: bool,
    },
    /// A session is all it needs.
    Read,
    /// A session is all it needs, and rate limits would not apply if it were guarded.
    Bypass,
}

/// The compiled patterns of a policy.
#[derive(Clone, Debug)]
pub struct Routes {
    guarded: RegexSet,
    bypass: RegexSet,
    /// By name.
    declared: Vec<Declared>,
    /// The name of the built-in class.
    built_in: Arc<str>,
}

/// A declared class, compiled.
#[derive(Clone, Debug)]
struct Declared {
    name: Arc<str>,
    patterns: RegexSet,
    /// `None`: all.
    methods: Option<Vec<String>>,
    throttled: bool,
}

impl Routes {
    /// Compiles the patterns of a policy; a policy that was loaded has been checked to compile.
    pub fn new(policy: &Policy) -> Result<Self, regex::Error> {
        let declared = policy.route_classes.iter().map(|(name, settings)| Declared::new(name, settings));
        Ok(Self {
            guarded: compile(&policy.guarded_rest_patterns)?,
            bypass: compile(&policy.bypass_throttling_patterns)?,
            declared: declared.collect::<Result<_, _>>()?,
            built_in: GUARDED.into(),
        })
    }

    /// The class of a request of this method for a path (without its query). A declared class goes before the built-in
    /// ones, the first by name before other declared ones.
    #[must_use]
    pub fn classify(&self, method: &str, path: &str) -> RouteClass {
        let guarded = |throttled| RouteClass::Guarded { class: Arc::clone(&self.built_in), throttled };
        let Some(readings) = readings(path) else { return guarded(true) };
        // Which of them is the application's is not known: what guards holds in any, what frees only in all.
        let bypass = readings.iter().all(|path| matches(&self.bypass, path));
        let takes = |declared: &&Declared| readings.iter().any(|path| declared.takes(method, path));
        if let Some(declared) = self.declared.iter().find(takes) {
            let throttled = declared.throttled && !bypass;
            return RouteClass::Guarded { class: Arc::clone(&declared.name), throttled };
        }
        match (readings.iter().any(|path| matches(&self.guarded, path)), bypass) {
            (true, bypass) => guarded(!bypass),
            (false, false) => RouteClass::Read,
            (false, true) => RouteClass::Bypass,
        }
    }
}

impl Declared {
    fn new(name: &str, settings: &RouteClassSettings) -> Result<Self, regex::Error> {
        Ok(Self {
            name: name.into(),
            patterns: compile(&settings.patterns)?,
            methods: settings.methods.clone(),
            throttled: settings.throttled.unwrap_or(true),
        })
    }

    /// Whether a request is of this class. An application answers HEAD by doing what it does for GET, and some read
    /// methods in any case: neither is a way around.
    fn takes(&self, method: &str, path: &str) -> bool {
        let is =
            |own: &String| own.eq_ignore_ascii_case(method) || (own == "GET" && method.eq_ignore_ascii_case("HEAD"));
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(is)) && matches(&self.patterns, path)
    }
}

/// Why a pattern cannot be used.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    // Compiled bare as well: a pattern such as `a)|(b` is only valid inside the group that anchors it.
    for form in [pattern.to_owned(), anchored(pattern)] {
        if let Err(e) = RegexBuilder::new(&form).size_limit(MAX_PATTERN_BYTES).build() {
            return Err(e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned());
        }
    }
    Ok(())
}

/// Compiles a list of patterns, each to match from the start.
pub(crate) fn compile(patterns: &[String]) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns.iter().map(|pattern| anchored(pattern))).size_limit(MAX_LIST_BYTES).build()
}

fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})")
}

/// Whether a pattern matches at the start of the path or of one of its suffixes of whole segments.
pub(crate) fn matches(patterns: &RegexSet, path: &str) -> bool {
    !patterns.is_empty() && path.match_indices('/').any(|(start, _)| patterns.is_match(&path[start..]))
}

/// The path as applications may read it: all of it decoded before it is taken apart, or segment by segment, dots as
/// they are; with or without the parameters of its segments (RFC 3986 §3.3). `None` if it is deeper than is searched.
fn readings(path: &str) -> Option<Vec<String>> {
    let mut readings = vec![resolved(&percent_decoded(path))?];
    if path.contains(['%', ';']) || path.contains("/.") {
        readings.push(verbatim(path)?);
    }
    if path.contains([';', '%']) {
        let bare = |path: &str| path.split('/').map(without_parameters).collect::<Vec<_>>().join("/");
        readings.push(resolved(&bare(&percent_decoded(path)))?);
        readings.push(verbatim(&bare(path))?);
    }
    Some(readings)
}

/// A segment before its first `;`.
fn without_parameters(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

/// Each segment decoded by itself; an encoded slash in it stays one.
fn verbatim(path: &str) -> Option<String> {
    let decoded = |segment: &str| percent_decoded(segment).replace('/', "%2F");
    let segments: Vec<String> = path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
    (segments.len() <= MAX_SEGMENTS).then(|| format!("/{}", segments.join("/")))
}

/// Without empty and dot segments.
fn resolved(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    (segments.len() <= MAX_SEGMENTS).then(|| format!("/{}", segments.join("/")))
}

/// Decodes percent escapes once; what is no escape or no UTF-8 stays recognizable but cannot match by accident.
fn percent_decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16));
        if byte == b'%'
            && let (Some(high), Some(low)) = (digit(1), digit(2))
        {
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let mut policy = Policy::shipped("acme", "shop");
        let owned = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
        policy.guarded_rest_patterns =
            owned(&["^/resources/link-preview$", "/integrations/[^/]+/operations/", "/both", "/reports/all$"]);
        policy.bypass_throttling_patterns = owned(&["^/webhooks/stripe$", "/both$", "^/reports/free$"]);
        for (name, class) in [
            ("reports", serde_json::json!({"patterns": ["/reports/[^/]+$"], "methods": ["GET", "PUT"]})),
            ("reports-z", serde_json::json!({"patterns": ["/reports/"], "throttled": false})),
        ] {
            policy.route_classes.insert(name.to_owned(), serde_json::from_value(class).unwrap());
        }
        Routes::new(&policy).unwrap()
    }

    fn guarded(class: &str, throttled: bool) -> RouteClass {
        RouteClass::Guarded { class: class.into(), throttled }
    }

    #[test]
    fn a_path_is_classed_by_both_lists() {
        for (path, class) in [
            ("/resources/link-preview", guarded("guarded", true)),
            ("/resources/link-preview/more", RouteClass::Read),
            ("/integrations/a/operations/run", guarded("guarded", true)),
            ("/webhooks/stripe", RouteClass::Bypass),
            ("/both", guarded("guarded", false)),
            ("/both/deeper", guarded("guarded", true)),
            ("/", RouteClass::Read),
            ("", RouteClass::Read),
        ] {
            assert_eq!(routes().classify("GET", path), class, "{path}");
        }
    }

    #[test]
    fn a_declared_class_goes_before_the_lists_and_the_first_by_name_before_others() {
        for (method, path, class) in [
            ("GET", "/reports/all", guarded("reports", true)),
            ("HEAD", "/reports/all", guarded("reports", true)),
            ("head", "/v1/reports/all", guarded("reports", true)),
            ("put", "/reports/1", guarded("reports", true)),
            ("POST", "/reports/all", guarded("reports-z", false)),
            ("GET", "/reports/1/rows", guarded("reports-z", false)),
            ("GET", "/reports/free", guarded("reports", false)),
            ("GET", "/old-reports/all", RouteClass::Read),
            ("GET", "/api/x/y/reports/%61ll/", guarded("reports", true)),
        ] {
            assert_eq!(routes().classify(method, path), class, "{method} {path}");
        }
    }

    #[test]
    fn a_pattern_holds_behind_a_prefix_of_whole_segments_only() {
        let class = |path| routes().classify("GET", path);
        assert_eq!(class("/api/v2/resources/link-preview"), guarded("guarded", true));
        assert_eq!(class("/api/x/y/webhooks/stripe"), RouteClass::Bypass);
        assert_eq!(class("/api/old-resources/link-preview"), RouteClass::Read);
        assert_eq!(class("/apiresources/link-preview"), RouteClass::Read);
    }

    #[test]
    fn another_spelling_of_a_path_does_not_escape_its_guard() {
        for path in [
            "/resources//link-preview",
            "/resources/link-preview/",
            "//resources/link-preview//",
            "/resources/./link-preview",
            "/resources/x/../link-preview",
            "/resources/%6Cink-preview",
            "/resources%2flink-preview",
            "/webhooks/stripe/../../resources/link-preview",
        ] {
            assert_eq!(routes().classify("GET", path), guarded("guarded", true), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_guarded_in_one_reading_is_guarded_and_one_that_is_free_in_one_is_not_free() {
        for (path, class) in [
            ("/reports/..%2f..%2fnews", guarded("reports", true)),
            ("/reports/..%2F..%2Fwebhooks%2Fstripe", guarded("reports", true)),
            ("/both/x/../../news", guarded("guarded", true)),
            ("/resources;v=1/link-preview;w=2", guarded("guarded", true)),
            ("/resources/link-preview%3bw=2", guarded("guarded", true)),
            ("/news/..%2fwebhooks%2fstripe", RouteClass::Read),
            ("/webhooks/stripe/../../news", RouteClass::Read),
            ("/webhooks/%73tripe", RouteClass::Bypass),
        ] {
            assert_eq!(routes().classify("GET", path), class, "{path}");
        }
    }

    #[test]
    fn a_path_too_deep_to_search_is_guarded() {
        assert_eq!(routes().classify("GET", &"/a".repeat(MAX_SEGMENTS)), RouteClass::Read);
        assert_eq!(routes().classify("GET", &"/a".repeat(MAX_SEGMENTS + 1)), guarded("guarded", true));
    }

    #[test]
    fn unusable_patterns_say_why() {
        assert!(check_pattern("^/ok$").is_ok());
        for pattern in ["(", "a)|(b", "(?=look)", r"\w{10000}{10000}", "(?x) comment # )"] {
            assert!(check_pattern(pattern).is_err_and(|reason| !reason.is_empty()), "{pattern}");
        }
    }
}
