//! API keys: `gk_<8 characters>_<43 characters>`, for programs with an owner.
//!
//! Responsible for telling a key by its digest, compared in constant time. Must never hold a key itself: the digests
//! are enough, because a key is 256 random bits. A key without an owner does not exist.

use std::collections::HashMap;

use portcullis_config::{Scope, UserType};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::identity::{Proven, Unproven};

/// How every key begins, and nothing else does.
pub const PREFIX: &str = "gk_";

/// Characters of the id in a key.
pub(crate) const ID_LENGTH: usize = 8;
const SECRET_LENGTH: usize = 43;

/// The keys that are known.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(HashMap<String, ApiKey>);

/// One key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id, eight characters, as it stands in the key.
    pub id: String,
    /// SHA-256 of the whole key.
    pub digest: [u8; 32],
    /// The principal it acts for.
    pub owner: String,
    /// The tier it is served as.
    pub user_type: UserType,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// Where it counts; `None`: in the default scope.
    pub scope: Option<Scope>,
    /// Proves nothing any more.
    pub disabled: bool,
}

impl ApiKeys {
    /// These keys. Of two with one id the last is known; the document's check refuses such a list.
    pub fn new(keys: impl IntoIterator<Item = ApiKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.id.clone(), key)).collect())
    }

    /// Whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What this key proves.
    ///
    /// # Errors
    ///
    /// `malformed_api_key`, `unknown_api_key` (the id is not known, or the rest is wrong), `disabled_api_key`.
    pub fn verify(&self, presented: &[u8]) -> Result<Proven, Unproven> {
        let id = id_of(presented).ok_or(Unproven::because("malformed_api_key"))?;
        let presented: [u8; 32] = Sha256::digest(presented).into();
        let key = self.0.get(id).filter(|key| bool::from(key.digest.ct_eq(&presented)));
        let key = key.ok_or(Unproven::because("unknown_api_key"))?;
        if key.disabled {
            return Err(Unproven::because("disabled_api_key"));
        }
        Ok(Proven {
            principal: key.owner.clone(),
            user_type: key.user_type.clone(),
            scopes: Some(key.scopes.clone()),
            scope: key.scope.clone(),
            issued_at_ms: 0,
            expires_at_ms: None,
            class: "api_key",
            issuer: key.id.clone(),
        })
    }
}

/// Whether an id has the form of one: it becomes part of the audit.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn id_of(presented: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(presented).ok()?;
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (is_id(id) && secret.len() == SECRET_LENGTH && secret.bytes().all(in_alphabet)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCD_-E";

    fn keys() -> ApiKeys {
        let key = |id: &str, disabled| ApiKey {
            id: id.to_owned(),
            digest: Sha256::digest(format!("gk_{id}_{SECRET}")).into(),
            owner: "acme:ada".to_owned(),
            user_type: UserType::new("paid").unwrap(),
            scopes: vec!["tasks:write".to_owned()],
            scope: None,
            disabled,
        };
        ApiKeys::new([key("abcd1234", false), key("disabled", true)])
    }

    fn cause(presented: &str) -> &'static str {
        keys().verify(presented.as_bytes()).map_or_else(|unproven| unproven.cause, |_| "proven")
    }

    #[test]
    fn a_key_proves_its_owner() {
        let proven = keys().verify(format!("gk_abcd1234_{SECRET}").as_bytes()).unwrap();
        assert_eq!((proven.principal.as_str(), proven.user_type.as_str()), ("acme:ada", "paid"));
        assert_eq!((proven.class, proven.issuer.as_str()), ("api_key", "abcd1234"));
        assert_eq!(proven.scopes.unwrap(), ["tasks:write"]);
    }

    #[test]
    fn every_other_key_proves_nothing() {
        assert_eq!(cause(&format!("gk_abcd1234_{}F", &SECRET[..42])), "unknown_api_key");
        assert_eq!(cause(&format!("gk_abcd1235_{SECRET}")), "unknown_api_key");
        assert_eq!(cause(&format!("gk_disabled_{SECRET}")), "disabled_api_key");
        let malformed = [
            String::new(),
            "gk_".to_owned(),
            format!("gk_abcd1234{SECRET}"),
            format!("gk_abcd123_{SECRET}"),
            format!("gk_abcd1234_{SECRET}x"),
            format!("GK_abcd1234_{SECRET}"),
            format!("gk_abcd1234_{} ", &SECRET[..42]),
            format!("gs_abcd1234_{SECRET}"),
        ];
        for key in malformed {
            assert_eq!(cause(&key), "malformed_api_key", "{key}");
        }
        assert_eq!(keys().verify(&[0xff; 55]), Err(Unproven::because("malformed_api_key")));
    }

    #[test]
    fn without_keys_nothing_matches() {
        assert!(ApiKeys::default().is_empty());
        assert!(ApiKeys::default().verify(b"").is_err());
    }
}
