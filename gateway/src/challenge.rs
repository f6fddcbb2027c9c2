//! What a 401 or 403 tells a client about the credential that would be accepted: `WWW-Authenticate` (RFC 6750 §3,
//! RFC 9728 §5.1, Model Context Protocol, "Authorization").
//!
//! Responsible for its words. Must never say why a credential was refused: every one that is worth nothing is an
//! `invalid_token`.

use axum::http::HeaderValue;

/// The challenges of a gateway, made once.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    /// To who presented nothing.
    missing: HeaderValue,
    /// To who presented something that is worth nothing.
    invalid: HeaderValue,
}

impl Challenge {
    /// `metadata` is where the description of this resource stands (RFC 9728), if anywhere.
    pub(crate) fn new(metadata: Option<&str>) -> Self {
        let plain = HeaderValue::from_static("Bearer");
        let written = |text: String| HeaderValue::from_str(&text).unwrap_or_else(|_| plain.clone());
        let Some(url) = metadata else {
            return Self { missing: plain, invalid: HeaderValue::from_static("Bearer error=\"invalid_token\"") };
        };
        Self {
            missing: written(format!("Bearer resource_metadata=\"{url}\"")),
            invalid: written(format!("Bearer resource_metadata=\"{url}\", error=\"invalid_token\"")),
        }
    }

    /// For a request with a credential, or one without.
    pub(crate) fn to(&self, presented: bool) -> &HeaderValue {
        if presented { &self.invalid } else { &self.missing }
    }
}

/// To who presented a credential that was given for something else.
pub(crate) fn insufficient_scope(needed: &str) -> String {
    format!("Bearer error=\"insufficient_scope\", scope=\"{needed}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_named_only_to_who_presented_something() {
        let challenge = Challenge::new(Some("https://gw.example/.well-known/oauth-protected-resource"));
        let metadata = "Bearer resource_metadata=\"https://gw.example/.well-known/oauth-protected-resource\"";
        assert_eq!(challenge.to(false), metadata);
        assert_eq!(challenge.to(true), &format!("{metadata}, error=\"invalid_token\""));
        let plain = Challenge::new(None);
        assert_eq!(
            (plain.to(false).to_str().unwrap(), plain.to(true).to_str().unwrap()),
            ("Bearer", "Bearer error=\"invalid_token\"")
        );
        assert_eq!(insufficient_scope("tasks:read"), "Bearer error=\"insufficient_scope\", scope=\"tasks:read\"");
    }
}
