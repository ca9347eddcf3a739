//! Hand-made histories, good ones and one for each planted violation.

use core::time::Duration;

use super::register;
use crate::load::check::Violation;
use crate::load::history::{Action, History, Life, OpIndex, Outcome};
use crate::types::{Key, NodeId, RequestId, Stamp, Time, Value, WallTime};

/// A history of one key, told step by step: each step is one tick of the clock.
#[derive(Default)]
struct Story {
    history: History,
    tick: u64,
}

fn key() -> Key {
    Key::new("k").unwrap()
}

fn value(text: &'static str) -> Value {
    Value::new(text).unwrap()
}

fn stamp(time: u64) -> Stamp {
    if time == 0 {
        return Stamp::ZERO;
    }
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn written(time: u64) -> Outcome {
    Outcome::Written { stamp: stamp(time), weak: false }
}

fn seen(text: Option<&'static str>, time: u64) -> Outcome {
    Outcome::Read { value: text.map(value), stamp: stamp(time), weak: false }
}

impl Story {
    fn now(&mut self) -> Time {
        self.tick += 1;
        Time(self.tick)
    }

    fn begin(&mut self, action: Action) -> OpIndex {
        let (process, now) = (self.history.new_process(), self.now());
        self.history.invoke(process, key(), action, now)
    }

    fn begin_put(&mut self, text: &'static str) -> OpIndex {
        self.begin(Action::Put(value(text)))
    }

    fn end(&mut self, op: OpIndex, outcome: Outcome) -> OpIndex {
        let now = self.now();
        self.history.complete(op, outcome, now);
        op
    }

    fn put(&mut self, text: &'static str, time: u64) -> OpIndex {
        let op = self.begin_put(text);
        self.end(op, written(time))
    }

    fn put_with(&mut self, text: &'static str, outcome: Outcome) -> OpIndex {
        let op = self.begin_put(text);
        self.end(op, outcome)
    }

    fn delete(&mut self, time: u64) -> OpIndex {
        let op = self.begin(Action::Delete);
        self.end(op, written(time))
    }

    fn get(&mut self, text: Option<&'static str>, time: u64) -> OpIndex {
        let op = self.begin(Action::Get);
        self.end(op, seen(text, time))
    }

    fn check(&self, expected: impl IntoIterator<Item = Violation>) {
        let found = register(&self.history);
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn sequential_writes_reads_and_deletes_pass() {
    let mut story = Story::default();
    story.get(None, 0);
    story.put("a", 10);
    story.get(Some("a"), 10);
    story.delete(20);
    story.get(None, 20);
    story.get(None, 0); // The tombstone has been purged.
    story.put("b", 30);
    story.get(Some("b"), 30);
    story.check([]);
}

#[test]
fn concurrent_puts_may_win_in_either_order() {
    for winner in [("a", 20), ("b", 21)] {
        let mut story = Story::default();
        let a = story.begin_put("a");
        let b = story.begin_put("b");
        story.end(b, written(if winner.0 == "a" { 10 } else { 21 }));
        story.end(a, written(20));
        story.get(Some(winner.0), winner.1);
        story.check([]);
    }
}

#[test]
fn a_read_that_overlaps_a_write_may_miss_it() {
    let mut story = Story::default();
    story.put("a", 10);
    let read = story.begin(Action::Get);
    story.put("b", 20);
    story.end(read, seen(Some("a"), 10));
    story.check([]);
}

#[test]
fn a_read_may_see_a_put_that_has_not_returned() {
    let mut story = Story::default();
    story.begin_put("a");
    story.get(Some("a"), 10);
    story.check([]);
}

#[test]
fn an_unknown_put_may_show_up_at_any_later_time_or_never() {
    let mut story = Story::default();
    story.put_with("ghost", Outcome::Unknown);
    story.put("a", 10);
    story.get(Some("a"), 10);
    story.get(Some("ghost"), 11);
    story.check([]);
}

#[test]
fn an_unknown_delete_excuses_a_miss_of_a_later_put() {
    let mut story = Story::default();
    let delete = story.begin(Action::Delete);
    story.end(delete, Outcome::Unknown);
    story.put("a", 10);
    story.get(None, 12);
    story.check([]);
}

#[test]
fn a_partly_applied_attempt_and_its_retry_are_one_operation() {
    let mut story = Story::default();
    let put = story.begin_put("a");
    story.get(Some("a"), 10); // By the first attempt's stamp.
    story.end(put, written(20));
    story.get(Some("a"), 20);
    story.check([]);
}

#[test]
fn weak_operations_neither_promise_nor_demand() {
    let mut story = Story::default();
    story.put("a", 10);
    story.put_with("b", Outcome::Written { stamp: stamp(20), weak: true });
    story.get(Some("a"), 10);
    story.put("c", 30);
    let read = story.begin(Action::Get);
    let old = Outcome::Read { value: Some(value("a")), stamp: stamp(10), weak: true };
    story.end(read, old);
    story.check([]);
}

#[test]
fn a_stale_read_is_found() {
    let mut story = Story::default();
    story.put("a", 10);
    let missed = story.put("b", 20);
    let read = story.get(Some("a"), 10);
    story.check([Violation::StaleRead { key: key(), read, missed }]);
}

#[test]
fn a_stale_read_is_found_within_one_tick_of_the_clock() {
    let mut story = Story::default();
    story.put("a", 10);
    let process = story.history.new_process();
    let missed = story.history.invoke(process, key(), Action::Put(value("b")), Time(9));
    story.history.complete(missed, written(20), Time(9));
    let read = story.history.invoke(process, key(), Action::Get, Time(9));
    story.history.complete(read, seen(Some("a"), 10), Time(9));
    story.check([Violation::StaleRead { key: key(), read, missed }]);
}

#[test]
fn an_older_value_under_a_newer_stamp_is_still_stale() {
    let mut story = Story::default();
    story.put("a", 10);
    let missed = story.put("b", 20);
    let read = story.get(Some("a"), 30);
    story.check([Violation::StaleRead { key: key(), read, missed }]);
}

#[test]
fn the_loser_of_two_concurrent_puts_may_not_be_read_after_both_are_acknowledged() {
    let mut story = Story::default();
    let a = story.begin_put("a");
    let missed = story.put("b", 20);
    story.end(a, written(10));
    let read = story.get(Some("a"), 10);
    story.check([Violation::StaleRead { key: key(), read, missed }]);
}

#[test]
fn a_lost_write_is_found_with_and_without_a_stamp_on_the_miss() {
    let mut story = Story::default();
    story.delete(5);
    let missed = story.put("a", 10);
    let purged = story.get(None, 0);
    let stale = story.get(None, 5);
    let lost = |read| Violation::LostWrite { key: key(), read, missed };
    story.check([lost(purged), lost(stale)]);
}

#[test]
fn a_value_from_nowhere_is_found_even_in_a_weak_read_or_before_its_put() {
    let mut story = Story::default();
    let early = story.get(Some("later"), 1);
    let weak = story.begin(Action::Get);
    let nobody = Outcome::Read { value: Some(value("nobody's")), stamp: stamp(2), weak: true };
    story.end(weak, nobody);
    story.put("later", 10);
    let nowhere = |read| Violation::ValueFromNowhere { key: key(), read };
    story.check([nowhere(early), nowhere(weak)]);
}

#[test]
fn a_put_reported_as_not_applied_may_not_be_read() {
    let mut story = Story::default();
    let put = story.put_with("a", Outcome::Failed);
    let read = story.get(Some("a"), 10);
    story.check([Violation::FailedWriteRead { key: key(), read, put }]);
}

#[test]
fn a_resurrected_delete_is_found() {
    let mut story = Story::default();
    story.put("a", 10);
    let deleted = story.delete(20);
    story.get(None, 20);
    let read = story.get(Some("a"), 10);
    story.check([Violation::Resurrected { key: key(), read, deleted }]);
}

#[test]
fn a_write_stamped_below_one_acknowledged_before_it_began_is_found() {
    let mut story = Story::default();
    let earlier = story.put("a", 20);
    let later = story.put("b", 10);
    story.check([Violation::StampOrder { key: key(), earlier, later }]);
}

#[test]
fn two_contents_under_one_stamp_are_found() {
    let mut story = Story::default();
    let one = story.begin_put("a");
    let other = story.begin_put("b");
    story.end(one, written(10));
    story.end(other, written(10));
    let stamp = stamp(10);
    story.check([Violation::StampReused { key: key(), stamp, one, other }]);
}

#[test]
fn keys_are_judged_apart() {
    let mut story = Story::default();
    story.put("a", 10);
    let process = story.history.new_process();
    let other = Key::new("other").unwrap();
    let read = story.history.invoke(process, other, Action::Get, Time(99));
    story.history.complete(read, seen(None, 0), Time(99));
    story.check([]);
}

/// A put whose value lives `ttl` ticks, seen by clocks that are `slack` ticks apart at most.
fn put_for(story: &mut Story, text: &'static str, time: u64, (ttl, slack): (u64, u64)) -> OpIndex {
    let op = story.begin_put(text);
    let [ttl, slack] = [ttl, slack].map(Duration::from_nanos);
    story.history.expires(op, Life { ttl, slack });
    story.end(op, written(time))
}

#[test]
fn a_value_may_be_missed_once_it_may_have_expired() {
    let mut story = Story::default();
    put_for(&mut story, "a", 10, (8, 2));
    story.get(Some("a"), 10);
    story.tick = 8;
    story.get(None, 10);
    story.get(Some("a"), 10);
    story.check([]);
}

#[test]
fn a_value_that_is_missed_before_it_can_have_expired_is_lost() {
    let mut story = Story::default();
    let put = put_for(&mut story, "a", 10, (100, 2));
    let read = story.get(None, 10);
    story.check([Violation::LostWrite { key: key(), read, missed: put }]);
}

#[test]
fn a_value_that_must_have_expired_is_not_read() {
    let mut story = Story::default();
    let put = put_for(&mut story, "a", 10, (8, 2));
    story.tick = 13;
    let read = story.get(Some("a"), 10);
    story.check([Violation::ExpiredRead { key: key(), read, put }]);
}

#[test]
fn a_value_that_has_expired_uncovers_no_older_one() {
    let mut story = Story::default();
    story.put("old", 10);
    let missed = put_for(&mut story, "new", 20, (8, 2));
    story.tick = 30;
    let read = story.get(Some("old"), 10);
    story.check([Violation::StaleRead { key: key(), read, missed }]);
}

#[test]
fn a_later_write_is_not_excused_by_an_older_life() {
    let mut story = Story::default();
    put_for(&mut story, "a", 10, (8, 2));
    let missed = story.put("b", 20);
    story.tick = 30;
    let read = story.get(None, 10);
    story.check([Violation::LostWrite { key: key(), read, missed }]);
}

/// A put whose client gives its time.
fn put_at(story: &mut Story, text: &'static str, time: u64) -> OpIndex {
    let stamp = Stamp::of_client(WallTime(time), RequestId(1));
    story.put_with(text, Outcome::Written { stamp, weak: false })
}

fn seen_at(text: &'static str, time: u64) -> Outcome {
    let stamp = Stamp::of_client(WallTime(time), RequestId(1));
    Outcome::Read { value: Some(value(text)), stamp, weak: false }
}

fn get_at(story: &mut Story, text: &'static str, time: u64) -> OpIndex {
    let op = story.begin(Action::Get);
    story.end(op, seen_at(text, time))
}

#[test]
fn a_put_with_its_clients_time_may_lose_to_what_was_written_before() {
    let mut story = Story::default();
    story.put("old", 50);
    put_at(&mut story, "late", 40);
    story.get(Some("old"), 50);
    put_at(&mut story, "newest", 60);
    get_at(&mut story, "newest", 60);
    put_at(&mut story, "later", 55);
    get_at(&mut story, "newest", 60);
    story.put("ordinary", 70);
    story.get(Some("ordinary"), 70);
    story.check([]);
}

#[test]
fn a_put_with_its_clients_time_is_not_lost_to_what_has_an_earlier_time() {
    let mut story = Story::default();
    story.put("old", 50);
    let missed = put_at(&mut story, "newest", 60);
    let read = story.get(Some("old"), 50);
    story.check([Violation::StaleRead { key: key(), read, missed }]);
}

#[test]
fn a_put_that_servers_stamp_wins_over_a_clients_time_that_was_acknowledged_before() {
    let mut story = Story::default();
    let earlier = put_at(&mut story, "timed", 60);
    let later = story.put("ordinary", 50);
    let read = get_at(&mut story, "timed", 60);
    let (k, missed) = (key(), later);
    story.check([
        Violation::StampOrder { key: key(), earlier, later },
        Violation::StaleRead { key: k, read, missed },
    ]);
}
