//! Hashes as they stand in ids and keys.
//!
//! Responsible for one unambiguous way to hash several parts together. Must never be used to keep a secret: it is
//! unkeyed.

use sha2::{Digest, Sha256};

/// SHA-256 of the parts, hex. A zero byte stands between them, so that moving a character from one part to the next
/// changes the hash.
pub(crate) fn hex(parts: &[&str]) -> String {
    to_hex(&hash(parts))
}

/// The first 128 bits of [`hex`]: enough that no two callers meet, short enough for a header.
pub(crate) fn short_hex(parts: &[&str]) -> String {
    to_hex(&hash(parts)[..16])
}

/// SHA-256 of a body, hex.
pub(crate) fn body_hex(body: &[u8]) -> String {
    to_hex(&Sha256::digest(body))
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hasher.update([0]);
        }
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(body_hex(b""), empty);
        assert_eq!(hex(&[""]), empty);
        assert_eq!(short_hex(&[""]), &empty[..32]);
        assert_eq!(hex(&["ada", "key"]), body_hex(b"ada\0key"));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(hex(&["ab", "c"]), hex(&["a", "bc"]));
    }
}
