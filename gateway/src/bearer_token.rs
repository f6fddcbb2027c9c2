//! Who may use a listener that has a token: whoever shows it.
//!
//! Responsible for comparing tokens without telling how much of one was right: digests are compared, in constant time,
//! so that neither the length nor a common beginning shows. Must never log or return what was presented, nor resolve
//! to a caller of the public listener: the token opens this listener and nothing else.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The digest of a listener's token.
#[derive(Clone)]
pub(crate) struct BearerToken([u8; 32]);

impl BearerToken {
    pub(crate) fn new(token: &SecretString) -> Self {
        Self(Sha256::digest(token.expose_secret().as_bytes()).into())
    }

    /// Whether the request carries the token, as `Authorization: Bearer` (RFC 6750), once.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let value = value.as_bytes();
        let scheme_length = b"Bearer ".len();
        let Some((scheme, presented)) = value.split_at_checked(scheme_length) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && self.0.ct_eq(&Sha256::digest(presented)).into()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_the_token_itself_is_admitted() {
        let token = BearerToken::new(&TOKEN.into());
        let bearer = format!("Bearer {TOKEN}");
        assert!(token.admits(&headers(&[&bearer])));
        assert!(token.admits(&headers(&[&bearer.replace("Bearer", "bearer")])));
        let wrong = [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            TOKEN.to_owned(),
            format!("Basic {TOKEN}"),
            format!("Bearer {}", &TOKEN[1..]),
            format!("Bearer {TOKEN}0"),
            format!("Bearer  {TOKEN}"),
        ];
        for value in &wrong {
            assert!(!token.admits(&headers(&[value])), "{value}");
        }
        assert!(!token.admits(&HeaderMap::new()));
        assert!(!token.admits(&headers(&[&bearer, &bearer])), "two headers are one too many");
    }
}
