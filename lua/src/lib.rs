//! The protocol in Redis: scripts, key names, and one typed binding per script. The only code that issues Redis
//! commands; what gateways and processors know of each other is here.
//!
//! Every script is atomic, runs in one slot, declares all its keys, takes the time from Redis, and bounds every range
//! it touches. What a script guarantees stands in its header.
//!
//! | script | binding | |
//! |---|---|---|
//! | `admit` | [`ScopeStore::admit`], [`ScopeStore::peek`] | decides a batch, consumes, enqueues, records |
//! | `claim` | [`ScopeStore::claim`] | leases waiting tasks under fencing tokens |
//! | `renew` | [`ScopeStore::renew`] | extends leases, hears of cancellations |
//! | `output` | [`ScopeStore::append_output`] | appends streamed output under a lease |
//! | `settle` | [`ScopeStore::settle`] | ends attempts: commit, release, retry, dead letter |
//! | `finish` | [`ScopeStore::finish`] | ends passes: place, holds, breaker |
//! | `extend` | [`ScopeStore::extend`] | passes last longer |
//! | `lapse` | [`ScopeStore::lapse`] | takes back passes that have lapsed |
//! | `reclaim` | [`ScopeStore::reclaim`] | takes back lapsed leases |
//! | `cancel` | [`ScopeStore::cancel`] | ends a waiting task, marks a running one |
//! | `heartbeat`, `leave` | [`ScopeStore::heartbeat`], [`ScopeStore::leave`] | capacity of processors |
//! | `inspect` | [`ScopeStore::task`] | all that is known of a task |
//! | `survey` | [`ScopeStore::queues`] | the scope at one moment |
//! | `tally` | [`ScopeStore::tally`] | hourly statistics |
//! | `revise` | [`ScopeStore::revise`] | compare-and-set of the policy, with record, audit event and message |
//! | `restore` | [`ScopeStore::restore`] | gives Redis back the policy it lost |
//! | `login`, `recognize` | [`ScopeStore::login`], [`ScopeStore::recognize`] | sessions, by their digests |
//! | `revoke` | [`ScopeStore::revoke`], [`ScopeStore::give_up`] | kills credentials |
//! | `revoked` | [`ScopeStore::revoked_set`] | what was revoked since a number, a page at a time |
//! | `loss` | [`ScopeStore::note_loss`] | revocations that somebody holds and Redis does not |
//! | `acknowledge` | [`ScopeStore::acknowledge_loss`] | an operator has seen that revocations were lost |
//! | `write_limit` | [`ScopeStore::count_write`] | how often a subject may change things or mint |
//! | `grant` | [`ScopeStore::note_grant`], [`ScopeStore::note_word`] | lowers and raises principals |
//! | `witness` | [`ScopeStore::witness`] | audit events about what changes nothing in Redis |
//! | `follow` | [`ScopeStore::follow`] | which policy a gateway holds, which is stored |

mod error;
mod pack;
mod reply;
mod envelope;
pub mod task;
mod provenance;
pub mod decision;
mod key;
mod stamp;
mod policy;
mod changes;
mod store;
mod script;
mod question;
mod ended;
mod pass;
mod admit;
mod decision_log;
mod claim;
mod renew;
mod output;
mod settle;
mod reclaim;
mod finish;
mod extend;
mod lapse;
mod cancel;
mod heartbeat;
mod leave;
mod inspect;
mod look;
mod survey;
mod breaker;
mod tally;
mod wake;
mod watch;
mod stored_policy;
mod revise;
mod restore;
mod revision_log;
mod chain;
mod follow;
mod replica;
mod live_policy;
mod grounds;
mod login;
mod recognize;
mod revoke;
mod revoked;
mod loss;
mod acknowledge;
mod revocation_view;
mod live_revocations;
mod write_limit;
mod once;
mod grant;
mod witness;

pub use admit::ADMIT_BATCH;
pub use breaker::BreakerView;
pub use chain::{Chain, ChainBreak, ChainEntry, ChainHead, ChainRange, ExportLine, verify_chain};
pub use changes::{Change, Topic};
pub use claim::{CLAIM_BATCH, Claimed};
pub use decision::{AdmitRequest, BudgetState, Decision, Idempotency, LimitState, Reason, Refusal, Step, Verdict};
pub use decision_log::{DecisionEvent, DecisionMark, DecisionPage, PassAsked};
pub use ended::Acting;
pub use envelope::{Envelope, Hold};
pub use error::StoreError;
pub use follow::{Presence, Said};
pub use grant::{AsOf, Noted, Stated};
pub use grounds::Grounds;
pub use heartbeat::{Heartbeat, ProcessorView};
pub use lapse::Lapsed;
pub use live_policy::{FromBasis, LivePolicy, Next, PolicyBasis, next};
pub use live_revocations::{CatchUp, LiveRevocations, News, Turn};
pub use login::{Opened, SessionKey, SessionRecord, SessionTerms};
pub use look::{LOOK_BATCH, Looked, Progress, TaskNews};
pub use once::Once;
pub use output::OUTPUT_BATCH;
pub use pass::{
    PASS_BATCH, PassEnd, PassEnded, PassExtension, PassHead, PassLease, PassOutcome, PassRecord, PassTerms,
};
pub use policy::CompiledPolicy;
pub use provenance::{Hop, MOST_HOPS, Provenance, RequestOrigin};
pub use question::chain_limits;
pub use reclaim::Reclaimed;
pub use recognize::Session;
pub use renew::Renewal;
pub use replica::{Convergence, ReplicaView, Role};
pub use revise::{NewRevision, Revised};
pub use revision_log::{AuditEvent, RevisionRecord, RevisionSummary};
pub use revocation_view::RevocationView;
pub use revoke::{Member, REVOKE_BATCH, REVOKED_MOST, REVOKED_MOST_OWN, Revocation, Revoked};
pub use revoked::{RevokedMember, RevokedSet};
pub use script::sources;
pub use settle::{SETTLE_BATCH, Settled};
pub use stamp::PolicyStamp;
pub use store::{ScopeStore, Store, StoreOptions};
pub use stored_policy::{About, Origin, Retention, StoredPolicy};
pub use survey::{PoolView, QueueView};
pub use tally::{HourStatistics, TALLY_BATCH, TallyEntry, TallyFlush};
pub use task::{
    Attempt, FencingToken, Lease, Outcome, Output, OutputId, Purpose, Settlement, TaskError, TaskId, TaskRecord,
    TaskResult, TaskStatus,
};
pub use wake::Waker;
pub use write_limit::WriteLimit;
