//! What must never be seen, and everything that is seen.
//!
//! Responsible for saying where a secret was found. Must never print the secret it found: a name is enough.

use std::fs;
use std::path::Path;

use portcullis_loadtest::client::Answer;

/// Shorter ones would be found by chance.
const SHORTEST: usize = 16;

/// Secrets by name, and texts by where they were seen.
#[derive(Default)]
pub(super) struct Watch {
    secrets: Vec<(String, String)>,
    seen: Vec<(String, String)>,
}

impl Watch {
    /// This must not be seen anywhere.
    pub(super) fn secret(&mut self, name: &str, text: &str) {
        assert!(text.len() >= SHORTEST, "{name} is too short");
        self.secrets.push((name.to_owned(), text.to_owned()));
    }

    /// Neither must any of the tokens of this chain, nor their signatures.
    pub(super) fn chain(&mut self, name: &str, presented: &str) {
        for (hop, token) in presented.split('~').enumerate() {
            self.secret(&format!("{name}, token {hop}"), token);
            let (_, signature) = token.rsplit_once('.').expect("a signature");
            self.secret(&format!("{name}, signature {hop}"), signature);
        }
    }

    pub(super) fn saw(&mut self, place: &str, text: impl Into<String>) {
        self.seen.push((place.to_owned(), text.into()));
    }

    /// Head and body of an answer.
    pub(super) fn heard(&mut self, place: &str, answer: &Answer) {
        self.saw(place, format!("{:?} {}", answer.headers, answer.text));
    }

    /// Every file of a directory.
    pub(super) fn read(&mut self, directory: &Path) {
        for file in fs::read_dir(directory).expect("a directory") {
            let path = file.expect("a file").path();
            let text = String::from_utf8_lossy(&fs::read(&path).expect("readable")).into_owned();
            self.saw(&path.file_name().expect("a name").to_string_lossy(), text);
        }
    }

    /// Where this is seen.
    pub(super) fn places_of(&self, text: &str) -> Vec<&str> {
        let found = self.seen.iter().filter(|(_, seen)| seen.contains(text));
        found.map(|(place, _)| place.as_str()).collect()
    }

    /// Fails if any secret was seen.
    pub(super) fn is_silent(&self) {
        let found: Vec<(&str, Vec<&str>)> =
            self.secrets.iter().map(|(name, text)| (name.as_str(), self.places_of(text))).collect();
        let found: Vec<_> = found.into_iter().filter(|(_, places)| !places.is_empty()).collect();
        assert!(found.is_empty(), "secrets were seen: {found:?}");
    }
}
