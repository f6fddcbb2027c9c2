//! The demonstration behind `deploy/quickstart.sh`: a cluster, real traffic, and what came of it in plain words.
//!
//! Responsible for a newcomer's first minute, and with `--once` for a pass or a fail that can be trusted. Must never
//! leave anything behind: processes, directories and keys go with it.

pub mod expectation;
pub mod ledger;
pub mod traffic;

use portcullis_config::UserType;

use crate::cluster::{Cluster, Launcher};
use crate::demo::expectation::Expectation;
use crate::demo::ledger::Ledger;
use crate::error::HarnessError;
use crate::interruption::Interruption;
use crate::report::{Table, say};

/// Slots of each of the two processors: few, so that a handful of slow tasks is pressure.
const SLOTS: u32 = 5;

/// What to show.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// End after the traffic.
    pub once: bool,
    /// Use this Redis instead of starting one.
    pub redis_url: Option<String>,
}

/// Shows everything. `Ok(true)` when all went as it should.
pub async fn run(options: DemoOptions) -> Result<bool, HarnessError> {
    let stop = Interruption::listen()?.heard();
    tokio::pin!(stop);
    say("starting a private Redis, two gateways and two processors …");
    let mut cluster = tokio::select! {
        cluster = start(&options) => cluster?,
        () = &mut stop => return Ok(false),
    };
    let shown = tokio::select! {
        outcome = show(&cluster) => outcome,
        () = &mut stop => Ok(false),
    };
    if !options.once && shown.is_ok() {
        say(invitation(&cluster));
        stop.await;
        say("\nending everything");
    }
    cluster.end().await?;
    shown
}

async fn start(options: &DemoOptions) -> Result<Cluster, HarnessError> {
    let builder = Cluster::builder(Launcher::beside_current_exe()?).gateways(2).processors(2).slots(SLOTS);
    let builder = builder.handler("demo", "builtin:echo").handler("slow", "builtin:sleep");
    // The machine may be finishing the build of all this: a slow answer of Redis is not an outage here.
    let builder = builder.env("PORTCULLIS_STORE_TIMEOUT_MS", "2000");
    builder.redis_url(options.redis_url.clone()).start().await
}

async fn show(cluster: &Cluster) -> Result<bool, HarnessError> {
    say("sending traffic of all four user types through both gateways; this takes some seconds …\n");
    let mut ledger = Ledger::default();
    let seen = traffic::send(cluster, &mut ledger).await?;
    say(ledger.table());
    say(explanation(&ledger));
    say(ends(&ledger));
    let burst_limit = cluster.policy().limits_of(&UserType::anonymous()).map_or(0, |limit| limit.burst);
    let expectations = expectation::check(&ledger, &seen, burst_limit);
    say(verdict(&expectations));
    Ok(expectations.iter().all(|expectation| expectation.holds))
}

/// What the codes in the table mean, one line for each that occurred.
fn explanation(ledger: &Ledger) -> String {
    let meanings = [
        ("burst_limit", "the session's sliding burst window is full; a refused request used up nothing"),
        ("hourly_limit", "the session's sliding hourly window is full"),
        ("pressure_threshold", "the queue is too deep for this user type; higher types still get in"),
        ("hard_limit", "the queue is too deep for anybody"),
        ("unauthenticated", "a credential that fails is never a silent downgrade to anonymous"),
    ];
    let occurred = |code: &str| ledger.rows().iter().any(|(_, row)| row.refused.contains_key(code));
    let lines = meanings.iter().filter(|(code, _)| occurred(code));
    let lines: Vec<String> = lines.map(|(code, meaning)| format!("  {code:<20} {meaning}")).collect();
    lines.join("\n") + "\n"
}

fn ends(ledger: &Ledger) -> Table {
    let mut table = Table::new(&["accepted tasks of", "succeeded", "failed", "dead", "cancelled", "expired"]);
    for (user_type, row) in ledger.rows().iter().filter(|(_, row)| row.admitted > 0) {
        let count = |status: &str| row.ended.get(status).copied().unwrap_or_default().to_string();
        let [succeeded, failed, dead] = ["succeeded", "failed", "dead"].map(count);
        table.row([user_type.clone(), succeeded, failed, dead, count("cancelled"), count("expired")]);
    }
    table
}

fn verdict(expectations: &[Expectation]) -> String {
    let lines = expectations.iter().map(|expectation| {
        if expectation.holds {
            format!("  ok    {}", expectation.text)
        } else {
            format!("  FAIL  {} (seen: {})", expectation.text, expectation.seen)
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// What to try next, ready to paste.
fn invitation(cluster: &Cluster) -> String {
    let (public, admin, token) = (cluster.gateway(0), cluster.admin(0), cluster.admin_token());
    let (public, admin) = (public.base(), admin.base());
    let post = |credential: &str, body: &str| {
        let credential =
            if credential.is_empty() { String::new() } else { format!("-H 'Authorization: {credential}' ") };
        format!("{public}/v1/tasks {credential}\\\n    -H 'Content-Type: application/json' -d '{body}'")
    };
    let statuses = "curl -s -o /dev/null -w '%{http_code} '";
    let lines = [
        format!("gateways     {public}  {}", cluster.gateway(1).base()),
        format!("admin        {admin}  (token {token})"),
        format!("redis        {}  (scope {})", cluster.redis_url(), cluster.scope()),
        "\na task, waited for:".to_owned(),
        format!(
            "  curl -si -H 'Prefer: wait=5' {}",
            post("Bearer dev:registered:ada", r#"{"kind":"demo","payload":{"hello":"world"}}"#)
        ),
        "a slower one, watched while it runs:".to_owned(),
        format!(
            "  id=$(curl -s {} | sed 's/.*\"task_id\":\"\\([^\"]*\\).*/\\1/')",
            post("Bearer dev:paid:alice", r#"{"kind":"slow","payload":{"ms":5000,"output":5}}"#)
        ),
        format!("  curl -sN {public}/v1/tasks/$id/events -H 'Authorization: Bearer dev:paid:alice'"),
        "429: an anonymous caller may send ten in any minute, which the traffic above has used up:".to_owned(),
        format!("  curl -si {}", post("", r#"{"kind":"demo","payload":1}"#)),
        format!("  curl -s {public}/v1/limits"),
        "503: too much work is waiting for a caller of this type:".to_owned(),
        format!(
            "  for i in $(seq 30); do {statuses} {}; done; echo",
            post("Bearer dev:registered:bob", r#"{"kind":"slow","payload":{"ms":3000}}"#)
        ),
        "why, decision by decision, and everything in one document:".to_owned(),
        format!("  curl -s {admin}/admin/decisions -H 'Authorization: Bearer {token}'"),
        format!("  curl -s {admin}/monitoring/system -H 'Authorization: Bearer {token}'"),
        "\nCtrl-C ends everything.".to_owned(),
    ];
    lines.join("\n")
}
