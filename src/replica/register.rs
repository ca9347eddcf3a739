//! Acceptors of keys of linearizable tables over the engine: one record a key,
//! `docs/format/register.md`.
//!
//! Promises and accepts are synced whatever the store's sync mode, and told only then. A look is
//! answered from memory when nothing of its stripe is on its way to the disk; else it waits like a
//! write: what it shows could still be lost, and others would take it for decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Buf, Bytes};

use super::copy::Giver;
use super::execute::{Undone, submit};
use super::trees::{self, Counted};
use super::{Done, Shared, deletes, disk_error, keyspace};
use crate::causality::{Accepted, Acceptor, Outbid};
use crate::message::{DiskAnswer, DiskError, RegisterDisk, RegisterSaid, RegisterTask};
use crate::repair::tree::Print;
use crate::storage::{Batch, Durability, TryGet};
use crate::types::Stamp;

/// The first byte of an acceptor: its kind, in the bits that are 0 of a last-writer-wins register, and in
/// the lower ones its layout.
pub(super) const ACCEPTOR: u8 = 0x21;

/// Promises and accepts that are not durable yet, or may never be, by stripe.
#[derive(Debug)]
pub(super) struct Unsynced(Vec<Arc<AtomicU32>>);

impl Unsynced {
    pub(super) fn new(stripes: usize) -> Unsynced {
        Unsynced((0..stripes).map(|_| Arc::default()).collect())
    }

    fn of(&self, stripe: usize) -> Arc<AtomicU32> {
        Arc::clone(self.0.get(stripe).expect("a stripe's index"))
    }
}

/// Carries a request out if memory can answer it; hands it back otherwise.
pub(super) fn try_execute(
    shared: &Shared,
    disk: Box<RegisterDisk>,
    done: Done,
) -> Option<(Box<RegisterDisk>, Done)> {
    let key = keyspace::data_key(disk.unit, disk.table, &disk.key);
    let Some(guard) = shared.stripe(&key).try_lock() else { return Some((disk, done)) };
    let key = shared.overlays.placed(disk.unit, key);
    let before = Undone::now(shared);
    let acceptor = match shared.engine.try_get(&key) {
        TryGet::Found(bytes, _) => decode(bytes),
        TryGet::Absent => Ok(Acceptor::default()),
        TryGet::NeedsDisk => return Some((disk, done)),
    };
    match acceptor {
        Ok(acceptor) => perform(shared, (&disk, &key), (acceptor, before), done),
        Err(error) => done(Err(error)),
    }
    drop(guard);
    None
}

/// Carries a request out; may wait for the disk.
pub(super) fn execute(shared: &Shared, disk: RegisterDisk, done: Done) {
    let key = keyspace::data_key(disk.unit, disk.table, &disk.key);
    let _guard = shared.stripe(&key).lock();
    let key = shared.overlays.placed(disk.unit, key);
    let before = Undone::now(shared);
    let found = shared.engine.get(&key).map_err(|error| disk_error(&error));
    let acceptor =
        found.and_then(|found| found.map_or(Ok(Acceptor::default()), |(bytes, _)| decode(bytes)));
    match acceptor {
        Ok(acceptor) => perform(shared, (&disk, &key), (acceptor, before), done),
        Err(error) => done(Err(error)),
    }
}

/// Does what is asked with the acceptor; the caller holds the key's stripe.
fn perform(
    shared: &Shared,
    (disk, key): (&RegisterDisk, &[u8]),
    (mut acceptor, before): (Acceptor, Undone),
    done: Done,
) {
    let unsynced = shared.unsynced.of(shared.stripe_index(key));
    let unit = disk.unit;
    let mut counted = Counted::new(unit, &before);
    let place = Counted::place(key);
    let print = |of: &Acceptor| Print::register(place.as_ref()?, of);
    let accepted = print(&acceptor);
    let ends = deletes::of_acceptor(&acceptor);
    let bounds = shared.floors.bounds(unit);
    let bound = bounds.gate;
    let is_late = |ballot: Stamp, acceptor: &Acceptor| {
        // Asked again, it says the same again.
        let is_known = acceptor.accepted().is_some_and(|accepted| accepted.ballot == ballot);
        ballot <= bound && !is_known && !crate::mutant!("acceptor-forgets-floor")
    };
    let done = before.guard(done);
    let acted = match &disk.task {
        RegisterTask::Look => {
            let said = RegisterSaid::Looked(acceptor.accepted().cloned());
            let answer = DiskAnswer::Register(said);
            let settled = unsynced.load(Ordering::SeqCst) == 0;
            if settled || crate::mutant!("look-before-durable") {
                return done(Ok(answer));
            }
            crate::sometimes!("replica: a look waits for what it shows");
            return submit(shared, Batch::new(), Durability::Synced, answer, done);
        }
        // An absent one counts as promised at the floor, and all do at the gate.
        RegisterTask::Prepare(ballot) | RegisterTask::Accept(ballot, _)
            if is_late(*ballot, &acceptor) =>
        {
            crate::sometimes!("replica: a late ballot is refused");
            Err(Outbid(bound))
        }
        RegisterTask::Prepare(ballot) => acceptor.promise(*ballot).map(|new| {
            let accepted = acceptor.accepted().cloned();
            let floor = if accepted.is_none() { bounds.floor } else { Stamp::ZERO };
            (new, RegisterSaid::Promised { accepted, floor })
        }),
        RegisterTask::Accept(ballot, state) => {
            let (fence, ballot, state) = (disk.fence, *ballot, state.clone());
            let accepted = Accepted { fence, ballot, state };
            acceptor.accept(accepted).map(|new| (new, RegisterSaid::Accepted))
        }
    };
    let (new, said) = match acted {
        Ok(acted) => acted,
        // Nothing rests on how long this holds: no disk need know it.
        Err(Outbid(by)) => return done(Ok(DiskAnswer::Register(RegisterSaid::Outbid(by)))),
    };
    if new {
        let mut bytes = vec![ACCEPTOR];
        acceptor.encode(&mut bytes);
        counted.batch.put(key, &bytes);
        counted.ends(key, (ends, deletes::of_acceptor(&acceptor)));
        let now = print(&acceptor);
        counted.change(place, accepted, now);
    }
    let answer = DiskAnswer::Register(said);
    if crate::mutant!("promise-not-durable") {
        done(Ok(answer.clone()));
        return trees::submit(shared, counted, Durability::Default, answer, Box::new(|_| ()));
    }
    // An empty batch is a barrier: what is there may itself not be durable yet.
    trees::submit(shared, counted, Durability::Synced, answer, syncing(unsynced, done));
}

/// Tells what was read of many acceptors once it cannot be lost: at once when no promise and no accept is under
/// way, else behind all that are. `done` is guarded by what had been taken back before the reading.
pub(super) fn tell_durable(shared: &Shared, answer: DiskAnswer, done: Done) {
    let is_settled = |count: &Arc<AtomicU32>| count.load(Ordering::SeqCst) == 0;
    if shared.unsynced.0.iter().all(is_settled) || crate::mutant!("page-before-durable") {
        return done(Ok(answer));
    }
    crate::sometimes!("replica: a page waits for what it shows");
    submit(shared, Batch::new(), Durability::Synced, answer, done);
}

/// Merges a copied acceptor into what is there, in a batch with others; the caller holds the key's
/// stripe. It is told only by a complete owner, which is known to be one in a later, synced, batch.
pub(super) fn merge_into(
    shared: &Shared,
    counted: &mut Counted,
    key: &[u8],
    mut copied: Acceptor,
    giver: Giver,
) -> Result<(), DiskError> {
    let floor = shared.floors.bounds(counted.unit()).floor;
    let is_purged = deletes::of_acceptor(&copied).is_some_and(|at| at <= floor);
    if giver == Giver::Source && is_purged {
        return Ok(());
    }
    if giver == Giver::Overlay {
        // What the sources do not know of it was never decided.
        copied.forget_accepted(giver.bounds(shared, counted.unit()).gate);
    }
    let found = shared.engine.get(key).map_err(|error| disk_error(&error))?;
    let mut acceptor = found.map_or(Ok(Acceptor::default()), |(bytes, _)| decode(bytes))?;
    let place = Counted::place(key);
    let print = |of: &Acceptor| Print::register(place.as_ref()?, of);
    let accepted = print(&acceptor);
    let ends = deletes::of_acceptor(&acceptor);
    if acceptor.join(copied) {
        let mut bytes = vec![ACCEPTOR];
        acceptor.encode(&mut bytes);
        counted.batch.put(key, &bytes);
        counted.ends(key, (ends, deletes::of_acceptor(&acceptor)));
        let now = print(&acceptor);
        counted.change(place, accepted, now);
    }
    Ok(())
}

/// Counts a write until it is durable, or is known not to have been made. One whose fate is unknown
/// stays counted: memory shows it, and the disk may not hold it.
fn syncing(unsynced: Arc<AtomicU32>, done: Done) -> Done {
    unsynced.fetch_add(1, Ordering::SeqCst);
    Box::new(move |outcome| {
        use DiskError::{Full, Overloaded, TakenBack};
        if matches!(outcome, Ok(_) | Err(Full | TakenBack | Overloaded)) {
            unsynced.fetch_sub(1, Ordering::SeqCst);
        }
        done(outcome);
    })
}

/// A stored acceptor.
pub(super) fn decode(mut bytes: Bytes) -> Result<Acceptor, DiskError> {
    let kind = bytes.try_get_u8().ok();
    let acceptor = (kind == Some(ACCEPTOR)).then(|| Acceptor::decode(bytes)).flatten();
    acceptor.ok_or_else(|| {
        DiskError::Corruption("a stored acceptor of a register does not decode".to_owned())
    })
}
