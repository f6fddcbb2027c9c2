//! Who dies with whom: a chain with each of its ancestors, and nobody beside it.
//!
//! Responsible for every way in which a chain of three can be taken back. Must never take one principal's for that of
//! another.

use portcullis_delegation::Chain;
use portcullis_loadtest::client::Submission;
use portcullis_loadtest::credentials::principal_of;
use portcullis_lua::{Member, SessionKey};
use serde_json::json;

use super::cast::{Cast, Crew, boundless, read, revoke};
use crate::fixture::{cluster, until};

const GATEWAYS: usize = 2;

/// What is revoked of a crew: a kind of member, and which.
type Named = fn(&Crew) -> (&'static str, String);

async fn start() -> Cast {
    let mut cast = Cast::on(cluster().gateways(GATEWAYS).policy(json!({ "rate_limits": boundless() }))).await;
    cast.cluster.stand_in(1000).await.expect("capacity");
    cast
}

/// Nothing of these is admitted any more, and soon nothing is answered anywhere.
async fn are_dead(cast: &Cast, tokens: &[&str]) {
    for token in tokens {
        for gateway in 0..GATEWAYS {
            let client = cast.cluster.gateway(gateway).bearer(token);
            let answer = client.submit(&Submission::new("demo", json!(1))).await.expect("an answer");
            assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{token}");
            until("it is turned away", || async { (read(&client).await == 401).then_some(()) }).await;
        }
    }
}

async fn are_alive(cast: &Cast, tokens: &[&str]) {
    for token in tokens {
        for gateway in 0..GATEWAYS {
            let client = cast.cluster.gateway(gateway).bearer(token);
            let answer = client.submit(&Submission::new("demo", json!(1))).await.expect("an answer");
            assert_eq!(answer.status, 202, "{}", answer.text);
            assert_eq!(read(&client).await, 200);
        }
    }
}

#[tokio::test]
async fn whatever_is_revoked_above_a_chain_kills_it_and_spares_its_siblings() {
    let cast = start().await;
    let store = cast.cluster.store().await.expect("a store");
    let told = |chain: &Chain| chain.presented().to_owned();
    // The last says whether the writer, a sibling of the searcher, dies as well.
    let cases: [(&str, Named, bool); 7] = [
        ("own-token", |crew| ("t:", crew.reading.leaf().hash().to_owned()), false),
        ("token-above", |crew| ("t:", crew.searching.leaf().hash().to_owned()), false),
        ("root-token", |crew| ("t:", crew.searching.root().hash().to_owned()), true),
        ("key-above", |crew| ("k:", crew.searcher.public_key().thumbprint()), false),
        ("root-key", |crew| ("k:", crew.planner.public_key().thumbprint()), true),
        ("agent-above", |crew| ("c:", crew.searching.leaf().claims().client_id.clone()), false),
        ("root-agent", |crew| ("c:", crew.searching.root().claims().client_id.clone()), true),
    ];
    for (principal, named, writer_dies) in cases {
        let crew = cast.crew(principal);
        let (reading, writing) = (told(&crew.reading), told(&crew.writing));
        let (beside, other) = (told(&cast.agent(principal, "beside")), told(&cast.crew("somebody").reading));
        are_alive(&cast, &[&reading, &writing, &beside, &other]).await;
        let (kind, name) = named(&crew);
        let member = match kind {
            "t:" => Member::Token(&name),
            "k:" => Member::Key(&name),
            _ => Member::Agent(&name),
        };
        revoke(&store, member).await;
        are_dead(&cast, &[&reading]).await;
        if writer_dies {
            are_dead(&cast, &[&writing]).await;
        } else {
            are_alive(&cast, &[&writing]).await;
        }
        are_alive(&cast, &[&beside, &other]).await;
    }
}

#[tokio::test]
async fn a_principal_takes_sessions_and_agents_along_and_nobody_else() {
    let cast = start().await;
    let store = cast.cluster.store().await.expect("a store");
    let ada = principal_of("ada");
    let crew = cast.crew(&ada);
    let mine = [cast.log_in("ada").await, cast.log_in("ada").await, cast.agent(&ada, "helper").presented().to_owned()];
    let mut mine: Vec<&str> = mine.iter().map(String::as_str).collect();
    mine.extend([crew.reading.presented(), crew.writing.presented()]);
    let others = [cast.log_in("bob").await, cast.crew(&principal_of("bob")).reading.presented().to_owned()];
    let others = others.each_ref().map(String::as_str);
    are_alive(&cast, &mine).await;
    are_alive(&cast, &others).await;
    revoke(&store, Member::Principal(&ada)).await;
    are_dead(&cast, &mine).await;
    are_alive(&cast, &others).await;
}

#[tokio::test]
async fn a_login_that_ends_takes_along_what_was_delegated_from_it_and_no_other_login() {
    let cast = start().await;
    let (first, second) = (cast.log_in("ada").await, cast.log_in("ada").await);
    let mut agents = Vec::new();
    for session in [&first, &second] {
        let wish = json!({ "agent": "helper", "scopes": ["tasks:*"], "reason": "helps" });
        let client = cast.cluster.gateway(0).bearer(session);
        let answer = client.post("/v1/delegations", &wish).await.expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text);
        agents.push(answer.body["token"].as_str().expect("a token").to_owned());
    }
    are_alive(&cast, &[&first, &second, &agents[0], &agents[1]]).await;
    let left = cast.cluster.gateway(0).bearer(&first).delete("/v1/sessions/current").await.expect("an answer");
    assert_eq!(left.status, 204, "{}", left.text);
    are_dead(&cast, &[&first, &agents[0]]).await;
    are_alive(&cast, &[&second, &agents[1]]).await;
    let store = cast.cluster.store().await.expect("a store");
    revoke(&store, Member::Session(SessionKey::of_token(&second).as_str())).await;
    are_dead(&cast, &[&second, &agents[1]]).await;
}
