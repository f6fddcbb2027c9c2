//! The plots of a report: one run over its time.
//!
//! Responsible for which lines stand in which plot. Must never ask the network for anything, and must never fail
//! because a run has little to show: a plot without points says so.

pub mod series;
pub mod chart;
pub mod band;
pub mod calls;
pub mod cluster;

pub use chart::{Color, Plot};

use crate::record::Record;
use crate::report::plot::chart::Chart;
use crate::report::plot::series::Span;

/// Every plot, in reading order.
#[must_use]
pub fn plots(record: &Record) -> Vec<Plot> {
    let span = Span::of(record);
    let charts: [Chart; 7] = [
        calls::latency(record, &span),
        calls::answers(record, &span),
        cluster::depth(record, &span),
        cluster::slots(record, &span),
        cluster::redis_time(record, &span),
        cluster::redis_commands(record, &span),
        cluster::processors(record, &span),
    ];
    charts.into_iter().map(|chart| chart.draw(&span, &record.faults)).collect()
}
