//! What clients find out before they have a credential: `/.well-known/…`.
//!
//! Responsible for the description of this resource (RFC 9728) and for the keys by which its delegations are verified
//! offline. Open to everybody, so it must never say anything that depends on who asks, nor whether a tenant exists.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Uri};
use axum::response::Response;
use portcullis_config::Scope;
use serde_json::{Value, json};

use crate::refusal::Refused;
use crate::right;
use crate::state::Gateway;

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const KEYS: &str = "/.well-known/oauth-protected-resource/jwks.json";

/// Whether a path is one of these.
pub(crate) fn takes(path: &str) -> bool {
    path.strip_prefix(RESOURCE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The document under this path.
#[utoipa::path(
    get, path = "/.well-known/oauth-protected-resource", operation_id = "read_resource_metadata", tag = "discovery",
    summary = "This resource, as RFC 9728 describes one", security(()),
    responses((status = 200, description = "Needs no credential", body = ref("#/components/schemas/ResourceMetadata")),
        crate::openapi::Open)
)]
pub(crate) fn answer(gateway: &Gateway, method: &Method, uri: &Uri) -> Result<Response, Refused> {
    let terms = gateway.delegation_terms().ok_or_else(Refused::not_found)?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Refused::not_found());
    }
    let document = if uri.path() == KEYS {
        json!({"keys": terms.public_keys()})
    } else {
        let scope = match uri.path().strip_prefix(RESOURCE).unwrap_or_default() {
            "" => gateway.scopes().default_scope().store().scope().clone(),
            rest => named(rest, terms.path()).ok_or_else(Refused::not_found)?,
        };
        metadata(&terms.resource_of(&scope), &terms.address_of(KEYS), gateway.authorization_servers())
    };
    let mut response = Response::new(Body::from(document.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    Ok(response)
}

fn metadata(resource: &str, keys: &str, authorization_servers: &[String]) -> Value {
    json!({
        "resource": resource,
        "jwks_uri": keys,
        "authorization_servers": authorization_servers,
        "scopes_supported": right::ALL,
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": ["EdDSA"],
    })
}

/// The scope of `PATH/t/TENANT/p/PROJECT`, where `PATH` is that of the deployment.
fn named(rest: &str, path: &str) -> Option<Scope> {
    let (tenant, project) = rest.strip_prefix(path)?.strip_prefix("/t/")?.split_once("/p/")?;
    Scope::new(tenant, project).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_named_by_its_scope() {
        let scope = |rest, path| named(rest, path).map(|scope| scope.to_string());
        assert_eq!(scope("/t/acme/p/p1", "").as_deref(), Some("acme/p1"));
        assert_eq!(scope("/gw/t/acme/p/p1", "/gw").as_deref(), Some("acme/p1"));
        for rest in ["/t/acme", "/t//p/x", "/t/acme/p/", "/t/a/p/b/c", "/x/t/acme/p/p1", "/t/a}b/p/c"] {
            assert_eq!(scope(rest, ""), None, "{rest}");
        }
    }

    #[test]
    fn only_whole_segments_are_taken() {
        for path in [RESOURCE, KEYS, "/.well-known/oauth-protected-resource/t/a/p/b"] {
            assert!(takes(path), "{path}");
        }
        for path in ["/.well-known/oauth-protected-resources", "/.well-known/jwks.json", "/.well-known"] {
            assert!(!takes(path), "{path}");
        }
    }
}
