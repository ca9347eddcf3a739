//! The books: what is kept for each target, what more may be, and what is dirty.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::message::{CustodyNews, HintBook, HintChange, HintTotals};
use crate::types::{NodeId, Unit, WallTime, limits};

/// What a node may keep for others.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all hints. Plain ones may take half of it.
    pub bytes_max: u64,
    /// How old a plain hint may become.
    pub age_max: Duration,
}

/// What is kept for others.
#[derive(Clone, Debug)]
pub struct Books {
    bounds: Bounds,
    targets: BTreeMap<NodeId, HintBook>,
    /// The sum over all targets.
    totals: HintTotals,
    /// What is on its way to the disk: it needs room as if it were there.
    reserved: HintTotals,
    /// Targets of which the disk is asked for the oldest hint, with no hint for them since.
    asked: BTreeSet<NodeId>,
    /// Deletions under way: the disk may have made them, and what it then says of the oldest hint may
    /// be heard of before them.
    removing: u64,
    /// Owners that may lack writes of a unit which no hint carries.
    dirty: BTreeSet<(Unit, NodeId)>,
}

impl Books {
    /// The books of a store that holds this.
    pub fn new(
        bounds: Bounds,
        targets: BTreeMap<NodeId, HintBook>,
        dirty: BTreeSet<(Unit, NodeId)>,
    ) -> Books {
        let mut totals = HintTotals::default();
        targets.values().for_each(|book| totals.add(book.totals));
        let (reserved, asked) = (HintTotals::default(), BTreeSet::new());
        Books { bounds, targets, totals, reserved, asked, removing: 0, dirty }
    }

    /// Whether one more hint of so many bytes fits; if it does, its room is reserved until
    /// [`Books::settle`] or [`Books::release`]. Custody may fill what plain hints leave.
    pub fn admit(&mut self, custody: bool, bytes: u64) -> bool {
        let (held, coming) = (self.totals.shown(), self.reserved.shown());
        let all = held.bytes + coming.bytes + bytes;
        let plain = all - held.custody_bytes - coming.custody_bytes;
        let fits = all <= self.bounds.bytes_max && (custody || plain <= self.bounds.bytes_max / 2);
        if fits {
            self.reserved.add(HintTotals::one(custody, bytes));
        }
        fits
    }

    /// What was reserved has not been written.
    pub fn release(&mut self, custody: bool, bytes: u64) {
        self.reserved.take(HintTotals::one(custody, bytes));
    }

    /// What was reserved may have been written: the disk has failed, and what it did before that
    /// nobody knows. It counts as held. Were it left out and there, its deletion would be taken off
    /// for another one, and that one would be forgotten; were it counted and not there, the next
    /// look at the disk finds nothing and says so ([`Books::saw_oldest`]).
    pub fn doubt(&mut self, target: NodeId, (custody, bytes): (bool, u64), now: WallTime) {
        let added = HintTotals::one(custody, bytes);
        let change = HintChange { added, created: now, ..HintChange::default() };
        self.settle(target, (custody, bytes), change);
    }

    /// The disk is asked for the oldest hint for `target`.
    pub fn ask_oldest(&mut self, target: NodeId) {
        self.asked.insert(target);
    }

    /// What was reserved has been written, and has changed this.
    pub fn settle(&mut self, target: NodeId, (custody, bytes): (bool, u64), change: HintChange) {
        self.release(custody, bytes);
        self.asked.remove(&target);
        let book = self.targets.entry(target).or_default();
        book.totals.take(change.removed);
        book.totals.add(change.added);
        self.totals.take(change.removed);
        self.totals.add(change.added);
        if change.added.count > 0 {
            book.oldest = Some(book.oldest.map_or(change.created, |old| old.min(change.created)));
        }
        self.close_if_empty(target);
    }

    /// A hint is about to be deleted; [`Books::end_remove`] follows.
    pub fn begin_remove(&mut self) {
        self.removing += 1;
    }

    /// A deletion has ended, whatever came of it.
    pub fn end_remove(&mut self) {
        self.removing = self.removing.saturating_sub(1);
    }

    /// Hints have been deleted.
    pub fn removed(&mut self, target: NodeId, gone: HintTotals) {
        if gone == HintTotals::default() {
            return;
        }
        // What wrote it may be heard of later: until then the book is below zero.
        self.targets.entry(target).or_default().totals.take(gone);
        self.totals.take(gone);
        self.close_if_empty(target);
    }

    /// The oldest hint for `target` has been seen, or that there is none. Then the books of it are
    /// closed, unless something has been written for it meanwhile, or may be.
    pub fn saw_oldest(&mut self, target: NodeId, oldest: Option<WallTime>) {
        let still = self.reserved.count == 0 && self.removing == 0;
        let undisturbed = self.asked.remove(&target) && still;
        if oldest.is_none() && undisturbed {
            if let Some(book) = self.targets.remove(&target) {
                self.totals.take(book.totals);
            }
            return;
        }
        if let Some(book) = self.targets.get_mut(&target)
            && let Some(oldest) = oldest
        {
            book.oldest = Some(oldest);
        }
    }

    fn close_if_empty(&mut self, target: NodeId) {
        if self.targets.get(&target).is_some_and(|book| book.totals == HintTotals::default()) {
            self.targets.remove(&target);
        }
    }

    /// Targets with at least one hint.
    pub fn targets(&self) -> impl Iterator<Item = (NodeId, HintBook)> + '_ {
        let shown = |(target, book): (&NodeId, &HintBook)| {
            (*target, HintBook { totals: book.totals.shown(), ..*book })
        };
        self.targets.iter().map(shown).filter(|(_, book)| book.totals.count > 0)
    }

    /// What is kept for `target`.
    pub fn of(&self, target: NodeId) -> HintBook {
        let book = self.targets.get(&target).copied().unwrap_or_default();
        HintBook { totals: book.totals.shown(), ..book }
    }

    /// What is kept for everybody.
    pub fn totals(&self) -> HintTotals {
        self.totals.shown()
    }

    /// Whether custody is held for `target`.
    pub fn holds_custody(&self, target: NodeId) -> bool {
        self.of(target).totals.custody > 0
    }

    /// Whether everything in custody was taken into it after this.
    pub fn is_custody_after(&self, since: WallTime) -> bool {
        let mut held = self.targets().filter(|(_, book)| book.totals.custody > 0);
        held.all(|(_, book)| book.oldest.is_some_and(|oldest| oldest > since))
    }

    /// The time before which plain hints are too old.
    pub fn too_old(&self, wall: WallTime) -> WallTime {
        let age = u64::try_from(self.bounds.age_max.as_nanos()).unwrap_or(u64::MAX);
        WallTime(wall.0.saturating_sub(age))
    }

    /// Targets that may have plain hints which are too old.
    pub fn aged(&self, wall: WallTime) -> Vec<NodeId> {
        let before = self.too_old(wall);
        let old = |book: &HintBook| {
            let plain = book.totals.count > book.totals.custody;
            (plain || crate::mutant!("custody-dropped-by-age"))
                && book.oldest.is_some_and(|oldest| oldest < before)
        };
        self.targets().filter(|(_, book)| old(book)).map(|(target, _)| target).collect()
    }

    /// Marks a unit dirty for an owner. Returns whether it was not yet.
    pub fn mark_dirty(&mut self, unit: Unit, target: NodeId) -> bool {
        self.dirty.insert((unit, target))
    }

    /// The owner has been compared with all others since.
    pub fn clear_dirty(&mut self, unit: Unit, target: NodeId) {
        self.dirty.remove(&(unit, target));
    }

    /// All dirty marks.
    pub fn dirty(&self) -> &BTreeSet<(Unit, NodeId)> {
        &self.dirty
    }

    /// What is told to others about custody.
    pub fn news(&self) -> CustodyNews {
        let held = self.targets().filter(|(_, book)| book.totals.custody > 0);
        let mut targets: Vec<(NodeId, u64)> =
            held.map(|(target, book)| (target, book.totals.custody)).collect();
        targets.sort_by_key(|(target, count)| (core::cmp::Reverse(*count), *target));
        let others = targets.len() > limits::CUSTODY_NEWS_MAX;
        targets.truncate(limits::CUSTODY_NEWS_MAX);
        CustodyNews { targets, others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClassId, Partition};

    const B: NodeId = NodeId(2);

    fn books(bytes_max: u64) -> Books {
        let bounds = Bounds { bytes_max, age_max: Duration::from_secs(10) };
        Books::new(bounds, BTreeMap::new(), BTreeSet::new())
    }

    fn keep(books: &mut Books, custody: bool, bytes: u64, at: u64) -> bool {
        let fits = books.admit(custody, bytes);
        if fits {
            let added = HintTotals::one(custody, bytes);
            let created = WallTime(at * 1_000_000_000);
            books.settle(
                B,
                (custody, bytes),
                HintChange { added, created, ..HintChange::default() },
            );
        }
        fits
    }

    #[test]
    fn plain_hints_fill_half_and_custody_the_rest() {
        let mut books = books(100);
        assert!(keep(&mut books, false, 50, 1));
        assert!(!keep(&mut books, false, 1, 1));
        assert!(keep(&mut books, true, 50, 1));
        assert!(!keep(&mut books, true, 1, 1));
        books.removed(B, HintTotals::one(false, 50));
        assert!(keep(&mut books, true, 50, 1));
        assert_eq!(
            books.totals(),
            HintTotals { count: 2, bytes: 100, custody: 2, custody_bytes: 100 }
        );
        assert!(books.totals().bytes <= 100);
    }

    #[test]
    fn what_is_on_its_way_to_the_disk_needs_room() {
        let mut books = books(100);
        assert!(books.admit(true, 60));
        assert!(!books.admit(true, 60));
        books.release(true, 60);
        assert!(books.admit(true, 60));
    }

    #[test]
    fn an_overwritten_hint_counts_once() {
        let mut books = books(100);
        keep(&mut books, false, 10, 1);
        assert!(books.admit(true, 20));
        let change = HintChange {
            added: HintTotals::one(true, 20),
            removed: HintTotals::one(false, 10),
            created: WallTime(1),
        };
        books.settle(B, (true, 20), change);
        assert_eq!(books.totals(), HintTotals::one(true, 20));
        books.removed(B, HintTotals::one(true, 20));
        assert_eq!(books.targets().count(), 0);
    }

    #[test]
    fn a_write_that_failed_is_counted_until_the_disk_says_that_nothing_is_there() {
        let mut books = books(100);
        assert!(keep(&mut books, true, 40, 1));
        assert!(books.admit(false, 40));
        books.doubt(B, (false, 40), WallTime(2));
        // It was there after all, and goes: the other one stays.
        books.removed(B, HintTotals::one(false, 40));
        assert_eq!(books.totals(), HintTotals::one(true, 40));
        assert!(books.admit(false, 10));
        books.doubt(B, (false, 10), WallTime(3));
        books.removed(B, HintTotals::one(true, 40));
        assert_eq!(books.of(B).totals.count, 1, "it was not there");
        books.ask_oldest(B);
        books.saw_oldest(B, None);
        assert_eq!((books.totals(), books.targets().count()), (HintTotals::default(), 0));
    }

    #[test]
    fn a_hint_whose_end_is_heard_of_before_its_beginning_costs_no_other() {
        let mut books = books(1000);
        keep(&mut books, false, 110, 1);
        assert!(books.admit(true, 101));
        books.removed(B, HintTotals::one(true, 101));
        assert!(books.admit(true, 5), "sums below zero are no room and no panic");
        books.release(true, 5);
        let added = HintTotals::one(true, 101);
        books.settle(B, (true, 101), HintChange { added, ..HintChange::default() });
        assert_eq!(books.totals(), HintTotals::one(false, 110));
        books.removed(B, HintTotals::one(false, 110));
        assert_eq!((books.totals(), books.targets().count()), (HintTotals::default(), 0));
    }

    #[test]
    fn a_look_at_the_disk_does_not_close_books_that_are_being_written() {
        let mut books = books(100);
        books.ask_oldest(B);
        keep(&mut books, true, 10, 1);
        books.saw_oldest(B, None);
        assert_eq!(books.totals().count, 1, "written since it was asked");
        books.ask_oldest(B);
        assert!(books.admit(true, 10));
        books.saw_oldest(B, None);
        assert_eq!(books.totals().count, 1, "something is on its way");
        books.saw_oldest(B, None);
        assert_eq!(books.totals().count, 1, "an answer to nothing");
        books.release(true, 10);
        books.ask_oldest(B);
        books.begin_remove();
        books.saw_oldest(B, None);
        books.end_remove();
        books.removed(B, HintTotals::one(true, 10));
        assert_eq!(books.targets().count(), 0);
        assert!(keep(&mut books, true, 10, 2));
        assert_eq!(books.totals().count, 1, "a deletion was heard of once");
    }

    #[test]
    fn only_plain_hints_grow_too_old() {
        let mut books = books(100);
        keep(&mut books, true, 10, 1);
        assert_eq!(books.aged(WallTime(100_000_000_000)), []);
        keep(&mut books, false, 10, 5);
        assert_eq!(books.aged(WallTime(11_000_000_000)), []);
        assert_eq!(books.aged(WallTime(11_000_000_001)), [B]);
        let _armed = crate::testing::arm_mutant("custody-dropped-by-age");
        let mut custody = self::books(100);
        keep(&mut custody, true, 10, 1);
        assert_eq!(custody.aged(WallTime(100_000_000_000)), [B]);
    }

    #[test]
    fn news_names_those_with_most_and_says_when_there_are_others() {
        let targets = (1..=70).map(|id: u32| {
            let count = u64::from(id);
            let totals = HintTotals { count, bytes: 1, custody: count, custody_bytes: 1 };
            (NodeId(id), HintBook { totals, oldest: None })
        });
        let bounds = Bounds { bytes_max: 100, age_max: Duration::from_secs(10) };
        let books = Books::new(bounds, targets.collect(), BTreeSet::new());
        let news = books.news();
        assert_eq!((news.targets.len(), news.others), (limits::CUSTODY_NEWS_MAX, true));
        assert_eq!(news.targets[0], (NodeId(70), 70));
    }

    #[test]
    fn a_dirty_mark_is_new_once() {
        let mut books = books(100);
        let unit = Unit { class: ClassId(0), partition: Partition(3) };
        assert!(books.mark_dirty(unit, B));
        assert!(!books.mark_dirty(unit, B));
        assert_eq!(books.dirty().len(), 1);
    }
}
