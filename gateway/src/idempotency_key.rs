//! The `Idempotency-Key` of a request (draft-ietf-httpapi-idempotency-key-header).
//!
//! Responsible for its syntax: a string in quotes (RFC 9651 §3.3.3), or bare as most clients send it. Must never make
//! two keys of one or one of two: a key that can be read in two ways is refused, because what it protects is a payment.

use axum::http::HeaderMap;

use crate::refusal::RequestFault;

/// Longest key, bytes.
pub(crate) const MAX_BYTES: usize = 255;

/// The key of a request with these headers, without quotes and escapes.
pub(crate) fn of(headers: &HeaderMap) -> Result<Option<String>, RequestFault> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let once = values.next().is_none();
    let key = value.to_str().ok().filter(|_| once).map(str::trim).and_then(|text| quoted(text).or_else(|| bare(text)));
    key.filter(|key| (1..=MAX_BYTES).contains(&key.len())).map(Some).ok_or_else(|| {
        let message = format!(
            "must be given once: 1 to {MAX_BYTES} printable characters in double quotes, or without quotes and then \
             without spaces, quotes, backslashes, commas and semicolons"
        );
        RequestFault::new("Idempotency-Key", message)
    })
}

/// A string of RFC 9651. Parameters behind it mean nothing here.
fn quoted(text: &str) -> Option<String> {
    let (mut key, mut rest) = (String::new(), text.strip_prefix('"')?.chars());
    loop {
        match rest.next()? {
            '"' => break,
            '\\' => key.push(rest.next().filter(|c| matches!(c, '"' | '\\'))?),
            c @ ' '..='~' => key.push(c),
            _ => return None,
        }
    }
    (rest.as_str().is_empty() || rest.as_str().starts_with(';')).then_some(key)
}

fn bare(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b';');
    text.bytes().all(plain).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(lines: &[&str]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("idempotency-key", line.parse().unwrap());
        }
        of(&headers).map_err(|fault| fault.path)
    }

    fn sound(line: &str) -> String {
        key(&[line]).unwrap().unwrap()
    }

    #[test]
    fn quotes_may_be_left_out() {
        assert_eq!(key(&[]), Ok(None));
        let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        assert_eq!(sound(uuid), uuid);
        assert_eq!(sound(&format!("\"{uuid}\"")), uuid);
        assert_eq!(sound(" a/b+c= "), "a/b+c=");
        assert_eq!(sound("\"a b\";v=1"), "a b");
        assert_eq!(sound(r#""a\"b\\c""#), r#"a"b\c"#);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for line in
            ["", "\"\"", "\"a", "a\"", "\"a\"b", "\"a\\b\"", "a b", "a,b", "\"a\", \"b\"", "a;b", "\"a\tb\"", "\u{e9}"]
        {
            assert_eq!(key(&[line]), Err("Idempotency-Key".to_owned()), "{line:?}");
        }
        assert_eq!(key(&["a", "a"]), Err("Idempotency-Key".to_owned()));
    }

    #[test]
    fn its_length_is_bounded_without_quotes() {
        let long = "k".repeat(MAX_BYTES);
        assert_eq!(sound(&format!("\"{long}\"")), long);
        assert!(key(&[&format!("{long}k")]).is_err());
    }
}
