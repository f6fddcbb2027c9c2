//! The documents against the code they describe, with a Redis that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::ConnectInfo;
use axum::http::Request;
use secrecy::ExposeSecret;

use super::*;
use crate::admission::enqueue;
use crate::identity::test_issuer::{TestKey, claims, now};
use crate::problem::Problem;
use crate::public::Public;
use crate::refusal::{Cause, RequestFault};
use crate::server::route;
use crate::state::Gateway;
use crate::state::tests::{options_without_redis, shipped};

/// Method and path.
type Operation = (String, String);

fn operations(document: &Value) -> BTreeSet<Operation> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| -> Vec<Operation> {
        item.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())).collect()
    };
    paths.iter().flat_map(of_path).collect()
}

/// The routes that a source file adds to a router.
fn routes(source: &str) -> BTreeSet<Operation> {
    // One that is added in another way would be missed here, and by whoever walks over what the documents list.
    let other_ways = [".nest(", ".nest_service(", ".route_service(", ".fallback_service("];
    assert!(!other_ways.iter().any(|way| source.contains(way)), "write routes as `.route(\"…\", …)`");
    assert_eq!(source.matches(".route(").count(), source.matches(".route(\"").count(), "each on one line");
    let mut found = BTreeSet::new();
    for call in source.split(".route(\"").skip(1) {
        let (path, rest) = call.split_once('"').unwrap();
        // To the bracket that ends the call.
        let mut open = 1;
        let end = rest.find(|letter| {
            open += i32::from(letter == '(') - i32::from(letter == ')');
            open == 0
        });
        let handlers = &rest[..end.unwrap()];
        for method in ["get", "post", "put", "patch", "delete"] {
            if [".", " "].iter().any(|before| handlers.contains(&format!("{before}{method}("))) {
                found.insert((method.to_owned(), path.to_owned()));
            }
        }
        let others = handlers.split_once(" any(").map(|(_, handler)| handler);
        if others.is_some_and(|handler| !["not_found)", "other_method)"].iter().any(|name| handler.starts_with(name))) {
            found.extend(["get", "post"].map(|method| (method.to_owned(), path.to_owned())));
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn the_documents_list_the_routes_of_the_routers_and_no_others() {
    let mut served = routes(include_str!("../public.rs"));
    served.extend(routes(include_str!("../health.rs")));
    // The routes that are not in the table.
    let beside = [
        ("post", "/v1/tasks"),
        ("get", "/v1/decide"),
        ("post", "/v1/decide"),
        ("delete", "/v1/decide/{pass_id}"),
        ("get", "/.well-known/oauth-protected-resource"),
    ];
    served.extend(beside.map(|(method, path)| (method.to_owned(), path.to_owned())));
    assert_eq!(operations(&public()), served);
    assert_eq!(operations(&administration(&AdminOffer::default())), routes(include_str!("../admin.rs")));
}

/// What is not there for who has no session, and where nobody may delegate.
const NOT_FOR_EVERYBODY: [(&str, &str); 4] = [
    ("delete", "/v1/sessions/current"),
    ("post", "/v1/delegations"),
    ("post", "/v1/delegations/revoke"),
    ("get", "/.well-known/oauth-protected-resource"),
];

#[tokio::test]
async fn every_operation_answers_something_else_than_an_unknown_path() {
    let (gateway, peer) = (Gateway::new(options_without_redis()), SocketAddr::from(([127, 0, 0, 1], 4000)));
    let public_listener = Public::new(gateway.clone());
    let admin_listener = admin::router(gateway.clone());
    for (document, on_admin) in [(public(), false), (administration(&AdminOffer::default()), true)] {
        for (method, path) in operations(&document).into_iter().chain([("get".to_owned(), "/no/such".to_owned())]) {
            let target = path.replace("{n}", "1");
            let target = ["{id}", "{pass_id}"]
                .iter()
                .fold(target, |target, id| target.replace(id, "01JD7Y5M3T0000000000000000"));
            let mut request =
                Request::builder().method(method.to_uppercase().as_str()).uri(&target).header("host", "h");
            if on_admin {
                let token = format!("Bearer {}", gateway.admin_token().expose_secret());
                request = request.header("authorization", token).extension(ConnectInfo(peer));
            }
            let request = request.body(Body::from("{}")).unwrap();
            let answer = if on_admin {
                route(&admin_listener, request).await
            } else {
                public_listener.answer(request, peer).await
            };
            let status = answer.status().as_u16();
            let is_there = path != "/no/such" && !NOT_FOR_EVERYBODY.contains(&(method.as_str(), path.as_str()));
            assert_eq!(status == 404, !is_there, "{method} {path}: {status}");
            if status != 404 {
                let responses = &document["paths"][&path][&method]["responses"];
                assert!(responses.get(status.to_string()).is_some(), "{method} {path} may not answer {status}");
            }
        }
    }
}

#[test]
fn they_are_documents_of_openapi_3_1_whose_schemas_are_schemas() {
    for document in [public(), administration(&AdminOffer::default())] {
        let read = oas3::from_json(document.to_string()).unwrap();
        assert!(read.openapi.starts_with("3.1."), "{}", read.openapi);
        assert_eq!(read.operations().count(), operations(&document).len());
        let mut ids = BTreeSet::new();
        for (path, method, operation) in read.operations() {
            let id = operation.operation_id.clone().unwrap_or_default();
            assert!(ids.insert(id.clone()), "{method} {path}: {id}");
        }
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            assert!(jsonschema::meta::is_valid(schema), "{name}: {schema}");
        }
        let mut references = Vec::new();
        find_references(&document, &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap_or(&reference);
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }
}

fn find_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| find_references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| find_references(item, found)),
        _ => {}
    }
}

#[test]
fn every_refusal_is_listed_with_its_status() {
    let mut listed: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for document in [public(), administration(&AdminOffer::default())] {
        let paths = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
        let of_operations = paths.flat_map(|operation| operation["responses"].as_object().unwrap().values());
        let of_application = document["components"]["responses"].as_object().into_iter().flat_map(Map::values);
        for response in of_operations.chain(of_application) {
            let narrowed = &response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"];
            // Without a status of its own it depends on which proxy asks.
            let Some(status) = narrowed["status"]["enum"][0].as_u64().map(|status| status as u16) else { continue };
            for code in narrowed["code"]["enum"].as_array().into_iter().flatten() {
                listed.entry(code.as_str().unwrap().to_owned()).or_default().insert(status);
            }
        }
    }
    let mut there_are: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for cause in Cause::all() {
        let status = crate::respond::status(cause).as_u16();
        there_are.entry(cause.code().to_owned()).or_default().insert(status);
    }
    assert_eq!(listed, there_are);
}

#[test]
fn the_examples_are_submissions() {
    let policy = shipped().policy;
    for example in schema::examples() {
        let body = Bytes::from(example.to_string());
        let read = enqueue::submission(&HeaderMap::new(), &body, "ada", &policy);
        assert!(read.is_ok(), "{example}: {read:?}");
    }
    assert_eq!(public()["components"]["schemas"]["Submission"]["examples"], json!(schema::examples()));
}

#[test]
fn a_submission_has_the_members_that_are_read() {
    let policy = shipped().policy;
    let described = public()["components"]["schemas"]["Submission"]["properties"].clone();
    let names: Vec<&String> = described.as_object().unwrap().keys().collect();
    for name in names {
        let mut body = json!({"kind": "chat", "payload": 1});
        // Nothing is of this type, except what may be anything.
        body[name] = json!([null]);
        let read = enqueue::submission(&HeaderMap::new(), &Bytes::from(body.to_string()), "ada", &policy);
        let faults = read.map_or_else(|refused| refused.faults, |_| Box::default());
        let about: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(about, if name == "payload" { vec![] } else { vec![name.as_str()] });
        assert!(faults.iter().all(|fault| !fault.message.contains("not a field")));
    }
}

/// What the answer says that the schema of this name does not allow, or does not mention.
fn differences(document: &Value, name: &str, answer: &Value) -> Vec<String> {
    let mut schemas = document["components"]["schemas"].clone();
    close(&mut schemas);
    let schema = json!({"$ref": format!("#/components/schemas/{name}"), "components": {"schemas": schemas}});
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Forbids members that are not mentioned.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.get("type") == Some(&json!("object")) && members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn a_problem_is_as_described() {
    let errors = [RequestFault::new("kind", "is required")];
    let mut problem = Problem {
        r#type: "about:blank",
        title: "T",
        status: 429,
        detail: "D",
        code: "burst_limit",
        step: Some("rate_limit"),
        retry_after_ms: Some(1500),
        user_type: Some("paid"),
        session_id: Some("s"),
        request_id: "r",
        limit: Some("burst"),
        budget: Some("daily"),
        violated_policies: Some(&["burst"]),
        errors: &errors,
        degraded: Some("service_time_unmeasured"),
        current: Some(7),
    };
    let check = |problem: &Problem<'_>| {
        let written = serde_json::from_slice(&problem.json()).unwrap();
        [public(), administration(&AdminOffer::default())]
            .map(|document| differences(&document, "Problem", &written))
            .concat()
    };
    assert_eq!(check(&problem), Vec::<String>::new());
    (problem.step, problem.retry_after_ms, problem.user_type, problem.session_id) = (None, None, None, None);
    assert_eq!(check(&problem), Vec::<String>::new());
    problem.code = "no_such_code";
    assert_eq!(check(&problem).len(), 2);
}

async fn read_admin(gateway: &Arc<Gateway>, path: &str) -> Value {
    let token = format!("Bearer {}", gateway.admin_token().expose_secret());
    let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4000)));
    let request = Request::get(path).header("authorization", token).extension(peer).body(Body::empty()).unwrap();
    let answer = route(&admin::router(gateway.clone()), request).await;
    serde_json::from_slice(&to_bytes(answer.into_body(), 1 << 20).await.unwrap()).unwrap()
}

#[tokio::test]
async fn what_a_gateway_says_by_itself_is_as_described() {
    let gateway = Gateway::new(options_without_redis());
    let document = administration(&AdminOffer::default());
    for (path, schema) in [("/monitoring/system", "System"), ("/admin/gateway/config", "Config")] {
        let answer = read_admin(&gateway, path).await;
        assert_eq!(differences(&document, schema, &answer), Vec::<String>::new(), "{path}");
    }
}

#[tokio::test]
async fn whose_keys_are_believed_is_as_described_before_a_fetch_and_after() {
    let text = "{issuers: [{issuer: 'https://one.example', jwks_url: 'http://127.0.0.1:1/keys', audiences: [gateway], \
        algorithms: [ES256], principal_prefix: 'one:'}], egress_allow: [127.0.0.1]}";
    let mut options = options_without_redis();
    options.identity.document = crate::identity::document::parse(text, &|_| None).unwrap();
    let (gateway, document) = (Gateway::new(options), administration(&AdminOffer::default()));
    for fault in [Value::Null, json!("unreachable")] {
        let answer = read_admin(&gateway, "/admin/identity/providers").await;
        assert_eq!(differences(&document, "IdentityProviders", &answer), Vec::<String>::new(), "{answer}");
        assert_eq!(answer["providers"][0]["last_error_code"], fault);
        let token = TestKey::es256("k").token(&claims("https://one.example"));
        let verifier = gateway.providers().unwrap().jwt.as_ref().unwrap();
        assert!(verifier.verify(&token, now(0)).await.unwrap_err().unavailable);
    }
}

#[tokio::test]
async fn a_document_is_not_sent_to_whoever_has_it() {
    let listener = Public::new(Gateway::new(options_without_redis()));
    let ask = async |known: Option<&HeaderValue>| {
        let mut request = Request::get("/openapi.json").header("host", "h");
        if let Some(tag) = known {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let peer = SocketAddr::from(([203, 0, 113, 7], 4000));
        let answer = listener.answer(request.body(Body::empty()).unwrap(), peer).await;
        let (parts, body) = answer.into_parts();
        (parts.status.as_u16(), parts.headers, to_bytes(body, 1 << 20).await.unwrap())
    };
    let (status, headers, body) = ask(None).await;
    assert_eq!(status, 200);
    assert!(serde_json::from_slice::<Value>(&body).unwrap() == public());
    let (status, again, body) = ask(headers.get(ETAG)).await;
    assert_eq!((status, body.len(), again.get(ETAG)), (304, 0, headers.get(ETAG)));
    assert_eq!(ask(Some(&HeaderValue::from_static("\"other\""))).await.0, 200);
}
