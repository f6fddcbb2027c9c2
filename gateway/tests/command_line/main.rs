//! The program itself, as scripts and supervisors see it: what it prints, and the status it ends with.
//!
//! Each test starts the real binary with an environment of its own. No Redis is needed: where one is named, nobody
//! answers there, which a gateway has to live with.

mod tokens;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

type Args<'a> = &'a [&'a str];
type Variables<'a> = &'a [(&'a str, &'a str)];

/// A gateway's command line in a clean environment.
fn gateway(args: Args<'_>, variables: Variables<'_>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-gateway"));
    command.args(args).env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: Args<'_>, variables: Variables<'_>, stdin: &str) -> Output {
    let mut child = gateway(args, variables).spawn().unwrap();
    // A program that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn status(output: &Output) -> Option<i32> {
    output.status.code()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The address of a Redis that is not there.
fn nobody() -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("redis://:canary-password@{address}")
}

/// A gateway that serves, and the addresses it announced.
struct Serving {
    child: Child,
    public: String,
    admin: String,
}

impl Serving {
    fn start(args: Args<'_>, variables: Variables<'_>) -> Self {
        let mut all = vec!["--dev-tokens", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        all.extend(args);
        let redis = nobody();
        let mut environment =
            vec![("TENANT_ID", "t"), ("PROJECT_ID", "p"), ("PORTCULLIS_ADMIN_TOKEN", TOKEN), ("REDIS_URL", &redis)];
        environment.extend(variables);
        let mut child = gateway(&all, &environment).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses = line.trim_end().strip_prefix("listening public=").and_then(|rest| rest.split_once(" admin="));
        let (public, admin) = addresses.unwrap_or_else(|| panic!("announced {line:?}"));
        Self { child, public: public.to_owned(), admin: admin.to_owned() }
    }

    fn get(address: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_and_version_are_no_failures() {
    let help = run(&["--help"], &[], "");
    assert_eq!(status(&help), Some(0));
    for word in ["PORTCULLIS_LISTEN", "REDIS_URL", "PORTCULLIS_ADMIN_TOKEN", "check-config", "78"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    let version = run(&["--version"], &[], "");
    assert_eq!((status(&version), text(&version.stdout).contains(env!("CARGO_PKG_VERSION"))), (Some(0), true));
}

#[test]
fn bad_usage_is_64_and_a_bad_variable_is_78_and_named() {
    let cases: [Args<'_>; 6] = [
        &["--no-such-flag"],
        &["no-such-command"],
        &["serve", "--trusted-proxy-count", "many"],
        &["serve", "--trusted-proxy-cidrs", "10.0.0.0/33"],
        &["serve", "--allow-anonymous-only", "--log", "portcullis_gateway=loud"],
        &["serve", "--allow-anonymous-only", "--admin-allowed-ops", " ,"],
    ];
    for args in cases {
        let output = run(args, &[], "");
        assert_eq!((status(&output), text(&output.stdout)), (Some(64), ""), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
    // A flag goes before its variable, which is then not looked at.
    let output = run(&["check-config", "-", "--tenant", "t"], &[("TENANT_ID", "no name"), ("PROJECT_ID", "p")], "{}");
    assert_eq!(status(&output), Some(0), "{}", text(&output.stderr));
    let two = [("TRUSTED_PROXY_COUNT", "9"), ("PORTCULLIS_DRAIN_SECONDS", "-1")];
    let output = run(&[], &two, "");
    let lines: Vec<&str> = text(&output.stderr).lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!((status(&output), lines), (Some(78), vec!["TRUSTED_PROXY_COUNT", "PORTCULLIS_DRAIN_SECONDS"]));
}

#[test]
fn a_gateway_that_would_be_open_is_78_and_names_the_setting() {
    let scope = [("TENANT_ID", "t"), ("PROJECT_ID", "p")];
    let with_token = [scope[0], scope[1], ("PORTCULLIS_ADMIN_TOKEN", TOKEN)];
    let weak = [scope[0], scope[1], ("PORTCULLIS_ADMIN_TOKEN", "changeme-changeme-changeme-changeme")];
    let off_loopback = [scope[0], scope[1], with_token[2], ("REDIS_URL", "redis-cluster://127.0.0.1?node=10.0.0.1:1")];
    let nobody = [scope[0], scope[1], with_token[2], ("PORTCULLIS_INTERNAL_TOKEN", "6c1f0e9a7b3d5528c4e1f2a39b07d64e")];
    let cors = r#"{"cors": {"allowed_origins": ["*"], "allow_credentials": true}}"#;
    let any_page = [scope[0], scope[1], with_token[2], ("GATEWAY_CONFIG_JSON", cors)];
    let folder = tempfile::tempdir().unwrap();
    let document = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let issuer = |rest: &str| format!("issuers: [{{issuer: 'https://i.example', principal_prefix: 'i:', {rest}}}]");
    let sound = issuer("algorithms: [RS256], audiences: [a]");
    let cookies = document("cookies.yaml", &format!("cookies: {{secure: false}}\n{sound}"));
    let audience = document("audience.yaml", &issuer("algorithms: [RS256]"));
    let none = document("none.yaml", &issuer("algorithms: [none], audiences: [a]"));
    let insecure = ["--identity-path", &cookies, "--trusted-proxy-count", "1", "--listen", "0.0.0.0:0"];
    let cases: [(Args<'_>, Variables<'_>, &str); 12] = [
        (&["--dev-tokens"], &weak, "PORTCULLIS_ADMIN_TOKEN"),
        (&["--dev-tokens"], &off_loopback, "PORTCULLIS_ALLOW_OPEN_REDIS"),
        (&["--dev-tokens"], &nobody, "internal.principal"),
        (&["--dev-tokens"], &any_page, "cors.allow_credentials"),
        (&insecure, &with_token, "cookies.secure"),
        (&["--identity-path", &audience], &with_token, "issuers[0].audiences"),
        (&["--identity-path", &none], &with_token, "issuers[0].algorithms[0]"),
        (&["--dev-tokens", "--rls-listen", "0.0.0.0:0"], &with_token, "PORTCULLIS_RLS_TOKEN"),
        (&["--dev-tokens"], &scope, "PORTCULLIS_ADMIN_TOKEN"),
        (&[], &with_token, "PORTCULLIS_ALLOW_ANONYMOUS_ONLY"),
        (&["--allow-anonymous-only", "--listen", "0.0.0.0:0"], &with_token, "TRUSTED_PROXY_COUNT"),
        (&["--dev-tokens", "--trusted-proxy-count", "1", "--listen", "0.0.0.0:0"], &with_token, "--dev-tokens"),
    ];
    for (args, variables, setting) in cases {
        let output = run(args, variables, "");
        assert_eq!((status(&output), text(&output.stdout)), (Some(78), ""), "{args:?}");
        let lines: Vec<_> = text(&output.stderr).lines().collect();
        assert!(lines.len() == 1 && lines[0].contains(setting) && !lines[0].contains(TOKEN), "{lines:?}");
    }
}

#[test]
fn every_fault_of_the_identity_document_is_listed_and_one_that_lets_nobody_in_is_64() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.yaml");
    let key = "{id: short, sha256: canary, owner: o, user_type: paid}";
    std::fs::write(&path, format!("colour: red\ninternal: {{}}\napi_keys: [{key}]\n")).unwrap();
    let path = path.to_string_lossy().into_owned();
    let variables = [("TENANT_ID", "t"), ("PROJECT_ID", "p"), ("PORTCULLIS_ADMIN_TOKEN", TOKEN)];
    let output = run(&["--identity-path", &path], &variables, "");
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    assert_eq!((status(&output), text(&output.stdout), lines.len()), (Some(64), "", 1), "{lines:?}");
    assert!(lines[0].starts_with("PORTCULLIS_IDENTITY_PATH: colour: "), "{lines:?}");
    std::fs::write(&path, format!("internal: {{}}\napi_keys: [{key}]\n")).unwrap();
    let output = run(&["--identity-path", &path], &variables, "");
    assert_eq!((status(&output), text(&output.stdout)), (Some(64), ""));
    for place in ["api_keys[0].id", "api_keys[0].sha256", "internal.tokens", "internal.principal"] {
        assert!(text(&output.stderr).contains(place), "{place} not in {}", text(&output.stderr));
    }
    assert!(!text(&output.stderr).contains("canary"));
}

#[test]
fn every_fault_of_the_configuration_is_listed() {
    let document =
        r#"{"rate_limits": {"roles": {"paid": {"burst": "x"}}}, "no_such_key": 1, "queue": {"lease_ms": -1}}"#;
    let variables = [("TENANT_ID", "t"), ("PROJECT_ID", "p"), ("GATEWAY_CONFIG_JSON", document)];
    for args in [&["serve"][..], &["dump-config"], &["dump-config", "--component", "proc"]] {
        let output = run(args, &variables, "");
        assert_eq!((status(&output), text(&output.stdout)), (Some(64), ""), "{args:?}");
        for path in ["rate_limits.roles.paid.burst: ", "no_such_key: ", "queue.lease_ms: "] {
            let named = text(&output.stderr).lines().any(|line| line.starts_with(path));
            assert!(named, "{path} not in {}", text(&output.stderr));
        }
    }
}

#[test]
fn a_checked_document_is_printed_whole_without_its_secrets_and_passes_again() {
    let scope = [("TENANT_ID", "t"), ("PROJECT_ID", "p")];
    let document =
        "redis_url: redis://:canary-password@db:6379\nrate_limits:\n  paid: {hourly: 7, burst: 3, burst_window: 60}\n";
    for format in ["yaml", "json"] {
        let first = run(&["check-config", "-", "--format", format], &scope, document);
        assert_eq!(status(&first), Some(0), "{}", text(&first.stderr));
        assert!(!text(&first.stdout).contains("canary"), "{}", text(&first.stdout));
        let second = run(&["check-config", "-", "--format", format], &[], text(&first.stdout));
        assert_eq!((status(&second), text(&second.stdout)), (Some(0), text(&first.stdout)));
    }
    assert_eq!(status(&run(&["check-config", "/no/such/file"], &scope, "")), Some(64));
    assert_eq!(status(&run(&["check-config", "-"], &scope, "queue: {lease_ms: never}")), Some(64));
}

#[test]
fn the_schema_is_json() {
    let output = run(&["schema"], &[], "");
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(status(&output) == Some(0) && schema["properties"]["rate_limits"].is_object());
}

#[test]
fn a_redis_that_is_waited_for_in_vain_is_69() {
    let redis = nobody();
    let variables =
        [("TENANT_ID", "t"), ("PROJECT_ID", "p"), ("PORTCULLIS_ADMIN_TOKEN", TOKEN), ("REDIS_URL", redis.as_str())];
    let output = run(&["--dev-tokens", "--redis-wait-ms", "50"], &variables, "");
    assert_eq!((status(&output), text(&output.stdout)), (Some(69), ""));
    assert!(!text(&output.stderr).contains("canary") && !text(&output.stderr).contains(TOKEN));
}

#[test]
fn without_redis_a_gateway_is_ready_and_a_signal_drains_it() {
    // Variables set to nothing are as good as not set.
    let mut serving = Serving::start(&["--drain-seconds", "0"], &[("TRUSTED_PROXY_COUNT", ""), ("PORTCULLIS_LOG", "")]);
    for address in [&serving.public, &serving.admin] {
        assert!(Serving::get(address, "/readyz").starts_with("HTTP/1.1 200"), "{address}");
    }
    assert!(Serving::get(&serving.admin, "/metrics").starts_with("HTTP/1.1 401"));
    serving.signal("TERM");
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut serving = Serving::start(&["--drain-seconds", "3600"], &[]);
    serving.signal("TERM");
    while Serving::get(&serving.public, "/readyz").starts_with("HTTP/1.1 200") {
        std::thread::yield_now();
    }
    serving.signal("INT");
    assert_eq!(serving.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_listener_that_cannot_be_bound_is_1_and_names_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let variables = [("TENANT_ID", "t"), ("PROJECT_ID", "p"), ("PORTCULLIS_ADMIN_TOKEN", TOKEN)];
    let output = run(&["--dev-tokens", "--listen", "127.0.0.1:0", "--admin-listen", &address], &variables, "");
    assert_eq!((status(&output), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).contains("PORTCULLIS_ADMIN_LISTEN"), "{}", text(&output.stderr));
}
