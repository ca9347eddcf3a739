//! What the engine keeps of a key: one version of it, owned or lent.
//!
//! A source of entries lends them: a scan looks at thousands and keeps few.

use bytes::Bytes;

use super::batch::{Kind, Seqno};

/// One version of a key. A delete has an empty value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    pub(crate) seqno: Seqno,
    pub(crate) kind: Kind,
    pub(crate) value: Bytes,
}

impl Entry {
    /// A put of `value`, or a delete.
    pub(crate) fn new(key: Bytes, seqno: Seqno, value: Option<Bytes>) -> Self {
        let kind = Kind::of(value.as_ref());
        Self { key, seqno, kind, value: value.unwrap_or_default() }
    }

    pub(crate) fn lend(&self) -> EntryRef<'_> {
        let Self { key, seqno, kind, value } = self;
        EntryRef { key, seqno: *seqno, kind: *kind, value }
    }
}

/// One version of a key, lent by who reads it: gone when the reader moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryRef<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) seqno: Seqno,
    pub(crate) kind: Kind,
    pub(crate) value: &'a [u8],
}

/// What a point read finds: the version of a key, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) seqno: Seqno,
    pub(crate) kind: Kind,
    pub(crate) value: Bytes,
}
