//! What is decided stands in a chain: as an event of the script that decided it, or among those a gateway counted
//! because nobody had to be asked.

use std::collections::BTreeMap;

use portcullis_loadtest::client::{Answer, Submission};
use portcullis_lua::{Chain, Grounds, Member, Revocation, ScopeStore, verify_chain};
use serde_json::json;

use crate::fixture::{cluster, start, until};

/// Decisions by code, as the two chains tell of them.
async fn told(store: &ScopeStore) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for event in store.decisions(10_000).await.expect("decisions") {
        *told.entry(event.code.unwrap_or(event.outcome)).or_insert(0) += 1;
    }
    for event in store.counted(10_000).await.expect("counts") {
        let counts = event.about["counts"].as_object().cloned().unwrap_or_default();
        for (field, count) in counts {
            let (code, _) = field.split_once(':').expect("a code and a user type");
            *told.entry(code.to_owned()).or_insert(0) += count.as_u64().expect("a number") as usize;
        }
    }
    told
}

#[tokio::test]
async fn every_answer_is_told_of_once_also_across_a_revocation() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(1000).await.expect("capacity");
    let store = cluster.store().await.expect("a store");
    let order = Submission::new("demo", json!(1));
    let mut answers: Vec<Answer> = Vec::new();
    for round in 0..40 {
        if round == 5 {
            let member = Member::Principal("somebody else").to_string();
            let revocation = Revocation { member, lasts_ms: 60_000, spares_later: false };
            let grounds = Grounds { by: "a test", reason: "to have one", max_audit_events: 1000 };
            store.revoke(&[revocation], grounds).await.expect("revoked");
        }
        let gateway = cluster.gateway(round);
        answers.push(gateway.submit(&order).await.expect("an answer"));
        answers.push(gateway.caller("paid", "ada").submit(&order).await.expect("an answer"));
        answers.push(gateway.bearer("not a credential").submit(&order).await.expect("an answer"));
    }
    let mut answered = BTreeMap::new();
    for answer in &answers {
        let code = if answer.is_accepted() { "admitted" } else { answer.code() };
        *answered.entry(code.to_owned()).or_insert(0) += 1;
    }
    // Ten of nobody in particular, whose burst that is, and all of a paying caller.
    let expected = [("admitted", 50), ("burst_limit", 30), ("unauthenticated", 40)];
    assert_eq!(answered, expected.map(|(code, count)| (code.to_owned(), count)).into());
    until("everything is told of", || async { (told(&store).await == answered).then_some(()) }).await;
    let events = store.decisions(10_000).await.expect("decisions").len();
    assert!(events < 80, "{events} events: nothing was refused from memory");
    for chain in [Chain::Decisions, Chain::Audit, Chain::Counts] {
        let head = store.chain_head(chain).await.expect("an answer");
        let entries = store.chain_entries(chain, None, 10_000).await.expect("entries");
        let whole = verify_chain(&entries, head.as_ref()).expect("whole").expect("entries");
        assert_eq!(whole.first, 1, "{chain:?}");
    }
}
