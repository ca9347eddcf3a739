//! What the bench's disk does with sets of siblings and with acceptors.

use super::bench::Disk;
use crate::causality::{Acceptor, Outbid, SiblingSet};
use crate::message::{
    CausalDisk, CausalDone, CausalTask, Changed, RegisterDisk, RegisterSaid, RegisterTask,
};

impl Disk {
    pub(super) fn causal(&mut self, ask: CausalDisk) -> CausalDone {
        if let CausalTask::ReadKept(targets) = &ask.task {
            return CausalDone::Read(self.kept_sets(targets, (ask.unit, ask.table, &ask.key)));
        }
        let slot = (ask.unit, ask.table, ask.key);
        causal(self.sets.entry(slot).or_default(), ask.task)
    }

    pub(super) fn consensus(&mut self, ask: RegisterDisk) -> RegisterSaid {
        let slot = (ask.unit, ask.table, ask.key);
        consensus(self.acceptors.entry(slot).or_default(), ask.task)
    }
}

/// What a disk does with an acceptor.
fn consensus(acceptor: &mut Acceptor, task: RegisterTask) -> RegisterSaid {
    let outbid = |Outbid(by): Outbid| RegisterSaid::Outbid(by);
    match task {
        RegisterTask::Look => RegisterSaid::Looked(acceptor.accepted().cloned()),
        RegisterTask::Prepare(ballot) => match acceptor.promise(ballot) {
            Ok(_) => RegisterSaid::Promised(acceptor.accepted().cloned()),
            Err(by) => outbid(by),
        },
        RegisterTask::Accept(ballot, state) => {
            acceptor.accept(ballot, state).map_or_else(outbid, |_| RegisterSaid::Accepted)
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
                    told: set.told(actor, &applied.seen),
                    seen: set.seen_after(applied.stands, &applied.seen),
                    siblings: u32::try_from(set.groups()).unwrap(),
                })),
            }
        }
    }
}
