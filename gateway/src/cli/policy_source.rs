//! Where the policy comes from, as flags.
//!
//! Responsible for handing the flags to the loader under the names of their variables, so that a flag and its variable
//! are the same thing. Must never read or check a document: `portcullis-config` does.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::Args;
use portcullis_config::identity::{project_name, tenant_name};
use portcullis_config::{Component, LoadError, Loaded};

/// Whom a document is read for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Audience {
    /// Tenant of the default scope, where the document leaves it open
    #[arg(long, value_name = "NAME", env = "TENANT_ID", value_parser = tenant_name)]
    tenant: Option<String>,
    /// Project of the default scope, where the document leaves it open
    #[arg(long, value_name = "NAME", env = "PROJECT_ID", value_parser = project_name)]
    project: Option<String>,
    /// Whose slice of the document to use: ingress or proc
    #[arg(long, value_name = "NAME", env = "GATEWAY_COMPONENT", default_value = "ingress")]
    pub(crate) component: Component,
}

impl Audience {
    /// The variable of this name as the loader should see it: the flag's value, else the environment's.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        match name {
            "TENANT_ID" => self.tenant.clone(),
            "PROJECT_ID" => self.project.clone(),
            _ => variable(name),
        }
    }
}

/// Which policy, for whom.
#[derive(Args, Clone, Debug)]
pub(crate) struct PolicySource {
    /// Policy document to use (YAML or JSON); without any, the shipped policy
    #[arg(long, value_name = "FILE", env = "GATEWAY_YAML_PATH")]
    policy: Option<PathBuf>,
    /// Directory with a `gateway.yaml` to use when --policy is not given
    #[arg(long, value_name = "DIR", env = "PLATFORM_DESCRIPTORS_DIR")]
    descriptors_dir: Option<PathBuf>,
    #[command(flatten)]
    audience: Audience,
}

impl PolicySource {
    /// Whose slice of the document is used.
    pub(crate) fn component(&self) -> Component {
        self.audience.component
    }

    /// Loads the policy.
    pub(crate) fn load(&self) -> Result<Loaded, LoadError> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let variable = |name: &str| match name {
            "GATEWAY_YAML_PATH" => path(&self.policy),
            "PLATFORM_DESCRIPTORS_DIR" => path(&self.descriptors_dir),
            _ => self.audience.variable(name),
        };
        portcullis_config::load(&variable, self.audience.component)
    }
}

/// A variable of this process's environment; one that is set but empty is not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| text(&value))
}

/// What is not UTF-8 is set all the same: left out, a token would protect nothing. Nothing that is checked takes the
/// sign that stands in for it.
fn text(value: &OsStr) -> Option<String> {
    (!value.is_empty()).then(|| value.to_string_lossy().into_owned())
}

/// What is wrong with a policy document, a line for each fault.
pub(crate) fn faults(error: &LoadError) -> Vec<String> {
    match error {
        LoadError::Invalid { faults, .. } => {
            faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
        }
        LoadError::Unreadable { .. } => vec![error.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use portcullis_config::weakness;

    use super::*;

    #[test]
    fn a_variable_that_is_not_utf_8_is_set_and_no_token() {
        assert_eq!(text(OsStr::new("")), None);
        assert_eq!(text(OsStr::new("value")).as_deref(), Some("value"));
        let token = text(OsStr::from_bytes(b"\xff6c1f0e9a7b3d5528c4e1f2a39b07d64e")).unwrap();
        assert!(weakness(&token).is_some());
    }
}
