//! Starting, refusing to start, and leaving nothing behind.

mod boot_matrix;

use std::collections::BTreeMap;
use std::path::PathBuf;

use portcullis_loadtest::cluster::{Invocation, Process};
use serde_json::json;

use crate::fixture::{cluster, start};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Runs a child that must end by itself; its exit code and what it wrote to standard error.
async fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut variables = BTreeMap::from([
        ("PORTCULLIS_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ("PORTCULLIS_ADMIN_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ("TENANT_ID".to_owned(), "acme".to_owned()),
        ("PROJECT_ID".to_owned(), "chat".to_owned()),
    ]);
    variables.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let invocation = Invocation {
        name: args.join(" "),
        program: PathBuf::from(env!("CARGO_BIN_EXE_portcullis-loadtest")),
        args: args.iter().map(Into::into).collect(),
        env: variables,
        transcript: None,
    };
    let (status, stderr) = Process::run_to_end(&invocation).await.unwrap_or_else(|error| panic!("{error}"));
    (status.code(), stderr)
}

#[tokio::test]
async fn bad_usage_is_64() {
    for args in [&["gateway", "serve", "--no-such-flag"][..], &["processor", "--no-such-flag"], &["no-such-command"]] {
        assert_eq!(run(args, &[("PORTCULLIS_ADMIN_TOKEN", TOKEN)]).await.0, Some(64), "{args:?}");
    }
    for args in [&["gateway", "--help"][..], &["gateway", "--version"], &["processor", "--help"], &["--help"]] {
        assert_eq!(run(args, &[]).await.0, Some(0), "{args:?}");
    }
}

#[tokio::test]
async fn a_bad_policy_is_64_with_every_fault() {
    let policy = json!({
        "rate_limits": { "roles": { "paid": { "burst": -1 } } },
        "backpressure": { "paid_pressure_treshold": 0.9, "capacity_buffer": 7 },
    });
    let policy = policy.to_string();
    let env = [("PORTCULLIS_ADMIN_TOKEN", TOKEN), ("GATEWAY_CONFIG_JSON", policy.as_str())];
    for args in [&["gateway", "serve"][..], &["processor", "--handler", "demo=builtin:echo"]] {
        let (code, stderr) = run(args, &env).await;
        assert_eq!(code, Some(64), "{args:?}: {stderr}");
        for fault in
            ["rate_limits.roles.paid.burst", "paid_pressure_treshold", "paid_pressure_threshold", "capacity_buffer"]
        {
            assert!(stderr.contains(fault), "{args:?} does not name {fault}: {stderr}");
        }
    }
}

#[tokio::test]
async fn a_gateway_refuses_to_start_open() {
    let (code, stderr) = run(&["gateway", "serve", "--dev-tokens"], &[]).await;
    assert_eq!(code, Some(78), "without an admin token: {stderr}");
    assert!(stderr.contains("PORTCULLIS_ADMIN_TOKEN"), "{stderr}");
    let open = [("PORTCULLIS_ADMIN_TOKEN", TOKEN), ("PORTCULLIS_LISTEN", "0.0.0.0:0")];
    for args in [&["gateway", "serve", "--dev-tokens"][..], &["gateway", "serve"]] {
        assert_eq!(run(args, &open).await.0, Some(78), "{args:?} on every interface");
    }
}

#[tokio::test]
async fn redis_out_of_reach_is_69_for_whoever_does_not_want_to_wait() {
    let env = [("PORTCULLIS_ADMIN_TOKEN", TOKEN), ("REDIS_URL", "redis://127.0.0.1:1")];
    let gateway = ["gateway", "serve", "--dev-tokens", "--redis-wait-ms", "300"];
    assert_eq!(run(&gateway, &env).await.0, Some(69));
    let processor = ["processor", "--handler", "demo=builtin:echo", "--redis-wait-ms", "300"];
    assert_eq!(run(&processor, &env).await.0, Some(69));
}

#[tokio::test]
async fn a_cluster_on_somebody_elses_redis_leaves_no_key_behind() {
    let host = start(cluster()).await;
    let url = host.redis_url().to_owned();
    // One turn is held already; the guest needs none of its own.
    let mut guest = cluster().processors(1).redis_url(Some(url)).start().await.expect("a guest");
    let client = guest.gateway(0).caller("paid", "ada");
    let task_id = crate::fixture::accepted(&client, &portcullis_loadtest::client::Submission::new("demo", 1)).await;
    crate::fixture::ended(&client, &task_id).await;
    let probe = host.probe().await.expect("a connection");
    assert!(!probe.keys(&guest.key_prefix()).await.expect("keys").is_empty());
    guest.end().await.expect("it ends");
    assert_eq!(probe.keys(&guest.key_prefix()).await.expect("keys"), Vec::<String>::new());
}
