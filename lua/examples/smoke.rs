use bytes::Bytes;
use portcullis_config::{Policy, Scope, UserType};
use portcullis_lua::*;
use std::time::Duration;
fn req(ut: &str, s: &str) -> AdmitRequest {
    AdmitRequest { task_id: TaskId::generate(), user_type: UserType::new(ut).unwrap(), session_id: s.into(), principal: s.into(), actor: None, kind: "chat".into(), cost: 1, deadline_ms: None, delay_ms: 0, max_attempts: 3, idempotency: None, estimates: vec![], request_id: "r".into(), traceparent: None, content_type: "application/json".into(), payload: Bytes::from_static(b"{}") }
}
#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).unwrap();
    let store = Store::open(&StoreOptions { url, connections: 1, command_timeout: Duration::from_millis(500) }).unwrap();
    store.wait_ready(Duration::from_secs(2)).await.unwrap();
    let scope = store.scope(&Scope::new("acme", ulid::Ulid::generate().to_string()).unwrap());
    let mut p = Policy::shipped("acme", "x");
    p.budgets.insert("daily".into(), serde_json::from_value(serde_json::json!({"unit":"tokens","amount":1000,"period":"month","per":"principal","default_estimate":10})).unwrap());
    let policy = CompiledPolicy::new(&p, 0);
    println!("no processors: {:?}", scope.admit(&policy, &[req("anonymous", "s1")]).await.unwrap()[0].verdict);
    let beat = Heartbeat { worker: "w1".into(), instance: "i".into(), slots: 10, running: 0, draining: false, version: "1".into(), policy_revision: 0, kinds: vec!["*".into()] };
    scope.heartbeat(&policy, &beat).await.unwrap();
    let mut watch = scope.watch().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let reqs: Vec<_> = (0..12).map(|_| req("anonymous", "s1")).collect();
    for d in scope.admit(&policy, &reqs).await.unwrap() { println!("{:?} depth {}/{} {:?}", d.verdict, d.depth, d.capacity, d.limits); }
    println!("{:?}", scope.peek(&policy, &reqs[..1]).await.unwrap());
    let c = scope.claim(&policy, 20).await.unwrap();
    println!("claimed {} waiting {} next {:?}; first {:?}", c.leases.len(), c.waiting, c.next_due_ms, c.leases[0]);
    let l: Vec<_> = c.leases.iter().map(|l| (l.task_id.clone(), l.token)).collect();
    println!("{:?}", scope.renew(&policy, &l).await.unwrap());
    println!("cancel {:?}", scope.cancel(&policy, &l[0].0, "s1").await.unwrap().map(|t| t.status));
    println!("{:?}", scope.renew(&policy, &l).await.unwrap());
    println!("out {:?}", scope.append_output(&policy, &c.leases[1], vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).await.unwrap());
    println!("{:?}", scope.output(&l[1].0, OutputId::default(), 10).await.unwrap());
    println!("{:?}", scope.output(&l[1].0, OutputId { attempt: 1, piece: 1 }, 10).await.unwrap());
    let s: Vec<_> = c.leases.into_iter().enumerate().map(|(i, lease)| Settlement { lease, outcome: match i { 0 => Outcome::Cancelled, 1 => Outcome::Succeeded { result: TaskResult { content_type: "application/json".into(), body: Bytes::from_static(b"{\"a\":1}") }, usage: vec![("tokens".into(), 7)] }, 2 => Outcome::Retry { error: TaskError { code: "x".into(), detail: "y".into() }, after_ms: 10 }, 3 => Outcome::HandedBack, 4 => Outcome::Failed { error: TaskError { code: "x".into(), detail: "y".into() }, usage: vec![] }, _ => Outcome::Dead { error: TaskError { code: "x".into(), detail: "y".into() } } } }).collect();
    println!("{:?}", scope.settle(&policy, &s).await.unwrap());
    println!("{:?}", scope.settle(&policy, &s).await.unwrap());
    for i in 0..5 { println!("{:?}", scope.task(&l[i].0).await.unwrap().map(|t| (t.status, t.attempts, t.result, t.error))); }
    println!("{:?}", scope.queues(&policy).await.unwrap());
    println!("{:?}", scope.processors(&policy).await.unwrap());
    println!("{:?}", scope.breakers(&policy).await.unwrap());
    println!("{:?}", &scope.decisions(3).await.unwrap());
    println!("{:?}", scope.claim(&policy, 20).await.unwrap().leases.len());
    println!("{:?}", scope.reclaim(&policy).await.unwrap());
    let mut n = 0; while let Ok(c) = watch.try_recv() { n += 1; if n < 3 { println!("{c:?}"); } } println!("changes {n}");
    println!("{:?}", scope.peek(&policy, &reqs[..1]).await.unwrap());
    let mut w = scope.waker();
    println!("{:?}", w.wait(Duration::from_millis(50)).await);
    println!("{:?}", w.wait(Duration::from_millis(50)).await);
}
