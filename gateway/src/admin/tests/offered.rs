//! What a deployment does not offer is not there, in the routes and in their description.

use std::collections::BTreeMap;

use super::*;
use crate::AdminOffer;

/// Every operation but the health checks, by name: method and target.
fn operations() -> BTreeMap<String, (String, String)> {
    let document = openapi::administration(&AdminOffer::default());
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            found.insert(name, (method.to_uppercase(), path.replace("{n}", "1")));
        }
    }
    for name in health::CHECKS {
        found.remove(name);
    }
    found
}

async fn offering(allow_writes: bool, names: &[String]) -> Fixture {
    let offer = AdminOffer::new(allow_writes, names).unwrap();
    Fixture::of(|options| options.admin_offer = offer).await
}

#[tokio::test]
async fn only_a_listed_operation_is_there() {
    let all = operations();
    for name in all.keys() {
        let fixture = offering(true, std::slice::from_ref(name)).await;
        for (other, (method, target)) in &all {
            let authorization = format!("Authorization: Bearer {TOKEN}\r\n");
            let answer = fixture.request(method, target, &authorization, "{}").await;
            assert_eq!(answer.status != 404, other == name, "{name}: {method} {target}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn without_writes_everything_can_be_read_and_nothing_changed() {
    let fixture = offering(false, &[]).await;
    for (name, (method, target)) in operations() {
        let authorization = format!("Authorization: Bearer {TOKEN}\r\n");
        let answer = fixture.request(&method, &target, &authorization, "{}").await;
        let changes = method != "GET" && name != "validate_config";
        assert_eq!(answer.status == 404, changes, "{name}: {}", answer.status);
        assert_eq!(offer::WRITES.contains(&name.as_str()), changes, "{name}");
    }
    let missing = fixture.get("/no/such/route").await;
    let answer = fixture.post("/admin/gateway/update-config", &json!({})).await;
    assert_eq!((answer.status, answer.body.len()), (missing.status, missing.body.len()));
}

#[tokio::test]
async fn the_description_has_what_is_offered() {
    let names = ["read_openapi", "read_queues", "update_config"].map(str::to_owned);
    let fixture = offering(false, &names).await;
    let document = fixture.get("/openapi.json").await.json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/admin/queues", "/openapi.json", "/healthz", "/readyz"]);
}
