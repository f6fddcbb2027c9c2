//! The body of a refusal: problem details (RFC 9457).
//!
//! Responsible for their JSON. Must never choose what a refusal says: `respond.rs` does. Written member by member
//! because a flood of refusals is what a gateway spends most of its time on when it matters.

use crate::refusal::RequestFault;
use crate::text::{push_number, push_seconds, push_string};

/// What a refusal says. Members without a value are null where the public interface always names them, else left out.
#[derive(Debug)]
pub(crate) struct Problem<'a> {
    /// URI of the kind of problem.
    pub(crate) r#type: &'static str,
    pub(crate) title: &'static str,
    pub(crate) status: u16,
    pub(crate) detail: &'static str,
    pub(crate) code: &'static str,
    pub(crate) step: Option<&'static str>,
    /// Written as seconds; `None` where waiting does not help.
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) user_type: Option<&'a str>,
    pub(crate) session_id: Option<&'a str>,
    pub(crate) request_id: &'a str,
    pub(crate) limit: Option<&'a str>,
    pub(crate) budget: Option<&'a str>,
    /// As draft-ietf-httpapi-ratelimit-headers-11 has them.
    pub(crate) violated_policies: Option<&'a [&'a str]>,
    pub(crate) errors: &'a [RequestFault],
    /// The one fallback that the wait rests on.
    pub(crate) degraded: Option<&'static str>,
    /// Revision that is stored.
    pub(crate) current: Option<u64>,
}

impl Problem<'_> {
    /// The body.
    pub(crate) fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        member(&mut out, b"{\"type\":", Some(self.r#type));
        member(&mut out, b",\"title\":", Some(self.title));
        out.extend_from_slice(b",\"status\":");
        push_number(&mut out, self.status.into());
        member(&mut out, b",\"detail\":", Some(self.detail));
        member(&mut out, b",\"code\":", Some(self.code));
        member(&mut out, b",\"step\":", self.step);
        out.extend_from_slice(b",\"retry_after\":");
        match self.retry_after_ms {
            Some(ms) => push_seconds(&mut out, ms),
            None => out.extend_from_slice(b"null"),
        }
        member(&mut out, b",\"user_type\":", self.user_type);
        member(&mut out, b",\"session_id\":", self.session_id);
        member(&mut out, b",\"request_id\":", Some(self.request_id));
        for (name, value) in [(&b",\"limit\":"[..], self.limit), (b",\"budget\":", self.budget)] {
            if value.is_some() {
                member(&mut out, name, value);
            }
        }
        if let Some(violated) = self.violated_policies {
            out.extend_from_slice(b",\"violated-policies\":[");
            for (index, name) in violated.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_string(&mut out, name);
            }
            out.push(b']');
        }
        if !self.errors.is_empty() {
            out.extend_from_slice(b",\"errors\":");
            // Two strings each: this has no way to fail.
            _ = serde_json::to_writer(&mut out, self.errors);
        }
        if let Some(fallback) = self.degraded {
            push_degraded(&mut out, fallback);
        }
        if let Some(current) = self.current {
            out.extend_from_slice(b",\"current\":");
            push_number(&mut out, current);
        }
        out.push(b'}');
        out
    }
}

/// The member `degraded` of an answer that rests on this fallback, after others.
pub(crate) fn push_degraded(out: &mut Vec<u8>, fallback: &'static str) {
    out.extend_from_slice(b",\"degraded\":[");
    push_string(out, fallback);
    out.push(b']');
}

fn member(out: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    out.extend_from_slice(name);
    match value {
        Some(text) => push_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_body_is_json_whatever_stands_in_it() {
        let errors = [RequestFault::new("a\"b", "line\nend")];
        let mut problem = Problem {
            r#type: "about:blank",
            title: "T",
            status: 400,
            detail: "D",
            code: "c",
            step: None,
            retry_after_ms: None,
            user_type: None,
            session_id: Some("quote\" and \\"),
            request_id: "r",
            limit: None,
            budget: None,
            violated_policies: None,
            errors: &errors,
            degraded: None,
            current: Some(7),
        };
        let read = |problem: &Problem<'_>| serde_json::from_slice::<Value>(&problem.json()).unwrap();
        let expected = json!({
            "type": "about:blank", "title": "T", "status": 400, "detail": "D", "code": "c", "step": null,
            "retry_after": null, "user_type": null, "session_id": "quote\" and \\", "request_id": "r",
            "errors": [{"path": "a\"b", "message": "line\nend"}], "current": 7,
        });
        assert_eq!(read(&problem), expected);
        problem = Problem {
            violated_policies: Some(&["a", "b"]),
            budget: Some("daily"),
            errors: &[],
            degraded: Some("heartbeat_stale"),
            current: None,
            ..problem
        };
        let read = read(&problem);
        assert_eq!((&read["violated-policies"], &read["budget"]), (&json!(["a", "b"]), &json!("daily")));
        assert_eq!(read["degraded"], json!(["heartbeat_stale"]));
        assert_eq!((read.get("limit"), read.get("errors"), read.get("current")), (None, None, None));
    }
}
