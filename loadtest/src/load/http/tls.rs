//! Calls to deployments behind TLS.
//!
//! Responsible for `https` targets, with the roots of trust of the machine. Must never be used for plain HTTP, where it
//! would cost twice the instructions.

use hyper::header::HeaderMap;

use super::answer::{self, MAX_BODY};
use super::connection::Exchanged;
use super::failure::{self, Failure};
use super::{Bounds, Submission, TASKS};
use crate::error::HarnessError;
use crate::load::targets::Target;

/// A client for TLS, with its own idle connections.
#[derive(Debug)]
pub(super) struct TlsClient(reqwest::Client);

impl TlsClient {
    /// A client without connections.
    pub(super) fn new() -> Result<Self, HarnessError> {
        let builder = reqwest::Client::builder().no_proxy().tcp_nodelay(true).https_only(true);
        Ok(Self(builder.redirect(reqwest::redirect::Policy::none()).build()?))
    }

    /// Sends a submission and reads its answer.
    pub(super) async fn exchange(&self, to: &Target, submission: Submission<'_>, bounds: &Bounds<'_>) -> Exchanged {
        let mut headers = HeaderMap::new();
        let request = self.0.post(format!("{}{TASKS}", to.url)).body(submission.body.clone());
        submission.headers(&mut headers);
        let answering = async {
            let mut response = request.headers(headers).send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let mut body = Vec::new();
            while let Some(piece) = response.chunk().await? {
                if body.len() + piece.len() > MAX_BODY {
                    return Ok(Err(Failure { why: "answer too long", sent: true }));
                }
                body.extend_from_slice(&piece);
            }
            Ok(Ok(answer::read(status, &headers, &body)))
        };
        bounds.hold(true, answering).await?.unwrap_or_else(|error: reqwest::Error| Err(of(&error)))
    }
}

fn of(error: &reqwest::Error) -> Failure {
    let known = failure::source_io(error).and_then(failure::of_io);
    if error.is_connect() {
        Failure::unsent(known.unwrap_or("connecting failed"))
    } else {
        Failure { why: known.unwrap_or("connection broken"), sent: true }
    }
}
