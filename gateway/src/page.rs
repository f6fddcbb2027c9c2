//! Web pages that ask in their reader's name.
//!
//! Responsible for whether one may where its browser adds the credential by itself: a cookie goes along with whatever
//! any page sends (cross-site request forgery, and RFC 6455 §10.2). Must never take a page's origin from
//! anything but `Origin`, which pages cannot write.

use axum::http::HeaderValue;
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use portcullis_config::policy::Cors;

use crate::cors::Sharing;

/// Whether the page that asks may, if it is one. Pages of this host may, and those that the policy lists; where the
/// policy lists none, whoever stands behind is left to say who else, unless the credential is one that browsers send by
/// themselves: `by_cookie`.
pub(crate) fn may_ask(cors: &Cors, parts: &Parts, by_cookie: bool) -> bool {
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    let (origin, None) = (origins.next(), origins.next()) else { return false };
    let Some(origin) = origin else { return true };
    let host = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => parts.headers.get(HOST).map(HeaderValue::as_bytes),
    };
    let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host.as_bytes());
    if own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host)) {
        return true;
    }
    match Sharing::of(cors, &parts.headers) {
        Sharing::Silent => !by_cookie,
        Sharing::Withheld => false,
        Sharing::Shared { credentials, .. } => credentials || !by_cookie,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const COOKIE: (&str, &str) = ("cookie", "portcullis_session=abc");
    const HOST_OF_SHOP: (&str, &str) = ("host", "shop.example");

    fn cors(origins: &[&str], allow_credentials: bool) -> Cors {
        let allowed_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        Cors { allowed_origins, allow_credentials, max_age_seconds: 7 }
    }

    fn may(cors: &Cors, lines: &[(&str, &str)]) -> bool {
        let request = lines.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        let parts = request.body(()).unwrap().into_parts().0;
        let headers = &parts.headers;
        may_ask(cors, &parts, headers.contains_key("cookie") && !headers.contains_key("authorization"))
    }

    #[test]
    fn a_page_elsewhere_cannot_use_the_cookie_of_its_reader() {
        let evil = ("origin", "https://evil.example");
        let listed = cors(&["https://app.example"], true);
        for policy in [&cors(&[], false), &cors(&["*"], false), &listed] {
            assert!(!may(policy, &[HOST_OF_SHOP, COOKIE, evil]), "{policy:?}");
            assert!(!may(policy, &[HOST_OF_SHOP, COOKIE, ("origin", "null")]), "{policy:?}");
            assert!(may(policy, &[HOST_OF_SHOP, COOKIE]), "no browser");
            assert!(may(policy, &[HOST_OF_SHOP, COOKIE, ("origin", "https://Shop.example")]), "its own page");
            assert!(!may(policy, &[HOST_OF_SHOP, COOKIE, ("origin", "https://shop.example.evil.example")]));
            assert!(!may(policy, &[HOST_OF_SHOP, ("origin", "https://shop.example"), evil]), "two are none");
        }
        let page = ("origin", "https://app.example");
        assert!(may(&listed, &[HOST_OF_SHOP, COOKIE, page]));
        assert!(!may(&cors(&["https://app.example"], false), &[HOST_OF_SHOP, COOKIE, page]), "not with cookies");
    }

    #[test]
    fn without_a_cookie_the_list_decides_and_without_a_list_the_application() {
        let evil = ("origin", "https://evil.example");
        assert!(may(&cors(&[], false), &[HOST_OF_SHOP, evil]));
        assert!(may(&cors(&["*"], false), &[HOST_OF_SHOP, evil]));
        assert!(!may(&cors(&["https://app.example"], false), &[HOST_OF_SHOP, evil]));
        assert!(may(&cors(&["https://app.example"], false), &[HOST_OF_SHOP, ("origin", "https://app.example")]));
        let bearer = [HOST_OF_SHOP, COOKIE, evil, ("authorization", "Bearer x")];
        assert!(may(&cors(&[], false), &bearer), "a page cannot send that");
    }
}
