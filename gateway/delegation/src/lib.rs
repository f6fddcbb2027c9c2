//! Delegation chains: what a person lets an agent do, and an agent another, provable offline.
//!
//! Responsible for minting, narrowing and verifying chains of Ed25519 tokens. Must never touch a network, a store or a
//! clock: a tool server that depends on this crate verifies with nothing but a public key.
//!
//! # On the wire
//!
//! A chain is `T0~T1~…~Tn`, the root first: at most 8 tokens and 8 KiB. It is presented as `Authorization: Bearer` or,
//! if its last token has a `cnf`, as `Authorization: DPoP` with a proof in the `DPoP` header (RFC 9449). Never in a
//! query or a cookie.
//!
//! A token is a compact JWS with the header `{"alg":"EdDSA","typ":"at+jwt"}`, in the root with a `kid` too, and no
//! other members. `Ed25519` (RFC 9864) is taken for `EdDSA`. The members of its payload are [`Claims`], and no others:
//!
//! | member | root, signed by the deployment | below, signed by the holder of the token before |
//! |---|---|---|
//! | `iss` | the deployment | `urn:ietf:params:oauth:jwk-thumbprint:sha-256:` and the thumbprint of that holder's key |
//! | `sub`, `tid`, `sid` | principal, tenant/project, session | the same |
//! | `client_id` | the agent it is for | the agent it is for |
//! | `aud` | 1 to 4 resources | some of them |
//! | `iat`, `exp` | at most 3600 s apart | at most 900 s, below that 300 s; no longer than the parent |
//! | `scope` | `*` allowed | each covered by one of the parent ([`scope`]) |
//! | `constraints` | upper bounds | every one of the parent, none looser |
//! | `del_depth`, `del_max_depth` | 0; at most 8 tokens | the place; no more than the parent |
//! | `par_hash` | absent | SHA-256 of the parent's signing input |
//! | `cnf` | needed if it may have children | needed if it may have children |
//! | `ut` | highest user type, may be absent | absent |
//! | `jti`, `reason` | a ULID; 1 to 200 characters | the same |
//!
//! A token without `cnf` works as a plain bearer token but has no children; one with `cnf` has to be proven. Whoever
//! sees a chain therefore cannot strip its last token and use the rest.
//!
//! # What a tool server does
//!
//! [`Chain::parse`], [`Verifier::verify`], [`Checked::present`], then, which this crate cannot do:
//!
//! 1. Let every [`Presented::proof_id`] be used once only within [`PROOF_MEMORY_SECONDS`].
//! 2. Ask whether any of [`Delegation::revocation_members`] has been revoked, of a list that is fresh. Not to know is
//!    not to be allowed: with a list older than a few seconds the answer is 503, never 200. A server without a list
//!    takes a revoked chain until it expires: up to an hour for a root, 15 and then 5 minutes below.
//! 3. Check that [`Delegation::scopes`] cover what is asked for, and apply [`Delegation::constraints`].
//! 4. Answer a refusal with 401 and nothing more, and put [`Refused::code`] into the audit event.

mod strict;
mod refused;
mod lifetime;
pub mod scope;
mod constraint;
mod key;
mod secret_key;
mod claims;
mod token;
mod chain;
mod narrowing;
mod mint;
mod attenuate;
mod target_uri;
mod dpop;
mod delegation;
mod verify;

pub use attenuate::{Narrowing, attenuate};
pub use chain::{Chain, PRESENTED_MAX, SEPARATOR};
pub use claims::{AUDIENCES_MAX, Claims, Confirmation, HOPS_MAX, NAME_MAX, REASON_MAX, is_name};
pub use constraint::{CONSTRAINTS_MAX, Constraint};
pub use delegation::{Delegation, Hop};
pub use dpop::{PROOF_MAX, PROOF_MEMORY_SECONDS, Proof, prove};
pub use key::{Jwk, KeyError, PublicKey};
pub use lifetime::{AboveCap, Lifetimes, SKEW_SECONDS};
pub use mint::{DEPTH_DEFAULT, Grant, mint};
pub use refused::{Fault, Refused, Widened};
pub use scope::{NotScope, SCOPES_MAX, Scope, ScopeSet};
pub use secret_key::SecretKey;
pub use target_uri::{NotTarget, TargetUri};
pub use token::Token;
pub use verify::{Checked, Expected, Presentation, Presented, RootKey, Verifier};
