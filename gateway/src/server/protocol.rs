//! Which protocol a client speaks: HTTP/1.1, or HTTP/2 without having asked (RFC 9113 §3.3, "prior knowledge").
//!
//! Responsible for telling them apart by the first bytes. Must never wait for more of them than it takes: `P` may be
//! the beginning of `POST`.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for the first bytes: most requests fit, and are read in one piece.
const FIRST_READ: usize = 1024;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads as little as tells the protocol; what was read. `None`: the client said nothing and went.
pub(super) async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Protocol, Bytes)>> {
    let mut first = BytesMut::with_capacity(FIRST_READ);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            // Cut off in the middle: HTTP/1.1 can say what is wrong.
            return Ok((!first.is_empty()).then(|| (Protocol::Http1, first.freeze())));
        }
        if first.starts_with(PREFACE) {
            return Ok(Some((Protocol::Http2, first.freeze())));
        }
        if !PREFACE.starts_with(&first) {
            return Ok(Some((Protocol::Http1, first.freeze())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The protocol of these pieces, each read by itself, and what was read of them.
    async fn told(pieces: &[&[u8]]) -> Option<(Protocol, Bytes)> {
        let mut mock =
            pieces.iter().fold(Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin + Send>, |before, piece| {
                Box::new(before.chain(*piece)) as Box<dyn AsyncRead + Unpin + Send>
            });
        first_bytes(&mut mock).await.unwrap()
    }

    #[tokio::test]
    async fn the_preface_is_recognised_however_it_is_cut() {
        let whole = [PREFACE, b"\0\0\0"].concat();
        assert_eq!(told(&[&whole]).await.unwrap(), (Protocol::Http2, Bytes::from(whole)));
        let singly: Vec<&[u8]> = PREFACE.chunks(1).collect();
        assert_eq!(told(&singly).await.unwrap().0, Protocol::Http2);
    }

    #[tokio::test]
    async fn anything_else_is_http_1_and_not_waited_for() {
        assert_eq!(told(&[b"P", b"O", b"ST / "]).await.unwrap(), (Protocol::Http1, Bytes::from_static(b"PO")));
        assert_eq!(told(&[b"GET / HTTP/1.1\r\n"]).await.unwrap().0, Protocol::Http1);
        assert_eq!(told(&[b"PRI * HTTP/2.0\r\n\r\nXX"]).await.unwrap().0, Protocol::Http1);
        assert_eq!(told(&[b"PRI"]).await.unwrap().0, Protocol::Http1, "cut off");
        assert_eq!(told(&[]).await, None);
    }
}
