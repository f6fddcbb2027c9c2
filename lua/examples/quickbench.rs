use bytes::Bytes;
use portcullis_config::{Policy, Scope, UserType};
use portcullis_lua::*;
use std::time::Duration;
fn cli(args: &[&str]) -> String { String::from_utf8(std::process::Command::new("redis-cli").args(["-p", "7777"]).args(args).output().unwrap().stdout).unwrap() }
fn usec(cmd: &str) -> (f64, f64) { let s = cli(&["info", "commandstats"]); let l = s.lines().find(|l| l.starts_with(&format!("cmdstat_{cmd}:"))).unwrap_or(""); let g = |k: &str| l.split([':', ',']).find_map(|p| p.strip_prefix(&format!("{k}="))).and_then(|v| v.trim().parse().ok()).unwrap_or(0.0); (g("calls"), g("usec")) }
fn req(ut: &str, s: String) -> AdmitRequest {
    AdmitRequest { task_id: TaskId::generate(), user_type: UserType::new(ut).unwrap(), session_id: s.clone(), principal: s, actor: None, kind: "chat".into(), cost: 1, deadline_ms: None, delay_ms: 0, max_attempts: 3, idempotency: None, estimates: vec![], request_id: TaskId::generate().to_string(), traceparent: None, content_type: "application/json".into(), payload: Bytes::from(vec![b'x'; 200]) }
}
#[tokio::main]
async fn main() {
    let store = Store::open(&StoreOptions { url: "redis://127.0.0.1:7777".into(), connections: 1, command_timeout: Duration::from_millis(5000) }).unwrap();
    store.wait_ready(Duration::from_secs(2)).await.unwrap();
    let mut p = Policy::shipped("acme", "x");
    p.monitoring.heartbeat_timeout_seconds = 3600; p.budgets.insert("daily".into(), serde_json::from_value(serde_json::json!({"unit":"tokens","amount":1000000000,"period":"month","per":"tenant","default_estimate":10})).unwrap());
    let policy = CompiledPolicy::new(&p, 0);
    for batch in [1usize, 16] {
        cli(&["flushall"]);
        let scope = store.scope(&Scope::new("acme", "b").unwrap());
        let beat = Heartbeat { worker: "w1".into(), instance: "i".into(), slots: 1_000_000, running: 0, draining: false, version: "1".into(), policy_revision: 0, kinds: vec!["*".into()] };
        scope.heartbeat(&policy, &beat).await.unwrap();
        let n = 8000 / batch;
        let run1 = || { cli(&["config", "resetstat"]); };
        run1(); for _ in 0..2000 { cli_ret1(&store, &scope).await; } 
        let r1 = usec("evalsha"); let ret1 = r1.1 / r1.0;
        // ret1 measured by redis-benchmark below
        cli(&["config", "resetstat"]);
        std::process::Command::new("redis-benchmark").args(["-p", "7777", "-n", "20000", "-c", "1", "-q", "eval", "return 1", "0"]).output().unwrap();
        let _ = ret1; let r = usec("eval"); 
        let sha = cli(&["script", "load", "return 1"]); cli(&["config", "resetstat"]);
        std::process::Command::new("redis-benchmark").args(["-p", "7777", "-n", "20000", "-c", "1", "-q", "evalsha", sha.trim(), "0"]).output().unwrap();
        let r = { let _ = r; usec("evalsha") }; let one = r.1 / r.0;
        cli(&["config", "resetstat"]);
        for i in 0..n { let v: Vec<_> = (0..batch).map(|j| req("paid", format!("sess-{:020}", (i * batch + j) % 4000))).collect(); let d = scope.admit(&policy, &v).await.unwrap(); assert!(matches!(d[0].verdict, Verdict::Admitted { .. }), "{:?}", d[0]); }
        let a = usec("evalsha"); let admit = a.1 / a.0 / batch as f64;
        println!("batch {batch}: return1 {one:.2}us  admit {admit:.2} us/req ({:.1}x)", admit / one);
        if batch == 1 { for l in cli(&["info", "commandstats"]).lines().filter(|l| l.starts_with("cmdstat")) { println!("   {l}"); } }
        // refused
        let v: Vec<_> = (0..batch.max(10)).map(|_| req("anonymous", "flood".into())).collect(); scope.admit(&policy, &v).await.unwrap();
        cli(&["config", "resetstat"]);
        for _ in 0..n { let v: Vec<_> = (0..batch).map(|_| req("anonymous", "flood".into())).collect(); let d = scope.admit(&policy, &v).await.unwrap(); assert!(matches!(d[0].verdict, Verdict::Refused { .. })); }
        let a = usec("evalsha"); let refused = a.1 / a.0 / batch as f64;
        println!("   refused same session {refused:.2} us/req ({:.1}x; {:.2} of admit)", refused / one, refused / admit);
        for s in 0..200 { let v: Vec<_> = (0..10).map(|_| req("anonymous", format!("flood{s}"))).collect(); scope.admit(&policy, &v).await.unwrap(); }
        cli(&["config", "resetstat"]);
        for i in 0..n { let v: Vec<_> = (0..batch).map(|j| req("anonymous", format!("flood{}", (i*batch+j) % 200))).collect(); let d = scope.admit(&policy, &v).await.unwrap(); assert!(matches!(d[0].verdict, Verdict::Refused { .. })); }
        let a = usec("evalsha"); let refused = a.1 / a.0 / batch as f64;
        println!("   refused 200 sessions {refused:.2} us/req ({:.1}x; {:.2} of admit)", refused / one, refused / admit);
        cli(&["config", "resetstat"]);
        let mut claimed = vec![]; for _ in 0..n { let c = scope.claim(&policy, batch as u32).await.unwrap(); claimed.push(c.leases); }
        let a = usec("evalsha"); let claim = a.1 / a.0 / batch as f64;
        cli(&["config", "resetstat"]);
        for c in &claimed { let l: Vec<_> = c.iter().map(|l| (l.task_id.clone(), l.token)).collect(); scope.renew(&policy, &l).await.unwrap(); }
        let a = usec("evalsha"); let renew = a.1 / a.0 / batch as f64;
        cli(&["config", "resetstat"]);
        for c in claimed { let s: Vec<_> = c.into_iter().map(|lease| Settlement { lease, outcome: Outcome::Succeeded { result: TaskResult { content_type: "application/json".into(), body: Bytes::from(vec![b'x'; 200]) }, usage: vec![] } }).collect(); scope.settle(&policy, &s).await.unwrap(); }
        let a = usec("evalsha"); let settle = a.1 / a.0 / batch as f64;
        println!("   claim {claim:.2} renew {renew:.2} settle {settle:.2}  life {:.2} us", admit + claim + settle);
    }
}
async fn cli_ret1(_: &Store, _: &ScopeStore) {}
