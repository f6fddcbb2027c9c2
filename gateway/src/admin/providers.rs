//! `/admin/identity/providers`: whose keys callers are believed by, and how fetching them goes.
//!
//! Responsible for what this gateway has found, by its own clock: others may reach whom it does not. Must never show a
//! key or a secret of the identity document, nor to an operator of one scope whom another scope believes.

use axum::Json;
use axum::extract::State;
use portcullis_config::Scope;
use serde_json::{Value, json};

use super::asked::{Asked, ScopeNames};
use super::{Answer, Shared, redact};
use crate::degraded::Degraded;
use crate::identity::document::DocumentSource;
use crate::identity::{Provider, Providers};
use crate::openapi::{ScopeQuery, Surveying};
use crate::timestamp::rfc3339;

/// Whose keys callers are believed by.
#[utoipa::path(
    get, path = "/admin/identity/providers", operation_id = "read_identity_providers", tag = "monitoring",
    summary = "Whose keys callers are believed by, and how fetching them goes, as this gateway has found it",
    description = "The bearer of the admin token who names no scope is given all; otherwise it is those whose users \
        may be callers of the scope. Keys are fetched when they are first needed: until then there is neither a last \
        success nor a last error.",
    params(ScopeQuery),
    responses(
        (status = 200, description = "By name", body = ref("#/components/schemas/IdentityProviders")),
        Surveying
    )
)]
pub(crate) async fn list(State(admin): Shared, asked: Asked) -> Answer {
    let names = asked.of_scope(&[], |_, _| Ok(()))?;
    let scoped = admin.address(&names, &asked, &[]).await?;
    let everything = asked.operator().reaches_everything() && names == ScopeNames::default();
    let asked_about = (!everything).then(|| scoped.store().scope());
    let gateway = scoped.gateway();
    let default = gateway.scopes().default_scope().store().scope();
    let providers = gateway.providers().map(|providers| shown(providers, asked_about, default));
    Ok(Json(json!({"gateway": gateway.instance(), "providers": providers.unwrap_or_default()})))
}

/// Those whose users may be callers of this scope; without one, all.
fn shown(providers: &Providers, scope: Option<&Scope>, default: &Scope) -> Vec<Value> {
    let source = providers.identity.source;
    let all = providers.publishing().into_iter();
    let wanted = all.filter(|provider| scope.is_none_or(|scope| provider.serves(scope, default)));
    wanted.map(|provider| view(&provider, source)).collect()
}

fn view(provider: &Provider, source: DocumentSource) -> Value {
    let (error_ms, fault) = provider.outcomes.last_error.unzip();
    redact::values(json!({
        "issuer": provider.issuer,
        "kind": provider.kind,
        "source": source,
        "keys": provider.keys,
        "last_ok_at": provider.outcomes.last_ok_ms.map(rfc3339),
        "last_error_at": error_ms.map(rfc3339),
        "last_error_code": fault,
        "degraded": Degraded::from_iter(provider.fallback()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::jwt::Place;
    use crate::identity::{FetchFault, Outcomes};

    #[test]
    fn a_provider_shows_when_and_why_and_no_credential() {
        let provider = Provider {
            issuer: "https://user:canary@one.example".to_owned(),
            kind: "jwt",
            place: Place::Fixed(None),
            keys: 2,
            overdue: true,
            outcomes: Outcomes { last_ok_ms: Some(1_000), last_error: Some((2_000, FetchFault::TooLarge)) },
        };
        let shown = view(&provider, DocumentSource::File);
        assert!(!shown.to_string().contains("canary"), "{shown}");
        assert_eq!(shown["last_ok_at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(shown["last_error_at"], "1970-01-01T00:00:02.000Z");
        assert_eq!((&shown["last_error_code"], &shown["source"]), (&json!("too_large"), &json!("file")));
        assert_eq!(shown["degraded"], json!(["issuer_keys_stale"]));
        let fresh = Provider { outcomes: Outcomes::default(), ..provider };
        let shown = view(&fresh, DocumentSource::BuiltIn);
        assert_eq!((&shown["last_error_code"], &shown["last_ok_at"]), (&Value::Null, &Value::Null));
        assert_eq!((&shown["source"], &shown["degraded"]), (&json!("built_in"), &json!([])));
    }
}
