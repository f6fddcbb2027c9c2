//! What an operator asks: the parameters of a request, and the scope it is addressed to.
//!
//! Responsible for reading a query completely: each parameter is known and given once, or the request is refused with
//! every fault. Must never answer a parameter it does not know as if it had heeded it, nor take a bad name of a scope
//! for the default one.

use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use portcullis_config::Scope;

use super::operator::Operator;
use super::scoped::Scoped;
use crate::refusal::{Refused, RequestFault};

/// The parameters of a question, and where to say whom it was about.
#[derive(Debug)]
pub(crate) struct Asked {
    parameters: Vec<(String, String)>,
    addressed: Addressed,
    operator: Operator,
}

impl Asked {
    /// Reads a question about a scope, `?tenant=&project=`, whose other parameters are `known`.
    pub(crate) fn of_scope(
        &self,
        known: &[&str],
        mut read: impl FnMut(&str, &str) -> Result<(), String>,
    ) -> Result<ScopeNames, Refused> {
        let mut names = ScopeNames::default();
        let all: Vec<&str> = known.iter().copied().chain(["tenant", "project"]).collect();
        let faults = self.faults(&all, |name, value| match name {
            "tenant" => {
                names.tenant = Some(value.to_owned());
                Ok(())
            }
            "project" => {
                names.project = Some(value.to_owned());
                Ok(())
            }
            other => read(other, value),
        });
        if faults.is_empty() { Ok(names) } else { Err(Refused::invalid(faults)) }
    }

    /// Reads parameters that are all `known`; everything that is wrong with them.
    pub(crate) fn faults(
        &self,
        known: &[&str],
        mut read: impl FnMut(&str, &str) -> Result<(), String>,
    ) -> Vec<RequestFault> {
        let mut faults = Vec::new();
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            let result = if self.parameters[..index].iter().any(|(earlier, _)| earlier == name) {
                Err("is given more than once".to_owned())
            } else if known.contains(&name.as_str()) {
                read(name, value)
            } else {
                Err(format!("is not a parameter of this route; it has: {}", known.join(", ")))
            };
            faults.extend(result.err().map(|message| RequestFault::new(name, message)));
        }
        faults
    }

    /// Who asks.
    pub(crate) fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Where to say whom the request was about.
    pub(crate) fn addressed(&self) -> &Addressed {
        &self.addressed
    }
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let operator = Operator::from_request_parts(parts, state).await?;
        let unreadable = |error: axum::extract::rejection::QueryRejection| {
            Refused::invalid(vec![RequestFault::new("query", error.body_text())])
        };
        let Query(parameters) = Query::try_from_uri(&parts.uri).map_err(unreadable)?;
        Ok(Self { parameters, operator, addressed: parts.extensions.get().cloned().unwrap_or_default() })
    }
}

/// The scope a request turned out to be about; the layer reads it once the answer is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addressed(Arc<OnceLock<Scoped>>);

impl Addressed {
    /// Says it, once.
    pub(crate) fn is(&self, scoped: &Scoped) {
        // A request is about one scope.
        _ = self.0.set(scoped.clone());
    }

    /// What was said, if it came to that.
    pub(crate) fn get(&self) -> Option<&Scoped> {
        self.0.get()
    }
}

/// The names of a scope as a request gives them; what it leaves out is the default scope's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScopeNames {
    pub(crate) tenant: Option<String>,
    pub(crate) project: Option<String>,
}

impl ScopeNames {
    /// The scope they name, or which of them cannot be a name.
    pub(crate) fn scope(&self, default: &Scope) -> Result<Scope, Vec<RequestFault>> {
        let tenant = self.tenant.as_deref().unwrap_or(default.tenant());
        let project = self.project.as_deref().unwrap_or(default.project());
        // One at a time, because a scope names only the first that is wrong.
        let each = [Scope::new(tenant, default.project()), Scope::new(default.tenant(), project)];
        let message = "must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'";
        let faults: Vec<_> =
            each.into_iter().filter_map(Result::err).map(|error| RequestFault::new(error.what, message)).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        Scope::new(tenant, project).map_err(|error| vec![RequestFault::new(error.what, message)])
    }
}

/// Reads a whole number within bounds.
pub(crate) fn whole(value: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a number from {least} to {most}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A question with these parameters.
    pub(crate) fn asked(parameters: &[(&str, &str)]) -> Asked {
        let pairs = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Asked { parameters: pairs.collect(), addressed: Addressed::default(), operator: Operator::Token }
    }

    #[test]
    fn every_bad_parameter_is_named() {
        let query = [("limit", "5"), ("colour", "red"), ("tenant", "a"), ("limit", "6"), ("wait", "x")];
        let mut seen = Vec::new();
        let refused = asked(&query).of_scope(&["limit", "wait"], |name, value| {
            seen.push((name.to_owned(), value.to_owned()));
            if name == "wait" { Err("is wrong".to_owned()) } else { Ok(()) }
        });
        let paths: Vec<String> = refused.unwrap_err().faults.into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["colour", "limit", "wait"]);
        assert_eq!(seen, [("limit".to_owned(), "5".to_owned()), ("wait".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn a_scope_left_out_is_the_default_one_and_a_bad_name_is_not() {
        let default = Scope::new("acme", "shop").unwrap();
        let scope = |query: &[(&str, &str)]| {
            let names = asked(query).of_scope(&[], |_, _| Ok(())).unwrap();
            names.scope(&default).map_err(|faults| faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>())
        };
        assert_eq!(scope(&[]), Ok(default.clone()));
        assert_eq!(scope(&[("tenant", "globex")]), Ok(Scope::new("globex", "shop").unwrap()));
        assert_eq!(scope(&[("tenant", "g"), ("project", "p")]), Ok(Scope::new("g", "p").unwrap()));
        assert_eq!(scope(&[("tenant", ""), ("project", "a}b")]), Err(vec!["tenant".to_owned(), "project".to_owned()]));
    }

    #[test]
    fn whole_numbers_have_bounds() {
        assert_eq!(whole("60", 0, 60), Ok(60));
        for value in ["61", "-1", "", "ten", "1.5"] {
            assert!(whole(value, 0, 60).is_err(), "{value}");
        }
    }
}
