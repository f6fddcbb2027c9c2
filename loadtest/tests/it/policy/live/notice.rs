//! What the answer says of each changed path: in force at once, after a restart, or never; and what is refused.

use serde_json::{Value, json};

use crate::fixture::{cluster, start};
use crate::policy::operator::{config, number, revisions, strings, update, updated};

#[tokio::test]
async fn the_answer_tells_what_needs_a_restart_and_what_has_no_effect() {
    let cluster = start(cluster()).await;
    let admin = cluster.admin(0);
    let patch = json!({
        "limits": { "max_queue_size": 5 },
        "service_capacity": { "processes_per_instance": 3 },
        "redis_url": "redis://elsewhere:6379",
        "profile": "production",
        "pools": { "redis_max_connections": 7 },
    });
    let answer = updated(&admin, &patch).await;
    let listed = |name: &str| {
        let mut paths = strings(&answer[name]);
        paths.sort_unstable();
        paths
    };
    let all = [
        "limits.max_queue_size",
        "pools.redis_max_connections",
        "profile",
        "redis_url",
        "service_capacity.processes_per_instance",
    ];
    assert_eq!(listed("changed"), all, "{answer}");
    assert_eq!(listed("restart_required"), ["redis_url", "service_capacity.processes_per_instance"], "{answer}");
    assert_eq!(listed("without_effect"), ["pools.redis_max_connections", "profile"], "{answer}");
    // The processes go on with the Redis they were started with.
    assert_eq!(cluster.gateway(0).limits().await.expect("an answer").status, 200);
    let at_once = updated(&admin, &json!({ "limits": { "max_queue_size": 6 } })).await;
    assert_eq!((&at_once["restart_required"], &at_once["without_effect"]), (&json!([]), &json!([])), "{at_once}");
}

#[tokio::test]
async fn patterns_are_compiled_with_the_revision_or_refused_with_it() {
    let cluster = start(cluster().gateways(2)).await;
    let admin = cluster.admin(0);
    let sound = json!({ "guarded_rest_patterns": ["^/resources/[^/]+$"], "bypass_throttling_patterns": ["^/static/"] });
    assert_eq!(number(&updated(&admin, &sound).await), 1);
    let before = config(&admin).await;
    let broken: [(Value, &str); 4] = [
        (json!({ "guarded_rest_patterns": ["^/ok$", "^/resources/(unclosed"] }), "guarded_rest_patterns[1]"),
        (json!({ "bypass_throttling_patterns": ["a{1000}{1000}{1000}"] }), "bypass_throttling_patterns[0]"),
        (json!({ "bypass_throttling_patterns": ["(?=lookahead)"] }), "bypass_throttling_patterns[0]"),
        (json!({ "guarded_rest_patterns": ["^/admin/"] }), "guarded_rest_patterns[0]"),
    ];
    for (patch, place) in broken {
        let refusal = update(&admin, &patch).await;
        assert_eq!((refusal.status, refusal.code()), (400, "invalid_request"), "{}", refusal.text);
        assert!(refusal.body["errors"].to_string().contains(place), "{place}: {}", refusal.text);
    }
    assert_eq!(config(&admin).await["effective"], before["effective"]);
    assert_eq!(number(&config(&cluster.admin(1)).await), 1);
}

#[tokio::test]
async fn how_many_revisions_are_kept_is_live_too() {
    let cluster = start(cluster()).await;
    let admin = cluster.admin(0);
    for number in 1..=5 {
        updated(&admin, &json!({ "limits": { "max_queue_size": number } })).await;
    }
    assert_eq!(revisions(&admin).await.len(), 5);
    updated(&admin, &json!({ "monitoring": { "max_policy_revisions": 2 } })).await;
    updated(&admin, &json!({ "limits": { "max_queue_size": 7 } })).await;
    let kept: Vec<u64> = revisions(&admin).await.iter().map(number).collect();
    assert_eq!(kept, [7, 6]);
}
