//! Everything that has the name or the shape of a secret is gone, and nothing else is.

use serde_json::json;

use super::*;

const OPAQUE: &str = "canarycanarycanarycanarycanarycanarycanary0";

#[test]
fn credentials_of_urls_are_gone_and_the_rest_stays() {
    let table = [
        ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
        ("redis://user:canary@db:6379", "redis://***@db:6379"),
        ("rediss://:can/ary@x@db:6379/0?timeout=5", "rediss://***@db:6379/0?timeout=5"),
        ("redis://:can ary@db:6379", "redis://***@db:6379"),
        (
            "redis-sentinel://a:1,b:2?sentinelServiceName=m&sentinelPassword=canary",
            "redis-sentinel://a:1,b:2?sentinelServiceName=m&sentinelPassword=***",
        ),
        ("^/api/users@me", "^/api/users@me"),
        ("moved from redis://u:canary@a to redis://b", "moved from redis://***@a to redis://b"),
    ];
    for (shown, expected) in table {
        assert_eq!(text(shown), expected);
    }
}

#[test]
fn whatever_its_spelling_the_name_of_a_secret_hides_what_stands_there() {
    let names = [
        "password",
        "PASSWORD",
        "redisPassword",
        "passwd",
        "secret",
        "client_secret",
        "ClientSecret",
        "session_secret",
        "SESSION-SECRET",
        "token",
        "Token",
        "access_token",
        "id_token",
        "idToken",
        "bearer_token",
        "token_hash",
        "api_key",
        "apikey",
        "apiKey",
        "API-KEY",
        "Api Key",
        "openai_api_key",
        "x-api-key",
        "authorization",
        "Authorization",
        "proxy-authorization",
        "cookie",
        "Set-Cookie",
        "credential",
        "credentials",
        "private_key",
        "privateKey",
        "DPoP",
        "X-Internal-Token",
        "x-amzn-oidc-data",
        "X-Amzn-Oidc-Accesstoken",
    ];
    for name in names {
        for secret in
            [json!("canary"), json!(["canary"]), json!([[["canary"]]]), json!({"a": [{"b": "canary"}]}), json!(1_973)]
        {
            let written = json!({"below": [{name: secret}], "beside": "stays"});
            let shown = document(written.clone());
            assert!(!shown.to_string().contains("canary") && !shown.to_string().contains("1973"), "{name}: {shown}");
            assert_eq!(shown["beside"], "stays");
            assert!(shown.to_string().contains(REDACTED), "{name}: {shown}");
        }
    }
}

#[test]
fn what_is_redacted_is_always_the_same() {
    let shown = document(json!({"secret": "a", "token": "a much longer one", "password": "", "cookie": 5}));
    assert_eq!(shown, json!({"secret": "***", "token": "***", "password": "***", "cookie": "***"}));
}

#[test]
fn amounts_flags_and_names_that_operators_chose_stay() {
    let written = json!({
        "max_tokens": 512, "token_bucket": {"size": 5}, "tokens_remaining": 7, "estimate": {"tokens": 1200},
        "cors": {"allow_credentials": true}, "token": null,
        "budgets": {"tokens_per_day": {"unit": "tokens", "amount": 1000}},
        "rate_limits": {"named": {"api_key_calls": {"limit": 5}}},
        "kinds": {"password_reset": {"cost": 2}},
    });
    assert_eq!(document(written.clone()), written);
    assert_eq!(document(json!({"budgets": {"api_key": "canary"}}))["budgets"]["api_key"], "***");
}

#[test]
fn what_has_the_shape_of_a_credential_goes_wherever_it_stands() {
    let secrets = [
        format!("gs_{OPAQUE}"),
        format!("gs_{OPAQUE}.globex/shop"),
        format!("gk_abcd1234_{OPAQUE}"),
        "eyJhbGciOiJFZERTQSJ9.eyJjYW5hcnkiOjF9.canary".to_owned(),
        "eyJhbGciOiJFZERTQSJ9.eyJjYW5hcnkiOjF9.canary~eyJhbGciOiJFZERTQSJ9.eyJjYW5hcnkiOjF9.canary".to_owned(),
        "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----".to_owned(),
    ];
    for secret in &secrets {
        for around in
            [secret.clone(), format!("see \"{secret}\", please"), format!("a={secret}"), format!("({secret})")]
        {
            let shown =
                [text(&around), document(json!([[around]])).to_string(), values(json!({"a": [around]})).to_string()];
            for shown in shown {
                assert!(!shown.contains("canary") && shown.contains(REDACTED), "{around}: {shown}");
            }
        }
    }
    assert_eq!(
        text("he said gs_short to logs_per_minute_and_more_and_more"),
        "he said gs_short to logs_per_minute_and_more_and_more"
    );
    assert_eq!(text("eyJ is how one begins. Not. This."), "eyJ is how one begins. Not. This.");
    assert_eq!(text("  two\n lines\t"), "  two\n lines\t");
}

#[test]
fn records_keep_the_hashes_things_are_revoked_by() {
    let about = json!({"token": "0a1b2c", "members": ["t:0a1b2c"], "reason": format!("gs_{OPAQUE} leaked")});
    let shown = values(about);
    assert_eq!(shown, json!({"token": "0a1b2c", "members": ["t:0a1b2c"], "reason": "*** leaked"}));
}

#[test]
fn what_is_nested_deeper_than_any_document_goes_as_a_whole() {
    let deep = (0..200).fold(json!("canary"), |inside, _| json!([inside]));
    assert!(!document(deep).to_string().contains("canary"));
    let under_a_name = (0..200).fold(json!("canary"), |inside, _| json!([inside]));
    assert!(!document(json!({"secret": under_a_name})).to_string().contains("canary"));
}

#[test]
fn the_shipped_policy_has_nothing_to_hide() {
    let policy = serde_json::to_value(crate::state::tests::shipped().policy).unwrap();
    assert_eq!(document(policy.clone()), policy);
}
