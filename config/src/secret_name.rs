//! Names of what must not be shown: of members, settings, headers and query parameters.
//!
//! Responsible for the one list of them. Must never miss a name for the way it is spelt: `X-Api-Key`, `api_key` and
//! `apiKey` are one.

/// Parts of the names of secrets, without the signs between their words.
const SECRET_NAMES: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "privatekey",
    "signature",
    "dpop",
    "xamznoidc",
];

/// Names that look like those of secrets and are none: amounts.
const AMOUNTS: [&str; 6] = ["maxtokens", "tokenbucket", "tokensremaining", "tokens", "inputtokens", "outputtokens"];

/// Parts of the names of query parameters that are secrets only there.
const IN_A_QUERY: [&str; 2] = ["user", "pass"];

/// Whole names of query parameters that are secrets only there.
const WHOLE_IN_A_QUERY: [&str; 4] = ["auth", "code", "key", "sig"];

/// Whether what stands under this name is a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    names(&letters(name))
}

/// Whether the value of a query parameter of this name is a secret.
#[must_use]
pub fn is_secret_parameter(name: &str) -> bool {
    let letters = letters(name);
    let here = || IN_A_QUERY.iter().any(|part| letters.contains(part)) || WHOLE_IN_A_QUERY.contains(&letters.as_str());
    names(&letters) || here()
}

fn names(letters: &str) -> bool {
    !AMOUNTS.contains(&letters) && SECRET_NAMES.iter().any(|part| letters.contains(part))
}

fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_name_however_it_is_spelt() {
        for name in ["X-Api-Key", "api_key", "apiKey", "clientSecret", "AUTHORIZATION", "Set-Cookie", "token_count"] {
            assert!(is_secret_name(name) && is_secret_parameter(name), "{name}");
        }
        for name in ["max_tokens", "tokens", "kind", "key_prefix", "signed", ""] {
            assert!(!is_secret_name(name), "{name}");
        }
        for name in ["user", "sentinelPassword", "sentinelUsername", "key", "sig", "code"] {
            assert!(is_secret_parameter(name), "{name}");
        }
        for name in ["sentinelServiceName", "keys", "signed", "codec"] {
            assert!(!is_secret_parameter(name), "{name}");
        }
    }
}
