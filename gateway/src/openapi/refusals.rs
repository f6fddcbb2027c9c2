//! How each operation may refuse.
//!
//! Responsible for which causes may come of which operation. Must never spell a code or a status: both come from the
//! tables that the answers are written by.

use std::collections::BTreeMap;

use portcullis_lua::{Reason, Step};
use serde_json::{Value, json};
use utoipa::IntoResponses;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::header;
use crate::decide::Profile;
use crate::refusal::Cause;
use crate::respond::{status, status_for};

/// Whoever has a caller may fail to find out who it is, and whoever answers may fail.
const SESSION: [Cause; 8] = [
    Cause::Unauthenticated,
    Cause::Unattributable,
    Cause::Forbidden,
    Cause::AddressRefused,
    Cause::FailedAttempts,
    Cause::IdentityUnavailable,
    Cause::StoreUnavailable,
    Cause::Internal,
];

/// Whoever reads a body.
const BODY: [Cause; 3] = [Cause::Invalid, Cause::BodyTimeout, Cause::PayloadTooLarge];

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $causes:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                by_status($causes)
            }
        }
    )+};
}

refusals! {
    /// A submission passes all six steps.
    Submitting = Reason::ALL.map(Cause::Decided).into_iter().chain(SESSION).chain(BODY).chain([
        Cause::InsufficientScope,
        Cause::Draining,
    ]);
    /// Something of this gateway's own is read.
    Reading = SESSION;
    /// A question with parameters, about the caller.
    Asking = SESSION.into_iter().chain([Cause::Invalid, Cause::InsufficientScope]);
    /// A session that is wanted.
    OpeningSession = SESSION.into_iter().chain(BODY).chain([Cause::InsufficientScope, Cause::TooManyWrites]);
    /// A session of the caller's, which may not be there.
    EndingSession = SESSION.into_iter().chain([Cause::NotFound]);
    /// A delegation that is wanted.
    Minting = SESSION.into_iter().chain(BODY).chain([
        Cause::InsufficientScope,
        Cause::TooManyWrites,
        Cause::NotFound,
    ]);
    /// A delegation that is taken back, and may not be the caller's.
    TakingBack = SESSION.into_iter().chain(BODY).chain([Cause::TooManyWrites, Cause::NotFound]);
    /// What needs no credential.
    Open = [Cause::NotFound];
    /// Something that may not be there.
    Following = SESSION.into_iter().chain([Cause::Invalid, Cause::NotFound, Cause::Draining, Cause::StreamLimit]);
    /// A task of the caller's, which may not be there.
    TaskOf = SESSION.into_iter().chain([Cause::NotFound]);
    /// A place of the caller's, which may not be there.
    EndingPass = SESSION.into_iter().chain([Cause::Invalid, Cause::NotFound, Cause::Draining]);
    /// An operator's question about no scope.
    Unguarded = SESSION;
    /// A question about the process, which only the bearer of the token may ask.
    Metering = SESSION.into_iter().chain([Cause::NotFound]);
    /// An operator's question about a scope, or about something in it, that may not be there for the operator.
    Surveying = SESSION.into_iter().chain([Cause::Invalid, Cause::NotFound]);
    /// A document that is only looked at.
    Validating = SESSION.into_iter().chain(BODY).chain([Cause::NotFound]);
    /// A policy that is stored, unless another one was meanwhile.
    Changing = SESSION.into_iter().chain(BODY).chain([
        Cause::NotFound,
        Cause::TooManyWrites,
        Cause::RevisionConflict { current: 0 },
        Cause::PreconditionRequired,
    ]);
    /// Something that is revoked by an operator.
    Revoking = SESSION.into_iter().chain(BODY).chain([Cause::NotFound, Cause::TooManyWrites]);
}

/// Every status by which one of the proxies is told of a refusal.
#[derive(Debug)]
pub(crate) enum Deciding {}

impl IntoResponses for Deciding {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let decided = Reason::ALL.into_iter().filter(|reason| reason.step() != Step::Enqueue).map(Cause::Decided);
        let causes: Vec<Cause> = decided
            .chain(SESSION)
            .chain([Cause::Invalid, Cause::InsufficientScope, Cause::NotFound, Cause::Draining])
            .collect();
        let mut codes: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
        for (_, profile) in Profile::NAMES {
            for cause in &causes {
                let told = codes.entry(status_for(profile, status(*cause)).as_u16()).or_default();
                if !told.contains(&cause.code()) {
                    told.push(cause.code());
                }
            }
        }
        // The body says the status it really was.
        codes.into_iter().map(|(status, codes)| (status.to_string(), refusal(None, codes).into())).collect()
    }
}

/// One response for each status these causes have, in the order of the causes.
fn by_status(causes: impl IntoIterator<Item = Cause>) -> BTreeMap<String, RefOr<Response>> {
    grouped(causes)
        .into_iter()
        .map(|(status, codes)| (status.to_string(), refusal(Some(status), codes).into()))
        .collect()
}

fn grouped(causes: impl IntoIterator<Item = Cause>) -> BTreeMap<u16, Vec<&'static str>> {
    let mut codes: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for cause in causes {
        let of_status = codes.entry(status(cause).as_u16()).or_default();
        if !of_status.contains(&cause.code()) {
            of_status.push(cause.code());
        }
    }
    codes
}

/// Problem details with one of these codes, and this status, if it is always the one of the answer.
fn refusal(status: Option<u16>, codes: Vec<&'static str>) -> Response {
    let description = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    let mut narrowed = ObjectBuilder::new().property("code", code);
    if let Some(status) = status {
        narrowed =
            narrowed.property("status", ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([status])));
    }
    let schema = AllOfBuilder::new().item(Ref::from_schema_name("Problem")).item(narrowed);
    let content = Content::new(Some(schema));
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

/// The refusals of a request for the application, which has no operation of its own.
pub(super) fn of_the_application() -> Value {
    let upstream = [
        Cause::UpstreamUnreachable,
        Cause::UpstreamTimeout,
        Cause::UpstreamInvalid,
        Cause::StreamLimit,
        Cause::Forbidden,
    ];
    let decided = Reason::ALL.into_iter().filter(|reason| *reason != Reason::IdempotencyMismatch).map(Cause::Decided);
    let causes = decided.chain(SESSION).chain(BODY).chain([Cause::Draining]).chain(upstream);
    let named = grouped(causes).into_iter().map(|(status, codes)| {
        let mut operation = json!({"responses": {status.to_string(): refusal(Some(status), codes)}});
        header::attach(&mut operation, true);
        (format!("Proxied{status}"), operation["responses"][status.to_string()].take())
    });
    Value::Object(named.collect())
}
