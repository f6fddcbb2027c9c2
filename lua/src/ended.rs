//! What is said of the end of something that an agent was let do: whose it was, and through whom it was asked for.
//!
//! Responsible for the part of the event that the ending script cannot know, and for its bound: at most a kilobyte and
//! a half. Must never say what was asked or answered: the task's record has that, for its owner.

use serde::{Deserialize, Serialize};

use crate::envelope::Envelope;
use crate::error::StoreError;
use crate::key::bounded;
use crate::provenance::Hop;
use crate::task::{Lease, Purpose, TaskId};

/// Longest kind and code in an event, bytes; the policy and handlers may have longer ones.
const WORD_BYTES: usize = 128;

/// For whom and through whom something was asked for by an agent. Of a record that cannot be read nobody is known: its
/// end is told of all the same, because it may have been an agent's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    /// For whom; one that is long, by its digest.
    pub principal: String,
    /// The agents it was handed through, root first; those that are long, by their digests.
    pub agents: Vec<String>,
}

/// The end of a task or a pass, but for how and when.
#[derive(Debug, Serialize)]
struct About<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(flatten)]
    acting: &'a Acting,
}

impl Acting {
    /// Who asked, through this chain; `None` where no agent did.
    pub(crate) fn of_chain(principal: &str, hops: &[Hop]) -> Option<Self> {
        let agents = hops.iter().map(|hop| bounded(&hop.client_id).into_owned()).collect();
        Self::new(principal, agents)
    }

    /// The same, of their names.
    pub(crate) fn new(principal: &str, agents: Vec<String>) -> Option<Self> {
        (!agents.is_empty()).then(|| Self { principal: bounded(principal).into_owned(), agents })
    }

    /// Who asked for the task of this record.
    pub(crate) fn of_task(envelope: &Envelope) -> Option<Self> {
        Self::new(&envelope.principal, envelope.agents.clone())
    }

    /// Who asked for the task of this lease.
    pub(crate) fn of_lease(lease: &Lease) -> Option<Self> {
        if lease.purpose == Purpose::Unreadable { Some(Self::default()) } else { Self::of_task(&lease.envelope) }
    }

    /// What the script says of a task that ends; with the code that its record gives as the reason.
    pub(crate) fn ends_task(&self, task_id: &TaskId, kind: &str, code: Option<&str>) -> Result<Vec<u8>, StoreError> {
        let code = code.map(word);
        about(&About { task: Some(task_id.as_str()), pass: None, kind: word(kind), code, acting: self })
    }

    /// What the script says of a pass that ends.
    pub(crate) fn ends_pass(&self, pass_id: &TaskId, kind: &str) -> Result<Vec<u8>, StoreError> {
        about(&About { task: None, pass: Some(pass_id.as_str()), kind: word(kind), code: None, acting: self })
    }
}

/// The beginning of a name that may be long.
fn word(text: &str) -> &str {
    let end = (0..=WORD_BYTES.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// As JSON without its opening brace: the script says first how it ended.
fn about(about: &About<'_>) -> Result<Vec<u8>, StoreError> {
    let mut json = serde_json::to_vec(about).map_err(|error| StoreError::Protocol(error.to_string()))?;
    json.remove(0);
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_says_whose_it_was_in_order_and_stays_short() {
        let long = "n".repeat(256);
        let hop = |name: &str| Hop { client_id: name.to_owned(), ..Hop::default() };
        assert_eq!(Acting::of_chain("ada", &[]), None, "nobody acted for her");
        let acting = Acting::of_chain("ada", &[hop("planner"), hop("say \"hi\"")]).unwrap();
        let id = TaskId::generate();
        let told = format!(
            "{{\"status\":\"dead\",{}",
            String::from_utf8(acting.ends_task(&id, "k", Some("c")).unwrap()).unwrap()
        );
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let expected = serde_json::json!({
            "status": "dead", "task": id.as_str(), "kind": "k", "code": "c", "principal": "ada",
            "agents": ["planner", "say \"hi\""],
        });
        assert_eq!(told, expected);
        let most = Acting::of_chain(&"é".repeat(4000), &vec![hop(&long); crate::MOST_HOPS]).unwrap();
        let told = most.ends_task(&id, &"é".repeat(300), Some(&long)).unwrap();
        assert!(told.len() < 1500, "{}", told.len());
    }
}
