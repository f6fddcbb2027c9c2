//! A document as it may be stored for every replica of a scope.
//!
//! Responsible for leaving out what belongs to one process: its name and its Redis, whose URL may hold a password. Must
//! never leave a name to the environment: replicas would read different documents out of one.

use serde_json::Value;

use crate::identity::Scope;

/// The document with the scope's own names at its head, and without `instance_id` and `redis_url`.
#[must_use]
pub fn storable(written: &Value, scope: &Scope) -> Value {
    let mut document = written.clone();
    if let Some(map) = document.as_object_mut() {
        map.shift_remove("instance_id");
        map.shift_remove("redis_url");
    }
    name_scope(&mut document, scope);
    document
}

/// Puts the scope's names at the head of a document, whatever names stand there.
pub(crate) fn name_scope(document: &mut Value, scope: &Scope) {
    let Some(map) = document.as_object_mut() else { return };
    for (index, (key, name)) in [("tenant", scope.tenant()), ("project", scope.project())].into_iter().enumerate() {
        map.shift_remove(key);
        map.shift_insert(index, key.to_owned(), name.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_belongs_to_one_process_stays_with_it() {
        let scope = Scope::new("acme", "shop").unwrap();
        let written = json!({"queue": {}, "tenant": "{{TENANT_ID}}", "instance_id": "a", "redis_url": "redis://:pw@h"});
        let stored = storable(&written, &scope);
        assert_eq!(stored.to_string(), r#"{"tenant":"acme","project":"shop","queue":{}}"#);
        assert_eq!(storable(&stored, &scope).to_string(), stored.to_string());
    }
}
