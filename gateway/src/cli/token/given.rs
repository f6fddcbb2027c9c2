//! What the subcommands `token …` are given, read.
//!
//! Responsible for files, keys, chains and the terms of a delegation, each fault under the name of its argument. Must
//! never quote what it could not read: it may be a secret in the wrong place.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_delegation::{Chain, Constraint, PublicKey, Scope, ScopeSet, SecretKey, is_name};
use secrecy::{ExposeSecret, SecretString};

use crate::cli::document::read;

/// What is wrong so far, a line each.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<String>);

/// What a delegation is to allow, to whom and why.
#[derive(Args, Debug)]
pub(super) struct TermArgs {
    /// Agent that the token is for
    #[arg(long, value_name = "NAME")]
    pub(super) agent: String,
    /// What it allows, such as `tasks:submit:chat`; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Resource that it is for; may be given several times
    #[arg(long = "audience", value_name = "URL")]
    audience: Vec<String>,
    /// Upper bound, such as `calls_per_min=60`; may be given several times
    #[arg(long = "constraint", value_name = "KEY=MAX")]
    constraints: Vec<String>,
    /// How long it is valid, seconds [default: as long as may be]
    #[arg(long, visible_alias = "ttl", value_name = "SECONDS")]
    pub(super) ttl_seconds: Option<u64>,
    /// Most tokens of the chain
    #[arg(long, value_name = "N")]
    pub(super) max_depth: Option<u8>,
    /// Key of the agent: a file, or the public key itself as a JWK; only with one the token can be passed on, and only
    /// with a proof of possession it can be used [default: a bearer token]
    #[arg(long, value_name = "FILE|JWK")]
    holder_key: Option<String>,
    /// Why, 1 to 200 characters
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
}

/// They, read.
pub(super) struct Terms {
    /// `None`: not said.
    pub(super) scopes: Option<ScopeSet>,
    /// `None`: not said.
    pub(super) audience: Option<Vec<String>>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) holder: Option<PublicKey>,
}

impl TermArgs {
    /// Whether nothing was said about what is allowed.
    pub(super) fn says_no_scope(&self) -> bool {
        self.scopes.is_empty()
    }

    /// Reads them; what is wrong is noted.
    pub(super) fn read(&self, faults: &mut Faults) -> Terms {
        faults.name("--agent", &self.agent);
        let scopes =
            || ScopeSet::new(self.scopes.iter().map(|scope| scope.parse::<Scope>()).collect::<Result<_, _>>()?);
        let constraints = self.constraints.iter().filter_map(|text| faults.note("--constraint", constraint(text)));
        Terms {
            constraints: constraints.collect(),
            scopes: (!self.scopes.is_empty()).then(|| faults.note("--scope", scopes())).flatten(),
            audience: (!self.audience.is_empty()).then(|| self.audience.clone()),
            holder: self.holder_key.as_deref().and_then(|text| faults.note("--holder-key", public_key(text))),
        }
    }
}

impl Faults {
    /// What came of an argument; what is wrong with it is noted.
    pub(super) fn note<T, E: Display>(&mut self, argument: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.0.push(format!("{argument}: {error}"))).ok()
    }

    /// Notes a name that cannot stand in a token.
    pub(super) fn name(&mut self, argument: &str, name: &str) {
        let checked = if is_name(name) { Ok(()) } else { Err("must be 1 to 256 visible ASCII characters") };
        self.note(argument, checked);
    }

    /// Notes that stdin was named for more than one thing.
    pub(super) fn stdin_once(&mut self, files: &[&PathBuf]) {
        if files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
            self.0.push("only one of the files can be read from stdin".to_owned());
        }
    }

    /// What all arguments came to, if nothing was wrong with any.
    pub(super) fn sound_with<T>(self, made: Option<T>) -> Result<T, Vec<String>> {
        made.filter(|_| self.0.is_empty()).ok_or(self.0)
    }

    /// The lines; empty if nothing was wrong.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.0
    }
}

/// The secret key in a file; `-` is stdin.
pub(super) fn secret_key(file: &Path) -> Result<SecretKey, String> {
    let text: SecretString = read(file).map_err(|error| in_file(file, &error))?.into();
    SecretKey::from_text(text.expose_secret()).map_err(|error| in_file(file, &error))
}

/// The chain in a file; `-` is stdin.
pub(super) fn chain(file: &Path) -> Result<Chain, String> {
    let text: SecretString = read(file).map_err(|error| in_file(file, &error))?.into();
    Chain::parse(text.expose_secret().trim()).map_err(|refused| in_file(file, &refused))
}

/// The public key that a text is, as a JWK, or that is in the file of this name; of a secret key its public half.
pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    if text.trim_start().starts_with('{') {
        return PublicKey::from_text(text).map_err(|error| error.to_string());
    }
    let file = Path::new(text);
    let key: SecretString = read(file).map_err(|error| in_file(file, &error))?.into();
    if let Ok(secret) = SecretKey::from_text(key.expose_secret()) {
        return Ok(secret.public_key());
    }
    PublicKey::from_text(key.expose_secret()).map_err(|error| in_file(file, &error))
}

fn constraint(text: &str) -> Result<Constraint, &'static str> {
    let (key, max) = text.split_once('=').ok_or("must be KEY=MAX")?;
    let max = max.parse().map_err(|_| "MAX must be a whole number")?;
    Ok(Constraint { key: key.to_owned(), max })
}

fn in_file(file: &Path, error: &dyn Display) -> String {
    format!("{}: {error}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> TermArgs {
        TermArgs {
            agent: "researcher".to_owned(),
            scopes: vec!["tasks:read".to_owned(), "tasks:submit:*".to_owned()],
            audience: Vec::new(),
            constraints: vec!["calls_per_min=6".to_owned()],
            ttl_seconds: None,
            max_depth: None,
            holder_key: None,
            reason: "to look something up".to_owned(),
        }
    }

    #[test]
    fn sound_terms_are_read() {
        let mut faults = Faults::default();
        let read = terms().read(&mut faults);
        assert_eq!(faults.into_lines(), Vec::<String>::new());
        assert_eq!(read.scopes.map(|scopes| scopes.to_string()).as_deref(), Some("tasks:read tasks:submit:*"));
        assert_eq!(read.constraints, [Constraint { key: "calls_per_min".to_owned(), max: 6 }]);
        assert!(read.audience.is_none() && read.holder.is_none());
    }

    #[test]
    fn every_fault_is_named_by_its_argument() {
        let wrong = TermArgs {
            agent: "a b".to_owned(),
            scopes: vec!["Tasks".to_owned()],
            constraints: vec!["calls".to_owned(), "calls=-1".to_owned()],
            holder_key: Some("/no/such/file".to_owned()),
            ..terms()
        };
        let mut faults = Faults::default();
        wrong.read(&mut faults);
        let lines = faults.into_lines();
        let arguments: Vec<&str> = lines.iter().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(arguments, ["--agent", "--constraint", "--constraint", "--scope", "--holder-key"]);
    }

    #[test]
    fn a_secret_in_the_place_of_a_public_key_is_not_repeated() {
        let secret = SecretKey::generate().unwrap().to_jwk_text().unwrap();
        let fault = public_key(&secret).unwrap_err();
        assert!(!fault.contains("\"d\"") && fault.contains("not an Ed25519 key"), "{fault}");
    }

    #[test]
    fn only_the_public_half_is_taken_of_a_file_with_a_secret_key() {
        let folder = tempfile::tempdir().unwrap();
        let (key, path) = (SecretKey::generate().unwrap(), folder.path().join("agent.pem"));
        key.write_file(&path).unwrap();
        assert_eq!(public_key(path.to_str().unwrap()).unwrap(), key.public_key());
        assert_eq!(secret_key(&path).unwrap().public_key(), key.public_key());
    }
}
