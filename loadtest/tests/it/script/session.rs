//! Sessions: opened, recognized, bounded, ended.
//!
//! Responsible for who is let in and until when, and for how often looking costs a write. Must never know how a session
//! is kept, but for the key whose lifetime must not be what ends it.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use portcullis_lua::{
    Grounds, Member, Once, Opened, Revocation, RevocationView, ScopeStore, SessionKey, SessionRecord, SessionTerms,
    StoreError,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::stage::{Act, START_MS, Stage, cases, user_type};

const LASTS_MS: u64 = 30_000;
const MINUTE_MS: u64 = 60_000;
const GROUNDS: Grounds<'_> = Grounds { by: "test", reason: "test", max_audit_events: 10_000 };

fn record(principal: &str) -> SessionRecord {
    SessionRecord {
        principal: principal.to_owned(),
        user_type: user_type("paid"),
        session_id: format!("of-{principal}"),
        scopes: vec!["tasks".to_owned()],
        issuer: Some("https://issuer.example".to_owned()),
        client_type: None,
        label: Some("a \"phone\"".to_owned()),
    }
}

async fn end(act: &Act, now_ms: u64, key: &SessionKey) {
    let member = Member::Session(key.as_str()).to_string();
    let revocation = Revocation { member, lasts_ms: LASTS_MS, spares_later: false };
    act.store.at(now_ms).revoke(&[revocation], GROUNDS).await.expect("an answer");
}

/// Opens a session by what is revoked then.
async fn login(store: &ScopeStore, key: &SessionKey, principal: &str, terms: SessionTerms) -> Opened {
    let mut known = 0;
    loop {
        match store.knowing(known).login(key, &record(principal), terms, GROUNDS).await {
            Ok(opened) => return opened,
            Err(StoreError::StaleRevocations { current, .. }) => known = current,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A session by the rules: since when, until when, when seen, and whether it was ended.
#[derive(Clone, Debug)]
struct Kept {
    key: SessionKey,
    principal: &'static str,
    created_ms: u64,
    expires_ms: u64,
    seen_ms: u64,
    ended: bool,
}

/// Plays one history; how many sessions had to go for others.
async fn play(act: &Act, seed: u64) -> u64 {
    let (mut random, mut now_ms, mut kept, mut gone) = (StdRng::seed_from_u64(seed), START_MS, Vec::<Kept>::new(), 0);
    for step in 0..60 {
        now_ms += *[0, 1, 900, 9_000, MINUTE_MS].choose(&mut random).expect("five");
        let store = act.store.at(now_ms);
        if random.random_bool(0.4) {
            let principal = ["ada", "bob"].choose(&mut random).copied().expect("two");
            let terms =
                SessionTerms { lasts_ms: random.random_range(1..4) * LASTS_MS, most: random.random_range(1..5) };
            let key = SessionKey::of_token(&format!("{seed}-{step}"));
            let opened = login(&store, &key, principal, terms).await;
            let mut alive: Vec<&mut Kept> = kept
                .iter_mut()
                .filter(|one| one.principal == principal && !one.ended && now_ms < one.expires_ms)
                .collect();
            // Of those that end at the same time, the digest decides: any order would do.
            alive.sort_by(|a, b| (a.expires_ms, a.key.as_str()).cmp(&(b.expires_ms, b.key.as_str())));
            let excess = (alive.len() + 1).saturating_sub(terms.most as usize);
            alive.into_iter().take(excess).for_each(|one| one.ended = true);
            gone += excess as u64;
            let expires_ms = now_ms + terms.lasts_ms;
            let told = (opened.created_ms, opened.expires_ms, opened.ended);
            assert_eq!(told, (now_ms, expires_ms, excess as u64), "seed {seed}, step {step}");
            kept.push(Kept { key, principal, created_ms: now_ms, expires_ms, seen_ms: now_ms, ended: false });
        } else if let Some(one) = kept.choose(&mut random).cloned()
            && random.random_bool(0.1)
        {
            end(act, now_ms, &one.key).await;
            kept.iter_mut().filter(|other| other.key == one.key).for_each(|other| other.ended = true);
        }
        for one in &mut kept {
            let session = store.recognize(&one.key).await.expect("an answer");
            let expected = (!one.ended && now_ms < one.expires_ms).then(|| {
                if now_ms - one.seen_ms >= MINUTE_MS {
                    one.seen_ms = now_ms;
                }
                (record(one.principal), one.created_ms, one.expires_ms, one.seen_ms)
            });
            let found = session.map(|found| (found.record, found.created_ms, found.expires_ms, found.seen_ms));
            assert_eq!(found, expected, "seed {seed}, step {step}: {one:?}");
        }
    }
    gone
}

#[tokio::test]
async fn a_session_lets_its_principal_in_until_it_ends_or_has_to_go() {
    let stage = Stage::set().await;
    let (first, number, mut gone) = (rand::random::<u64>() >> 1, cases(40) as u64, 0);
    for seed in first..first + number {
        let act = stage.act();
        gone += play(&act, seed).await;
        act.strike().await;
    }
    assert!(gone >= number, "hardly any had to go: {gone}");
}

#[tokio::test]
async fn a_record_that_is_still_there_after_its_end_lets_nobody_in() {
    let stage = Stage::set().await;
    let act = stage.act();
    let key = SessionKey::of_token("gs_x");
    let terms = SessionTerms { lasts_ms: LASTS_MS, most: 1 };
    login(&act.store.at(START_MS), &key, "ada", terms).await;
    let name = act.key(&format!("session:{}", key.as_str()));
    act.probe.command("PERSIST", [name.as_str()]).await.expect("an answer");
    let last = act.store.at(START_MS + LASTS_MS - 1).recognize(&key).await.expect("an answer");
    assert!(last.is_some(), "it is not over before its time");
    let over = act.store.at(START_MS + LASTS_MS).recognize(&key).await.expect("an answer");
    assert_eq!(over, None);
    assert!(!act.probe.keys(&name).await.expect("keys").is_empty(), "or it would prove nothing");
}

#[tokio::test]
async fn a_hundred_looks_within_a_second_are_one_write() {
    let stage = Stage::set().await;
    let act = stage.act();
    let key = SessionKey::of_token("gs_x");
    let terms = SessionTerms { lasts_ms: 10 * MINUTE_MS, most: 1 };
    login(&act.store.at(START_MS), &key, "ada", terms).await;
    let later_ms = START_MS + MINUTE_MS;
    for (from_ms, writes) in [(START_MS + 1, 0), (later_ms, 1), (later_ms + 1000, 0)] {
        act.probe.reset_statistics().await.expect("an answer");
        for look in 0..100 {
            act.store.at(from_ms + 10 * look).recognize(&key).await.expect("an answer").expect("it is alive");
        }
        let costs = act.probe.command_costs().await.expect("costs");
        assert_eq!(costs.get("hset").map_or(0, |cost| cost.calls), writes, "{costs:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_logins_at_once_as_many_are_left_as_a_principal_may_have() {
    let stage = Stage::set().await;
    let stores = [stage.store.clone(), stage.another_store().await];
    let act = stage.act();
    let keys: Vec<SessionKey> = (0..48).map(|number| SessionKey::of_token(&number.to_string())).collect();
    let terms = SessionTerms { lasts_ms: LASTS_MS, most: 5 };
    let logins = keys.iter().enumerate().map(|(number, key)| {
        let store = stores[number % 2].scope(act.store.scope());
        async move { login(&store, key, "ada", terms).await.ended }
    });
    assert_eq!(join_all(logins).await.into_iter().sum::<u64>(), 43);
    let view = RevocationView::of(act.store.revoked_set().await.expect("a set"));
    let looks = join_all(keys.iter().map(|key| act.store.recognize(key))).await;
    let alive = looks.iter().filter(|look| look.as_ref().expect("an answer").is_some()).count();
    assert_eq!(alive, 5);
    // Whoever remembers one hears that it is over, and only of those.
    for (key, look) in keys.iter().zip(looks) {
        let over = look.expect("an answer").is_none();
        let member = Member::Session(key.as_str()).to_string();
        assert_eq!(view.covers(&[member], u64::MAX).is_some(), over);
    }
    let mut events = BTreeMap::<String, u64>::new();
    for event in act.store.audit(1000).await.expect("events") {
        *events.entry(event.event).or_default() += 1;
    }
    assert_eq!(events, BTreeMap::from([("session.created".to_owned(), 48)]));
}

#[tokio::test]
async fn nothing_that_is_stored_holds_the_token() {
    let stage = Stage::set().await;
    let act = stage.act();
    let token = "gs_CANARYcanaryCANARYcanaryCANARYcanaryCANARYcan";
    let key = SessionKey::of_token(token);
    let terms = SessionTerms { lasts_ms: LASTS_MS, most: 1 };
    login(&act.store, &key, "ada", terms).await;
    act.store.recognize(&key).await.expect("an answer").expect("it is alive");
    assert!(act.store.use_once(&Once::new(token, 1_000)).await.expect("an answer"));
    let dump = act.probe.dump(&act.prefix).await.expect("a dump");
    assert!(dump.keys().any(|name| name.ends_with(key.as_str())), "{dump:?}");
    let held = |(name, content): (&String, &String)| name.contains("CANARY") || content.contains("CANARY");
    assert!(!dump.iter().any(held), "{dump:?}");
    act.store
        .revoke(
            &[Revocation { member: Member::Session(key.as_str()).to_string(), lasts_ms: 1000, spares_later: false }],
            GROUNDS,
        )
        .await
        .expect("an answer");
    let left = act.probe.keys(&act.prefix).await.expect("keys");
    assert!(!left.iter().any(|name| name.contains("session")), "{left:?}");
}
