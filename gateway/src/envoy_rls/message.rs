//! The messages of `envoy.service.ratelimit.v3` as far as this service speaks it.
//!
//! Responsible for their numbers on the wire. Must never be changed but to follow Envoy: numbers are the contract,
//! names are only Envoy's. Written out because the published bindings compile all of Envoy's interface, for minutes.

/// Asks whether a request may go on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RateLimitRequest {
    /// Whose limits count.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The request, in one or more parts.
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<RateLimitDescriptor>,
    /// As how many requests it counts; 0 is one.
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

/// Part of a request's description.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RateLimitDescriptor {
    /// What is said about it.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// A limit to use instead of the service's own.
    #[prost(message, optional, tag = "2")]
    pub limit: Option<RateLimitOverride>,
    /// Goes before the request's `hits_addend`.
    #[prost(message, optional, tag = "3")]
    pub hits_addend: Option<u64>,
    /// Gives back instead of taking.
    #[prost(bool, tag = "4")]
    pub is_negative_hits: bool,
}

/// One thing said about a request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Entry {
    /// What about.
    #[prost(string, tag = "1")]
    pub key: String,
    /// What it is.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A limit that the asking proxy brings along.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RateLimitOverride {
    /// How many in a unit of time.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// The unit of time.
    #[prost(enumeration = "Unit", tag = "2")]
    pub unit: i32,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RateLimitResponse {
    /// Whether the request may go on.
    #[prost(enumeration = "Code", tag = "1")]
    pub overall_code: i32,
    /// One for each descriptor, in their order.
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<DescriptorStatus>,
    /// For the answer to the client.
    #[prost(message, repeated, tag = "3")]
    pub response_headers_to_add: Vec<HeaderValue>,
    /// For the request as the application gets it.
    #[prost(message, repeated, tag = "4")]
    pub request_headers_to_add: Vec<HeaderValue>,
    /// Body of the answer to a client that was refused.
    #[prost(bytes = "vec", tag = "5")]
    pub raw_body: Vec<u8>,
}

/// What came out for one descriptor.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DescriptorStatus {
    /// Whether it lets the request go on.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// The limit that leaves least.
    #[prost(message, optional, tag = "2")]
    pub current_limit: Option<RateLimit>,
    /// How much is left of it.
    #[prost(uint32, tag = "3")]
    pub limit_remaining: u32,
    /// Until more is.
    #[prost(message, optional, tag = "4")]
    pub duration_until_reset: Option<Duration>,
}

/// A limit.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RateLimit {
    /// How many in a unit of time.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// The unit of time.
    #[prost(enumeration = "Unit", tag = "2")]
    pub unit: i32,
    /// Its name in the policy.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// A header field; `envoy.config.core.v3.HeaderValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HeaderValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A time span; `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// None.
    Unknown = 0,
    /// It may go on.
    Ok = 1,
    /// It may not.
    OverLimit = 2,
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Unit {
    /// Any other.
    Unknown = 0,
    /// 1 s.
    Second = 1,
    /// 60 s.
    Minute = 2,
    /// 3600 s.
    Hour = 3,
    /// 24 h.
    Day = 4,
    /// A calendar month.
    Month = 5,
    /// A calendar year.
    Year = 6,
    /// 7 days.
    Week = 7,
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_request_is_read_as_envoy_writes_it() {
        // domain "d", one descriptor {entries: [{"principal", "ada"}], hits_addend: {value: 3}}, hits_addend 2.
        let wire = b"\x0a\x01d\x12\x16\x0a\x10\x0a\x09principal\x12\x03ada\x1a\x02\x08\x03\x18\x02";
        let entry = Entry { key: "principal".to_owned(), value: "ada".to_owned() };
        let descriptor = RateLimitDescriptor { entries: vec![entry], hits_addend: Some(3), ..Default::default() };
        let expected = RateLimitRequest { domain: "d".to_owned(), descriptors: vec![descriptor], hits_addend: 2 };
        assert_eq!(RateLimitRequest::decode(&wire[..]).unwrap(), expected);
    }

    #[test]
    fn an_answer_is_written_as_envoy_reads_it() {
        let answer = RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            statuses: vec![DescriptorStatus {
                code: Code::OverLimit.into(),
                current_limit: Some(RateLimit { requests_per_unit: 5, unit: Unit::Week.into(), name: "b".to_owned() }),
                limit_remaining: 1,
                duration_until_reset: Some(Duration { seconds: 2, nanos: 3 }),
            }],
            response_headers_to_add: vec![HeaderValue { key: "k".to_owned(), value: "v".to_owned() }],
            request_headers_to_add: Vec::new(),
            raw_body: b"{}".to_vec(),
        };
        let wire = b"\x08\x02\x12\x13\x08\x02\x12\x07\x08\x05\x10\x07\x1a\x01b\x18\x01\x22\x04\x08\x02\x10\x03\
            \x1a\x06\x0a\x01k\x12\x01v\x2a\x02{}";
        assert_eq!(answer.encode_to_vec(), wire);
    }
}
