//! Hashes as they stand in ids and keys.
//!
//! Responsible for one unambiguous way to hash several parts together. Must never be used without a key for what could
//! be guessed: whoever sees the hash could try.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// A key to hash with.
#[derive(Clone)]
pub(crate) struct HashKey(Hmac<Sha256>);

impl HashKey {
    /// The key that is made of this secret, however long that is.
    pub(crate) fn of(secret: &SecretString) -> Self {
        let mut block = [0; BLOCK_BYTES];
        block[..HASH_BYTES].copy_from_slice(&Sha256::digest(secret.expose_secret()));
        Self(Hmac::new(&block.into()))
    }

    /// HMAC-SHA256 (RFC 2104) of the parts, its first 128 bits, hex.
    pub(crate) fn short_hex(&self, parts: &[&str]) -> String {
        let mut hasher = self.0.clone();
        each(parts, |bytes| hasher.update(bytes));
        to_hex(&hasher.finalize().into_bytes()[..SHORT_BYTES])
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(***)")
    }
}

/// What SHA-256 works on at a time, and what it makes of it.
const BLOCK_BYTES: usize = 64;
const HASH_BYTES: usize = 32;
const SHORT_BYTES: usize = 16;

/// SHA-256 of the parts, hex. A zero byte stands between them, so that moving a character from one part to the next
/// changes the hash.
pub(crate) fn hex(parts: &[&str]) -> String {
    to_hex(&hash(parts))
}

/// The first 128 bits of [`hex`]: enough that no two callers meet, short enough for a header.
pub(crate) fn short_hex(parts: &[&str]) -> String {
    to_hex(&hash(parts)[..SHORT_BYTES])
}

/// SHA-256 of a body, hex.
pub(crate) fn body_hex(body: &[u8]) -> String {
    to_hex(&Sha256::digest(body))
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    each(parts, |bytes| Digest::update(&mut hasher, bytes));
    hasher.finalize().into()
}

fn each(parts: &[&str], mut update: impl FnMut(&[u8])) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            update(&[0]);
        }
        update(part.as_bytes());
    }
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
    fn with_a_key_they_are_those_of_hmac() {
        let key = HashKey::of(&"a secret".into());
        let under = |pad: u8, message: &[u8]| -> [u8; 32] {
            let mut block = [pad; 64];
            block.iter_mut().zip(Sha256::digest("a secret")).for_each(|(byte, secret)| *byte ^= secret);
            Sha256::digest([&block[..], message].concat()).into()
        };
        let by_hand = under(0x5c, &under(0x36, b"ada\0key"));
        assert_eq!(key.short_hex(&["ada", "key"]), to_hex(&by_hand[..16]));
        assert_ne!(key.short_hex(&["ada"]), HashKey::of(&"another".into()).short_hex(&["ada"]));
        assert_eq!(format!("{key:?}"), "HashKey(***)");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(hex(&["ab", "c"]), hex(&["a", "bc"]));
    }
}
