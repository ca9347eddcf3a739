//! A context as clients carry it from a read to a write: opaque bytes that say which key of which
//! table they belong to, with a checksum. Damage, truncation and mix-ups are found; a client that
//! forges one could as well have written with an honest one.

use bytes::{Buf, Bytes};
use xxhash_rust::xxh3::xxh3_64;

use crate::types::{Key, TableId, limits};

use super::CausalContext;

/// The version byte.
const VERSION: u8 = 1;

/// A context for clients.
#[derive(Clone, Copy, Debug)]
pub struct ContextToken<'a> {
    /// The table it is for.
    pub table: TableId,
    /// The key it is for.
    pub key: &'a Key,
}

/// Why bytes are no context of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too long to be one.
    #[error("context has {len} bytes; the limit is {} bytes", limits::CONTEXT_BYTES_MAX)]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Made by a newer version.
    #[error("context has version {0}, which this build does not read")]
    Version(u8),
    /// Cut short, or changed on the way.
    #[error("context is damaged; pass on what a get or put returned, unchanged and whole")]
    Damaged,
    /// It was returned for another table.
    #[error("context belongs to another table")]
    OtherTable,
    /// It was returned for another key.
    #[error("context belongs to another key")]
    OtherKey,
}

impl ContextToken<'_> {
    /// The bytes a client is given. When the context is too long for one it knows less, which can
    /// only make siblings.
    pub fn seal(self, context: &CausalContext) -> Bytes {
        let mut body = Vec::new();
        body.extend_from_slice(&self.table.0.to_be_bytes());
        body.extend_from_slice(&xxh3_64(self.key.as_bytes()).to_be_bytes());
        let most = limits::CONTEXT_BYTES_MAX - 64;
        if context.entries() * super::Dot::BYTES > most {
            let mut shorter = context.clone();
            let singles = most / super::Dot::BYTES - context.marks().len();
            shorter.bound_singles(singles, None);
            shorter.encode(&mut body);
        } else {
            context.encode(&mut body);
        }
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&xxh3_64(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        Bytes::from(bytes)
    }

    /// The context that [`ContextToken::seal`] gave for the same key.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(self, mut bytes: Bytes) -> Result<CausalContext, TokenError> {
        if bytes.len() > limits::CONTEXT_BYTES_MAX {
            return Err(TokenError::TooLong { len: bytes.len() });
        }
        let version = bytes.try_get_u8().map_err(|_| TokenError::Damaged)?;
        if version != VERSION {
            return Err(TokenError::Version(version));
        }
        let sum = bytes.try_get_u64().map_err(|_| TokenError::Damaged)?;
        if sum != xxh3_64(&bytes) {
            return Err(TokenError::Damaged);
        }
        let table = bytes.try_get_u32().map_err(|_| TokenError::Damaged)?;
        let key = bytes.try_get_u64().map_err(|_| TokenError::Damaged)?;
        if table != self.table.0 && !crate::mutant!("foreign-context-taken") {
            return Err(TokenError::OtherTable);
        }
        if key != xxh3_64(self.key.as_bytes()) && !crate::mutant!("foreign-context-taken") {
            return Err(TokenError::OtherKey);
        }
        let context = CausalContext::decode(&mut bytes).ok_or(TokenError::Damaged)?;
        if bytes.is_empty() { Ok(context) } else { Err(TokenError::Damaged) }
    }
}
