//! Callers who act on somebody's behalf: chains of delegations, presented as bearer tokens or with a proof of
//! possession.
//!
//! Responsible for what a verified chain means here: whom it charges, what it may do, by what it dies. Must never let a
//! cached verdict stand for anything but signatures and structure: proof, revocations and user type are looked at anew
//! for every request. That a proof is used once is seen to when its caller is served; see [`Unspent`](super::Unspent).

mod verdicts;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use portcullis_config::{Scope, UserType};
use portcullis_delegation::{
    Chain, Checked, Constraint, Delegation, Expected, Hop, PROOF_MEMORY_SECONDS, Presentation, Presented as Shown,
    Proof, PublicKey, Refused, Verifier,
};
use portcullis_lua::{Member, Once};
use sha2::{Digest, Sha256};

use crate::caller::{Caller, Source, session_of};
use crate::credential::{Credential, Presented, SessionResolver, Unproven};
use crate::delegation_terms::{CALLS_PER_HOUR, CALLS_PER_MIN, DelegationTerms};

use super::unspent::LONGEST_UNSPENT_SECONDS;

use verdicts::{Verdict, Verdicts};

/// How long a proof must not be used again, at any gateway.
const PROOF_ONCE_MS: u32 = ((PROOF_MEMORY_SECONDS + LONGEST_UNSPENT_SECONDS) * 1000) as u32;

/// Verifies chains.
#[derive(Debug)]
pub(crate) struct Delegated {
    terms: Arc<DelegationTerms>,
    verifier: Verifier,
    verdicts: Verdicts,
}

impl Delegated {
    pub(crate) fn new(terms: Arc<DelegationTerms>) -> Self {
        Self { verifier: terms.verifier(), terms, verdicts: Verdicts::new() }
    }

    fn verdict(&self, text: &str, now_seconds: u64) -> Result<Arc<Verdict>, Unproven> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        if let Some(verdict) = self.verdicts.get(&digest) {
            return Ok(verdict);
        }
        let chain = Chain::parse(text).map_err(failed)?;
        let tenant = &chain.root().claims().tid;
        let scope = parse_scope(tenant).ok_or(Unproven::Failed("malformed"))?;
        let resource = self.terms.resource_of(&scope);
        let expected = Expected { resource: &resource, tenant: None };
        let checked = self.verifier.verify(&chain, &expected, now_seconds).map_err(failed)?;
        let verdict = Arc::new(Verdict { checked, scope, caller: OnceLock::new() });
        self.verdicts.keep(digest, &chain, &verdict);
        Ok(verdict)
    }

    /// The delegation as it was presented with this request.
    fn shown(
        &self,
        checked: &Checked,
        presented: &Presented<'_>,
        bound: bool,
        now_seconds: u64,
    ) -> Result<Shown, Unproven> {
        if !bound {
            return checked.present(&Presentation::Bearer, now_seconds).map_err(failed);
        }
        let proof = presented.proof.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let proof = Proof::parse(proof.ok_or(Unproven::Failed("proof_required"))?).map_err(failed)?;
        let target = self.terms.target_of(presented.uri).ok_or(Unproven::Failed("malformed"))?;
        let how = Presentation::Dpop { proof: &proof, method: presented.method.as_str(), target: &target };
        checked.present(&how, now_seconds).map_err(failed)
    }
}

#[async_trait]
impl SessionResolver for Delegated {
    async fn resolve(&self, presented: &Presented<'_>) -> Result<Option<Caller>, Unproven> {
        let (text, bound) = match presented.credential {
            Credential::Bearer(text) if Chain::is_shape_of(text) => (text, false),
            Credential::Bound(text) => (text, true),
            _ => return Ok(None),
        };
        let now_seconds = DelegationTerms::now_seconds();
        let verdict = self.verdict(text, now_seconds)?;
        let shown = self.shown(&verdict.checked, presented, bound, now_seconds)?;
        let holder = shown.delegation.holder.as_ref();
        let once =
            |(id, holder): (&str, &PublicKey)| Once::new(&format!("{}:{id}", holder.thumbprint()), PROOF_ONCE_MS);
        let proof = shown.proof_id.as_deref().zip(holder).map(once);
        Ok(Some(Caller { proof, ..verdict.bearer(&shown.delegation)? }))
    }
}

impl Verdict {
    /// Who presents it, but for the proof.
    fn bearer(&self, delegation: &Delegation) -> Result<Caller, Unproven> {
        if let Some(caller) = self.caller.get() {
            return Ok(caller.clone());
        }
        let caller = caller_of(delegation, self.scope.clone())?;
        // Of two who come first both make the same.
        Ok(self.caller.get_or_init(|| caller).clone())
    }
}

fn caller_of(delegation: &Delegation, scope: Scope) -> Result<Caller, Unproven> {
    // A root that names no type was not minted by a gateway: it gives the least that a credential can.
    let user_type = UserType::new(delegation.user_type.as_deref().unwrap_or("registered"));
    let user_type = user_type.map_err(|_| Unproven::Failed("malformed"))?;
    let principal = delegation.principal.clone();
    let session_id = session_of(&principal);
    let members = delegation.revocation_members();
    Ok(Caller {
        scope: Some(scope),
        actor: Some(delegation.actor.clone()),
        rights: Some(delegation.scopes.iter().map(|scope| scope.as_str().to_owned()).collect()),
        hops: delegation.hops.iter().map(hop).collect(),
        // In the form they are revoked by: of a long name, a digest.
        members: members.iter().filter_map(|text| Member::parse(text)).map(|member| member.to_string()).collect(),
        issued_at_ms: delegation.root_issued_since_seconds() * 1000,
        expires_at_ms: Some(delegation.expires_at_seconds * 1000),
        ..Caller::new(principal, user_type, session_id, Source::Delegation)
    })
}

/// A hop as decisions are told of it. Bounds of other keys are for whoever is behind the gateway to keep.
fn hop(hop: &Hop) -> portcullis_lua::Hop {
    let bound = |key: &str| {
        let constraint = hop.constraints.iter().find(|constraint| constraint.key == key);
        constraint.map(|Constraint { max, .. }| *max)
    };
    portcullis_lua::Hop {
        client_id: hop.client_id.clone(),
        jti: hop.jti.clone(),
        hash: hop.token_hash.clone(),
        scope: hop.scopes.to_string(),
        exp: hop.expires_at_seconds,
        reason: hop.reason.clone(),
        calls_per_min: bound(CALLS_PER_MIN),
        calls_per_hour: bound(CALLS_PER_HOUR),
    }
}

fn parse_scope(text: &str) -> Option<Scope> {
    let (tenant, project) = text.split_once('/')?;
    Scope::new(tenant, project).ok()
}

/// Why a chain is worth nothing, for the audit.
fn failed(refused: Refused) -> Unproven {
    Unproven::Failed(refused.code())
}

#[cfg(test)]
mod tests {
    use portcullis_delegation::{Grant, Lifetimes, Narrowing, RootKey, SKEW_SECONDS, SecretKey, attenuate, mint};

    use super::*;

    const ISSUER: &str = "https://gw.example";
    const NOW: u64 = 1_800_000_000;

    /// A root for `agent` of this principal, and a token below it for `helper`.
    pub(super) fn chain(principal: &str, agent: &str, helper: &str, scopes: &str) -> Chain {
        let [root, holder] = [1, 2].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let grant = Grant {
            issuer: ISSUER.to_owned(),
            principal: principal.to_owned(),
            tenant: "acme/demo".to_owned(),
            session: session_of(principal),
            user_type: None,
            client_id: agent.to_owned(),
            audience: vec![ISSUER.to_owned()],
            scopes: scopes.parse().unwrap(),
            constraints: Vec::new(),
            lifetime_seconds: None,
            max_depth: None,
            holder: Some(holder.public_key()),
            reason: "plans the work".to_owned(),
        };
        let chain = mint(grant, &root, "root", &Lifetimes::CAPS, NOW).unwrap();
        attenuate(&chain, &holder, Narrowing::of_all(helper, "helps"), NOW).unwrap()
    }

    pub(super) fn verdict(chain: &Chain) -> Verdict {
        let root = SecretKey::from_seed(&[1; 32]);
        let trusted = RootKey { issuer: ISSUER.to_owned(), key_id: "root".to_owned(), key: root.public_key() };
        let expected = Expected { resource: ISSUER, tenant: None };
        let checked = Verifier::new(vec![trusted], Lifetimes::CAPS).verify(chain, &expected, NOW).unwrap();
        Verdict { checked, scope: Scope::new("acme", "demo").unwrap(), caller: OnceLock::new() }
    }

    fn caller(principal: &str, agent: &str, helper: &str) -> Caller {
        let verdict = verdict(&chain(principal, agent, helper, "tasks:*"));
        let shown = verdict.checked.present(&Presentation::Bearer, NOW).unwrap();
        let caller = verdict.bearer(&shown.delegation).unwrap();
        assert_eq!(verdict.bearer(&shown.delegation).unwrap(), caller, "and so every time");
        caller
    }

    #[test]
    fn whoever_is_named_at_length_can_be_revoked_by_that_name_and_by_no_other() {
        for length in [1, 64, 65, 71, 256] {
            let [principal, agent, helper] = ["p", "a", "h"].map(|letter| letter.repeat(length));
            let caller = caller(&principal, &agent, &helper);
            let dies_with = |member: Member<'_>| caller.members.contains(&member.to_string());
            assert!(dies_with(Member::Principal(&principal)) && dies_with(Member::Session(&session_of(&principal))));
            assert!(dies_with(Member::Agent(&agent)) && dies_with(Member::Agent(&helper)), "{length}");
            for hop in caller.hops.iter() {
                assert!(dies_with(Member::Token(&hop.hash)));
            }
            let another = format!("{}x", &agent[1..]);
            assert!(!dies_with(Member::Agent(&another)) && !dies_with(Member::Principal(&agent)), "{length}");
            assert_eq!(caller.members.len(), 7, "two tokens and agents, a key, the principal and its session");
            assert!(caller.members.iter().all(|member| member.len() <= 80), "{:?}", caller.members);
            assert_eq!((caller.actor.as_deref(), caller.principal), (Some(&*helper), principal));
        }
    }

    #[test]
    fn a_name_that_looks_like_the_digest_of_another_is_not_that_other() {
        let long = "a".repeat(65);
        let digest = Member::Agent(&long).to_string();
        let alike = digest.strip_prefix("c:").unwrap();
        assert!(!caller("p", alike, "h").members.contains(&digest));
        assert!(caller("p", &long, "h").members.contains(&digest));
    }

    #[test]
    fn a_root_of_a_clock_that_is_ahead_is_not_issued_after_a_revocation_that_followed_it() {
        assert_eq!(caller("p", "a", "h").issued_at_ms, (NOW - SKEW_SECONDS) * 1000);
    }

    #[test]
    fn a_root_without_a_user_type_gives_the_least_that_a_credential_can() {
        assert_eq!(caller("p", "a", "h").user_type.as_str(), "registered");
    }
}
