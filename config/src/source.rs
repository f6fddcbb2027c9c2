//! Where the document comes from.
//!
//! Responsible for the precedence of sources and for reading the one that is named. Must never fall through a source
//! that is named but cannot be read: a typing slip would put another policy in force.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::document;

/// Largest file that is read, bytes.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// Where a document came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The variable `GATEWAY_CONFIG_JSON`.
    ConfigJson,
    /// The file named by `GATEWAY_YAML_PATH`.
    YamlPath(PathBuf),
    /// `gateway.yaml` in the directory named by `PLATFORM_DESCRIPTORS_DIR`.
    Descriptors(PathBuf),
    /// The policy that is part of the binary.
    Shipped,
    /// Handed in by the caller.
    Document,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigJson => f.write_str("GATEWAY_CONFIG_JSON"),
            Self::YamlPath(path) => write!(f, "{} (GATEWAY_YAML_PATH)", path.display()),
            Self::Descriptors(path) => write!(f, "{} (PLATFORM_DESCRIPTORS_DIR)", path.display()),
            Self::Shipped => f.write_str("shipped policy"),
            Self::Document => f.write_str("document"),
        }
    }
}

/// Reads the document of the first source this environment names, or says which one could not be read and why.
pub(crate) fn read(env: &impl Fn(&str) -> Option<String>) -> Result<(Source, Value), (Source, String)> {
    let env = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    if let Some(text) = env("GATEWAY_CONFIG_JSON") {
        return named(Source::ConfigJson, document::from_json(&text));
    }
    if let Some(path) = env("GATEWAY_YAML_PATH").map(PathBuf::from) {
        let document = read_yaml(&path);
        return named(Source::YamlPath(path), document);
    }
    if let Some(directory) = env("PLATFORM_DESCRIPTORS_DIR").map(PathBuf::from) {
        let path = directory.join("gateway.yaml");
        // A directory of descriptors need not describe the gateway; a directory that is not there is a slip.
        if path.exists() || !directory.is_dir() {
            let document = read_yaml(&path);
            return named(Source::Descriptors(path), document);
        }
    }
    // Every document is merged over the shipped one: an empty one is the shipped one.
    Ok((Source::Shipped, Value::Object(Map::new())))
}

fn named(source: Source, document: Result<Value, String>) -> Result<(Source, Value), (Source, String)> {
    match document {
        Ok(document) => Ok((source, document)),
        Err(reason) => Err((source, reason)),
    }
}

fn read_yaml(path: &Path) -> Result<Value, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(format!("larger than {MAX_DOCUMENT_BYTES} bytes"));
    }
    document::from_yaml(&text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn source_of(variables: &[(&str, &str)]) -> Result<Source, Source> {
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        read(&env).map(|(source, _)| source).map_err(|(source, _)| source)
    }

    #[test]
    fn the_first_source_that_is_named_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let (dir, file) = (directory.path().to_str().unwrap(), directory.path().join("other.yaml"));
        fs::write(&file, "profile: testing").unwrap();
        let path = file.to_str().unwrap();
        let all = [("GATEWAY_CONFIG_JSON", "{}"), ("GATEWAY_YAML_PATH", path), ("PLATFORM_DESCRIPTORS_DIR", dir)];

        assert_eq!(source_of(&all), Ok(Source::ConfigJson));
        assert_eq!(source_of(&all[1..]), Ok(Source::YamlPath(file.clone())));
        assert_eq!(source_of(&all[2..]), Ok(Source::Shipped), "the directory does not describe the gateway");
        fs::write(directory.path().join("gateway.yaml"), "gateway: {}").unwrap();
        assert_eq!(source_of(&all[2..]), Ok(Source::Descriptors(directory.path().join("gateway.yaml"))));
        assert_eq!(source_of(&[("GATEWAY_CONFIG_JSON", " "), ("GATEWAY_YAML_PATH", "")]), Ok(Source::Shipped));
    }

    #[test]
    fn a_named_source_that_cannot_be_read_is_never_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let broken = directory.path().join("gateway.yaml");
        fs::write(&broken, "a: [").unwrap();
        let (dir, file) = (directory.path().to_str().unwrap(), broken.to_str().unwrap());
        let missing = directory.path().join("missing");

        assert_eq!(source_of(&[("GATEWAY_CONFIG_JSON", "{"), ("GATEWAY_YAML_PATH", file)]), Err(Source::ConfigJson));
        assert_eq!(source_of(&[("GATEWAY_CONFIG_JSON", "a: 1")]), Err(Source::ConfigJson), "YAML is no JSON");
        assert_eq!(source_of(&[("GATEWAY_YAML_PATH", file)]), Err(Source::YamlPath(broken.clone())));
        assert_eq!(
            source_of(&[("GATEWAY_YAML_PATH", missing.to_str().unwrap())]),
            Err(Source::YamlPath(missing.clone()))
        );
        assert_eq!(source_of(&[("PLATFORM_DESCRIPTORS_DIR", dir)]), Err(Source::Descriptors(broken)));
        let there = missing.join("gateway.yaml");
        assert_eq!(
            source_of(&[("PLATFORM_DESCRIPTORS_DIR", missing.to_str().unwrap())]),
            Err(Source::Descriptors(there))
        );
    }
}
