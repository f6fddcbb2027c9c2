//! The subcommands `token …` and `verify-audit`: what agents and operators do by hand, offline.
//!
//! Each test runs the real binary on files of its own. Nothing listens anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::{run, status, text};

const RESOURCE: &str = "https://gw.example/t/acme/p/demo";
const REASON: &str = "the nightly report";

/// A folder with the key that the deployment signs with, its identity document, and the key of an agent.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(TempDir::new().unwrap());
        for (name, kid) in [("root.jwk", "root-1"), ("agent.pem", "agent")] {
            Desk::says(&["keygen", "--out", &desk.at(name), "--kid", kid], "");
        }
        let document = format!(
            "delegation:\n  resource: https://gw.example\n  active_kid: root-1\n  keys:\n    - {{ kid: root-1, key: \
             'file:{}' }}\n",
            desk.at("root.jwk")
        );
        fs::write(desk.at("identity.yaml"), document).unwrap();
        desk
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    /// What a subcommand that must succeed prints.
    fn says(args: &[&str], stdin: &str) -> String {
        let (code, out, err) = Self::ends(args, stdin);
        assert_eq!(code, Some(0), "{args:?}: {err}");
        out.trim_end().to_owned()
    }

    /// How a subcommand ends, and what it writes to stdout and stderr.
    fn ends(args: &[&str], stdin: &str) -> (Option<i32>, String, String) {
        let mut all = vec!["token"];
        all.extend(args);
        let output = run(&all, &[], stdin);
        (status(&output), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    }

    /// A root for the agent, with what is different this time.
    fn mint(&self, also: &[&str]) -> String {
        let (identity, key) = (self.at("identity.yaml"), self.at("agent.pem"));
        let mut args = vec!["mint", "--identity", &identity, "--principal", "ada", "--tenant", "acme"];
        args.extend(["--project", "demo", "--agent", "researcher", "--scope", "tasks:submit:*"]);
        args.extend(["--scope", "tasks:read", "--reason", REASON, "--holder-key", &key]);
        args.extend(also);
        Self::says(&args, "")
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_key_goes_into_a_file_of_its_owner_or_to_stdout_and_nowhere_else() {
    let desk = Desk::new();
    let said = Desk::says(&["keygen", "--out", &desk.at("one.jwk")], "");
    let kept = json(&fs::read_to_string(desk.at("one.jwk")).unwrap());
    let secret = kept["d"].as_str().unwrap();
    assert!(!said.contains(secret));
    let said = json(&said);
    assert_eq!((&said["public"]["x"], &said["kid"]), (&kept["x"], &said["thumbprint"]));
    assert_eq!(fs::metadata(desk.at("one.jwk")).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, out, err) = Desk::ends(&["keygen", "--out", &desk.at("one.jwk")], "");
    assert_eq!((code, out.as_str(), err.contains("--out")), (Some(64), "", true), "never overwritten");
    let (code, out, err) = Desk::ends(&["keygen"], "");
    assert!(code == Some(0) && out.starts_with("-----BEGIN PRIVATE KEY-----") && !err.contains("PRIVATE"));
    assert!(json(&err)["public"].is_object());
}

#[test]
fn what_was_minted_is_narrowed_inspected_and_proven_offline() {
    let desk = Desk::new();
    let chain = desk.mint(&["--constraint", "calls_per_min=60", "--ttl", "600"]);
    let narrow = ["attenuate", "--key", &desk.at("agent.pem"), "--agent", "leaf", "--scope", "tasks:submit:chat"];
    let narrower = Desk::says(&[&narrow[..], &["--reason", "one question"]].concat(), &chain);
    assert!(narrower.starts_with(&chain) && narrower[chain.len()..].starts_with('~'));

    let said = Desk::says(&["inspect", "--root-key", &desk.at("root.jwk"), "--audience", RESOURCE], &narrower);
    assert!(!said.contains(&chain) && !said.contains(&chain[..40]), "a token is a credential");
    let said = json(&said);
    assert_eq!(
        (&said["verified"], &said["principal"], &said["key_id"]),
        (&true.into(), &"ada".into(), &"root-1".into())
    );
    let hops = said["hops"].as_array().unwrap();
    let scopes: Vec<&Value> = hops.iter().map(|hop| &hop["scopes"]).collect();
    assert_eq!(
        scopes,
        [&serde_json::json!(["tasks:submit:*", "tasks:read"]), &serde_json::json!(["tasks:submit:chat"])]
    );
    assert_eq!((&hops[0]["agent"], &hops[1]["agent"]), (&"researcher".into(), &"leaf".into()));
    assert!(hops.iter().all(|hop| hop["constraints"]["calls_per_min"] == 60), "bounds are kept");
    assert!(hops[0]["holder"].is_string() && hops[1]["holder"].is_null());

    let prove = ["prove", "--key", &desk.at("agent.pem"), "POST", "https://gw.example/v1/tasks"];
    assert_eq!(Desk::says(&prove, &chain).split('.').count(), 3);
    let (code, _, err) = Desk::ends(&prove, &narrower);
    assert!(code == Some(64) && err.contains("bound to no key"), "{err}");
}

#[test]
fn a_chain_verifies_by_the_right_keys_for_the_right_resource_only() {
    let desk = Desk::new();
    let chain = desk.mint(&[]);
    let unasked = json(&Desk::says(&["inspect"], &chain));
    assert!(unasked["verified"].is_null(), "without a key nothing is proven");
    let public = json(&Desk::says(&["keygen", "--out", &desk.at("other.pem")], ""))["public"].clone();
    let root = json(&fs::read_to_string(desk.at("root.jwk")).unwrap());
    let set = |x: &Value, kid: &str| {
        let own = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid});
        serde_json::json!({"keys": [{"kty": "RSA", "kid": "r"}, own]})
    };
    fs::write(desk.at("own.json"), set(&root["x"], "root-1").to_string()).unwrap();
    fs::write(desk.at("renamed.json"), set(&root["x"], "root-2").to_string()).unwrap();
    fs::write(desk.at("other.json"), set(&public["x"], "root-1").to_string()).unwrap();
    let (own, other, renamed) = (desk.at("own.json"), desk.at("other.json"), desk.at("renamed.json"));
    assert_eq!(json(&Desk::says(&["inspect", "--jwks", &own], &chain))["verified"], true);
    for (args, code) in [
        (vec!["--jwks", &other], "bad_signature"),
        (vec!["--jwks", &renamed], "unknown_key"),
        (vec!["--jwks", &own, "--audience", "https://elsewhere.example"], "wrong_audience"),
        (vec!["--jwks", &own, "--issuer", "https://elsewhere.example"], "unknown_issuer"),
    ] {
        let (status, out, _) = Desk::ends(&[&["inspect"], &args[..]].concat(), &chain);
        assert_eq!((status, &json(&out)["fault"]["code"]), (Some(1), &code.into()), "{args:?}");
    }
}

#[test]
fn what_would_widen_is_refused_with_its_fault() {
    let desk = Desk::new();
    let chain = desk.mint(&["--constraint", "calls_per_min=6"]);
    let other = desk.at("other.pem");
    Desk::says(&["keygen", "--out", &other], "");
    let own = desk.at("agent.pem");
    for (key, also, fault) in [
        (&own, vec!["--scope", "admin"], "grants more than its parent: scope"),
        (&own, vec!["--audience", "https://elsewhere.example"], "grants more than its parent: audience"),
        (&own, vec!["--constraint", "calls_per_min=7"], "grants more than its parent: constraint"),
        (&own, vec!["--ttl-seconds", "901"], "valid for longer"),
        (&own, vec!["--max-depth", "5"], "grants more than its parent: depth"),
        (&other, vec![], "not issued by the holder"),
    ] {
        let mut args = vec!["attenuate", "--key", key, "--agent", "leaf", "--reason", REASON];
        args.extend(also);
        let (status, out, err) = Desk::ends(&args, &chain);
        assert!(status == Some(64) && out.is_empty() && err.contains(fault), "{args:?}: {err}");
    }
}

#[test]
fn every_fault_is_listed_and_no_secret_is_repeated() {
    let desk = Desk::new();
    let canary = "canary-0123456789abcdef0123456789abcdef";
    fs::write(desk.at("canary"), canary).unwrap();
    let wrong =
        ["attenuate", "--chain", &desk.at("canary"), "--key", &desk.at("canary"), "--agent", "a b", "--scope", "A"];
    let mint = ["mint", "--identity", &desk.at("canary"), "--principal", "", "--tenant", "a b", "--project", "p"];
    let prove = ["prove", "--chain", &desk.at("canary"), "--key", &desk.at("none"), "post", "nowhere"];
    for (args, named) in [
        ([&wrong[..], &["--reason", REASON]].concat(), vec!["--agent", "--scope", "--key", "--chain"]),
        (
            [&mint[..], &["--agent", "", "--user-type", "A B", "--reason", REASON]].concat(),
            vec!["--agent", "--principal", "--tenant, --project", "--user-type", "--scope", "--identity"],
        ),
        (prove.to_vec(), vec!["URL", "METHOD", "--key", "--chain"]),
    ] {
        let (status, out, err) = Desk::ends(&args, "");
        let lines: Vec<&str> = err.lines().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!((status, out.as_str(), lines), (Some(64), "", named), "{args:?}");
        assert!(!err.contains("0123456789abcdef"), "{err}");
    }
    let (status, _, err) = Desk::ends(&["prove", "--key", "-", "GET", "https://gw.example/"], canary);
    assert!(status == Some(64) && err.contains("only one") && !err.contains(canary), "{err}");
}

#[test]
fn an_api_key_is_shown_once_and_known_by_its_entry() {
    let desk = Desk::new();
    let make = ["api-key", "--owner", "cognito:ada", "--user-type", "paid", "--scope", "tasks:submit:*"];
    let (code, key, entry) = Desk::ends(&[&make[..], &["--id", "nightly1"]].concat(), "");
    let key = key.trim_end();
    assert!(code == Some(0) && key.starts_with("gk_nightly1_") && key.len() == "gk_nightly1_".len() + 43);
    assert!(!entry.contains(&key[12..]) && entry.contains("id: nightly1") && entry.contains("owner: cognito:ada"));
    let file = desk.at("key");
    let entry = Desk::says(&[&make[..], &["--out", &file]].concat(), "");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.starts_with("gk_") && entry.contains("sha256: ") && !entry.contains(kept.trim_end()));
    assert_eq!(fs::metadata(Path::new(&file)).unwrap().permissions().mode() & 0o777, 0o600);
    let wrong = ["api-key", "--owner", "a b", "--user-type", "anonymous", "--id", "short", "--scope", "*"];
    assert_eq!(Desk::ends(&make[..5], "").0, Some(64), "a key for nothing is none");
    let (code, out, err) = Desk::ends(&wrong, "");
    assert!(code == Some(64) && out.is_empty());
    for path in ["api_keys[0].id", "api_keys[0].owner", "api_keys[0].user_type"] {
        assert!(err.contains(path), "{path} not in {err}");
    }
}

/// Entries of a chain as the scripts wrote them, and their head.
const EXPORT: &str = include_str!("audit.ndjson");

#[test]
fn an_export_that_was_tampered_with_is_found_out() {
    let lines: Vec<String> = EXPORT.lines().map(str::to_owned).collect();
    let judged = |lines: &[String], also: &[&str]| {
        let output = run(&[&["verify-audit", "-"], also].concat(), &[], &lines.join("\n"));
        (status(&output), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (code, out, err) = judged(&lines, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("whole: 3 entries, 1 to 3, the last with hash "), "{out}");
    let hash = json(&lines[3])["head"]["hash"].as_str().unwrap().to_owned();
    assert_eq!(judged(&lines, &["--head", &hash]).0, Some(0));
    let (code, out, _) = judged(&lines, &["--head", &"0".repeat(40)]);
    assert!(code == Some(1) && out.starts_with("broken: no entry has the hash"), "{out}");
    let (code, _, err) = judged(&lines[..3], &[]);
    assert!(code == Some(0) && err.contains("does not end with a head"), "{err}");

    let without =
        |place: usize| lines.iter().enumerate().filter(move |(at, _)| *at != place).map(|(_, line)| line.clone());
    let mut swapped = lines.clone();
    swapped.swap(0, 1);
    let mut changed = lines.clone();
    changed[1] = changed[1].replace("second", "secure");
    for (broken, says) in [
        (without(1).collect::<Vec<_>>(), "are missing"),
        (without(2).collect(), "the chain ends at entry 2, its head is entry 3"),
        (swapped.clone(), "broken: "),
        (changed.clone(), "entry 2"),
    ] {
        let (code, out, _) = judged(&broken, &[]);
        assert!(code == Some(1) && out.starts_with("broken: ") && out.contains(says), "{out}");
    }
    // Of several pieces one after the other, each has its say.
    let head = |number: usize, hash: &str| format!(r#"{{"head":{{"number":{number},"hash":"{hash}"}}}}"#);
    let second = json(&lines[1])["fields"][1][1].as_str().unwrap().to_owned();
    let pieces = |head: String| [&lines[..2], &[head], &lines[2..]].concat();
    assert_eq!(judged(&pieces(head(2, &second)), &[]), judged(&lines, &[]));
    let (code, out, _) = judged(&pieces(head(2, &"0".repeat(40))), &[]);
    assert!(code == Some(1) && out.contains("a head names another entry 2"), "{out}");
    let (code, _, err) = judged(&pieces(head(2, &second))[..4], &[]);
    assert!(code == Some(0) && err.contains("does not end with a head"), "{err}");
    for nothing in [&[][..], &[String::new(), " ".to_owned()]] {
        let (code, out, err) = judged(nothing, &[]);
        assert!(code == Some(64) && out.is_empty() && err.contains("there is no line"), "{out}{err}");
    }
    assert_eq!(judged(&[r#"{"head":null}"#.to_owned()], &[]).0, Some(0));
    let (code, out, err) = judged(&["{}".to_owned(), lines[0].clone(), "x".to_owned()], &[]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(64), "", 2), "{err}");
}
