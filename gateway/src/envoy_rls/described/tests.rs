//! One request from all descriptors, or what is wrong with them.

use super::*;
use crate::envoy_rls::message::{Entry, RateLimitOverride};

fn question(domain: &str, descriptors: &[&[(&str, &str)]]) -> RateLimitRequest {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
    let descriptor = |entries: &&[(&str, &str)]| RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        ..RateLimitDescriptor::default()
    };
    let descriptors = descriptors.iter().map(descriptor).collect();
    RateLimitRequest { domain: domain.to_owned(), descriptors, hits_addend: 0 }
}

fn fault(descriptors: &[&[(&str, &str)]]) -> String {
    Described::of(&question("envoy", descriptors)).unwrap_err()
}

#[test]
fn all_descriptors_describe_one_request() {
    let described = Described::of(&question(
        "acme/shop",
        &[
            &[("user_type", "paid"), ("principal", "ada")],
            &[("generic_key", "a"), ("remote_address", "::ffff:203.0.113.7")],
            &[("generic_key", "b"), ("principal", "ada"), ("session_id", "s-1"), ("agent", "bot")],
            &[("path", "/chat?x=1"), ("method", "POST")],
        ],
    ))
    .unwrap();
    let caller = described.caller;
    assert_eq!(caller.scope, Some(Scope::new("acme", "shop").unwrap()));
    assert_eq!(caller.user_type, Some(UserType::new("paid").unwrap()));
    assert_eq!((caller.session_id.as_deref(), caller.principal.as_deref()), (Some("s-1"), Some("ada")));
    assert_eq!(caller.actor.as_deref(), Some("bot"));
    assert_eq!(caller.address, ClientAddress::Known("203.0.113.7".parse().unwrap()));
    let line = RequestLine::new(Some("POST".to_owned()), "/chat").unwrap();
    assert_eq!((described.target, described.hits), (Target::Line(Some(line)), 1));
}

#[test]
fn what_is_left_out_or_empty_is_not_said() {
    let described =
        Described::of(&question("envoy", &[&[("user_type", ""), ("agent", ""), ("kind", "chat")]])).unwrap();
    let caller = described.caller;
    assert_eq!((caller.scope, caller.user_type, caller.actor), (None, None, None));
    assert_eq!((caller.address, described.target), (ClientAddress::Unknown, Target::Named("chat".to_owned())));
    assert_eq!(Described::of(&question("", &[&[]])).unwrap().target, Target::Line(None));
}

#[test]
fn two_readings_are_named_with_both() {
    let conflict = fault(&[&[("principal", "ada")], &[("principal", "bob")]]);
    assert!(conflict.contains("ada") && conflict.contains("bob"), "{conflict}");
    let alias = fault(&[&[("session", "a")], &[("session_id", "b")]]);
    assert!(alias.contains("\"a\"") && alias.contains("\"b\""), "{alias}");
    assert!(fault(&[&[("kind", "chat"), ("path", "/chat")]]).contains("kind and path"));
    assert!(fault(&[&[("method", "GET")]]).contains("without a path"));
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    for (key, nearest) in [("principle", "principal"), ("remote_adress", "remote_address"), ("route", "route_class")] {
        let fault = fault(&[&[(key, "x")]]);
        assert!(fault.contains(&format!("{key:?}")) && fault.ends_with(&format!("{nearest:?}")), "{fault}");
    }
}

#[test]
fn what_cannot_be_a_value_is_refused() {
    for entry in [
        ("user_type", "No Type"),
        ("client_address", "nowhere"),
        ("session", "a b"),
        ("principal", "a\nb"),
        ("kind", "Chat"),
        ("path", "chat"),
    ] {
        assert!(fault(&[&[entry]]).contains(entry.0), "{entry:?}");
    }
    assert!(fault(&[&[("principal", "p".repeat(MAX_NAME + 1).as_str())]]).contains("principal"));
    assert!(fault(&[]).contains("1 to 32"));
    assert!(Described::of(&question("acme/", &[&[]])).unwrap_err().contains("domain"));
}

#[test]
fn hits_are_what_the_request_counts_as() {
    let hits = |of_request: u32, of_descriptors: &[Option<u64>]| {
        let descriptor = |hits: &Option<u64>| RateLimitDescriptor { hits_addend: *hits, ..Default::default() };
        let descriptors = of_descriptors.iter().map(descriptor).collect();
        let request = RateLimitRequest { domain: String::new(), descriptors, hits_addend: of_request };
        Described::of(&request).map(|described| described.hits)
    };
    assert_eq!(hits(0, &[None]), Ok(1));
    assert_eq!(hits(5, &[None, None]), Ok(5));
    assert_eq!(hits(5, &[Some(7), None]), Ok(7));
    assert_eq!(hits(5, &[Some(u64::MAX)]), Ok(u32::MAX));
    assert!(hits(5, &[Some(7), Some(8)]).unwrap_err().contains("7 and 8"));
}

#[test]
fn what_this_service_does_not_do_is_refused() {
    let own = RateLimitDescriptor { limit: Some(RateLimitOverride::default()), ..Default::default() };
    let refund = RateLimitDescriptor { is_negative_hits: true, ..Default::default() };
    for (descriptor, name) in [(own, "limit"), (refund, "is_negative_hits")] {
        let request = RateLimitRequest { descriptors: vec![descriptor], ..Default::default() };
        assert!(Described::of(&request).unwrap_err().contains(name));
    }
}
