//! How opaque sessions are opened, and the cookie that carries them.
//!
//! Responsible for the cookie's name and attributes (RFC 6265bis). Must never let a script read it, nor send it over
//! plain HTTP unless the operator said so.

use axum::http::HeaderValue;

use crate::credential::SESSION_COOKIES;
use crate::identity::document::Identity;

/// How sessions are opened.
#[derive(Clone, Debug)]
pub(crate) struct SessionTerms {
    /// How long one lasts and how many a principal may have.
    pub(crate) lasts: portcullis_lua::SessionTerms,
    /// Over HTTPS only, and for this host only.
    secure: bool,
}

impl SessionTerms {
    pub(crate) fn new(identity: &Identity) -> Self {
        let terms = &identity.sessions;
        let lasts = portcullis_lua::SessionTerms {
            lasts_ms: terms.max_age_seconds.saturating_mul(1000),
            most: u32::try_from(terms.max_per_principal).unwrap_or(u32::MAX),
        };
        Self { lasts, secure: identity.cookie_secure }
    }

    /// The name of the cookie. The other one is nobody's: without `__Host-` a cookie can be set by whoever speaks for
    /// another host of the domain, or over plain HTTP.
    pub(crate) fn cookie_name(&self) -> &'static str {
        let [secure_name, plain_name] = SESSION_COOKIES;
        if self.secure { secure_name } else { plain_name }
    }

    /// `Set-Cookie` that gives this session to a browser.
    pub(crate) fn cookie(&self, token: &str) -> Option<HeaderValue> {
        self.written(token, self.lasts.lasts_ms / 1000)
    }

    /// `Set-Cookie` that takes it away.
    pub(crate) fn no_cookie(&self) -> Option<HeaderValue> {
        self.written("", 0)
    }

    fn written(&self, token: &str, max_age_seconds: u64) -> Option<HeaderValue> {
        let (name, secure) = (self.cookie_name(), if self.secure { "; Secure" } else { "" });
        let cookie = format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_seconds}{secure}");
        let mut value = HeaderValue::from_str(&cookie).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
