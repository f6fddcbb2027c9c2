//! Nobody is told anything: a gateway and a processor connect to Redis, to the issuers they are given, to the
//! application and the handler behind them, and to nobody else.
//!
//! Responsible for a whole life (start, every class of credential, a proxied request, an export, a change of policy,
//! the drain) seen in two ways. Where its sockets are looked at, whatever is open for a while is seen, whoever it goes
//! to. In a network that has nothing but loopback, the kernel counts each attempt to go elsewhere, however short.

mod sockets;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use axum::Router;
use axum::routing::any;
use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::cluster::Member;
use portcullis_loadtest::credentials::{Credentials, Granted, handed_on, principal_of, random_text, secret_key};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, accepted, cluster, ended, start, turn};
use sockets::{Seen, Watcher};

/// In the environment of the processes that are looked at, with a value of their own, and of the test that runs in a
/// network of its own.
const MARK: &str = "PORTCULLIS_TEST_EGRESS";

/// A server that answers everything alike.
async fn server(serving: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = Router::new().fallback(any(async || axum::Json(json!({ "said": "well" }))));
    serving.spawn(async move { drop(axum::serve(listener, app).await) });
    address
}

/// Whom they may connect to, by role.
type Known = BTreeSet<(String, SocketAddr)>;

/// Everybody they may connect to, and those to whom they stay connected.
struct Named {
    known: Known,
    lasting: Known,
}

/// Everybody who can be somebody, and a stranger.
async fn callers(cluster: &Fixture, credentials: &Credentials) -> Vec<Client> {
    let anybody = cluster.gateway(0);
    let jwt = anybody.bearer(&credentials.jwt("ada", &["paid"]).expect("a token"));
    let opened = jwt.post("/v1/sessions", &json!({ "label": "test" })).await.expect("an answer");
    let token = opened.body["token"].as_str().unwrap_or_else(|| panic!("{}", opened.text)).to_owned();
    let (principal, holder) = (principal_of("ada"), secret_key().expect("a key"));
    let granted =
        Granted { scope: cluster.scope(), principal: &principal, agent: "a", holder: Some(&holder), reason: "test" };
    let root = credentials.mint(&granted).expect("a root");
    let chain = handed_on(&root, &holder, "b", None, "test").expect("a chain");
    vec![
        anybody.bearer(&token),
        anybody.with_header("cookie", &format!("__Host-portcullis_session={token}")),
        anybody.bearer(chain.presented()),
        anybody.with_header("x-api-key", credentials.api_key()),
        anybody.with_header("x-internal-token", credentials.internal_token()),
        jwt,
        anybody.clone(),
    ]
}

/// A whole life of processes with this mark; whom they knew.
async fn live(mark: &str) -> Named {
    let mut serving = JoinSet::new();
    let (application, handler) = (server(&mut serving).await, server(&mut serving).await);
    let credentials = Credentials::new(&json!({})).await.expect("credentials");
    let builder = credentials.believed_by(cluster()).processors(1).env(MARK, mark);
    let mut builder = builder.env("UPSTREAM_URL", &format!("http://{application}"));
    // Meant for other programs: whoever heeds them reaches nobody.
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        builder = builder.env(variable, "http://127.0.0.1:9");
    }
    let mut cluster = start(builder.handler("remote", &format!("http://{handler}/run"))).await;
    let issuer = credentials.jwks_url();
    let issuer = issuer.trim_start_matches("http://").trim_end_matches("/keys").parse().expect("an address");
    let redis = cluster.redis().expect("its own").address();
    let mut passed = 0;
    for client in callers(&cluster, &credentials).await {
        for kind in ["demo", "remote"] {
            let task_id = accepted(&client, &Submission::new(kind, json!(1))).await;
            assert_eq!(ended(&client, &task_id).await.task_status(), "succeeded", "{kind}");
        }
        let proxied = client.get("/shop/news").await.expect("an answer");
        // Some are given for tasks only.
        assert!(proxied.body["said"] == "well" || proxied.status == 403, "{}", proxied.text);
        passed += usize::from(proxied.status == 200);
    }
    assert!(passed >= 3, "{passed} proxied");
    for wrong in ["Bearer gs_unknown", "Bearer a.b.c", "Basic YTpi"] {
        let answer = cluster.gateway(0).with_header("authorization", wrong).get("/v1/limits").await;
        assert_eq!(answer.expect("an answer").status, 401, "{wrong}");
    }
    let admin = cluster.admin(0);
    let change = json!({ "queue": { "lease_ms": 20_000 }, "reason": "test" });
    let answers = [
        admin.post("/admin/gateway/update-config", &change).await,
        admin.get("/admin/audit/export?stream=audit").await,
        admin.get("/admin/audit/export?stream=decision").await,
        admin.get("/monitoring/system").await,
        admin.get("/metrics").await,
    ];
    for answer in answers {
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    for member in [Member::Processor(0), Member::Gateway(0)] {
        let process = cluster.member(member).expect("it runs");
        process.terminate().expect("told to end");
        process.wait().await.expect("ended");
    }
    let of = |role: &str, known: &[SocketAddr]| known.iter().map(|each| (role.to_owned(), *each)).collect::<Known>();
    let lasting = &of("gateway", &[redis, application]) | &of("processor", &[redis, handler]);
    Named { known: &lasting | &of("gateway", &[issuer]), lasting }
}

/// Whoever was connected to, beside those who are known.
fn strangers(seen: &Seen, known: &Known) -> Vec<(String, SocketAddr)> {
    seen.connected.difference(known).chain(&seen.datagrams).cloned().collect()
}

#[tokio::test]
async fn no_socket_goes_anywhere_but_to_who_is_named() {
    let mark = random_text();
    let watcher = Watcher::start(MARK, &mark);
    let Named { known, lasting } = live(&mark).await;
    let seen = watcher.stop();
    assert_eq!(strangers(&seen, &known), [], "{seen:?}");
    // It was looked at all the time: whoever they are connected to for long was seen.
    assert_eq!(seen.processes, [("gateway".to_owned(), 1), ("processor".to_owned(), 1)].into(), "{seen:?}");
    assert_eq!(lasting.difference(&seen.connected).next(), None, "{seen:?}");
    // Had any of them not been named, it would be a stranger.
    assert_eq!(strangers(&seen, &known.difference(&lasting).cloned().collect()).len(), lasting.len(), "{seen:?}");
}

/// How often somebody wanted to go where there is no way, by IPv4 and IPv6, as the kernel counts it.
fn attempts() -> u64 {
    let v4 = std::fs::read_to_string("/proc/self/net/snmp").expect("counters");
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split_whitespace());
    let (names, mut values) = (lines.next().expect("names"), lines.next().expect("values"));
    let place = names.into_iter().position(|name| name == "OutNoRoutes").expect("the counter");
    let v6 = std::fs::read_to_string("/proc/self/net/snmp6").unwrap_or_default();
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Ip6OutNoRoutes")).unwrap_or("0");
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    number(values.nth(place).expect("a value")) + number(v6)
}

/// Run by the test below in a network of its own; anywhere else it has nothing to say.
#[tokio::test]
async fn inside_a_network_of_nothing_but_loopback() {
    if std::env::var(MARK).as_deref() != Ok("inside") {
        return;
    }
    live("inside too").await;
    assert_eq!(attempts(), 0, "somebody wanted to go elsewhere");
    // That would have been counted.
    TcpStream::connect("192.0.2.1:9").await.expect_err("there is no way");
    let counted = attempts();
    let socket = UdpSocket::bind("0.0.0.0:0").await.expect("a socket");
    socket.send_to(b"?", "192.0.2.1:53").await.expect_err("there is no way");
    assert!(counted >= 1 && attempts() > counted, "{counted}, then {}", attempts());
}

#[tokio::test]
async fn where_there_is_nothing_but_loopback_nobody_wants_to_go_elsewhere() {
    // Of the test that runs inside.
    let _turn = turn().await;
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", script]);
        command.env(MARK, "inside");
        command.output()
    };
    let up = "ip link set lo up";
    if !unshared(up).is_ok_and(|output| output.status.success()) {
        // The sockets are looked at on every machine.
        eprintln!("not shown: this machine lets nobody have a network of its own");
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let name = "edge::egress::inside_a_network_of_nothing_but_loopback";
    let run = format!("{up} && exec '{}' --exact {name} --nocapture", program.display());
    let output = unshared(&run).expect("it runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
