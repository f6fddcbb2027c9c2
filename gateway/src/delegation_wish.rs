//! What a caller says of a delegation it wants.
//!
//! Responsible for reading it completely, every fault with its path. Must never fill in what decides how far it
//! reaches: scopes, agent and reason have to be said.

use portcullis_config::UserType;
use portcullis_delegation::{
    AUDIENCES_MAX, Constraint, Fault, Grant, Jwk, NAME_MAX, PublicKey, REASON_MAX, Refused, Scope, ScopeSet, is_name,
};
use serde_json::Value;

use crate::admission::session::Identity;
use crate::delegation_terms::{DelegationTerms, is_slip};
use crate::refusal::RequestFault;
use crate::submitted::Submitted;

const KNOWN: &str = "agent, scopes, reason, audience, ttl_seconds, max_depth, constraints, key";

/// A delegation as it was asked for.
#[derive(Debug)]
pub(crate) struct DelegationWish {
    agent: String,
    pub(crate) scopes: ScopeSet,
    reason: String,
    audience: Option<Vec<String>>,
    ttl_seconds: Option<u64>,
    max_depth: Option<u8>,
    constraints: Vec<Constraint>,
    key: Option<PublicKey>,
}

impl DelegationWish {
    /// Takes it out of a body; faults are noted there. `None` where there are some.
    pub(crate) fn take(body: &mut Submitted) -> Option<Self> {
        let agent = agent(body);
        let scopes = scopes(body);
        let reason = body.take_reason("reason", REASON_MAX);
        let audience = audience(body);
        let ttl_seconds = body.take_whole("ttl_seconds");
        let max_depth = body.take_whole("max_depth").map(|depth| u8::try_from(depth).unwrap_or(u8::MAX));
        let constraints = constraints(body);
        let key = key(body);
        body.nothing_else(KNOWN);
        let missing = [("agent", agent.is_none()), ("scopes", scopes.is_none()), ("reason", reason.is_none())];
        for (name, missing) in missing {
            if missing && body.faults.iter().all(|fault| fault.path != name) {
                body.wrong::<()>(name, "is required");
            }
        }
        let (agent, scopes, reason) = (agent?, scopes?, reason?);
        Some(Self { agent, scopes, reason, audience, ttl_seconds, max_depth, constraints, key })
    }

    /// What is to be minted for this caller, as this user type.
    pub(crate) fn grant(self, terms: &DelegationTerms, identity: &Identity, user_type: &UserType) -> Grant {
        let (scope, caller) = (identity.scope().store().scope(), identity.caller());
        Grant {
            issuer: terms.issuer().to_owned(),
            principal: identity.principal().to_owned(),
            tenant: scope.to_string(),
            // A login that ends takes with it what was delegated from it.
            session: caller.login.as_ref().map_or(identity.session_id(), |login| login.as_str()).to_owned(),
            user_type: Some(user_type.to_string()),
            client_id: self.agent,
            audience: self.audience.unwrap_or_else(|| vec![terms.resource_of(scope)]),
            scopes: self.scopes,
            constraints: self.constraints,
            lifetime_seconds: self.ttl_seconds,
            max_depth: self.max_depth,
            holder: self.key,
            reason: self.reason,
        }
    }
}

/// Why what was wished for cannot be minted, under the name of what was wished for.
pub(crate) fn fault(refused: Refused) -> RequestFault {
    let name = match refused.fault {
        Fault::LifetimeExceeded => "ttl_seconds",
        Fault::TooDeep => "max_depth",
        Fault::HolderKeyRequired => "key",
        // Names, key and scopes were looked at before.
        Fault::Malformed => "constraints",
        _ => "",
    };
    RequestFault::new(name, refused.fault.to_string())
}

fn scopes(body: &mut Submitted) -> Option<ScopeSet> {
    let list = list(body, "scopes")?;
    let parsed: Result<Vec<Scope>, _> = list.iter().map(|scope| scope.parse()).collect();
    let set = parsed.and_then(ScopeSet::new).ok();
    set.or_else(|| {
        body.wrong(
            "scopes",
            "must be 1 to 64 different scopes: words of a-z, 0-9, `_`, `.` and `-` joined by `:`, the last maybe `*`",
        )
    })
}

fn agent(body: &mut Submitted) -> Option<String> {
    let name = body.take_name("agent", NAME_MAX)?;
    if is_name(&name) { Some(name) } else { body.wrong("agent", "must be printable ASCII without spaces") }
}

fn audience(body: &mut Submitted) -> Option<Vec<String>> {
    let list = list(body, "audience")?;
    let fits = (1..=AUDIENCES_MAX).contains(&list.len()) && list.iter().all(|name| is_name(name));
    if fits { Some(list) } else { body.wrong("audience", "must be 1 to 4 resources, of up to 256 characters each") }
}

fn list(body: &mut Submitted, name: &str) -> Option<Vec<String>> {
    let given = body.take(name)?;
    let list = given.as_array().map(|list| list.iter().filter_map(|each| each.as_str().map(str::to_owned)).collect());
    let list: Option<Vec<String>> =
        list.filter(|texts: &Vec<String>| Some(texts.len()) == given.as_array().map(Vec::len));
    list.or_else(|| body.wrong(name, "must be a list of strings"))
}

fn constraints(body: &mut Submitted) -> Vec<Constraint> {
    let Some(given) = body.take("constraints") else { return Vec::new() };
    let Value::Object(given) = given else {
        body.wrong::<()>("constraints", "must be an object of whole numbers");
        return Vec::new();
    };
    let mut constraints = Vec::new();
    for (key, max) in given {
        match max.as_u64() {
            Some(_) if is_slip(&key) => {
                let message = "is no bound on calls that is kept; calls_per_min and calls_per_hour are";
                body.wrong::<()>(&format!("constraints.{key}"), message);
            }
            Some(max) => constraints.push(Constraint { key, max }),
            None => {
                body.wrong::<()>(&format!("constraints.{key}"), "must be a whole number");
            }
        }
    }
    constraints
}

fn key(body: &mut Submitted) -> Option<PublicKey> {
    let given = body.take("key")?;
    let key = serde_json::from_value::<Jwk>(given).ok().and_then(|jwk| PublicKey::from_jwk(&jwk).ok());
    key.or_else(|| body.wrong("key", "must be an Ed25519 public key as a JWK (RFC 8037)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_how_far_it_reaches_has_to_be_said() {
        let mut body = Submitted::parse(b"{}").unwrap();
        assert!(DelegationWish::take(&mut body).is_none());
        let paths: Vec<&str> = body.faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["agent", "scopes", "reason"]);
    }

    #[test]
    fn every_fault_is_named() {
        let text = r#"{"agent": 1, "scopes": ["A:b"], "reason": "", "audience": "x", "constraints": {"a": -1},
            "key": {"kty": "RSA"}, "colour": "red"}"#;
        let mut body = Submitted::parse(text.as_bytes()).unwrap();
        assert!(DelegationWish::take(&mut body).is_none());
        let paths: Vec<&str> = body.faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["agent", "scopes", "reason", "audience", "constraints.a", "key", "colour"]);
    }

    #[test]
    fn a_bound_on_calls_that_nobody_keeps_is_a_slip_and_others_are_for_others() {
        let faults = |key: &str| {
            let text = format!(r#"{{"agent": "a", "scopes": ["x"], "reason": "r", "constraints": {{"{key}": 5}}}}"#);
            let mut body = Submitted::parse(text.as_bytes()).unwrap();
            let _ = DelegationWish::take(&mut body);
            body.faults.iter().map(|fault| fault.path.clone()).collect::<Vec<_>>()
        };
        for key in ["calls_per_min", "calls_per_hour", "max_spend", "rows"] {
            assert!(faults(key).is_empty(), "{key}");
        }
        for key in ["calls_per_minute", "calls_per_sec", "calls"] {
            assert_eq!(faults(key), [format!("constraints.{key}")]);
        }
    }

    #[test]
    fn names_are_those_that_a_token_takes() {
        let faults = |agent: &str, audience: &str| {
            let text = format!(r#"{{"agent": "{agent}", "scopes": ["x"], "reason": "r", "audience": {audience}}}"#);
            let mut body = Submitted::parse(text.as_bytes()).unwrap();
            let _ = DelegationWish::take(&mut body);
            body.faults.iter().map(|fault| fault.path.clone()).collect::<Vec<_>>()
        };
        assert!(faults(&"a".repeat(256), r#"["a", "b", "c", "d"]"#).is_empty());
        for audience in ["[]", r#"["a", "b", "c", "d", "e"]"#, r#"["a b"]"#, r#"[""]"#] {
            assert_eq!(faults("a", audience), ["audience"], "{audience}");
        }
        for agent in ["", "a b", "é", &"a".repeat(257)] {
            assert_eq!(faults(agent, r#"["a"]"#), ["agent"], "{agent:?}");
        }
    }

    #[test]
    fn what_cannot_be_minted_is_told_by_the_name_it_was_wished_for() {
        let told = |fault: Fault| super::fault(fault.into()).path;
        let faults = [Fault::LifetimeExceeded, Fault::TooDeep, Fault::HolderKeyRequired, Fault::Malformed];
        assert_eq!(faults.map(told), ["ttl_seconds", "max_depth", "key", "constraints"]);
    }

    #[test]
    fn a_whole_wish_is_read() {
        let text = r#"{"agent": "researcher", "scopes": ["tasks:submit:chat", "tasks:read"], "reason": "nightly report",
            "ttl_seconds": 600, "constraints": {"calls_per_min": 5}}"#;
        let mut body = Submitted::parse(text.as_bytes()).unwrap();
        let wish = DelegationWish::take(&mut body).unwrap();
        assert_eq!((body.faults.len(), wish.agent.as_str(), wish.ttl_seconds), (0, "researcher", Some(600)));
        assert_eq!(wish.constraints, [Constraint { key: "calls_per_min".to_owned(), max: 5 }]);
    }
}
