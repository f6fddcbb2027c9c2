//! A streaming body cut into the pieces that become `output` events.
//!
//! Of `text/event-stream` (WHATWG HTML §9.2) a piece is one event's `data`, its lines joined by a line feed: comments,
//! ids and event names are the transport's and are left out. Of newline-delimited JSON (`application/x-ndjson`,
//! `application/ndjson`, `application/jsonl`) a piece is one non-empty line. Must never wait for more than the end of
//! the piece: whoever watches the task reads it as it is written.

use bytes::Bytes;

/// Cuts one body.
#[derive(Debug)]
pub(super) struct Splitter {
    form: Form,
    line: Vec<u8>,
    after_cr: bool,
    first: bool,
    /// Data of the event being read; `None` until it has any.
    data: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Events,
    Lines,
}

impl Splitter {
    /// A splitter for a body of this type; `None` for one that is not relayed.
    pub(super) fn for_content_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = match essence.as_str() {
            "text/event-stream" => Form::Events,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Form::Lines,
            _ => return None,
        };
        Some(Self { form, line: Vec::new(), after_cr: false, first: true, data: None })
    }

    /// Takes the next bytes; the pieces they complete.
    pub(super) fn push(&mut self, mut chunk: &[u8]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while let Some(&next) = chunk.first() {
            // CR, LF and CRLF all end a line, and a CRLF may be cut in two by the network.
            if std::mem::take(&mut self.after_cr) && next == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let Some(end) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(chunk);
                break;
            };
            self.line.extend_from_slice(&chunk[..end]);
            self.after_cr = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            pieces.extend(self.end_line());
        }
        pieces
    }

    /// What the end of the body leaves as a last piece. An event or line whose terminator is missing counts: the body
    /// is complete as far as HTTP is concerned.
    pub(super) fn finish(mut self) -> Option<Bytes> {
        let last = if self.line.is_empty() { None } else { self.end_line() };
        last.or_else(|| self.data.map(Bytes::from))
    }

    fn end_line(&mut self) -> Option<Bytes> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        match self.form {
            Form::Lines => (!line.trim_ascii().is_empty()).then(|| Bytes::from(line)),
            Form::Events if line.is_empty() => self.data.take().map(Bytes::from),
            Form::Events => {
                if let Some(value) = data_value(&line) {
                    match &mut self.data {
                        Some(data) => {
                            data.push(b'\n');
                            data.extend_from_slice(value);
                        }
                        None => self.data = Some(value.to_vec()),
                    }
                }
                None
            }
        }
    }
}

/// The value of a `data` field, one space after the colon left out.
fn data_value(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    match rest.split_first() {
        None => Some(rest),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(content_type: &str, body: &str, chunk_bytes: usize) -> Vec<String> {
        let mut splitter = Splitter::for_content_type(content_type).unwrap();
        let mut pieces: Vec<Bytes> = body.as_bytes().chunks(chunk_bytes).flat_map(|part| splitter.push(part)).collect();
        pieces.extend(splitter.finish());
        pieces.iter().map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
    }

    #[test]
    fn events_give_their_data_however_the_network_cuts_them() {
        let body = "\u{feff}data: one\n\n: keep-alive\n\nevent: delta\r\nid: 7\r\ndata: two\r\ndata:  three\r\n\r\n\
                    data\n\ndatabase: no\n\ndata:four\r\rdata: five";
        for chunk_bytes in 1..=body.len() {
            let pieces = cut("text/event-stream; charset=utf-8", body, chunk_bytes);
            assert_eq!(pieces, ["one", "two\n three", "", "four", "five"], "in chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn lines_give_themselves_however_the_network_cuts_them() {
        let body = "{\"a\":1}\n\r\n{\"b\":\"ü\"}\r\n  \n{\"c\":3}";
        for content_type in ["application/x-ndjson", "application/jsonl", "Application/NDJSON"] {
            for chunk_bytes in 1..=body.len() {
                assert_eq!(cut(content_type, body, chunk_bytes), ["{\"a\":1}", "{\"b\":\"ü\"}", "{\"c\":3}"]);
            }
        }
    }

    #[test]
    fn a_piece_is_out_as_soon_as_it_is_complete() {
        let mut splitter = Splitter::for_content_type("text/event-stream").unwrap();
        assert!(splitter.push(b"data: a\n").is_empty());
        assert_eq!(splitter.push(b"\ndata: b"), ["a"]);
        let mut splitter = Splitter::for_content_type("application/jsonl").unwrap();
        assert_eq!(splitter.push(b"1\r"), ["1"]);
        assert!(splitter.push(b"\n").is_empty());
    }

    #[test]
    fn other_bodies_are_not_relayed() {
        for content_type in ["application/json", "text/plain", "", "text/event-streams"] {
            assert!(Splitter::for_content_type(content_type).is_none(), "{content_type}");
        }
    }
}
