//! Gathers what owners of one key, and those who stand in for them, hold of it, and merges it. An
//! answer may come in pieces: it counts once all of them have come.

use crate::causality::SiblingSet;
use crate::coordinator::seats::Sitter;
use crate::coordinator::{Outcome, Tally, Target};

/// Most pieces of one answer.
pub(super) const PIECES_MAX: u8 = 64;

/// What one member has answered so far.
#[derive(Clone, Debug, Default)]
struct Held {
    set: SiblingSet,
    came: u64,
    pieces: u8,
}

/// The answers on all seats.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    pub(super) tally: Tally,
    /// Of the owners, by seat; behind them of those who stand in for them.
    held: Vec<Held>,
    /// Seats whose owner has answered in full.
    owners: u16,
    merged: SiblingSet,
}

/// One piece of an answer.
pub(super) struct Piece {
    pub(super) number: u8,
    pub(super) of: u8,
    pub(super) set: SiblingSet,
}

impl Gather {
    /// Nothing yet, of the owners that are read, of which `needed` must answer.
    pub(super) fn new(target: &Target, needed: u8) -> Gather {
        let held = vec![Held::default(); 2 * usize::from(target.n())];
        let tally = Tally::new(target.sets.only_read(), needed);
        Gather { tally, held, owners: 0, merged: SiblingSet::default() }
    }

    /// Takes a piece in. True when it completes the answer on a seat that had none.
    pub(super) fn take(&mut self, from: Sitter, piece: Piece) -> bool {
        let Some(held) = self.slot(from) else { return false };
        let fits = piece.number < piece.of && piece.of <= PIECES_MAX;
        if !fits || (held.pieces != 0 && held.pieces != piece.of) {
            return false;
        }
        held.pieces = piece.of;
        held.came |= 1 << piece.number;
        held.set.join(piece.set);
        let complete = held.came.count_ones() == u32::from(held.pieces);
        let set = complete.then(|| held.set.clone());
        let Some(set) = set.filter(|_| self.tally.answered() & (1 << from.seat) == 0) else {
            return false;
        };
        self.merged.join(set);
        self.tally.succeed(from.seat);
        if !from.stands_in {
            self.owners |= 1 << from.seat;
        }
        true
    }

    /// Somebody will not answer any more: whoever follows on the seat begins anew.
    pub(super) fn forget(&mut self, from: Sitter) {
        if let Some(held) = self.slot(from) {
            *held = Held::default();
        }
    }

    fn slot(&mut self, of: Sitter) -> Option<&mut Held> {
        let behind = if of.stands_in { self.held.len() / 2 } else { 0 };
        self.held.get_mut(behind + usize::from(of.seat))
    }

    /// Where it stands.
    pub(super) fn outcome(&self) -> Outcome {
        self.tally.outcome()
    }

    /// The merge of all complete answers.
    pub(super) fn merged(&self) -> &SiblingSet {
        &self.merged
    }

    /// What an owner has answered in full; `None` when it has not.
    pub(super) fn of_owner(&self, seat: u8) -> Option<&SiblingSet> {
        let held = self.held.get(usize::from(seat))?;
        (self.owners & (1 << seat) != 0).then_some(&held.set)
    }

    /// An owner that has answered holds this as well.
    pub(super) fn told(&mut self, seat: u8, set: &SiblingSet) {
        if let Some(held) = self.held.get_mut(usize::from(seat)) {
            held.set.join(set.clone());
        }
    }

    /// What each owner that has answered lacks of the merge; from here on it counts as told.
    pub(super) fn lacking(&mut self) -> Vec<(u8, SiblingSet)> {
        let mut lacking = Vec::new();
        for (seat, held) in (0u8..).zip(&mut self.held).take(16) {
            if self.owners & (1 << seat) == 0 {
                continue;
            }
            if let Some(set) = self.merged.beyond(&held.set) {
                held.set.join(set.clone());
                lacking.push((seat, set));
            }
        }
        lacking
    }

    /// Bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.held.iter().map(|held| held.set.bytes()).sum::<usize>() + self.merged.bytes()
    }
}
