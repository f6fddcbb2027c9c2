//! What a program refuses to start with, by its environment: the status, the setting that is named, and that nothing
//! was touched.
//!
//! Responsible for the table. Every address that a program may bind is taken here, so one that tried to would end with
//! another status; and whoever connects to its Redis is seen.

use std::io::Write;
use std::net::TcpListener;

use tempfile::NamedTempFile;

use super::{TOKEN, run};

const DEFAULT_TOKEN: &str = "change-me-change-me-now-or-else-0123";
const ANY_PAGE: &str = r#"{"cors": {"allowed_origins": ["*"], "allow_credentials": true}}"#;

type Variables<'a> = Vec<(&'a str, &'a str)>;

/// Changes of an environment, and the setting that is named for them.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a str);

/// The addresses of a program: taken, so that nobody else can bind them.
struct Taken {
    public: TcpListener,
    admin: TcpListener,
    rls: TcpListener,
    redis: TcpListener,
}

impl Taken {
    fn take() -> Self {
        let listener = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = Self { public: listener(), admin: listener(), rls: listener(), redis: listener() };
        taken.redis.set_nonblocking(true).expect("a socket");
        taken
    }

    fn port(listener: &TcpListener) -> u16 {
        listener.local_addr().expect("an address").port()
    }

    /// With what it would start, but for its addresses, under these changes; its status and each line it said.
    async fn start(&self, program: &[&str], changes: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
        let [public, admin] = [&self.public, &self.admin].map(|each| format!("127.0.0.1:{}", Self::port(each)));
        let redis = format!("redis://127.0.0.1:{}", Self::port(&self.redis));
        let mut variables: Variables<'_> = vec![
            ("PORTCULLIS_ADMIN_TOKEN", TOKEN),
            ("PORTCULLIS_LISTEN", &public),
            ("PORTCULLIS_ADMIN_LISTEN", &admin),
            ("PORTCULLIS_DEV_TOKENS", "true"),
            ("PORTCULLIS_HANDLER", "*=builtin:echo"),
            ("PORTCULLIS_LOG", "warn"),
            ("REDIS_URL", &redis),
        ];
        variables.extend(changes);
        let (status, stderr) = run(program, &variables).await;
        (status, stderr.lines().map(str::to_owned).collect())
    }

    /// Everybody who is named by a line is named by one, in this order, and nobody has come to Redis.
    async fn refuses(&self, program: &[&str], changes: &[(&str, &str)], settings: &[&str]) {
        let (status, lines) = self.start(program, changes).await;
        assert_eq!(status, Some(78), "{program:?} {changes:?}: {lines:?}");
        assert_eq!(lines.len(), settings.len(), "{program:?} {changes:?}: {lines:?}");
        for (line, setting) in lines.iter().zip(settings) {
            assert!(line.contains(setting), "{program:?} {changes:?}: {setting} is not named by {line}");
        }
        assert!(self.redis.accept().is_err(), "{program:?} {changes:?}: it went to redis");
    }
}

const GATEWAY: [&str; 2] = ["gateway", "serve"];
const PROCESSOR: [&str; 1] = ["processor"];

#[tokio::test]
async fn what_is_refused_below_would_otherwise_bind_its_addresses() {
    let taken = Taken::take();
    for program in [&GATEWAY[..], &PROCESSOR] {
        let (status, lines) = taken.start(program, &[]).await;
        let listener = lines.iter().any(|line| line.to_lowercase().contains("listen"));
        assert!(status == Some(1) && listener, "{program:?}: {lines:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_would_be_open_names_the_setting() {
    let taken = Taken::take();
    let everywhere = |listener| format!("0.0.0.0:{}", Taken::port(listener));
    let [public, admin, rls] = [&taken.public, &taken.admin, &taken.rls].map(everywhere);
    let at_public = taken.public.local_addr().expect("an address").to_string();
    let (weak, repeated) = ("secret".repeat(8), "x".repeat(40));
    let nobody = ("PORTCULLIS_DEV_TOKENS", "");
    let anonymous = ("PORTCULLIS_ALLOW_ANONYMOUS_ONLY", "true");
    let (everywhere, proxy) = (("PORTCULLIS_LISTEN", public.as_str()), ("TRUSTED_PROXY_COUNT", "1"));
    let rls_everywhere = ("PORTCULLIS_RLS_LISTEN", rls.as_str());
    let internal = |token: &'static str| ("PORTCULLIS_INTERNAL_TOKEN", token);
    let service = ("PORTCULLIS_INTERNAL_PRINCIPAL", "crawler");
    let table: Vec<(Variables<'_>, &[&str])> = vec![
        (vec![nobody], &["PORTCULLIS_ALLOW_ANONYMOUS_ONLY"]),
        (vec![nobody, everywhere], &["PORTCULLIS_ALLOW_ANONYMOUS_ONLY", "TRUSTED_PROXY_COUNT"]),
        (vec![nobody, anonymous, everywhere], &["TRUSTED_PROXY_COUNT"]),
        (vec![nobody, anonymous, ("PORTCULLIS_ADMIN_LISTEN", &admin)], &["TRUSTED_PROXY_COUNT"]),
        (vec![everywhere, proxy], &["--dev-tokens"]),
        (vec![("PORTCULLIS_ADMIN_TOKEN", "")], &["PORTCULLIS_ADMIN_TOKEN"]),
        (vec![("PORTCULLIS_ADMIN_TOKEN", "short")], &["PORTCULLIS_ADMIN_TOKEN"]),
        (vec![("PORTCULLIS_ADMIN_TOKEN", DEFAULT_TOKEN)], &["PORTCULLIS_ADMIN_TOKEN"]),
        (vec![("PORTCULLIS_ADMIN_TOKEN", &weak)], &["PORTCULLIS_ADMIN_TOKEN"]),
        (vec![("PORTCULLIS_ADMIN_TOKEN", &repeated)], &["PORTCULLIS_ADMIN_TOKEN"]),
        (vec![rls_everywhere], &["PORTCULLIS_RLS_TOKEN"]),
        (vec![rls_everywhere, ("PORTCULLIS_RLS_TOKEN", DEFAULT_TOKEN)], &["PORTCULLIS_RLS_TOKEN"]),
        (vec![internal("short"), service], &["internal.tokens"]),
        (vec![internal(DEFAULT_TOKEN), service], &["internal.tokens"]),
        (vec![internal(TOKEN)], &["PORTCULLIS_INTERNAL_PRINCIPAL"]),
        (vec![("GATEWAY_CONFIG_JSON", ANY_PAGE)], &["cors.allow_credentials"]),
        (vec![("PORTCULLIS_ADMIN_LISTEN", &at_public)], &["PORTCULLIS_ADMIN_LISTEN"]),
        (vec![("PORTCULLIS_RLS_LISTEN", &at_public)], &["PORTCULLIS_RLS_LISTEN"]),
        (vec![("REDIS_URL", "redis://10.0.0.1")], &["PORTCULLIS_ALLOW_OPEN_REDIS"]),
    ];
    for (changes, settings) in &table {
        taken.refuses(&GATEWAY, changes, settings).await;
    }
}

#[tokio::test]
async fn an_identity_document_that_lets_strangers_in_names_the_setting() {
    let taken = Taken::take();
    let public = format!("0.0.0.0:{}", Taken::port(&taken.public));
    let issuer = |rest: &str| format!("issuers: [{{issuer: 'https://i.example', principal_prefix: 'i:', {rest}}}]");
    let sound = issuer("algorithms: [RS256], audiences: [a]");
    let behind_a_proxy =
        [("PORTCULLIS_DEV_TOKENS", ""), ("PORTCULLIS_LISTEN", public.as_str()), ("TRUSTED_PROXY_COUNT", "1")];
    let table: [(String, Row<'_>); 7] = [
        (issuer("algorithms: [RS256]"), (&[], "issuers[0].audiences")),
        (issuer("algorithms: [none], audiences: [a]"), (&[], "issuers[0].algorithms[0]")),
        (issuer("algorithms: [HS256], audiences: [a]"), (&[], "issuers[0].algorithms[0]")),
        ("internal: {tokens: ['env:NOT_SET'], principal: p}".to_owned(), (&[], "internal.tokens[0]")),
        (format!("internal: {{tokens: ['env:PORTCULLIS_ADMIN_TOKEN']}}\n{sound}"), (&[], "internal.principal")),
        (format!("cookies: {{secure: false}}\n{sound}"), (&behind_a_proxy, "cookies.secure")),
        (format!("ip_allow: {{public: [lan]}}\n{sound}"), (&behind_a_proxy, "TRUSTED_PROXY_CIDRS")),
    ];
    for (document, (changes, setting)) in &table {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(document.as_bytes()).expect("written");
        let path = file.path().to_str().expect("a path").to_owned();
        let changes = [*changes, &[("PORTCULLIS_IDENTITY_PATH", path.as_str())]].concat();
        taken.refuses(&GATEWAY, &changes, &[setting]).await;
    }
}

#[tokio::test]
async fn a_processor_that_would_be_open_names_the_setting() {
    let taken = Taken::take();
    let everywhere = format!("0.0.0.0:{}", Taken::port(&taken.admin));
    let table: [Row<'_>; 4] = [
        (&[("PORTCULLIS_ADMIN_LISTEN", &everywhere), ("PORTCULLIS_ADMIN_TOKEN", "")], "PORTCULLIS_ADMIN_TOKEN"),
        (&[("PORTCULLIS_ADMIN_TOKEN", "short")], "PORTCULLIS_ADMIN_TOKEN"),
        (&[("PORTCULLIS_ADMIN_TOKEN", DEFAULT_TOKEN)], "PORTCULLIS_ADMIN_TOKEN"),
        (&[("REDIS_URL", "redis://10.0.0.1")], "PORTCULLIS_ALLOW_OPEN_REDIS"),
    ];
    for (changes, setting) in table {
        taken.refuses(&PROCESSOR, changes, &[setting]).await;
    }
}

/// Variables that both programs have, with values that none of them takes.
const BAD: [(&str, &str); 14] = [
    ("PORTCULLIS_ADMIN_LISTEN", "nowhere"),
    ("REDIS_URL", "http://127.0.0.1"),
    ("REDIS_URL", "redis://127.0.0.1:port"),
    ("PORTCULLIS_ALLOW_OPEN_REDIS", "perhaps"),
    ("PORTCULLIS_REDIS_WAIT_MS", "soon"),
    ("PORTCULLIS_REDIS_CONNECTIONS", "0"),
    ("GATEWAY_CONFIG_FORCE_ENV_ON_STARTUP", "perhaps"),
    ("TENANT_ID", "no name"),
    ("PROJECT_ID", "a}b"),
    ("PORTCULLIS_DRAIN_SECONDS", "-1"),
    ("PORTCULLIS_DRAIN_SECONDS", "1\n2"),
    ("PORTCULLIS_LOG", "portcullis=loud"),
    ("PORTCULLIS_LOG_FORMAT", "xml"),
    ("PORTCULLIS_REDIS_WAIT_MS", "18446744073709551616"),
];

const BAD_OF_A_GATEWAY: [(&str, &str); 21] = [
    ("TRUSTED_PROXY_COUNT", "one"),
    ("TRUSTED_PROXY_COUNT", "-1"),
    ("TRUSTED_PROXY_COUNT", "1.5"),
    ("TRUSTED_PROXY_COUNT", "9"),
    ("TRUSTED_PROXY_COUNT", "256"),
    ("TRUSTED_PROXY_CIDRS", "10.0.0.0/33"),
    ("PORTCULLIS_DECIDE_CIDRS", "10.0.0.0/8,10.0.0.0/33"),
    ("PORTCULLIS_LISTEN", "localhost"),
    ("PORTCULLIS_RLS_LISTEN", "8083"),
    ("PORTCULLIS_STORE_TIMEOUT_MS", "0"),
    ("PORTCULLIS_STORE_AWAY_MS", "0"),
    ("PORTCULLIS_KEEP_ALIVE_SECONDS", "4"),
    ("PORTCULLIS_DEV_TOKENS", "perhaps"),
    ("PORTCULLIS_ALLOW_ANONYMOUS_ONLY", "perhaps"),
    ("ADMIN_ALLOW_WRITES", "perhaps"),
    ("ADMIN_ALLOWED_OPS", "no_such_operation"),
    ("ADMIN_ALLOWED_OPS", " ,"),
    ("UPSTREAM_URL", "ftp://127.0.0.1"),
    ("UPSTREAM_URL", "127.0.0.1"),
    ("GATEWAY_COMPONENT", "other"),
    ("PORTCULLIS_LOG_FORMAT", "JSON LINES"),
];

const BAD_OF_A_PROCESSOR: [(&str, &str); 4] = [
    ("PORTCULLIS_SLOTS", "many"),
    ("PORTCULLIS_SLOTS", "0"),
    ("PORTCULLIS_HANDLER", "echo"),
    ("PORTCULLIS_PROCESSOR_STORE_TIMEOUT_MS", "0"),
];

#[tokio::test]
async fn a_variable_whose_value_is_no_good_is_named() {
    let taken = Taken::take();
    for (program, own) in [(&GATEWAY[..], &BAD_OF_A_GATEWAY[..]), (&PROCESSOR, &BAD_OF_A_PROCESSOR)] {
        for (variable, value) in BAD.iter().chain(own) {
            let named = format!("{variable}: ");
            taken.refuses(program, &[(variable, value)], &[&named]).await;
        }
    }
    let several = [("PORTCULLIS_LOG", "portcullis=loud"), ("PORTCULLIS_HANDLER", "echo")];
    taken.refuses(&PROCESSOR, &several, &["PORTCULLIS_LOG: ", "PORTCULLIS_HANDLER: "]).await;
    let authority = ("PORTCULLIS_UPSTREAM_CA", "/no/such/file");
    for upstream in [&[("UPSTREAM_URL", "https://127.0.0.1"), authority][..], &[authority]] {
        taken.refuses(&GATEWAY, upstream, &["PORTCULLIS_UPSTREAM_CA: "]).await;
    }
}

#[tokio::test]
async fn the_same_value_as_a_flag_is_bad_usage() {
    let taken = Taken::take();
    let gateway = |flags: &[&'static str]| [&GATEWAY[..], flags].concat();
    let processor = |flags: &[&'static str]| [&PROCESSOR[..], flags].concat();
    for program in [
        gateway(&["--trusted-proxy-count", "one"]),
        gateway(&["--redis-url", "http://127.0.0.1"]),
        gateway(&["--log", "portcullis=loud"]),
        gateway(&["--tenant", "no name"]),
        processor(&["--slots", "many"]),
        processor(&["--redis-url", "http://127.0.0.1"]),
        processor(&["--log", "portcullis=loud"]),
        processor(&["--handler", "echo"]),
        gateway(&["redis://ada:canary@127.0.0.1"]),
        processor(&["redis://ada:canary@127.0.0.1"]),
    ] {
        let (status, lines) = taken.start(&program, &[]).await;
        assert_eq!(status, Some(64), "{program:?}: {lines:?}");
        assert!(!lines.iter().any(|line| line.contains("canary")), "{program:?}: {lines:?}");
    }
}

#[tokio::test]
async fn that_an_open_redis_is_meant_is_said_at_each_start() {
    let taken = Taken::take();
    let redis = format!("redis://0.0.0.0:{}", Taken::port(&taken.redis));
    for program in [&GATEWAY[..], &PROCESSOR] {
        let changes = [("REDIS_URL", redis.as_str()), ("PORTCULLIS_ALLOW_OPEN_REDIS", "true")];
        let (status, lines) = taken.start(program, &changes).await;
        let said = lines.iter().any(|line| line.contains("asks for no password"));
        assert!(status == Some(1) && said, "{program:?}: {lines:?}");
    }
}
