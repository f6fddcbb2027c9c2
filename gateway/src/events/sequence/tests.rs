//! Lives of tasks, cut at every point.

use super::*;
use crate::task_view::tests::record;

/// How far a task has come that has had attempts of these (number, ended).
fn progress(status: TaskStatus, attempts: &[(u32, bool)]) -> Progress {
    Progress::from(&record(status, attempts))
}

fn piece(attempt: u64, piece: u64) -> Output {
    Output { id: OutputId { attempt, piece }, data: Bytes::from(format!("{attempt}.{piece}")) }
}

/// The events as `id what`.
fn told(events: &[Event]) -> Vec<String> {
    let what = |event: &Event| match event {
        Event::Status { status, attempt, .. } => format!("{} {attempt}", status.as_str()),
        Event::Output { data, .. } => String::from_utf8_lossy(data).into_owned(),
        Event::Done { .. } => "done".to_owned(),
    };
    events.iter().map(|event| format!("{} {}", event.id(), what(event))).collect()
}

fn from_start(progress: &Progress, pieces: Vec<Output>) -> Vec<String> {
    told(&events_after(Cursor::START, progress, pieces, true).0)
}

#[test]
fn a_life_with_a_retry_is_told_in_order() {
    let pieces = vec![piece(1, 1), piece(1, 2), piece(2, 1)];
    let expected = [
        "0-1 queued 0",
        "1-0 running 1",
        "1-1 1.1",
        "1-2 1.2",
        "1-18446744073709551615 queued 1",
        "2-0 running 2",
        "2-1 2.1",
        "3-0 done",
    ];
    assert_eq!(from_start(&progress(TaskStatus::Succeeded, &[(1, true), (2, true)]), pieces), expected);
}

#[test]
fn a_task_that_never_ran_ends_after_it_was_queued() {
    assert_eq!(from_start(&progress(TaskStatus::Cancelled, &[]), vec![]), ["0-1 queued 0", "1-0 done"]);
    assert_eq!(from_start(&progress(TaskStatus::Queued, &[]), vec![]), ["0-1 queued 0"]);
}

#[test]
fn waiting_between_two_attempts_is_told_and_ending_after_the_last_is_not() {
    let waits = from_start(&progress(TaskStatus::Queued, &[(1, true)]), vec![]);
    assert_eq!(waits, ["0-1 queued 0", "1-0 running 1", "1-18446744073709551615 queued 1"]);
    let dead = from_start(&progress(TaskStatus::Dead, &[(1, true)]), vec![]);
    assert_eq!(dead, ["0-1 queued 0", "1-0 running 1", "2-0 done"]);
}

/// The states of one life, in order; a client that looks at any of them, in any rhythm, sees the same events.
fn life() -> Vec<(Progress, Vec<Output>)> {
    let output = [piece(1, 1), piece(1, 2), piece(2, 1), piece(2, 2)];
    vec![
        (progress(TaskStatus::Queued, &[]), vec![]),
        (progress(TaskStatus::Running, &[(1, false)]), vec![]),
        (progress(TaskStatus::Running, &[(1, false)]), output[..1].to_vec()),
        (progress(TaskStatus::Running, &[(1, false)]), output[..2].to_vec()),
        (progress(TaskStatus::Queued, &[(1, true)]), output[..2].to_vec()),
        (progress(TaskStatus::Running, &[(1, true), (2, false)]), output[..2].to_vec()),
        (progress(TaskStatus::Running, &[(1, true), (2, false)]), output.to_vec()),
        (progress(TaskStatus::Failed, &[(1, true), (2, true)]), output.to_vec()),
    ]
}

/// Looks at the progress of one state and the output of a later one until nothing is left, `page` pieces at a time.
fn look(cursor: &mut Cursor, progress: &Progress, output: &[Output], page: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let after: Vec<Output> =
            output.iter().filter(|piece| Cursor::from(piece.id) > *cursor).take(page).cloned().collect();
        let complete = after.len() < page;
        let (events, _) = events_after(*cursor, progress, after, complete);
        let Some(last) = events.last() else { return seen };
        *cursor = last.id();
        seen.extend(events);
    }
}

#[test]
fn whatever_the_rhythm_of_looking_there_is_no_gap_and_no_repeat() {
    let life = life();
    let (last_record, last_output) = life.last().unwrap();
    let expected = from_start(last_record, last_output.clone());
    for page in 1..=5 {
        // Every subset of the states, and for each the output of the same or of the next state: it is read later.
        for visited in 0..1_u32 << (life.len() - 1) {
            for lead in 0..=1 {
                let (mut cursor, mut seen) = (Cursor::START, Vec::new());
                for (index, (record, _)) in life.iter().enumerate() {
                    if index + 1 == life.len() || visited >> index & 1 == 1 {
                        let output = &life[(index + lead).min(life.len() - 1)].1;
                        seen.extend(look(&mut cursor, record, output, page));
                    }
                }
                assert_eq!(told(&seen), expected, "page {page}, visited {visited:b}, lead {lead}");
            }
        }
    }
}

#[test]
fn a_stream_resumes_after_any_event() {
    let record = progress(TaskStatus::Succeeded, &[(1, true), (2, true)]);
    let output = vec![piece(1, 1), piece(2, 1)];
    let (all, _) = events_after(Cursor::START, &record, output.clone(), true);
    for (index, event) in all.iter().enumerate() {
        let cursor = Cursor::parse(&event.id().to_string()).unwrap();
        let after = output.iter().filter(|piece| Cursor::from(piece.id) > cursor).cloned().collect();
        assert_eq!(events_after(cursor, &record, after, true).0, all[index + 1..]);
    }
    assert_eq!(all.last().unwrap().id(), end_of(&record.attempts));
}

#[test]
fn output_of_an_attempt_not_yet_known_waits_and_asks_for_another_look() {
    let running = progress(TaskStatus::Running, &[(1, false)]);
    let (events, look_again) =
        events_after(Cursor::parse("1-0").unwrap(), &running, vec![piece(1, 1), piece(2, 1)], true);
    assert_eq!(told(&events), ["1-1 1.1"]);
    assert!(look_again);
    let (events, look_again) = events_after(Cursor::parse("1-1").unwrap(), &running, vec![], true);
    assert!(events.is_empty() && !look_again);
}

#[test]
fn ids_have_one_spelling() {
    assert_eq!(Cursor::parse("2-18446744073709551615"), Some(Cursor::waits_again(2)));
    assert_eq!(Cursor::parse("0-0"), Some(Cursor::START));
    for text in ["", "1", "1-", "-1", "+1-1", "1-1-1", "a-1", "1-18446744073709551616", "4294967296-0", " 1-1"] {
        assert_eq!(Cursor::parse(text), None, "{text:?}");
    }
}
