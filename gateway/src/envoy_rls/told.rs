//! The answer to a question, made of the answer that the public listener would give.
//!
//! Responsible for saying the same in Envoy's words: one decision, so one status for all descriptors. Must never turn
//! a decision that could not be made into one: that is a failure of the call, and Envoy's configuration says what
//! follows from it.

use axum::response::Response;
use http_body_util::BodyExt;
use portcullis_lua::{LimitState, Reason};
use tonic::Status;

use super::message::{Code, DescriptorStatus, Duration, HeaderValue, RateLimit, RateLimitResponse, Unit};
use crate::refusal::{Cause, Refused};

/// Fields of the answer that go on to the client. Not the content type: Envoy's local answer has one already.
const FIELDS: [&str; 6] =
    ["retry-after", "ratelimit", "ratelimit-policy", "x-policy-revision", "x-request-id", "x-user-type"];

/// Windows as units of time, seconds.
const UNITS: [(u64, Unit); 5] =
    [(1, Unit::Second), (60, Unit::Minute), (3600, Unit::Hour), (86_400, Unit::Day), (604_800, Unit::Week)];

/// What the script or a memory of it has decided.
pub(super) struct Told {
    code: Code,
    limits: Vec<LimitState>,
    /// The limit that was exhausted.
    exhausted: Option<String>,
}

impl Told {
    /// Of a request that may go on.
    pub(super) fn allowed(limits: &[LimitState]) -> Self {
        Self { code: Code::Ok, limits: limits.to_vec(), exhausted: None }
    }

    /// Of one that may not; the error if nothing was decided.
    pub(super) fn refused(refused: &Refused) -> Result<Self, Status> {
        let exhausted = match refused.cause {
            Cause::Decided(Reason::BurstLimit) => Some("burst".to_owned()),
            Cause::Decided(Reason::HourlyLimit) => Some("hourly".to_owned()),
            Cause::Decided(_) => refused.name.as_deref().map(str::to_owned),
            Cause::StoreUnavailable | Cause::Draining => return Err(Status::unavailable(refused.detail)),
            // Somebody who is revoked. Who lets pass what was not decided must not let pass that.
            Cause::Unauthenticated => None,
            Cause::Invalid => return Err(Status::invalid_argument(faults(refused))),
            _ => return Err(Status::internal(refused.detail)),
        };
        Ok(Self { code: Code::OverLimit, limits: refused.limits.states.to_vec(), exhausted })
    }

    /// In Envoy's words, for so many descriptors; `answer` is what the public listener would say.
    pub(super) async fn response(self, answer: Response, descriptors: usize) -> RateLimitResponse {
        let (parts, body) = answer.into_parts();
        let field = |name: &&str| {
            let value = parts.headers.get(*name)?.to_str().ok()?;
            Some(HeaderValue { key: (*name).to_owned(), value: value.to_owned() })
        };
        // The body is whole already.
        let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
        RateLimitResponse {
            overall_code: self.code.into(),
            statuses: vec![self.status(); descriptors],
            response_headers_to_add: FIELDS.iter().filter_map(field).collect(),
            request_headers_to_add: Vec::new(),
            raw_body: if self.code == Code::OverLimit { body } else { Vec::new() },
        }
    }

    fn status(&self) -> DescriptorStatus {
        let exhausted = self.limits.iter().find(|limit| Some(&limit.name) == self.exhausted.as_ref());
        let limit = exhausted.or_else(|| self.limits.iter().min_by_key(|limit| limit.remaining));
        let mut status = DescriptorStatus { code: self.code.into(), ..DescriptorStatus::default() };
        if let Some(limit) = limit {
            status.current_limit = Some(current(limit));
            status.limit_remaining = u32::try_from(limit.remaining).unwrap_or(u32::MAX);
            status.duration_until_reset = Some(Duration {
                seconds: (limit.reset_ms / 1000) as i64,
                nanos: (limit.reset_ms % 1000 * 1_000_000) as i32,
            });
        }
        status
    }
}

/// What is wrong with a question, as far as only the policy could tell.
fn faults(refused: &Refused) -> String {
    refused.faults.iter().map(|fault| format!("{} {}", fault.path, fault.message)).collect::<Vec<_>>().join("; ")
}

/// A window that is none of Envoy's units is of an unknown one: a rate made to fit would not be the limit.
fn current(limit: &LimitState) -> RateLimit {
    let unit = UNITS.into_iter().find(|(seconds, _)| seconds * 1000 == limit.window_ms);
    RateLimit {
        requests_per_unit: u32::try_from(limit.limit).unwrap_or(u32::MAX),
        unit: unit.map_or(Unit::Unknown, |(_, unit)| unit).into(),
        name: limit.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::refusal::RequestFault;

    fn limit(name: &str, window_ms: u64, remaining: u64) -> LimitState {
        LimitState { name: name.to_owned(), limit: 9, window_ms, remaining, reset_ms: 1_500 }
    }

    fn answer() -> Response {
        let answer = Response::builder().header("ratelimit", "r").header("content-type", "x").header("server", "y");
        answer.body(Body::from("{}")).unwrap()
    }

    #[tokio::test]
    async fn what_may_go_on_is_told_what_is_left_of_the_limit_that_leaves_least() {
        let limits = [limit("burst", 60_000, 3), limit("hourly", 3_600_000, 2)];
        let told = Told::allowed(&limits).response(answer(), 2).await;
        assert_eq!((told.overall_code, told.raw_body.len(), told.statuses.len()), (Code::Ok.into(), 0, 2));
        let status = &told.statuses[0];
        let current = status.current_limit.as_ref().unwrap();
        assert_eq!((current.name.as_str(), current.unit, status.limit_remaining), ("hourly", Unit::Hour.into(), 2));
        assert_eq!(status.duration_until_reset, Some(Duration { seconds: 1, nanos: 500_000_000 }));
        let keys: Vec<&str> = told.response_headers_to_add.iter().map(|field| field.key.as_str()).collect();
        assert_eq!(keys, ["ratelimit"], "the client gets the fields about limits and no others");
    }

    #[tokio::test]
    async fn what_may_not_is_told_the_limit_that_is_exhausted_and_why() {
        let limits = vec![limit("burst", 61_000, 1), limit("hourly", 3_600_000, 0)];
        let refused = Refused {
            limits: std::sync::Arc::<[LimitState]>::from(limits).into(),
            ..Refused::new(Cause::Decided(Reason::BurstLimit), "t", "d")
        };
        let told = Told::refused(&refused).unwrap().response(answer(), 1).await;
        assert_eq!((told.overall_code, told.raw_body.as_slice()), (Code::OverLimit.into(), &b"{}"[..]));
        let current = told.statuses[0].current_limit.clone().unwrap();
        assert_eq!((current.name.as_str(), current.unit), ("burst", Unit::Unknown.into()), "61 s are no unit");
    }

    #[test]
    fn what_could_not_be_decided_is_no_decision() {
        let code = |cause| Told::refused(&Refused::new(cause, "t", "d")).err().map(|status| status.code());
        assert_eq!(code(Cause::StoreUnavailable), Some(tonic::Code::Unavailable));
        assert_eq!(code(Cause::Draining), Some(tonic::Code::Unavailable));
        assert_eq!(code(Cause::Unauthenticated), None, "that is a decision");
        let invalid = Refused::invalid(vec![RequestFault::new("method", "is required")]);
        let status = Told::refused(&invalid).err().unwrap();
        assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, "method is required"));
        assert_eq!(code(Cause::Decided(Reason::CircuitOpen)), None);
    }
}
