//! An answer that is always the same: what a refusal would cost if nothing had to be known for it.
//!
//! Responsible for repeating an answer of somebody else, so that as many bytes and headers go over the wire. Must never
//! copy what the HTTP library adds by itself: it would stand there twice.

use axum::body::{Body, Bytes};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

/// A prepared answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FixedAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl FixedAnswer {
    /// From an HTTP/1.1 answer as it came over the wire; `None` if it is none.
    #[must_use]
    pub fn parse(wire: &[u8]) -> Option<Self> {
        let head_end = wire.windows(4).position(|four| four == b"\r\n\r\n")?;
        let mut lines = std::str::from_utf8(&wire[..head_end]).ok()?.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let name: HeaderName = name.parse().ok()?;
            if ![CONNECTION, CONTENT_LENGTH, DATE].contains(&name) {
                headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
            }
        }
        Some(Self { status, headers, body: Bytes::copy_from_slice(&wire[head_end + 4..]) })
    }

    /// Once more.
    #[must_use]
    pub fn response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_all_but_what_the_library_adds() {
        let wire = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 2\r\n\
                     date: Sun, 22 Nov 2026 00:00:00 GMT\r\n\r\n{}";
        let answer = FixedAnswer::parse(wire).expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::TOO_MANY_REQUESTS, &b"{}"[..]));
        assert_eq!(answer.headers.len(), 3);
        assert_eq!(answer.headers["retry-after"], "7");
        assert_eq!(answer.response().status(), 429);
    }

    #[test]
    fn takes_nothing_else_for_an_answer() {
        assert_eq!(FixedAnswer::parse(b"HTTP/1.1 429"), None);
        assert_eq!(FixedAnswer::parse(b"GET / HTTP/1.1\r\n\r\n"), None);
    }
}
