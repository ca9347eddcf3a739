//! The bytes of a hint: whose it is to be stands in its key, what is kept in its value; large values
//! of a set have records of their own, as under the keys of causal tables.
//! `docs/format/keyspace.md`.

use bytes::{Buf, Bytes};

use super::keyspace::{hint_age_key, hint_key, hint_value_key};
use super::{causal, record};
use crate::causality::Dot;
use crate::message::{DiskError, HintChange, HintPlace, HintTotals, Kept};
use crate::storage::Batch;
use crate::types::{NodeId, Tenure, WallTime};

const CUSTODY: u8 = 0b0000_0001;
const ACTS: u8 = 0b0000_0010;
/// The layout of what follows: 0 so far.
const LAYOUT_MASK: u8 = 0b1111_0000;
/// The bits of a version's first byte that say of which kind it is.
const KIND_MASK: u8 = 0b1111_0000;

/// As whom this node writes in a record of custody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acting {
    /// The node's tenure when it began to.
    pub(super) within: Tenure,
    /// The tenure of the actor: of this record alone.
    pub(super) tenure: Tenure,
}

/// A stored hint.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) created: WallTime,
    pub(super) custody: bool,
    /// `None` until this node coordinates a write as the stand-in.
    pub(super) acting: Option<Acting>,
    /// Values of a set may be away.
    pub(super) kept: Kept,
}

impl Held {
    pub(super) fn encode(&self) -> Vec<u8> {
        let acts = if self.acting.is_some() { ACTS } else { 0 };
        let mut bytes = vec![acts | if self.custody { CUSTODY } else { 0 }];
        bytes.extend_from_slice(&self.created.0.to_be_bytes());
        if let Some(Acting { within, tenure }) = self.acting {
            bytes.extend_from_slice(&within.0.to_be_bytes());
            bytes.extend_from_slice(&tenure.0.to_be_bytes());
        }
        match &self.kept {
            Kept::Version(version) => bytes.extend_from_slice(&record::encode(version)),
            Kept::Siblings(set) => {
                bytes.push(causal::HEAD);
                bytes.extend_from_slice(&set.encode());
            }
        }
        bytes
    }

    pub(super) fn decode(mut bytes: Bytes) -> Option<Held> {
        let flags = bytes.try_get_u8().ok()?;
        if flags & LAYOUT_MASK != 0 || flags & !(CUSTODY | ACTS) != 0 {
            return None;
        }
        let created = WallTime(bytes.try_get_u64().ok()?);
        let acting = match flags & ACTS {
            0 => None,
            _ => {
                let within = Tenure(bytes.try_get_u64().ok()?);
                Some(Acting { within, tenure: Tenure(bytes.try_get_u64().ok()?) })
            }
        };
        let kept = match bytes.first()? & KIND_MASK {
            causal::HEAD => Kept::Siblings(causal::decode(bytes).ok()?),
            _ => Kept::Version(record::decode(bytes)?),
        };
        Some(Held { created, custody: flags & CUSTODY != 0, acting, kept })
    }

    /// What is found under the key of a hint.
    pub(super) fn found(present: Option<Bytes>) -> Result<Option<Held>, DiskError> {
        present.map(|bytes| Held::decode(bytes).ok_or_else(|| damaged("hint"))).transpose()
    }

    /// The writes whose values have records of their own.
    pub(super) fn apart(&self) -> Vec<Dot> {
        match &self.kept {
            Kept::Version(_) => Vec::new(),
            Kept::Siblings(set) => causal::apart(set),
        }
    }

    /// Brings the values that are away.
    pub(super) fn load(
        &mut self,
        target: NodeId,
        place: &HintPlace,
        get: impl Fn(&[u8]) -> Result<Option<Bytes>, DiskError>,
    ) -> Result<(), DiskError> {
        let apart = self.apart();
        let Kept::Siblings(set) = &mut self.kept else { return Ok(()) };
        causal::fetch(set, &apart, |dot| get(&hint_value_key(target, place, dot)))
    }
}

pub(super) fn damaged(what: &str) -> DiskError {
    DiskError::Corruption(format!("a stored {what} does not decode"))
}

/// Whether two are the same, wherever their values are.
pub(super) fn is_same(one: &Kept, other: &Kept) -> bool {
    match (one, other) {
        (Kept::Version(one), Kept::Version(other)) => one == other,
        (Kept::Siblings(one), Kept::Siblings(other)) => one.sketch() == other.sketch(),
        _ => false,
    }
}

/// What one counts for.
pub(super) fn totals(custody: bool, place: &HintPlace, kept: &Kept) -> HintTotals {
    let bytes = place.key.as_bytes().len() + kept.bytes();
    HintTotals::one(custody, u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// Stores `after` in the place of `before`, with its entry in the index. Values of `apart`, which
/// were away, stay where they are.
pub(super) fn store(
    target: NodeId,
    place: &HintPlace,
    (before, apart): (Option<&Held>, &[Dot]),
    mut after: Held,
) -> (Batch, HintChange) {
    let mut batch = Batch::new();
    let place = HintPlace { created: after.created, ..place.clone() };
    let removed = before.map(|held| totals(held.custody, &place, &held.kept));
    let added = totals(after.custody, &place, &after.kept);
    if let Kept::Siblings(set) = &mut after.kept {
        causal::lay(&mut batch, |dot| hint_value_key(target, &place, dot), apart, set);
    }
    batch.put(&hint_key(target, place.unit, place.table, &place.key), &after.encode());
    batch.put(&hint_age_key(target, &place), &encode_aged(after.custody, added.bytes));
    let removed = removed.unwrap_or_default();
    (batch, HintChange { added, removed, created: after.created })
}

/// Deletes a hint, its values and its entry in the index.
pub(super) fn delete(batch: &mut Batch, target: NodeId, place: &HintPlace, apart: &[Dot]) {
    for dot in apart {
        batch.delete(&hint_value_key(target, place, *dot));
    }
    batch.delete(&hint_key(target, place.unit, place.table, &place.key));
    batch.delete(&hint_age_key(target, place));
}

pub(super) fn encode_aged(custody: bool, bytes: u64) -> Vec<u8> {
    let mut entry = vec![if custody { CUSTODY } else { 0 }];
    entry.extend_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
    entry
}

pub(super) fn decode_aged(value: &[u8]) -> Option<HintTotals> {
    let (&flags, rest) = value.split_first()?;
    let bytes = u32::from_be_bytes(rest.try_into().ok()?);
    (flags & !CUSTODY == 0).then(|| HintTotals::one(flags & CUSTODY != 0, bytes.into()))
}
