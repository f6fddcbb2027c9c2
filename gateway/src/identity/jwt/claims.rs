//! The claims of a token whose signature is good (RFC 7519 §4.1).
//!
//! Responsible for whether they make a caller of this gateway, and which. Must never read a claim that the document
//! does not name beside the registered ones: users can write some of their own into others.

use portcullis_config::Scope;
use serde_json::Value;

use crate::identity::jwt::{Issuer, Place, TokenUse};
use crate::identity::{LEEWAY_SECONDS, Proven, Unproven};

/// Longest `sub`, bytes.
const MAX_SUBJECT: usize = 256;

/// Most words of a claim that lists some: audiences, groups, scopes.
const MAX_WORDS: usize = 512;

/// The caller these claims make at this time, in seconds since the epoch.
pub(super) fn judge(claims: &Value, issuer: &Issuer, now: u64) -> Result<Proven, Unproven> {
    let (issued_at, expires_at) = judge_times(claims, issuer, now)?;
    judge_audience(claims, issuer)?;
    if claims.get("cnf").is_some() {
        // RFC 7800: whoever presents it has to prove that it holds a key, and a bearer token proves nothing.
        return Err(Unproven::because("proof_required"));
    }
    let subject = claims["sub"].as_str().filter(|subject| is_subject(subject));
    let subject = subject.ok_or(Unproven::because("no_subject"))?;
    let groups = words_at(claims, &issuer.groups_claim).ok_or(Unproven::because("malformed_groups"))?;
    let scopes = match &issuer.scopes_claim {
        Some(claim) => Some(scopes(&claims[claim.as_str()]).ok_or(Unproven::because("malformed_scopes"))?),
        None => None,
    };
    Ok(Proven {
        principal: format!("{}{subject}", issuer.principal_prefix),
        user_type: issuer.user_types.of(groups),
        scopes,
        scope: scope(claims, &issuer.place)?,
        issued_at_ms: issued_at * 1000,
        expires_at_ms: Some(expires_at * 1000),
        class: "jwt",
        issuer: issuer.issuer.clone(),
    })
}

/// `iat` and `exp`, in whole seconds; fractions, which RFC 7519 allows and no issuer writes, are refused.
fn judge_times(claims: &Value, issuer: &Issuer, now: u64) -> Result<(u64, u64), Unproven> {
    /// Past the year 9999, what is meant is no time.
    const LAST: u64 = 253_402_300_799;
    let time = |claim: &str| claims[claim].as_u64().filter(|seconds| *seconds <= LAST);
    let issued_at = time("iat").ok_or(Unproven::because("no_issue_time"))?;
    let expires_at = time("exp").ok_or(Unproven::because("no_expiry"))?;
    let not_before = match claims.get("nbf") {
        Some(_) => time("nbf").ok_or(Unproven::because("malformed_time"))?,
        None => 0,
    };
    if now >= expires_at + LEEWAY_SECONDS {
        Err(Unproven::because("expired"))
    } else if issued_at > now + LEEWAY_SECONDS {
        Err(Unproven::because("issued_in_the_future"))
    } else if not_before > now + LEEWAY_SECONDS {
        Err(Unproven::because("not_yet_valid"))
    } else if issuer.max_age_seconds.is_some_and(|most| now > issued_at + most) {
        Err(Unproven::because("too_old"))
    } else {
        Ok((issued_at, expires_at))
    }
}

/// Whether the token was issued for this gateway. Cognito's access tokens have no `aud`: their `client_id` says so.
fn judge_audience(claims: &Value, issuer: &Issuer) -> Result<(), Unproven> {
    let known = |names: &[String], name: &Value| name.as_str().is_some_and(|name| names.iter().any(|own| own == name));
    let audience = || match &claims["aud"] {
        Value::Array(names) => {
            names.len() <= MAX_WORDS
                && names.iter().all(Value::is_string)
                && names.iter().any(|name| known(&issuer.audiences, name))
        }
        name => known(&issuer.audiences, name),
    };
    let client = || known(&issuer.client_ids, &claims["client_id"]);
    if issuer.token_use.is_empty() {
        if !audience() {
            return Err(Unproven::because("wrong_audience"));
        }
        let any_client = issuer.client_ids.is_empty() || client() || known(&issuer.client_ids, &claims["azp"]);
        return if any_client { Ok(()) } else { Err(Unproven::because("wrong_client")) };
    }
    let token_use = match claims["token_use"].as_str() {
        Some("id") => Some(TokenUse::Id),
        Some("access") => Some(TokenUse::Access),
        _ => None,
    };
    match token_use.filter(|token_use| issuer.token_use.contains(token_use)) {
        None => Err(Unproven::because("wrong_token_use")),
        Some(TokenUse::Id) if !audience() => Err(Unproven::because("wrong_audience")),
        Some(TokenUse::Access) if !client() => Err(Unproven::because("wrong_client")),
        Some(_) => Ok(()),
    }
}

/// A subject becomes part of ids, keys and headers.
pub(in crate::identity) fn is_subject(subject: &str) -> bool {
    (1..=MAX_SUBJECT).contains(&subject.len()) && subject.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The words of the claim at the end of this way: a list of text, or one text which is then one word. None where there
/// is no claim or no way to one; `None` where it is something else.
pub(in crate::identity) fn words_at<'a>(claims: &'a Value, way: &[String]) -> Option<Vec<&'a str>> {
    let claim = way.iter().try_fold(claims, |inner, name| inner.get(name.as_str()));
    match claim.filter(|_| !way.is_empty()) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(word)) => Some(vec![word]),
        Some(Value::Array(words)) if words.len() <= MAX_WORDS => words.iter().map(Value::as_str).collect(),
        Some(_) => None,
    }
}

/// RFC 6749 §3.3: words with single spaces between them; some issuers write a list.
fn scopes(claim: &Value) -> Option<Vec<String>> {
    match claim {
        Value::Null => Some(Vec::new()),
        Value::String(text) => {
            let words: Vec<String> = text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
            (words.len() <= MAX_WORDS).then_some(words)
        }
        Value::Array(words) if words.len() <= MAX_WORDS => {
            words.iter().map(|word| word.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    }
}

fn scope(claims: &Value, place: &Place) -> Result<Option<Scope>, Unproven> {
    match place {
        Place::Fixed(scope) => Ok(scope.clone()),
        Place::Claims { tenant, project } => {
            let claim = |name: &str| claims[name].as_str().ok_or(Unproven::because("no_scope"));
            let scope = Scope::new(claim(tenant)?, claim(project)?);
            scope.map(Some).map_err(|_| Unproven::because("malformed_scope"))
        }
    }
}

#[cfg(test)]
mod tests;
