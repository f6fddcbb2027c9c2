//! A chain that is whole, and every way to break it, without Redis.

use super::*;

/// An entry after the one of this hash, as the scripts write it.
fn entry(number: u64, prev: &str, about: &[u8]) -> ChainEntry {
    let text = |value: &[u8]| Text::new(Bytes::copy_from_slice(value));
    let mut entry = ChainEntry {
        id: format!("{number}-0"),
        fields: vec![
            ("prev".to_owned(), text(prev.as_bytes())),
            ("hash".to_owned(), text(BEGIN.as_bytes())),
            ("n".to_owned(), text(number.to_string().as_bytes())),
            ("about".to_owned(), text(about)),
        ],
    };
    entry.fields[1].1 = text(entry.hash(prev).as_bytes());
    entry
}

fn chain(length: u64) -> Vec<ChainEntry> {
    let mut entries: Vec<ChainEntry> = Vec::new();
    for number in 1..=length {
        let prev = entries.last().map_or(BEGIN, |last| last.place().unwrap().2).to_owned();
        entries.push(entry(number, &prev, &[number as u8, 0xff, 0x1f]));
    }
    entries
}

fn head(entries: &[ChainEntry]) -> ChainHead {
    let (number, _, hash) = entries.last().unwrap().place().unwrap();
    ChainHead { number, hash: hash.to_owned() }
}

#[test]
fn a_whole_chain_has_no_break_and_neither_has_one_whose_oldest_were_trimmed() {
    let entries = chain(9);
    let head = head(&entries);
    for first in 1..=9 {
        let range = verify_chain(&entries[first - 1..], Some(&head));
        assert_eq!(range, Ok(Some(ChainRange { first: first as u64, last: head.clone() })));
    }
    assert_eq!(verify_chain(&[], None), Ok(None));
}

#[test]
fn an_entry_that_is_taken_away_moved_changed_or_replaced_is_found() {
    let whole = chain(9);
    let head = head(&whole);
    let broken = |change: &dyn Fn(&mut Vec<ChainEntry>)| {
        let mut entries = whole.clone();
        change(&mut entries);
        verify_chain(&entries, Some(&head)).unwrap_err()
    };
    let id = |number: u64| format!("{number}-0");
    for place in 1..8 {
        let number = place as u64 + 1;
        let missing = ChainBreak::Missing { after: number - 1, number: number + 1, id: id(number + 1) };
        assert_eq!(broken(&|entries| drop(entries.remove(place))), missing);
        assert_eq!(broken(&|entries| entries.swap(place, place + 1)), missing);
        for field in [2, 3] {
            let altered = broken(&|entries| entries[place].fields[field].1 = Text::new(Bytes::from_static(b"77")));
            assert!(matches!(altered, ChainBreak::Altered { .. }), "{altered:?}");
        }
        let renamed = broken(&|entries| entries[place].fields[3].0 = "more".to_owned());
        assert_eq!(renamed, ChainBreak::Altered { number, id: id(number) });
        let more = broken(&|entries| {
            let twice = entries[place].fields[1].clone();
            entries[place].fields.push(twice);
        });
        assert_eq!(more, ChainBreak::Altered { number, id: id(number) });
        let forged = broken(&|entries| {
            let prev = entries[place].place().unwrap().1.to_owned();
            entries[place] = entry(number, &prev, b"forged");
        });
        assert_eq!(forged, ChainBreak::Replaced { number: number + 1, id: id(number + 1) });
        let repeated = broken(&|entries| entries.insert(place + 1, entries[place].clone()));
        assert_eq!(repeated, ChainBreak::Reordered { after: number, number, id: id(number) });
    }
    let forged = broken(&|entries| {
        let prev = entries[8].place().unwrap().1.to_owned();
        entries[8] = entry(9, &prev, b"forged");
    });
    assert_eq!(forged, ChainBreak::Replaced { number: 9, id: id(9) });
    assert_eq!(broken(&|entries| entries.truncate(5)), ChainBreak::Truncated { last: 5, head: 9 });
    assert_eq!(broken(&Vec::clear), ChainBreak::Truncated { last: 0, head: 9 });
    assert_eq!(broken(&|entries| entries[3].fields.clear()), ChainBreak::Foreign { id: id(4) });
    let anew = broken(&|entries| entries[0] = entry(1, &"f".repeat(40), b"begun elsewhere"));
    assert_eq!(anew, ChainBreak::Replaced { number: 1, id: id(1) });
}

#[test]
fn an_export_says_every_byte() {
    for entry in chain(3) {
        let written = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<ChainEntry>(&written).unwrap(), entry, "{written}");
    }
    for bad in [r#"{"id":"1-0","fields":[["n",{"hex":"f"}]]}"#, r#"{"id":"1-0","fields":[["n",{"hex":"é0"}]]}"#] {
        assert!(serde_json::from_str::<ChainEntry>(bad).is_err(), "{bad}");
    }
}
