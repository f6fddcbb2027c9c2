//! Speaks HTTP to a gateway as some caller.
//!
//! Responsible for requests and for typed answers. Must never turn a refusal into an error: being refused is what half
//! of the harness is about.

pub mod answer;
pub mod events;

use std::net::SocketAddr;

use portcullis_config::UserType;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::Instant;

pub use answer::Answer;
pub use events::{Event, EventReader};

use crate::error::HarnessError;

/// One caller at one listener. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    headers: Vec<(String, String)>,
}

/// What a caller submits.
#[derive(Clone, Debug)]
pub struct Submission {
    body: Value,
    headers: Vec<(String, String)>,
}

impl Submission {
    /// A task of this kind with this payload.
    #[must_use]
    pub fn new(kind: &str, payload: impl Into<Value>) -> Self {
        Self { body: json!({ "kind": kind, "payload": payload.into() }), headers: Vec::new() }
    }

    /// Sets another field of the body, such as `deadline_ms`.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body[name] = value.into();
        self
    }

    /// Sets a header, such as `Idempotency-Key` or `Prefer`.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl Client {
    /// An anonymous caller at this listener.
    #[must_use]
    pub fn new(http: reqwest::Client, listener: SocketAddr) -> Self {
        Self { http, base: format!("http://{listener}"), headers: Vec::new() }
    }

    /// The same listener as another caller, through the gateways' `--dev-tokens`.
    #[must_use]
    pub fn caller(&self, user_type: &str, principal: &str) -> Self {
        self.bearer(&format!("dev:{user_type}:{principal}"))
    }

    /// The same listener as a caller of another scope than the gateways' own, through their `--dev-tokens`.
    #[must_use]
    pub fn of_scope(&self, tenant: &str, project: &str, user_type: &str, principal: &str) -> Self {
        self.bearer(&format!("dev:{tenant}/{project}:{user_type}:{principal}"))
    }

    /// The same listener with this bearer token and no other header.
    #[must_use]
    pub fn bearer(&self, token: &str) -> Self {
        let headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
        Self { http: self.http.clone(), base: self.base.clone(), headers }
    }

    /// The same caller with one more header on every request.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// Where it sends to, `http://…` without a path.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `POST /v1/tasks`.
    pub async fn submit(&self, submission: &Submission) -> Result<Answer, HarnessError> {
        let mut request = self.request(Method::POST, "/v1/tasks").json(&submission.body);
        for (name, value) in &submission.headers {
            request = request.header(name, value);
        }
        self.send(request).await
    }

    /// `GET /v1/tasks/{id}`.
    pub async fn task(&self, id: &str) -> Result<Answer, HarnessError> {
        self.get(&format!("/v1/tasks/{id}")).await
    }

    /// `DELETE /v1/tasks/{id}`.
    pub async fn cancel(&self, id: &str) -> Result<Answer, HarnessError> {
        self.delete(&format!("/v1/tasks/{id}")).await
    }

    /// `GET /v1/limits`.
    pub async fn limits(&self) -> Result<Answer, HarnessError> {
        self.get("/v1/limits").await
    }

    /// `GET` of any path.
    pub async fn get(&self, path: &str) -> Result<Answer, HarnessError> {
        self.send(self.request(Method::GET, path)).await
    }

    /// `DELETE` of any path.
    pub async fn delete(&self, path: &str) -> Result<Answer, HarnessError> {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// `POST` of this JSON to any path.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, HarnessError> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `GET /v1/tasks/{id}/events`, from the start or after an event already seen.
    pub async fn events(&self, id: &str, last_event_id: Option<&str>) -> Result<EventReader, HarnessError> {
        let mut request = self.request(Method::GET, &format!("/v1/tasks/{id}/events"));
        if let Some(last) = last_event_id {
            request = request.header("last-event-id", last);
        }
        EventReader::open(request.send().await?).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, HarnessError> {
        let sent = Instant::now();
        Answer::read(request.send().await?, sent).await
    }

    /// Polls until the task has reached its end; the last answer.
    pub async fn until_ended(&self, id: &str, limit: std::time::Duration) -> Result<Answer, HarnessError> {
        let ended = crate::eventually::eventually(limit, "the task has ended", || async {
            match self.task(id).await {
                Ok(answer) if answer.is_ended() => Some(Ok(answer)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        });
        ended.await?
    }
}

/// An HTTP client for many connections on loopback: no proxy, a bound on each exchange, no cap on idle connections.
pub fn http_client() -> Result<reqwest::Client, HarnessError> {
    let builder = reqwest::Client::builder().no_proxy().connect_timeout(std::time::Duration::from_secs(10));
    Ok(builder.tcp_nodelay(true).build()?)
}

/// The built-in user types the demonstration and the tests call as, lowest first.
pub const CALLERS: [&str; 4] = [UserType::ANONYMOUS, "registered", "paid", "privileged"];
