//! The internal service's token: `X-Internal-Token`, one principal.
//!
//! Responsible for comparing digests in constant time, and for refusing a token that could be guessed. Must never match
//! an empty value, and knows no token at all unless one was set: there is no default.

use portcullis_config::{Scope, UserType};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::identity::{Proven, Unproven};

/// Shortest token, bytes.
const MIN_BYTES: usize = 32;

/// Longest piece that is taken for a pattern when a token consists of nothing but repetitions of it.
const MAX_PERIOD: usize = 12;

/// Words that stand in samples for a secret to be filled in.
const PLACEHOLDERS: [&str; 5] = ["changeme", "replaceme", "yoursecret", "yourtoken", "insertsecret"];

/// The token, by its digests: two while it is being changed.
#[derive(Clone, Debug)]
pub struct InternalToken {
    digests: Vec<[u8; 32]>,
    bearer: Proven,
}

impl InternalToken {
    /// The token with these values, whose bearer is `principal`. Each value has passed [`weakness`].
    #[must_use]
    pub fn new(
        tokens: &[SecretString],
        principal: String,
        user_type: UserType,
        scopes: Vec<String>,
        scope: Option<Scope>,
    ) -> Self {
        let digest = |token: &SecretString| Sha256::digest(token.expose_secret().as_bytes()).into();
        let bearer = Proven {
            principal,
            user_type,
            // An operator who names none means all.
            scopes: (!scopes.is_empty()).then_some(scopes),
            scope,
            issued_at_ms: 0,
            expires_at_ms: None,
            class: "internal",
            issuer: String::new(),
        };
        Self { digests: tokens.iter().map(digest).collect(), bearer }
    }

    /// What this token proves.
    ///
    /// # Errors
    ///
    /// `wrong_internal_token`.
    pub fn verify(&self, presented: &[u8]) -> Result<Proven, Unproven> {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        // Every digest is compared, so that time does not tell which value was right.
        let matches = self.digests.iter().fold(Choice::from(0), |any, digest| any | digest.ct_eq(&presented));
        if matches.into() { Ok(self.bearer.clone()) } else { Err(Unproven::because("wrong_internal_token")) }
    }
}

/// Why a token must not be used, if there is a reason.
#[must_use]
pub fn weakness(token: &SecretString) -> Option<&'static str> {
    let token = token.expose_secret();
    let letters: String = token.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let repeats = |text: &[u8]| {
        (1..=MAX_PERIOD)
            .any(|period| text.iter().zip(text.iter().skip(period)).all(|(earlier, later)| earlier == later))
    };
    if token.len() < MIN_BYTES {
        Some("must have at least 32 bytes")
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("must consist of visible ASCII characters, or no header can carry it")
    } else if PLACEHOLDERS.iter().any(|word| letters.contains(word)) {
        Some("is a placeholder from a sample")
    } else if repeats(token.as_bytes()) || repeats(letters.as_bytes()) {
        Some("repeats itself; use random bytes, such as `openssl rand -hex 32`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "6c1f0e9a7b3d5528c4e1f2a39b07d64e";
    const NEW: &str = "e2d94f7a018bc6355d90a1b7f4c8236e";

    fn token(values: &[&str]) -> InternalToken {
        let values: Vec<SecretString> = values.iter().map(|value| (*value).into()).collect();
        InternalToken::new(&values, "svc:sync".to_owned(), UserType::new("privileged").unwrap(), Vec::new(), None)
    }

    #[test]
    fn either_value_proves_the_one_principal_while_it_is_being_changed() {
        let token = token(&[OLD, NEW]);
        for value in [OLD, NEW] {
            let proven = token.verify(value.as_bytes()).unwrap();
            assert_eq!((proven.principal.as_str(), proven.class), ("svc:sync", "internal"));
        }
    }

    #[test]
    fn nothing_else_matches_and_without_a_value_nothing_at_all() {
        let one = token(&[NEW]);
        for value in [OLD, "", " ", &NEW[1..], &format!("{NEW} ")] {
            assert_eq!(one.verify(value.as_bytes()), Err(Unproven::because("wrong_internal_token")), "{value:?}");
        }
        assert!(token(&[]).verify(b"").is_err());
    }

    #[test]
    fn a_token_that_could_be_guessed_is_refused() {
        let weak = [
            "",
            "secret",
            &OLD[1..],
            &"a".repeat(64),
            &"secret".repeat(8),
            &"Secret-".repeat(8),
            "change-me-change-me-now-or-else-0123",
            "CHANGEME0123456789abcdef0123456789",
            "0123456789abcdef 0123456789abcdeF",
        ];
        for token in weak {
            assert!(weakness(&token.into()).is_some(), "{token}");
        }
        for token in [OLD, NEW] {
            assert_eq!(weakness(&token.into()), None);
        }
    }
}
