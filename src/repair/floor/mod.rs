//! The purge floor of one unit: when an owner has vouched, when all have, and when the floor rises.
//! Knows no disk, no transport and no clock. `docs/protocol/repair.md`, "The purge floor";
//! `models/purge` checks these rules.
//!
//! Owners vouch at different stamps, since their clocks and sessions differ. Who has vouched at one has
//! vouched at every lower one; so has who has agreed. The floor rises to the lowest that all agreed at.

mod late;

use std::collections::BTreeMap;

use crate::message::{FloorChange, FloorNews, FloorRecord, FloorState};
use crate::types::{Epoch, NodeId, Stamp, Unit, WallTime};

pub use late::{Bounds, From, Verdict, acceptor_ends, purged, set_ends, version_ends};

/// What was heard of another owner, under one fence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    fence: Epoch,
    vouched: Stamp,
    agreed: Stamp,
}

/// What a node knows of the floor of a unit that it owns.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    own: FloorState,
    heard: BTreeMap<NodeId, Heard>,
    /// The highest floor that another owner has told.
    known: Stamp,
}

/// What the rules rest on besides.
#[derive(Clone, Copy, Debug)]
pub struct Owners<'a> {
    /// This node.
    pub me: NodeId,
    /// All owners of the unit, of both sets: mirrors are none of them.
    pub all: &'a [NodeId],
    /// The epoch at which they last changed.
    pub fence: Epoch,
}

impl Owners<'_> {
    fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.all.iter().copied().filter(|id| *id != self.me)
    }
}

/// The highest stamp of a time: a gate that no stamp which is ever given is equal to.
pub fn stamp_at(time: WallTime) -> Stamp {
    Stamp { time, counter: u32::MAX, node: NodeId(u32::MAX) }
}

/// Why the floor of a unit does not rise above where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// This node has not found itself equal with that owner.
    NotCompared(NodeId),
    /// That owner has not said that it vouches for all others.
    NotVouched(NodeId),
    /// That owner has not said that it knows that all do.
    NotAgreed(NodeId),
}

/// Applies a change to a record. Says whether it has changed anything.
pub fn apply(state: &mut FloorState, change: FloorChange) -> bool {
    let FloorState { record, voids } = state;
    let before = record.clone();
    match change {
        FloorChange::Close(gate) => record.gate = record.gate.max(gate),
        FloorChange::Vouch(peer, at, since) if since == *voids || crate::mutant!("vouch-kept") => {
            let at = at.min(record.gate);
            match record.vouched.binary_search_by_key(&peer, |(id, _)| *id) {
                Ok(place) => {
                    if let Some((_, known)) = record.vouched.get_mut(place) {
                        *known = (*known).max(at);
                    }
                }
                Err(place) => record.vouched.insert(place, (peer, at)),
            }
        }
        FloorChange::Agree(at, fence, since) if since == *voids => {
            // Under another fence the same is said anew.
            if at > record.agreed || fence > record.under && at == record.agreed {
                (record.agreed, record.under) = (at, fence);
            }
        }
        // It has been brought something meanwhile.
        FloorChange::Vouch(..) | FloorChange::Agree(..) => {}
        FloorChange::Raise(floor) => raise(record, floor),
        FloorChange::Fill(floor, agreed) => {
            raise(record, floor);
            record.gate = record.gate.max(agreed);
            if agreed > record.agreed {
                (record.agreed, record.under) = (agreed, Epoch(0));
            }
        }
    }
    *record != before
}

fn raise(record: &mut FloorRecord, floor: Stamp) {
    record.floor = record.floor.max(floor);
    record.gate = record.gate.max(record.floor);
    if record.floor > record.agreed {
        (record.agreed, record.under) = (record.floor, Epoch(0));
    }
}

/// What an owner vouches for is void: it was brought something at or below its gate.
pub fn void(state: &mut FloorState) {
    state.voids += 1;
    state.record.vouched.clear();
}

impl Floor {
    /// As it is on the disk.
    pub fn new(own: FloorState) -> Floor {
        Floor { own, ..Floor::default() }
    }

    /// What is durable.
    pub fn own(&self) -> &FloorState {
        &self.own
    }

    /// The disk says what is durable now. What was said of voids never goes back.
    pub fn on_own(&mut self, state: FloorState) {
        if state.voids >= self.own.voids {
            self.own = state;
        }
    }

    /// Another owner has said something. Of one fence what was said stays said; of a later one it
    /// begins anew.
    pub fn on_news(&mut self, from: NodeId, news: &FloorNews) {
        let heard = self.heard.entry(from).or_default();
        if news.fence > heard.fence {
            *heard = Heard { fence: news.fence, ..Heard::default() };
        }
        if news.fence == heard.fence {
            heard.vouched = heard.vouched.max(news.vouched);
            heard.agreed = heard.agreed.max(news.agreed);
        }
        self.known = self.known.max(news.floor);
    }

    /// Forgets what was heard of nodes that are owners no more: what they hold they mirror at best.
    pub fn keep(&mut self, owners: Owners<'_>) {
        if crate::mutant!("mirror-counted") {
            return;
        }
        self.heard.retain(|id, _| owners.all.contains(id));
    }

    /// Up to where this node vouches for all other owners.
    pub fn vouched(&self, owners: Owners<'_>) -> Stamp {
        let at = |peer: NodeId| {
            let found = self.own.record.vouched.iter().find(|(id, _)| *id == peer);
            found.map_or(Stamp::ZERO, |(_, at)| *at)
        };
        if crate::mutant!("purge-by-age") {
            return self.own.record.gate;
        }
        owners.others().map(at).min().unwrap_or(self.own.record.gate)
    }

    /// Up to where it has agreed under the fence in force.
    fn agreed(&self, owners: Owners<'_>) -> Stamp {
        let FloorRecord { agreed, under, .. } = self.own.record;
        if under == owners.fence { agreed } else { Stamp::ZERO }
    }

    fn all_heard(&self, owners: Owners<'_>, what: impl Fn(&Heard) -> Stamp) -> Stamp {
        let said = |peer: NodeId| {
            let of_fence = |heard: &&Heard| heard.fence == owners.fence;
            let heard = self.heard.get(&peer).filter(of_fence);
            let mirror = || {
                let mut others = self.heard.iter().filter(|(id, _)| !owners.all.contains(id));
                others.next().map(|(_, heard)| heard)
            };
            let heard = heard.or_else(|| mirror().filter(|_| crate::mutant!("mirror-counted")));
            heard.map_or(Stamp::ZERO, &what)
        };
        owners.others().map(said).min().unwrap_or(Stamp { time: WallTime(u64::MAX), ..Stamp::ZERO })
    }

    /// What it may agree at now: all have vouched, under the fence in force, and its own word stands.
    pub fn may_agree(&self, owners: Owners<'_>) -> Option<FloorChange> {
        let all = self.all_heard(owners, |heard| heard.vouched).min(self.vouched(owners));
        let known = self.agreed(owners);
        (all > known && all >= self.own.record.agreed).then_some(FloorChange::Agree(
            all,
            owners.fence,
            self.own.voids,
        ))
    }

    /// What the floor may rise to now: all have agreed, or another owner has raised it.
    pub fn may_raise(&self, owners: Owners<'_>) -> Option<FloorChange> {
        let agreed = self.agreed(owners).min(self.all_heard(owners, |heard| heard.agreed));
        let to = agreed.max(self.known);
        (to > self.own.record.floor).then_some(FloorChange::Raise(to))
    }

    /// What this node tells the others.
    pub fn news(&self, unit: Unit, owners: Owners<'_>) -> FloorNews {
        FloorNews {
            unit,
            fence: owners.fence,
            vouched: self.vouched(owners),
            agreed: self.agreed(owners),
            floor: self.own.record.floor,
        }
    }

    /// Who keeps the floor from rising to the gate.
    pub fn blocked(&self, owners: Owners<'_>) -> Vec<Blocked> {
        let gate = self.own.record.gate;
        if self.own.record.floor >= gate {
            return Vec::new();
        }
        let floor = self.own.record.floor;
        let vouched = |id: NodeId| {
            self.own.record.vouched.iter().any(|(peer, at)| *peer == id && *at > floor)
        };
        let not_compared: Vec<Blocked> =
            owners.others().filter(|id| !vouched(*id)).map(Blocked::NotCompared).collect();
        if !not_compared.is_empty() {
            return not_compared;
        }
        let said = |id: &NodeId| {
            let heard = self.heard.get(id).filter(|heard| heard.fence == owners.fence);
            heard.copied().unwrap_or_default()
        };
        let not_vouched: Vec<Blocked> = owners
            .others()
            .filter(|id| said(id).vouched <= floor)
            .map(Blocked::NotVouched)
            .collect();
        if !not_vouched.is_empty() {
            return not_vouched;
        }
        owners.others().filter(|id| said(id).agreed <= floor).map(Blocked::NotAgreed).collect()
    }
}

#[cfg(test)]
mod tests;
