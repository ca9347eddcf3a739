//! What the machines of this module share: the key's place, what a step is told, and what it
//! yields.

use core::time::Duration;

use crate::causality::Change;
use crate::message::{
    CausalMessage, ClientResult, Kept, KeyPlace, RegisterMessage, RoundId, WriteAsk,
};
use crate::types::{Epoch, Key, NodeId, Now, Record, TableId, Time, Unit, WallTime};

use super::{Clock, Sets};

/// A key and where it lives, as of one epoch.
#[derive(Clone, Debug)]
pub struct Target {
    /// The operation's number, unique over all boots of this coordinator.
    pub op: u64,
    /// The coordinator's epoch.
    pub epoch: Epoch,
    /// The key's unit.
    pub unit: Unit,
    /// When the unit's owners last changed.
    pub changed_at: Epoch,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
    /// All who take writes of the unit: the owners that are read, in preference order, then those that
    /// are not; at most 15.
    pub owners: Vec<NodeId>,
    /// Which of them are read, and which make the second write set.
    pub sets: Sets,
}

impl Target {
    /// The place of `member` among the owners that are read.
    pub fn read_index(&self, member: NodeId) -> Option<u8> {
        self.index(member).filter(|index| self.sets.read & (1 << index) != 0)
    }

    /// The place of `member` among the owners.
    pub fn index(&self, member: NodeId) -> Option<u8> {
        let index = self.owners.iter().position(|owner| *owner == member)?;
        u8::try_from(index).ok()
    }

    /// The members of a bitmap of owners, with their places.
    pub fn members(&self, bits: u16) -> impl Iterator<Item = NodeId> + '_ {
        self.owners
            .iter()
            .enumerate()
            .filter_map(move |(i, id)| (bits & (1 << i) != 0).then_some(*id))
    }

    /// How many owners there are.
    pub fn n(&self) -> u8 {
        u8::try_from(self.owners.len()).expect("at most 15 owners")
    }

    /// The key's place, as owners are told it.
    pub fn place(&self) -> KeyPlace {
        KeyPlace {
            unit: self.unit,
            changed_at: self.changed_at,
            table: self.table,
            key: self.key.clone(),
        }
    }

    /// Asks an owner to merge `record`.
    pub fn write_ask(
        &self,
        round: u32,
        record: Record,
        fresh: bool,
        remaining: Duration,
    ) -> WriteAsk {
        WriteAsk {
            round: RoundId { op: self.op, round },
            unit: self.unit,
            changed_at: self.changed_at,
            table: self.table,
            key: self.key.clone(),
            record,
            rest: Vec::new(),
            fresh,
            hint_for: None,
            remaining,
        }
    }
}

/// What a machine is told with each step.
#[derive(Debug)]
pub struct Step<'a> {
    /// The time.
    pub now: Now,
    /// The node's clock.
    pub clock: &'a mut Clock,
    /// Owners that can be reached now, as a bitmap of [`Target::owners`].
    pub reachable: u16,
    /// Of these, whom to read from.
    pub health: Health,
    /// Members that may stand in and can be reached now, as a bitmap of the machine's list of them.
    pub stand_ins: u16,
    /// What extra reads may still cost.
    pub hedges: &'a mut HedgeBudget,
    /// Where its actions go.
    pub out: &'a mut Vec<Action>,
}

impl<'a> Step<'a> {
    /// For a machine that is no key's: whom it asks it is told otherwise.
    pub fn of_all(
        now: Now,
        (clock, hedges): (&'a mut Clock, &'a mut HedgeBudget),
        out: &'a mut Vec<Action>,
    ) -> Step<'a> {
        let health = Health::default();
        Step { now, clock, reachable: 0, health, stand_ins: 0, hedges, out }
    }

    /// What is left until `deadline`.
    pub fn remaining(&self, deadline: Time) -> Duration {
        deadline.since(self.now.mono)
    }
}

/// How owners have been answering, as bitmaps of [`Target::owners`]. Changes whom reads ask, and
/// nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Those that answer well: to read from, while there are enough of them.
    pub well: u16,
    /// Those that do not, and should be tried again, by a read that does not wait for them.
    pub trials: u16,
}

/// Keeps reads that are asked of one more owner, because the others are slow, to a twentieth of
/// all reads: a node that is slow because it is loaded must not load the others more.
#[derive(Clone, Copy, Debug, Default)]
pub struct HedgeBudget {
    /// In twentieths of a read.
    saved: u32,
}

impl HedgeBudget {
    const COST: u32 = 20;
    const SAVED_MAX: u32 = 100 * Self::COST;

    /// A read has begun.
    pub(super) fn deposit(&mut self) {
        self.saved = (self.saved + 1).min(Self::SAVED_MAX);
    }

    /// Takes one extra read, if it can be afforded.
    pub(super) fn withdraw(&mut self) -> bool {
        let affordable = self.saved >= Self::COST;
        if affordable {
            self.saved -= Self::COST;
        }
        affordable
    }
}

/// A question to an owner, or to who stands in for it.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Merge a version.
    Write(Box<WriteAsk>),
    /// Read a version.
    Read(Box<crate::message::ReadAsk>),
    /// Read a page.
    Scan(Box<crate::message::ScanAsk>),
    /// About a key of a causal table.
    Causal(Box<CausalMessage>),
    /// About a key of a linearizable table.
    Register(Box<RegisterMessage>),
    /// Make a change of this node's own replica.
    Change(Box<ChangeAsk>),
}

/// Asks this node's own replica to change a key of a causal table, or what it keeps of one.
#[derive(Clone, Debug)]
pub struct ChangeAsk {
    /// Which round asks.
    pub round: RoundId,
    /// Where.
    pub place: KeyPlace,
    /// Change what is kept in custody for this owner instead of one's own copy.
    pub hint_for: Option<NodeId>,
    /// What.
    pub change: Change,
}

/// What a machine yields.
#[derive(Clone, Debug)]
pub enum Action {
    /// Ask an owner, which may be this node.
    Ask(NodeId, Ask),
    /// Read a key of a linearizable table for this page, then tell [`Scan::on_read`](super::Scan::on_read).
    Read(Key),
    /// Raise the clock's durable ceiling so that it covers this time, then step again.
    RaiseCeiling(WallTime),
    /// Keep a version, or set, for an owner that has not taken it.
    Hint(NodeId, Kept),
    /// The same of another key of the unit: of a batch.
    HintOf(NodeId, Key, Kept),
    /// Answer the client.
    Reply(Box<ClientResult>),
    /// Nothing is left to do: forget the operation.
    Done,
}
