use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use portcullis_config::{Policy, Scope, UserType};
use portcullis_lua::*;
use std::time::Duration;
fn cli(args: &[&str]) -> String {
    String::from_utf8(std::process::Command::new("redis-cli").args(["-p", "7777"]).args(args).output().unwrap().stdout)
        .unwrap()
}
fn usec(cmd: &str) -> (f64, f64) {
    let s = cli(&["info", "commandstats"]);
    let l = s.lines().find(|l| l.starts_with(&format!("cmdstat_{cmd}:"))).unwrap_or("");
    let g = |k: &str| {
        l.split([':', ','])
            .find_map(|p| p.strip_prefix(&format!("{k}=")))
            .and_then(|v| v.trim().parse().ok())
            .unwrap_or(0.0)
    };
    (g("calls"), g("usec"))
}
fn req(ut: &str, s: String) -> AdmitRequest {
    AdmitRequest {
        task_id: TaskId::generate(),
        user_type: UserType::new(ut).unwrap(),
        session_id: s.clone(),
        principal: s,
        actor: None,
        kind: "chat".into(),
        cost: 1,
        deadline_ms: None,
        delay_ms: 0,
        max_attempts: 3,
        idempotency: None,
        estimates: vec![],
        request_id: TaskId::generate().to_string(),
        traceparent: None,
        content_type: "application/json".into(),
        payload: Bytes::from(vec![b'x'; 200]),
    }
}
fn one() -> f64 {
    let sha = cli(&["script", "load", "return 1"]);
    cli(&["config", "resetstat"]);
    std::process::Command::new("redis-benchmark")
        .args(["-p", "7777", "-n", "200000", "-c", "4", "-P", "16", "-q", "evalsha", sha.trim(), "0"])
        .output()
        .unwrap();
    let r = usec("evalsha");
    r.1 / r.0
}
#[tokio::main]
async fn main() {
    let store = Store::open(&StoreOptions {
        url: "redis://127.0.0.1:7777".into(),
        connections: 1,
        command_timeout: Duration::from_millis(5000),
    })
    .unwrap();
    store.wait_ready(Duration::from_secs(2)).await.unwrap();
    let mut p = Policy::shipped("acme", "x");
    p.monitoring.heartbeat_timeout_seconds = 3600;
    p.budgets.insert("daily".into(), serde_json::from_value(serde_json::json!({"unit":"tokens","amount":1000000000,"period":"month","per":"tenant","default_estimate":10})).unwrap());
    let policy = CompiledPolicy::new(&p, 0);
    let all: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(16000);
    for batch in [1usize, 16] {
        cli(&["flushall"]);
        let scope = store.scope(&Scope::new("acme", "b").unwrap());
        let beat = Heartbeat {
            worker: "w1".into(),
            instance: "i".into(),
            slots: 1_000_000,
            running: 0,
            draining: false,
            version: "1".into(),
            policy_revision: 0,
            kinds: vec!["*".into()],
        };
        scope.heartbeat(&policy, &beat).await.unwrap();
        let n = all / batch;
        let ret1 = one();
        let par = 64;
        let sessions = 4000;
        cli(&["config", "resetstat"]);
        stream::iter(0..n)
            .for_each_concurrent(par, |i| {
                let (scope, policy) = (&scope, &policy);
                async move {
                    let v: Vec<_> =
                        (0..batch).map(|j| req("paid", format!("sess-{:020}", (i * batch + j) % sessions))).collect();
                    let d = scope.admit(policy, &v).await.unwrap();
                    assert!(matches!(d[0].verdict, Verdict::Admitted { .. }), "{:?}", d[0]);
                }
            })
            .await;
        let a = usec("evalsha");
        let admit = a.1 / a.0 / batch as f64;
        println!("batch {batch}: return1 {ret1:.2}us  admit {admit:.2} us/req ({:.1}x)", admit / ret1);
        for l in cli(&["info", "commandstats"]).lines().filter(|l| l.starts_with("cmdstat") && !l.contains("config")) {
            let (c, u) = usec(l.split([':']).next().unwrap().trim_start_matches("cmdstat_"));
            print!(
                " {}={:.2}x{:.2}",
                l.split([':']).next().unwrap().trim_start_matches("cmdstat_"),
                c / (n as f64),
                u / c
            );
        }
        println!();
        for s in 0..200 {
            let v: Vec<_> = (0..10).map(|_| req("anonymous", format!("flood{s}"))).collect();
            scope.admit(&policy, &v).await.unwrap();
        }
        cli(&["config", "resetstat"]);
        stream::iter(0..n)
            .for_each_concurrent(par, |i| {
                let (scope, policy) = (&scope, &policy);
                async move {
                    let v: Vec<_> =
                        (0..batch).map(|j| req("anonymous", format!("flood{}", (i * batch + j) % 200))).collect();
                    let d = scope.admit(policy, &v).await.unwrap();
                    assert!(matches!(d[0].verdict, Verdict::Refused { .. }));
                }
            })
            .await;
        let a = usec("evalsha");
        let refused = a.1 / a.0 / batch as f64;
        println!(
            "   refused 200 sessions {refused:.2} us/req ({:.1}x; {:.2} of admit)",
            refused / ret1,
            refused / admit
        );
        cli(&["config", "resetstat"]);
        let claimed: Vec<Vec<Lease>> = stream::iter(0..n)
            .map(|_| async { scope.claim(&policy, batch as u32).await.unwrap().leases })
            .buffer_unordered(par)
            .collect()
            .await;
        let a = usec("evalsha");
        let claim = a.1 / a.0 / batch as f64;
        for l in cli(&["info", "commandstats"]).lines().filter(|l| l.starts_with("cmdstat") && !l.contains("config")) {
            let (c, u) = usec(l.split([':']).next().unwrap().trim_start_matches("cmdstat_"));
            print!(
                " {}={:.2}x{:.2}",
                l.split([':']).next().unwrap().trim_start_matches("cmdstat_"),
                c / (n as f64),
                u / c
            );
        }
        println!();
        cli(&["config", "resetstat"]);
        stream::iter(&claimed)
            .for_each_concurrent(par, |c| {
                let (scope, policy) = (&scope, &policy);
                async move {
                    let l: Vec<_> = c.iter().map(|l| (l.task_id.clone(), l.token)).collect();
                    scope.renew(policy, &l).await.unwrap();
                }
            })
            .await;
        let a = usec("evalsha");
        let renew = a.1 / a.0 / batch as f64;
        cli(&["config", "resetstat"]);
        stream::iter(claimed)
            .for_each_concurrent(par, |c| {
                let (scope, policy) = (&scope, &policy);
                async move {
                    let s: Vec<_> = c
                        .into_iter()
                        .map(|lease| Settlement {
                            lease,
                            outcome: Outcome::Succeeded {
                                result: TaskResult {
                                    content_type: "application/json".into(),
                                    body: Bytes::from(vec![b'x'; 200]),
                                },
                                usage: vec![],
                            },
                        })
                        .collect();
                    scope.settle(policy, &s).await.unwrap();
                }
            })
            .await;
        let a = usec("evalsha");
        let settle = a.1 / a.0 / batch as f64;
        for l in cli(&["info", "commandstats"]).lines().filter(|l| l.starts_with("cmdstat") && !l.contains("config")) {
            let (c, u) = usec(l.split([':']).next().unwrap().trim_start_matches("cmdstat_"));
            print!(
                " {}={:.2}x{:.2}",
                l.split([':']).next().unwrap().trim_start_matches("cmdstat_"),
                c / (n as f64),
                u / c
            );
        }
        println!();
        println!(
            "   claim {claim:.2} renew {renew:.2} settle {settle:.2}  life {:.2} us  = {:.1}x",
            admit + claim + settle,
            (admit + claim + settle) / ret1
        );
    }
}
