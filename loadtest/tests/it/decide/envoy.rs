//! What Envoy and Istio are configured to ask and to hand on, read from the shipped files.
//!
//! Responsible for what no request to a gateway shows: that nothing a client wrote is taken for a filter's word, and
//! that nothing goes through undecided. Must never repeat what a file says: it says what must hold of it.

use portcullis_gateway::envoy_rls::message::Code;
use serde::Deserialize;
use serde_json::Value;

use super::front::shipped;
use super::rls::served;
use super::shapes::{all, patterns, the, yaml};

/// What no application may see as a client wrote it.
const OURS: [&str; 14] = [
    "x-user-type",
    "x-session-id",
    "x-principal",
    "x-tenant",
    "x-project",
    "x-actor",
    "x-pass-id",
    "x-route-class",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-internal-token",
];

/// The documents of the Istio file.
fn istio() -> Value {
    let documents = serde_yaml_ng::Deserializer::from_str(&shipped("istio.yaml")).map(Value::deserialize).collect();
    Value::Array(Result::unwrap(documents))
}

fn texts<'a>(values: impl IntoIterator<Item = &'a Value>) -> Vec<&'a str> {
    values.into_iter().map(|value| value.as_str().expect("text")).collect()
}

fn list<'a>(config: &'a Value, key: &str) -> Vec<&'a str> {
    texts(the(config, key).as_array().expect("a list"))
}

/// Headers that are taken from every request before any filter sees it.
fn removed_first(config: &Value) -> Vec<&str> {
    let early = the(config, "early_header_mutation_extensions");
    let kind = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation";
    assert_eq!(texts(all(early, "@type")), [kind]);
    texts(the(early, "mutations").as_array().expect("a list").iter().map(|mutation| &mutation["remove"]))
}

#[test]
fn nothing_a_client_wrote_is_taken_for_what_only_a_filter_or_portcullis_may_say() {
    for (name, config) in
        [("rls", yaml("envoy-rls.yaml")), ("ext_authz", yaml("envoy-ext-authz.yaml")), ("istio", istio())]
    {
        let removed = removed_first(&config);
        let later: Vec<&Value> = all(&config, "request_headers_to_remove");
        let later = later.into_iter().flat_map(|names| texts(names.as_array().expect("a list")));
        let kept: Vec<&str> = removed.iter().copied().chain(later).collect();
        for ours in OURS {
            assert!(kept.contains(&ours), "{name} lets {ours} through");
        }
        assert_eq!(the(&config, "headers_with_underscores_action"), "DROP_HEADER", "{name}");
        assert_eq!(the(&config, "path_with_escaped_slashes_action"), "REJECT_REQUEST", "{name}");
    }
    let rls = yaml("envoy-rls.yaml");
    let read: Vec<&str> = texts(all(&rls, "header_name")).into_iter().filter(|name| !name.starts_with(':')).collect();
    assert_eq!(read, ["x-jwt-subject", "x-jwt-tier"]);
    let removed = removed_first(&rls);
    assert!(read.iter().all(|name| removed.contains(name)), "whoever writes them is believed: {removed:?}");
}

/// The descriptors that the shipped file makes of a request, as Envoy's documentation has it: an action that finds
/// nothing drops its whole descriptor.
fn descriptors<'a>(config: &'a Value, headers: &[(&str, &'a str)]) -> Vec<Vec<(&'a str, &'a str)>> {
    let entry = |action: &'a Value| {
        if action.get("remote_address").is_some() {
            return Some(("remote_address", "203.0.113.7"));
        }
        let action = &action["request_headers"];
        let (key, name) = (action["descriptor_key"].as_str()?, action["header_name"].as_str()?);
        headers.iter().find(|(header, _)| *header == name).map(|(_, value)| (key, *value))
    };
    let limits = the(config, "rate_limits").as_array().expect("a list").iter();
    limits.filter_map(|limit| limit["actions"].as_array().expect("actions").iter().map(entry).collect()).collect()
}

#[tokio::test]
async fn the_rate_limit_service_understands_what_the_shipped_file_asks() {
    let (_cluster, envoy) = served().await;
    let config = yaml("envoy-rls.yaml");
    assert_eq!(the(&config, "failure_mode_deny"), true);
    assert_eq!(the(&config, "domain").as_str().expect("a domain").split('/').count(), 2, "a tenant and a project");
    let ask = async |headers: &[(&str, &'static str)]| {
        let descriptors = descriptors(&config, headers);
        let descriptors: Vec<&[(&str, &str)]> = descriptors.iter().map(Vec::as_slice).collect();
        let answer = envoy.ask(0, &descriptors).await.expect("a decision");
        (Code::try_from(answer.overall_code).expect("a code"), answer.statuses.len())
    };
    let work = [(":path", "/work/1"), (":method", "POST")];
    let ada = [work[0], work[1], ("x-jwt-subject", "ada"), ("x-jwt-tier", "paid")];
    for _ in 0..3 {
        assert_eq!(ask(&ada).await, (Code::Ok, 2));
    }
    assert_eq!(ask(&ada).await, (Code::OverLimit, 2), "a paid caller has three");
    assert_eq!(ask(&[ada[0], (":method", "GET"), ada[2], ada[3]]).await, (Code::Ok, 2), "the method counts");
    assert_eq!(ask(&work).await, (Code::Ok, 1), "whoever is not known is anonymous, and another caller");
    assert_eq!(ask(&ada[..3]).await, (Code::Ok, 1), "and so is who is known by halves");
    assert_eq!(ask(&[(":path", "/guarded/1"), (":method", "GET")]).await, (Code::OverLimit, 1));
}

#[test]
fn istio_asks_as_envoy_does_and_fails_closed() {
    let (istio, envoy) = (istio(), yaml("envoy-ext-authz.yaml"));
    let provider = the(&istio, "envoyExtAuthzHttp");
    let known = [
        "service",
        "port",
        "timeout",
        "failOpen",
        "statusOnError",
        "pathPrefix",
        "includeRequestHeadersInCheck",
        "headersToUpstreamOnAllow",
        "headersToDownstreamOnDeny",
    ];
    let keys: Vec<&String> = provider.as_object().expect("a provider").keys().collect();
    assert!(keys.iter().all(|key| known.contains(&key.as_str())), "a field that Istio does not know: {keys:?}");
    assert_eq!((&provider["failOpen"], &provider["statusOnError"]), (&false.into(), &"503".into()));
    assert_eq!(provider["pathPrefix"], *the(&envoy, "path_prefix"));
    let asked = list(provider, "includeRequestHeadersInCheck");
    let asked: Vec<&str> = asked.into_iter().filter(|name| *name != "authorization").collect();
    assert_eq!(asked, patterns(the(&envoy, "allowed_headers")), "and Authorization, which Envoy sends unasked");
    assert_eq!(list(provider, "headersToUpstreamOnAllow"), patterns(the(&envoy, "allowed_upstream_headers")));
    let told = list(provider, "headersToDownstreamOnDeny");
    let told: Vec<&str> = told.into_iter().map(|name| name.trim_end_matches('*')).collect();
    assert_eq!(told, patterns(the(&envoy, "allowed_client_headers")));

    let providers = the(&istio, "extensionProviders").as_array().expect("a list");
    let policy = istio.as_array().expect("documents").iter().find(|document| document["kind"] == "AuthorizationPolicy");
    let policy = &policy.expect("a policy")["spec"];
    assert_eq!((&policy["action"], &policy["provider"]["name"]), (&"CUSTOM".into(), &providers[0]["name"]));
    assert_eq!(policy["rules"], serde_json::json!([{}]), "every request");
}
