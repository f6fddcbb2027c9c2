//! Which gates a path takes, by the patterns of the policy.
//!
//! Responsible for reading a path as an application would: percent-decoded, without empty and dot segments, so that no
//! other spelling of a guarded path escapes its guard. Must never take longer than its bounds allow: patterns compile
//! into a bounded size and run in linear time, and a path deeper than `MAX_SEGMENTS` is not searched but guarded.

use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use crate::policy::Policy;

/// Deepest path whose suffixes are searched.
const MAX_SEGMENTS: usize = 64;
/// Largest compiled form of one pattern, bytes.
const MAX_PATTERN_BYTES: usize = 1 << 18;
/// Largest compiled form of a list of patterns, bytes.
const MAX_LIST_BYTES: usize = 1 << 22;

/// Which gates a proxied request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteClass {
    /// All of them: rate limit, pressure, breaker and budget.
    Guarded,
    /// Guarded by one list and bypassing by the other: breaker and budget, no throttling.
    GuardedUnthrottled,
    /// A session is all it needs.
    Read,
    /// Skips throttling whatever is throttled by default.
    Bypass,
}

/// The compiled patterns of a policy.
#[derive(Clone, Debug)]
pub struct Routes {
    guarded: RegexSet,
    bypass: RegexSet,
}

impl Routes {
    /// Compiles the patterns of a policy; a policy that was loaded has been checked to compile.
    pub fn new(policy: &Policy) -> Result<Self, regex::Error> {
        Ok(Self {
            guarded: compile(&policy.guarded_rest_patterns)?,
            bypass: compile(&policy.bypass_throttling_patterns)?,
        })
    }

    /// The class of a path (without its query).
    #[must_use]
    pub fn classify(&self, path: &str) -> RouteClass {
        let Some(path) = plain(path) else { return RouteClass::Guarded };
        match (matches(&self.guarded, &path), matches(&self.bypass, &path)) {
            (true, false) => RouteClass::Guarded,
            (true, true) => RouteClass::GuardedUnthrottled,
            (false, false) => RouteClass::Read,
            (false, true) => RouteClass::Bypass,
        }
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

/// The path as an application reads it; `None` if it is deeper than is searched.
fn plain(path: &str) -> Option<String> {
    let decoded = percent_decoded(path);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
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
            owned(&["^/resources/link-preview$", "/integrations/[^/]+/operations/", "/both"]);
        policy.bypass_throttling_patterns = owned(&["^/webhooks/stripe$", "/both$"]);
        Routes::new(&policy).unwrap()
    }

    #[test]
    fn a_path_is_classed_by_both_lists() {
        for (path, class) in [
            ("/resources/link-preview", RouteClass::Guarded),
            ("/resources/link-preview/more", RouteClass::Read),
            ("/integrations/a/operations/run", RouteClass::Guarded),
            ("/webhooks/stripe", RouteClass::Bypass),
            ("/both", RouteClass::GuardedUnthrottled),
            ("/both/deeper", RouteClass::Guarded),
            ("/", RouteClass::Read),
            ("", RouteClass::Read),
        ] {
            assert_eq!(routes().classify(path), class, "{path}");
        }
    }

    #[test]
    fn a_pattern_holds_behind_a_prefix_of_whole_segments_only() {
        assert_eq!(routes().classify("/api/v2/resources/link-preview"), RouteClass::Guarded);
        assert_eq!(routes().classify("/api/old-resources/link-preview"), RouteClass::Read);
        assert_eq!(routes().classify("/apiresources/link-preview"), RouteClass::Read);
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
            assert_eq!(routes().classify(path), RouteClass::Guarded, "{path}");
        }
    }

    #[test]
    fn a_path_too_deep_to_search_is_guarded() {
        assert_eq!(routes().classify(&"/a".repeat(MAX_SEGMENTS)), RouteClass::Read);
        assert_eq!(routes().classify(&"/a".repeat(MAX_SEGMENTS + 1)), RouteClass::Guarded);
    }

    #[test]
    fn unusable_patterns_say_why() {
        assert!(check_pattern("^/ok$").is_ok());
        for pattern in ["(", "a)|(b", "(?=look)", r"\w{10000}{10000}", "(?x) comment # )"] {
            assert!(check_pattern(pattern).is_err_and(|reason| !reason.is_empty()), "{pattern}");
        }
    }
}
