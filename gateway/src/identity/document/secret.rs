//! Secrets by name: `env:NAME` or `file:/path`.
//!
//! Responsible for reading what is named, once, at start. Must never quote a value: a literal secret in the place of a
//! name is a fault that says so and no more.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use secrecy::SecretString;

/// Largest secret, bytes: a key file is a few thousand.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// The secret of this name, without the line feed at its end; or what is wrong with the name or its secret.
pub(crate) fn read(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<SecretString, String> {
    let text = if let Some(variable) = name.strip_prefix("env:").filter(|variable| is_variable(variable)) {
        env(variable).ok_or_else(|| format!("the variable {variable} is not set"))?
    } else if let Some(path) = name.strip_prefix("file:").map(Path::new).filter(|path| path.is_absolute()) {
        read_file(path).map_err(|reason| format!("{}: {reason}", path.display()))?
    } else {
        return Err("must name a secret, env:NAME or file:/path, never be one".to_owned());
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err("the secret is empty".to_owned()) } else { Ok(text.into()) }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_SECRET_BYTES { Err("too large for a secret".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value\n".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn a_secret_is_read_from_where_its_name_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "from a file\r\n").unwrap();
        assert_eq!(read("env:SET", &env).unwrap().expose_secret(), "value");
        assert_eq!(read(&format!("file:{}", path.display()), &env).unwrap().expose_secret(), "from a file");
    }

    #[test]
    fn a_literal_secret_is_a_fault_that_does_not_repeat_it() {
        for name in ["canary", "env:", "env:a b", "file:relative", "file:", "", "ENV:SET"] {
            let fault = read(name, &env).unwrap_err();
            assert!(fault.contains("must name a secret") && !fault.contains("canary"), "{name}: {fault}");
        }
    }

    #[test]
    fn a_secret_that_is_not_there_or_empty_is_a_fault() {
        for name in ["env:UNSET", "env:EMPTY", "file:/nonexistent/secret"] {
            assert!(read(name, &env).is_err(), "{name}");
        }
    }
}
