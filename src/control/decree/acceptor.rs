//! What an acceptor may promise and accept. Yields the record that must be durable before the
//! answer is told; judges by the newest record, durable or on its way, so that what reaches the
//! disk later is never below what was told.

use std::sync::Arc;

use crate::message::{AcceptedState, Ballot, DecreeRecord, Instance};
use crate::types::ClusterState;

/// The acceptor of the latest instance this node takes part in.
#[derive(Debug)]
pub(super) struct Acceptor {
    record: DecreeRecord,
}

impl Acceptor {
    pub(super) fn new(record: DecreeRecord) -> Acceptor {
        Acceptor { record }
    }

    /// What has been accepted in `instance`.
    pub(super) fn accepted(&self, instance: Instance) -> Option<&AcceptedState> {
        self.record.accepted.as_ref().filter(|_| self.record.instance == instance)
    }

    /// Promises to take nothing below `ballot`.
    ///
    /// # Errors
    /// The higher ballot that has been promised.
    pub(super) fn prepare(
        &mut self,
        instance: Instance,
        ballot: Ballot,
    ) -> Result<DecreeRecord, Ballot> {
        self.enter(instance);
        if ballot < self.record.promised {
            return Err(self.record.promised);
        }
        self.record.promised = ballot;
        Ok(self.record.clone())
    }

    /// Accepts a state. Accepting at `ballot` promises it too.
    ///
    /// # Errors
    /// The higher ballot that has been promised.
    pub(super) fn accept(
        &mut self,
        instance: Instance,
        ballot: Ballot,
        state: Arc<ClusterState>,
    ) -> Result<DecreeRecord, Ballot> {
        self.enter(instance);
        if ballot < self.record.promised && !crate::mutant!("decree-accept-below-promise") {
            return Err(self.record.promised);
        }
        self.record.promised = ballot;
        self.record.accepted = Some((ballot, state));
        Ok(self.record.clone())
    }

    /// Forgets the instance before, which is in force: this one could not have been begun else.
    fn enter(&mut self, instance: Instance) {
        if self.record.instance < instance {
            self.record = DecreeRecord { instance, ..DecreeRecord::default() };
        }
        assert_eq!(self.record.instance, instance, "an instance is entered after the one before");
    }
}
