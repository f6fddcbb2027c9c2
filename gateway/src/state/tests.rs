//! A gateway for tests, whose Redis is not there, and what it shares. Responsible for options that are sound in all but
//! that.

use portcullis_lua::StoreOptions;
use serde_json::json;

use super::*;

/// The shipped policy, of acme/demo.
pub(crate) fn shipped() -> Loaded {
    let document = json!({"tenant": "acme", "project": "demo"});
    portcullis_config::parse_value(document, Component::Ingress, &|_| None).expect("the shipped policy is sound")
}

/// Options of a gateway whose Redis is not there: port 1 of loopback belongs to nobody. Call it on a runtime.
pub(crate) fn options_without_redis() -> GatewayOptions {
    let boot = shipped();
    let store_timeout = Duration::from_millis(40);
    let url = "redis://127.0.0.1:1".to_owned();
    let redis = StoreOptions { url, connections: 1, command_timeout: store_timeout };
    GatewayOptions {
        store: Store::open(&redis).expect("a sound URL"),
        scope: boot.policy.scope().expect("sound names"),
        boot,
        force_boot: false,
        component: Component::Ingress,
        admin_token: "0123456789abcdef0123456789abcdef".into(),
        admin_offer: AdminOffer::default(),
        rls_token: None,
        instance: "gateway-1".to_owned(),
        trusted_proxies: TrustedProxies::default(),
        decide_askers: DecideAskers::default(),
        dev_tokens: true,
        identity: crate::identity_terms::shipped(),
        keep_alive: Duration::from_secs(75),
        drain: Duration::ZERO,
        store_timeout,
        store_away_after: Duration::from_secs(1),
        upstream: None,
    }
}

#[tokio::test]
async fn places_among_the_event_streams_are_bounded_and_given_back() {
    let gateway = Gateway::new(options_without_redis());
    let first = gateway.open_event_stream(2).unwrap();
    let second = gateway.open_event_stream(2).unwrap();
    assert!(gateway.open_event_stream(2).is_none());
    assert!(gateway.open_event_stream(0).is_some(), "0 is no bound");
    drop(first);
    assert!(gateway.open_event_stream(2).is_some());
    drop(second);
    assert_eq!(gateway.event_streams(), 0);
}
