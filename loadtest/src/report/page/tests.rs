//! Pages of records that hold much, little, nothing and malice.

use std::collections::BTreeMap;

use super::*;
use crate::invariant::Verdicts;
use crate::record::{CommandTotal, Fault, ProcessSample, Sample};
use crate::report::ExpectationResult;
use crate::report::sample::{admitted, attempt, failed, record_of, refused};

const HOSTILE: &str = "</svg><script>alert(1)</script>\"'<img src=x onerror=y>";

fn page(record: &Record, verdicts: &Verdicts) -> String {
    html(record, &Summary::of(record, verdicts, &[]))
}

/// Every opened element is closed, in order.
fn assert_well_formed(page: &str) {
    let void = ["!doctype", "meta", "br"];
    let mut open = Vec::new();
    for tag in page.split('<').skip(1).map(|rest| rest.split('>').next().expect("a tag")) {
        let name = tag.split([' ', '\n']).next().expect("a name");
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "in …{}…", &page[..200]);
        } else if !tag.ends_with('/') && !void.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

fn hostile_record() -> Record {
    let name = HOSTILE.to_owned();
    let mut record = record_of(vec![admitted(0, 0), refused(1, 500_000, HOSTILE), failed(2, 900_000, HOSTILE)]);
    record.name.clone_from(&name);
    record.callers[0].user_type.clone_from(&name);
    record.faults = vec![Fault { name: name.clone(), detail: name.clone(), at_us: 100_000, until_us: Some(300_000) }];
    let sample = |at_us| Sample {
        at_us,
        queued: Some(at_us),
        running: Some(1),
        thresholds: BTreeMap::from([(name.clone(), 5)]),
        redis: BTreeMap::from([(name.clone(), CommandTotal { calls: at_us, time_us: at_us })]),
        processes: BTreeMap::from([(name.clone(), ProcessSample { cpu_ms: at_us, resident_bytes: 1 })]),
        ..Sample::default()
    };
    record.samples = vec![sample(0), sample(500_000), sample(900_000)];
    record
}

#[test]
fn names_in_a_record_do_no_harm() {
    let (record, name) = (hostile_record(), HOSTILE.to_owned());
    let violation = Violation { invariant: name.clone(), what: name.clone(), evidence: vec![name.clone()] };
    let violated = Finding::Violated { count: 1, violations: vec![violation] };
    let silent = Finding::NotApplicable { why: name.clone() };
    let verdict =
        |finding| Verdict { invariant: name.clone(), meaning: name.clone(), finding, left_out: vec![name.clone()] };
    let verdicts = Verdicts { list: vec![verdict(violated), verdict(silent)] };
    let met = ExpectationResult { name: name.clone(), wanted: name.clone(), found: name.clone(), met: true };
    let page = html(&record, &Summary::of(&record, &verdicts, &[met]));
    assert!(!page.contains("<script") && !page.contains("<img"), "escaped nowhere");
    assert!(page.contains("&lt;script&gt;alert(1)"), "shown nowhere");
    assert_well_formed(&page);
}

#[test]
fn a_page_asks_the_network_for_nothing() {
    let page = page(&hostile_record(), &Verdicts::default());
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http:") && !outside.contains("https:") && !outside.contains("url("));
    assert!(page.contains("Content-Security-Policy") && page.contains("default-src 'none'"));
}

#[test]
fn a_record_of_nothing_has_a_page() {
    let page = page(&Record::default(), &Verdicts::default());
    assert!(page.contains("Nothing of this was measured.") && !page.contains("<svg"));
    assert_well_formed(&page);
}

#[test]
fn a_single_call_and_a_single_sample_have_a_page() {
    let mut record = record_of(vec![admitted(0, 0)]);
    record.attempts = vec![attempt(0, 500, 100)];
    record.samples = vec![Sample { at_us: 0, queued: Some(0), running: Some(0), ..Sample::default() }];
    let page = page(&record, &Verdicts::default());
    assert_eq!(page.matches("<svg").count(), 3, "latency, answers and depth");
    assert_well_formed(&page);
}

#[test]
fn a_run_in_which_everything_failed_has_a_page() {
    let record = record_of((0..50).map(|number| failed(number, number * 10_000, "refused")).collect());
    let page = page(&record, &Verdicts::default());
    assert!(!page.contains("NaN") && page.contains("no answer because"));
    assert_well_formed(&page);
}
