//! A client's wish to go on with a WebSocket, before anything is decided about its request.
//!
//! Responsible for turning it away where it could not be granted, and where a page asks for it that may not: browsers
//! let any page open a WebSocket anywhere, send the cookies of its target along and let the page read the answers (RFC
//! 6455 §10.2). Must never take a page's origin from anything but `Origin`, which pages cannot write.

use axum::http::request::Parts;
use axum::http::{Method, Version};
use hyper::upgrade::OnUpgrade;

use super::field;
use super::tunnel::Place;
use crate::admission::session::Identity;
use crate::page;
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
        let cors = &gateway.scopes().default_scope().policy();
        if !page::may_ask(&cors.policy().cors, parts, caller.caller().ambient) {
            let detail = "Pages of this origin may not open a WebSocket here.";
            return Err(Refused::forbidden(detail));
        }
        let Some(client) = parts.extensions.remove::<OnUpgrade>() else { return Ok(None) };
        let most = caller.scope().policy().policy().proxy.max_tunnels_per_caller;
        let detail = "This gateway carries as many tunnels as it can, or as it may for one caller. Close one, or try \
            another gateway.";
        let full = || Refused::new(Cause::StreamLimit, "Too many tunnels", detail);
        gateway.tunnels().open(caller, most).map(|place| Some(Self { client, place })).ok_or_else(full)
    }
}
