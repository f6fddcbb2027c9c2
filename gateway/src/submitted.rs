//! The body of a request that changes something: a JSON object, taken apart key by key.
//!
//! Responsible for reading it strictly and completely: a key given two values, a value of another type and a key that
//! nobody took are faults, because each of them would silently lose something an operator asked for. Must never hold a
//! body larger than [`MAX_BYTES`], nor wait for one longer than [`READ_BODY`], nor let a name or a reason through that
//! holds a credential: both are kept, shown and exported.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::admin::redact;
use crate::admission::enqueue;
use crate::refusal::{Cause, Refused, RequestFault};

/// Largest body, bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Longest time for a body to arrive.
const READ_BODY: Duration = Duration::from_secs(30);

/// The keys of a body that nobody has taken yet, and what was wrong with those that were taken.
#[derive(Debug, Default)]
pub(crate) struct Submitted {
    fields: Map<String, Value>,
    /// In the order in which they were found.
    pub(crate) faults: Vec<RequestFault>,
}

impl Submitted {
    /// Reads a body; nothing at all is an object without keys.
    pub(crate) async fn read(body: Body) -> Result<Self, Refused> {
        let too_large = || {
            let detail = "The body is larger than 1 MiB, the most this interface reads.";
            Refused::new(Cause::PayloadTooLarge, "Body too large", detail)
        };
        let read = timeout(READ_BODY, Limited::new(body, MAX_BYTES).collect()).await;
        let bytes = match read.map_err(|_| enqueue::body_timeout())? {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
            Err(_) => return Err(enqueue::unreadable_body()),
        };
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let fault = |message: String| Refused::invalid(vec![RequestFault::new("body", message)]);
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let text = std::str::from_utf8(bytes).map_err(|error| fault(format!("must be UTF-8: {error}")))?;
        match portcullis_config::from_json(text) {
            Ok(Value::Object(fields)) => Ok(Self { fields, faults: Vec::new() }),
            Ok(_) => Err(fault("must be a JSON object".to_owned())),
            Err(error) => Err(fault(format!("must be a JSON object: {error}"))),
        }
    }

    /// Takes the value of a key; null is as if it had not been given.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => self.wrong(name, "must be a string"),
        }
    }

    /// Takes a name of at most so many characters.
    pub(crate) fn take_name(&mut self, name: &str, most: usize) -> Option<String> {
        let text = self.take_text(name)?;
        let fits = (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if !fits {
            return self.wrong(name, format!("must be 1 to {most} printable characters"));
        }
        if redact::text(&text) == text {
            return Some(text);
        }
        self.wrong(name, "must not hold a credential: it is kept and shown")
    }

    /// Takes a reason of at most so many characters.
    pub(crate) fn take_reason(&mut self, name: &str, most: usize) -> Option<String> {
        let text = self.take_name(name, most)?;
        if text.trim().is_empty() { self.wrong(name, "must say something") } else { Some(text) }
    }

    /// Refuses the request if anything was wrong.
    pub(crate) fn sound(&mut self) -> Result<(), Refused> {
        if self.faults.is_empty() { Ok(()) } else { Err(Refused::invalid(std::mem::take(&mut self.faults))) }
    }

    /// Takes a whole number.
    pub(crate) fn take_whole(&mut self, name: &str) -> Option<u64> {
        let value = self.take(name)?;
        value.as_u64().or_else(|| self.wrong(name, "must be a whole number"))
    }

    /// Takes a truth value; false if it is not given.
    pub(crate) fn take_flag(&mut self, name: &str) -> bool {
        let Some(value) = self.take(name) else { return false };
        value.as_bool().or_else(|| self.wrong(name, "must be true or false")).unwrap_or_default()
    }

    /// The keys that nobody has taken.
    pub(crate) fn rest(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Takes all that is left.
    pub(crate) fn take_rest(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.fields)
    }

    /// Every key that is left is one that this route does not have.
    pub(crate) fn nothing_else(&mut self, known: &str) {
        let left = self.take_rest();
        let fault = |name: &String| RequestFault::new(name, format!("is not a key of this route; it has: {known}"));
        self.faults.extend(left.keys().map(fault));
    }

    /// Notes a fault.
    pub(crate) fn wrong<T>(&mut self, name: &str, message: impl Into<String>) -> Option<T> {
        self.faults.push(RequestFault::new(name, message));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Submitted {
        Submitted::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_no_object_or_gives_a_key_two_values_is_refused() {
        for text in ["[]", "5", "{", r#"{"a": 1, "a": 2}"#, r#"{"a": {"b": 1, "b": 2}}"#, "a: 1", "\u{feff}{}", " \n"] {
            let refused = Submitted::parse(text.as_bytes()).unwrap_err();
            assert_eq!((refused.cause, refused.faults[0].path.as_str()), (Cause::Invalid, "body"), "{text}");
        }
        assert!(Submitted::parse(b"{\"a\": \"\xff\"}").is_err());
        assert!(parse("").rest().is_empty());
    }

    #[test]
    fn every_value_of_another_type_and_every_key_left_is_a_fault() {
        let mut body = parse(r#"{"reason": 5, "revision": -1, "dry_run": "yes", "colour": "red", "tenant": null}"#);
        assert_eq!(body.take_text("reason"), None);
        assert_eq!(body.take_whole("revision"), None);
        assert!(!body.take_flag("dry_run"));
        assert_eq!(body.take_text("tenant"), None);
        body.nothing_else("reason, revision");
        let paths: Vec<&str> = body.faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["reason", "revision", "dry_run", "colour"]);
    }

    #[test]
    fn what_is_there_is_taken_once() {
        let mut body = parse(r#"{"reason": "r", "revision": 7, "dry_run": true}"#);
        assert_eq!(body.take_text("reason").as_deref(), Some("r"));
        assert_eq!(body.take_whole("revision"), Some(7));
        assert!(body.take_flag("dry_run"));
        body.nothing_else("");
        assert_eq!(body.faults, []);
    }

    #[test]
    fn names_and_reasons_are_short_readable_and_hold_no_credential() {
        let opaque = format!("leaked gs_{}", "canary0".repeat(6));
        for text in ["", "\u{7}", "a\nb", "abcdefghi", &opaque, "at redis://:canary@db"] {
            let mut body =
                Submitted { fields: [("a".to_owned(), text.into())].into_iter().collect(), ..Submitted::default() };
            let most = if text.contains("canary") { 100 } else { 8 };
            assert_eq!(body.take_reason("a", most), None, "{text}");
            assert!(!body.faults.is_empty() && !format!("{:?}", body.faults).contains("canary"), "{text}");
        }
        let mut body = parse(r#"{"name": "\u00dcn\u00efcode", "reason": "  "}"#);
        assert_eq!(body.take_name("name", 8).as_deref(), Some("\u{dc}n\u{ef}code"));
        assert_eq!(body.take_reason("reason", 8), None);
    }

    #[tokio::test]
    async fn a_body_has_a_bound() {
        let large = Body::from(vec![b' '; MAX_BYTES + 1]);
        assert_eq!(Submitted::read(large).await.unwrap_err().cause, Cause::PayloadTooLarge);
        assert!(Submitted::read(Body::empty()).await.unwrap().rest().is_empty());
    }
}
