//! Chains nobody thought of: whatever narrows is taken, whatever widens is not.
//!
//! Responsible for the rules holding together, at any length and in any combination. Must never build a chain but
//! through the public interface, except to widen one.

use portcullis_delegation::{
    Chain, Constraint, Fault, Grant, Lifetimes, Narrowing, ScopeSet, Widened, attenuate, mint,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::forge::{Forge, ISSUER, KEY_ID, NOW, RESOURCE, TENANT, TOOL, check, key, verdict};

/// How one step narrows: how many further segments its scopes get, by how much its bounds shrink, and how much of its
/// parent's time it takes.
#[derive(Clone, Debug)]
struct Step {
    deeper: bool,
    bound: u64,
    share_percent: u64,
    only_here: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let parts = (any::<bool>(), 0..1000u64, 1..=100u64, any::<bool>());
    parts.prop_map(|(deeper, bound, share_percent, only_here)| Step { deeper, bound, share_percent, only_here })
}

/// A chain that narrows by these steps; the last token is a bearer token.
fn narrowed(steps: &[Step]) -> Chain {
    let holder = |hop: usize| (hop < steps.len()).then(|| key(hop as u8 + 1).public_key());
    let grant = Grant {
        issuer: ISSUER.into(),
        principal: "user-123".into(),
        tenant: TENANT.into(),
        session: "5f2a".into(),
        user_type: None,
        client_id: "agent-0".into(),
        audience: vec![RESOURCE.into(), TOOL.into()],
        scopes: "s:* quota:read".parse().unwrap(),
        constraints: vec![Constraint { key: "calls".into(), max: 1000 }],
        lifetime_seconds: None,
        max_depth: holder(0).map(|_| 8),
        holder: holder(0),
        reason: "why".into(),
    };
    let mut chain = mint(grant, &key(0), KEY_ID, &Lifetimes::CAPS, NOW).unwrap();
    let (mut path, mut bound) = (String::from("s"), 1000);
    for (index, step) in steps.iter().enumerate() {
        if step.deeper {
            path = format!("{path}:x{index}");
        }
        bound = bound.min(step.bound);
        let above = chain.leaf().claims();
        let longest = Lifetimes::CAPS.at_depth(index + 1).min(above.exp - NOW);
        let narrowing = Narrowing {
            audience: step.only_here.then(|| vec![RESOURCE.into()]),
            scopes: Some(format!("{path}:*").parse::<ScopeSet>().unwrap()),
            constraints: vec![Constraint { key: "calls".into(), max: bound }],
            lifetime_seconds: Some((longest * step.share_percent / 100).max(1)),
            holder: holder(index + 1),
            ..Narrowing::of_all(format!("agent-{}", index + 1), "why")
        };
        chain = attenuate(&chain, &key(index as u8 + 1), narrowing, NOW).unwrap();
    }
    chain
}

/// A member that widens the token at this place, and the fault it is.
fn widening(kind: u8, above: &Value) -> (&'static str, Value, Widened) {
    match kind {
        0 => ("scope", json!("s:* other:read"), Widened::Scope),
        1 => ("aud", json!([RESOURCE, "elsewhere"]), Widened::Audience),
        2 => ("constraints", json!([]), Widened::Constraint),
        _ => ("del_max_depth", json!(above["del_max_depth"].as_u64().unwrap() + 1), Widened::Depth),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_narrows_at_every_step_is_taken(steps in prop::collection::vec(step(), 0..8)) {
        let chain = narrowed(&steps);
        let delegation = verdict(chain.presented()).unwrap().delegation;
        prop_assert_eq!(delegation.hops.len(), steps.len() + 1);
        prop_assert_eq!(&delegation.actor, &format!("agent-{}", steps.len()));
        let tightest = steps.iter().map(|step| step.bound).min().unwrap_or(1000).min(1000);
        prop_assert_eq!(delegation.constraints[0].max, tightest);
        let ends: Vec<u64> = delegation.hops.iter().map(|hop| hop.expires_at_seconds).collect();
        prop_assert!(ends.is_sorted_by(|a, b| a >= b));
        prop_assert_eq!(Some(&delegation.expires_at_seconds), ends.last());
    }

    #[test]
    fn whatever_widens_at_one_step_is_not(hops in 2..=7u8, place in any::<prop::sample::Index>(), kind in 0..4u8) {
        let mut forge = Forge::genuine(hops);
        // Room to widen within what a chain may be at all.
        (0..usize::from(hops)).for_each(|hop| forge.set(hop, "del_max_depth", json!(7)));
        let hop = 1 + place.index(usize::from(hops) - 1);
        let (member, value, widened) = widening(kind, &forge.0[hop - 1].claims);
        forge.set(hop, member, value);
        let refused = check(&forge.encode()).unwrap_err();
        prop_assert_eq!((refused.fault, refused.hop), (Fault::NotNarrower(widened), Some(hop)));
        prop_assert_eq!(refused.code(), "not_narrower");
    }

    #[test]
    fn a_chain_with_one_other_character_is_not(place in any::<prop::sample::Index>(), other in "[A-Za-z0-9_.~-]") {
        let genuine = Forge::genuine(3).encode();
        let at = place.index(genuine.len());
        let changed = format!("{}{other}{}", &genuine[..at], &genuine[at + 1..]);
        prop_assert_eq!(verdict(&changed).is_ok(), changed == genuine);
    }
}
