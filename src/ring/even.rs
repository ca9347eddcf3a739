//! Mends owners copy by copy where the ring alone cannot give everybody a fair share: few members
//! for many copies, few or unequal zones, the seam of the circle. Starts either from the owners the
//! walk found or from those of the assignment before, and changes as few as it can. Partitions it
//! touches have owners that are *not* the next on the ring; the stored owners are the truth, and
//! the walk then only orders the stand-ins.

use super::place::{at, wide};
use super::share::ZoneLimit;

/// How many partitions the search for a swap may look at, for each partition, over a whole call.
const SEARCH_PER_PARTITION: usize = 512;

/// How many copies each member may hold. `low <= aim <= high`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: u64,
    pub(super) aim: u64,
    pub(super) high: u64,
}

/// What is known of the members, by number.
pub(super) struct Rules<'a> {
    pub(super) zone_of: &'a [usize],
    pub(super) limits: &'a [ZoneLimit],
    pub(super) ranges: &'a [Range],
}

/// Owners of each partition in preference order; `None` is a copy whose holder is gone.
pub(super) type Copies = Vec<Vec<Option<usize>>>;

/// Fills the gaps, mixes the zones rightly, and then moves single copies until every member is in
/// its range or the search ends. Where it has a choice it goes towards the owners of `guide`: those
/// before when the start is the walk, so that little moves; the walk when the start is those before,
/// so that owners stay the next on the ring.
pub(super) fn even(rules: &Rules<'_>, start: Copies, guide: &Copies) -> Copies {
    let mut table = Table::new(rules, start, guide);
    for partition in 0..table.copies.len() {
        table.fill(partition);
        table.mix(partition);
    }
    while let Some(uneven) = table.most_uneven() {
        if !table.relieve(uneven) {
            break;
        }
    }
    table.copies
}

/// A member out of its range.
#[derive(Clone, Copy)]
enum Uneven {
    TooMany(usize),
    TooFew(usize),
}

struct Table<'a> {
    rules: &'a Rules<'a>,
    copies: Copies,
    guide: &'a Copies,
    held: Vec<u64>,
    /// Where the last swap was found: the next search goes on from there.
    cursor: usize,
    budget: usize,
}

impl<'a> Table<'a> {
    fn new(rules: &'a Rules<'a>, copies: Copies, guide: &'a Copies) -> Table<'a> {
        let mut held = vec![0; rules.ranges.len()];
        for member in copies.iter().flatten().flatten() {
            *held.get_mut(*member).expect("members are numbered from 0") += 1;
        }
        let budget = copies.len() * SEARCH_PER_PARTITION;
        Table { rules, copies, guide, held, cursor: 0, budget }
    }

    fn owners(&self, partition: usize) -> &[Option<usize>] {
        self.copies.get(partition).map_or(&[], Vec::as_slice)
    }

    fn put(&mut self, partition: usize, slot: usize, member: usize) {
        let owners = self.copies.get_mut(partition).expect("partitions are numbered from 0");
        let place = owners.get_mut(slot).expect("every partition has n slots");
        if let Some(before) = place.replace(member) {
            *self.held.get_mut(before).expect("members are numbered from 0") -= 1;
        }
        *self.held.get_mut(member).expect("members are numbered from 0") += 1;
    }

    fn in_zone(&self, partition: usize, zone: usize) -> u8 {
        let count = self
            .owners(partition)
            .iter()
            .flatten()
            .filter(|member| at(self.rules.zone_of, **member) == zone)
            .count();
        u8::try_from(count).expect("at most n")
    }

    fn holds(&self, partition: usize, member: usize) -> bool {
        self.owners(partition).contains(&Some(member))
    }

    /// How far a member is above what it ought to hold, as a number that orders members.
    fn load(&self, member: usize) -> i64 {
        let signed = |count: u64| i64::try_from(count).expect("copies are below 2^20");
        signed(at(&self.held, member)) - signed(at(self.rules.ranges, member).aim)
    }

    /// The member that needs a copy most among those that do not hold this partition and whose
    /// zone passes `zone_is_right`.
    fn neediest(&self, partition: usize, zone_is_right: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.held.len())
            .filter(|member| zone_is_right(at(self.rules.zone_of, *member)))
            .filter(|member| !self.holds(partition, *member))
            .min_by_key(|member| {
                let load = self.load(*member);
                (load >= 0, !self.is_guided(partition, *member), load, *member)
            })
    }

    fn is_guided(&self, partition: usize, member: usize) -> bool {
        self.guide.get(partition).is_some_and(|owners| owners.contains(&Some(member)))
    }

    /// Gives the copies without a holder to those who need them most: zones that must have one
    /// first, then zones that may.
    fn fill(&mut self, partition: usize) {
        while let Some(slot) = self.owners(partition).iter().position(Option::is_none) {
            let limit = |zone| at(self.rules.limits, zone);
            let member = self
                .neediest(partition, |zone| self.in_zone(partition, zone) < limit(zone).low)
                .or_else(|| {
                    self.neediest(partition, |zone| {
                        self.in_zone(partition, zone) < limit(zone).high
                    })
                })
                .or_else(|| self.neediest(partition, |_| true));
            let Some(member) = member else { return };
            self.put(partition, slot, member);
        }
    }

    /// Replaces owners until every zone is within its limits.
    fn mix(&mut self, partition: usize) {
        for _turn in 0..2 * self.owners(partition).len() {
            let wrong = |zone: usize| {
                let (count, limit) = (self.in_zone(partition, zone), at(self.rules.limits, zone));
                (count > limit.high, count < limit.low)
            };
            let zones = 0..self.rules.limits.len();
            let above = zones.clone().find(|zone| wrong(*zone).0);
            let below = zones.clone().find(|zone| wrong(*zone).1);
            if above.is_none() && below.is_none() {
                return;
            }
            let leaves = |zone: usize| match above {
                Some(above) => zone == above,
                None => self.in_zone(partition, zone) > at(self.rules.limits, zone).low,
            };
            let enters = |zone: usize| match below {
                Some(below) => zone == below,
                None => self.in_zone(partition, zone) < at(self.rules.limits, zone).high,
            };
            let owners = self.owners(partition).iter().enumerate();
            let slot = owners
                .filter_map(|(slot, owner)| owner.map(|owner| (slot, owner)))
                .filter(|(_, owner)| leaves(at(self.rules.zone_of, *owner)))
                .max_by_key(|(slot, owner)| (self.load(*owner), *slot));
            let (Some((slot, _)), Some(to)) = (slot, self.neediest(partition, enters)) else {
                return;
            };
            self.put(partition, slot, to);
        }
    }

    /// The member that is furthest out of its range; none when all are in theirs.
    fn most_uneven(&self) -> Option<Uneven> {
        let over = |member: &usize| at(&self.held, *member) > at(self.rules.ranges, *member).high;
        let under = |member: &usize| at(&self.held, *member) < at(self.rules.ranges, *member).low;
        let members = 0..self.held.len();
        let too_many = members.clone().filter(over).max_by_key(|member| self.load(*member));
        let too_few = members.filter(under).min_by_key(|member| self.load(*member));
        too_many.map(Uneven::TooMany).or(too_few.map(Uneven::TooFew))
    }

    /// Moves one copy away from, or to, the member that is out of its range. Tries the others in
    /// the order of their need, those of the same zone first, since a swap within a zone is always
    /// allowed.
    fn relieve(&mut self, uneven: Uneven) -> bool {
        let (member, sign) = match uneven {
            Uneven::TooMany(member) => (member, 1),
            Uneven::TooFew(member) => (member, -1),
        };
        let zone = at(self.rules.zone_of, member);
        let mut others: Vec<usize> = (0..self.held.len())
            .filter(|other| *other != member && self.can(*other, sign))
            .collect();
        others.sort_by_key(|other| {
            let unwell = self.load(*other) * sign >= 0;
            let elsewhere = at(self.rules.zone_of, *other) != zone;
            (unwell, elsewhere, self.load(*other) * sign, *other)
        });
        let pair = |other: usize| if sign > 0 { (member, other) } else { (other, member) };
        others.iter().any(|other| {
            let (from, to) = pair(*other);
            self.shift(from, to)
        }) || others.iter().any(|other| {
            let (from, to) = pair(*other);
            self.shift_by_third(from, to)
        })
    }

    /// Whether `other` may take a copy (`sign` 1) or give one (-1) and stay in its range.
    fn can(&self, other: usize, sign: i64) -> bool {
        let (held, range) = (at(&self.held, other), at(self.rules.ranges, other));
        if sign > 0 { held < range.high } else { held > range.low }
    }

    /// Whether `to` may take the copy of `from` in this partition, and in which slot it is.
    fn slot_for(&self, partition: usize, from: usize, to: usize) -> Option<usize> {
        let slot = self.owners(partition).iter().position(|owner| *owner == Some(from))?;
        if self.holds(partition, to) {
            return None;
        }
        let (leaves, enters) = (at(self.rules.zone_of, from), at(self.rules.zone_of, to));
        let allowed = leaves == enters
            || (self.in_zone(partition, leaves) > at(self.rules.limits, leaves).low
                && self.in_zone(partition, enters) < at(self.rules.limits, enters).high);
        allowed.then_some(slot)
    }

    fn find(&mut self, from: usize, to: usize) -> Option<(usize, usize)> {
        let len = self.copies.len();
        for steps_to_the_guide in [2, 1, 0] {
            for step in 0..len {
                self.budget = self.budget.checked_sub(1)?;
                let partition = (self.cursor + step) % len;
                let steps = u8::from(!self.is_guided(partition, from))
                    + u8::from(self.is_guided(partition, to));
                if steps < steps_to_the_guide {
                    continue;
                }
                if let Some(slot) = self.slot_for(partition, from, to) {
                    return Some((partition, slot));
                }
            }
        }
        None
    }

    /// Moves one copy from `from` to `to`, if there is one that may.
    fn shift(&mut self, from: usize, to: usize) -> bool {
        let Some((partition, slot)) = self.find(from, to) else { return false };
        self.put(partition, slot, to);
        // A stride that is odd, and so prime to the power of two of partitions, spreads what a
        // member takes over the circle.
        self.cursor = (partition + self.copies.len() / 3 * 2 + 1) % self.copies.len();
        true
    }

    /// The same over a third member, whose count stays: for zones that never meet directly.
    fn shift_by_third(&mut self, from: usize, to: usize) -> bool {
        for third in 0..self.held.len() {
            if third == from || third == to {
                continue;
            }
            let Some((first, slot)) = self.find(from, third) else { continue };
            if let Some((second, other)) = self.find(third, to).filter(|(p, _)| *p != first) {
                self.put(first, slot, third);
                self.put(second, other, to);
                return true;
            }
        }
        false
    }
}

/// The range of a member whose target is `target_micro` and whose fair whole number is `aim`: 5 %
/// or one virtual node (`n` copies), whichever is more, to either side.
pub(super) fn range(target_micro: u64, aim: u64, n: usize) -> Range {
    let micro = super::share::MICRO;
    let slack = (target_micro / 20).max(wide(n) * micro);
    let low = target_micro.saturating_sub(slack).div_ceil(micro).min(aim);
    Range { low, aim, high: ((target_micro + slack) / micro).max(aim) }
}
