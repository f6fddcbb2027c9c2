//! Callers with an opaque session of this deployment: `gs_` and 43 characters, in a cookie or as a bearer token.
//!
//! Responsible for the form of these tokens and for asking Redis about one at most once a minute. Must never keep a
//! token, only its digest, nor let in whoever Redis no longer knows for longer than that minute; what is revoked dies
//! sooner, because every caller's standing is checked against the scope's revocations. A session also dies with the API
//! key it was opened with, when that is revoked: who stole the one has the other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_config::Scope;
use portcullis_lua::{Member, Session, SessionKey, Store};
use quick_cache::sync::Cache;
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::caller::{Caller, Source};
use crate::credential::{Credential, Presented, SessionResolver, Unproven};
use crate::store_breaker::StoreBreaker;

/// How a session's token begins.
pub(crate) const PREFIX: &str = "gs_";

/// Before the id of the API key that a session was opened with.
const OF_KEY: &str = "api_key:";

const RANDOM_BYTES: usize = 32;
/// They in base64url without padding.
const RANDOM_CHARS: usize = 43;

/// How long what Redis said of a session is believed.
const BELIEVED: Duration = Duration::from_secs(60);

/// Sessions that end within this are always asked about: the end is Redis's to know.
const ENDING_MS: u64 = 120_000;

/// The cause of a refusal of what Redis did not know when it was asked a moment ago: a client that goes on with a
/// session that is over guesses no more often than once.
pub(super) const STILL_UNKNOWN: &str = "still_unknown_session";

/// Sessions remembered at once, and as many that are none. At about a kilobyte each this is 10 MB; more only means more questions.
const MAX_SEEN: usize = 10_000;

/// The token of a session. Its form names the scope where it is not the gateway's default one: `gs_…`, or
/// `gs_….<tenant>/<project>`.
pub(crate) struct SessionToken {
    text: SecretString,
    scope: Option<Scope>,
}

impl SessionToken {
    /// A new one, of this scope or of the default one. `None`: the machine has no randomness.
    pub(crate) fn generate(scope: Option<Scope>) -> Option<Self> {
        let place = scope.as_ref().map(|scope| format!(".{scope}")).unwrap_or_default();
        let mut bytes = [0; RANDOM_BYTES];
        SysRng.try_fill_bytes(&mut bytes).ok()?;
        let text = SecretString::from(format!("{PREFIX}{}{place}", URL_SAFE_NO_PAD.encode(bytes)));
        Some(Self { text, scope })
    }

    /// The token a caller presented, if it has the form of one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (random, place) = text.strip_prefix(PREFIX)?.split_at_checked(RANDOM_CHARS)?;
        let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !random.bytes().all(in_alphabet) {
            return None;
        }
        let scope = match place.strip_prefix('.') {
            Some(place) => {
                let (tenant, project) = place.split_once('/')?;
                Some(Scope::new(tenant, project).ok()?)
            }
            None if place.is_empty() => None,
            None => return None,
        };
        Some(Self { text: text.into(), scope })
    }

    /// Where it is kept.
    pub(crate) fn key(&self) -> SessionKey {
        SessionKey::of_token(self.text.expose_secret())
    }

    /// The token itself, to be given to whom it was made for, once.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionToken").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Whose session a token opens, by what Redis knows of it.
#[derive(Debug)]
pub(crate) struct OpenedSessions {
    store: Store,
    breaker: Arc<StoreBreaker>,
    default_scope: Scope,
    seen: Cache<SessionKey, Arc<Seen>>,
    /// When Redis said that it knows no such session: none is ever opened under a token that was there before.
    unknown: Cache<SessionKey, Instant>,
}

/// What Redis said of a session, and when.
#[derive(Debug)]
struct Seen {
    caller: Caller,
    ends_soon: bool,
    at: Instant,
}

impl OpenedSessions {
    pub(crate) fn new(store: Store, breaker: Arc<StoreBreaker>, default_scope: Scope) -> Self {
        Self { store, breaker, default_scope, seen: Cache::new(MAX_SEEN), unknown: Cache::new(MAX_SEEN) }
    }

    /// Forgets a session that has just ended here.
    pub(crate) fn forget(&self, key: &SessionKey) {
        self.seen.remove(key);
    }

    async fn caller(&self, token: &SessionToken) -> Result<Caller, Unproven> {
        let key = token.key();
        if let Some(seen) = self.seen.get(&key)
            && seen.at.elapsed() < BELIEVED
            && !seen.ends_soon
        {
            return Ok(seen.caller.clone());
        }
        if self.unknown.get(&key).is_some_and(|since| since.elapsed() < BELIEVED) {
            return Err(Unproven::Failed(STILL_UNKNOWN));
        }
        let at = Instant::now();
        let store = self.store.scope(token.scope.as_ref().unwrap_or(&self.default_scope));
        let Some(session) = self.breaker.call(store.recognize(&key)).await? else {
            self.unknown.insert(key, at);
            return Err(Unproven::Failed("unknown_session"));
        };
        let ends_soon = session.expires_ms.saturating_sub(session.seen_ms) < ENDING_MS;
        let caller = caller_of(session, &key, token.scope.clone());
        self.seen.insert(key, Arc::new(Seen { caller: caller.clone(), ends_soon, at }));
        Ok(caller)
    }
}

#[async_trait]
impl SessionResolver for OpenedSessions {
    async fn resolve(&self, presented: &Presented<'_>) -> Result<Option<Caller>, Unproven> {
        let text = match presented.credential {
            Credential::SessionCookie(bytes) => std::str::from_utf8(bytes).ok(),
            Credential::Bearer(text) | Credential::QueryToken(text) if text.starts_with(PREFIX) => Some(text),
            _ => return Ok(None),
        };
        let token = text.and_then(SessionToken::parse).ok_or(Unproven::Failed("malformed_session"))?;
        Box::pin(self.caller(&token)).await.map(Some)
    }
}

/// Who vouched for a caller, as its session's record says it: the kind of its credential, and of an API key its id.
pub(crate) fn issuer_of(caller: &Caller) -> String {
    let key = |member: &String| match Member::parse(member) {
        Some(Member::Token(id)) => Some(format!("{OF_KEY}{id}")),
        _ => None,
    };
    let key = caller.members.iter().filter(|_| caller.source == Source::ApiKey).find_map(key);
    key.unwrap_or_else(|| caller.source.as_str().to_owned())
}

fn caller_of(session: Session, key: &SessionKey, scope: Option<Scope>) -> Caller {
    let Session { record, created_ms, expires_ms, .. } = session;
    let mut members = vec![
        Member::Principal(&record.principal).to_string(),
        Member::Session(&record.session_id).to_string(),
        Member::Session(key.as_str()).to_string(),
    ];
    let api_key = record.issuer.as_deref().and_then(|issuer| issuer.strip_prefix(OF_KEY));
    members.extend(api_key.map(|id| Member::Token(id).to_string()));
    Caller {
        scope,
        members: members.into(),
        rights: (!record.scopes.is_empty()).then(|| record.scopes.into()),
        issued_at_ms: created_ms,
        expires_at_ms: Some(expires_ms),
        login: Some(key.clone()),
        ..Caller::new(record.principal, record.user_type, record.session_id, Source::Session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_one_and_no_two_are_the_same() {
        let token = SessionToken::generate(None).unwrap();
        assert_eq!(token.expose().len(), PREFIX.len() + RANDOM_CHARS);
        assert_eq!(SessionToken::parse(token.expose()).unwrap().key(), token.key());
        assert_ne!(SessionToken::generate(None).unwrap().key(), token.key());
        assert!(!format!("{token:?}").contains(&token.expose()[PREFIX.len()..]));
    }

    #[test]
    fn a_token_of_another_scope_names_it() {
        let scope = Scope::new("acme", "shop.v2").unwrap();
        let token = SessionToken::generate(Some(scope.clone())).unwrap();
        assert!(token.expose().ends_with(".acme/shop.v2"));
        assert_eq!(SessionToken::parse(token.expose()).unwrap().scope, Some(scope));
    }

    #[test]
    fn a_session_dies_with_the_api_key_that_opened_it() {
        let user_type = portcullis_config::UserType::new("paid").unwrap();
        let caller = |source, member: Member<'_>| Caller {
            members: [Member::Principal("acme:ada").to_string(), member.to_string()].into(),
            ..Caller::new("acme:ada".to_owned(), user_type.clone(), "user-1".to_owned(), source)
        };
        let by_key = caller(Source::ApiKey, Member::Token("adaskey1"));
        assert_eq!(issuer_of(&by_key), "api_key:adaskey1");
        assert_eq!(issuer_of(&caller(Source::Jwt, Member::Token("adaskey1"))), "jwt");
        let members = |issuer: &str| {
            let record = portcullis_lua::SessionRecord {
                principal: "acme:ada".to_owned(),
                user_type: user_type.clone(),
                session_id: "user-1".to_owned(),
                scopes: Vec::new(),
                issuer: Some(issuer.to_owned()),
                client_type: None,
                label: None,
            };
            let session = Session { record, created_ms: 1, expires_ms: 3, seen_ms: 2 };
            caller_of(session, &SessionKey::of_token("gs_"), None).members
        };
        assert!(members("api_key:adaskey1").contains(&Member::Token("adaskey1").to_string()));
        assert_eq!(members("jwt").len(), 3);
    }

    #[test]
    fn anything_else_is_no_token() {
        let random = "A".repeat(RANDOM_CHARS);
        let wrong = [
            String::new(),
            PREFIX.to_owned(),
            random.clone(),
            format!("gs_{}", &random[1..]),
            format!("gs_{random}A"),
            format!("gs_{}=", &random[1..]),
            format!("gs_{random}."),
            format!("gs_{random}.acme"),
            format!("gs_{random}.acme/"),
            format!("gs_{random}.a/b/c"),
            format!("GS_{random}"),
            format!("gs_{}é", &random[2..]),
        ];
        for text in wrong {
            assert!(SessionToken::parse(&text).is_none(), "{text}");
        }
    }
}
