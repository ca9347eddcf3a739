//! Gathers what owners hold of one key, and merges it. An owner's answer may come in pieces: it
//! counts once all of them have come.

use crate::causality::SiblingSet;
use crate::coordinator::{Outcome, Tally};

/// Most pieces of one answer.
pub(super) const PIECES_MAX: u8 = 64;

/// What one owner has answered so far.
#[derive(Clone, Debug, Default)]
struct Held {
    set: SiblingSet,
    came: u64,
    pieces: u8,
}

/// The answers of all owners.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    pub(super) tally: Tally,
    held: Vec<Held>,
    merged: SiblingSet,
}

/// One piece of an answer.
pub(super) struct Piece {
    pub(super) number: u8,
    pub(super) of: u8,
    pub(super) set: SiblingSet,
}

impl Gather {
    /// Nothing yet, of `n` owners of which `needed` must answer.
    pub(super) fn new(n: u8, needed: u8) -> Gather {
        let held = vec![Held::default(); usize::from(n)];
        Gather { tally: Tally::new(n, needed), held, merged: SiblingSet::default() }
    }

    /// Takes a piece in. True when it completes the owner's answer.
    pub(super) fn take(&mut self, index: u8, piece: Piece) -> bool {
        let Some(held) = self.held.get_mut(usize::from(index)) else { return false };
        let fits = piece.number < piece.of && piece.of <= PIECES_MAX;
        if !fits || (held.pieces != 0 && held.pieces != piece.of) {
            return false;
        }
        held.pieces = piece.of;
        held.came |= 1 << piece.number;
        held.set.join(piece.set);
        let complete = held.came.count_ones() == u32::from(held.pieces);
        let counted = self.tally.answered() & (1 << index) != 0;
        if complete && !counted {
            self.merged.join(held.set.clone());
            self.tally.succeed(index);
        }
        complete && !counted
    }

    /// Where it stands.
    pub(super) fn outcome(&self) -> Outcome {
        self.tally.outcome()
    }

    /// The merge of all complete answers.
    pub(super) fn merged(&self) -> &SiblingSet {
        &self.merged
    }

    /// What each owner that has answered lacks of the merge; from here on it counts as told.
    pub(super) fn lacking(&mut self) -> Vec<(u8, SiblingSet)> {
        let mut lacking = Vec::new();
        for (index, held) in (0u8..).zip(&mut self.held) {
            if self.tally.answered() & (1 << index) == 0 {
                continue;
            }
            if let Some(set) = self.merged.beyond(&held.set) {
                held.set.join(set.clone());
                lacking.push((index, set));
            }
        }
        lacking
    }

    /// Bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.held.iter().map(|held| held.set.bytes()).sum::<usize>() + self.merged.bytes()
    }
}
