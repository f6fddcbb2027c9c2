//! The chain of the specification: a person, an orchestrator, a researcher and a tool.
//!
//! Responsible for that example coming out as it was promised. Must never be made easier: its scopes, lifetimes and
//! audiences are those of the example.

use portcullis_delegation::{
    Chain, Constraint, Expected, Fault, Grant, Lifetimes, Narrowing, Presentation, Refused, SKEW_SECONDS, attenuate,
    mint,
};

use crate::forge::{ISSUER, KEY_ID, NOW, RESOURCE, TENANT, TOOL, expected, key, verifier};

/// human(*) → orchestrator(tools:call:*, 1 h) → researcher(tools:call:search, 15 min) → leaf(aud notion.mcp, 5 min).
fn example() -> Chain {
    let grant = Grant {
        issuer: ISSUER.into(),
        principal: "user-123".into(),
        tenant: TENANT.into(),
        session: "5f2a".into(),
        user_type: Some("paid".into()),
        client_id: "orchestrator".into(),
        audience: vec![RESOURCE.into(), TOOL.into()],
        scopes: "tools:call:*".parse().unwrap(),
        constraints: vec![Constraint { key: "calls_per_min".into(), max: 60 }],
        lifetime_seconds: Some(3600),
        max_depth: None,
        holder: Some(key(1).public_key()),
        reason: "plan the quarter".into(),
    };
    let root = mint(grant, &key(0), KEY_ID, &Lifetimes::CAPS, NOW).unwrap();
    let researcher = Narrowing {
        scopes: Some("tools:call:search".parse().unwrap()),
        constraints: vec![Constraint { key: "tokens".into(), max: 1000 }],
        lifetime_seconds: Some(900),
        holder: Some(key(2).public_key()),
        ..Narrowing::of_all("researcher", "find sources")
    };
    let second = attenuate(&root, &key(1), researcher, NOW).unwrap();
    let leaf = Narrowing {
        audience: Some(vec![TOOL.into()]),
        constraints: vec![Constraint { key: "calls_per_min".into(), max: 6 }],
        lifetime_seconds: Some(300),
        ..Narrowing::of_all("leaf", "read one page")
    };
    attenuate(&second, &key(2), leaf, NOW).unwrap()
}

#[test]
fn the_example_is_taken_by_the_tool_it_is_for() {
    let chain = Chain::parse(example().presented()).unwrap();
    let tool = Expected { resource: TOOL, tenant: None };
    let checked = verifier().verify(&chain, &tool, NOW + 299).unwrap();
    let delegation = checked.present(&Presentation::Bearer, NOW + 299).unwrap().delegation;
    assert_eq!((delegation.principal.as_str(), delegation.actor.as_str()), ("user-123", "leaf"));
    assert_eq!((delegation.tenant.as_str(), delegation.session.as_str()), (TENANT, "5f2a"));
    assert_eq!(delegation.user_type.as_deref(), Some("paid"));
    assert_eq!(delegation.scopes.to_string(), "tools:call:search");
    assert_eq!(delegation.audience, [TOOL]);
    assert_eq!(delegation.expires_at_seconds, NOW + 300);
    assert_eq!(delegation.root_issued_since_seconds(), NOW - SKEW_SECONDS);
    let bounds: Vec<_> = delegation.constraints.iter().map(|bound| (bound.key.as_str(), bound.max)).collect();
    assert_eq!(bounds, [("calls_per_min", 6), ("tokens", 1000)]);
    let reasons: Vec<_> = delegation.hops.iter().map(|hop| (hop.client_id.as_str(), hop.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [("orchestrator", "plan the quarter"), ("researcher", "find sources"), ("leaf", "read one page")]
    );
    assert_eq!(delegation.holder, None);
}

#[test]
fn the_example_is_refused_by_the_gateway() {
    let refused = verifier().verify(&example(), &expected(), NOW).unwrap_err();
    assert_eq!(refused, Refused { fault: Fault::WrongAudience, hop: Some(2) });
    assert_eq!(refused.code(), "wrong_audience");
}

#[test]
fn the_example_ends_with_its_leaf_even_if_the_verdict_was_kept() {
    let tool = Expected { resource: TOOL, tenant: Some(TENANT) };
    let kept = verifier().verify(&example(), &tool, NOW).unwrap();
    assert_eq!(kept.expires_at_seconds(), NOW + 300);
    let over = Refused { fault: Fault::Expired, hop: Some(2) };
    assert_eq!(kept.present(&Presentation::Bearer, NOW + 300).unwrap_err(), over);
    assert_eq!(verifier().verify(&example(), &tool, NOW + 300).unwrap_err(), over);
}

#[test]
fn every_ancestor_can_revoke_it() {
    let chain = example();
    let tool = Expected { resource: TOOL, tenant: None };
    let checked = verifier().verify(&chain, &tool, NOW).unwrap();
    let delegation = checked.present(&Presentation::Bearer, NOW).unwrap().delegation;
    let hashes: Vec<_> = chain.tokens().iter().map(|token| format!("t:{}", token.hash())).collect();
    let thumbprints = [1, 2].map(|number| format!("k:{}", key(number).public_key().thumbprint()));
    assert_eq!(
        delegation.revocation_members(),
        [
            hashes[0].as_str(),
            &thumbprints[0],
            "c:orchestrator",
            &hashes[1],
            &thumbprints[1],
            "c:researcher",
            &hashes[2],
            "c:leaf",
            "p:user-123",
            "s:5f2a",
        ]
    );
}
