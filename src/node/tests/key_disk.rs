//! What the bench's disk does with pages of keys, with sets of siblings and with acceptors.

use super::bench::Disk;
use crate::causality::{Accepted, Acceptor, Outbid, Paged, SiblingSet};
use crate::message::{
    CausalDisk, CausalDone, CausalTask, Changed, RangePage, RegisterDisk, RegisterSaid,
    RegisterTask,
};
use crate::types::{Epoch, Key, Record, Stamp, TableId, Unit};

impl Disk {
    /// A page of keys in order.
    pub(super) fn range(
        &self,
        units: &[Unit],
        table: TableId,
        (prefix, after, (reverse, keys_only)): (&[u8], &[u8], (bool, bool)),
        limit: usize,
    ) -> RangePage {
        let behind = |bytes: &[u8]| {
            if reverse { after.is_empty() || bytes < after } else { bytes > after }
        };
        let wanted = |(unit, of, key): &(Unit, TableId, Key)| {
            let bytes = key.as_bytes();
            units.contains(unit) && *of == table && bytes.starts_with(prefix) && behind(bytes)
        };
        let found = self.data.iter().filter(|(place, _)| wanted(place));
        let mut entries: Vec<(Key, Record)> =
            found.map(|((_, _, key), record)| (key.clone(), record.clone())).collect();
        let found = self.acceptors.iter().filter(|(place, _)| wanted(place));
        entries.extend(found.map(|((_, _, key), of)| (key.clone(), Paged::record(of, keys_only))));
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        if reverse {
            entries.reverse();
        }
        let complete = entries.len() <= limit;
        entries.truncate(limit);
        RangePage { entries, complete }
    }

    pub(super) fn causal(&mut self, ask: CausalDisk) -> CausalDone {
        if let CausalTask::ReadKept(targets) = &ask.task {
            return CausalDone::Read(self.kept_sets(targets, (ask.unit, ask.table, &ask.key)));
        }
        let slot = (ask.unit, ask.table, ask.key);
        causal(self.sets.entry(slot).or_default(), ask.task)
    }

    pub(super) fn consensus(&mut self, ask: RegisterDisk) -> RegisterSaid {
        let slot = (ask.unit, ask.table, ask.key);
        consensus(self.acceptors.entry(slot).or_default(), ask.fence, ask.task)
    }
}

/// What a disk does with an acceptor.
fn consensus(acceptor: &mut Acceptor, fence: Epoch, task: RegisterTask) -> RegisterSaid {
    let outbid = |Outbid(by): Outbid| RegisterSaid::Outbid(by);
    match task {
        RegisterTask::Look => RegisterSaid::Looked(acceptor.accepted().cloned()),
        RegisterTask::Prepare(ballot) => match acceptor.promise(ballot) {
            Ok(_) => RegisterSaid::Promised {
                accepted: acceptor.accepted().cloned(),
                floor: Stamp::ZERO,
            },
            Err(by) => outbid(by),
        },
        RegisterTask::Accept(ballot, state) => {
            let accepted = Accepted { fence, ballot, state };
            acceptor.accept(accepted).map_or_else(outbid, |_| RegisterSaid::Accepted)
        }
    }
}

/// What a disk does with a set.
pub(super) fn causal(set: &mut SiblingSet, task: CausalTask) -> CausalDone {
    match task {
        CausalTask::ReadKept(_) => unreachable!("of hints"),
        CausalTask::Read => CausalDone::Read(set.clone()),
        CausalTask::Merge(other) => {
            set.join(other);
            CausalDone::Merged
        }
        CausalTask::Change(change) => {
            let actor = change.dot.actor;
            match set.apply(change) {
                Err(refused) => CausalDone::Refused(refused),
                Ok(applied) => CausalDone::Changed(Box::new(Changed {
                    stands: applied.stands,
                    told: set.told(actor, &applied),
                    seen: set.seen_after(applied.stands, &applied.seen),
                    siblings: u32::try_from(set.groups()).unwrap(),
                    counter: set.counter(),
                })),
            }
        }
    }
}
