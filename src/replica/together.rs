//! Batches: versions of several keys of a unit, merged in one record of the log. Each merges by itself;
//! what is brought is brought in one batch of the engine, so that a crash leaves all of it or nothing.
//! `docs/protocol/batch.md`.

use parking_lot::MutexGuard;

use super::execute::{Undone, decode, submit};
use super::keyspace::data_key;
use super::trees::{self, Counted};
use super::{Done, Shared, disk_error};
use crate::causality::{Merge, merge};
use crate::message::{DiskAnswer, DiskError, WriteOutcome};
use crate::repair::floor::{From, Verdict};
use crate::storage::{Batch, Durability};
use crate::types::{Key, Record, Stamp, TableId, Unit};

/// Locks the stripes of these keys, in the order in which all are locked.
fn lock<'a>(shared: &'a Shared, keys: &[Vec<u8>]) -> Vec<MutexGuard<'a, ()>> {
    let mut stripes: Vec<usize> = keys.iter().map(|key| shared.stripe_index(key)).collect();
    stripes.sort_unstable();
    stripes.dedup();
    stripes.iter().filter_map(|stripe| Some(shared.stripes.get(*stripe)?.lock())).collect()
}

/// Merges the versions of a batch into what is there.
pub(super) fn write(
    shared: &Shared,
    (unit, table): (Unit, TableId),
    items: &[(Key, Record)],
    done: Done,
) {
    if crate::mutant!("batch-splits-record") && items.len() > 1 {
        let (last, others) = items.split_last().expect("there are several");
        write(shared, (unit, table), others, Box::new(|_| ()));
        return write(shared, (unit, table), core::slice::from_ref(last), done);
    }
    let keys: Vec<Vec<u8>> = items.iter().map(|(key, _)| data_key(unit, table, key)).collect();
    let _guards = lock(shared, &keys);
    let before = Undone::now(shared);
    let mut counted = Counted::new(unit, &before);
    let merged = merge_all(shared, &mut counted, keys.into_iter().zip(items));
    let (answer, rests) = match merged {
        Ok(Merged::All { lost_to, rests }) => {
            let outcome = lost_to.map_or(WriteOutcome::Stored, WriteOutcome::Superseded);
            (DiskAnswer::Written(outcome), rests)
        }
        Ok(Merged::Late(bound)) => {
            crate::sometimes!("replica: a batch is late");
            let answer = DiskAnswer::Late { bound, purged: false };
            return submit(shared, Batch::new(), Durability::Default, answer, before.guard(done));
        }
        Err(error) => return done(Err(error)),
    };
    // Rests on what is there: that may itself not be durable yet, or may never be.
    let done = if rests { before.guard(done) } else { done };
    trees::submit(shared, counted, Durability::Default, answer, done);
}

/// What became of the versions of a batch.
enum Merged {
    /// Each is there, or has lost.
    All {
        /// The highest stamp that any of them has lost to.
        lost_to: Option<Stamp>,
        /// Some of it was there already.
        rests: bool,
    },
    /// One of them is at or below this gate.
    Late(Stamp),
}

/// Merges each into `counted`; the caller holds the stripes of all keys.
fn merge_all<'a>(
    shared: &Shared,
    counted: &mut Counted,
    items: impl Iterator<Item = (Vec<u8>, &'a (Key, Record))>,
) -> Result<Merged, DiskError> {
    let unit = counted.unit();
    let (mut lost_to, mut rests) = (None, false);
    for (key, (_, arriving)) in items {
        let key = shared.overlays.placed(unit, key);
        let present = shared.engine.get(&key).map_err(|error| disk_error(&error))?;
        let present = present.map(|(value, _)| decode(value)).transpose()?;
        match merge(present.as_ref(), arriving) {
            Merge::Replace => {
                let bounds = shared.floors.bounds(unit);
                let verdict = bounds.judge(arriving.stamp, From::Outside);
                let is_late = matches!(verdict, Verdict::Drop | Verdict::Refuse);
                if is_late && !crate::mutant!("batch-late-acknowledged") {
                    return Ok(Merged::Late(bounds.gate));
                }
                if !is_late {
                    counted.batch.put(&key, &super::record::encode(arriving));
                    counted.version(&key, present.as_ref(), arriving);
                }
            }
            Merge::Same => {
                rests = true;
                counted.stands(&key, arriving);
            }
            Merge::Keep => {
                rests = true;
                let present = present.as_ref();
                present.iter().for_each(|present| counted.stands(&key, present));
                if !crate::mutant!("batch-superseded-untold") {
                    lost_to = lost_to.max(present.map(|present| present.stamp));
                }
            }
        }
    }
    Ok(Merged::All { lost_to, rests })
}
