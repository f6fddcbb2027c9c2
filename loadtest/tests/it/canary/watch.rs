//! What must never be seen, in any form, and everything that is seen.
//!
//! Responsible for saying where a secret was found, whole or its end alone, as text or as something text is written as.
//! Must never print the secret it found: a name is enough.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use portcullis_loadtest::client::Answer;

/// Shorter ones would be found by chance. So much of the end of a secret is looked for: what comes before it, such as
/// the header of a token, may be no secret.
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
        let found = self.found();
        assert!(found.is_empty(), "secrets were seen: {found:?}");
    }

    /// Name, form and places of every secret that was seen.
    fn found(&self) -> Vec<(&str, &'static str, Vec<&str>)> {
        let mut found = Vec::new();
        for (name, secret) in &self.secrets {
            for (form, text) in forms(&secret[secret.len() - SHORTEST..]) {
                let places = self.places_of(&text);
                if !places.is_empty() {
                    found.push((name.as_str(), form, places));
                }
            }
        }
        found
    }
}

/// How a text may stand in another one: as it is, as its bytes in some notation, or as part of something in base64.
fn forms(text: &str) -> Vec<(&'static str, String)> {
    let bytes = text.as_bytes();
    let each = |form: &dyn Fn(u8) -> String| bytes.iter().map(|byte| form(*byte)).collect::<String>();
    let mut forms = vec![
        ("text", text.to_owned()),
        ("hexadecimal", each(&|byte| format!("{byte:02x}"))),
        ("hexadecimal", each(&|byte| format!("{byte:02X}"))),
        ("percent-encoded", each(&|byte| format!("%{byte:02x}"))),
        ("percent-encoded", each(&|byte| format!("%{byte:02X}"))),
        ("list of numbers", format!("{bytes:?}").trim_matches(['[', ']']).to_owned()),
    ];
    for before in 0..3 {
        // As many bytes stand before it as make another beginning, and what they have a part in is cut off.
        let padded = [vec![0; before], bytes.to_vec()].concat();
        let whole = (8 * before).div_ceil(6)..8 * padded.len() / 6;
        let encoded = [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)];
        forms.extend(encoded.map(|encoded| ("base64", encoded[whole.clone()].to_owned())));
    }
    forms
}

#[test]
fn a_secret_is_seen_in_whatever_form_it_stands_somewhere() {
    let secret = "gs_0123~456?789>abcdefghijklmnopqrstuvwxyz";
    let basic = |user: &str| STANDARD_NO_PAD.encode(format!("{user}:{secret}"));
    let hexadecimal = secret.bytes().fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
    for (form, text) in [
        ("as it is", format!("Bearer {secret}, and more")),
        ("its end", format!("…{}", &secret[secret.len() - SHORTEST..])),
        ("debug form of bytes", format!("{:?}", [b"Bearer ", secret.as_bytes()].concat())),
        ("hexadecimal", format!("0x{hexadecimal}00")),
        ("hexadecimal in capitals", hexadecimal.to_uppercase()),
        ("percent-encoded", secret.bytes().fold(String::new(), |all, byte| format!("{all}%{byte:02X}"))),
        ("base64", basic("a")),
        ("base64, begun one later", basic("ab")),
        ("base64, begun two later", basic("abc")),
        ("base64url, more behind it", URL_SAFE_NO_PAD.encode(format!("{secret}?>~"))),
    ] {
        let mut watch = Watch::default();
        watch.secret("secret", secret);
        watch.saw("here", "nothing of it: gs_0123~456?789>abcdefghijklmnopqrstuvwxy");
        assert!(watch.found().is_empty(), "{:?}", watch.found());
        watch.saw("there", text);
        assert!(watch.found().iter().all(|(_, _, places)| places == &["there"]) && !watch.found().is_empty(), "{form}");
    }
}
