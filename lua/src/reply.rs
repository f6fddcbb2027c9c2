//! Taking apart what a script returned.
//!
//! Must never panic on it: anything but the documented shape is a [`StoreError::Protocol`] that names the script.

use bytes::Bytes;
use fred::types::Value;

use crate::error::StoreError;

/// The elements of an array reply, taken one by one.
#[derive(Debug)]
pub(crate) struct Reply {
    script: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn new(script: &'static str, value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Array(values) => Ok(Self { script, values: values.into_iter() }),
            other => Err(StoreError::Protocol(format!("{script} returned {:?}", other.kind()))),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreError> {
        let value = self.next()?;
        value.as_i64().ok_or_else(|| self.unexpected("a number"))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, StoreError> {
        match self.next()? {
            Value::Bytes(bytes) => Ok(bytes),
            Value::String(text) => Ok(text.into_inner()),
            _ => Err(self.unexpected("a string")),
        }
    }

    /// A string, or nothing (`false` and nil).
    pub(crate) fn optional_bytes(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self.next()? {
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::String(text) => Ok(Some(text.into_inner())),
            Value::Null => Ok(None),
            _ => Err(self.unexpected("a string or nothing")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        crate::pack::text(&self.bytes()?)
    }

    /// An element of any kind.
    pub(crate) fn value(&mut self) -> Result<Value, StoreError> {
        self.next()
    }

    fn next(&mut self) -> Result<Value, StoreError> {
        self.values.next().ok_or_else(|| StoreError::Protocol(format!("{} returned too little", self.script)))
    }

    fn unexpected(&self, wanted: &str) -> StoreError {
        StoreError::Protocol(format!("{} returned something else than {wanted}", self.script))
    }
}
