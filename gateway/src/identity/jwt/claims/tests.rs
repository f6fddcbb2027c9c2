//! Claims that are good but for one thing. Responsible for every rule that a library would not keep for us.

use serde_json::json;

use super::*;
use crate::identity::test_issuer::{NOW, claims, issuer};

const ISSUER: &str = "https://i.example";

/// The cause for these claims, with some of them changed; null takes one away.
fn changed(issuer: &Issuer, changes: &Value) -> Result<Proven, &'static str> {
    let mut claims = claims(ISSUER);
    portcullis_config::merge_patch(&mut claims, changes);
    judge(&claims, issuer, NOW).map_err(|unproven| unproven.cause)
}

fn cause(changes: &Value) -> &'static str {
    changed(&issuer(ISSUER), changes).map_or_else(|cause| cause, |_| "proven")
}

#[test]
fn claims_make_a_caller() {
    let proven = changed(&issuer(ISSUER), &json!({})).unwrap();
    assert_eq!((proven.principal.as_str(), proven.user_type.as_str()), ("acme:ada", "paid"));
    assert_eq!((proven.issued_at_ms, proven.expires_at_ms), ((NOW - 60) * 1000, Some((NOW + 3600) * 1000)));
    assert_eq!((proven.class, proven.issuer.as_str(), proven.scope), ("jwt", ISSUER, None));
}

#[test]
fn times_are_whole_seconds_within_the_leeway() {
    let sound =
        [json!({ "exp": NOW - 29 }), json!({ "iat": NOW + 30 }), json!({ "nbf": NOW + 30 }), json!({ "nbf": 0 })];
    for changes in sound {
        assert_eq!(cause(&changes), "proven", "{changes}");
    }
    let refused = [
        ("no_expiry", json!({ "exp": null })),
        ("no_expiry", json!({ "exp": 1.8e9 })),
        ("no_expiry", json!({ "exp": "1900000000" })),
        ("no_expiry", json!({ "exp": -1 })),
        ("no_expiry", json!({ "exp": u64::MAX })),
        ("no_issue_time", json!({ "iat": null })),
        ("no_issue_time", json!({ "iat": 1_800_000_000.5 })),
        ("malformed_time", json!({ "nbf": "0" })),
        ("malformed_time", json!({ "nbf": 0.5 })),
        ("expired", json!({ "exp": NOW - 30 })),
        ("expired", json!({ "exp": 0 })),
        ("issued_in_the_future", json!({ "iat": NOW + 31 })),
        ("not_yet_valid", json!({ "nbf": NOW + 31 })),
    ];
    for (expected, changes) in refused {
        assert_eq!(cause(&changes), expected, "{changes}");
    }
    let aging = Issuer { max_age_seconds: Some(60), ..issuer(ISSUER) };
    assert!(changed(&aging, &json!({})).is_ok());
    assert_eq!(changed(&aging, &json!({ "iat": NOW - 61 })), Err("too_old"));
}

#[test]
fn a_token_for_the_holder_of_a_key_is_no_bearer_token() {
    for confirmation in
        [json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }), json!({ "x5t#S256": "x" }), json!("")]
    {
        assert_eq!(cause(&json!({ "cnf": confirmation })), "proof_required", "{confirmation}");
    }
}

#[test]
fn a_token_must_be_for_this_gateway() {
    for aud in [json!("gateway"), json!(["other", "gateway"])] {
        assert_eq!(cause(&json!({ "aud": aud })), "proven", "{aud}");
    }
    for aud in
        [json!(null), json!("other"), json!("gateway "), json!([]), json!(["x"]), json!({}), json!(["gateway", 1])]
    {
        assert_eq!(cause(&json!({ "aud": aud })), "wrong_audience", "{aud}");
    }
    let of_a_client = Issuer { client_ids: vec!["app".to_owned()], ..issuer(ISSUER) };
    assert_eq!(changed(&of_a_client, &json!({})), Err("wrong_client"));
    for claim in ["client_id", "azp"] {
        assert!(changed(&of_a_client, &json!({ claim: "app" })).is_ok());
        assert_eq!(changed(&of_a_client, &json!({ claim: ["app"] })), Err("wrong_client"));
    }
}

#[test]
fn cognitos_kinds_are_told_apart() {
    let both = || Issuer {
        token_use: vec![TokenUse::Id, TokenUse::Access],
        client_ids: vec!["app".to_owned()],
        ..issuer(ISSUER)
    };
    let access = json!({ "token_use": "access", "client_id": "app", "aud": null });
    let id = json!({ "token_use": "id" });
    assert!(changed(&both(), &access).is_ok() && changed(&both(), &id).is_ok());
    assert_eq!(changed(&Issuer { token_use: vec![TokenUse::Id], ..both() }, &access), Err("wrong_token_use"));
    assert_eq!(changed(&Issuer { token_use: vec![TokenUse::Access], ..both() }, &id), Err("wrong_token_use"));
    let refused = [
        ("wrong_token_use", json!({})),
        ("wrong_token_use", json!({ "token_use": ["id"] })),
        ("wrong_token_use", json!({ "token_use": "refresh" })),
        ("wrong_client", json!({ "token_use": "access" })),
        ("wrong_client", json!({ "token_use": "access", "client_id": "other" })),
        ("wrong_client", json!({ "token_use": "access", "azp": "app" })),
        ("wrong_audience", json!({ "token_use": "id", "aud": "app" })),
        ("wrong_audience", json!({ "token_use": "id", "aud": null, "client_id": "app" })),
    ];
    for (expected, changes) in refused {
        assert_eq!(changed(&both(), &changes), Err(expected), "{changes}");
    }
}

#[test]
fn only_the_configured_claim_gives_a_type() {
    let user_type = |changes: Value| changed(&issuer(ISSUER), &changes).map(|proven| proven.user_type.to_string());
    assert_eq!(user_type(json!({ "cognito:groups": ["admin", "paid"] })), Ok("privileged".to_owned()));
    assert_eq!(user_type(json!({ "cognito:groups": "admin" })), Ok("privileged".to_owned()));
    assert_eq!(user_type(json!({ "cognito:groups": "admin paid" })), Ok("registered".to_owned()));
    let own = json!({ "cognito:groups": null, "custom:roles": "admin", "roles": ["admin"], "groups": ["admin"] });
    assert_eq!(user_type(own), Ok("registered".to_owned()));
    for groups in [json!(1), json!({ "admin": true }), json!(["admin", 1]), json!([["admin"]])] {
        assert_eq!(user_type(json!({ "cognito:groups": groups })), Err("malformed_groups"), "{groups}");
    }
    let nested = Issuer { groups_claim: vec!["realm".to_owned(), "roles".to_owned()], ..issuer(ISSUER) };
    let proven = changed(&nested, &json!({ "realm": { "roles": ["admin"] } })).unwrap();
    assert_eq!(proven.user_type.as_str(), "privileged");
    assert_eq!(changed(&nested, &json!({ "realm": "roles" })).unwrap().user_type.as_str(), "registered");
}

#[test]
fn a_subject_is_one_visible_word() {
    for sub in [json!(null), json!(""), json!("a b"), json!("a\n"), json!("ä"), json!(1), json!("a".repeat(257))] {
        assert_eq!(cause(&json!({ "sub": sub })), "no_subject", "{sub}");
    }
}

#[test]
fn scopes_are_words_or_a_list() {
    let scopes = |scope: Value| {
        let issuer = Issuer { scopes_claim: Some("scope".to_owned()), ..issuer(ISSUER) };
        changed(&issuer, &json!({ "scope": scope })).map(|proven| proven.scopes)
    };
    assert_eq!(scopes(json!("a  b:c")).unwrap(), Some(vec!["a".to_owned(), "b:c".to_owned()]));
    assert_eq!(scopes(json!(["a", "b"])).unwrap(), Some(vec!["a".to_owned(), "b".to_owned()]));
    assert!(scopes(json!(null)).unwrap().is_some_and(|none| none.is_empty()));
    assert_eq!(scopes(json!({ "a": 1 })), Err("malformed_scopes"));
    assert_eq!(scopes(json!(["a", 1])), Err("malformed_scopes"));
    assert!(changed(&issuer(ISSUER), &json!({ "scope": "admin" })).unwrap().scopes.is_none());
}

#[test]
fn claims_say_where_a_user_is_only_where_the_document_says_so() {
    let (tenant, project) = ("tenant".to_owned(), "project".to_owned());
    let by_claims = Issuer { place: Place::Claims { tenant, project }, ..issuer(ISSUER) };
    let there = json!({ "tenant": "acme", "project": "shop" });
    assert_eq!(changed(&by_claims, &there).unwrap().scope, Some(Scope::new("acme", "shop").unwrap()));
    assert_eq!(changed(&by_claims, &json!({ "tenant": "acme" })), Err("no_scope"));
    assert_eq!(changed(&by_claims, &json!({ "tenant": "a}b", "project": "shop" })), Err("malformed_scope"));
    assert_eq!(changed(&issuer(ISSUER), &there).unwrap().scope, None);
}
