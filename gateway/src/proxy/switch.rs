//! A client's wish to go on with a WebSocket, before anything is decided about its request.
//!
//! Responsible for turning it away where it could not be granted, and where a page asks for it that may not: browsers
//! let any page open a WebSocket anywhere, send the cookies of its target along and let the page read the answers (RFC
//! 6455 §10.2). Must never take a page's origin from anything but `Origin`, which pages cannot write.

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Version};
use hyper::upgrade::OnUpgrade;
use portcullis_config::policy::Cors;

use super::field;
use super::tunnel::Place;
use crate::admission::session::Identity;
use crate::cors::Sharing;
use crate::credential::{self, Credential};
use crate::refusal::{Cause, Refused};
use crate::state::Gateway;

/// A WebSocket that may begin, if the application agrees.
pub(super) struct Switch {
    pub(super) client: OnUpgrade,
    pub(super) place: Place,
}

impl Switch {
    /// `None`: the request asks for nothing of the kind, or not in a way that could be granted.
    pub(super) fn asked_for(gateway: &Gateway, caller: &Identity, parts: &mut Parts) -> Result<Option<Self>, Refused> {
        let may = parts.version == Version::HTTP_11 && parts.method == Method::GET;
        if !may || !field::asks_for_websocket(&parts.headers) {
            return Ok(None);
        }
        if gateway.drain_state().closing() {
            // It would have to end as soon as it has begun.
            return Err(Refused::draining());
        }
        // As for all answers to pages: it is the default scope that says which may ask.
        if !page_may_ask(&gateway.scopes().default_scope().policy().policy().cors, parts) {
            let detail = "Pages of this origin may not open a WebSocket here.";
            return Err(Refused::new(Cause::Forbidden, "Forbidden", detail));
        }
        let Some(client) = parts.extensions.remove::<OnUpgrade>() else { return Ok(None) };
        let most = caller.scope().policy().policy().proxy.max_tunnels_per_caller;
        let detail = "This gateway carries as many tunnels as it can, or as it may for one caller. Close one, or try \
            another gateway.";
        let full = || Refused::new(Cause::StreamLimit, "Too many tunnels", detail);
        gateway.tunnels().open(caller, most).map(|place| Some(Self { client, place })).ok_or_else(full)
    }
}

/// Whether the page that asks may, if it is one. Pages of the application itself may, and those that the policy lists;
/// where the policy lists none, the application is left to say who else, unless it would take the page for a caller
/// whose cookie it was that this gateway believed.
fn page_may_ask(cors: &Cors, parts: &Parts) -> bool {
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    let (origin, None) = (origins.next(), origins.next()) else { return false };
    let Some(origin) = origin else { return true };
    let by_cookie = matches!(credential::presented(&parts.headers, None), Ok(Some(Credential::SessionCookie(_))));
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
        page_may_ask(cors, &request.body(()).unwrap().into_parts().0)
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
