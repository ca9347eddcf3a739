//! Moves (`docs/protocol/moves.md`): an epoch is acknowledged on disk before anybody is told; a set of owners
//! goes once too few of it are left behind the fence to answer a read; who is read is complete, durably, of as many
//! sources as a write may have missed; and no owner answers a read from below its fence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roundtable::message::{FillRecord, FillStage, MetaRecord, Restored, RoundId};
use roundtable::types::{ClusterState, Epoch, MovePhase, NodeId, TableKind, Unit};

/// Since when a member owns a unit.
type Entry = (NodeId, Unit, Epoch);

/// Questions that are remembered until they are answered.
const ASKED_MAX: usize = 10_000;

/// What all members have said, and what their disks hold.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    states: BTreeMap<Epoch, Arc<ClusterState>>,
    judged: Epoch,
    /// What each disk has acknowledged.
    acknowledged: BTreeMap<NodeId, Epoch>,
    complete: BTreeSet<Entry>,
    /// What members have lost, durably: the unit, and since when they had owned it.
    lost: BTreeMap<(NodeId, Unit), Epoch>,
    /// Whom a member has asked for a copy.
    sources: BTreeMap<Entry, BTreeSet<NodeId>>,
    /// Reads under way, by who is asked, who asks, and the round; and the entry whose data was lost by then.
    reads: BTreeMap<(NodeId, NodeId, RoundId), (Unit, Epoch, Option<Epoch>)>,
}

impl Moves {
    /// A state was decided.
    pub(crate) fn decided(&mut self, state: &Arc<ClusterState>) {
        self.states.entry(state.epoch).or_insert_with(|| Arc::clone(state));
    }

    /// The disk of a member holds a record.
    pub(crate) fn stored(&mut self, member: NodeId, record: &MetaRecord) {
        match record {
            MetaRecord::Acknowledged(epoch) => self.acknowledges(member, *epoch),
            MetaRecord::Fill(unit, FillRecord { entry, stage: FillStage::Complete }) => {
                self.complete.insert((member, *unit, *entry));
                self.lost.remove(&(member, *unit));
            }
            MetaRecord::Fill(unit, FillRecord { entry, stage: FillStage::Lost }) => {
                self.lost.insert((member, *unit), *entry);
            }
            _ => {}
        }
    }

    /// A member boots with what its disk holds: also what it was never told.
    pub(crate) fn restored(&mut self, member: NodeId, restored: &Restored) {
        self.acknowledges(member, restored.acknowledged);
        for (unit, record) in &restored.fills {
            self.stored(member, &MetaRecord::Fill(*unit, record.clone()));
        }
    }

    fn acknowledges(&mut self, member: NodeId, epoch: Epoch) {
        let known = self.acknowledged.entry(member).or_default();
        *known = epoch.max(*known);
    }

    /// A member tells others that it has acknowledged an epoch.
    pub(crate) fn told(&self, member: NodeId, epoch: Epoch) -> Result<(), String> {
        let durable = self.acknowledged.get(&member).copied().unwrap_or_default();
        match epoch <= durable {
            true => Ok(()),
            false => Err(format!("n{member} tells of epoch {epoch}, its disk of {durable}")),
        }
    }

    /// A member asks another for a copy.
    pub(crate) fn asks(&mut self, entry: Entry, source: NodeId) {
        self.sources.entry(entry).or_default().insert(source);
    }

    /// A member is about to note that it is complete, by the state it acts by.
    pub(crate) fn completes(&self, entry: Entry, state: &ClusterState) -> Result<(), String> {
        let (member, unit, since) = entry;
        let asked = self.sources.get(&entry).cloned().unwrap_or_default();
        let asked: Vec<NodeId> = asked.into_iter().collect();
        if !is_filled(state, entry) || state.is_enough((unit, member, since), &asked) {
            return Ok(());
        }
        let wanted = state.sources_wanted(unit);
        Err(format!(
            "n{member} is complete for unit {unit} of {asked:?} alone, {wanted} are needed"
        ))
    }

    /// Somebody asks a member for what it holds.
    pub(crate) fn reads(&mut self, ends: (NodeId, NodeId), round: RoundId, fence: (Unit, Epoch)) {
        let lost = self.lost.get(&(ends.0, fence.0)).copied();
        self.reads.insert((ends.0, ends.1, round), (fence.0, fence.1, lost));
        if self.reads.len() > ASKED_MAX {
            self.reads.pop_first();
        }
    }

    /// A member tells what it holds, by the state it acts by.
    pub(crate) fn answers(
        &mut self,
        (member, to): (NodeId, NodeId),
        round: RoundId,
        state: &ClusterState,
    ) -> Result<(), String> {
        let asked = self.reads.remove(&(member, to, round));
        let Some((unit, fence, lost)) = asked else { return Ok(()) };
        if fence < state.changed_at(unit) {
            let changed_at = state.changed_at(unit);
            return Err(format!(
                "n{member} answers a read of unit {unit} at {fence}, its fence is {changed_at}"
            ));
        }
        let entry = (member, unit, state.entry(unit, member).unwrap_or_default());
        if lost == Some(entry.2) {
            return Err(format!("n{member} answers a read of unit {unit}, which it has lost"));
        }
        if is_filled(state, entry) && !self.complete.contains(&entry) {
            return Err(format!("n{member} answers a read of unit {unit} and is not complete"));
        }
        Ok(())
    }

    /// A member acts by a state: each step from the one before it must have been due.
    pub(crate) fn in_force(&mut self, state: &Arc<ClusterState>) -> Result<(), String> {
        self.decided(state);
        let mut verdict = Ok(());
        while let Some(next) = self.states.get(&Epoch(self.judged.0 + 1)).cloned()
            && next.epoch <= state.epoch
        {
            if let Some(before) = self.states.get(&self.judged) {
                verdict = verdict.and(self.steps(before, &next));
            }
            self.judged = next.epoch;
        }
        verdict
    }

    fn steps(&self, before: &ClusterState, next: &ClusterState) -> Result<(), String> {
        for class in &before.classes {
            for moving in &class.moves {
                let unit = Unit { class: class.id, partition: moving.partition };
                let now = next.moving(unit);
                let turns = now.is_some_and(|now| now.phase == MovePhase::ReadNew);
                if moving.phase == MovePhase::ReadOld && turns && !moving.was_read {
                    self.are_complete(before, unit, &moving.other)?;
                }
                let was_read = moving.phase == MovePhase::ReadNew || moving.was_read;
                if now.is_none() && was_read {
                    self.barrier(before, unit, &moving.other)?;
                }
            }
        }
        Ok(())
    }

    fn are_complete(
        &self,
        state: &ClusterState,
        unit: Unit,
        others: &[NodeId],
    ) -> Result<(), String> {
        for id in others.iter().filter(|id| !state.owners(unit).contains(id)) {
            let entry = (*id, unit, state.entry(unit, *id).unwrap_or_default());
            if !self.complete.contains(&entry) {
                return Err(format!("n{id} is read of unit {unit} and was never complete"));
            }
        }
        Ok(())
    }

    fn barrier(&self, state: &ClusterState, unit: Unit, gone: &[NodeId]) -> Result<(), String> {
        let fence = state.changed_at(unit);
        let behind = gone.iter().filter(|id| {
            let acknowledged = self.acknowledged.get(id).copied().unwrap_or_default();
            acknowledged < fence && !state.is_given_up(unit, **id)
        });
        let behind: Vec<NodeId> = behind.copied().collect();
        if behind.len() < usize::from(read_floor(state, unit)) {
            return Ok(());
        }
        Err(format!(
            "{gone:?} give up unit {unit} although {behind:?} have not acknowledged {fence}"
        ))
    }
}

/// Whether a member came to a unit that others had before.
fn is_filled(state: &ClusterState, (_, unit, entry): Entry) -> bool {
    state.class(unit.class).is_some_and(|class| class.created < entry)
}

/// How many of a set can answer a read by themselves.
fn read_floor(state: &ClusterState, unit: Unit) -> u8 {
    let Some(class) = state.class(unit.class) else { return 1 };
    let linearizable = |kind: TableKind| kind == TableKind::Linearizable;
    let has = state.tables.iter().any(|it| it.class == unit.class && linearizable(it.kind));
    if has { class.r_min.min(class.n / 2 + 1) } else { class.r_min }
}
