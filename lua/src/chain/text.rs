//! A value of a stream's field in an export: as text where it is text, else in hexadecimal digits.
//!
//! Must never lose a byte: hashes are made of all of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(super) struct Text(Bytes);

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Plain(String),
    Packed { hex: String },
}

impl Text {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Text> for Written {
    fn from(Text(bytes): Text) -> Self {
        match String::from_utf8(bytes.to_vec()) {
            Ok(text) => Self::Plain(text),
            Err(_) => Self::Packed { hex: hex(&bytes) },
        }
    }
}

impl TryFrom<Written> for Text {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let hex = match written {
            Written::Plain(text) => return Ok(Self(text.into())),
            Written::Packed { hex } => hex,
        };
        if hex.len() % 2 != 0 {
            return Err("half a byte");
        }
        let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.ok_or("not hexadecimal digits")?;
        Ok(Self(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()))
    }
}

/// Two hexadecimal digits for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
