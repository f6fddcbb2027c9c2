//! The measured cases: one for each script, several where a script does different things.
//!
//! Responsible for what exactly is called how often. Must never include its own preparation in the figure.

use std::time::Duration;

use bytes::Bytes;
use portcullis_lua::{AdmitRequest, CompiledPolicy, PolicyStamp, Reason, Settlement, Verdict};

use crate::bench_scripts::sample::{Sample, measure, pipelined};
use crate::bench_scripts::workbench::{Workbench, delegated, idempotent, request, request_of, succeeded};
use crate::cluster::stand_in_beat;
use crate::error::HarnessError;

/// Calls of a round with one request each, and with several.
const SINGLE_CALLS: usize = 400;
const BATCH_CALLS: usize = 60;
/// Shortest valid lease, for leases that are meant to lapse.
const SHORT_LEASE_MS: u64 = 200;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`name` says what each is")]
pub enum Case {
    Floor,
    AdmitAllGates,
    AdmitIdempotent,
    AdmitNamedLimits,
    AdmitDelegated,
    AdmitRefused,
    Peek,
    Claim,
    Renew,
    Output,
    Settle,
    SettleDelegated,
    ReclaimIdle,
    ReclaimLapsed,
    Heartbeat,
    Cancel,
    Inspect,
    Survey,
}

impl Case {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 18] = [
        Self::Floor,
        Self::AdmitAllGates,
        Self::AdmitIdempotent,
        Self::AdmitNamedLimits,
        Self::AdmitDelegated,
        Self::AdmitRefused,
        Self::Peek,
        Self::Claim,
        Self::Renew,
        Self::Output,
        Self::Settle,
        Self::SettleDelegated,
        Self::ReclaimIdle,
        Self::ReclaimLapsed,
        Self::Heartbeat,
        Self::Cancel,
        Self::Inspect,
        Self::Survey,
    ];

    /// Name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "return 1",
            Self::AdmitAllGates => "admit, admitted: 2 windows, pressure, breaker, budget",
            Self::AdmitIdempotent => "admit, admitted, and an idempotency key",
            Self::AdmitNamedLimits => "admit, admitted, and 3 named limits",
            Self::AdmitDelegated => "admit, admitted, through three agents",
            Self::AdmitRefused => "admit, refused by rate limit",
            Self::Peek => "peek",
            Self::Claim => "claim",
            Self::Renew => "renew",
            Self::Output => "append_output",
            Self::Settle => "settle",
            Self::SettleDelegated => "settle, submitted through three agents",
            Self::ReclaimIdle => "reclaim, nothing lapsed",
            Self::ReclaimLapsed => "reclaim, 64 lapsed",
            Self::Heartbeat => "heartbeat",
            Self::Cancel => "cancel a waiting task",
            Self::Inspect => "inspect a task",
            Self::Survey => "survey the queues",
        }
    }

    /// Batch sizes to measure; a batch is what one call carries.
    #[must_use]
    pub fn batches(self) -> &'static [usize] {
        match self {
            Self::Floor | Self::ReclaimIdle | Self::Heartbeat | Self::Cancel | Self::Inspect | Self::Survey => &[1],
            Self::ReclaimLapsed => &[64],
            _ => &[1, 16],
        }
    }

    /// Prepares the scope, then measures one round.
    pub async fn run(self, bench: &Workbench, batch: usize) -> Result<Sample, HarnessError> {
        let calls = if batch == 1 { SINGLE_CALLS } else { BATCH_CALLS };
        match self {
            Self::Floor => {
                let call = |_| async { bench.probe.evalsha(&bench.floor).await.map(drop) };
                let work = async || pipelined((0..calls).map(call)).await;
                measure(&bench.probe, calls as u64, work).await
            }
            Self::AdmitAllGates | Self::AdmitNamedLimits => {
                let policy = if self == Self::AdmitAllGates { &bench.policy } else { &bench.limited };
                admit(bench, policy, batch, (0..batch * calls).map(request).collect()).await
            }
            Self::AdmitIdempotent => {
                let requests = (0..batch * calls).map(|number| idempotent(request(number))).collect();
                admit(bench, &bench.policy, batch, requests).await
            }
            Self::AdmitDelegated => {
                let requests = (0..batch * calls).map(|number| delegated(request(number))).collect();
                admit(bench, &bench.policy, batch, requests).await
            }
            Self::AdmitRefused => refused(bench, batch, calls).await,
            Self::Peek => peek(bench, batch, (0..batch * calls).map(request).collect()).await,
            Self::Claim => claim(bench, batch, calls).await,
            Self::Renew | Self::Output | Self::Settle | Self::SettleDelegated => {
                leased(self, bench, batch, calls).await
            }
            Self::ReclaimLapsed => reclaim_lapsed(bench, batch).await,
            Self::ReclaimIdle | Self::Heartbeat | Self::Survey => repeated(self, bench, calls).await,
            Self::Cancel | Self::Inspect => waiting(self, bench, calls).await,
        }
    }
}

async fn admit(
    bench: &Workbench,
    policy: &CompiledPolicy,
    batch: usize,
    requests: Vec<AdmitRequest>,
) -> Result<Sample, HarnessError> {
    let call = |batch| async move {
        let decisions = bench.scope.admit(policy, batch).await?;
        match decisions.iter().find(|one| !matches!(one.verdict, Verdict::Admitted { .. })) {
            Some(other) => Err(HarnessError::Answer(format!("not admitted: {:?}", other.verdict))),
            None => Ok(()),
        }
    };
    let work = async || pipelined(requests.chunks(batch).map(call)).await;
    measure(&bench.probe, requests.len() as u64, work).await
}

/// Every session of the batch has used up its burst.
async fn refused(bench: &Workbench, batch: usize, calls: usize) -> Result<Sample, HarnessError> {
    let burst = bench.document.limits_of(&portcullis_config::UserType::anonymous()).map_or(0, |limit| limit.burst);
    let sessions: Vec<String> = (0..batch).map(|number| format!("exhausted-{number:02}")).collect();
    let requests: Vec<AdmitRequest> = sessions.iter().map(|session| request_of("anonymous", session)).collect();
    for _ in 0..burst {
        let again: Vec<AdmitRequest> = sessions.iter().map(|session| request_of("anonymous", session)).collect();
        bench.scope.admit(&bench.policy, &again).await?;
    }
    let call = |_| async {
        for decision in bench.scope.admit(&bench.policy, &requests).await? {
            match decision.verdict {
                Verdict::Refused(refusal) if refusal.reason == Reason::BurstLimit => {}
                other => return Err(HarnessError::Answer(format!("not refused: {other:?}"))),
            }
        }
        Ok(())
    };
    let work = async || pipelined((0..calls).map(call)).await;
    measure(&bench.probe, (batch * calls) as u64, work).await
}

async fn peek(bench: &Workbench, batch: usize, requests: Vec<AdmitRequest>) -> Result<Sample, HarnessError> {
    let call = |batch| async move { bench.scope.peek(&bench.policy, batch).await.map(drop).map_err(Into::into) };
    let work = async || pipelined(requests.chunks(batch).map(call)).await;
    measure(&bench.probe, requests.len() as u64, work).await
}

async fn claim(bench: &Workbench, batch: usize, calls: usize) -> Result<Sample, HarnessError> {
    bench.admit_waiting(batch * calls).await?;
    let call = |_| async move {
        let claimed = bench.scope.claim(&bench.policy, batch as u32).await?.leases.len();
        if claimed == batch { Ok(()) } else { Err(HarnessError::Answer(format!("claimed {claimed} of {batch}"))) }
    };
    let work = async || pipelined((0..calls).map(call)).await;
    measure(&bench.probe, (batch * calls) as u64, work).await
}

/// What is done under a lease; for output, the batch is the pieces of one task.
async fn leased(case: Case, bench: &Workbench, batch: usize, calls: usize) -> Result<Sample, HarnessError> {
    if case == Case::SettleDelegated {
        bench.admit_delegated(batch * calls).await?;
    } else {
        bench.admit_waiting(batch * calls).await?;
    }
    let leases = bench.take(batch * calls).await?;
    let proofs: Vec<_> = leases.iter().map(|lease| (lease.task_id.clone(), lease.token)).collect();
    let settlements: Vec<Settlement> = leases.iter().map(succeeded).collect();
    let renew = |batch| async move { bench.scope.renew(&bench.policy, batch).await.map(drop).map_err(Into::into) };
    let settle = |batch| async move { bench.scope.settle(&bench.policy, batch).await.map(drop).map_err(Into::into) };
    let output = |lease| async move {
        let pieces = vec![Bytes::from_static(b"a piece of output"); batch];
        bench.scope.append_output(&bench.policy, lease, 0, pieces).await.map(drop).map_err(Into::into)
    };
    let work = async || match case {
        Case::Renew => pipelined(proofs.chunks(batch).map(renew)).await,
        Case::Output => pipelined(leases.iter().take(calls).map(output)).await,
        _ => pipelined(settlements.chunks(batch).map(settle)).await,
    };
    measure(&bench.probe, (batch * calls) as u64, work).await
}

async fn reclaim_lapsed(bench: &Workbench, batch: usize) -> Result<Sample, HarnessError> {
    let count = batch * 16;
    let mut document = bench.document.clone();
    document.queue.lease_ms = SHORT_LEASE_MS;
    let policy = CompiledPolicy::new(&document, PolicyStamp::NONE);
    bench.admit_waiting(count).await?;
    for _ in 0..count / batch {
        bench.scope.claim(&policy, batch as u32).await?;
    }
    // Nothing announces that a lease has lapsed: that is what reclaiming is for.
    tokio::time::sleep(Duration::from_millis(SHORT_LEASE_MS * 2)).await;
    let work = async || {
        for _ in 0..count / batch {
            bench.scope.reclaim(&policy).await?;
        }
        Ok(())
    };
    measure(&bench.probe, count as u64, work).await
}

async fn repeated(case: Case, bench: &Workbench, calls: usize) -> Result<Sample, HarnessError> {
    let beat = stand_in_beat("bench".to_owned(), 8);
    let work = async || {
        for _ in 0..calls {
            match case {
                Case::Heartbeat => drop(bench.scope.heartbeat(&bench.policy, &beat).await?),
                Case::Survey => drop(bench.scope.queues(&bench.policy).await?),
                _ => drop(bench.scope.reclaim(&bench.policy).await?),
            }
        }
        Ok(())
    };
    measure(&bench.probe, calls as u64, work).await
}

async fn waiting(case: Case, bench: &Workbench, calls: usize) -> Result<Sample, HarnessError> {
    let requests: Vec<AdmitRequest> = (0..calls).map(request).collect();
    for batch in requests.chunks(16) {
        bench.scope.admit(&bench.policy, batch).await?;
    }
    let work = async || {
        for request in &requests {
            if case == Case::Cancel {
                bench.scope.cancel(&bench.policy, &request.task_id, &request.principal).await?;
            } else {
                bench.scope.task(&request.task_id).await?;
            }
        }
        Ok(())
    };
    measure(&bench.probe, calls as u64, work).await
}
