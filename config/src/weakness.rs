//! Whether a secret could be guessed.
//!
//! Responsible for one rule for the tokens of operators and services, whichever process takes them. Must never put the
//! secret, or a part of it, into the reason: reasons are shown.

/// Shortest secret, bytes.
const MIN_BYTES: usize = 32;

/// Longest piece that is taken for a pattern when a secret consists of nothing but repetitions of it.
const MAX_PERIOD: usize = 12;

/// Words that stand in samples for a secret to be filled in.
const PLACEHOLDERS: [&str; 5] = ["changeme", "replaceme", "yoursecret", "yourtoken", "insertsecret"];

/// Why a secret must not be used, to be read after the name of its setting; `None` if there is no reason.
#[must_use]
pub fn weakness(secret: &str) -> Option<&'static str> {
    let letters: String = secret.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let repeats = |text: &[u8]| {
        (1..=MAX_PERIOD)
            .any(|period| text.iter().zip(text.iter().skip(period)).all(|(earlier, later)| earlier == later))
    };
    if secret.len() < MIN_BYTES {
        Some("must have at least 32 bytes")
    } else if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("must consist of visible ASCII characters, or no header can carry it")
    } else if PLACEHOLDERS.iter().any(|word| letters.contains(word)) {
        Some("is a placeholder from a sample")
    } else if repeats(secret.as_bytes()) || repeats(letters.as_bytes()) {
        Some("repeats itself; use random bytes, such as `openssl rand -hex 32`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: [&str; 2] = ["6c1f0e9a7b3d5528c4e1f2a39b07d64e", "e2d94f7a018bc6355d90a1b7f4c8236e"];

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        let weak = [
            "",
            "secret",
            &RANDOM[0][1..],
            &"a".repeat(64),
            &"secret".repeat(8),
            &"Secret-".repeat(8),
            "change-me-change-me-now-or-else-0123",
            "CHANGEME0123456789abcdef0123456789",
            "0123456789abcdef 0123456789abcdeF",
        ];
        for secret in weak {
            assert!(weakness(secret).is_some(), "{secret}");
        }
        for secret in RANDOM {
            assert_eq!(weakness(secret), None);
        }
    }
}
