//! What a tree is built of: the entries of a unit, read from the engine without their values.

use std::ops::Bound;

use bytes::Bytes;

use crate::causality::{Acceptor, SiblingSet};
use crate::message::DiskError;
use crate::repair::tree::{Entry, Place, Print, Range, Sum, Wanted};
use crate::replica::keyspace::{DATA, UNIT_BYTES, is_sibling, unit_prefix};
use crate::replica::{causal, disk_error, record, register};
use crate::storage::{Direction, KeyRange, Snapshot};
use crate::types::Unit;

/// Entries that are read at once to build a tree.
const PAGE_ENTRIES: usize = 1_024;

/// What is wanted of a unit, and whether it is the last there is.
pub(super) fn read(
    snapshot: &Snapshot,
    unit: Unit,
    wanted: &Wanted,
) -> Result<(Vec<(Place, Print)>, bool), DiskError> {
    let mut found = Vec::new();
    let mut take = |entry: Entry| {
        found.push((entry.place, entry.print));
        true
    };
    let is_last = match wanted {
        Wanted::All(range) => {
            let start = Bound::Included(&range.from);
            walk(snapshot, unit, (start, range.to.as_ref()), usize::MAX, &mut take)?
        }
        Wanted::Behind(place) => {
            let start = Bound::Excluded(place);
            walk(snapshot, unit, (start, None), PAGE_ENTRIES, &mut take)?
        }
    };
    Ok((found, is_last))
}

/// The entries of a range in order, at most so many.
pub(super) fn entries(
    snapshot: &Snapshot,
    unit: Unit,
    range: &Range,
    limit: usize,
) -> Result<Vec<Entry>, DiskError> {
    let mut found = Vec::new();
    let bounds = (Bound::Included(&range.from), range.to.as_ref());
    let mut take = |entry| {
        found.push(entry);
        true
    };
    walk(snapshot, unit, bounds, limit, &mut take)?;
    Ok(found)
}

/// The sum of the entries of a range; one that has more than `most` is summed no further.
pub(super) fn sum(
    snapshot: &Snapshot,
    unit: Unit,
    range: &Range,
    most: u64,
) -> Result<Sum, DiskError> {
    let mut sum = Sum::default();
    let mut take = |entry: Entry| {
        sum.add(entry.print);
        sum.count <= most
    };
    let bounds = (Bound::Included(&range.from), range.to.as_ref());
    walk(snapshot, unit, bounds, usize::MAX, &mut take)?;
    Ok(sum)
}

/// Takes the entries between two places, at most `limit`, and as long as `take` says that it goes on. Returns
/// whether those were all.
fn walk(
    snapshot: &Snapshot,
    unit: Unit,
    (start, to): (Bound<&Place>, Option<&Place>),
    limit: usize,
    take: &mut dyn FnMut(Entry) -> bool,
) -> Result<bool, DiskError> {
    let prefix = unit_prefix(DATA, unit);
    let key = |place: &Place| [&prefix[..], place.as_bytes()].concat();
    let all = KeyRange::prefix(&prefix);
    let start = start.map(key);
    let end = to.map(key);
    let end = end.as_deref().or(all.end()).map_or(Bound::Unbounded, Bound::Excluded);
    let mut pairs = snapshot.range(start.as_ref().map(Vec::as_slice), end, Direction::Forward);
    let mut left = limit;
    loop {
        let next = pairs.next_head().map_err(|error| disk_error(&error))?;
        let Some(((key, head, _), is_whole)) = next else { return Ok(true) };
        if is_sibling(key) {
            // Behind all heads.
            return Ok(true);
        }
        if left == 0 {
            return Ok(false);
        }
        left -= 1;
        let place = key.get(UNIT_BYTES..).and_then(Place::from_bytes);
        let place = place.ok_or_else(|| damaged("key"))?;
        let entry = match entry_of(&place, head, is_whole)? {
            Read::Entry(entry) => entry,
            Read::NeedsValue => {
                let key = key.to_vec();
                let found = snapshot.get(&key).map_err(|error| disk_error(&error))?;
                let (value, _) = found.ok_or_else(|| damaged("value"))?;
                match entry_of(&place, &value, true)? {
                    Read::Entry(entry) => entry,
                    Read::NeedsValue => return Err(damaged("value")),
                }
            }
        };
        if let Some(entry) = entry
            && !take(entry)
        {
            return Ok(false);
        }
    }
}

enum Read {
    /// An entry, or none: what stands there is nothing that has to be equal.
    Entry(Option<Entry>),
    /// The first bytes do not tell.
    NeedsValue,
}

/// The fingerprint of what stands at a place, of the whole of what is stored there.
///
/// # Errors
/// It does not decode.
pub(super) fn print(place: &Place, value: &[u8]) -> Result<Option<Print>, DiskError> {
    match entry_of(place, value, true)? {
        Read::Entry(entry) => Ok(entry.map(|entry| entry.print)),
        Read::NeedsValue => Err(damaged("value")),
    }
}

/// What stands at a place, by the first bytes of what is stored there.
fn entry_of(place: &Place, head: &[u8], is_whole: bool) -> Result<Read, DiskError> {
    let kind = head.first().copied();
    if kind != Some(causal::HEAD) && kind != Some(register::ACCEPTOR) {
        let sketch = record::sketch(head).ok_or_else(|| damaged("version"))?;
        // Of two versions of one stamp a client has given the content decides.
        if sketch.value.is_none() || !sketch.stamp.is_of_client() {
            return Ok(Read::Entry(Some(Entry::version(place.clone(), &sketch))));
        }
        if !is_whole {
            return Ok(Read::NeedsValue);
        }
        let whole = record::decode(Bytes::copy_from_slice(head));
        let whole = whole.ok_or_else(|| damaged("version"))?;
        return Ok(Read::Entry(Some(Entry::version(place.clone(), &whole))));
    }
    if !is_whole {
        return Ok(Read::NeedsValue);
    }
    let value = Bytes::copy_from_slice(head);
    Ok(Read::Entry(if kind == Some(causal::HEAD) {
        let set: SiblingSet = causal::decode(value)?;
        Entry::siblings(place.clone(), &set)
    } else {
        let acceptor: Acceptor = register::decode(value)?;
        Entry::register(place.clone(), &acceptor)
    }))
}

pub(super) fn damaged(what: &str) -> DiskError {
    DiskError::Corruption(format!("a stored {what} does not decode"))
}
