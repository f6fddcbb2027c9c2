//! What providers say of principals, and as what those gave out what outlives their credentials.
//!
//! Responsible for everything that was given out counting as what it was given out as, or as the newest word if that is
//! less, in whichever order both come. Must never look into what is noted: what counts is the set of revocations.

use futures_util::future::join_all;
use portcullis_config::UserType;
use portcullis_lua::{
    AsOf, Grounds, Member, Noted, REVOKED_MOST_OWN, Revocation, RevocationView, RevokedSet, ScopeStore, Stated,
};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::stage::{Act, START_MS, Stage, cases, user_type};

const MINUTE_MS: u64 = 60_000;
const LASTS_MS: u64 = 60 * MINUTE_MS;
/// How long a login through a balancer that says less holds up one that says more.
const TURN_MS: u64 = 2 * MINUTE_MS;
const GROUNDS: Grounds<'_> = Grounds { by: "test", reason: "test", max_audit_events: 100_000 };

/// Types and their places. Two that a policy declares have the same.
const TYPES: [(&str, usize); 5] = [("registered", 4), ("bronze", 5), ("gold", 5), ("paid", 6), ("privileged", 8)];
type Type = (&'static str, usize);
const REGISTERED: Type = TYPES[0];
const PAID: Type = TYPES[3];

/// Who gives something out, or says something.
#[derive(Clone, Copy, Debug)]
struct Statement {
    of: Type,
    word: Option<AsOf>,
    lasts_ms: Option<u64>,
}

const fn said(of: Type, as_of_ms: u64) -> Statement {
    Statement { of, word: Some(AsOf::Time(as_of_ms)), lasts_ms: None }
}

const fn given(of: Type) -> Statement {
    Statement { of, word: None, lasts_ms: Some(LASTS_MS) }
}

impl Statement {
    const fn giving(self) -> Self {
        Self { lasts_ms: Some(LASTS_MS), ..self }
    }

    async fn note(self, store: &ScopeStore) -> Option<Noted> {
        let user_type = user_type(self.of.0);
        let stated = Stated { principal: "ada", user_type: &user_type, rank: self.of.1, word: self.word };
        match self.lasts_ms {
            Some(lasts_ms) => Some(store.note_grant(stated, lasts_ms, GROUNDS).await.expect("an answer")),
            None => store.note_word(stated, GROUNDS).await.expect("an answer"),
        }
    }
}

fn type_of(name: &UserType) -> Type {
    *TYPES.iter().find(|(known, _)| *known == name.as_str()).expect("a type of these")
}

fn lesser(of: Type, most: Option<Type>) -> Type {
    most.filter(|most| most.1 < of.1).unwrap_or(of)
}

async fn stored(store: &ScopeStore) -> RevokedSet {
    store.revoked_set().await.expect("a set")
}

/// What counts by the set of revocations.
async fn ceiling(store: &ScopeStore) -> Option<Type> {
    RevocationView::of(stored(store).await).ceiling("ada").map(type_of)
}

/// The same by the rules.
#[derive(Debug, Default)]
struct Rules {
    newest: Option<(u64, Type)>,
    /// What was given out as, and until when it lasts.
    given: Vec<(Type, u64)>,
}

impl Rules {
    /// What becomes of a statement: as what something is given out, if anything is or was.
    fn note(&mut self, statement: Statement, now_ms: u64) -> Option<Type> {
        self.given.retain(|(_, until_ms)| *until_ms > now_ms);
        if self.given.is_empty() {
            self.newest = None;
            statement.lasts_ms?;
        }
        let as_of_ms = match statement.word {
            Some(AsOf::Time(as_of_ms)) => Some(as_of_ms),
            Some(AsOf::Now) => Some(now_ms),
            None => None,
        };
        if let Some(as_of_ms) = as_of_ms {
            let is_of_now = statement.word == Some(AsOf::Now) && statement.lasts_ms.is_none();
            let is_newer = |(newest_ms, newest): (u64, Type)| {
                let is_turn = is_of_now && statement.of.1 > newest.1 && now_ms < newest_ms + TURN_MS;
                !is_turn && (as_of_ms > newest_ms || (as_of_ms == newest_ms && statement.of.1 < newest.1))
            };
            if self.newest.is_none_or(is_newer) {
                self.newest = Some((as_of_ms, statement.of));
            }
        }
        let given = lesser(statement.of, self.newest.map(|(_, of)| of));
        self.given.extend(statement.lasts_ms.map(|lasts_ms| (given, now_ms + lasts_ms)));
        Some(given)
    }
}

fn any_statement(random: &mut StdRng, now_ms: u64) -> Statement {
    let of = *TYPES.choose(random).expect("five");
    let time = AsOf::Time(now_ms - random.random_range(0..6) * MINUTE_MS);
    let word = *[None, Some(AsOf::Now), Some(time), Some(time)].choose(random).expect("four");
    let lasts_ms = (word.is_none() || random.random_bool(0.4)).then(|| random.random_range(1..40) * MINUTE_MS);
    Statement { of, word, lasts_ms }
}

/// Plays one history; how often the ceiling changed.
async fn play(act: &Act, seed: u64) -> usize {
    let (mut random, mut now_ms, mut rules) = (StdRng::seed_from_u64(seed), START_MS, Rules::default());
    let (mut before, mut changes) = (stored(&act.store.at(now_ms)).await, 0);
    for step in 0..40 {
        now_ms += *[0, 1, 1_000, MINUTE_MS, 5 * MINUTE_MS, 20 * MINUTE_MS].choose(&mut random).expect("six");
        let (store, statement) = (act.store.at(now_ms), any_statement(&mut random, now_ms));
        let noted = statement.note(&store).await;
        let expected = rules.note(statement, now_ms);
        let context = format!("seed {seed}, step {step}: {statement:?} at {now_ms}, {rules:?}");
        assert_eq!(noted.as_ref().map(|noted| type_of(&noted.at_most)), expected, "{context}");
        let newest_ms = expected.and(rules.newest).map(|(as_of_ms, _)| as_of_ms);
        assert_eq!(noted.and_then(|noted| noted.as_of_ms), newest_ms, "{context}");
        let set = stored(&store).await;
        assert_eq!(set.number > before.number, set.members != before.members, "{context}");
        changes += usize::from(set.number > before.number);
        before = set;
        for &(given, until_ms) in rules.given.iter().filter(|(_, until_ms)| *until_ms > now_ms) {
            // And that for as long as it lasts.
            for at_ms in [now_ms, until_ms - 1] {
                let held = before.members.iter().find(|member| member.expires_ms > at_ms);
                let held = held.and_then(|member| member.ceiling.as_ref()).map(type_of);
                let expected = lesser(given, rules.newest.map(|(_, of)| of));
                assert_eq!(lesser(given, held), expected, "{given:?} at {at_ms}, {context}");
            }
        }
    }
    let events = act.store.audit(100).await.expect("events");
    assert!(events.iter().all(|event| event.event.starts_with("principal.")) && events.len() == changes, "{events:?}");
    changes
}

#[tokio::test]
async fn all_that_was_given_out_counts_as_the_newest_word_says_and_never_as_more_than_it_was_given_out_as() {
    let stage = Stage::set().await;
    let (first, number, mut changes) = (rand::random::<u64>() >> 1, cases(60), 0);
    for seed in first..first + number as u64 {
        let act = stage.act();
        changes += play(&act, seed).await;
        act.strike().await;
    }
    assert!(changes >= 3 * number, "hardly anything changed: {changes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_what_first_nothing_counts_as_more_than_the_newest_word() {
    let stage = Stage::set().await;
    let stores = [stage.store.clone(), stage.another_store().await];
    let (mut lowered, number) = (0, cases(40));
    for _ in 0..number {
        let act = stage.act();
        given(REGISTERED).note(&act.store).await;
        let mut all = vec![said(PAID, 5).giving(), given(PAID), said(REGISTERED, 9), said(PAID, 7), said(PAID, 8)];
        all.extend([said(REGISTERED, 9).giving(), given(PAID)]);
        all.shuffle(&mut rand::rng());
        let answers = all.iter().enumerate().map(|(index, statement)| {
            let store = stores[index % 2].scope(act.store.scope());
            async move { (statement.lasts_ms, statement.note(&store).await.expect("something was given out")) }
        });
        let noted = join_all(answers).await;
        let is_more = noted.iter().any(|(lasts, noted)| lasts.is_some() && type_of(&noted.at_most) == PAID);
        assert_eq!(ceiling(&act.store).await, is_more.then_some(REGISTERED), "{all:?}: {noted:?}");
        lowered += usize::from(is_more);
        let last = given(PAID).note(&act.store).await.expect("a grant");
        assert_eq!((type_of(&last.at_most), last.as_of_ms), (REGISTERED, Some(9)));
        act.strike().await;
    }
    assert!(lowered > 0, "in {number} rounds nothing was ever given out before the newest word");
}

#[tokio::test]
async fn an_older_word_gives_nothing_out_that_outlasts_a_ceiling() {
    let stage = Stage::set().await;
    let act = stage.act();
    let store = |passed_ms| act.store.at(START_MS + passed_ms);
    said(PAID, 100).giving().note(&store(0)).await;
    said(REGISTERED, 200).note(&store(1)).await;
    let opened = Statement { lasts_ms: Some(30 * 24 * LASTS_MS), ..said(PAID, 150) };
    let noted = opened.note(&store(2)).await.expect("a grant");
    assert_eq!((type_of(&noted.at_most), noted.as_of_ms), (REGISTERED, Some(200)));
    assert_eq!(ceiling(&store(LASTS_MS - 1)).await, Some(REGISTERED));
    assert_eq!(ceiling(&store(LASTS_MS)).await, None, "nothing is left that it lowers");
    let noted = said(PAID, 150).giving().note(&store(2 * LASTS_MS)).await.expect("a grant");
    assert_eq!(type_of(&noted.at_most), REGISTERED, "the newest word is known as long as anything is left");
}

#[tokio::test]
async fn of_two_logins_in_use_that_say_different_things_the_lesser_counts_and_nothing_turns_with_them() {
    let stage = Stage::set().await;
    let act = stage.act();
    let store = |passed_ms| act.store.at(START_MS + passed_ms);
    let now = |of| Statement { of, word: Some(AsOf::Now), lasts_ms: None };
    now(PAID).giving().note(&store(0)).await;
    for minute in 1..30 {
        for statement in [now(REGISTERED), now(PAID)] {
            statement.note(&store(minute * MINUTE_MS)).await.expect("something was given out");
            assert_eq!(ceiling(&store(minute * MINUTE_MS)).await, Some(REGISTERED), "minute {minute}");
        }
    }
    assert_eq!(act.store.audit(100).await.expect("events").len(), 1, "it was told of once");
    let last_ms = 29 * MINUTE_MS;
    now(PAID).note(&store(last_ms + TURN_MS - 1)).await.expect("something was given out");
    assert_eq!(ceiling(&store(last_ms + TURN_MS - 1)).await, Some(REGISTERED));
    now(PAID).note(&store(last_ms + TURN_MS)).await.expect("something was given out");
    assert_eq!(ceiling(&store(last_ms + TURN_MS)).await, None, "the one that said less is used no more");
    // Who logs in anew is believed at once.
    now(REGISTERED).note(&store(40 * MINUTE_MS)).await.expect("something was given out");
    let noted = now(PAID).giving().note(&store(40 * MINUTE_MS + 1)).await.expect("a grant");
    assert_eq!((type_of(&noted.at_most), ceiling(&store(40 * MINUTE_MS + 1)).await), (PAID, None));
}

#[tokio::test]
async fn where_nothing_changes_nothing_is_written() {
    let stage = Stage::set().await;
    let act = stage.act();
    let dump = async || act.probe.dump(&act.prefix).await.expect("a dump");
    assert_eq!(said(REGISTERED, 9).note(&act.store).await, None, "of one that never gave anything out");
    assert!(dump().await.is_empty());
    said(PAID, 5).giving().note(&act.store).await;
    said(REGISTERED, 9).note(&act.store).await;
    let before = dump().await;
    assert_eq!(act.store.audit(10).await.expect("events").len(), 1);
    for statement in [said(REGISTERED, 9), said(PAID, 8), said(PAID, 9), said(REGISTERED, 3)] {
        statement.note(&act.store).await.expect("something was given out");
        assert_eq!(dump().await, before, "{statement:?}");
    }
    let raised = said(PAID, 10).note(&act.store).await.expect("something was given out");
    assert_eq!((raised.as_of_ms, ceiling(&act.store).await), (Some(10), None));
    let events = act.store.audit(10).await.expect("events");
    let told: Vec<(&str, &str)> = events.iter().map(|event| (event.event.as_str(), event.by.as_str())).collect();
    assert_eq!(told, [("principal.raised", "test"), ("principal.lowered", "test")]);
}

#[tokio::test]
async fn who_cannot_be_lowered_for_want_of_room_is_as_soon_as_there_is_some() {
    let stage = Stage::set().await;
    let act = stage.act();
    let revocation = Revocation { member: Member::Token("t").to_string(), lasts_ms: LASTS_MS, spares_later: false };
    act.store.revoke(&[revocation], GROUNDS).await.expect("an answer");
    let fill = "for n = 2, tonumber(ARGV[1]) do redis.call('ZADD', KEYS[1], ARGV[2], 'c:' .. n) end";
    let (revoked, until_ms) = (act.key("revoked"), act.probe.time_ms().await.expect("now") + LASTS_MS);
    let most = REVOKED_MOST_OWN.to_string();
    act.probe.command("EVAL", [fill, "1", &revoked, &most, &until_ms.to_string()]).await.expect("filled");
    said(PAID, 5).giving().note(&act.store).await;
    let noted = said(REGISTERED, 9).note(&act.store).await.expect("something was given out");
    assert_eq!(noted.full, Some(REVOKED_MOST_OWN as u64));
    assert!(act.store.audit(10).await.expect("events").iter().all(|event| event.event != "principal.lowered"));
    assert_eq!(type_of(&given(PAID).note(&act.store).await.expect("a grant").at_most), REGISTERED, "no more of it");
    act.probe.command("ZREM", [revoked.as_str(), "c:2"]).await.expect("removed");
    assert_eq!(said(REGISTERED, 9).note(&act.store).await.expect("something was given out").full, None);
    assert_eq!(ceiling(&act.store).await, Some(REGISTERED));
}
