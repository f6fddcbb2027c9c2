//! Identity documents, good and bad. Responsible for every fault being told with its place, all of them at once, and
//! for no secret being repeated in one.

use std::{env, fs, path::PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::test_issuer::fuzz_cases;

const TOKEN: &str = "6c1f0e9a7b3d5528c4e1f2a39b07d64e";

fn variables(name: &str) -> Option<String> {
    match name {
        "INTERNAL_TOKEN" | "ADDRESS_SECRET" => Some(TOKEN.to_owned()),
        "INTERNAL_TOKEN_NEXT" => Some(TOKEN.chars().rev().collect()),
        "DELEGATION_ROOT_1" | "DELEGATION_ROOT_2" => Some("a key".to_owned()),
        "WEAK" => Some("change-me-change-me-change-me-change-me".to_owned()),
        _ => None,
    }
}

fn in_deploy(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// The sample, with some of it changed.
fn sample(changes: &Value) -> Result<Identity, Vec<Fault>> {
    let mut document = from_either(&fs::read_to_string(in_deploy("identity.example.yaml")).unwrap()).unwrap();
    merge_patch(&mut document, changes);
    parse(&document.to_string(), &variables)
}

/// The places of the faults.
fn places(changes: &Value) -> Vec<String> {
    sample(changes).map_or_else(|faults| faults.into_iter().map(|fault| fault.path).collect(), |_| Vec::new())
}

/// One issuer that is good, with some of it changed.
fn issuer(changes: &Value) -> Value {
    let mut issuer = json!({
        "issuer": "https://i.example", "algorithms": ["RS256"], "audiences": ["gateway"], "principal_prefix": "i:",
    });
    merge_patch(&mut issuer, changes);
    issuer
}

#[test]
fn the_sample_is_a_good_document() {
    let identity = load(Some(&in_deploy("identity.example.yaml")), &variables).unwrap();
    assert!(identity.has_provider() && identity.cookie_secure);
    assert_eq!((identity.issuers.len(), identity.failed_attempts_per_minute), (2, 20));
    assert_eq!(identity.sessions, SessionTerms { max_age_seconds: 2_592_000, max_per_principal: 32 });
    assert_eq!(identity.ip_allow.admin.len(), 8);
    assert_eq!(identity.internal.unwrap().verify(TOKEN.as_bytes()).unwrap().principal, "service:scheduler");
    let delegation = identity.delegation.unwrap();
    assert_eq!((delegation.keys.len(), delegation.active_kid.as_str()), (2, "root-2"));
    let alb = identity.alb.unwrap();
    assert_eq!(alb.key_url, "https://public-keys.auth.elb.eu-central-1.amazonaws.com");
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let path = in_deploy("identity.schema.json");
    let generated = serde_json::to_string_pretty(&schema_of_documents()).unwrap() + "\n";
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "run UPDATE_SCHEMA=1 cargo test -p portcullis-gateway identity, then commit the result"
    );
}

#[test]
fn the_schema_takes_the_sample_and_an_empty_document() {
    let validator = jsonschema::validator_for(&schema_of_documents()).unwrap();
    let sample = from_either(&fs::read_to_string(in_deploy("identity.example.yaml")).unwrap()).unwrap();
    assert!(validator.is_valid(&sample) && validator.is_valid(&json!({})));
    assert!(!validator.is_valid(&json!({ "isuers": [] })));
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let changes = json!({
        "issuers": [issuer(&json!({ "audiences": [], "algorithms": [], "jwks_url": "http://i.example/keys" }))],
        "alb": { "signer": "main", "subnets": [] },
        "api_keys": [{ "id": "x", "sha256": "00", "owner": "", "user_type": "anonymous" }],
        "internal": { "tokens": ["canary"], "principal": null },
        "ip_allow": { "public": ["10.0.0.0/33"] },
        "delegation": { "active_kid": "gone", "resource": "gateway" },
        "anonymous": { "user_type": "privileged", "secret": "env:WEAK" },
    });
    let expected = [
        "issuers[0].jwks_url",
        "issuers[0].audiences",
        "issuers[0].algorithms",
        "alb.signer",
        "alb.subnets",
        "api_keys[0].id",
        "api_keys[0].sha256",
        "api_keys[0].owner",
        "api_keys[0].user_type",
        "internal.tokens[0]",
        "internal.principal",
        "ip_allow.public[0]",
        "anonymous.user_type",
        "anonymous.secret",
        "delegation.active_kid",
        "delegation.resource",
    ];
    assert_eq!(places(&changes), expected);
    let told = sample(&changes).unwrap_err().iter().map(Fault::to_string).collect::<String>();
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn unknown_keys_and_names_are_told_with_the_nearest_known_one() {
    let faults = sample(&json!({
        "isuers": [],
        "issuers": [issuer(&json!({ "audience": "x", "algorithms": ["HS256", "none"] }))],
        "sessions": { "max_age_seconds": 1 },
    }));
    let told: Vec<String> = faults.unwrap_err().iter().map(Fault::to_string).collect();
    let told = told.join("\n");
    for part in [
        "nearest known one is \"issuers\"",
        "issuers[0].audience:",
        "\"audiences\"",
        "issuers[0].algorithms[0]: must be one of",
        "issuers[0].algorithms[1]: must be one of",
        "sessions.max_age_seconds: must be at least 60",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn an_issuer_is_believed_only_for_what_was_issued_to_this_gateway() {
    let cases = [
        (json!({ "audiences": [] }), "audiences"),
        (json!({ "audiences": [""] }), "audiences[0]"),
        (json!({ "token_use": ["access"], "audiences": [] }), "client_ids"),
        (json!({ "token_use": ["id"], "audiences": [], "client_ids": ["a"] }), "audiences"),
        (json!({ "user_types": { "a": "paid" } }), "groups_claim"),
        (json!({ "user_types": { "a": "anonymous" }, "groups_claim": ["g"] }), "user_types[\"a\"]"),
        (json!({ "baseline": "Nobody" }), "baseline"),
        (json!({ "tenant_claim": "t" }), "project_claim"),
        (json!({ "project_claim": "t" }), "tenant_claim"),
        (json!({ "tenant_claim": "t", "project_claim": "p", "scope": { "tenant": "a", "project": "b" } }), "scope"),
        (json!({ "scope": { "tenant": "a}", "project": "b" } }), "scope"),
        (json!({ "principal_prefix": "" }), "principal_prefix"),
        (json!({ "principal_prefix": "i" }), "principal_prefix"),
        (json!({ "principal_prefix": "i:j:" }), "principal_prefix"),
        (json!({ "principal_prefix": "dev:" }), "principal_prefix"),
        (json!({ "issuer": "http://i.example" }), "issuer"),
        (json!({ "issuer": "https://10.0.0.1" }), "issuer"),
        (json!({ "jwks_url": "https://169.254.169.254/" }), "jwks_url"),
        (json!({ "jwks_url": "https://u:p@i.example/" }), "jwks_url"),
    ];
    for (changes, place) in cases {
        assert_eq!(places(&json!({ "issuers": [issuer(&changes)] })), [format!("issuers[0].{place}")], "{changes}");
    }
    assert!(places(&json!({ "issuers": [issuer(&json!({}))] })).is_empty());
}

#[test]
fn users_of_two_issuers_are_never_one() {
    let both = |second: Value| places(&json!({ "issuers": [issuer(&json!({})), issuer(&second)] }));
    assert!(both(json!({ "issuer": "https://j.example", "principal_prefix": "j:" })).is_empty());
    assert_eq!(both(json!({ "issuer": "https://j.example" })), ["issuers[1].principal_prefix"]);
    assert_eq!(both(json!({ "principal_prefix": "j:" })), ["issuers[1].issuer"]);
    assert_eq!(places(&json!({ "alb": { "principal_prefix": "cognito:" } })), ["alb.principal_prefix"]);
}

#[test]
fn a_load_balancer_is_one_of_a_region_with_subnets() {
    let cases = [
        (json!({ "region": "us-east-1" }), "region"),
        (json!({ "region": "eu-central-1.evil.example/" }), "region"),
        (json!({ "subnets": ["10.0.0.0/8", "x"] }), "subnets[1]"),
        (json!({ "key_url": "https://keys.example" }), "key_url"),
        (json!({ "key_url": "http://127.0.0.1:1/" }), "key_url"),
    ];
    for (changes, place) in cases {
        assert_eq!(places(&json!({ "alb": changes })), [format!("alb.{place}")], "{changes}");
    }
    let for_tests = json!({ "alb": { "key_url": "http://127.0.0.1:1/" }, "egress_allow": ["127.0.0.1"] });
    assert_eq!(sample(&for_tests).unwrap().alb.unwrap().key_url, "http://127.0.0.1:1");
}

#[test]
fn the_internal_token_is_somebody_and_cannot_be_guessed() {
    let internal = |changes: Value| places(&json!({ "internal": changes }));
    assert_eq!(internal(json!({ "principal": null })), ["internal.principal"]);
    assert_eq!(internal(json!({ "principal": "a b" })), ["internal.principal"]);
    assert_eq!(internal(json!({ "tokens": ["env:WEAK"] })), ["internal.tokens[0]"]);
    assert_eq!(internal(json!({ "tokens": ["env:UNSET"] })), ["internal.tokens[0]"]);
    assert_eq!(internal(json!({ "tokens": [] })), ["internal.tokens"]);
    assert_eq!(internal(json!({ "user_type": "anonymous" })), ["internal.user_type"]);
}

#[test]
fn the_internal_token_may_come_from_the_environment_alone() {
    let env = |principal: &'static str, token: &'static str| {
        move |name: &str| match name {
            "PORTCULLIS_INTERNAL_TOKEN" => Some(token.to_owned()),
            "PORTCULLIS_INTERNAL_PRINCIPAL" => Some(principal.to_owned()),
            _ => None,
        }
    };
    let identity = load(None, &env("service:cron", TOKEN)).unwrap();
    let proven = identity.internal.unwrap().verify(TOKEN.as_bytes()).unwrap();
    assert_eq!((proven.principal.as_str(), proven.user_type.as_str()), ("service:cron", "privileged"));
    assert!(load(None, &env("", "")).unwrap().internal.is_none(), "nothing matches what is not set");
    assert_eq!(load(None, &env("", TOKEN)).unwrap_err()[0].path, "internal.principal");
    assert_eq!(load(None, &env("service:cron", "short")).unwrap_err()[0].path, "internal.tokens[0]");
}

#[test]
fn api_keys_have_ids_and_owners_of_their_own() {
    let key = json!({ "id": "abcd1234", "sha256": "0".repeat(64), "owner": "i:ada", "user_type": "paid" });
    assert!(places(&json!({ "api_keys": [key] })).is_empty());
    assert_eq!(places(&json!({ "api_keys": [key, key] })), ["api_keys[1].id"]);
    let mut ownerless = key.clone();
    ownerless.as_object_mut().unwrap().remove("owner");
    assert_eq!(places(&json!({ "api_keys": [ownerless] })), ["api_keys[0].owner"]);
}

#[test]
fn delegations_need_a_key_a_resource_and_no_longer_lives_than_the_caps() {
    let delegation = |changes: Value| places(&json!({ "delegation": changes }));
    assert_eq!(delegation(json!({ "max_ttl_seconds": { "leaf": 301 } })), ["delegation.max_ttl_seconds.leaf"]);
    assert_eq!(delegation(json!({ "keys": [] })), ["delegation.resource", "delegation.active_kid"]);
    for resource in
        ["http://gateway.example.com", "https://u@gateway.example.com", "https://g.example/", "https://g/#x"]
    {
        assert_eq!(delegation(json!({ "resource": resource })), ["delegation.resource"], "{resource}");
    }
    let key = |kid: &str| json!({ "kid": kid, "key": "env:DELEGATION_ROOT_1" });
    assert_eq!(delegation(json!({ "keys": [key("root-2"), key("root-2")] })), ["delegation.keys[1]"]);
    assert!(parse("", &variables).unwrap().delegation.is_none());
}

#[test]
fn hosts_that_may_be_private_are_hosts() {
    for host in ["https://a.example", "a.example:80", "*.example", "a/b", "[::1]:80", "", "a b"] {
        assert_eq!(places(&json!({ "egress_allow": [host] })), ["egress_allow[0]"], "{host}");
    }
    assert!(places(&json!({ "egress_allow": ["a.example", "10.0.0.1", "::1"] })).is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_never_passed_over() {
    assert!(load(Some(Path::new("/nonexistent/identity.yaml")), &variables).is_err());
    for text in ["[", "- a", "1", "issuers: {}", "issuers: null\nx: 1"] {
        assert!(parse(text, &variables).is_err(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases()))]

    #[test]
    fn no_text_makes_it_panic(text in "[a-z_:\\- \\n\\[\\]{}\",0-9/.&*!<|>]{0,120}") {
        _ = parse(&text, &|_| None);
    }

    #[test]
    fn no_value_in_the_place_of_another_makes_it_panic(place in 0..64_usize, value in 0..9_usize) {
        let values = json!([null, "", [], {}, -1, 1e300, [""], [null], { "a": {} }]);
        let mut document = from_either(&fs::read_to_string(in_deploy("identity.example.yaml")).unwrap()).unwrap();
        let mut leaves = Vec::new();
        places_in(&document, String::new(), &mut leaves);
        let place = &leaves[place % leaves.len()];
        *document.pointer_mut(place).unwrap() = values[value].clone();
        _ = parse(&document.to_string(), &variables);
    }
}

/// The JSON pointers of everything inside.
fn places_in(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, inner)| places_in(inner, format!("{place}/{}", key.replace('/', "~1")), places));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| places_in(inner, format!("{place}/{index}"), places));
        }
        _ => {}
    }
    places.push(place);
}
