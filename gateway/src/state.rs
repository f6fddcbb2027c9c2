//! What every request of a gateway shares.
//!
//! Responsible for holding the parts together and for starting none of them: the tasks that keep them going are
//! `run`'s. Must never hold state that another gateway would have to know: that is in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_config::{Component, Loaded, Scope};
use portcullis_lua::Store;
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admin::offer::AdminOffer;
use crate::admission::session::delegated::Delegated;
use crate::admission::session::door::Door;
use crate::admission::session::lowered::Lowered;
use crate::admission::session::opened::OpenedSessions;
use crate::admission::session::proven::Vouchers;
use crate::admission::session::strangers::Strangers;
use crate::background::Background;
use crate::challenge::Challenge;
use crate::client_address::TrustedProxies;
use crate::credential::SessionResolver;
use crate::decide::asker::DecideAskers;
use crate::delegation_terms::DelegationTerms;
use crate::dev_token::DevTokens;
use crate::drain::DrainState;
use crate::identity::Providers;
use crate::identity_terms::IdentityTerms;
use crate::limit_memory::LimitMemory;
use crate::metric;
use crate::pass_keeper::PassKeeper;
use crate::proxy::TunnelPlaces;
use crate::proxy::upstream::{Upstream, UpstreamOptions};
use crate::refusal_memory::RefusalMemory;
use crate::refused_fetch::RefusedFetches;
use crate::scope::Shared;
use crate::scopes::Scopes;
use crate::session_terms::SessionTerms;
use crate::store_breaker::StoreBreaker;
use crate::watch_hub::WatchHub;

/// How a gateway is to run. The listeners come beside it.
#[derive(Debug)]
pub struct GatewayOptions {
    /// Redis, opened (not necessarily reachable yet).
    pub store: Store,
    /// The scope of callers whose credential names none.
    pub scope: Scope,
    /// The policy of every scope that has none of its own in Redis.
    pub boot: Loaded,
    /// Whether that policy is to be stored as the default scope's at the start, whatever is stored.
    pub force_boot: bool,
    /// Whose slice of a document is in force here.
    pub component: Component,
    /// Bearer token of the admin listener.
    pub admin_token: SecretString,
    /// Which operations the admin listener has.
    pub admin_offer: AdminOffer,
    /// Bearer token of the listener of Envoy's rate limit service; `None`: whoever reaches it may ask.
    pub rls_token: Option<SecretString>,
    /// Name of this gateway in logs, documents and the reports of replicas. No two gateways may share one: each would
    /// hide which policy the other holds.
    pub instance: String,
    /// Whom to believe about the client's address.
    pub trusted_proxies: TrustedProxies,
    /// Who may hold places for requests of others, and end them.
    pub decide_askers: DecideAskers,
    /// Whether development tokens are accepted. For loopback listeners only.
    pub dev_tokens: bool,
    /// Whom to believe about who a caller is.
    pub identity: IdentityTerms,
    /// How long a connection may be silent: longer than whatever stands in front keeps one.
    pub keep_alive: Duration,
    /// How long requests are still served after readiness began to fail.
    pub drain: Duration,
    /// How long Redis may take for an answer before the caller gets a 503.
    pub store_timeout: Duration,
    /// How long Redis has to be silent to be away for certain: connections that only broke are made again within this.
    pub store_away_after: Duration,
    /// The application behind this gateway; `None`: paths that are not the gateway's own are not found.
    pub upstream: Option<UpstreamOptions>,
}

/// The shared state of one gateway.
#[derive(Debug)]
pub struct Gateway {
    store: Store,
    scopes: Arc<Scopes>,
    force_boot: bool,
    admin_token: SecretString,
    admin_offer: AdminOffer,
    rls_token: Option<SecretString>,
    instance: String,
    trusted_proxies: TrustedProxies,
    decide_askers: DecideAskers,
    resolvers: Vec<Arc<dyn SessionResolver>>,
    providers: Option<Arc<Providers>>,
    opened_sessions: Arc<OpenedSessions>,
    lowered: Lowered,
    session_terms: SessionTerms,
    delegation_terms: Option<Arc<DelegationTerms>>,
    challenge: Challenge,
    authorization_servers: Vec<String>,
    door: Door,
    strangers: Strangers,
    refusal_memory: RefusalMemory,
    limit_memory: LimitMemory,
    store_breaker: Arc<StoreBreaker>,
    drain_state: DrainState,
    watch_hub: Arc<WatchHub>,
    event_streams: AtomicU64,
    passes: Arc<PassKeeper>,
    upstream: Option<Upstream>,
    tunnels: Arc<TunnelPlaces>,
    background: Background,
}

impl Gateway {
    pub(crate) fn new(options: GatewayOptions) -> Arc<Self> {
        let store_breaker = Arc::new(StoreBreaker::new(options.store_timeout, options.store_away_after));
        let background = Background::default();
        let IdentityTerms { document, delegation } = options.identity;
        let opened_sessions =
            Arc::new(OpenedSessions::new(options.store.clone(), store_breaker.clone(), options.scope.clone()));
        // Whoever knows a credential by its first letters goes before who knows it by its signature.
        let mut resolvers: Vec<Arc<dyn SessionResolver>> = vec![opened_sessions.clone()];
        if options.dev_tokens {
            resolvers.push(Arc::new(DevTokens));
        }
        if let Some(terms) = &delegation {
            resolvers.push(Arc::new(Delegated::new(terms.clone())));
        }
        let metadata = delegation.as_ref().map(|terms| terms.metadata_of(&terms.resource_of(&options.scope)));
        let passes: Arc<PassKeeper> = Arc::default();
        let shared = Shared {
            breaker: store_breaker.clone(),
            passes: passes.clone(),
            background: background.clone(),
            component: options.component,
            replica: options.instance.as_str().into(),
            wake: Arc::new(Notify::new()),
            made: Instant::now(),
        };
        let (challenge, door) = (Challenge::new(metadata.as_deref()), Door::new(&document));
        let (session_terms, strangers) = (SessionTerms::new(&document), Strangers::new(&document.anonymous));
        let authorization_servers = document.issuers.iter().map(|issuer| issuer.issuer.clone()).collect();
        let scopes = Scopes::new(options.store.clone(), &options.scope, options.boot, shared);
        let refused = RefusedFetches::new(scopes.default_scope().clone(), &options.instance, background.clone());
        let providers = Providers::set_up(document, &background, refused);
        // Nobody is believed whom nobody vouches for.
        resolvers
            .extend(providers.iter().map(|providers| Vouchers::new(providers.clone()) as Arc<dyn SessionResolver>));
        Arc::new(Self {
            scopes,
            store: options.store,
            force_boot: options.force_boot,
            admin_token: options.admin_token,
            admin_offer: options.admin_offer,
            rls_token: options.rls_token,
            instance: options.instance,
            trusted_proxies: options.trusted_proxies,
            decide_askers: options.decide_askers,
            opened_sessions,
            lowered: Lowered::new(store_breaker.clone()),
            session_terms,
            challenge,
            authorization_servers,
            door,
            strangers,
            resolvers,
            providers,
            delegation_terms: delegation,
            refusal_memory: RefusalMemory::new(),
            limit_memory: LimitMemory::new(),
            store_breaker,
            drain_state: DrainState::default(),
            watch_hub: Arc::default(),
            event_streams: AtomicU64::new(0),
            passes,
            upstream: options.upstream.map(|upstream| Upstream::new(upstream, background.clone())),
            tunnels: Arc::default(),
            background,
        })
    }

    /// The scopes this gateway serves.
    #[must_use]
    pub fn scopes(&self) -> &Arc<Scopes> {
        &self.scopes
    }

    /// Bearer token of the admin listener.
    #[must_use]
    pub fn admin_token(&self) -> &SecretString {
        &self.admin_token
    }

    /// Which operations the admin listener has.
    pub(crate) fn admin_offer(&self) -> &AdminOffer {
        &self.admin_offer
    }

    /// Name of this gateway.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The local breaker for Redis; every call of the store goes through it.
    #[must_use]
    pub fn store_breaker(&self) -> &StoreBreaker {
        &self.store_breaker
    }

    /// Whether readiness fails.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.drain_state.draining()
    }

    /// Event streams open now.
    #[must_use]
    pub fn event_streams(&self) -> u64 {
        self.event_streams.load(Ordering::Relaxed)
    }

    pub(crate) fn rls_token(&self) -> Option<&SecretString> {
        self.rls_token.as_ref()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn drain_state(&self) -> &DrainState {
        &self.drain_state
    }

    pub(crate) fn trusted_proxies(&self) -> &TrustedProxies {
        &self.trusted_proxies
    }

    pub(crate) fn decide_askers(&self) -> &DecideAskers {
        &self.decide_askers
    }

    pub(crate) fn resolvers(&self) -> &[Arc<dyn SessionResolver>] {
        &self.resolvers
    }

    /// Who vouches for callers; `None`: they could not be set up.
    pub(crate) fn providers(&self) -> Option<&Providers> {
        self.providers.as_deref()
    }

    /// What is decided by the address a request comes from.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// What a 401 says.
    pub(crate) fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Who issues the tokens that are believed here.
    pub(crate) fn authorization_servers(&self) -> &[String] {
        &self.authorization_servers
    }

    /// The sessions this deployment opened, as far as this gateway has met them.
    pub(crate) fn opened_sessions(&self) -> &OpenedSessions {
        &self.opened_sessions
    }

    /// Who notices that principals have become less.
    pub(crate) fn lowered(&self) -> &Lowered {
        &self.lowered
    }

    /// How sessions are opened.
    pub(crate) fn session_terms(&self) -> &SessionTerms {
        &self.session_terms
    }

    /// How this deployment delegates; `None`: it does not.
    pub(crate) fn delegation_terms(&self) -> Option<&Arc<DelegationTerms>> {
        self.delegation_terms.as_ref()
    }

    pub(crate) fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// Whether the boot document is to be stored at the start.
    pub(crate) fn force_boot(&self) -> bool {
        self.force_boot
    }

    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    pub(crate) fn refusal_memory(&self) -> &RefusalMemory {
        &self.refusal_memory
    }

    pub(crate) fn limit_memory(&self) -> &LimitMemory {
        &self.limit_memory
    }

    pub(crate) fn watch_hub(&self) -> &Arc<WatchHub> {
        &self.watch_hub
    }

    /// Who keeps the places of passes in flight.
    pub(crate) fn passes(&self) -> &Arc<PassKeeper> {
        &self.passes
    }

    /// The application behind this gateway, if there is one.
    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// The places for tunnels.
    pub(crate) fn tunnels(&self) -> &Arc<TunnelPlaces> {
        &self.tunnels
    }

    /// A place among the event streams; `None` when `most` are taken (0: no bound).
    pub(crate) fn open_event_stream(self: &Arc<Self>, most: u64) -> Option<EventStreamPlace> {
        let taken = self
            .event_streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (most == 0 || open < most).then_some(open + 1));
        taken.ok().map(|_| {
            metric::event_streams(1);
            EventStreamPlace(self.clone())
        })
    }
}

/// One event stream's place among those a gateway may serve; given back when dropped.
#[derive(Debug)]
pub(crate) struct EventStreamPlace(Arc<Gateway>);

impl Drop for EventStreamPlace {
    fn drop(&mut self) {
        self.0.event_streams.fetch_sub(1, Ordering::Relaxed);
        metric::event_streams(-1);
    }
}

#[cfg(test)]
pub(crate) mod tests;
