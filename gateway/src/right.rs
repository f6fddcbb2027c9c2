//! What a credential may have been given for: the scopes (RFC 6749 §3.3) of this interface.
//!
//! Responsible for their names and for when one covers another. Must never be asked about user types: those say how
//! much a caller may do, scopes say what. A session of a person has every scope; API keys, delegations and tokens of
//! issuers whose scopes count have those they were given.

/// To read tasks and follow their events.
pub(crate) const READ_TASKS: &str = "tasks:read";
/// To cancel tasks.
pub(crate) const CANCEL_TASKS: &str = "tasks:cancel";
/// To see limits and budgets.
pub(crate) const READ_QUOTA: &str = "quota:read";
/// To open sessions.
pub(crate) const OPEN_SESSIONS: &str = "sessions:open";
/// To delegate to agents.
pub(crate) const MINT_DELEGATIONS: &str = "delegations:mint";
/// To operate a scope.
pub(crate) const ADMIN: &str = "admin";

/// Everything a credential may be given for, as documents list it; `*` stands for the name of a kind or of a class.
pub(crate) const ALL: [&str; 8] =
    ["tasks:submit:*", READ_TASKS, CANCEL_TASKS, READ_QUOTA, "routes:call:*", OPEN_SESSIONS, MINT_DELEGATIONS, ADMIN];

/// To submit tasks of a kind.
pub(crate) fn submit(kind: &str) -> String {
    format!("tasks:submit:{kind}")
}

/// To have requests of a route class decided or passed on.
pub(crate) fn call(class: &str) -> String {
    format!("routes:call:{class}")
}

/// Whether `granted` covers `needed`: it is the same, or ends in `*` after whole segments that `needed` begins with.
/// The same rule as between the hops of a delegation.
pub(crate) fn covers(granted: &str, needed: &str) -> bool {
    match granted.strip_suffix('*') {
        Some("") => true,
        Some(before) => before.ends_with(':') && needed.len() > before.len() && needed.starts_with(before),
        None => granted == needed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_itself_and_with_a_star_what_is_below_it() {
        assert!(covers("*", "admin") && covers("tasks:*", READ_TASKS) && covers("tasks:submit:*", &submit("chat")));
        assert!(covers(&submit("chat"), &submit("chat")) && covers("routes:*", &call("reports")));
    }

    #[test]
    fn nothing_else_is_covered() {
        let pairs = [
            ("tasks:submit:*", "tasks:submit"),
            ("tasks:submit:*", "tasks:submitter:x"),
            ("tasks:sub*", "tasks:submit:chat"),
            ("tasks:submit:chat", "tasks:submit:chatter"),
            ("tasks:submit:chat", "tasks:submit:*"),
            ("tasks:submit:", "tasks:submit:chat"),
            ("", "admin"),
            ("Admin", "admin"),
            ("tasks:*", "tasks:"),
        ];
        for (granted, needed) in pairs {
            assert!(!covers(granted, needed), "{granted} {needed}");
        }
    }
}
