//! The tables of a report, as data: the terminal and the page show the same.
//!
//! Responsible for what stands in which table and in how many digits. Must never compute a figure.

use std::fmt::Write;

use crate::record::Fault;
use crate::report::Table;
use crate::report::figures::{Figures, Traffic};
use crate::report::quantiles::Quantiles;
use crate::report::summary::Summary;

/// Commands of Redis that are shown.
const COMMANDS: usize = 8;

/// A table with what to know about it.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its title.
    pub title: &'static str,
    /// One line about how to read it; may be empty.
    pub note: String,
    /// The table; never without rows.
    pub table: Table,
}

/// Every table that has something to show, in reading order. Invariants are not among them: they have evidence.
#[must_use]
pub fn sections(summary: &Summary) -> Vec<Section> {
    let figures = &summary.figures;
    let all = [
        expectations(summary),
        traffic(&figures.traffic),
        refusals(&figures.traffic),
        failures(&figures.traffic),
        times(figures),
        work(figures),
        redis(figures),
        processes(figures),
        faults(&summary.faults),
    ];
    all.into_iter().filter(|section| !section.table.is_empty()).collect()
}

fn expectations(summary: &Summary) -> Section {
    let mut table = Table::new(&["figure", "wanted", "found", "verdict"]);
    for expected in &summary.expectations {
        let verdict = if expected.met { "met" } else { "NOT MET" };
        table.row([expected.name.clone(), expected.wanted.clone(), expected.found.clone(), verdict.to_owned()]);
    }
    Section { title: "Expectations", note: String::new(), table }
}

fn traffic(traffic: &Traffic) -> Section {
    let mut table = Table::new(&["user type", "calls", "admitted", "share", "refused", "failed"]);
    for (user_type, of_type) in &traffic.by_user_type {
        let refused: u64 = of_type.refused_by.values().sum();
        table.row([
            user_type.clone(),
            of_type.calls.to_string(),
            of_type.admitted.to_string(),
            share(of_type.admitted, of_type.calls),
            refused.to_string(),
            of_type.failed.to_string(),
        ]);
    }
    let Traffic { calls, requests, admitted, refused, failed, unexpected, .. } = traffic;
    if *calls > 0 {
        let total = [calls, admitted].map(u64::to_string);
        let [calls_shown, admitted_shown] = total;
        let share = share(*admitted, *calls);
        table.row(["all".to_owned(), calls_shown, admitted_shown, share, refused.to_string(), failed.to_string()]);
    }
    let mut note = format!(
        "{requests} requests wanted an answer, in {calls} calls over {:.1} s: {:.0} calls/s, {:.0} admitted/s",
        traffic.seconds, traffic.calls_per_second, traffic.admitted_per_second,
    );
    if *unexpected > 0 {
        let _ = write!(note, "; {unexpected} answers were neither a task nor a refusal");
    }
    Section { title: "Calls", note, table }
}

fn refusals(traffic: &Traffic) -> Section {
    let mut table = Table::new(&["refused by", "step", "calls", "share of calls"]);
    for (code, refusals) in &traffic.refused_by {
        table.row([
            code.clone(),
            refusals.step.clone(),
            refusals.count.to_string(),
            share(refusals.count, traffic.calls),
        ]);
    }
    Section { title: "Refusals", note: String::new(), table }
}

fn failures(traffic: &Traffic) -> Section {
    let mut table = Table::new(&["no answer because", "calls", "share of calls"]);
    for (why, count) in &traffic.failed_by {
        table.row([why.clone(), count.to_string(), share(*count, traffic.calls)]);
    }
    let note = match traffic.unsent {
        0 => String::new(),
        unsent => format!("{unsent} of them were never sent"),
    };
    Section { title: "Failures", note, table }
}

fn times(figures: &Figures) -> Section {
    let mut table = Table::new(&["ms", "count", "p50", "p90", "p99", "p99.9", "longest"]);
    let (traffic, work) = (&figures.traffic, &figures.work);
    let rows: [(&str, &Quantiles); 8] = [
        ("answer, admitted", &traffic.admitted_latency),
        ("answer, refused", &traffic.refused_latency),
        ("hope given up", &traffic.failed_latency),
        ("sent → handler starts", &work.sent_to_start),
        ("decided → handler starts", &work.decided_to_start),
        ("handler", &work.service),
        ("accepted → ended", &work.in_system),
        ("harness behind schedule", &traffic.behind),
    ];
    for (name, quantiles) in rows.into_iter().filter(|(_, quantiles)| quantiles.count > 0) {
        let Quantiles { count, p50_ms, p90_ms, p99_ms, p999_ms, max_ms } = *quantiles;
        let ms = |value: f64| format!("{value:.2}");
        table.row([name.to_owned(), count.to_string(), ms(p50_ms), ms(p90_ms), ms(p99_ms), ms(p999_ms), ms(max_ms)]);
    }
    let note = "Answers count from the moment the schedule intended, so a slow answer hides no wait behind it. \
                decided → starts and accepted → ended are in whole ms of Redis's clock."
        .to_owned();
    Section { title: "Times", note, table }
}

fn work(figures: &Figures) -> Section {
    let mut table = Table::new(&["work", "value"]);
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    };
    let (work, depth) = (&figures.work, &figures.depth);
    let done = (work.attempts > 0).then_some(work);
    let counts = |work: &crate::report::figures::Work| {
        let (all, good, bad, cut) = (work.attempts, work.succeeded, work.failed, work.abandoned);
        format!("{all} of {} tasks: {good} succeeded, {bad} failed, {cut} abandoned", work.tasks)
    };
    row("attempts", done.map(counts));
    row("goodput", done.map(|work| format!("{:.1}/s", work.goodput_per_second)));
    row("capacity of the backend", work.capacity_per_second.map(|capacity| format!("{capacity:.1}/s")));
    row("goodput of capacity", work.goodput_of_capacity.map(percent));
    row("slots, mean", work.slots.map(|slots| format!("{slots:.1}")));
    row("fewest live processors", depth.fewest_processors.map(|count| count.to_string()));
    row("peak depth", depth.peak.map(|peak| format!("{peak} at {:.1} s", depth.peak_at_seconds)));
    row("capacity and hard limit then", depth.capacity.zip(depth.hard_limit).map(|(a, b)| format!("{a} and {b}")));
    row("largest share of the hard limit", depth.share_of_hard_limit.map(percent));
    row("dead letters at the end", depth.dead.map(|dead| dead.to_string()));
    Section { title: "Work and depth", note: String::new(), table }
}

fn redis(figures: &Figures) -> Section {
    let redis = &figures.redis;
    let mut table = Table::new(&["redis command", "calls", "µs each", "µs per call of a client", "share of time"]);
    let mut sent: Vec<_> = redis.by_command.iter().filter(|(_, one)| !one.inside_scripts && one.calls > 0).collect();
    sent.sort_by_key(|(_, one)| std::cmp::Reverse(one.time_us));
    for (name, command) in sent.into_iter().take(COMMANDS) {
        let each = command.time_us as f64 / command.calls as f64;
        let per_call = match figures.traffic.calls {
            0 => "–".to_owned(),
            calls => format!("{:.1}", command.time_us as f64 / calls as f64),
        };
        let share = share(command.time_us, redis.time_us);
        table.row([name.clone(), command.calls.to_string(), format!("{each:.1}"), per_call, share]);
    }
    let mut note = format!(
        "{:.0} commands/s, busy {}; per call {:.2} commands and {:.1} µs",
        redis.commands_per_second,
        percent(redis.busy),
        redis.commands_per_call,
        redis.us_per_call,
    );
    if let (Some(commands), Some(us)) = (redis.commands_per_decision, redis.us_per_decision) {
        let _ = write!(note, "; per decision {commands:.2} commands and {us:.1} µs");
    }
    note += ". A script's time includes the commands inside it, which are not listed again. \
             Of the harness's own questions only a few per sample are in these figures.";
    Section { title: "Redis", note, table }
}

fn processes(figures: &Figures) -> Section {
    let mut table = Table::new(&["process", "cpu s", "cores", "µs per call", "peak MiB"]);
    for (name, process) in &figures.processes {
        table.row([
            name.clone(),
            format!("{:.2}", process.cpu_seconds),
            format!("{:.2}", process.cores),
            format!("{:.1}", process.us_per_call),
            format!("{:.1}", process.peak_resident_bytes as f64 / f64::from(1 << 20)),
        ]);
    }
    Section { title: "Processes", note: String::new(), table }
}

fn faults(faults: &[Fault]) -> Section {
    let mut table = Table::new(&["fault", "from s", "to s", "detail"]);
    for fault in faults {
        let seconds = |at_us: u64| format!("{:.1}", at_us as f64 / 1e6);
        let until = fault.until_us.map_or_else(|| "–".to_owned(), seconds);
        table.row([fault.name.clone(), seconds(fault.at_us), until, fault.detail.clone()]);
    }
    Section { title: "Faults", note: String::new(), table }
}

fn share(part: u64, of: u64) -> String {
    if of == 0 { "–".to_owned() } else { percent(part as f64 / of as f64) }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
