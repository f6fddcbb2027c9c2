//! What a caller can see of an answer, and what it learns from it about itself.
//!
//! Responsible for comparing answers as an attacker would. Must never leave out anything but what differs between any
//! two answers: the id of the request, and times.

use std::collections::BTreeSet;

use portcullis_loadtest::client::{Answer, Client};

/// Status, header names, length and body of an answer, without the id of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    status: u16,
    header_names: BTreeSet<String>,
    content_length: Option<String>,
    content_type: Option<String>,
    challenge: Option<String>,
    body: String,
}

impl Sight {
    pub(super) fn of(answer: &Answer) -> Self {
        let request_id = answer.header("x-request-id").expect("every answer has one");
        let text = |name: &str| answer.header(name).map(str::to_owned);
        Self {
            status: answer.status,
            header_names: answer.headers.keys().map(|name| name.as_str().to_owned()).collect(),
            content_length: text("content-length"),
            content_type: text("content-type"),
            challenge: text("www-authenticate"),
            body: answer.text.replace(request_id, "-"),
        }
    }
}

/// Who a caller is to the gateway: principal, source and user type; its status where it is nobody.
pub(super) async fn who(client: &Client) -> String {
    let answer = client.get("/v1/sessions/current").await.expect("an answer");
    named(&answer)
}

/// The same of an answer to `GET /v1/sessions/current`.
pub(super) fn named(answer: &Answer) -> String {
    match answer.status {
        200 => {
            let text = |name: &str| answer.body[name].as_str().unwrap_or("-").to_owned();
            format!("{} by {} as {}", text("principal"), text("source"), text("user_type"))
        }
        status => status.to_string(),
    }
}
