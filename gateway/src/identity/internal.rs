//! The internal service's token: `X-Internal-Token`, one principal.
//!
//! Responsible for comparing digests in constant time. Must never match an empty value, and knows no token at all
//! unless one was set: there is no default.

use portcullis_config::{Scope, UserType};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::identity::{Proven, Unproven};

/// The token, by its digests: two while it is being changed.
#[derive(Clone, Debug)]
pub struct InternalToken {
    digests: Vec<[u8; 32]>,
    bearer: Proven,
}

impl InternalToken {
    /// The token with these values, whose bearer is `principal`. Each value has passed
    /// [`weakness`](portcullis_config::weakness).
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
}
