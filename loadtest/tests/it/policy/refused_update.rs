//! What does not become the policy leaves no trace: not in Redis, not on any gateway.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_loadtest::Client;
use portcullis_loadtest::client::Answer;
use portcullis_loadtest::probe::Probe;
use serde_json::{Value, json};

use super::operator::{accepted, config, decided_under, number, reset, rollback, strings, update, updated, validate};
use crate::fixture::{Fixture, cluster, start, until};

/// Two gateways at revision 2, and everything that an update may change.
struct Watched {
    cluster: Fixture,
    probe: Probe,
}

/// All that can be seen of a scope: its keys, and what each gateway goes by.
type State = (BTreeMap<String, String>, Vec<(Value, Value, u64, Option<String>)>);

impl Watched {
    async fn start() -> Self {
        let cluster = start(cluster().gateways(2)).await;
        updated(&cluster.admin(0), &json!({ "limits": { "max_queue_size": 101 } })).await;
        updated(&cluster.admin(0), &json!({ "limits": { "max_queue_size": 102 } })).await;
        let probe = cluster.probe().await.expect("a connection");
        for index in 0..2 {
            let admin = cluster.admin(index);
            until("both gateways hold it", || async { (number(&config(&admin).await) == 2).then_some(()) }).await;
        }
        Self { cluster, probe }
    }

    /// The keys of the scope, but for the gateways' reports, which go on by themselves.
    async fn dump(&self) -> BTreeMap<String, String> {
        let mut dump = self.probe.dump(&self.cluster.key_prefix()).await.expect("a dump");
        dump.retain(|key, _| !key.ends_with(":gateway"));
        dump
    }

    async fn state(&self) -> State {
        let mut gateways = Vec::new();
        for index in 0..2 {
            let config = config(&self.cluster.admin(index)).await;
            let limits = self.cluster.gateway(index).limits().await.expect("an answer");
            let announced = limits.header("ratelimit-policy").map(str::to_owned);
            let (document, effective) = (config["document"].clone(), config["effective"].clone());
            gateways.push((document, effective, decided_under(&limits), announced));
        }
        (self.dump().await, gateways)
    }
}

/// The places an answer finds fault with.
fn places(faults: &Value) -> BTreeSet<String> {
    let faults = faults.as_array().unwrap_or_else(|| panic!("no list of faults: {faults}"));
    faults
        .iter()
        .map(|fault| {
            assert!(fault["message"].as_str().is_some_and(|message| !message.is_empty()), "{fault}");
            fault["path"].as_str().expect("a path").to_owned()
        })
        .collect()
}

/// A patch with six faults of five sorts, and where they are.
fn faulty() -> (Value, BTreeSet<String>) {
    let patch = json!({
        "limits": { "max_queue_size": "many" },
        "backpressure": { "capacity_bufer": 0.1, "hard_limit_threshold": 7.5 },
        "guarded_rest_patterns": ["/fine$", "/broken(["],
        "rate_limits": { "roles": { "platinum": { "burst": 5 } } },
    });
    let paths = [
        "limits.max_queue_size",
        "backpressure.capacity_bufer",
        "backpressure.hard_limit_threshold",
        "guarded_rest_patterns[1]",
        "rate_limits.roles.platinum.hourly",
        "rate_limits.roles.platinum.burst_window",
    ];
    (patch, paths.map(str::to_owned).into())
}

#[tokio::test]
async fn a_faulty_document_is_told_all_its_faults_and_changes_nothing_anywhere() {
    let watched = Watched::start().await;
    let before = watched.state().await;
    let (patch, paths) = faulty();
    let lock_out = json!({ "guarded_rest_patterns": ["/admin/gateway/update-config$"] });
    let foreign = json!({ "config": { "tenant": "somebody-else" } });
    let unknown = json!({ "rate_limits": { "roles": { "platinum": { "hourly": 1, "burst": 1, "burst_window": 1 } } } });
    let secret = json!({ "redis_url": "redis://user:secret-word@elsewhere" });
    let too_large = json!({ "guarded_rest_patterns": ["x".repeat(300_000)] });
    let one = |path: &str| BTreeSet::from([path.to_owned()]);
    let whole = json!({ "config": patch });
    for (index, (body, paths)) in [
        (&patch, paths.clone()),
        (&whole, paths),
        (&lock_out, one("guarded_rest_patterns[0]")),
        (&unknown, one("rate_limits.roles.platinum")),
        (&secret, one("redis_url")),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = update(&watched.cluster.admin(index), body).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{}", answer.text);
        let told: BTreeSet<String> = places(&answer.body["errors"])
            .into_iter()
            .map(|path| path.trim_start_matches("config.").to_owned())
            .collect();
        assert_eq!(told, paths, "{}", answer.text);
        assert!(!answer.text.contains("secret-word"), "{}", answer.text);
    }
    for body in [&foreign, &too_large, &json!({ "no_such_key": 1 }), &json!([1]), &json!({ "reason": 5 })] {
        let answer = update(&watched.cluster.admin(0), body).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{}", answer.text);
        assert!(!places(&answer.body["errors"]).is_empty());
    }
    assert_eq!(watched.state().await, before);
}

#[tokio::test]
async fn trying_out_changes_nothing_anywhere_and_tells_what_would() {
    let watched = Watched::start().await;
    let before = watched.state().await;
    let admin = watched.cluster.admin(0);
    let patch = json!({ "limits": { "max_queue_size": 777 }, "service_capacity": { "processes_per_instance": 3 } });
    let dry = |mut body: Value| {
        body["dry_run"] = json!(true);
        body
    };
    let changed = ["limits.max_queue_size", "service_capacity.processes_per_instance"];

    let tried = accepted(update(&admin, &dry(patch.clone())).await);
    assert_eq!((&tried["dry_run"], strings(&tried["changed"])), (&json!(true), changed.to_vec()), "{tried}");
    assert_eq!(strings(&tried["restart_required"]), changed[1..]);
    let valid = accepted(validate(&admin, &patch).await);
    assert_eq!((&valid["valid"], valid["errors"].as_array().map(Vec::len)), (&json!(true), Some(0)), "{valid}");
    assert_eq!(strings(&valid["changed"]), changed);
    assert_eq!(valid["effective"]["limits"]["max_queue_size"], json!(777));

    let (faulty, paths) = faulty();
    assert_eq!(update(&admin, &dry(faulty.clone())).await.status, 400);
    let invalid = accepted(validate(&admin, &faulty).await);
    assert_eq!((&invalid["valid"], places(&invalid["errors"])), (&json!(false), paths));

    let back = accepted(rollback(&admin, 1, json!({ "dry_run": true })).await);
    assert_eq!(strings(&back["changed"]), ["limits.max_queue_size"]);
    let to_boot = accepted(reset(&admin, &json!({ "dry_run": true })).await);
    assert_eq!(strings(&to_boot["changed"]), ["limits.max_queue_size"]);
    let stale = update(&admin, &dry(json!({ "expected_revision": 1, "limits": { "max_queue_size": 1 } }))).await;
    assert_eq!((stale.status, stale.code()), (409, "revision_conflict"));
    assert_eq!(watched.state().await, before);

    // The same, in earnest, is seen by what was compared.
    updated(&admin, &patch).await;
    let after = watched.state().await;
    assert_ne!(after.0, before.0);
    assert_ne!(after.1[0], before.1[0]);
}

#[tokio::test]
async fn who_has_not_seen_the_policy_in_force_is_told_which_is_and_changes_nothing() {
    let watched = Watched::start().await;
    let before = watched.state().await;
    for (index, expected) in [0, 1, 3, 1_000_000].into_iter().enumerate() {
        let admin = watched.cluster.admin(index);
        let more = json!({ "expected_revision": expected });
        let patch = json!({ "expected_revision": expected, "limits": { "max_queue_size": 9 } });
        let refused: [Answer; 3] =
            [update(&admin, &patch).await, rollback(&admin, 1, more.clone()).await, reset(&admin, &more).await];
        for answer in refused {
            assert_eq!((answer.status, answer.code()), (409, "revision_conflict"), "{}", answer.text);
            assert_eq!(answer.body["current"], json!(2));
        }
    }
    assert_eq!(watched.state().await, before);
}

#[tokio::test]
async fn of_two_updates_at_once_on_the_same_revision_one_is_stored_and_nothing_of_the_other() {
    const ROUNDS: u64 = 12;
    let watched = Watched::start().await;
    let admins: [Client; 2] = [0, 1].map(|index| watched.cluster.admin(index));
    let mut lost = Vec::new();
    for round in 0..ROUNDS {
        let seen = 2 + round;
        let [first, second] = [0, 1].map(|writer| {
            let number = 700_001 + 10 * round + writer;
            let patch = json!({ "limits": { "max_queue_size": number }, "expected_revision": seen,
                "reason": format!("number {number}") });
            (number, patch)
        });
        let (one, other) = tokio::join!(update(&admins[0], &first.1), update(&admins[1], &second.1));
        let (winner, loser, won, missed) = match (one.status, other.status) {
            (200, 409) => (one, other, first.0, second.0),
            (409, 200) => (other, one, second.0, first.0),
            _ => panic!("not one winner: {} {}", one.text, other.text),
        };
        assert_eq!(number(&winner.body), seen + 1);
        assert_eq!((loser.code(), &loser.body["current"]), ("revision_conflict", &json!(seen + 1)));
        lost.push(missed);
        let dump = watched.dump().await;
        let mentioned = |number: u64| dump.values().any(|content| content.contains(&number.to_string()));
        assert!(mentioned(won), "what is stored can be found");
        for number in &lost {
            assert!(!mentioned(*number), "{number} was refused");
        }
        for admin in &admins {
            until("the gateway holds the winner's", || async {
                let config = config(admin).await;
                let size = config["effective"]["limits"]["max_queue_size"].as_u64().expect("a number");
                assert!(!lost.contains(&size), "{size} was refused");
                (size == won).then_some(())
            })
            .await;
        }
    }
}
