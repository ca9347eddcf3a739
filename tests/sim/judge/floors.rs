//! Purge floors (`docs/protocol/repair.md`): an owner vouches for those alone with which its disk says that it found
//! itself equal; it agrees when all other owners have said, under the same fence, that they vouch; a floor rises when
//! all have agreed, or to where another disk has it; and a source tells it with every page.

use std::collections::{BTreeMap, BTreeSet};

use roundtable::message::{FloorChange, FloorNews, FloorRecord, FloorState, RoundId};
use roundtable::types::{Epoch, NodeId, Stamp, Unit};

/// Questions for pages that are remembered until they are answered.
const ASKED_MAX: usize = 1_000;

/// The owners of a unit by the state a member acts by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owned<'a> {
    pub(crate) unit: Unit,
    /// The epoch at which they last changed.
    pub(crate) fence: Epoch,
    /// All of them, of both sets.
    pub(crate) owners: &'a [NodeId],
}

/// What all disks hold, and what members have said.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    /// Up to where a disk has ever vouched for a peer. What was said once may be heard late.
    vouched: BTreeMap<(NodeId, Unit, NodeId), Stamp>,
    /// The highest floor that any disk has.
    highest: BTreeMap<Unit, Stamp>,
    /// The floor that a member itself knows of.
    known: BTreeMap<(NodeId, Unit), Stamp>,
    /// Up to where a member has said that it vouches for all, and that all do, under a fence.
    told: BTreeMap<(NodeId, Unit, Epoch), (Stamp, Stamp)>,
    /// The owners of a unit under each fence that a member has acted by.
    sets: BTreeMap<(Unit, Epoch), BTreeSet<NodeId>>,
    /// What a source knew when it was asked for a page, by source, target and round.
    pages: BTreeMap<(NodeId, NodeId, RoundId), (Unit, Stamp)>,
}

impl Floors {
    /// A disk holds these records.
    pub(crate) fn stored(&mut self, member: NodeId, states: &[(Unit, FloorState)]) {
        for (unit, state) in states {
            self.holds(member, *unit, &state.record);
        }
    }

    /// A member boots with what its disk holds: also what it was never told.
    pub(crate) fn restored(&mut self, member: NodeId, floors: &BTreeMap<Unit, FloorRecord>) {
        self.known.retain(|(of, _), _| *of != member);
        for (unit, record) in floors {
            self.holds(member, *unit, record);
            self.known.insert((member, *unit), record.floor);
        }
    }

    fn holds(&mut self, member: NodeId, unit: Unit, record: &FloorRecord) {
        for (peer, at) in &record.vouched {
            let known = self.vouched.entry((member, unit, *peer)).or_default();
            *known = (*known).max(*at);
        }
        let highest = self.highest.entry(unit).or_default();
        *highest = (*highest).max(record.floor);
    }

    /// The highest floor of a unit that any disk has.
    pub(crate) fn highest(&self, unit: Unit) -> Stamp {
        self.highest.get(&unit).copied().unwrap_or_default()
    }

    /// A member hears of what its disk holds.
    pub(crate) fn learns(&mut self, member: NodeId, states: &[(Unit, FloorState)]) {
        for (unit, state) in states {
            let known = self.known.entry((member, *unit)).or_default();
            *known = (*known).max(state.record.floor);
        }
    }

    /// A member tells another owner what it vouches for and knows.
    pub(crate) fn tells(
        &mut self,
        member: NodeId,
        news: &FloorNews,
        owned: Owned<'_>,
    ) -> Result<(), String> {
        let told = self.told.entry((member, news.unit, news.fence)).or_default();
        *told = (told.0.max(news.vouched), told.1.max(news.agreed));
        if owned.fence != news.fence {
            return Ok(());
        }
        self.owned(owned);
        let (unit, at) = (news.unit, news.vouched);
        let stands = |peer: &NodeId| {
            let of = self.vouched.get(&(member, unit, *peer)).copied().unwrap_or_default();
            of >= at
        };
        match owned.owners.iter().find(|peer| **peer != member && !stands(peer)) {
            None => Ok(()),
            Some(peer) => Err(format!(
                "n{member} vouches for all owners of unit {unit} at {at}, and for n{peer} it does not"
            )),
        }
    }

    fn owned(&mut self, owned: Owned<'_>) {
        let set = self.sets.entry((owned.unit, owned.fence)).or_default();
        set.extend(owned.owners);
    }

    /// Whether all others of one set of owners have agreed. It need not be the set in force: a member may have seen it
    /// before a change that it has installed since, and who enters by one is filled by owners who have agreed.
    fn have_agreed(&self, member: NodeId, unit: Unit, to: Stamp) -> bool {
        let sets = self.sets.range((unit, Epoch(0))..=(unit, Epoch(u64::MAX)));
        let told = |id: NodeId, fence: Epoch| self.told.get(&(id, unit, fence)).copied();
        let agreed = |id: NodeId, fence| told(id, fence).is_some_and(|(_, agreed)| agreed >= to);
        sets.filter(|(_, set)| set.contains(&member))
            .any(|((_, fence), set)| set.iter().all(|id| *id == member || agreed(*id, *fence)))
    }

    /// A member has its disk change a record.
    pub(crate) fn changes(
        &mut self,
        member: NodeId,
        change: &FloorChange,
        owned: Owned<'_>,
    ) -> Result<(), String> {
        self.owned(owned);
        let unit = owned.unit;
        let others = || owned.owners.iter().filter(|id| **id != member);
        let told =
            |id: &NodeId| self.told.get(&(*id, unit, owned.fence)).copied().unwrap_or_default();
        match change {
            FloorChange::Agree(at, fence, _) if *fence == owned.fence => {
                match others().find(|id| told(id).0 < *at) {
                    None => Ok(()),
                    Some(id) => Err(format!(
                        "n{member} agrees on unit {unit} at {at}, and n{id} has not vouched"
                    )),
                }
            }
            FloorChange::Raise(to) => {
                let is_known = self.highest.get(&unit).is_some_and(|known| known >= to);
                match others().find(|id| told(id).1 < *to) {
                    Some(id) if !is_known && !self.have_agreed(member, unit, *to) => Err(format!(
                        "n{member} raises the floor of unit {unit} to {to}, and n{id} has not agreed"
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// A target's question has come to a source.
    pub(crate) fn asked(&mut self, ends: (NodeId, NodeId), round: RoundId, unit: Unit) {
        let known = self.known.get(&(ends.0, unit)).copied().unwrap_or_default();
        self.pages.insert((ends.0, ends.1, round), (unit, known));
        if self.pages.len() > ASKED_MAX {
            self.pages.pop_first();
        }
    }

    /// A source gives a page of a unit, with the floor that it says.
    pub(crate) fn gives(
        &self,
        (source, target): (NodeId, NodeId),
        round: RoundId,
        floor: Stamp,
    ) -> Result<(), String> {
        match self.pages.get(&(source, target, round)) {
            Some((unit, known)) if floor < *known => Err(format!(
                "n{source} gives a page of unit {unit} with floor {floor}, and knows of {known}"
            )),
            _ => Ok(()),
        }
    }
}
