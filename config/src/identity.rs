//! The names a policy is keyed by: user types and scopes.
//!
//! Responsible for the spelling rules of these names, because they become parts of Redis keys and of metric labels.
//! Must never hold a credential: who a caller *is* gets decided in the gateway's session step.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The tier of a caller: `anonymous`, `registered`, `paid`, `privileged`, `external`, or one the policy declares.
///
/// 1–32 characters of `a-z`, `0-9`, `_`, `-`, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[a-z][a-z0-9_-]{0,31}$"))]
pub struct UserType(String);

impl UserType {
    /// The type of a caller without a credential.
    pub const ANONYMOUS: &'static str = "anonymous";

    /// The five user types every policy knows, lowest first.
    pub const BUILT_IN: [&'static str; 5] = ["anonymous", "external", "registered", "paid", "privileged"];

    /// A user type of this name, or why the name is refused.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let well_formed = (1..=32).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if well_formed { Ok(Self(name)) } else { Err(InvalidName { what: "user type", name }) }
    }

    /// The type of a caller without a credential.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(Self::ANONYMOUS.to_owned())
    }

    /// Callers without a credential whom the operator knows by their network.
    #[must_use]
    pub fn external() -> Self {
        Self(Self::BUILT_IN[1].to_owned())
    }

    /// The name as it stands in the policy.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserType {
    type Error = InvalidName;
    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(name)
    }
}

impl From<UserType> for String {
    fn from(user_type: UserType) -> Self {
        user_type.0
    }
}

impl std::borrow::Borrow<str> for UserType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant/project pair: the unit of isolation, and the hash tag of every Redis key.
///
/// Each part is 1–64 characters of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`: nothing that could close the hash tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Scope {
    tenant: String,
    project: String,
}

impl Scope {
    /// The scope of this tenant and project, or which of the two names is refused.
    pub fn new(tenant: impl Into<String>, project: impl Into<String>) -> Result<Self, InvalidName> {
        let (tenant, project) = (tenant.into(), project.into());
        for (what, name) in [("tenant", &tenant), ("project", &project)] {
            let well_formed = (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            if !well_formed {
                return Err(InvalidName { what, name: name.clone() });
            }
        }
        Ok(Self { tenant, project })
    }

    /// The tenant's name.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The project's name.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }
}

/// The name of a tenant as it stands in a setting.
///
/// # Errors
///
/// Why it is refused.
pub fn tenant_name(name: &str) -> Result<String, InvalidName> {
    Scope::new(name, "any").map(|scope| scope.tenant)
}

/// The name of a project as it stands in a setting.
///
/// # Errors
///
/// Why it is refused.
pub fn project_name(name: &str) -> Result<String, InvalidName> {
    Scope::new("any", name).map(|scope| scope.project)
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.project)
    }
}

/// A name that may not stand in a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid {what} name")]
pub struct InvalidName {
    /// Which kind of name it was meant to be.
    pub what: &'static str,
    /// The refused name.
    pub name: String,
}
