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

/// Whether a JSON string holds this as it stands. Every byte is looked at, eight at a time.
fn is_plain(text: &str) -> bool {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    // What is left over is looked at with what stands before it.
    let last = text.as_bytes().last_chunk::<8>().copied().unwrap_or_else(|| {
        let mut last = [b' '; 8];
        last[..rest.len()].copy_from_slice(rest);
        last
    });
    words.iter().fold(escaped(last), |any, word| any | escaped(*word)) & (EACH << 7) == 0
}

/// A one in each byte.
const EACH: u64 = u64::from_ne_bytes([1; 8]);

/// The highest bit of the first byte that JSON escapes is set, and no highest bit if there is none: subtracting from a
/// byte sets it where the byte is less, and otherwise only where it was set before or the byte beside was less.
fn escaped(word: [u8; 8]) -> u64 {
    let word = u64::from_ne_bytes(word);
    let less = |word: u64, than: u8| word.wrapping_sub(EACH * u64::from(than));
    let is = |byte: u8| less(word ^ (EACH * u64::from(byte)), 1);
    (less(word, b' ') | is(b'"') | is(b'\\')) & !word
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
        for length in [1, 7, 8, 9, 16, 21] {
            for (place, byte) in (0..length).flat_map(|place| (0..128).map(move |byte| (place, byte))) {
                for around in ["~", " ", "!", "\u{ff}"] {
                    let text =
                        [&around.repeat(place), &char::from(byte).to_string(), &around.repeat(length - place - 1)];
                    let text = text.map(|piece| piece.as_str()).concat();
                    let escapes = byte < b' ' || matches!(byte, b'"' | b'\\');
                    assert_eq!(is_plain(&text), !escapes, "{text:?}");
                    assert_eq!(written(|out| push_string(out, &text)), serde_json::to_string(&text).unwrap());
                }
            }
        }
    }
}
