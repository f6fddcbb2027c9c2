//! The kinds of credentials, and requests that carry them.
//!
//! Responsible for requests that differ by nothing but the credential. Must never make one while a sample is measured.

use portcullis_config::UserType;
use portcullis_delegation::{Chain, SecretKey, prove};
use portcullis_lua::{Grounds, ScopeStore, SessionKey, SessionRecord, SessionTerms};

use crate::credentials::{Credentials, Granted, RESOURCE, handed_on, now_seconds, secret_key, session_token};
use crate::error::HarnessError;

/// Who am I: every caller is answered, from what its credential says.
const PATH: &str = "/v1/sessions/current";
/// Longer than any measurement.
const LASTS_MS: u64 = 3_600_000;

/// A kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None: the base of all others.
    Nothing,
    /// A development token, which is taken at its word.
    DevToken,
    /// An API key, known by its digest.
    ApiKey,
    /// The internal service's token, known by its digest.
    InternalToken,
    /// An opaque session.
    Session(Seen),
    /// A token of an identity provider.
    Jwt(Seen),
    /// A chain of so many delegations, as a bearer token.
    Chain(usize, Seen),
    /// A chain of so many delegations, with a proof of possession.
    Proven(usize, Seen),
}

/// Whether the gateway has seen it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A moment ago.
    Lately,
    /// Never.
    Never,
}

/// The requests of a sample.
#[derive(Debug)]
pub enum Requests {
    /// One, over and over.
    Same(Vec<u8>),
    /// Each once.
    Each(Vec<Vec<u8>>),
}

impl Credential {
    /// All of them, the base first.
    pub const ALL: [Self; 16] = [
        Self::Nothing,
        Self::DevToken,
        Self::ApiKey,
        Self::InternalToken,
        Self::Session(Seen::Lately),
        Self::Session(Seen::Never),
        Self::Jwt(Seen::Lately),
        Self::Jwt(Seen::Never),
        Self::Chain(1, Seen::Lately),
        Self::Chain(1, Seen::Never),
        Self::Chain(3, Seen::Lately),
        Self::Chain(3, Seen::Never),
        Self::Proven(1, Seen::Lately),
        Self::Proven(1, Seen::Never),
        Self::Proven(3, Seen::Lately),
        Self::Proven(3, Seen::Never),
    ];

    /// What tables call it.
    #[must_use]
    pub fn title(self) -> String {
        let seen = |seen| if seen == Seen::Lately { "seen lately" } else { "never seen" };
        let hops = |hops: usize| if hops == 1 { "1 hop".to_owned() } else { format!("{hops} hops") };
        match self {
            Self::Nothing => "none".to_owned(),
            Self::DevToken => "development token".to_owned(),
            Self::ApiKey => "API key".to_owned(),
            Self::InternalToken => "internal token".to_owned(),
            Self::Session(how) => format!("session, {}", seen(how)),
            Self::Jwt(how) => format!("JWT (RS256), {}", seen(how)),
            Self::Chain(count, how) => format!("chain of {}, {}", hops(count), seen(how)),
            Self::Proven(count, how) => format!("chain of {} with DPoP, {}", hops(count), seen(how)),
        }
    }

    /// So many requests with it.
    pub async fn requests(self, issued: &Issued<'_>, count: u32) -> Result<Requests, HarnessError> {
        let same = |header: String| Ok(Requests::Same(request(&header)));
        match self {
            Self::Nothing => same(String::new()),
            Self::DevToken => same(bearer("dev:paid:ada")),
            Self::ApiKey => same(format!("X-API-Key: {}\r\n", issued.credentials.api_key())),
            Self::InternalToken => same(format!("X-Internal-Token: {}\r\n", issued.credentials.internal_token())),
            Self::Session(Seen::Lately) => same(bearer(&issued.session().await?)),
            Self::Session(Seen::Never) => {
                let mut requests = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    requests.push(request(&bearer(&issued.session().await?)));
                }
                Ok(Requests::Each(requests))
            }
            Self::Jwt(Seen::Lately) => same(bearer(&issued.jwt()?)),
            Self::Jwt(Seen::Never) => each(count, || Ok(bearer(&issued.jwt()?))),
            Self::Chain(hops, Seen::Lately) => same(bearer(issued.chain(hops, None)?.presented())),
            Self::Chain(hops, Seen::Never) => each(count, || Ok(bearer(issued.chain(hops, None)?.presented()))),
            Self::Proven(hops, Seen::Lately) => {
                let holder = secret_key()?;
                let chain = issued.chain(hops, Some(&holder))?;
                each(count, || proven(&chain, &holder))
            }
            Self::Proven(hops, Seen::Never) => {
                let holder = secret_key()?;
                each(count, || proven(&issued.chain(hops, Some(&holder))?, &holder))
            }
        }
    }
}

fn each(count: u32, header: impl Fn() -> Result<String, HarnessError>) -> Result<Requests, HarnessError> {
    let requests = (0..count).map(|_| header().map(|header| request(&header)));
    requests.collect::<Result<_, _>>().map(Requests::Each)
}

/// What credentials are made of.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// Those that the gateway believes.
    pub credentials: &'a Credentials,
    /// Where sessions are kept.
    pub store: &'a ScopeStore,
}

impl Issued<'_> {
    /// A session that has just been opened, of a principal of its own.
    async fn session(&self) -> Result<String, HarnessError> {
        let token = session_token();
        let key = SessionKey::of_token(&token);
        let record = SessionRecord {
            principal: format!("user-{}", &key.as_str()[..16]),
            user_type: UserType::new("paid").map_err(|error| HarnessError::Answer(error.to_string()))?,
            session_id: format!("session-{}", &key.as_str()[..16]),
            scopes: Vec::new(),
            issuer: None,
            client_type: None,
            label: None,
        };
        let grounds = Grounds { by: "bench", reason: "measured", max_audit_events: 100 };
        self.store.login(&key, &record, SessionTerms { lasts_ms: LASTS_MS, most: 1 }, grounds).await?;
        Ok(token)
    }

    /// A new token of the same user.
    fn jwt(&self) -> Result<String, HarnessError> {
        self.credentials.jwt("ada", &["paid"])
    }

    /// A new chain of this length; with a key at its end it has to be proven.
    fn chain(&self, hops: usize, last: Option<&SecretKey>) -> Result<Chain, HarnessError> {
        let between: Vec<SecretKey> = (1..hops).map(|_| secret_key()).collect::<Result<_, _>>()?;
        let holders = || between.iter().map(Some).chain([last]);
        let granted = Granted {
            scope: self.store.scope(),
            principal: "ada",
            agent: "agent-0",
            holder: holders().next().flatten(),
            reason: "is measured",
        };
        let mut chain = self.credentials.mint(&granted)?;
        for (hop, (holder, next)) in between.iter().zip(holders().skip(1)).enumerate() {
            let agent = format!("agent-{}", hop + 1);
            chain = handed_on(&chain, holder, &agent, next.map(SecretKey::public_key), "is measured")?;
        }
        Ok(chain)
    }
}

fn proven(chain: &Chain, holder: &SecretKey) -> Result<String, HarnessError> {
    let unusable = |error: String| HarnessError::Answer(format!("making a proof: {error}"));
    let target = format!("{RESOURCE}{PATH}").parse().map_err(|_| unusable("no target".to_owned()))?;
    let proof = prove(holder, chain, "GET", &target, now_seconds()).map_err(|error| unusable(error.to_string()))?;
    Ok(format!("Authorization: DPoP {}\r\nDPoP: {proof}\r\n", chain.presented()))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn request(header: &str) -> Vec<u8> {
    format!("GET {PATH} HTTP/1.1\r\nHost: bench\r\n{header}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_title_of_its_own() {
        let titles: BTreeSet<String> = Credential::ALL.into_iter().map(Credential::title).collect();
        assert_eq!(titles.len(), Credential::ALL.len());
    }
}
