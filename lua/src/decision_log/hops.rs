//! The chain of delegations in a decision event: said once by a batch, and never longer than [`CHAIN_BYTES`].
//!
//! Responsible for the bound: agents choose what their chains say, as many chains as they like, and every batch is kept
//! until thousands have come after it. Must never drop a hop, its digest or its end, or cut a text without saying so.
//!
//! As text: nothing, where there is no chain; [`SAME`] and the number of the event of the batch, from 0, that has the
//! same chain; or [`WHOLE`] or [`CUT`] and then the hops, root first, as in [`push_hop`].

use std::borrow::Cow;
use std::fmt::Write;

use crate::error::StoreError;
use crate::provenance::Hop;

/// Most bytes of a chain in an event. Eight hops as people make them have less.
pub(super) const CHAIN_BYTES: usize = 2048;

/// Longest text of a hop, bytes, where its chain is too long otherwise: the first of these that makes it fit. With the
/// last any chain does: eight hops of four texts, and at most 110 bytes of digest, numbers and separators each.
const TEXT_BYTES: [usize; 4] = [128, 80, 48, 32];

/// Before the hops of a chain that is said as it was shown.
const WHOLE: char = '=';
/// Before those of one whose longest texts end early.
const CUT: char = '~';
/// Before the number of the event that says the same chain.
const SAME: char = '@';

const HOP_SEPARATOR: char = '\u{1d}';
const FIELD_SEPARATOR: char = '\u{1e}';

/// A chain as an event says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) hops: Vec<Hop>,
    /// Texts in it end early.
    pub(super) cut: bool,
}

/// Says the chain of a request; `before` are those of the requests before it in its batch.
pub(super) fn push<'a>(text: &mut String, hops: &[Hop], mut before: impl Iterator<Item = &'a [Hop]>) {
    let Some(leaf) = hops.last() else { return };
    // Most differ in the last digest already.
    let same = |other: &[Hop]| other.last().is_some_and(|last| last.hash == leaf.hash) && other == hops;
    if let Some(number) = before.position(same) {
        // Writing to a String does not fail.
        let _ = write!(text, "{SAME}{number}");
        return;
    }
    let start = text.len();
    for most in std::iter::once(usize::MAX).chain(TEXT_BYTES) {
        text.truncate(start);
        text.push(if most == usize::MAX { WHOLE } else { CUT });
        for hop in hops {
            push_hop(text, hop, most);
        }
        if text.len() - start <= CHAIN_BYTES {
            return;
        }
    }
}

/// Agent, id, digest, scope, expiry, reason, calls per minute and calls per hour.
fn push_hop(text: &mut String, hop: &Hop, most: usize) {
    let number = |bound: Option<u64>| bound.map_or_else(String::new, |bound| bound.to_string());
    let fields = [
        cut(&hop.client_id, most),
        cut(&hop.jti, most),
        &hop.hash,
        cut(&hop.scope, most),
        &hop.exp.to_string(),
        cut(&hop.reason, most),
        &number(hop.calls_per_min),
        &number(hop.calls_per_hour),
    ];
    for field in fields {
        text.push_str(&harmless(field));
        text.push(FIELD_SEPARATOR);
    }
    text.push(HOP_SEPARATOR);
}

/// The beginning of a text, at most this many bytes.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Without what separates events, hops and fields. Chains that were verified have none of it.
fn harmless(field: &str) -> Cow<'_, str> {
    let separates = |letter: char| letter.is_control();
    if field.contains(separates) { field.replace(separates, "").into() } else { field.into() }
}

/// Reads what [`push`] wrote; `before` are the chains of the earlier events of the batch.
pub(super) fn read<'a>(text: &str, before: impl FnOnce(usize) -> Option<&'a Said>) -> Result<Said, StoreError> {
    let unreadable = || StoreError::Protocol("the chain of a decision event cannot be read".to_owned());
    let mut rest = text.chars();
    match rest.next() {
        None => Ok(Said::default()),
        Some(SAME) => rest.as_str().parse().ok().and_then(before).cloned().ok_or_else(unreadable),
        Some(marker @ (WHOLE | CUT)) => {
            let hops = rest.as_str().split_terminator(HOP_SEPARATOR).map(read_hop);
            let hops = hops.collect::<Option<Vec<Hop>>>().ok_or_else(unreadable)?;
            Ok(Said { hops, cut: marker == CUT })
        }
        Some(_) => Err(unreadable()),
    }
}

fn read_hop(text: &str) -> Option<Hop> {
    let fields: Vec<&str> = text.split_terminator(FIELD_SEPARATOR).collect();
    let [client_id, jti, hash, scope, exp, reason, per_min, per_hour] = fields[..] else { return None };
    let bound = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    Some(Hop {
        client_id: client_id.to_owned(),
        jti: jti.to_owned(),
        hash: hash.to_owned(),
        scope: scope.to_owned(),
        exp: exp.parse().ok()?,
        reason: reason.to_owned(),
        calls_per_min: bound(per_min)?,
        calls_per_hour: bound(per_hour)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::MOST_HOPS;

    /// A hop whose texts are this long, as long as they may be shown with.
    fn hop(number: usize, length: usize) -> Hop {
        let text = |first: &str| format!("{first}{number}{}", "é".repeat(length));
        Hop {
            client_id: text("a"),
            jti: text("j"),
            hash: format!("{number:x>43}"),
            scope: text("s"),
            exp: 99_999_999_999,
            reason: text("r"),
            calls_per_min: number.is_multiple_of(2).then_some(1_000_000_000),
            calls_per_hour: number.is_multiple_of(3).then_some(u64::MAX),
        }
    }

    fn said(batch: &[Vec<Hop>]) -> Vec<String> {
        let one = |(number, hops): (usize, &Vec<Hop>)| {
            let mut text = String::new();
            push(&mut text, hops, batch[..number].iter().map(Vec::as_slice));
            text
        };
        batch.iter().enumerate().map(one).collect()
    }

    fn heard(texts: &[String]) -> Vec<Said> {
        texts.iter().fold(Vec::new(), |mut before, text| {
            let said = read(text, |number| before.get(number)).unwrap();
            before.push(said);
            before
        })
    }

    #[test]
    fn a_chain_is_said_once_by_a_batch_and_read_back_by_all_that_share_it() {
        let (one, other): (Vec<Hop>, Vec<Hop>) =
            ((0..3).map(|n| hop(n, 20)).collect(), (0..2).map(|n| hop(n, 20)).collect());
        let mut another = one.clone();
        another[0].reason = "of the same leaf, which cannot be".to_owned();
        let batch = [one.clone(), vec![], other.clone(), one.clone(), one.clone(), other.clone(), another.clone()];
        let texts = said(&batch);
        assert_eq!([texts[1].as_str(), &texts[3], &texts[4], &texts[5]], ["", "@0", "@0", "@2"]);
        let heard = heard(&texts);
        assert_eq!(heard.iter().map(|said| &said.hops).collect::<Vec<_>>(), batch.iter().collect::<Vec<_>>());
        assert!(heard.iter().all(|said| !said.cut));
    }

    #[test]
    fn no_chain_takes_more_than_its_bytes_and_each_hop_stays_in_its_place() {
        for hops in 1..=MOST_HOPS {
            for length in [0, 8, 15, 16, 17, 40, 64, 128, 400, 4000] {
                let chain: Vec<Hop> = (0..hops).map(|number| hop(number, length)).collect();
                let texts = said(std::slice::from_ref(&chain));
                assert!(texts[0].len() <= CHAIN_BYTES, "{hops} hops of {length}: {}", texts[0].len());
                let [Said { hops: heard, cut }] = &heard(&texts)[..] else { panic!("one") };
                let whole: usize = chain.iter().map(|hop| hop.client_id.len() * 4 + 110).sum();
                assert!(if *cut { whole > CHAIN_BYTES } else { *heard == chain }, "{hops} hops of {length}");
                let known = |hop: &Hop| (hop.hash.clone(), hop.exp, hop.calls_per_min, hop.calls_per_hour);
                assert_eq!(heard.iter().map(known).collect::<Vec<_>>(), chain.iter().map(known).collect::<Vec<_>>());
                for (heard, shown) in heard.iter().zip(&chain) {
                    assert!(
                        shown.reason.starts_with(&heard.reason) && heard.reason.len() >= shown.reason.len().min(31)
                    );
                    assert!(shown.client_id.starts_with(&heard.client_id) && !heard.client_id.is_empty());
                }
            }
        }
    }

    #[test]
    fn what_separates_cannot_be_said_by_an_agent() {
        let mut odd = hop(1, 3);
        odd.reason = "one\u{1e}two\u{1d}three\u{1f}@0".to_owned();
        let heard = heard(&said(&[vec![odd, hop(2, 3)]]));
        assert_eq!(heard[0].hops[0].reason, "onetwothree@0");
        assert_eq!(heard[0].hops[1], hop(2, 3));
    }

    #[test]
    fn what_nobody_wrote_is_not_read() {
        for text in ["@", "@1", "@x", "?", "=a", "=a\u{1e}\u{1d}", "~\u{1d}"] {
            assert!(read(text, |_| None).is_err(), "{text:?}");
        }
    }
}
