//! Cross-origin resource sharing: which web pages may call from a browser (WHATWG Fetch, "CORS protocol").
//!
//! Responsible for preflights and for the headers by which a browser shows an answer to a page. Must never match an
//! origin by anything but equality, and never let an upstream's own headers widen what the policy says: while the
//! policy lists origins, it alone decides.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use portcullis_config::policy::Cors;

/// What pages may use: the methods of this interface, and those an application behind it may have.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// What pages may read of an answer beyond what browsers show anyway.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, X-Session-ID, X-User-Type, X-Policy-Revision, RateLimit, RateLimit-Policy, Retry-After, Location, \
     Preference-Applied, Idempotent-Replayed",
);

/// The answer depends on who asks, whether it was somebody on the list or not.
const VARIES: HeaderValue = HeaderValue::from_static("Origin");
const PREFLIGHT_VARIES: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Longest list of headers that a page may ask for at once, bytes.
const MAX_REQUESTED: usize = 1024;

/// What a response has to say to the page that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// The policy lists no origins: whatever stands behind may.
    Silent,
    /// Not to be read by the page, if there is one.
    Withheld,
    /// To be read by pages of this origin, or of any.
    Shared {
        /// The one that asked, or `*`.
        origin: HeaderValue,
        /// Whether cookies may come along.
        credentials: bool,
    },
}

impl Sharing {
    /// What this policy says to a request with these headers.
    pub(crate) fn of(cors: &Cors, headers: &HeaderMap) -> Self {
        if cors.allowed_origins.is_empty() {
            return Self::Silent;
        }
        if cors.allows_any() {
            return Self::Shared { origin: HeaderValue::from_static("*"), credentials: false };
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return Self::Withheld };
        let listed = cors.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
        if listed {
            Self::Shared { origin: origin.clone(), credentials: cors.allow_credentials }
        } else {
            Self::Withheld
        }
    }

    /// Writes it into an answer, in place of what an upstream may have said.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if *self == Self::Silent {
            return;
        }
        if !varies_by_origin(headers) {
            headers.append(VARY, VARIES);
        }
        for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS] {
            headers.remove(name);
        }
        if let Self::Shared { origin, credentials } = self {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            if *credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }
}

/// Whether `Vary` says so already, in whatever spelling.
fn varies_by_origin(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    names.any(|name| name == "*" || name.eq_ignore_ascii_case("origin"))
}

/// The answer to a preflight, if this is one and the policy lists origins. A preflight carries no credential, asks for
/// nothing, and so takes no decision.
pub(crate) fn preflight(cors: &Cors, parts: &Parts) -> Option<Response> {
    let headers = &parts.headers;
    let is_one = parts.method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let sharing = Sharing::of(cors, headers);
    if !is_one || sharing == Sharing::Silent {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    if let Sharing::Shared { origin, credentials } = sharing {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age_seconds));
        if credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(requested) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| are_names(names)) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
    }
    answer.insert(VARY, PREFLIGHT_VARIES);
    Some(response)
}

/// Whether these are names of headers and nothing else.
fn are_names(names: &HeaderValue) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b' ');
    names.len() <= MAX_REQUESTED && names.as_bytes().iter().all(plain)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const APP: &str = "https://app.example.com";

    fn cors(origins: &[&str], allow_credentials: bool) -> Cors {
        let allowed_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        Cors { allowed_origins, allow_credentials, max_age_seconds: 7 }
    }

    fn of(origins: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    fn written(cors: &Cors, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // An upstream that allows everybody.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        Sharing::of(cors, request).write(&mut headers);
        headers
    }

    fn asked(method: &str, lines: &[(&str, &str)]) -> Parts {
        let request = lines.iter().fold(Request::builder().method(method), |r, (name, value)| r.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn origins_are_equal_or_they_are_not() {
        let policy = cors(&[APP, "http://localhost:3000"], true);
        let shared = written(&policy, &of(&[APP]));
        assert_eq!(shared[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        assert_eq!(shared[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(shared.get_all(VARY).iter().collect::<Vec<_>>(), ["Accept", "Origin"]);
        let others = [
            "https://app.example.com.evil.example",
            "https://evil-app.example.com",
            "https://app.example.co",
            "https://app.example.com:444",
            "http://app.example.com",
            "https://APP.example.com",
            "http://localhost:30001",
            "null",
            "",
        ];
        for origin in others {
            let withheld = written(&policy, &of(&[origin]));
            assert!(!withheld.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{origin}");
            assert!(!withheld.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS), "{origin}");
            assert!(withheld.get_all(VARY).iter().any(|value| value == "Origin"), "{origin}");
        }
        assert!(!written(&policy, &of(&[APP, APP])).contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "two are none");
    }

    #[test]
    fn what_varies_already_is_not_said_twice_and_what_looks_like_it_is_not_it() {
        for (said, lines) in [("Accept, origin", 1), ("*", 1), ("Origin", 1), ("Original-Thing", 2), ("Accept", 2)] {
            let mut headers = HeaderMap::new();
            headers.insert(VARY, said.parse().unwrap());
            Sharing::of(&cors(&[APP], false), &of(&[APP])).write(&mut headers);
            assert_eq!(headers.get_all(VARY).iter().count(), lines, "{said}");
        }
    }

    #[test]
    fn anybody_is_anybody_without_cookies() {
        let shared = written(&cors(&["*"], false), &of(&["https://where.ever"]));
        assert_eq!(shared[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!shared.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn without_a_list_an_upstream_speaks_for_itself() {
        let untouched = written(&cors(&[], false), &of(&[APP]));
        assert_eq!((untouched.len(), &untouched[ACCESS_CONTROL_ALLOW_ORIGIN]), (2, &HeaderValue::from_static("*")));
        let lines = [("origin", APP), ("access-control-request-method", "POST")];
        assert!(preflight(&cors(&[], false), &asked("OPTIONS", &lines)).is_none());
    }

    #[test]
    fn a_preflight_is_told_what_it_may() {
        let lines = [
            ("origin", APP),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        ];
        let answer = preflight(&cors(&[APP], true), &asked("OPTIONS", &lines)).unwrap();
        assert_eq!(answer.status(), 204);
        let headers = answer.headers();
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "authorization,content-type");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "7");
        assert!(headers[ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap().contains("DELETE"));
        let stranger = preflight(&cors(&["https://other.example"], true), &asked("OPTIONS", &lines)).unwrap();
        assert_eq!(stranger.headers().keys().collect::<Vec<_>>(), ["vary"]);
    }

    #[test]
    fn only_a_preflight_is_one_and_only_names_are_echoed() {
        let policy = cors(&[APP], false);
        for lines in [&[("origin", APP)][..], &[("access-control-request-method", "POST")]] {
            assert!(preflight(&policy, &asked("OPTIONS", lines)).is_none());
        }
        let asking = |names: &str| {
            let lines =
                [("origin", APP), ("access-control-request-method", "GET"), ("access-control-request-headers", names)];
            assert!(preflight(&policy, &asked("GET", &lines)).is_none(), "another method");
            let answer = preflight(&policy, &asked("OPTIONS", &lines)).unwrap();
            answer.headers().contains_key(ACCESS_CONTROL_ALLOW_HEADERS)
        };
        assert!(asking("x-one, x-two"));
        assert!(!asking("x-one; drop") && !asking("*") && !asking(&"x,".repeat(600)));
    }
}
