//! The write-back of a monotonic read of a causal table: what it answers with is put on w owners
//! first, each told what it lacks, in as many pieces as that takes.

use std::collections::BTreeMap;

use crate::causality::SiblingSet;
use crate::coordinator::Sets;
use crate::coordinator::confirm::Confirm;
use crate::coordinator::put::bits;

use super::gather::Gather;

/// The round of the first piece; reads are the first round.
const FIRST: u32 = 2;

/// A set on its way to w owners.
#[derive(Clone, Debug)]
pub(super) struct WriteBack {
    pub(super) confirm: Confirm<SiblingSet>,
    /// What owners that were asked have not said to hold yet, by seat and round.
    open: BTreeMap<u8, BTreeMap<u32, SiblingSet>>,
}

impl WriteBack {
    /// Of what r owners have answered, for `w` of each set; those that are `away` cannot take it. The
    /// second is whom to ask now.
    pub(super) fn new(
        gather: &Gather,
        (sets, w): (Sets, u8),
        (reachable, away): (u16, u16),
    ) -> (WriteBack, u16) {
        let read = gather.merged().clone();
        let (mut held, mut lacking) = (0, 0);
        for seat in bits(sets.read) {
            let Some(set) = gather.of_owner(seat) else { continue };
            let bits = if read.beyond(set).is_none() { &mut held } else { &mut lacking };
            *bits |= 1 << seat;
        }
        let mut confirm = Confirm::new(read, (sets, w), held);
        bits(away & !held).for_each(|seat| confirm.fails(seat));
        let next = confirm.next(reachable, lacking);
        (WriteBack { confirm, open: BTreeMap::new() }, next)
    }

    /// The pieces an owner is to be sent, with their rounds: those it has not acknowledged.
    pub(super) fn pieces(&mut self, seat: u8, gather: &Gather) -> Vec<(u32, SiblingSet)> {
        let read = self.confirm.read();
        let pieces = self.open.entry(seat).or_insert_with(|| {
            let blank = SiblingSet::default();
            let lacks = read.beyond(gather.of_owner(seat).unwrap_or(&blank));
            (FIRST..).zip(lacks.map(SiblingSet::pieces).unwrap_or_default()).collect()
        });
        pieces.iter().map(|(round, set)| (*round, set.clone())).collect()
    }

    /// An owner holds the piece of a round. True when it holds them all.
    pub(super) fn stored(&mut self, seat: u8, round: u32) -> bool {
        let Some(pieces) = self.open.get_mut(&seat) else { return false };
        let whole = pieces.remove(&round).is_some() && pieces.is_empty();
        if whole {
            self.confirm.holds(seat);
        }
        whole
    }

    /// Bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        let open = self.open.values().flat_map(BTreeMap::values);
        self.confirm.read().bytes() + open.map(SiblingSet::bytes).sum::<usize>()
    }
}
