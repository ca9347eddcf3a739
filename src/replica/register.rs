//! Acceptors of keys of linearizable tables over the engine: one record a key,
//! `docs/format/register.md`.
//!
//! Promises and accepts are synced whatever the store's sync mode, and told only then. A look is
//! answered from memory when nothing of its stripe is on its way to the disk; else it waits like a
//! write: what it shows could still be lost, and others would take it for decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Buf, Bytes};

use super::execute::{Undone, submit};
use super::{Done, Shared, disk_error, keyspace};
use crate::causality::{Acceptor, Outbid};
use crate::message::{DiskAnswer, DiskError, RegisterDisk, RegisterSaid, RegisterTask};
use crate::storage::{Batch, Durability, TryGet};

/// The first byte of an acceptor: its kind, in the bits that are 0 of a last-writer-wins register.
pub(super) const ACCEPTOR: u8 = 0x20;

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
        Ok(acceptor) => perform(shared, &key, disk.task, (acceptor, before), done),
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
        Ok(acceptor) => perform(shared, &key, disk.task, (acceptor, before), done),
        Err(error) => done(Err(error)),
    }
}

/// Does what is asked with the acceptor; the caller holds the key's stripe.
fn perform(
    shared: &Shared,
    key: &[u8],
    task: RegisterTask,
    (mut acceptor, before): (Acceptor, Undone),
    done: Done,
) {
    let unsynced = shared.unsynced.of(shared.stripe_index(key));
    let done = before.guard(done);
    let acted = match task {
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
        RegisterTask::Prepare(ballot) => acceptor.promise(ballot).map(|new| {
            let shown = acceptor.accepted().cloned();
            (new, RegisterSaid::Promised(shown))
        }),
        RegisterTask::Accept(ballot, state) => {
            acceptor.accept(ballot, state).map(|new| (new, RegisterSaid::Accepted))
        }
    };
    let (new, said) = match acted {
        Ok(acted) => acted,
        // Nothing rests on how long this holds: no disk need know it.
        Err(Outbid(by)) => return done(Ok(DiskAnswer::Register(RegisterSaid::Outbid(by)))),
    };
    let mut batch = Batch::new();
    if new {
        let mut bytes = vec![ACCEPTOR];
        acceptor.encode(&mut bytes);
        batch.put(key, &bytes);
    }
    let answer = DiskAnswer::Register(said);
    if crate::mutant!("promise-not-durable") {
        done(Ok(answer.clone()));
        return submit(shared, batch, Durability::Default, answer, Box::new(|_| ()));
    }
    // An empty batch is a barrier: what is there may itself not be durable yet.
    submit(shared, batch, Durability::Synced, answer, syncing(unsynced, done));
}

/// Merges a copied acceptor into what is there, in a batch with others; the caller holds the key's
/// stripe. It is told only by a complete owner, which is known to be one in a later, synced, batch.
pub(super) fn merge_into(
    shared: &Shared,
    batch: &mut Batch,
    key: &[u8],
    copied: Acceptor,
) -> Result<(), DiskError> {
    let found = shared.engine.get(key).map_err(|error| disk_error(&error))?;
    let mut acceptor = found.map_or(Ok(Acceptor::default()), |(bytes, _)| decode(bytes))?;
    if acceptor.join(copied) {
        let mut bytes = vec![ACCEPTOR];
        acceptor.encode(&mut bytes);
        batch.put(key, &bytes);
    }
    Ok(())
}

/// Counts a write until it is durable, or is known not to have been made. One whose fate is unknown
/// stays counted: memory shows it, and the disk may not hold it.
fn syncing(unsynced: Arc<AtomicU32>, done: Done) -> Done {
    unsynced.fetch_add(1, Ordering::SeqCst);
    Box::new(move |outcome| {
        if matches!(outcome, Ok(_) | Err(DiskError::Full | DiskError::Overloaded)) {
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
