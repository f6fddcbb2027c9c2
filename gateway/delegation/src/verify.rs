//! Verification: whether a chain is genuine, in force, for here, and presented by whom it was issued to.
//!
//! Responsible for the order of the checks: what costs nothing first, signatures last, so that a stranger cannot make a
//! verifier work. Must never ask anybody anything: keys are configured and time is passed in. Whether a chain has been
//! revoked is therefore not known here; see [`Delegation::revocation_members`].

use std::sync::Arc;

use crate::chain::Chain;
use crate::delegation::{Delegation, Hop};
use crate::dpop::Proof;
use crate::key::{KeyError, PublicKey};
use crate::lifetime::Lifetimes;
use crate::narrowing;
use crate::refused::{Fault, Refused};
use crate::strict;
use crate::target_uri::TargetUri;

/// A key that may sign roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKey {
    /// Whose it is: `iss` of the roots it signs.
    pub issuer: String,
    /// Its name among the issuer's keys: `kid` of the roots it signs.
    pub key_id: String,
    /// The key.
    pub key: PublicKey,
}

/// Who must be named by a chain for it to be taken here.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// This resource, which the audience of the last token must contain, byte for byte.
    pub resource: &'a str,
    /// The tenant and project served here. `None`: any, as for a tool that serves several.
    pub tenant: Option<&'a str>,
}

/// How the chain was presented.
#[derive(Clone, Copy, Debug)]
pub enum Presentation<'a> {
    /// `Authorization: Bearer`, without a proof.
    Bearer,
    /// `Authorization: DPoP`, with the proof of the `DPoP` header.
    Dpop {
        /// The proof, see [`Proof::parse`].
        proof: &'a Proof,
        /// The method of the request.
        method: &'a str,
        /// The address of the request, from the configured public address of this server and never from `Host`.
        target: &'a TargetUri,
    },
}

/// Verifies chains against configured keys.
#[derive(Clone, Debug)]
pub struct Verifier {
    roots: Vec<RootKey>,
    lifetimes: Lifetimes,
}

/// A chain that is genuine and for here. Not yet a delegation: [`Checked::present`] makes it one for a request.
///
/// This much of the verdict does not depend on the request and may be kept until [`Checked::expires_at_seconds`], by a
/// hash of the presented text and by what was expected: for another resource or tenant it is another verdict.
#[derive(Clone, Debug)]
pub struct Checked {
    delegation: Arc<Delegation>,
    presented_hash: String,
}

/// A delegation that may be acted on, revocation aside.
#[derive(Clone, Debug)]
pub struct Presented {
    /// What it says.
    pub delegation: Arc<Delegation>,
    /// The id of the proof, which the caller must let be used once only within
    /// [`PROOF_MEMORY_SECONDS`](crate::PROOF_MEMORY_SECONDS). `None`: a bearer token, without a proof.
    pub proof_id: Option<String>,
}

impl Verifier {
    /// Trusts these keys, and these lifetimes.
    #[must_use]
    pub fn new(roots: Vec<RootKey>, lifetimes: Lifetimes) -> Self {
        Self { roots, lifetimes }
    }

    /// Whether the chain is in force now, narrows at every step, is for here and is signed from the root to the last
    /// token.
    pub fn verify(&self, chain: &Chain, expected: &Expected<'_>, now_seconds: u64) -> Result<Checked, Refused> {
        narrowing::check_times(chain, &self.lifetimes, now_seconds)?;
        narrowing::check_links(chain)?;
        let root = self.root_of(chain)?;
        if expected.tenant.is_some_and(|tenant| chain.root().claims().tid != tenant) {
            return Err(Fault::WrongTenant.at(0));
        }
        let leaf = chain.leaf().claims();
        if !leaf.aud.iter().any(|name| name == expected.resource) {
            return Err(Fault::WrongAudience.at(chain.tokens().len() - 1));
        }
        let holder = check_signatures(chain, root)?;
        let hops = chain.tokens().iter().map(|token| Hop::new(token.claims(), token.scopes(), token.hash()));
        let delegation = Delegation {
            principal: leaf.sub.clone(),
            tenant: leaf.tid.clone(),
            session: leaf.sid.clone(),
            actor: leaf.client_id.clone(),
            user_type: chain.root().claims().ut.clone(),
            audience: leaf.aud.clone(),
            scopes: chain.leaf().scopes().clone(),
            constraints: leaf.constraints.clone(),
            expires_at_seconds: leaf.exp,
            holder,
            hops: hops.collect(),
        };
        let presented_hash = strict::sha256(chain.presented().as_bytes());
        Ok(Checked { delegation: Arc::new(delegation), presented_hash })
    }

    /// The configured key that the root says it is signed with.
    fn root_of(&self, chain: &Chain) -> Result<PublicKey, Refused> {
        let root = chain.root();
        let mut of_issuer = self.roots.iter().filter(|key| key.issuer == root.claims().iss).peekable();
        if of_issuer.peek().is_none() {
            return Err(Fault::UnknownIssuer.at(0));
        }
        let named = match root.key_id() {
            Some(id) => of_issuer.find(|key| key.key_id == id),
            // Without a name it must be beyond doubt.
            None => of_issuer.next().filter(|_| of_issuer.next().is_none()),
        };
        named.map(|key| key.key).ok_or(Fault::UnknownKey.at(0))
    }
}

/// Verifies every signature, from the root on, and returns the key of the last holder.
fn check_signatures(chain: &Chain, root: PublicKey) -> Result<Option<PublicKey>, Refused> {
    let mut signer = Some(root);
    for (hop, token) in chain.tokens().iter().enumerate() {
        let key = signer.ok_or(Fault::NotDelegable.at(hop))?;
        if !key.has_signed(token.signing_input(), token.signature()) {
            return Err(Fault::BadSignature.at(hop));
        }
        let holder = token.claims().cnf.as_ref().map(|cnf| PublicKey::from_jwk(&cnf.jwk)).transpose();
        signer = holder.map_err(|error| match error {
            KeyError::Weak => Fault::WeakKey.at(hop),
            _ => Fault::Malformed.at(hop),
        })?;
    }
    Ok(signer)
}

impl Checked {
    /// Tenant and project it is for.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.delegation.tenant
    }

    /// When this verdict is over, seconds since 1970.
    #[must_use]
    pub fn expires_at_seconds(&self) -> u64 {
        self.delegation.expires_at_seconds
    }

    /// SHA-256 of the presented text, base64url.
    #[must_use]
    pub fn presented_hash(&self) -> &str {
        &self.presented_hash
    }

    /// Whether the chain may be used in this way now. To be asked for every request, also for a verdict that was kept.
    pub fn present(&self, how: &Presentation<'_>, now_seconds: u64) -> Result<Presented, Refused> {
        let delegation = self.delegation.clone();
        if now_seconds >= delegation.expires_at_seconds {
            return Err(Fault::Expired.at(delegation.hops.len() - 1));
        }
        let proof_id = match (how, &delegation.holder) {
            (Presentation::Bearer, None) => None,
            (Presentation::Bearer, Some(_)) => return Err(Fault::ProofRequired.into()),
            (Presentation::Dpop { .. }, None) => return Err(Fault::ProofUnexpected.into()),
            (Presentation::Dpop { proof, method, target }, Some(holder)) => {
                proof.check(holder, method, target, &self.presented_hash, now_seconds)?;
                Some(proof.id().to_owned())
            }
        };
        Ok(Presented { delegation, proof_id })
    }
}
