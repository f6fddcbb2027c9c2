//! Whether renewing and settling cost the same with a hundred leases out as with a hundred thousand.
//!
//! Responsible for the one figure in which most queues fail: a list searched from one end. Must never let the number of
//! leases change while it measures by more than what it settles.

use std::collections::HashSet;

use portcullis_lua::{Lease, Settlement, TaskId};
use serde_json::{Value, json};

use crate::bench_scripts::sample::{Figure, Sample, measure};
use crate::bench_scripts::workbench::{Workbench, succeeded};
use crate::error::HarnessError;
use crate::report::Table;

/// Leases out at once.
const IN_FLIGHT: [usize; 2] = [100, 100_000];
const BATCH: usize = 16;
/// Calls of a round.
const CALLS: usize = 6;
/// Rounds for each one asked for: with so few calls in each, one is too easily disturbed.
const REPEATS: u32 = 5;

/// Cost per request by number in flight.
#[derive(Debug)]
pub struct Scaling {
    rows: Vec<(usize, Figure, Figure)>,
}

/// Measures renew and settle at each number.
async fn measure_at(bench: &Workbench, in_flight: usize, rounds: u32) -> Result<(Figure, Figure), HarnessError> {
    bench.empty().await?;
    bench.admit_waiting(in_flight).await?;
    let mut leases = bench.take(in_flight).await?;
    let (mut renewals, mut settlements) = (Vec::new(), Vec::new());
    for _ in 0..rounds * REPEATS {
        // From all over the set, not from one end.
        let step = leases.len() / (BATCH * CALLS);
        let picked: Vec<Lease> = leases.iter().step_by(step.max(1)).take(BATCH * CALLS).cloned().collect();
        renewals.push(renew(bench, &picked).await?);
        settlements.push(settle(bench, &picked).await?);
        let ended: HashSet<&TaskId> = picked.iter().map(|lease| &lease.task_id).collect();
        leases.retain(|lease| !ended.contains(&lease.task_id));
        bench.admit_waiting(picked.len()).await?;
        leases.extend(bench.take(picked.len()).await?);
    }
    Ok((Figure::of(&renewals), Figure::of(&settlements)))
}

/// Measures at every number.
pub async fn measure_scaling(bench: &Workbench, rounds: u32) -> Result<Scaling, HarnessError> {
    let mut rows = Vec::new();
    for in_flight in IN_FLIGHT {
        let (renew, settle) = measure_at(bench, in_flight, rounds).await?;
        rows.push((in_flight, renew, settle));
    }
    bench.empty().await?;
    Ok(Scaling { rows })
}

async fn renew(bench: &Workbench, leases: &[Lease]) -> Result<Sample, HarnessError> {
    let proofs: Vec<_> = leases.iter().map(|lease| (lease.task_id.clone(), lease.token)).collect();
    let work = async || {
        for batch in proofs.chunks(BATCH) {
            bench.scope.renew(&bench.policy, batch).await?;
        }
        Ok(())
    };
    measure(&bench.probe, leases.len() as u64, work).await
}

async fn settle(bench: &Workbench, leases: &[Lease]) -> Result<Sample, HarnessError> {
    let settlements: Vec<Settlement> = leases.iter().map(succeeded).collect();
    let work = async || {
        for batch in settlements.chunks(BATCH) {
            bench.scope.settle(&bench.policy, batch).await?;
        }
        Ok(())
    };
    measure(&bench.probe, leases.len() as u64, work).await
}

impl Scaling {
    /// One row for each number in flight.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["leases out", "renew µs/lease", "settle µs/task"]);
        for (in_flight, renew, settle) in &self.rows {
            let [renew, settle] = [renew, settle].map(|figure| format!("{:.2}", figure.usec_per_request));
            table.row([in_flight.to_string(), renew, settle]);
        }
        table
    }

    /// The same as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(in_flight, renew, settle)| {
            json!({
                "leases": in_flight,
                "renew_usec": renew.usec_per_request,
                "settle_usec": settle.usec_per_request,
            })
        });
        rows.collect()
    }
}
