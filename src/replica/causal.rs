//! Sets of siblings over the engine: a head record that holds the context and, as long as they are
//! small or alone, the values; and a record for each larger value. `docs/format/causal.md`.
//!
//! A head that names a value which is not there is no damage: the engine takes back what a full
//! disk refused, and a later batch may have been built on it. The write is then forgotten, and
//! the replica is told of it again.

use bytes::{Buf, Bytes};

use super::copy::Giver;
use super::execute::{Undone, submit};
use super::keyspace::DATA;
use super::trees::{self, Counted};
use super::{Done, Shared, disk_error, hints, keyspace};
use crate::causality::{Actor, Applied, Change, Dot, Payload, Refused, SiblingSet, Tick};
use crate::message::{
    CausalDisk, CausalDone, CausalTask, Changed, CopyPlace, DiskAnswer, DiskError,
};
use crate::repair::floor::{Bounds, From, Verdict, purged};
use crate::storage::{Batch, Durability, Seqno, Snapshot, TryGet};
use crate::types::{Key, NodeId, TableId, Unit, Value, limits};

/// The first byte of a head: its kind, in the bits that are 0 of a last-writer-wins register.
pub(super) const HEAD: u8 = 0x10;

/// Carries a request out if memory can answer it; hands it back otherwise.
pub(super) fn try_execute(
    shared: &Shared,
    disk: Box<CausalDisk>,
    done: Done,
) -> Option<(Box<CausalDisk>, Done)> {
    let head_key = keyspace::data_key(disk.unit, disk.table, &disk.key);
    if matches!(disk.task, CausalTask::ReadKept(_)) {
        return Some((disk, done));
    }
    let Some(guard) = shared.stripe(&head_key).try_lock() else { return Some((disk, done)) };
    let head_key = shared.overlays.placed(disk.unit, head_key);
    let before = Undone::now(shared);
    let (head, of) = match shared.engine.try_get(&head_key) {
        TryGet::Found(bytes, of) => (decode(bytes), of),
        TryGet::Absent => (Ok(SiblingSet::default()), Seqno::default()),
        TryGet::NeedsDisk => return Some((disk, done)),
    };
    let whole = head.as_ref().is_ok_and(is_whole);
    if head.is_ok() && !whole && !matches!(disk.task, CausalTask::Merge(_)) {
        return Some((disk, done));
    }
    match head {
        Ok(set) => perform(shared, &head_key, *disk, (Stored::of(set, of), before), done),
        Err(error) => done(Err(error)),
    }
    drop(guard);
    None
}

/// Carries a request out; may wait for the disk.
pub(super) fn execute(shared: &Shared, disk: CausalDisk, done: Done) {
    if let CausalTask::ReadKept(targets) = &disk.task {
        return read_kept(shared, &disk, targets, done);
    }
    let head_key = keyspace::data_key(disk.unit, disk.table, &disk.key);
    let _guard = shared.stripe(&head_key).lock();
    let head_key = shared.overlays.placed(disk.unit, head_key);
    let before = Undone::now(shared);
    match load(shared, &disk, &head_key) {
        Ok(stored) => perform(shared, &head_key, disk, (stored, before), done),
        Err(error) => done(Err(error)),
    }
}

/// What is kept for others. This node may have written it as a stand-in, or been told of it and
/// not hold it yet: it is told once it is durable.
fn read_kept(shared: &Shared, disk: &CausalDisk, targets: &[NodeId], done: Done) {
    let before = Undone::now(shared);
    match hints::read_sets(&shared.engine, targets, (disk.unit, disk.table, &disk.key)) {
        Ok(set) => {
            let answer = DiskAnswer::Causal(CausalDone::Read(set));
            if crate::mutant!("reads-unsettled") {
                return done(Ok(answer));
            }
            submit(shared, Batch::new(), Durability::Default, answer, before.guard(done));
        }
        Err(error) => done(Err(error)),
    }
}

/// A set as it was found.
struct Stored {
    set: SiblingSet,
    /// The batch that wrote its head, and no value of it later; 0 for none.
    of: Seqno,
    /// Writes whose values have records of their own.
    apart: Vec<Dot>,
}

impl Stored {
    fn of(set: SiblingSet, of: Seqno) -> Stored {
        Stored { apart: apart(&set), set, of }
    }
}

/// The writes of a set whose values are away.
pub(super) fn apart(set: &SiblingSet) -> Vec<Dot> {
    let away = set.writes().filter(|(_, write)| is_away(&write.payload));
    away.map(|(dot, _)| dot).collect()
}

/// Values stand in the space of their head.
fn space_of(head_key: &[u8]) -> u8 {
    head_key.first().copied().unwrap_or(DATA)
}

/// The set as it is stored, with all its values unless it is only to be merged into.
fn load(shared: &Shared, disk: &CausalDisk, head_key: &[u8]) -> Result<Stored, DiskError> {
    let head = shared.engine.get(head_key).map_err(|error| disk_error(&error))?;
    let of = head.as_ref().map(|(_, of)| *of).unwrap_or_default();
    let set = head.map_or(Ok(SiblingSet::default()), |(bytes, _)| decode(bytes))?;
    let mut stored = Stored::of(set, of);
    if matches!(disk.task, CausalTask::Merge(_)) {
        return Ok(stored);
    }
    let Stored { set, apart, .. } = &mut stored;
    fetch(set, apart, |dot| {
        let place = (disk.unit, disk.table, &disk.key);
        let key = keyspace::sibling_key(space_of(head_key), place, dot);
        let found = shared.engine.get(&key).map_err(|error| disk_error(&error))?;
        Ok(found.map(|(bytes, _)| bytes))
    })?;
    Ok(stored)
}

/// Brings the values of these writes.
pub(super) fn fetch(
    set: &mut SiblingSet,
    apart: &[Dot],
    get: impl Fn(Dot) -> Result<Option<Bytes>, DiskError>,
) -> Result<(), DiskError> {
    for &dot in apart {
        let Some(bytes) = get(dot)? else {
            crate::sometimes!("replica: a sibling lost its value to a full disk");
            set.forget(dot);
            continue;
        };
        let value = Value::new(bytes).map_err(|_| damaged())?;
        set.place(|other, payload| {
            if other == dot {
                *payload = Payload::Here(value.clone());
            }
        });
    }
    Ok(())
}

/// Leaves the values of these writes away again.
pub(super) fn put_away(set: &mut SiblingSet, apart: &[Dot]) {
    set.place(|dot, payload| {
        if apart.contains(&dot) {
            *payload = away(payload);
        }
    });
}

/// Does what is asked with the set; the caller holds the key's stripe.
fn perform(
    shared: &Shared,
    head_key: &[u8],
    disk: CausalDisk,
    (Stored { set: mut before, apart, of }, undone): (Stored, Undone),
    done: Done,
) {
    let CausalDisk { unit, table, key, task } = disk;
    let mut after = before.clone();
    let answer = match task {
        CausalTask::Read => {
            let settled = shared.engine.is_settled(of) && !undone.has_risen();
            let answer = DiskAnswer::Causal(CausalDone::Read(before));
            if settled || crate::mutant!("reads-unsettled") {
                return done(Ok(answer));
            }
            // What this node wrote could still be lost, and its name given again; and after a failed
            // sync it will be.
            submit(shared, Batch::new(), Durability::Default, answer, undone.guard(done));
            return shared.engine.wake_log();
        }
        CausalTask::ReadKept(_) => unreachable!("read by itself, above"),
        CausalTask::Merge(set) => match join(&mut after, set, shared.floors.bounds(unit)) {
            Ok(()) => CausalDone::Merged,
            Err(late) => {
                let done = undone.guard(done);
                return submit(shared, Batch::new(), Durability::Default, late, done);
            }
        },
        CausalTask::Change(change) => make(&mut after, change, shared.floors.bounds(unit)),
    };
    let is_change = matches!(answer, CausalDone::Changed(_));
    let space = space_of(head_key);
    let place = |dot| keyspace::sibling_key(space, (unit, table, &key), dot);
    for set in [&mut before, &mut after] {
        put_away(set, &apart);
    }
    let same = after == before;
    let mut counted = Counted::new(unit, &undone);
    if !same {
        counted.siblings(head_key, &before, &after);
        store(&mut counted.batch, head_key, place, &apart, after);
    } else if !before.is_blank() {
        counted.set_stands(head_key, &before);
    }
    let answer = DiskAnswer::Causal(answer);
    let done = undone.guard(done);
    if is_change && crate::mutant!("causal-ack-before-durable") {
        done(Ok(answer.clone()));
        return trees::submit(shared, counted, Durability::Default, answer, Box::new(|_| ()));
    }
    trees::submit(shared, counted, Durability::Default, answer, done);
}

/// Merges what has come from outside, or says that it is late.
fn join(after: &mut SiblingSet, mut set: SiblingSet, bounds: Bounds) -> Result<(), DiskAnswer> {
    match bounds.judge_set(after, &mut set, From::Outside) {
        Verdict::Take | Verdict::TakeAndVoid => after.join(set),
        // As if it were there.
        Verdict::Drop => {}
        Verdict::Refuse => {
            crate::sometimes!("replica: a late set is refused");
            return Err(DiskAnswer::Late { bound: bounds.gate, purged: false });
        }
    }
    Ok(())
}

/// Makes a change of this node. What it writes is above the gate; and what its writer has seen of this
/// node may have been purged, so that the set knows nothing of it any more.
fn make(after: &mut SiblingSet, mut change: Change, bounds: Bounds) -> CausalDone {
    let Bounds { floor, gate } = bounds;
    if change.dot.stamp() <= gate {
        let (time, counter) = (gate.time, gate.counter);
        return CausalDone::Refused(Refused::Stale(Tick { time, counter }));
    }
    let actor = change.dot.actor;
    change.seen.forget_purged(actor, after.context().highest(actor), floor);
    match after.apply(change) {
        Err(refused) => CausalDone::Refused(refused),
        Ok(applied) => CausalDone::Changed(Box::new(changed(after, actor, &applied))),
    }
}

/// Merges a copied set into what is there, in a batch with others; the caller holds the key's stripe.
/// Says whether it has brought anything at or below the gate.
pub(super) fn merge_into(
    shared: &Shared,
    counted: &mut Counted,
    (table, key): (TableId, &Key),
    mut set: SiblingSet,
    giver: Giver,
) -> Result<bool, DiskError> {
    let unit = counted.unit();
    let head_key = keyspace::data_key(unit, table, key);
    let head = shared.engine.get(&head_key).map_err(|error| disk_error(&error))?;
    let before = head.map_or(Ok(SiblingSet::default()), |(bytes, _)| decode(bytes))?;
    let apart = apart(&before);
    let bounds = giver.bounds(shared, unit);
    let verdict = match giver {
        Giver::Source => match purged(&set, shared.floors.bounds(unit).floor) {
            Some(left) => {
                set = left;
                Verdict::Take
            }
            None => return Ok(false),
        },
        Giver::Owner => bounds.judge_set(&before, &mut set, From::Owner),
        Giver::Overlay => bounds.judge_set(&before, &mut set, From::Outside),
    };
    if matches!(verdict, Verdict::Drop | Verdict::Refuse) {
        return Ok(false);
    }
    let mut after = before.clone();
    after.join(set);
    put_away(&mut after, &apart);
    if after != before {
        let place = |dot| keyspace::sibling_key(DATA, (unit, table, key), dot);
        counted.siblings(&head_key, &before, &after);
        store(&mut counted.batch, &head_key, place, &apart, after);
    }
    Ok(verdict == Verdict::TakeAndVoid)
}

/// Another set takes the place of one, which it was a part of; the caller holds the key's stripe.
pub(super) fn replace(
    counted: &mut Counted,
    (place, head_key): (&CopyPlace, &[u8]),
    before: &SiblingSet,
    after: SiblingSet,
) {
    let unit = counted.unit();
    let of = |dot| keyspace::sibling_key(DATA, (unit, place.table, &place.key), dot);
    counted.siblings(head_key, before, &after);
    store(&mut counted.batch, head_key, of, &apart(before), after);
}

/// The writes of what is stored under a head whose values have records of their own.
pub(super) fn apart_of(value: &Bytes) -> Result<Vec<Dot>, DiskError> {
    if value.first() == Some(&HEAD) {
        decode(value.clone()).map(|set| apart(&set))
    } else {
        Ok(Vec::new())
    }
}

/// The set as it is stored, with all its values.
pub(super) fn whole(
    engine: &Snapshot,
    space: u8,
    place: (Unit, TableId, &Key),
    head: Bytes,
) -> Result<SiblingSet, DiskError> {
    let mut set = decode(head)?;
    let away = apart(&set);
    fetch(&mut set, &away, |dot| {
        let key = keyspace::sibling_key(space, place, dot);
        let found = engine.get(&key).map_err(|error| disk_error(&error))?;
        Ok(found.map(|(bytes, _)| bytes))
    })?;
    Ok(set)
}

/// What is told of a change that an actor has made of a set.
pub(super) fn changed(after: &SiblingSet, actor: Actor, applied: &Applied) -> Changed {
    Changed {
        stands: applied.stands,
        told: after.told(actor, applied),
        seen: after.seen_after(applied.stands, &applied.seen),
        siblings: u32::try_from(after.groups()).unwrap_or(u32::MAX),
        counter: after.counter(),
    }
}

/// Stores `after` where values of `apart` have records of their own. These stay
/// where they are, so that no value is written again.
fn store(
    batch: &mut Batch,
    head_key: &[u8],
    place: impl Fn(Dot) -> Vec<u8>,
    apart: &[Dot],
    mut after: SiblingSet,
) {
    lay(batch, place, apart, &mut after);
    let mut head = vec![HEAD];
    head.extend_from_slice(&after.encode());
    batch.put(head_key, &head);
}

/// Gives large values of several siblings records of their own, and deletes those that have gone.
pub(super) fn lay(
    batch: &mut Batch,
    place: impl Fn(Dot) -> Vec<u8>,
    apart: &[Dot],
    after: &mut SiblingSet,
) {
    if after.writes().len() > 1 {
        after.place(|dot, payload| {
            if let Payload::Here(value) = payload
                && value.as_bytes().len() > limits::SIBLING_INLINE_BYTES
            {
                batch.put(&place(dot), value.as_bytes());
                *payload = away(payload);
            }
        });
    }
    for dot in apart {
        if !after.writes().any(|(other, _)| other == *dot) {
            batch.delete(&place(*dot));
        }
    }
}

fn away(payload: &Payload) -> Payload {
    Payload::Away(u32::try_from(payload.len()).unwrap_or(u32::MAX))
}

fn is_away(payload: &Payload) -> bool {
    matches!(payload, Payload::Away(_))
}

fn is_whole(set: &SiblingSet) -> bool {
    set.writes().all(|(_, write)| !is_away(&write.payload))
}

/// A stored head.
pub(super) fn decode(mut bytes: Bytes) -> Result<SiblingSet, DiskError> {
    let kind = bytes.try_get_u8().ok();
    let set = (kind == Some(HEAD)).then(|| SiblingSet::decode(bytes)).flatten();
    set.ok_or_else(damaged)
}

fn damaged() -> DiskError {
    DiskError::Corruption("a stored set of siblings does not decode".to_owned())
}
