//! Keys and values: byte strings that have been checked against their limits, once, at the edge.

use bytes::Bytes;
use core::fmt;
use serde::{Deserialize, Serialize};

use super::limits;

/// A user's key: 1 byte to 4 KiB, ordered as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(Bytes);

impl Key {
    /// Wraps `bytes`, or says why they are no key.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Key, KeyError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(KeyError::Empty),
            len if len > limits::KEY_BYTES_MAX => Err(KeyError::TooLong { len }),
            _ => Ok(Key(bytes)),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// Why bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key has at least one byte.
    #[error("key is empty; a key has 1 to {} bytes", limits::KEY_BYTES_MAX)]
    Empty,
    /// A key has at most [`limits::KEY_BYTES_MAX`] bytes.
    #[error("key has {len} bytes; the limit is {} bytes", limits::KEY_BYTES_MAX)]
    TooLong {
        /// Its length.
        len: usize,
    },
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

/// A user's value: 0 bytes to 1 MiB.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value(Bytes);

impl Value {
    /// Wraps `bytes`, or returns their length when it is over [`limits::VALUE_BYTES_MAX`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Value, usize> {
        let bytes = bytes.into();
        if bytes.len() > limits::VALUE_BYTES_MAX { Err(bytes.len()) } else { Ok(Value(bytes)) }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, given away.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert!(Key::new("k").is_ok());
        assert!(Key::new(vec![0; limits::KEY_BYTES_MAX]).is_ok());
        let long = Key::new(vec![0; limits::KEY_BYTES_MAX + 1]);
        assert_eq!(long, Err(KeyError::TooLong { len: limits::KEY_BYTES_MAX + 1 }));
        assert!(Value::new(vec![0; limits::VALUE_BYTES_MAX]).is_ok());
        assert!(Value::new(vec![0; limits::VALUE_BYTES_MAX + 1]).is_err());
    }
}
