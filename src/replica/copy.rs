//! Copies of units between replicas: reading one page by page, telling what differs, and merging what
//! another holds, record by record, by the rules of each kind. Nothing that is there is ever replaced
//! by something older: writes arrive while a unit is filled. `docs/protocol/transfer.md`.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use super::execute::{Undone, submit};
use super::keyspace::{self, DATA, PREFIX_BYTES, data_key, is_sibling, unit_prefix};
use super::{Done, Shared, causal, disk_error, record, register};
use crate::causality::{Accepted, Acceptor, Merge, merge};
use crate::message::{
    CopyContent, CopyEntry, CopyMark, CopyPage, CopyPlace, CopyRecord, CopyWhat, DiskAnswer,
    DiskError, UnitDone,
};
use crate::storage::{Batch, Direction, Durability, Engine, KeyRange, OnDone, Snapshot};
use crate::types::{Key, Record, Stamp, Unit, limits};

/// Keys that are merged in one batch. Their stripes are held together for so long.
const BATCH_KEYS_MAX: usize = 64;
/// Bytes of records from which on a batch takes no more.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Reads a page, and answers once what it shows is durable: what this node has written and could
/// still lose must not be found elsewhere.
pub(super) fn page(shared: &Shared, unit: Unit, what: CopyWhat, done: Done) {
    let before = Undone::now(shared);
    let snapshot = shared.engine.snapshot();
    let page = match what {
        CopyWhat::All(after) => entries(&snapshot, unit, after.as_ref()),
        CopyWhat::Marks(after) => marks(&snapshot, unit, after.as_ref()),
        CopyWhat::Keys(places) => these(&snapshot, unit, places),
    };
    match page {
        Ok(page) => {
            let answer = DiskAnswer::Unit(UnitDone::Page(page));
            submit(shared, Batch::new(), Durability::Default, answer, before.guard(done));
        }
        Err(error) => done(Err(error)),
    }
}

/// Walks the keys of a unit behind `after`, until `take` has enough. Returns the last one taken, unless
/// all were.
fn walk(
    snapshot: &Snapshot,
    unit: Unit,
    after: Option<&CopyPlace>,
    mut take: impl FnMut(CopyPlace, Bytes) -> Result<bool, DiskError>,
) -> Result<Option<CopyPlace>, DiskError> {
    let range = KeyRange::prefix(&unit_prefix(DATA, unit));
    let behind = after.map(|place| data_key(unit, place.table, &place.key));
    let start = behind
        .as_ref()
        .map_or(Bound::Included(range.start()), |key| Bound::Excluded(key.as_slice()));
    let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
    for pair in snapshot.range(start, end, Direction::Forward) {
        let (key, value, _) = pair.map_err(|error| disk_error(&error))?;
        if is_sibling(&key) {
            // Behind all heads, which have been read with them.
            return Ok(None);
        }
        let place = place_of(&key)?;
        if !take(place.clone(), value)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn place_of(key: &[u8]) -> Result<CopyPlace, DiskError> {
    let damaged = || DiskError::Corruption(format!("a key of {} bytes is none of ours", key.len()));
    let table = keyspace::table_of(key).ok_or_else(damaged)?;
    // A copy: a page must not pin the blocks it was read from.
    let user = Bytes::copy_from_slice(key.get(PREFIX_BYTES..).unwrap_or_default());
    Ok(CopyPlace { table, key: Key::new(user).map_err(|_| damaged())? })
}

fn entries(
    snapshot: &Snapshot,
    unit: Unit,
    after: Option<&CopyPlace>,
) -> Result<CopyPage, DiskError> {
    let (mut entries, mut bytes, mut keys) = (Vec::new(), 0, 0);
    let next = walk(snapshot, unit, after, |place, value| {
        (bytes, keys) = (bytes + add(snapshot, unit, (place, value), &mut entries)?, keys + 1);
        Ok(bytes < limits::COPY_PAGE_BYTES_MAX && keys < limits::COPY_PAGE_ENTRIES_MAX)
    })?;
    Ok(CopyPage { content: CopyContent::Records(entries), next })
}

fn marks(
    snapshot: &Snapshot,
    unit: Unit,
    after: Option<&CopyPlace>,
) -> Result<CopyPage, DiskError> {
    let (mut marks, mut bytes) = (Vec::new(), 0);
    let next = walk(snapshot, unit, after, |place, value| {
        let (stamp, print) = mark(value)?;
        bytes += place.bytes() + 32;
        marks.push(CopyMark { place, stamp, print });
        Ok(bytes < limits::COPY_PAGE_BYTES_MAX && marks.len() < limits::COPY_PAGE_ENTRIES_MAX)
    })?;
    Ok(CopyPage { content: CopyContent::Marks(marks), next })
}

/// These keys, as far as they fit a page.
fn these(snapshot: &Snapshot, unit: Unit, places: Vec<CopyPlace>) -> Result<CopyPage, DiskError> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let last = places.last().cloned();
    for place in places {
        let key = data_key(unit, place.table, &place.key);
        let found = snapshot.get(&key).map_err(|error| disk_error(&error))?;
        if let Some((value, _)) = found {
            bytes += add(snapshot, unit, (place.clone(), value), &mut entries)?;
        }
        if bytes >= limits::COPY_PAGE_BYTES_MAX && Some(&place) != last.as_ref() {
            return Ok(CopyPage { content: CopyContent::Records(entries), next: Some(place) });
        }
    }
    Ok(CopyPage { content: CopyContent::Records(entries), next: None })
}

/// Adds what is there of a key, a large set in pieces. Returns its bytes.
fn add(
    snapshot: &Snapshot,
    unit: Unit,
    (place, value): (CopyPlace, Bytes),
    entries: &mut Vec<CopyEntry>,
) -> Result<usize, DiskError> {
    let records = match value.first() {
        Some(&causal::HEAD) => {
            let set = causal::whole(snapshot, (unit, place.table, &place.key), value)?;
            set.pieces().into_iter().map(CopyRecord::Siblings).collect()
        }
        Some(&register::ACCEPTOR) => vec![CopyRecord::Register(register::decode(value)?)],
        _ => vec![CopyRecord::Version(version(Bytes::copy_from_slice(&value))?)],
    };
    let mut bytes = 0;
    for record in records {
        let entry = CopyEntry { place: place.clone(), record };
        bytes += entry.bytes();
        entries.push(entry);
    }
    Ok(bytes)
}

fn version(bytes: Bytes) -> Result<Record, DiskError> {
    record::decode(bytes)
        .ok_or_else(|| DiskError::Corruption("a stored version does not decode".to_owned()))
}

/// What tells whether another replica holds the same.
fn mark(value: Bytes) -> Result<(Stamp, u128), DiskError> {
    Ok(match value.first() {
        Some(&causal::HEAD) => {
            // Where values are stored is each replica's own affair.
            let set = causal::decode(value)?.sketch();
            (Stamp::ZERO, xxh3_128(&set.encode()))
        }
        Some(&register::ACCEPTOR) => {
            let acceptor: Acceptor = register::decode(value)?;
            let ballot = |accepted: &Accepted| accepted.ballot;
            let accepted = acceptor.accepted().map(ballot).unwrap_or_default();
            let both = [acceptor.promised().to_bytes(), accepted.to_bytes()].concat();
            (Stamp::ZERO, xxh3_128(&both))
        }
        _ => {
            let version = version(value.clone())?;
            // Two writes whose times clients have given may have one stamp: then content decides.
            let print = if version.stamp.is_of_client() { xxh3_128(&value) } else { 0 };
            (version.stamp, print)
        }
    })
}

/// The keys of which this replica lacks what another has.
pub(super) fn wanted(
    engine: &Engine,
    unit: Unit,
    marks: Vec<CopyMark>,
) -> Result<Vec<CopyPlace>, DiskError> {
    let snapshot = engine.snapshot();
    let mut wanted = Vec::new();
    for theirs in marks {
        let key = data_key(unit, theirs.place.table, &theirs.place.key);
        let found = snapshot.get(&key).map_err(|error| disk_error(&error))?;
        let own = found.map(|(value, _)| mark(value)).transpose()?;
        let lacks = own.is_none_or(|(stamp, print)| {
            stamp < theirs.stamp || (stamp == theirs.stamp && theirs.print != print)
        });
        if lacks {
            wanted.push(theirs.place);
        }
    }
    Ok(wanted)
}

/// Merges what another replica has, and answers once all of it is durable.
pub(super) fn merge_all(shared: &Shared, unit: Unit, entries: Vec<CopyEntry>, done: Done) {
    let before = Undone::now(shared);
    // Batches are done in their order: the last one tells of all, unless an earlier one failed.
    let failed = Arc::new(Mutex::new(None));
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let (mut some, mut bytes) = (Vec::<CopyEntry>::new(), 0);
        while some.len() < BATCH_KEYS_MAX && bytes < BATCH_BYTES_MAX {
            // Of two pieces of one set the second must find the first.
            let is_next = |next: &CopyEntry| some.last().is_none_or(|it| it.place != next.place);
            let Some(entry) = entries.next_if(is_next) else { break };
            bytes += entry.bytes();
            some.push(entry);
        }
        if let Err(error) = merge_some(shared, unit, some, &failed) {
            return done(Err(error));
        }
    }
    let done = before.guard(Box::new(move |outcome| {
        let failed = failed.lock().take();
        done(failed.map_or(outcome, Err));
    }));
    let answer = DiskAnswer::Unit(UnitDone::Merged);
    submit(shared, Batch::new(), Durability::Default, answer, done);
}

fn merge_some(
    shared: &Shared,
    unit: Unit,
    entries: Vec<CopyEntry>,
    failed: &Arc<Mutex<Option<DiskError>>>,
) -> Result<(), DiskError> {
    let place = |entry: &CopyEntry| data_key(unit, entry.place.table, &entry.place.key);
    let mut stripes: Vec<usize> =
        entries.iter().map(|entry| shared.stripe_index(&place(entry))).collect();
    stripes.sort_unstable();
    stripes.dedup();
    // In order: nobody else holds several but those who take all of them, in this order.
    let _guards: Vec<_> =
        stripes.iter().filter_map(|stripe| Some(shared.stripes.get(*stripe)?.lock())).collect();
    let mut batch = Batch::new();
    for entry in entries {
        let key = place(&entry);
        let CopyPlace { table, key: user } = entry.place;
        match entry.record {
            CopyRecord::Version(arriving) => merge_version(shared, &mut batch, &key, &arriving)?,
            CopyRecord::Register(copied) => {
                register::merge_into(shared, &mut batch, &key, copied)?;
            }
            CopyRecord::Siblings(set) => {
                causal::merge_into(shared, &mut batch, (unit, table, &user), set)?;
            }
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    let failed = Arc::clone(failed);
    let on_done: OnDone = Box::new(move |result| {
        if let Err(error) = result {
            failed.lock().get_or_insert(disk_error(&error));
        }
    });
    let submitted = shared.engine.submit_quietly(batch, Durability::Default, on_done);
    submitted.map(drop).map_err(|(error, _)| disk_error(&error))
}

fn merge_version(
    shared: &Shared,
    batch: &mut Batch,
    key: &[u8],
    arriving: &Record,
) -> Result<(), DiskError> {
    let present = shared.engine.get(key).map_err(|error| disk_error(&error))?;
    let present = present.map(|(bytes, _)| version(bytes)).transpose()?;
    if merge(present.as_ref(), arriving) == Merge::Replace || crate::mutant!("copy-overwrites") {
        batch.put(key, &record::encode(arriving));
    }
    Ok(())
}
