//! Packed binary values: the `struct.pack` formats of the scripts, written and read in Rust.
//!
//! All numbers are little-endian and unaligned, as in `<…` formats. Must never panic on what Redis returned: a short
//! or odd value is a [`StoreError::Protocol`].

use bytes::{Buf, Bytes};

use crate::error::StoreError;

/// Length of a text whose length follows in four bytes.
const LONG: u8 = 255;

/// Writes packed values.
#[derive(Debug, Default)]
pub(crate) struct Packer(Vec<u8>);

impl Packer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn f64(&mut self, value: f64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// A text of any length: `[length (1)]`, or `[255][length (4)]`, and the text.
    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        match u8::try_from(value.len()) {
            Ok(length) if length < LONG => self.u8(length),
            _ => self.u8(LONG).u32(value.len() as u32),
        };
        self.bytes(value.as_bytes())
    }

    /// The value so far; the packer starts anew.
    pub(crate) fn finish(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.0))
    }
}

/// Reads packed values from the front.
#[derive(Debug)]
pub(crate) struct Unpacker {
    rest: Bytes,
}

impl Unpacker {
    pub(crate) fn new(packed: Bytes) -> Self {
        Self { rest: packed }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, StoreError> {
        if length > self.rest.len() {
            return Err(self.too_short(length));
        }
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, StoreError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, StoreError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StoreError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, StoreError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A double that stands for a count or a time: rounded up, never negative.
    pub(crate) fn count(&mut self) -> Result<u64, StoreError> {
        Ok(self.f64()?.ceil().max(0.0) as u64)
    }

    /// A string with its length in two bytes before it, as text.
    pub(crate) fn short_text(&mut self) -> Result<String, StoreError> {
        let length = self.u16()?;
        text(&self.take(usize::from(length))?)
    }

    /// A text as [`Packer::text`] writes it.
    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        let length = match self.u8()? {
            LONG => self.u32()?,
            length => u32::from(length),
        };
        text(&self.take(length as usize)?)
    }

    pub(crate) fn rest(self) -> Bytes {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn too_short(&self, length: usize) -> StoreError {
        StoreError::Protocol(format!("{} bytes where {length} were due", self.rest.len()))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let Some((number, _)) = self.rest.split_first_chunk::<N>() else { return Err(self.too_short(N)) };
        let number = *number;
        self.rest.advance(N);
        Ok(number)
    }
}

/// UTF-8, or a protocol error.
pub(crate) fn text(bytes: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StoreError::Protocol("text that is not UTF-8".to_owned()))
}
