//! Constraints: numbers that bound what a token's holder may use.
//!
//! Responsible for their form and for when a child's are no looser than its parent's. Must never know what a key means:
//! whoever serves the request applies it.

use serde::{Deserialize, Serialize};

/// Most constraints of one token.
pub const CONSTRAINTS_MAX: usize = 16;

/// Longest key, bytes.
const KEY_MAX: usize = 64;

/// An upper bound, such as at most 60 calls a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// What is bounded: 1 to 64 of `a-z 0-9 _`, such as `calls_per_min`.
    pub key: String,
    /// The most that is allowed, in the unit that the key names.
    pub max: u64,
}

/// Whether these can stand in a token: not too many, keys of the grammar, none twice.
pub(crate) fn are_well_formed(constraints: &[Constraint]) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    constraints.len() <= CONSTRAINTS_MAX
        && constraints.iter().enumerate().all(|(index, constraint)| {
            let key = &constraint.key;
            let new = !constraints[..index].iter().any(|earlier| earlier.key == *key);
            new && (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(allowed)
        })
}

/// Whether the child has every constraint of its parent, none of them looser. It may have more.
pub(crate) fn are_narrower(child: &[Constraint], parent: &[Constraint]) -> bool {
    parent.iter().all(|bound| child.iter().any(|own| own.key == bound.key && own.max <= bound.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraint(key: &str, max: u64) -> Constraint {
        Constraint { key: key.into(), max }
    }

    #[test]
    fn a_child_keeps_every_bound_and_may_add_some() {
        let parent = [constraint("calls", 60), constraint("tokens", 1000)];
        assert!(are_narrower(&parent, &parent));
        assert!(are_narrower(&[constraint("x", 1), constraint("tokens", 10), constraint("calls", 0)], &parent));
        assert!(!are_narrower(&[constraint("calls", 60)], &parent));
        assert!(!are_narrower(&[constraint("calls", 61), constraint("tokens", 1000)], &parent));
        assert!(are_narrower(&[], &[]));
    }

    #[test]
    fn keys_are_of_the_grammar_and_stand_once() {
        assert!(are_well_formed(&[constraint("calls_per_min", 60), constraint("x2", 0)]));
        for key in ["", "A", "a b", "a:b", &"k".repeat(KEY_MAX + 1)] {
            assert!(!are_well_formed(&[constraint(key, 1)]), "{key:?}");
        }
        assert!(!are_well_formed(&[constraint("a", 1), constraint("a", 2)]));
        let crowd: Vec<_> = (0..=CONSTRAINTS_MAX).map(|index| constraint(&format!("k{index}"), 1)).collect();
        assert!(!are_well_formed(&crowd) && are_well_formed(&crowd[1..]));
    }
}
