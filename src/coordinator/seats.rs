//! Who sits where. Each owner of a key has a seat; in a sloppy request a stand-in may fill it while
//! the owner is away. A stand-in sits on one seat only, and the tally counts seats: w answers are
//! those of w distinct members, for w distinct owners. `docs/protocol/handoff.md`.

use crate::message::Refusal;
use crate::types::NodeId;

/// The seats of one operation, and who may stand in.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats {
    /// Members that may stand in, in the order of the walk. None in a strict request.
    stand_ins: Vec<NodeId>,
    /// Those that have been given a seat, whatever became of it.
    used: u16,
    /// The seats that have a stand-in, each with its place in `stand_ins`.
    covers: Vec<(u8, u8)>,
    /// Seats whose owner has been asked in this round and has not answered.
    owner_open: u16,
    /// The same of stand-ins.
    cover_open: u16,
    /// Seats that their owner has filled in this round.
    owner_filled: u16,
    /// The same of stand-ins.
    cover_filled: u16,
    /// Seats that a stand-in has filled in any round that reached its quorum.
    counted: u16,
    /// A stand-in had no room.
    full: bool,
}

/// Who has said something: the owner of a seat, or whoever stands in for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sitter {
    pub(super) seat: u8,
    pub(super) stands_in: bool,
}

impl Seats {
    pub(super) fn new(mut stand_ins: Vec<NodeId>) -> Seats {
        stand_ins.truncate(15);
        Seats { stand_ins, ..Seats::default() }
    }

    pub(super) fn stand_ins(&self) -> &[NodeId] {
        &self.stand_ins
    }

    /// A new round: whoever sits somewhere keeps the seat and is asked again.
    pub(super) fn begin_round(&mut self) {
        (self.owner_open, self.cover_open) = (0, 0);
        (self.owner_filled, self.cover_filled) = (0, 0);
    }

    /// Where `member` sits, an owner or a stand-in with a seat.
    pub(super) fn sitter(&self, owners: &[NodeId], member: NodeId) -> Option<Sitter> {
        let place = |list: &[NodeId]| {
            list.iter().position(|id| *id == member).and_then(|i| u8::try_from(i).ok())
        };
        if let Some(seat) = place(owners) {
            return Some(Sitter { seat, stands_in: false });
        }
        let index = place(&self.stand_ins)?;
        let (seat, _) = self.covers.iter().find(|(_, cover)| *cover == index)?;
        Some(Sitter { seat: *seat, stands_in: true })
    }

    /// Whoever stands in on `seat`.
    pub(super) fn cover_of(&self, seat: u8) -> Option<NodeId> {
        let (_, cover) = self.covers.iter().find(|(taken, _)| *taken == seat)?;
        self.stand_ins.get(usize::from(*cover)).copied()
    }

    /// Seats that have a stand-in.
    pub(super) fn covered(&self) -> u16 {
        self.covers.iter().fold(0, |bits, (seat, _)| bits | 1 << seat)
    }

    /// Stand-ins among `available` that have no seat yet.
    pub(super) fn free(&self, available: u16) -> u16 {
        let known = (1u16 << self.stand_ins.len()) - 1;
        available & known & !self.used
    }

    /// Gives `seat` to the next of the `available` stand-ins, unless it has one.
    pub(super) fn cover(&mut self, seat: u8, available: u16) -> bool {
        let free = self.free(available);
        if free == 0 || self.covered() & (1 << seat) != 0 {
            return false;
        }
        crate::sometimes!("coordinator: a stand-in takes a seat");
        let next = u8::try_from(free.trailing_zeros()).expect("a place among 16");
        self.used |= 1 << next;
        self.covers.push((seat, next));
        true
    }

    /// Somebody on a seat has been asked.
    pub(super) fn asked(&mut self, sitter: Sitter) {
        let open = if sitter.stands_in { &mut self.cover_open } else { &mut self.owner_open };
        *open |= 1 << sitter.seat;
    }

    /// Whether somebody has been asked and has not answered.
    pub(super) fn waits_for(&self, sitter: Sitter) -> bool {
        let open = if sitter.stands_in { self.cover_open } else { self.owner_open };
        open & (1 << sitter.seat) != 0
    }

    /// Somebody has done what was asked.
    pub(super) fn fill(&mut self, sitter: Sitter) {
        let (open, filled) = if sitter.stands_in {
            (&mut self.cover_open, &mut self.cover_filled)
        } else {
            (&mut self.owner_open, &mut self.owner_filled)
        };
        *open &= !(1 << sitter.seat);
        *filled |= 1 << sitter.seat;
    }

    /// Somebody will not do it. A stand-in loses its seat, and does not get another one.
    pub(super) fn leave(&mut self, sitter: Sitter, refusal: Option<&Refusal>) {
        if sitter.stands_in {
            self.full |= refusal == Some(&Refusal::Overloaded);
            self.cover_open &= !(1 << sitter.seat);
            self.covers.retain(|(seat, _)| *seat != sitter.seat);
        } else {
            self.owner_open &= !(1 << sitter.seat);
        }
    }

    /// Whether nobody on `seat` can be waited for any more.
    pub(super) fn is_vacant(&self, seat: u8) -> bool {
        (self.owner_open | self.cover_open | self.owner_filled | self.cover_filled) & (1 << seat)
            == 0
    }

    /// Seats of which a stand-in was asked and has not answered.
    pub(super) fn covers_open(&self) -> u16 {
        self.cover_open
    }

    /// Seats that nobody has filled in this round.
    pub(super) fn unfilled(&self) -> u16 {
        !(self.owner_filled | self.cover_filled)
    }

    /// The round has reached its quorum with the seats filled so far.
    pub(super) fn count(&mut self) {
        self.counted |= self.cover_filled & !self.owner_filled;
    }

    /// Seats for which a stand-in has counted.
    pub(super) fn counted(&self) -> u16 {
        self.counted
    }

    /// Whether a stand-in had no room for what it was asked to keep.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }
}

/// Whether an owner that refuses so is away, for somebody to stand in. One that is overloaded is
/// not: load must not spread.
pub(super) fn is_away(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NotServing
        | Refusal::ReadOnly
        | Refusal::DiskFull
        | Refusal::TakenBack
        | Refusal::Storage(_) => true,
        Refusal::Fenced { .. }
        | Refusal::Behind { .. }
        | Refusal::NotOwner
        | Refusal::Incomplete
        | Refusal::Dropped { .. }
        | Refusal::ClockAhead { .. }
        | Refusal::Late { .. }
        | Refusal::Overloaded
        | Refusal::Expired => false,
    }
}

/// Whether an owner that refuses so may keep what it was asked to write, or may have shown it: its store
/// failed while it wrote, or took back for want of room what readers could see.
pub(super) fn may_have_kept(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::TakenBack => !crate::mutant!("taken-back-leaves-no-trace"),
        refusal => matches!(refusal, Refusal::ReadOnly | Refusal::Storage(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn seats() -> Seats {
        Seats::new(vec![NodeId(4), NodeId(5)])
    }

    #[test]
    fn a_stand_in_has_one_seat_and_gives_it_up_for_good() {
        let mut seats = seats();
        assert!(seats.cover(1, 0b11));
        assert!(!seats.cover(1, 0b11), "it has one");
        assert_eq!(seats.cover_of(1), Some(NodeId(4)));
        let four = seats.sitter(&OWNERS, NodeId(4)).unwrap();
        assert_eq!(four, Sitter { seat: 1, stands_in: true });
        assert_eq!(seats.sitter(&OWNERS, NodeId(5)), None);
        seats.leave(four, Some(&Refusal::Overloaded));
        assert!(seats.is_full());
        assert!(seats.cover(1, 0b11));
        assert_eq!(seats.cover_of(1), Some(NodeId(5)));
        assert!(!seats.cover(2, 0b11), "nobody is left");
    }

    #[test]
    fn a_seat_is_vacant_when_neither_owner_nor_stand_in_can_fill_it() {
        let mut seats = seats();
        let owner = Sitter { seat: 0, stands_in: false };
        seats.asked(owner);
        assert!(!seats.is_vacant(0));
        assert!(seats.cover(0, 0b11));
        let cover = Sitter { seat: 0, stands_in: true };
        seats.asked(cover);
        seats.leave(owner, None);
        assert!(!seats.is_vacant(0));
        seats.fill(cover);
        seats.count();
        assert_eq!((seats.is_vacant(0), seats.counted()), (false, 0b1));
    }

    #[test]
    fn a_stand_in_that_counted_in_one_round_is_told_though_the_owner_filled_the_next() {
        let mut seats = seats();
        assert!(seats.cover(2, 0b11));
        seats.fill(Sitter { seat: 2, stands_in: true });
        seats.count();
        seats.begin_round();
        seats.fill(Sitter { seat: 2, stands_in: false });
        seats.count();
        assert_eq!(seats.counted(), 0b100);
    }
}
