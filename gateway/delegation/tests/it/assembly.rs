//! Those who mint and those who narrow are refused what a verifier would refuse.
//!
//! Responsible for a mistake being told to whoever makes it, with the code it would be refused with. Must never forge:
//! what stands here goes through the public interface.

use portcullis_delegation::{
    Chain, Constraint, Fault, Grant, Lifetimes, Narrowing, PublicKey, Refused, Widened, attenuate, mint,
};

use crate::forge::{Forge, ISSUER, KEY_ID, NOW, RESOURCE, TENANT, check, key};

fn grant(holder: Option<PublicKey>) -> Grant {
    Grant {
        issuer: ISSUER.into(),
        principal: "user-123".into(),
        tenant: TENANT.into(),
        session: "5f2a".into(),
        user_type: None,
        client_id: "orchestrator".into(),
        audience: vec![RESOURCE.into()],
        scopes: "tools:call:*".parse().unwrap(),
        constraints: vec![Constraint { key: "calls_per_min".into(), max: 60 }],
        lifetime_seconds: None,
        max_depth: None,
        holder,
        reason: "plan".into(),
    }
}

fn minted(grant: Grant) -> Result<Chain, Refused> {
    mint(grant, &key(0), KEY_ID, &Lifetimes::CAPS, NOW)
}

fn narrowing() -> Narrowing {
    Narrowing::of_all("researcher", "search")
}

fn at(hop: usize, fault: Fault) -> Refused {
    Refused { fault, hop: Some(hop) }
}

#[test]
fn what_is_left_out_is_as_much_as_may_be() {
    let root = minted(grant(Some(key(1).public_key()))).unwrap();
    let child = attenuate(&root, &key(1), narrowing(), NOW + 30).unwrap();
    let (above, below) = (root.leaf().claims(), child.leaf().claims());
    assert_eq!((above.exp, above.del_max_depth), (NOW + 3600, 4));
    assert_eq!((below.exp, below.del_max_depth), (NOW + 30 + 900, 4));
    assert_eq!((&below.aud, &below.scope, &below.constraints), (&above.aud, &above.scope, &above.constraints));
    assert!(check(child.presented()).is_ok());
    let late = attenuate(&root, &key(1), narrowing(), NOW + 3500).unwrap();
    assert_eq!(late.leaf().claims().exp, NOW + 3600);
}

#[test]
fn a_root_that_would_be_refused_is_not_minted() {
    let bearer = minted(grant(None)).unwrap();
    assert_eq!(bearer.leaf().claims().del_max_depth, 1);
    assert!(check(bearer.presented()).is_ok());
    let refused = |change: fn(&mut Grant)| {
        let mut grant = grant(None);
        change(&mut grant);
        minted(grant).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(|grant| grant.lifetime_seconds = Some(3601)), at(0, Fault::LifetimeExceeded));
    assert_eq!(refused(|grant| grant.lifetime_seconds = Some(0)), at(0, Fault::LifetimeExceeded));
    assert_eq!(refused(|grant| grant.lifetime_seconds = Some(u64::MAX)), at(0, Fault::LifetimeExceeded));
    assert_eq!(refused(|grant| grant.max_depth = Some(2)), at(0, Fault::HolderKeyRequired));
    assert_eq!(refused(|grant| grant.max_depth = Some(9)), at(0, Fault::TooDeep));
    assert_eq!(refused(|grant| grant.reason.clear()), at(0, Fault::ReasonRequired));
    assert_eq!(refused(|grant| grant.audience.clear()), at(0, Fault::AudienceRequired));
    assert_eq!(refused(|grant| grant.principal = "two words".into()), at(0, Fault::Malformed));
    let lowered = Lifetimes::lowered(60, 60, 60).unwrap();
    let long = Grant { lifetime_seconds: Some(61), ..grant(None) };
    assert_eq!(mint(long, &key(0), KEY_ID, &lowered, NOW).unwrap_err(), at(0, Fault::LifetimeExceeded));
}

#[test]
fn a_holder_that_widens_is_refused_as_by_a_verifier() {
    let root = minted(grant(Some(key(1).public_key()))).unwrap();
    let refused = |change: fn(&mut Narrowing)| {
        let mut wider = narrowing();
        change(&mut wider);
        attenuate(&root, &key(1), wider, NOW).map(|_| ()).unwrap_err()
    };
    let wider = |member| at(1, Fault::NotNarrower(member));
    assert_eq!(refused(|child| child.scopes = "tools:*".parse().ok()), wider(Widened::Scope));
    assert_eq!(refused(|child| child.audience = Some(vec!["elsewhere".into()])), wider(Widened::Audience));
    assert_eq!(refused(|child| child.max_depth = Some(5)), wider(Widened::Depth));
    let looser = |child: &mut Narrowing| child.constraints = vec![Constraint { key: "calls_per_min".into(), max: 61 }];
    assert_eq!(refused(looser), wider(Widened::Constraint));
    assert_eq!(refused(|child| child.lifetime_seconds = Some(901)), at(1, Fault::LifetimeExceeded));
    assert_eq!(refused(|child| child.scopes = "*".parse().ok()), at(1, Fault::ScopeMalformed));
    assert_eq!(refused(|child| child.reason.clear()), at(1, Fault::ReasonRequired));
    let late = Narrowing { lifetime_seconds: Some(200), ..narrowing() };
    assert_eq!(attenuate(&root, &key(1), late, NOW + 3500).unwrap_err(), wider(Widened::Expiry));
    assert_eq!(attenuate(&root, &key(1), narrowing(), NOW + 3600).unwrap_err(), at(0, Fault::Expired));
}

#[test]
fn only_the_holder_narrows_and_only_so_far() {
    let root = minted(grant(Some(key(1).public_key()))).unwrap();
    assert_eq!(attenuate(&root, &key(2), narrowing(), NOW).unwrap_err(), at(1, Fault::WrongIssuer));
    let bearer = attenuate(&root, &key(1), narrowing(), NOW).unwrap();
    assert_eq!(attenuate(&bearer, &key(1), narrowing(), NOW).unwrap_err(), at(2, Fault::NotDelegable));
    let last = Narrowing { max_depth: Some(2), holder: Some(key(2).public_key()), ..narrowing() };
    let last = attenuate(&root, &key(1), last, NOW).unwrap();
    assert_eq!(attenuate(&last, &key(2), narrowing(), NOW).unwrap_err(), at(2, Fault::TooDeep));
    let full = Chain::parse(&Forge::genuine(8).encode()).unwrap();
    assert_eq!(attenuate(&full, &key(7), narrowing(), NOW).unwrap_err(), Fault::Oversize.into());
}
