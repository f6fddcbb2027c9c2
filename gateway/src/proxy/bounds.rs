//! How long and how large one proxied exchange may be.
//!
//! Responsible for reading it from the policy, in the units it is used in. Must never have a number of its own.

use std::time::Duration;

use portcullis_config::Policy;

/// The bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Until there is a connection to the application.
    pub(super) connect: Duration,
    /// Until the head of the answer, from the last piece of the request.
    pub(super) response: Duration,
    /// Between two pieces of a body, or of a tunnel.
    pub(super) pause: Duration,
    /// What a client must have sent before it may have itself waited for as long as a pause again, bytes.
    pub(super) least_bytes: u64,
    /// Bytes of the request's body.
    pub(super) request_bytes: u64,
    /// Bytes of the answer's body; `None`: no bound.
    pub(super) response_bytes: Option<u64>,
}

impl Bounds {
    /// Those of a class; of the whole proxy where the class has none of its own.
    pub(super) fn of(policy: &Policy, class: &str) -> Self {
        let proxy = &policy.proxy;
        Self {
            connect: Duration::from_millis(proxy.connect_timeout_ms),
            response: Duration::from_millis(policy.response_timeout_ms_of(class)),
            pause: Duration::from_millis(proxy.idle_timeout_ms),
            least_bytes: proxy.min_request_bytes_per_pause,
            request_bytes: policy.max_request_bytes_of(class),
            response_bytes: Some(proxy.max_response_bytes).filter(|most| *most > 0),
        }
    }
}
