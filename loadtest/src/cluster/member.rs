//! Which process of a cluster: `gateway-0`, `processor-1`.
//!
//! Responsible for the one spelling of these names: in scenarios, records, messages and `INSTANCE_ID`. Must never hold
//! the process itself, which may be another one after a restart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A place for a process in a cluster. The process in it may be killed and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Member {
    /// The gateway of this number, from 0.
    Gateway(usize),
    /// The processor of this number, from 0.
    Processor(usize),
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(index) => write!(f, "gateway-{index}"),
            Self::Processor(index) => write!(f, "processor-{index}"),
        }
    }
}

/// Not the name of a member.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither gateway-N nor processor-N")]
pub struct InvalidMember(String);

impl FromStr for Member {
    type Err = InvalidMember;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMember(name.to_owned());
        let (role, index) = name.rsplit_once('-').ok_or_else(invalid)?;
        let index = index.parse().map_err(|_| invalid())?;
        match role {
            "gateway" => Ok(Self::Gateway(index)),
            "processor" => Ok(Self::Processor(index)),
            _ => Err(invalid()),
        }
    }
}

impl From<Member> for String {
    fn from(member: Member) -> Self {
        member.to_string()
    }
}

impl TryFrom<String> for Member {
    type Error = InvalidMember;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for member in [Member::Gateway(0), Member::Processor(12)] {
            assert_eq!(member.to_string().parse::<Member>().expect("a name"), member);
        }
        for name in ["gateway", "gateway-", "gateway-x", "redis-0", ""] {
            assert!(name.parse::<Member>().is_err(), "{name:?}");
        }
    }
}
