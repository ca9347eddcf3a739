//! Sets of siblings over the engine: a head record that holds the context and, as long as they are
//! small or alone, the values; and a record for each larger value. `docs/format/causal.md`.
//!
//! A head that names a value which is not there is no damage: the engine takes back what a full
//! disk refused, and a later batch may have been built on it. The write is then forgotten, and
//! the replica is told of it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Buf, Bytes};

use super::execute::{Undone, submit};
use super::{Done, Shared, disk_error, keyspace};
use crate::causality::{Dot, Payload, SiblingSet};
use crate::message::{CausalDisk, CausalDone, CausalTask, Changed, DiskAnswer, DiskError};
use crate::storage::{Batch, Durability, TryGet};
use crate::types::{Value, limits};

/// The first byte of a head: its kind, in the bits that are 0 of a last-writer-wins register.
pub(super) const HEAD: u8 = 0x10;

/// Changes of this node that are not durable yet, by stripe.
#[derive(Debug)]
pub(super) struct Unsettled(Vec<Arc<AtomicU32>>);

impl Unsettled {
    pub(super) fn new(stripes: usize) -> Unsettled {
        Unsettled((0..stripes).map(|_| Arc::default()).collect())
    }

    fn of(&self, stripe: usize) -> Arc<AtomicU32> {
        Arc::clone(self.0.get(stripe).expect("a stripe's index"))
    }
}

/// Carries a request out if memory can answer it; hands it back otherwise.
pub(super) fn try_execute(
    shared: &Shared,
    disk: Box<CausalDisk>,
    done: Done,
) -> Option<(Box<CausalDisk>, Done)> {
    let head_key = keyspace::data_key(disk.unit, disk.table, &disk.key);
    let Some(guard) = shared.stripe(&head_key).try_lock() else { return Some((disk, done)) };
    let before = Undone::now(shared);
    let head = match shared.engine.try_get(&head_key) {
        TryGet::Found(bytes, _) => decode(bytes),
        TryGet::Absent => Ok(SiblingSet::default()),
        TryGet::NeedsDisk => return Some((disk, done)),
    };
    let whole = head.as_ref().is_ok_and(is_whole);
    if head.is_ok() && !whole && !matches!(disk.task, CausalTask::Merge(_)) {
        return Some((disk, done));
    }
    match head {
        Ok(set) => perform(shared, &head_key, *disk, (Stored::of(set), before), done),
        Err(error) => done(Err(error)),
    }
    drop(guard);
    None
}

/// Carries a request out; may wait for the disk.
pub(super) fn execute(shared: &Shared, disk: CausalDisk, done: Done) {
    let head_key = keyspace::data_key(disk.unit, disk.table, &disk.key);
    let _guard = shared.stripe(&head_key).lock();
    let before = Undone::now(shared);
    match load(shared, &disk, &head_key) {
        Ok(stored) => perform(shared, &head_key, disk, (stored, before), done),
        Err(error) => done(Err(error)),
    }
}

/// A set as it was found.
struct Stored {
    set: SiblingSet,
    /// Writes whose values have records of their own.
    apart: Vec<Dot>,
}

impl Stored {
    fn of(set: SiblingSet) -> Stored {
        let away = set.writes().filter(|(_, write)| is_away(&write.payload));
        Stored { apart: away.map(|(dot, _)| dot).collect(), set }
    }
}

/// The set as it is stored, with all its values unless it is only to be merged into.
fn load(shared: &Shared, disk: &CausalDisk, head_key: &[u8]) -> Result<Stored, DiskError> {
    let head = shared.engine.get(head_key).map_err(|error| disk_error(&error))?;
    let set = head.map_or(Ok(SiblingSet::default()), |(bytes, _)| decode(bytes))?;
    let Stored { mut set, apart } = Stored::of(set);
    if matches!(disk.task, CausalTask::Merge(_)) {
        return Ok(Stored { set, apart });
    }
    for &dot in &apart {
        let key = keyspace::sibling_key(disk.unit, disk.table, &disk.key, dot);
        let found = shared.engine.get(&key).map_err(|error| disk_error(&error))?;
        let Some((bytes, _)) = found else {
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
    Ok(Stored { set, apart })
}

/// Does what is asked with the set; the caller holds the key's stripe.
fn perform(
    shared: &Shared,
    head_key: &[u8],
    disk: CausalDisk,
    (Stored { set: mut before, apart }, undone): (Stored, Undone),
    done: Done,
) {
    let CausalDisk { unit, table, key, task } = disk;
    let stripe = shared.stripe_index(head_key);
    let mut after = before.clone();
    let answer = match task {
        CausalTask::Read => {
            let unsettled = shared.unsettled.of(stripe).load(Ordering::SeqCst) > 0;
            let answer = DiskAnswer::Causal(CausalDone::Read(before));
            if !unsettled || crate::mutant!("reads-unsettled") {
                return done(Ok(answer));
            }
            // What this node wrote could still be lost, and its name given again.
            let barrier = Batch::new();
            return submit(shared, barrier, Durability::Default, answer, undone.guard(done));
        }
        CausalTask::Merge(set) => {
            after.join(set);
            CausalDone::Merged
        }
        CausalTask::Change(change) => {
            let actor = change.dot.actor;
            match after.apply(change) {
                Err(refused) => CausalDone::Refused(refused),
                Ok(applied) => CausalDone::Changed(Box::new(Changed {
                    stands: applied.stands,
                    told: after.told(actor, &applied.seen),
                    seen: after.seen_after(applied.stands, &applied.seen),
                    siblings: u32::try_from(after.groups()).unwrap_or(u32::MAX),
                })),
            }
        }
    };
    let changed = matches!(answer, CausalDone::Changed(_));
    let place = |dot| keyspace::sibling_key(unit, table, &key, dot);
    for set in [&mut before, &mut after] {
        set.place(|dot, payload| {
            if apart.contains(&dot) {
                *payload = away(payload);
            }
        });
    }
    let same = after == before;
    let batch = if same { Batch::new() } else { store(head_key, place, &apart, after) };
    let answer = DiskAnswer::Causal(answer);
    let done = undone.guard(done);
    if changed && crate::mutant!("causal-ack-before-durable") {
        done(Ok(answer.clone()));
        return submit(shared, batch, Durability::Default, answer, Box::new(|_| ()));
    }
    let done = if changed { settling(shared, stripe, done) } else { done };
    submit(shared, batch, Durability::Default, answer, done);
}

/// Counts a change until it is durable or has failed.
fn settling(shared: &Shared, stripe: usize, done: Done) -> Done {
    let count = shared.unsettled.of(stripe);
    count.fetch_add(1, Ordering::SeqCst);
    Box::new(move |outcome| {
        count.fetch_sub(1, Ordering::SeqCst);
        done(outcome);
    })
}

/// The batch that stores `after` where values of `apart` have records of their own. These stay
/// where they are, so that no value is written again.
fn store(
    head_key: &[u8],
    place: impl Fn(Dot) -> Vec<u8>,
    apart: &[Dot],
    mut after: SiblingSet,
) -> Batch {
    let mut batch = Batch::new();
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
    let mut head = vec![HEAD];
    head.extend_from_slice(&after.encode());
    batch.put(head_key, &head);
    batch
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
