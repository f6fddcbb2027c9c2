//! Scopes: what a token lets its holder do.
//!
//! Responsible for the grammar and for which scope covers which. Must never guess: a text outside the grammar is no
//! scope, and two scopes that only look alike do not cover each other.
//!
//! A scope is segments of `a-z 0-9 _ . -` joined by `:`. A last segment of `*` covers everything below, and nothing
//! beside: `a:b:*` covers `a:b:x`, `a:b:x:y` and `a:b:x:*`, but neither `a:b` nor `a:bx`. `*` alone covers everything.

use std::fmt;
use std::str::FromStr;

/// Most scopes of one token: comparing two sets takes the product of their sizes.
pub const SCOPES_MAX: usize = 64;

/// One scope of the grammar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(String);

impl Scope {
    /// The text, as it stands in a token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `*`, which only a root may carry.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0 == "*"
    }

    /// Whether whoever has this scope has `other` too.
    #[must_use]
    pub fn covers(&self, other: &Scope) -> bool {
        match self.0.strip_suffix('*') {
            // What remains of `a:b:*` is `a:b:`, so that `a:b` and `a:bx` stay outside.
            Some(above) => other.0.starts_with(above),
            None => self.0 == other.0,
        }
    }
}

/// A text that is no scope, or no list of scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a scope: segments of a-z, 0-9, _, . and - joined by ':', the last of which may be *")]
pub struct NotScope;

impl FromStr for Scope {
    type Err = NotScope;

    fn from_str(text: &str) -> Result<Self, NotScope> {
        let named = match text.strip_suffix('*') {
            Some("") => return Ok(Self(text.to_owned())),
            Some(above) => above.strip_suffix(':').ok_or(NotScope)?,
            None => text,
        };
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        let valid = named.split(':').all(|segment| !segment.is_empty() && segment.bytes().all(allowed));
        if valid { Ok(Self(text.to_owned())) } else { Err(NotScope) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The scopes of one token: at least one, at most [`SCOPES_MAX`], none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// These scopes; an error if there are none, too many, or one twice.
    pub fn new(scopes: Vec<Scope>) -> Result<Self, NotScope> {
        let repeated = scopes.iter().enumerate().any(|(index, scope)| scopes[..index].contains(scope));
        if scopes.is_empty() || scopes.len() > SCOPES_MAX || repeated { Err(NotScope) } else { Ok(Self(scopes)) }
    }

    /// Whether one of these covers `scope`.
    #[must_use]
    pub fn covers(&self, scope: &Scope) -> bool {
        self.0.iter().any(|own| own.covers(scope))
    }

    /// Whether each of `other` is covered.
    #[must_use]
    pub fn covers_all(&self, other: &ScopeSet) -> bool {
        other.0.iter().all(|scope| self.covers(scope))
    }

    /// One by one, in the order of the token.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

impl FromStr for ScopeSet {
    type Err = NotScope;

    /// From the form in a token: joined by exactly one space.
    fn from_str(text: &str) -> Result<Self, NotScope> {
        // Counted first: the grammar is not run over a list that is too long anyway.
        if text.bytes().filter(|byte| *byte == b' ').count() >= SCOPES_MAX {
            return Err(NotScope);
        }
        Self::new(text.split(' ').map(Scope::from_str).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str(" ")?;
            }
            scope.fmt(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap_or_else(|_| panic!("{text:?} is a scope"))
    }

    #[test]
    fn a_star_covers_what_is_below_and_nothing_beside() {
        let cases = [
            ("a:b:*", "a:b:x", true),
            ("a:b:*", "a:b:x:y", true),
            ("a:b:*", "a:b:x:*", true),
            ("a:b:*", "a:b:*", true),
            ("a:b:*", "a:b", false),
            ("a:b:*", "a:bx", false),
            ("a:b:*", "a:bx:c", false),
            ("a:b:*", "a:*", false),
            ("a:b:*", "*", false),
            ("a:*", "a:b:*", true),
            ("a", "a", true),
            ("a", "a:b", false),
            ("a:b", "a:b:*", false),
            ("*", "a", true),
            ("*", "a:*", true),
            ("*", "*", true),
        ];
        for (broad, narrow, covered) in cases {
            assert_eq!(scope(broad).covers(&scope(narrow)), covered, "{broad} over {narrow}");
        }
    }

    #[test]
    fn what_is_outside_the_grammar_is_no_scope() {
        for text in ["", ":", "a:", ":a", "a::b", "a:*:b", "a*", "a:b*", "**", "*:a", "A", "a b", "a:é", "a/b", "a\n"]
        {
            assert_eq!(text.parse::<Scope>(), Err(NotScope), "{text:?}");
        }
    }

    #[test]
    fn a_set_is_written_with_single_spaces_and_names_nothing_twice() {
        let set: ScopeSet = "tools:call:* quota:read".parse().unwrap();
        assert_eq!(set.to_string(), "tools:call:* quota:read");
        assert_eq!(set.iter().count(), 2);
        let crowd: Vec<String> = (0..=SCOPES_MAX).map(|index| format!("s{index}")).collect();
        assert!(crowd[1..].join(" ").parse::<ScopeSet>().is_ok());
        for text in ["", " ", "a  b", " a", "a ", "a a", "a\tb", &crowd.join(" ")] {
            assert_eq!(text.parse::<ScopeSet>(), Err(NotScope), "{text:?}");
        }
    }

    #[test]
    fn every_scope_of_the_child_must_be_covered() {
        let parent: ScopeSet = "tools:call:* quota:read".parse().unwrap();
        assert!(parent.covers_all(&"tools:call:search quota:read".parse().unwrap()));
        assert!(!parent.covers_all(&"tools:call:search quota:write".parse().unwrap()));
    }
}
