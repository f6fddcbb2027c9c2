//! A line of an export of a chain.
//!
//! Responsible for one form that whoever writes exports and whoever checks them agree on: newline-delimited JSON, an
//! entry a line in the order of the stream, then a line with the head as it was before the entries were read. Must
//! never be taken for proof of anything by itself: `verify_chain` judges.

use serde::{Deserialize, Serialize};

use super::{ChainEntry, ChainHead};

/// A line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum ExportLine {
    /// `{"id":…,"fields":[[NAME,VALUE],…]}`.
    Entry(ChainEntry),
    /// `{"head":{"number":N,"hash":…}}`, or `{"head":null}` of a chain that has no entry yet.
    Head {
        /// The newest entry.
        // It has to be said, or every object would be a head.
        #[serde(deserialize_with = "Option::deserialize")]
        head: Option<ChainHead>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let lines = [
            r#"{"id":"1-0","fields":[["prev","x"],["about",{"hex":"ff1f"}]]}"#,
            r#"{"head":{"number":3,"hash":"abc"}}"#,
            r#"{"head":null}"#,
        ];
        for text in lines {
            let line: ExportLine = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
        }
        for text in [
            r#"{"tail":1}"#,
            r#"{"id":"1-0","fields":[],"approved":"by everybody"}"#,
            r#"{"head":null,"approved":"by everybody"}"#,
            r#"{"head":{"number":3,"hash":"abc","at":"noon"}}"#,
        ] {
            assert!(serde_json::from_str::<ExportLine>(text).is_err(), "{text}");
        }
    }
}
