//! Development tokens: `Bearer dev:<user_type>:<principal>` is that caller in the default scope,
//! `Bearer dev:<tenant>/<project>:<user_type>:<principal>` in that one.
//!
//! Responsible for trying things out without an identity provider. Must never be reachable from another machine: the
//! command line refuses to start with `--dev-tokens` on anything but a loopback listener.

use async_trait::async_trait;
use portcullis_config::{Scope, UserType};

use crate::caller::{Caller, Source};
use crate::credential::{Credential, Presented, SessionResolver, Unproven};
use crate::digest;

const PREFIX: &str = "dev:";

/// Longest principal a development token may name, bytes.
const MAX_PRINCIPAL: usize = 128;

/// Believes what a development token says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DevTokens;

#[async_trait]
impl SessionResolver for DevTokens {
    async fn resolve(&self, presented: &Presented<'_>) -> Result<Option<Caller>, Unproven> {
        let (Credential::Bearer(token) | Credential::QueryToken(token)) = presented.credential else { return Ok(None) };
        if !token.starts_with(PREFIX) {
            return Ok(None);
        }
        parse(token).map(Some).ok_or(Unproven::Failed("malformed"))
    }
}

/// Whether a principal is one of a development token's, whichever credential it shows by now.
pub(crate) fn names(principal: &str) -> bool {
    principal.starts_with(PREFIX)
}

fn parse(token: &str) -> Option<Caller> {
    let (first, rest) = token.strip_prefix(PREFIX)?.split_once(':')?;
    // A user type has no slash, so the two forms cannot be taken for each other.
    let (scope, user_type, principal) = match first.split_once('/') {
        Some((tenant, project)) => {
            let (user_type, principal) = rest.split_once(':')?;
            (Some(Scope::new(tenant, project).ok()?), user_type, principal)
        }
        None => (None, first, rest),
    };
    let user_type = UserType::new(user_type).ok()?;
    let well_formed =
        (1..=MAX_PRINCIPAL).contains(&principal.len()) && principal.bytes().all(|byte| byte.is_ascii_graphic());
    // The name as well as the type makes the session: `dev:paid:ada` and `dev:registered:ada` have limits of their own.
    well_formed.then(|| {
        let session_id = format!("dev-{}", digest::short_hex(&["dev", user_type.as_str(), principal]));
        let principal = format!("dev:{principal}");
        Caller { scope, ..Caller::new(principal, user_type, session_id, Source::DevToken) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_type_and_principal() {
        let caller = parse("dev:paid:ada").unwrap();
        assert_eq!((caller.user_type.as_str(), caller.principal.as_str()), ("paid", "dev:ada"));
        assert!(caller.session_id.starts_with("dev-") && !caller.session_id.contains("ada"));
        assert_eq!(parse("dev:paid:a:b").unwrap().principal, "dev:a:b");
    }

    #[test]
    fn a_token_may_name_a_scope() {
        assert_eq!(parse("dev:paid:ada").unwrap().scope, None);
        let elsewhere = parse("dev:acme/shop:paid:a/b:c").unwrap();
        assert_eq!(elsewhere.scope, Some(Scope::new("acme", "shop").unwrap()));
        assert_eq!((elsewhere.user_type.as_str(), elsewhere.principal.as_str()), ("paid", "dev:a/b:c"));
    }

    #[test]
    fn sessions_differ_by_type_and_by_name() {
        let session = |token| parse(token).unwrap().session_id;
        assert_eq!(session("dev:paid:ada"), session("dev:paid:ada"));
        assert_ne!(session("dev:paid:ada"), session("dev:registered:ada"));
        assert_ne!(session("dev:paid:ada"), session("dev:paid:bob"));
    }

    #[test]
    fn anything_else_is_nobody() {
        let long = format!("dev:paid:{}", "a".repeat(MAX_PRINCIPAL + 1));
        for token in
            ["", "dev:", "dev:paid", "dev:paid:", "dev::ada", "dev:Paid:ada", "DEV:paid:ada", "dev:paid:a b", &long]
        {
            assert_eq!(parse(token), None, "{token}");
        }
        for token in ["dev:acme/shop:paid", "dev:/shop:paid:ada", "dev:acme/:paid:ada", "dev:acme/a/b:paid:ada"] {
            assert_eq!(parse(token), None, "{token}");
        }
    }
}
