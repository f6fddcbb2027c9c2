//! An audit that cannot be written.
//!
//! Responsible for nothing being changed, opened or granted that would stand in no record. Must never break anything
//! but the audit: what is refused has to be refused because of it.

use portcullis_loadtest::client::{Answer, Submission};
use portcullis_loadtest::credentials::Credentials;
use portcullis_lua::{
    AdmitRequest, CompiledPolicy, Outcome, PassEnd, PassEnded, PassOutcome, PassTerms, PolicyStamp, Settled,
    Settlement, TallyEntry, TallyFlush, TaskError, TaskResult, TaskStatus, Verdict,
};
use serde_json::json;

use crate::fixture::{accepted, cluster, start};
use crate::script::ended::through;
use crate::script::stage::{START_MS, Stage, request, roomy};

fn assert_closed(what: &str, answer: &Answer) {
    assert_eq!((answer.status, answer.code()), (503, "store_unavailable"), "{what}: {}", answer.text);
}

#[tokio::test]
async fn nothing_is_changed_opened_or_granted_that_cannot_be_recorded() {
    let credentials = Credentials::new(&json!({})).await.expect("credentials");
    let cluster = start(credentials.believed_by(cluster())).await;
    let (admin, probe) = (cluster.admin(0), cluster.probe().await.expect("a connection"));
    let ada = cluster.gateway(0).bearer(&credentials.jwt("ada", &["paid"]).expect("a token"));
    let key = |name: &str| format!("{}:{name}", cluster.key_prefix());
    let change = json!({ "queue": { "lease_ms": 20_000 } });
    let wish = json!({ "agent": "helper", "scopes": ["quota:read"], "reason": "helps" });

    // A value of another type: no event can be added to it.
    probe.command("SET", [&key("audit"), "in the way"]).await.expect("set");
    let answer = admin.post("/admin/gateway/update-config", &change).await.expect("an answer");
    assert_closed("change", &answer);
    let shown = admin.get("/admin/gateway/config").await.expect("an answer");
    assert_eq!((&shown.body["stored_revision"], &shown.body["revision"]), (&json!(0), &json!(0)), "{}", shown.text);
    assert_closed("session", &ada.post("/v1/sessions", &json!({})).await.expect("an answer"));
    assert_closed("delegation", &ada.post("/v1/delegations", &wish).await.expect("an answer"));
    let reason = json!({ "reason": "seen" });
    let left_us = json!({ "kind": "agent", "id": "indexer", "reason": "left" });
    assert_closed("revocation", &admin.post("/admin/revocations", &left_us).await.expect("an answer"));
    assert_closed("loss", &admin.post("/admin/revocations/acknowledge", &reason).await.expect("an answer"));
    let left = probe.keys(&cluster.key_prefix()).await.expect("keys");
    for made in ["policy", "revision", "session", "session-of", "revoked", "revocation", "revocation-head"] {
        let prefix = key(made);
        let of_it = |key: &&String| **key == prefix || key.starts_with(&format!("{prefix}:"));
        assert_eq!(left.iter().find(of_it), None, "{made}");
    }

    probe.command("DEL", [&key("audit")]).await.expect("deleted");
    let answer = admin.post("/admin/gateway/update-config", &change).await.expect("an answer");
    assert_eq!((answer.status, &answer.body["revision"]), (200, &json!(1)), "{}", answer.text);
    assert_eq!(ada.post("/v1/sessions", &json!({})).await.expect("an answer").status, 201);
    assert_eq!(ada.post("/v1/delegations", &wish).await.expect("an answer").status, 201);
    let revoked = admin.post("/admin/revocations", &left_us).await.expect("an answer");
    assert_eq!((revoked.status, &revoked.body["changed"]), (200, &json!(1)), "{}", revoked.text);
    let events = admin.get("/admin/audit").await.expect("an answer");
    assert_eq!(events.body["events"].as_array().map(Vec::len), Some(4), "{}", events.text);
}

#[tokio::test]
async fn nobody_is_admitted_whose_admission_cannot_be_recorded() {
    let mut cluster = start(cluster()).await;
    cluster.stand_in(1000).await.expect("capacity");
    let (ada, probe) = (cluster.gateway(0).caller("paid", "ada"), cluster.probe().await.expect("a connection"));
    let (key, task) = (|name: &str| format!("{}:{name}", cluster.key_prefix()), Submission::new("demo", json!(1)));
    probe.command("SET", [&key("decision"), "in the way"]).await.expect("set");
    assert_closed("task", &ada.submit(&task).await.expect("an answer"));
    let left = probe.keys(&cluster.key_prefix()).await.expect("keys");
    for made in ["task", "queue", "limit:"] {
        assert!(left.iter().all(|key_left| !key_left.starts_with(&key(made))), "{made}: {left:?}");
    }
    probe.command("DEL", [&key("decision")]).await.expect("deleted");
    accepted(&ada, &task).await;
}

#[tokio::test]
async fn no_task_ends_as_revoked_that_cannot_be_recorded_and_the_others_need_not_wait_for_it() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 1000).await;
    for _ in 0..2 {
        act.store.at(START_MS).admit(&policy, &[request("paid", "s")]).await.expect("a decision");
    }
    let [ran, dead]: [_; 2] =
        act.store.at(START_MS).claim(&policy, 2).await.expect("leases").leases.try_into().expect("two");
    let revoked = (ran.task_id.clone(), dead.task_id.clone());
    let result = TaskResult { content_type: "text/plain".to_owned(), body: "done".into() };
    let error = TaskError { code: TaskError::REVOKED.to_owned(), detail: String::new() };
    let both = [
        Settlement { lease: ran, outcome: Outcome::Succeeded { result, usage: Vec::new() } },
        Settlement { lease: dead, outcome: Outcome::Revoked { error } },
    ];
    let settle = async |these: &[Settlement]| act.store.at(START_MS).settle(&policy, these).await;

    act.probe.command("SET", [&act.key("audit"), "in the way"]).await.expect("set");
    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    settle(&both).await.expect_err("it cannot be recorded");
    assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before);
    assert_eq!(settle(&both[..1]).await.expect("an answer"), [Settled::Done(TaskStatus::Succeeded)]);

    act.probe.command("DEL", [&act.key("audit")]).await.expect("deleted");
    assert_eq!(settle(&both).await.expect("an answer"), [Settled::Stale, Settled::Done(TaskStatus::Cancelled)]);
    let (ran, dead) = revoked;
    for (id, status) in [(&ran, TaskStatus::Succeeded), (&dead, TaskStatus::Cancelled)] {
        let record = act.store.at(START_MS).task(id).await.expect("an answer").expect("it is known");
        assert_eq!(record.status, status);
    }
    let events = act.store.audit(10).await.expect("events");
    let told: Vec<_> = events.iter().map(|event| (event.event.as_str(), &event.about["tasks"])).collect();
    assert_eq!(told, [("tasks.revoked", &json!([dead.as_str()]))]);
}

#[tokio::test]
async fn what_was_refused_without_an_event_is_counted_when_that_can_be_recorded() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    let (code, user_type) = ("unauthenticated".to_owned(), "paid".to_owned());
    let entries = vec![TallyEntry { code, user_type, count: 3, unrecorded: 3 }];
    let flush = TallyFlush { counter: "one".to_owned(), number: 1, entries };
    act.probe.command("SET", [&act.key("counted"), "in the way"]).await.expect("set");
    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    act.store.tally(&policy, "gateway", &flush).await.expect_err("it cannot be recorded");
    assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before);

    act.probe.command("DEL", [&act.key("counted")]).await.expect("deleted");
    for _ in 0..2 {
        act.store.tally(&policy, "gateway", &flush).await.expect("an answer");
    }
    let events = act.store.counted(10).await.expect("events");
    let told: Vec<_> = events.iter().map(|event| &event.about["counts"]).collect();
    assert_eq!(told, [&json!({ "unauthenticated:paid": 3 })]);
    let hours = act.store.statistics(2).await.expect("statistics");
    assert_eq!(hours.iter().filter_map(|hour| hour.counts.get("unauthenticated:paid")).sum::<u64>(), 3);
}

#[tokio::test]
async fn nothing_of_an_agent_ends_that_cannot_be_recorded_and_the_others_need_not_wait_for_it() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 1000).await;
    let store = act.store.at(START_MS);
    let agents = || through(&["planner"], request("paid", "s"));
    let waiting = [agents(), request("paid", "s")].map(|asked| AdmitRequest { delay_ms: 1000, ..asked });
    let pass = Some(PassTerms { lease_ms: 1000, throttled: true, hits: 1 });
    let passing = AdmitRequest { pass, ..agents() };
    let batch = [agents(), request("paid", "s"), agents(), waiting[0].clone(), waiting[1].clone(), passing];
    let mut decisions = store.admit(&policy, &batch).await.expect("decisions");
    let Some(Verdict::Passed { lease: Some(place) }) = decisions.pop().map(|decision| decision.verdict) else {
        panic!("no pass")
    };
    let end = [PassEnd { lease: place, outcome: PassOutcome::Succeeded, usage: Vec::new(), answered_ms: None }];
    let mut leases = store.claim(&policy, 3).await.expect("leases").leases;
    leases.sort_by_key(|lease| batch.iter().position(|asked| asked.task_id == lease.task_id));
    let [agents, own, revoked]: [_; 3] = leases.try_into().expect("three");
    let error = TaskError { code: TaskError::REVOKED.to_owned(), detail: String::new() };
    let all = [
        Settlement { lease: agents, outcome: Outcome::Expired },
        Settlement { lease: own, outcome: Outcome::Expired },
        Settlement { lease: revoked, outcome: Outcome::Revoked { error } },
    ];
    let cancel = async |asked: &AdmitRequest| store.cancel(&policy, &asked.task_id, "s").await;

    for key in ["ended", "ended-head"] {
        act.probe.command("DEL", [&act.key(key)]).await.expect("deleted");
        act.probe.command("SADD", [&act.key(key), "in the way"]).await.expect("added");
        let before = act.probe.dump(&act.prefix).await.expect("a dump");
        store.settle(&policy, &all).await.expect_err("it cannot be recorded");
        store.settle(&policy, &all[2..]).await.expect_err("nor can this, as an audit event could");
        cancel(&waiting[0]).await.expect_err("nor this");
        assert_eq!(store.finish(&policy, &end).await, Ok(vec![PassEnded::Refused]), "nor this");
        assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before, "{key}");
        act.probe.command("DEL", [&act.key(key)]).await.expect("deleted");
    }
    act.probe.command("SADD", [&act.key("ended"), "in the way"]).await.expect("added");
    assert_eq!(store.settle(&policy, &all[1..2]).await.expect("an answer"), [Settled::Done(TaskStatus::Expired)]);
    assert_eq!(cancel(&waiting[1]).await.expect("an answer").expect("it is known").status, TaskStatus::Cancelled);

    act.probe.command("DEL", [&act.key("ended")]).await.expect("deleted");
    let settled = [Settled::Done(TaskStatus::Expired), Settled::Stale, Settled::Done(TaskStatus::Cancelled)];
    assert_eq!(store.settle(&policy, &all).await.expect("an answer"), settled);
    assert_eq!(cancel(&waiting[0]).await.expect("an answer").expect("it is known").status, TaskStatus::Cancelled);
    assert_eq!(store.finish(&policy, &end).await, Ok(vec![PassEnded::Now]));
    let events = act.store.ended(10).await.expect("events");
    let told: Vec<_> = events.iter().map(|event| event.about["status"].as_str().expect("a status")).collect();
    assert_eq!(told, ["succeeded", "cancelled", "cancelled", "expired"]);
}
