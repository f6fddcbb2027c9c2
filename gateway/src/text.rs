//! Text as it stands in headers and JSON bodies, written byte by byte.
//!
//! Responsible for the few forms of which every answer has some: numbers and strings. Must never be used for documents
//! of any depth: those are serde's.

/// Appends a whole number.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends milliseconds as seconds: `12.345`, `1.5`, `2.0`.
pub(crate) fn push_seconds(out: &mut Vec<u8>, ms: u64) {
    push_number(out, ms / 1000);
    out.push(b'.');
    let mut fraction = &[b'0' + (ms / 100 % 10) as u8, b'0' + (ms / 10 % 10) as u8, b'0' + (ms % 10) as u8][..];
    while let [shorter @ .., b'0'] = fraction
        && !shorter.is_empty()
    {
        fraction = shorter;
    }
    out.extend_from_slice(fraction);
}

/// Appends a JSON string with its quotes.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing a string into a Vec does not fail.
        _ = serde_json::to_writer(out, text);
    }
}

/// Whether a JSON string holds this as it stands.
pub(crate) fn is_plain(text: &str) -> bool {
    let special = |byte: u8| u8::from(byte < b' ') | u8::from(byte == b'"') | u8::from(byte == b'\\');
    // Every byte is looked at, whatever came before: of a whole piece that is done at once.
    let any_of = |bytes: &[u8]| bytes.iter().fold(0, |any, &byte| any | special(byte));
    let (pieces, rest) = text.as_bytes().as_chunks::<16>();
    pieces.iter().fold(any_of(rest), |any, piece| any | any_of(piece)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 999, 1_000_000, u64::MAX] {
            assert_eq!(written(|out| push_number(out, number)), number.to_string());
        }
    }

    #[test]
    fn seconds_have_as_many_digits_as_they_need_and_one_at_least() {
        for (ms, expected) in [(0, "0.0"), (1, "0.001"), (1000, "1.0"), (1500, "1.5"), (12_345, "12.345"), (20, "0.02")]
        {
            assert_eq!(written(|out| push_seconds(out, ms)), expected);
        }
    }

    #[test]
    fn strings_are_those_of_json_whatever_is_in_them() {
        for text in ["", "plain", "a\"b", "back\\slash", "line\nend", "\u{1}", "é ü", "\u{7f}"] {
            assert_eq!(written(|out| push_string(out, text)), serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn what_needs_an_escape_is_found_wherever_it_stands() {
        for length in [1, 15, 16, 17, 32, 40] {
            assert!(is_plain(&"~".repeat(length)));
            for (place, special) in (0..length).flat_map(|place| [(place, "\""), (place, "\\"), (place, "\n")]) {
                let mut text = "~".repeat(length);
                text.replace_range(place..=place, special);
                assert_eq!(written(|out| push_string(out, &text)), serde_json::to_string(&text).unwrap());
            }
        }
    }
}
