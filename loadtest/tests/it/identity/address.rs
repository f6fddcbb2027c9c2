//! Which address a request comes from, and what that decides before anybody looks at a credential.
//!
//! Responsible for forwarding headers, lists of addresses and addresses that keep failing. Must never wait for a minute
//! to pass: what is refused is refused at once.

use portcullis_loadtest::client::Client;
use portcullis_loadtest::cluster::Member;
use portcullis_loadtest::probe::CommandCost;
use portcullis_lua::{Grounds, Revocation, TaskId};
use serde_json::json;

use super::terms::{Terms, resource_of, with_api_key};
use crate::fixture::{Fixture, cluster, start, until};

/// The same listener as somebody behind a proxy that writes this.
fn from(client: &Client, forwarded: &str) -> Client {
    client.with_header("x-forwarded-for", forwarded)
}

async fn session(client: &Client) -> String {
    let answer = client.limits().await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.header("x-session-id").expect("a session").to_owned()
}

#[tokio::test]
async fn a_forwarded_address_is_read_from_the_right_as_far_as_the_proxies_are_ours() {
    let behind = |count: &'static str| {
        move |builder: portcullis_loadtest::cluster::Builder, index| {
            builder.member_env(Member::Gateway(index), "TRUSTED_PROXY_COUNT", count)
        }
    };
    let builder = behind("2")(behind("1")(cluster().gateways(3), 1), 2);
    let cluster = start(builder).await;
    let [none, one, two] = [0, 1, 2].map(|index| cluster.gateway(index));
    // The digest of an address is the same at every gateway.
    let direct = session(&none).await;
    for forged in ["198.51.100.1", "198.51.100.1, 198.51.100.2", "junk"] {
        let forged =
            from(&none, forged).with_header("forwarded", "for=198.51.100.1").with_header("x-real-ip", "8.8.8.8");
        assert_eq!(session(&forged).await, direct, "without a proxy the header means nothing");
    }
    let ada = session(&from(&one, "198.51.100.1")).await;
    let unknown = session(&one).await;
    assert!(ada != direct && ada != unknown && unknown != direct);
    for same in
        ["203.0.113.9, 198.51.100.1", "junk,198.51.100.1", "198.51.100.1:4711", "::ffff:198.51.100.1", " 198.51.100.1 "]
    {
        assert_eq!(session(&from(&one, same)).await, ada, "{same}");
    }
    let lines = from(&from(&one, "203.0.113.9"), "198.51.100.1");
    assert_eq!(session(&lines).await, ada, "lines are joined in their order");
    for unreadable in ["unknown", "_hidden", "198.51.100.1, junk", "fe80::1%eth0", "198.51.100.256", ""] {
        assert_eq!(session(&from(&one, unreadable)).await, unknown, "{unreadable:?}: never a fresh session");
    }
    assert_eq!(session(&from(&one, "2001:db8::1")).await, session(&from(&one, "[2001:db8::2]:80")).await);
    assert_ne!(session(&from(&one, "2001:db8::1")).await, session(&from(&one, "2001:db8:0:1::1")).await);
    assert_eq!(session(&from(&two, "198.51.100.1, 10.0.0.1")).await, ada);
    assert_eq!(session(&from(&two, "8.8.8.8, 198.51.100.1, 10.0.0.1")).await, ada);
    assert_eq!(session(&from(&two, "198.51.100.1")).await, unknown, "fewer entries than proxies");
    let absurd = from(&one, &vec!["198.51.100.1"; 33].join(",")).limits().await.expect("an answer");
    assert_eq!((absurd.status, absurd.code()), (400, "invalid_request"));
}

/// Adds a gateway behind one proxy with these terms; at it, a caller of the owner's key from an address.
async fn gateway_behind_a_proxy(cluster: &mut Fixture, terms: &Terms, address: &str) -> Client {
    for (name, value) in terms.variables() {
        cluster.set_env(name, &value);
    }
    cluster.set_env("TRUSTED_PROXY_COUNT", "1");
    let anyone = cluster.add_gateway().await.expect("a gateway");
    let good = with_api_key(&from(&anyone, address), "ownerkey");
    until("it is ready", || async { (good.limits().await.ok()?.status == 200).then_some(()) }).await;
    anyone
}

#[tokio::test]
async fn an_address_that_is_not_on_the_list_costs_redis_nothing() {
    let terms = Terms::new().api_key("ownerkey", "acme:owner", "privileged");
    let mut cluster = start(terms.cluster()).await;
    let terms = terms.section("ip_allow", json!({ "public": ["lan", "192.0.2.0/24"], "admin": [] }));
    let anyone = gateway_behind_a_proxy(&mut cluster, &terms, "10.1.2.3").await;
    for listed in ["10.0.0.7", "172.31.255.255", "192.168.1.1", "169.254.1.1", "127.0.0.1", "fd00::1", "192.0.2.200"] {
        assert_eq!(from(&anyone, listed).limits().await.expect("an answer").status, 200, "{listed}");
    }
    let elsewhere =
        ["8.8.8.8", "172.32.0.1", "100.64.0.1", "203.0.113.1", "0.0.0.0", "2001:db8::1", "10.0.0.7, 8.8.8.8"];
    for address in elsewhere.into_iter().chain(["unknown"]) {
        let refused = from(&anyone, address).limits().await.expect("an answer");
        assert_eq!((refused.status, refused.code(), refused.step()), (403, "ip_refused", "session"), "{address}");
    }
    assert_eq!(anyone.limits().await.expect("an answer").status, 403, "no address is on no list");
    // A credential does not help, whatever it is worth.
    let path = format!("/v1/tasks/{}", TaskId::generate());
    let probe = cluster.probe().await.expect("a connection");
    let commands = async || {
        let costs = probe.command_costs().await.expect("statistics");
        costs.values().map(|CommandCost { calls, .. }| calls).sum::<u64>()
    };
    let ask = async |address: &str, status: u16| {
        let before = commands().await;
        for _ in 0..8 {
            let client = with_api_key(&from(&anyone, address), "ownerkey");
            let answers = futures_util::future::join_all((0..25).map(|_| client.get(&path))).await;
            for answer in answers {
                assert_eq!(answer.expect("an answer").status, status);
            }
        }
        commands().await - before
    };
    let (refused, served) = (ask("8.8.8.8", 403).await, ask("10.1.2.3", 404).await);
    // What gateways ask by themselves goes on meanwhile, a few times a second.
    assert!(served >= 200, "each of 200 that are served asks redis: {served}");
    assert!(refused < 100, "200 that are refused asked {refused} times");
}

#[tokio::test]
async fn an_address_that_keeps_failing_is_heard_no_more_and_nobody_else_suffers() {
    let terms = Terms::new().api_key("ownerkey", "acme:owner", "privileged");
    let mut cluster = start(terms.cluster()).await;
    let terms = terms.section("failed_attempts", json!({ "per_minute": 20 }));
    let anyone = gateway_behind_a_proxy(&mut cluster, &terms, "10.1.2.3").await;
    let guesser = from(&anyone, "203.0.113.5");
    for attempt in 0..20 {
        let answer = guesser.bearer_beside(&format!("guess-{attempt}")).limits().await.expect("an answer");
        assert_eq!(answer.status, 401, "attempt {attempt}");
    }
    for client in [guesser.bearer_beside("guess-20"), with_api_key(&guesser, "ownerkey")] {
        let answer = client.limits().await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (429, "rate_limit"), "{}", answer.text);
        assert!(answer.retry_after().is_some_and(|wait| (1..=60).contains(&wait.as_secs())));
    }
    assert_eq!(guesser.limits().await.expect("an answer").status, 200, "without a credential nothing is guessed");
    let owner = with_api_key(&from(&anyone, "203.0.113.6"), "ownerkey");
    assert_eq!(owner.limits().await.expect("an answer").status, 200, "the owner is not locked out");
    let breakers = cluster.admin(1).get("/admin/circuit-breakers").await.expect("an answer");
    assert_eq!(breakers.body["store"]["breaker"], "closed", "{}", breakers.text);
}

#[tokio::test]
async fn who_goes_on_with_a_session_that_is_over_locks_nobody_out_and_who_guesses_sessions_does() {
    let terms = Terms::new().api_key("ownerkey", "acme:owner", "privileged");
    let mut cluster = start(terms.cluster()).await;
    let terms = terms.section("failed_attempts", json!({ "per_minute": 20 }));
    let anyone = gateway_behind_a_proxy(&mut cluster, &terms, "10.1.2.3").await;
    let office = from(&anyone, "203.0.113.5");
    let opened = with_api_key(&office, "ownerkey").post("/v1/sessions", &json!({})).await.expect("an answer");
    let session = office.bearer_beside(opened.body["token"].as_str().expect("a token"));
    assert_eq!(session.delete("/v1/sessions/current").await.expect("an answer").status, 204);
    for attempt in 0..50 {
        assert_eq!(session.limits().await.expect("an answer").status, 401, "attempt {attempt}");
    }
    assert_eq!(with_api_key(&office, "ownerkey").limits().await.expect("an answer").status, 200);
    for guess in 0..20 {
        let guess = office.bearer_beside(&format!("gs_{guess:x>43}"));
        let status = guess.limits().await.expect("an answer").status;
        assert!(status == 401 || status == 429, "{status}");
    }
    assert_eq!(with_api_key(&office, "ownerkey").limits().await.expect("an answer").status, 429);
}

#[tokio::test]
async fn who_goes_on_with_what_was_revoked_or_is_over_locks_nobody_out() {
    let terms =
        Terms::new().api_key("ownerkey", "acme:owner", "privileged").api_key("revoked1", "acme:gone", "privileged");
    let mut cluster = start(terms.cluster()).await;
    let terms = terms.section("failed_attempts", json!({ "per_minute": 5 }));
    let anyone = gateway_behind_a_proxy(&mut cluster, &terms, "10.1.2.3").await;
    let own = cluster.scope().to_string();
    let over = terms.expired_chain(&own, &resource_of(&own));
    let revocation = Revocation {
        member: portcullis_lua::Member::Token("revoked1").to_string(),
        lasts_ms: 3_600_000,
        spares_later: false,
    };
    let grounds = Grounds { by: "test", reason: "stolen", max_audit_events: 1000 };
    cluster.store().await.expect("a store").revoke(&[revocation], grounds).await.expect("an answer");
    let shared = from(&anyone, "203.0.113.5");
    let status = async |client: &Client| client.limits().await.expect("an answer").status;
    let revoked = with_api_key(&shared, "revoked1");
    until("it is known to be revoked", || async { (status(&revoked).await == 401).then_some(()) }).await;
    for client in [&revoked, &shared.bearer_beside(&over)] {
        for _ in 0..10 {
            assert_eq!(status(client).await, 401);
        }
    }
    assert_eq!(status(&with_api_key(&shared, "ownerkey")).await, 200, "others at that address are heard");
    for _ in 0..5 {
        assert_eq!(status(&shared.bearer_beside("guess")).await, 401);
    }
    assert_eq!(status(&with_api_key(&shared, "ownerkey")).await, 429, "who guesses is not");
}

#[tokio::test]
async fn the_operators_listener_has_a_list_of_its_own_and_is_as_deaf_to_guessing() {
    let terms = Terms::new().api_key("ownerkey", "acme:owner", "privileged");
    let mut cluster = start(terms.cluster()).await;
    let lists = json!({ "public": ["10.0.0.0/8", "203.0.113.0/24"], "admin": ["10.9.0.0/16"] });
    let terms = terms.section("ip_allow", lists).section("failed_attempts", json!({ "per_minute": 20 }));
    gateway_behind_a_proxy(&mut cluster, &terms, "10.1.2.3").await;
    let operator = cluster.admin(1);
    let stranger = operator.bearer("guessed-guessed-guessed-guessed-guessed");
    let status = async |client: &Client| client.get("/admin/queues").await.expect("an answer").status;
    assert_eq!(status(&from(&operator, "10.9.8.7")).await, 200);
    for address in ["10.1.2.3", "203.0.113.1", "unknown", "10.9.8.7, 8.8.8.8"] {
        let refused = from(&operator, address).get("/admin/queues").await.expect("an answer");
        assert_eq!((refused.status, refused.code()), (403, "ip_refused"), "{address}: the token does not help");
    }
    for attempt in 0..20 {
        assert_eq!(status(&from(&stranger, "10.9.0.1")).await, 401, "attempt {attempt}");
    }
    assert_eq!(status(&from(&stranger, "10.9.0.1")).await, 429);
    assert_eq!(status(&from(&operator, "10.9.0.1")).await, 429, "who guesses does not hear when it was right");
    assert_eq!(status(&from(&operator, "10.9.8.7")).await, 200, "the operator is not locked out");
}

/// A bearer token beside the headers that a client has already.
trait BearerBeside {
    fn bearer_beside(&self, token: &str) -> Client;
}

impl BearerBeside for Client {
    fn bearer_beside(&self, token: &str) -> Client {
        self.with_header("authorization", &format!("Bearer {token}"))
    }
}
