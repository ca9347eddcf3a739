//! Puts members on virtual nodes: given how many each is to have, and where they were before,
//! decides which. Knows neither weights nor names, only numbers.
//!
//! The owners of a partition are read off the ring by the walk, so a *window* of n neighbouring
//! virtual nodes with n different members in rightly mixed zones is a partition whose owners are
//! exactly its window. While all windows are such, a member holds n copies for each of its virtual
//! nodes, and a virtual node that changes hands moves n copies. Everything here strives for good
//! windows: a new ring is dealt with the earliest deadline first (Liu and Layland, 1973), an old
//! one is changed one spot at a time, and what is left over is mended by swaps. A window that stays
//! bad costs evenness and never safety: the walk goes on until the owners are distinct.

use std::collections::BTreeSet;

use super::share::ZoneLimit;

/// A virtual node that nobody owns yet.
const NOBODY: usize = usize::MAX;

/// How many spots a search may look at, for each spot of the ring, over the whole call.
const SEARCH_PER_SPOT: usize = 64;

/// What is to be placed. Members and zones are numbered from 0.
pub(super) struct Wanted<'a> {
    /// Copies of each partition.
    pub(super) n: usize,
    /// The zone of each member.
    pub(super) zone_of: &'a [usize],
    /// The limits of each zone.
    pub(super) limits: &'a [ZoneLimit],
    /// Virtual nodes of each member; these sum to the length of the ring.
    pub(super) quota: &'a [usize],
}

/// Deals a ring of `len` virtual nodes from nothing.
pub(super) fn deal(wanted: &Wanted<'_>, len: usize) -> Vec<usize> {
    let mut board = Board::new(wanted, vec![NOBODY; len]);
    let mut dealt = vec![0; wanted.quota.len()];
    let mut queue: BTreeSet<(u64, usize)> = BTreeSet::new();
    for (member, quota) in wanted.quota.iter().enumerate().filter(|(_, quota)| **quota > 0) {
        queue.insert((deadline(wanted, len, member, 0, *quota), member));
    }
    for spot in 0..len {
        let Some(entry) = board.first_fitting(spot, &queue) else { break };
        let member = entry.1;
        queue.remove(&entry);
        board.set(spot, member);
        let count = dealt.get_mut(member).expect("one count for each member");
        *count += 1;
        let quota = at(wanted.quota, member);
        if *count < quota {
            queue.insert((deadline(wanted, len, member, *count, quota), member));
        }
    }
    board.mend();
    board.spots
}

/// Changes the ring `old` so that every member has its quota. In `old`, `None` is a spot whose
/// owner is gone.
pub(super) fn adjust(wanted: &Wanted<'_>, old: &[Option<usize>]) -> Vec<usize> {
    let spots = old.iter().map(|owner| owner.unwrap_or(NOBODY)).collect();
    let mut board = Board::new(wanted, spots);
    let mut lacking = board.lacking();
    for spot in 0..old.len() {
        if board.owner(spot) == NOBODY {
            board.fill(spot, &mut lacking);
        }
    }
    for member in 0..wanted.quota.len() {
        let missing = at(&lacking, member);
        for turn in 0..missing {
            board.take(member, turn, missing);
        }
    }
    board.mend();
    board.spots
}

/// When the spot number `turn` of `member` is due, in 2^-16 of a spot. A member that belongs into
/// every window comes at even distances; the rarer a member, the more its place is left to chance,
/// so that it has many different neighbours, who share its load when it is down.
fn deadline(wanted: &Wanted<'_>, len: usize, member: usize, turn: usize, quota: usize) -> u64 {
    let (len, quota, turn) = (wide(len), wide(quota), wide(turn));
    let distance = (len << 16) / quota;
    let due = ((turn + 1) * (len << 16)) / quota;
    let freedom = distance.saturating_sub(wide(wanted.n) << 16);
    let chance = scatter(wide(member), turn) % (freedom + 1);
    due - chance
}

/// A ring being changed.
struct Board<'a> {
    wanted: &'a Wanted<'a>,
    spots: Vec<usize>,
    /// Spots of each member.
    held: Vec<usize>,
    /// How many more spots searches may look at.
    budget: usize,
}

impl<'a> Board<'a> {
    fn new(wanted: &'a Wanted<'a>, spots: Vec<usize>) -> Board<'a> {
        let mut held = vec![0; wanted.quota.len()];
        for owner in &spots {
            if let Some(count) = held.get_mut(*owner) {
                *count += 1;
            }
        }
        let budget = spots.len() * SEARCH_PER_SPOT;
        Board { wanted, spots, held, budget }
    }

    fn owner(&self, spot: usize) -> usize {
        at(&self.spots, spot % self.spots.len())
    }

    fn set(&mut self, spot: usize, member: usize) {
        let place = self.spots.get_mut(spot).expect("spots are below the length");
        let before = core::mem::replace(place, member);
        if let Some(count) = self.held.get_mut(before) {
            *count -= 1;
        }
        if let Some(count) = self.held.get_mut(member) {
            *count += 1;
        }
    }

    /// How many spots each member still lacks.
    fn lacking(&self) -> Vec<usize> {
        let pairs = self.wanted.quota.iter().zip(&self.held);
        pairs.map(|(quota, held)| quota.saturating_sub(*held)).collect()
    }

    fn has_surplus(&self, member: usize) -> bool {
        member != NOBODY && at(&self.held, member) > at(self.wanted.quota, member)
    }

    /// What is wrong with the windows that contain `spot`; 0 is good.
    fn cost(&self, spot: usize) -> usize {
        let (n, len) = (self.wanted.n, self.spots.len());
        if n >= len {
            return 0;
        }
        (0..n).map(|back| self.window_cost((spot + len - back) % len)).sum()
    }

    /// What would be wrong with them if `member` owned `spot`.
    fn cost_with(&mut self, spot: usize, member: usize) -> usize {
        let before = self.owner(spot);
        self.set(spot, member);
        let cost = self.cost(spot);
        self.set(spot, before);
        cost
    }

    /// Whether `member` may have `spot` without making any window worse.
    fn fits(&mut self, spot: usize, member: usize) -> bool {
        let before = self.owner(spot);
        let bearable = if before == NOBODY { 0 } else { self.cost(spot) };
        self.cost_with(spot, member) <= bearable
    }

    /// Members that occur twice, zones above their limit, and zones below it that the window's
    /// empty spots cannot make good.
    fn window_cost(&self, start: usize) -> usize {
        let n = self.wanted.n;
        let mut wrong = 0;
        let mut empty = 0;
        let mut lows_met = 0;
        for here in 0..n {
            let member = self.owner(start + here);
            if member == NOBODY {
                empty += 1;
                continue;
            }
            let zone = at(self.wanted.zone_of, member);
            let mut of_zone = 1;
            for there in 0..here {
                let other = self.owner(start + there);
                if other == member {
                    wrong += 1;
                }
                if other != NOBODY && at(self.wanted.zone_of, other) == zone {
                    of_zone += 1;
                }
            }
            let limit = at(self.wanted.limits, zone);
            wrong += usize::from(of_zone > usize::from(limit.high));
            lows_met += usize::from(of_zone <= usize::from(limit.low));
        }
        let lows: usize = match self.wanted.limits.len() <= n {
            true => self.wanted.limits.iter().map(|limit| usize::from(limit.low)).sum(),
            false => 0,
        };
        wrong + (lows - lows_met.min(lows)).saturating_sub(empty)
    }

    /// The first of `queue` that fits `spot`, or else the one that does the least harm.
    fn first_fitting(
        &mut self,
        spot: usize,
        queue: &BTreeSet<(u64, usize)>,
    ) -> Option<(u64, usize)> {
        let mut best = None;
        for entry in queue {
            let cost = self.cost_with(spot, entry.1);
            if cost == 0 {
                return Some(*entry);
            }
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, *entry));
            }
        }
        best.map(|(_, entry)| entry)
    }

    /// Gives the empty `spot` to a member that lacks one; by a detour over a third member's spot
    /// if no such member fits here, and to the least harmful one if there is no detour.
    fn fill(&mut self, spot: usize, lacking: &mut [usize]) {
        let mut best: Option<(usize, u64, usize)> = None;
        for member in 0..lacking.len() {
            if at(lacking, member) == 0 {
                continue;
            }
            let luck = scatter(wide(spot), wide(member));
            let entry = (self.cost_with(spot, member), luck, member);
            if best.is_none_or(|best| entry < best) {
                best = Some(entry);
            }
        }
        let Some((cost, _, mut member)) = best else { return };
        if cost > 0
            && let Some((via, taker)) = self.detour(spot, lacking)
        {
            self.set(spot, self.owner(via));
            self.set(via, taker);
            member = taker;
        } else {
            self.set(spot, member);
        }
        let count = lacking.get_mut(member).expect("one count for each member");
        *count -= 1;
    }

    /// A spot whose owner fits `spot`, and a lacking member that fits there instead.
    fn detour(&mut self, spot: usize, lacking: &[usize]) -> Option<(usize, usize)> {
        let takers: Vec<usize> = (0..lacking.len()).filter(|m| at(lacking, *m) > 0).collect();
        let len = self.spots.len();
        let n = self.wanted.n;
        for step in n..len.saturating_sub(n) {
            let via = (spot + step) % len;
            let third = self.owner(via);
            self.budget = self.budget.checked_sub(1)?;
            if third == NOBODY || !self.fits(spot, third) {
                continue;
            }
            if let Some(taker) = takers.iter().find(|taker| self.fits(via, **taker)) {
                return Some((via, *taker));
            }
        }
        None
    }

    /// Gives `member` one spot of those who have too many: its spot number `turn` of `missing`,
    /// looked for from evenly spaced starts so that the new spots spread over the circle.
    fn take(&mut self, member: usize, turn: usize, missing: usize) {
        let len = self.spots.len();
        let origin = usize::try_from(scatter(wide(member), 0) % wide(len)).unwrap_or(0);
        let start = origin + turn * len / missing;
        let mut best: Option<(usize, usize)> = None;
        for step in 0..len {
            let spot = (start + step) % len;
            if !self.has_surplus(self.owner(spot)) {
                continue;
            }
            if self.fits(spot, member) {
                self.set(spot, member);
                return;
            }
            let cost = self.cost_with(spot, member);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, spot));
            }
        }
        let mut lacking = vec![0; self.held.len()];
        if let Some(count) = lacking.get_mut(member) {
            *count = 1;
        }
        for step in 0..len {
            let spot = (start + step) % len;
            if self.budget > 0
                && self.has_surplus(self.owner(spot))
                && let Some((via, _)) = self.detour(spot, &lacking)
            {
                self.set(spot, self.owner(via));
                self.set(via, member);
                return;
            }
        }
        if let Some((_, spot)) = best {
            self.set(spot, member);
        }
    }

    /// Swaps spots while that makes windows better and the search budget lasts.
    fn mend(&mut self) {
        let len = self.spots.len();
        if len <= 2 * self.wanted.n {
            return;
        }
        for _pass in 0..3 {
            let mut swapped = false;
            for spot in 0..len {
                if self.cost(spot) > 0 {
                    swapped |= self.mend_at(spot);
                }
            }
            if !swapped {
                return;
            }
        }
    }

    /// Returns whether a swap made the windows around `spot` better.
    fn mend_at(&mut self, spot: usize) -> bool {
        let (n, len) = (self.wanted.n, self.spots.len());
        let mut swapped = false;
        for step in n..=(len - n) {
            let here = self.cost(spot);
            let Some(budget) = self.budget.checked_sub(1).filter(|_| here > 0) else { break };
            self.budget = budget;
            let other = (spot + step) % len;
            let (mine, theirs) = (self.owner(spot), self.owner(other));
            let before = here + self.cost(other);
            self.set(spot, theirs);
            self.set(other, mine);
            if self.cost(spot) + self.cost(other) >= before {
                self.set(spot, mine);
                self.set(other, theirs);
            } else {
                swapped = true;
            }
        }
        swapped
    }
}

pub(super) fn at<T: Copy>(values: &[T], index: usize) -> T {
    *values.get(index).expect("members, zones and spots are numbered below their tables' lengths")
}

pub(super) fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("a usize has at most 64 bits")
}

/// Mixes two small numbers into one that looks random and is always the same (splitmix64,
/// Steele, Lea and Flood, 2014).
fn scatter(left: u64, right: u64) -> u64 {
    let mut mixed = (left << 32) ^ right ^ 0x9e37_79b9_7f4a_7c15;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
