//! Which handler runs which kind of task.
//!
//! Responsible for the lookup (the exact kind, then `*`) and for reading `KIND=TARGET` as operators write it. Must
//! never guess: an attempt of a kind nobody registered fails as `no_handler`, to be retried where the kind is known.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use portcullis_config::masked;

use super::{Echo, Handler, HttpHandler, Sleep, UnusableTarget};

/// Handlers by task kind; `*` takes every kind that has none of its own.
#[derive(Clone, Default)]
pub struct Handlers {
    by_kind: BTreeMap<String, Arc<dyn Handler>>,
}

/// Why a `KIND=TARGET` is refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum HandlerFault {
    #[error("handler {text:?}: expected KIND=TARGET, such as chat=http://worker:9000/chat or *=builtin:echo")]
    Shape { text: String },
    #[error("handler {text:?}: a kind is `*` or 1 to 64 of a-z 0-9 . _ - and starts with a letter or digit")]
    Kind { text: String },
    #[error("handler {text:?}: {kind} has a handler already")]
    Twice { text: String, kind: String },
    #[error("handler {text:?}: the built-in handlers are builtin:echo and builtin:sleep")]
    BuiltIn { text: String },
    #[error("handler {text:?}: {source}")]
    Target { text: String, source: UnusableTarget },
}

impl Handlers {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a handler for a kind, or for all others with `*`. The last one for a kind counts.
    #[must_use]
    pub fn with(mut self, kind: &str, handler: impl Handler) -> Self {
        self.by_kind.insert(kind.to_owned(), Arc::new(handler));
        self
    }

    /// Reads `KIND=TARGET` entries; all that is wrong with them at once.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<HandlerFault>> {
        let (mut handlers, mut faults) = (Self::new(), Vec::new());
        for entry in entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
            match parse_entry(entry) {
                Ok((kind, _)) if handlers.by_kind.contains_key(&kind) => {
                    faults.push(HandlerFault::Twice { text: shown(entry), kind });
                }
                Ok((kind, handler)) => {
                    handlers.by_kind.insert(kind, handler);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(handlers) } else { Err(faults) }
    }

    /// Whether nobody is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_kind.is_empty()
    }

    /// The registered kinds, `*` among them, in a stable order.
    #[must_use]
    pub fn kinds(&self) -> Vec<String> {
        self.by_kind.keys().cloned().collect()
    }

    /// The handler for a kind and the kind it is registered for.
    pub(crate) fn find(&self, kind: &str) -> Option<(&str, &Arc<dyn Handler>)> {
        let found = self.by_kind.get_key_value(kind).or_else(|| self.by_kind.get_key_value("*"));
        found.map(|(registered, handler)| (registered.as_str(), handler))
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_kind.keys()).finish()
    }
}

fn parse_entry(entry: &str) -> Result<(String, Arc<dyn Handler>), HandlerFault> {
    let text = || shown(entry);
    let (kind, target) = entry.split_once('=').ok_or_else(|| HandlerFault::Shape { text: text() })?;
    if !well_formed(kind) {
        return Err(HandlerFault::Kind { text: text() });
    }
    let handler: Arc<dyn Handler> = match target.strip_prefix("builtin:") {
        Some("echo") => Arc::new(Echo),
        Some("sleep") => Arc::new(Sleep),
        Some(_) => return Err(HandlerFault::BuiltIn { text: text() }),
        None => {
            let handler = HttpHandler::new(target).map_err(|source| HandlerFault::Target { text: text(), source })?;
            Arc::new(handler)
        }
    };
    Ok((kind.to_owned(), handler))
}

/// The entry without what may be a credential in it.
fn shown(entry: &str) -> String {
    match entry.split_once('=') {
        Some((kind, target)) => format!("{kind}={}", masked(target)),
        None => masked(entry),
    }
}

fn well_formed(kind: &str) -> bool {
    kind == "*"
        || (kind.len() <= 64
            && kind.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_kind_comes_before_the_star() {
        let handlers = Handlers::parse(["*=builtin:echo", "chat=builtin:sleep"]).unwrap();
        assert_eq!(handlers.find("chat").unwrap().0, "chat");
        assert_eq!(handlers.find("chat.long").unwrap().0, "*");
        assert_eq!(handlers.kinds(), ["*", "chat"]);
    }

    #[test]
    fn without_a_star_unknown_kinds_have_no_handler() {
        let handlers = Handlers::parse(["chat=http://127.0.0.1:9/run?x=1"]).unwrap();
        assert!(handlers.find("chat").is_some());
        assert!(handlers.find("report").is_none());
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = Handlers::parse([
            "chat",
            "Chat=builtin:echo",
            "=builtin:echo",
            "a=builtin:echo",
            "a=builtin:sleep",
            "b=builtin:nothing",
            "c=ftp://somewhere/",
            "d=not a url",
            "e=ftp://ada:canary@somewhere/?token=canary",
            "f=ada:canary@somewhere?api_key=canary",
            "",
        ])
        .unwrap_err();
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 9, "{texts:#?}");
        assert!(texts[3].contains("a has a handler already"), "{texts:#?}");
        assert!(texts[5].contains("http"), "{texts:#?}");
        for text in &texts[7..] {
            assert!(text.contains("somewhere") && !text.contains("canary"), "{text}");
        }
    }
}
