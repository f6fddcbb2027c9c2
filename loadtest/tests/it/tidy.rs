//! The rules of the house that a compiler does not know, as tests.
//!
//! Responsible for the invariants of absence: what must appear in one file only, or in none. Must never judge taste.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINE_MAX: usize = 120;
const FILE_MAX: usize = 400;
/// Each spelt in two halves, or this file would break its own rule.
const BANNED: [&str; 4] = [concat!("FIX", "ME"), concat!("dbg", "!("), concat!("#[ig", "nore"), concat!("TO", "DO")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Every file below `folder` with this ending, and its text.
fn files(folder: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.is_dir() && !hidden && path != root().join("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no .{ending} below {folder}");
    found.sort_unstable();
    found
}

/// Fails with every place that breaks a rule.
fn none(rule: &str, places: &[String]) {
    assert!(places.is_empty(), "{rule}:\n{}", places.join("\n"));
}

/// Lines of these files that satisfy `breaks`, as `file:line: text`.
fn lines(files: &[(PathBuf, String)], breaks: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    let numbered = files.iter().flat_map(|(path, text)| text.lines().enumerate().map(move |line| (path, line)));
    let broken = numbered.filter(|(path, (_, line))| breaks(path, line));
    broken.map(|(path, (number, line))| format!("{}:{}: {}", path.display(), number + 1, line.trim())).collect()
}

#[test]
fn no_line_is_too_long_and_no_file_either() {
    let mut sources = files("", "rs");
    sources.extend(files("lua", "lua"));
    none("longer than a line may be", &lines(&sources, |_, line| line.chars().count() > LINE_MAX));
    let long = sources.iter().map(|(path, text)| (path, text.lines().count())).filter(|(_, count)| *count > FILE_MAX);
    let long: Vec<String> = long.map(|(path, count)| format!("{}: {count} lines", path.display())).collect();
    none("longer than a file may be", &long);
}

#[test]
fn nothing_is_left_for_later() {
    let mut sources = files("", "rs");
    sources.extend(files("lua", "lua"));
    none("to be finished, not noted", &lines(&sources, |_, line| BANNED.iter().any(|word| line.contains(word))));
}

#[test]
fn every_file_says_what_it_is_responsible_for() {
    let silent = files("", "rs").into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none(
        "opens without saying what it is for",
        &silent.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>(),
    );
    let silent = files("lua", "lua").into_iter().filter(|(path, text)| {
        let script = path.parent() == Some(Path::new("lua"));
        if script { !text.starts_with("--[[\n") } else { !text.starts_with("--- ") }
    });
    none(
        "opens without saying what it is for",
        &silent.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>(),
    );
}

#[test]
fn only_the_protocol_crate_speaks_to_redis() {
    for folder in ["config", "gateway", "gateway/delegation", "processor"] {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        assert!(!manifest.contains("fred"), "{folder}/Cargo.toml names the Redis client");
        none("speaks to Redis", &lines(&files(folder, "rs"), |_, line| line.contains("fred::")));
    }
}

#[test]
fn chains_are_verified_with_nothing_but_a_key() {
    let manifest = fs::read_to_string(root().join("gateway/delegation/Cargo.toml")).expect("a manifest");
    for name in ["portcullis-", "fred", "tokio", "hyper", "axum", "reqwest"] {
        let depends = manifest.lines().any(|line| line.starts_with(name));
        assert!(!depends, "gateway/delegation/Cargo.toml depends on {name}");
    }
    let reaches_out = ["std::net", "SystemTime", "Instant"];
    let sources = files("gateway/delegation/src", "rs");
    none("reaches out", &lines(&sources, |_, line| reaches_out.iter().any(|word| line.contains(word))));
}

#[test]
fn gateway_and_processor_never_name_each_other() {
    for (folder, other) in [("gateway", "portcullis_processor"), ("processor", "portcullis_gateway")] {
        none("names the other side", &lines(&files(folder, "rs"), |_, line| line.contains(other)));
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        assert!(!manifest.contains(&other.replace('_', "-")), "{folder}/Cargo.toml names the other side");
    }
}

#[test]
fn only_one_file_maps_refusals_to_statuses() {
    let successes = ["OK", "CREATED", "ACCEPTED", "NO_CONTENT"];
    let names_refusal = |line: &str| {
        let mut named = line.split("StatusCode::").skip(1);
        named.any(|rest| {
            let name: String =
                rest.chars().take_while(|letter| letter.is_ascii_uppercase() || *letter == '_').collect();
            !name.is_empty() && !successes.contains(&name.as_str())
        })
    };
    let code = files("gateway", "rs").into_iter().map(|(path, text)| (path, without_tests(&text)));
    // Failing readiness is no refusal: no caller is turned away by it.
    let elsewhere = ["gateway/src/respond.rs", "gateway/src/health.rs"].map(Path::new);
    let code: Vec<_> = code.filter(|(path, _)| !elsewhere.contains(&path.as_path())).collect();
    none("names the status of a refusal", &lines(&code, |_, line| names_refusal(line)));
}

/// The code above a file's unit tests.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

#[test]
fn only_one_file_spells_redis_keys() {
    let kinds =
        ["limit", "budget", "breaker", "idempotency", "done", "output", "statistics", "pool", "session", "once"];
    let spells = |line: &str| kinds.iter().any(|kind| line.contains(&format!("\"{kind}:")));
    let mut sources = Vec::new();
    for folder in ["config", "lua", "gateway", "processor"] {
        sources.extend(files(folder, "rs"));
    }
    sources.retain(|(path, _)| path != Path::new("lua/src/key.rs"));
    none("spells a key", &lines(&sources, |_, line| spells(line) || line.contains("\"{{{}:{}}}")));
    // Scripts are given their keys.
    let builds = |_: &Path, line: &str| line.contains("'{'") || line.contains("\"{\"");
    none("builds a key", &lines(&files("lua", "lua"), builds));
}

#[test]
fn every_script_has_a_binding_of_its_name_and_the_reverse() {
    let stems = |folder: &str, ending: &str| -> BTreeSet<String> {
        let here = files(folder, ending).into_iter().filter(|(path, _)| path.parent() == Some(Path::new(folder)));
        here.filter_map(|(path, _)| Some(path.file_stem()?.to_string_lossy().into_owned())).collect()
    };
    let scripts = stems("lua", "lua");
    let loaded: BTreeSet<String> = portcullis_lua::sources().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(loaded, scripts, "scripts that are loaded, and scripts that are there");
    let unbound: Vec<String> = scripts.difference(&stems("lua/src", "rs")).cloned().collect();
    none("a script without a binding of its name", &unbound);
}

#[test]
fn every_setting_stands_in_the_shipped_policy() {
    let shipped = fs::read_to_string(root().join("config/default.yaml")).expect("the shipped policy");
    let words: BTreeSet<&str> = shipped.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let mut sources = files("config/src/policy", "rs");
    sources
        .push(("config/src/policy.rs".into(), fs::read_to_string(root().join("config/src/policy.rs")).expect("text")));
    let missing = lines(&sources, |_, line| {
        let Some((name, kind)) = line.strip_prefix("    pub ").and_then(|rest| rest.split_once(": ")) else {
            return false;
        };
        // What may be left out has no default to ship.
        !kind.starts_with("Option<") && !name.contains('(') && !words.contains(name)
    });
    none("a setting that the shipped policy does not mention", &missing);
}
