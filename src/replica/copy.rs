//! Copies of units between replicas: reading one page by page, telling what differs, and merging what
//! another holds, record by record, by the rules of each kind. Nothing that is there is ever replaced
//! by something older: writes arrive while a unit is filled. `docs/protocol/transfer.md`.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_128;

use super::execute::{Undone, submit};
use super::keyspace::{self, DATA, PREFIX_BYTES, data_key, is_sibling, unit_prefix};
use super::trees::{self, Counted};
use super::{Done, Shared, causal, disk_error, exact, record, register};
use crate::causality::{Accepted, Acceptor, Merge, merge};
use crate::message::{
    CopyContent, CopyEntry, CopyLack, CopyMark, CopyPage, CopyPlace, CopyRecord, CopyStretch,
    CopyTold, CopyWhat, DiskAnswer, DiskError, UnitDone,
};
use crate::repair::floor::{Bounds, From, Verdict, version_ends};
use crate::repair::tree::Place;
use crate::storage::{Batch, Direction, Durability, KeyRange, Snapshot};
use crate::types::{Key, Record, Stamp, Unit, limits};

/// Keys that are merged in one batch. Their stripes are held together for so long.
const BATCH_KEYS_MAX: usize = 64;
/// A unit that has fewer bytes is given as records: files would cost more.
const SMALL_BYTES: usize = 512 << 10;
/// Bytes of records from which on a batch takes no more.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Reads a page, and answers once what it shows is durable: what this node has written and could
/// still lose must not be found elsewhere.
pub(super) fn page(shared: &Shared, unit: Unit, what: CopyWhat, done: Done) {
    let before = Undone::now(shared);
    let snapshot = shared.engine.snapshot();
    let page = match what {
        CopyWhat::Files | CopyWhat::Chunk(..) | CopyWhat::Ended => {
            unreachable!("of files, see `files`")
        }
        CopyWhat::All(after) => entries(&snapshot, unit, after.as_ref()),
        CopyWhat::Marks(stretch) => marks(&snapshot, unit, &stretch),
        CopyWhat::Leaves(from, after) => match trees::leaves(shared, unit, &from) {
            Some(leaves) => Ok(CopyPage { content: CopyContent::Leaves(leaves), next: None }),
            None => {
                crate::sometimes!("replica: a source has no tree to tell of");
                marks(&snapshot, unit, &CopyStretch::behind(after))
            }
        },
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

/// The first page of a unit, if that is all of it; else nothing.
pub(super) fn is_small(shared: &Shared, unit: Unit) -> Result<bool, DiskError> {
    let (mut bytes, mut keys) = (0, 0);
    let next = walk(&shared.engine.snapshot(), DATA, unit, None, |place, value| {
        (bytes, keys) = (bytes + place.bytes() + value.len(), keys + 1);
        Ok(bytes < SMALL_BYTES && keys < limits::COPY_PAGE_ENTRIES_MAX)
    })?;
    Ok(next.is_none())
}

/// Walks the keys of a unit behind `after`, until `take` has enough. Returns the last one taken, unless
/// all were.
pub(super) fn walk(
    snapshot: &Snapshot,
    space: u8,
    unit: Unit,
    after: Option<&CopyPlace>,
    take: impl FnMut(CopyPlace, Bytes) -> Result<bool, DiskError>,
) -> Result<Option<CopyPlace>, DiskError> {
    walk_in(snapshot, (space, unit), &CopyStretch::behind(after.cloned()), take)
}

/// The same of a stretch of a unit.
pub(super) fn walk_in(
    snapshot: &Snapshot,
    (space, unit): (u8, Unit),
    CopyStretch { range, after }: &CopyStretch,
    mut take: impl FnMut(CopyPlace, Bytes) -> Result<bool, DiskError>,
) -> Result<Option<CopyPlace>, DiskError> {
    let prefix = unit_prefix(space, unit);
    let key = |place: &Place| [&prefix[..], place.as_bytes()].concat();
    let all = KeyRange::prefix(&prefix);
    let (from, to) = (key(&range.from), range.to.as_ref().map(key));
    let behind = after.as_ref().map(|place| key(&place.place()));
    let behind = behind.as_deref().filter(|behind| *behind >= &from[..]);
    let start = behind.map_or(Bound::Included(&from[..]), Bound::Excluded);
    let end = to.as_deref().or(all.end());
    if end.is_some_and(|end| behind.unwrap_or(&from) >= end) {
        return Ok(None);
    }
    let end = end.map_or(Bound::Unbounded, Bound::Excluded);
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
    let next = walk(snapshot, DATA, unit, after, |place, value| {
        (bytes, keys) = (bytes + add(snapshot, unit, (place, value), &mut entries)?, keys + 1);
        Ok(bytes < limits::COPY_PAGE_BYTES_MAX && keys < limits::COPY_PAGE_ENTRIES_MAX)
    })?;
    Ok(CopyPage { content: CopyContent::Records(entries), next })
}

fn marks(snapshot: &Snapshot, unit: Unit, stretch: &CopyStretch) -> Result<CopyPage, DiskError> {
    let (mut marks, mut bytes) = (Vec::new(), 0);
    let next = walk_in(snapshot, (DATA, unit), stretch, |place, value| {
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
    let records = match read(snapshot, DATA, (unit, &place), value)? {
        CopyRecord::Siblings(set) => set.pieces().into_iter().map(CopyRecord::Siblings).collect(),
        record => vec![record],
    };
    let mut bytes = 0;
    for record in records {
        let entry = CopyEntry { place: place.clone(), record };
        bytes += entry.bytes();
        entries.push(entry);
    }
    Ok(bytes)
}

/// What is there of a key.
pub(super) fn read(
    snapshot: &Snapshot,
    space: u8,
    (unit, place): (Unit, &CopyPlace),
    value: Bytes,
) -> Result<CopyRecord, DiskError> {
    Ok(match value.first() {
        Some(&causal::HEAD) => {
            let place = (unit, place.table, &place.key);
            CopyRecord::Siblings(causal::whole(snapshot, space, place, value)?)
        }
        Some(&register::ACCEPTOR) => CopyRecord::Register(register::decode(value)?),
        // A copy: it must not pin the block it was read from.
        _ => CopyRecord::Version(version(Bytes::copy_from_slice(&value))?),
    })
}

fn version(bytes: Bytes) -> Result<Record, DiskError> {
    record::decode(bytes)
        .ok_or_else(|| DiskError::Corruption("a stored version does not decode".to_owned()))
}

/// What tells whether another replica holds the same.
pub(super) fn mark(value: Bytes) -> Result<(Stamp, u128), DiskError> {
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

/// Finds what this replica lacks of what another has told, and answers once what it has is durable: the
/// other is not asked for that again.
pub(super) fn compare(shared: &Shared, unit: Unit, told: CopyTold, done: Done) {
    let before = Undone::now(shared);
    let lack = match told {
        CopyTold::Marks(marks) => {
            wanted(&shared.engine.snapshot(), unit, marks).map(CopyLack::Keys)
        }
        CopyTold::Sums(sums) => trees::differing(shared, unit, sums, false).map(CopyLack::Ranges),
        CopyTold::ExactSums(sums) => {
            trees::differing(shared, unit, sums, true).map(CopyLack::Ranges)
        }
        CopyTold::MirrorSums(sums) => {
            trees::mirror_differing(shared, unit, sums).map(CopyLack::Ranges)
        }
        CopyTold::Exactly(stretch, next, marks) => {
            return exact::compare(shared, unit, (stretch, next, marks), done);
        }
    };
    let answer = match lack {
        Ok(lack) => DiskAnswer::Unit(UnitDone::Wanted(lack)),
        Err(error) => return done(Err(error)),
    };
    // After trees and store have been looked at: it has all that either has shown.
    let of = shared.engine.snapshot().seqno();
    let is_settled = shared.engine.is_settled(of) && !before.has_risen();
    if is_settled || crate::mutant!("compared-before-durable") {
        return done(Ok(answer));
    }
    submit(shared, Batch::new(), Durability::Default, answer, before.guard(done));
}

/// The keys of which this replica lacks what another has. Both are in key order: they are read side by
/// side, which costs a fraction of looking each up.
fn wanted(
    snapshot: &Snapshot,
    unit: Unit,
    marks: Vec<CopyMark>,
) -> Result<Vec<CopyPlace>, DiskError> {
    let key_of = |place: &CopyPlace| data_key(unit, place.table, &place.key);
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else { return Ok(Vec::new()) };
    let (start, end) = (key_of(&first.place), key_of(&last.place));
    let bounds = (Bound::Included(&start[..]), Bound::Included(&end[..]));
    let mut pairs = snapshot.range(bounds.0, bounds.1, Direction::Forward);
    let mut next_pair = || pairs.next().transpose().map_err(|error| disk_error(&error));
    let (mut wanted, mut own) = (Vec::new(), next_pair()?);
    for theirs in marks {
        let key = key_of(&theirs.place);
        while own.as_ref().is_some_and(|(present, ..)| present[..] < key[..]) {
            own = next_pair()?;
        }
        let present = own.as_ref().filter(|(present, ..)| present[..] == key[..]);
        let present = present.map(|(_, value, _)| mark(value.clone())).transpose()?;
        let lacks = present.is_none_or(|(stamp, print)| {
            stamp < theirs.stamp || (stamp == theirs.stamp && print.ne(&theirs.print))
        });
        if lacks {
            wanted.push(theirs.place);
        }
    }
    Ok(wanted)
}

/// From whom records come, and with it what is taken that is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Giver {
    /// Another complete owner, to this one, which is complete too.
    Owner,
    /// A source of the fill.
    Source,
    /// What has come to this replica itself while it is filled, and stands beside.
    Overlay,
}

impl Giver {
    /// What is late.
    pub(super) fn bounds(self, shared: &Shared, unit: Unit) -> Bounds {
        match self {
            Giver::Owner => shared.floors.bounds(unit),
            Giver::Overlay if !crate::mutant!("fill-keeps-unlisted") => {
                shared.floors.bounds_of_fill(unit)
            }
            Giver::Source | Giver::Overlay => Bounds::default(),
        }
    }

    /// What is to be done with a version that is lacking.
    fn judge(self, shared: &Shared, unit: Unit, arriving: &Record) -> Verdict {
        let bounds = self.bounds(shared, unit);
        match self {
            Giver::Owner => bounds.judge(arriving.stamp, From::Owner),
            Giver::Overlay => bounds.judge(arriving.stamp, From::Outside),
            Giver::Source => {
                let floor = shared.floors.bounds(unit).floor;
                let is_purged = version_ends(arriving).is_some_and(|at| at <= floor);
                if is_purged { Verdict::Drop } else { Verdict::Take }
            }
        }
    }
}

/// Merges what another replica has, and answers once all of it is durable.
pub(super) fn merge_all(
    shared: &Shared,
    (unit, giver): (Unit, Giver),
    entries: Vec<CopyEntry>,
    done: Done,
) {
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
        if let Err(error) = merge_some(shared, (unit, giver), (some, &before), &failed) {
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
    (unit, giver): (Unit, Giver),
    (entries, before): (Vec<CopyEntry>, &Undone),
    failed: &Arc<Mutex<Option<DiskError>>>,
) -> Result<(), DiskError> {
    let _guards = lock_all(shared, unit, entries.iter().map(|entry| &entry.place));
    let mut counted = Counted::new(unit, before);
    let mut voids = false;
    for CopyEntry { place, record } in entries {
        voids |= merge_into(shared, &mut counted, &place, record, giver)?;
    }
    if counted.batch.is_empty() {
        return Ok(());
    }
    // Until the batch is in its place in the log.
    let _floors = if voids { Some(shared.floors.void(unit, &mut counted.batch)?) } else { None };
    let failed = Arc::clone(failed);
    let heard = Box::new(move |outcome: Result<(), DiskError>| {
        if let Err(error) = outcome {
            failed.lock().get_or_insert(error);
        }
    });
    let handed = trees::hand_in(shared, counted, Durability::Default, heard);
    handed.map_err(|(error, _)| disk_error(&error))
}

/// Locks the stripes of these keys, in order: nobody else holds several but those who take all of them,
/// in this order.
pub(super) fn lock_all<'a, 'b>(
    shared: &'a Shared,
    unit: Unit,
    places: impl Iterator<Item = &'b CopyPlace>,
) -> Vec<MutexGuard<'a, ()>> {
    let index = |place: &CopyPlace| shared.stripe_index(&data_key(unit, place.table, &place.key));
    let mut stripes: Vec<usize> = places.map(index).collect();
    stripes.sort_unstable();
    stripes.dedup();
    stripes.iter().filter_map(|stripe| Some(shared.stripes.get(*stripe)?.lock())).collect()
}

/// Merges a record into what is there of its key in the range; the caller holds the key's stripe. Says
/// whether it has brought anything at or below the gate.
pub(super) fn merge_into(
    shared: &Shared,
    counted: &mut Counted,
    CopyPlace { table, key: user }: &CopyPlace,
    record: CopyRecord,
    giver: Giver,
) -> Result<bool, DiskError> {
    let unit = counted.unit();
    let key = data_key(unit, *table, user);
    match record {
        CopyRecord::Version(arriving) => merge_version(shared, counted, &key, &arriving, giver),
        CopyRecord::Register(copied) => {
            register::merge_into(shared, counted, &key, copied, giver).map(|()| false)
        }
        CopyRecord::Siblings(set) => {
            causal::merge_into(shared, counted, (*table, user), set, giver)
        }
    }
}

fn merge_version(
    shared: &Shared,
    counted: &mut Counted,
    key: &[u8],
    arriving: &Record,
    giver: Giver,
) -> Result<bool, DiskError> {
    let present = shared.engine.get(key).map_err(|error| disk_error(&error))?;
    let present = present.map(|(bytes, _)| version(bytes)).transpose()?;
    if merge(present.as_ref(), arriving) != Merge::Replace && !crate::mutant!("copy-overwrites") {
        return Ok(false);
    }
    let verdict = giver.judge(shared, counted.unit(), arriving);
    if matches!(verdict, Verdict::Drop | Verdict::Refuse) {
        crate::sometimes!("replica: a late copy is dropped");
        return Ok(false);
    }
    counted.batch.put(key, &record::encode(arriving));
    counted.version(key, present.as_ref(), arriving);
    Ok(verdict == Verdict::TakeAndVoid)
}
