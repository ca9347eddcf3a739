//! The machine, its sources and its disk played by hand.

mod comparing;
mod mirror;

use core::time::Duration;
use std::collections::BTreeSet;

use super::*;
use crate::handoff::Governor;
use crate::message::{
    CopyChunk, CopyContent, CopyEntry, CopyMark, CopyPage, CopyPlace, CopyRecord, CopyStretch,
    CopyWhat,
};
use crate::repair::tree::Place;
use crate::testing::arm_mutant;
use crate::types::{
    Class, ClusterId, Key, Lineage, Partition, Record, Settings, Stamp, TableId, Topology, WallTime,
};

const ME: NodeId = NodeId(9);
const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(0) };
const ENTRY: Epoch = Epoch(7);

fn state(n: u8, w_min: u8) -> ClusterState {
    let owners = vec![(1..=n.into()).map(NodeId).collect()];
    let class = Class::new(ClassId(0), (n, n + 1 - w_min, w_min), owners, Epoch(1));
    ClusterState {
        epoch: ENTRY,
        parent: 0,
        cluster: ClusterId::default(),
        lineage: Lineage::default(),
        feature_level: 1,
        settings: Settings { name: "kv".to_owned(), partitions: 1 },
        members: Vec::new(),
        council: Vec::new(),
        ring: Vec::new(),
        classes: vec![class],
        tables: Vec::new(),
        table_id_max: TableId(1),
        dropped_at: Epoch(0),
        recent_changes: Vec::new(),
        topology: Topology::default(),
    }
}

/// The machine and all around it.
struct Stage {
    transfers: Transfers,
    state: ClusterState,
    now: Time,
    next_operation: u64,
    away: BTreeSet<NodeId>,
    busy: bool,
    governor: Governor,
    actions: Vec<TransferAction>,
}

impl Stage {
    fn new(state: ClusterState, rate: u64) -> Stage {
        let pace = Pace {
            bytes_per_second: rate,
            pause: Duration::from_millis(100),
            answer_within: Duration::from_secs(1),
        };
        Stage {
            transfers: Transfers::new(pace),
            state,
            now: Time(1),
            next_operation: 1,
            away: BTreeSet::new(),
            busy: false,
            governor: Governor::default(),
            actions: Vec::new(),
        }
    }

    fn begun(progress: FillProgress) -> Stage {
        let mut stage = Stage::new(state(3, 2), 0);
        stage.transfers.begin(UNIT, ENTRY, progress);
        stage.step(Transfers::on_time);
        stage
    }

    fn step(&mut self, run: impl FnOnce(&mut Transfers, &mut Surroundings<'_>)) {
        let away = self.away.clone();
        let around = &mut Surroundings {
            now: self.now,
            me: ME,
            state: &self.state,
            reachable: &|id| !away.contains(&id),
            busy: self.busy,
            governor: &mut self.governor,
            next_operation: &mut self.next_operation,
            out: &mut self.actions,
        };
        run(&mut self.transfers, around);
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
        self.step(Transfers::on_time);
    }

    /// The only question that was asked since this was looked at.
    fn question(&mut self) -> (NodeId, CopyAsk) {
        let mut asks = core::mem::take(&mut self.actions).into_iter().filter_map(|it| match it {
            TransferAction::Ask(to, ask) => Some((to, *ask)),
            _ => None,
        });
        let first = asks.next().expect("a question");
        assert!(asks.next().is_none());
        first
    }

    fn answer(
        &mut self,
        (from, ask): &(NodeId, CopyAsk),
        content: CopyContent,
        next: Option<&str>,
    ) {
        let page = CopyPage { content, next: next.map(place) };
        let message = CopyMessage::Page {
            round: ask.round,
            part: 0,
            parts: 1,
            floor: Stamp::ZERO,
            agreed: Stamp::ZERO,
            page,
        };
        self.step(|transfers, around| transfers.on_message(*from, message, around));
    }

    fn refuse(&mut self, (from, ask): &(NodeId, CopyAsk), why: CopyRefusal) {
        let message = CopyMessage::Refused { round: ask.round, why };
        self.step(|transfers, around| transfers.on_message(*from, message, around));
    }

    /// What was handed to the disk to be merged since this was looked at is merged.
    fn merge(&mut self) -> Vec<&'static str> {
        let mut merged = Vec::new();
        let (merges, others): (Vec<_>, Vec<_>) = core::mem::take(&mut self.actions)
            .into_iter()
            .partition(|it| matches!(it, TransferAction::Merge(..)));
        self.actions = others;
        for action in merges {
            let TransferAction::Merge(unit, round, entries, _) = action else { unreachable!() };
            let known = ["a", "b", "c", "d"];
            merged.extend(
                entries
                    .iter()
                    .map(|entry| known.into_iter().find(|it| place(it) == entry.place).unwrap()),
            );
            self.step(|transfers, around| transfers.on_merged((unit, round), true, around));
        }
        merged
    }

    /// What was to be stored since this was looked at is stored.
    fn saved(&mut self) -> Vec<FillStage> {
        let (saves, others): (Vec<_>, Vec<_>) = core::mem::take(&mut self.actions)
            .into_iter()
            .partition(|it| matches!(it, TransferAction::Save(..)));
        self.actions = others;
        let mut stages = Vec::new();
        for action in saves {
            let TransferAction::Save(unit, record) = action else { unreachable!() };
            assert_eq!((unit, record.entry), (UNIT, ENTRY));
            stages.push(record.stage);
            self.step(|transfers, around| transfers.on_saved(unit, true, around));
        }
        stages
    }
}

fn place(key: &str) -> CopyPlace {
    CopyPlace { table: TableId(1), key: Key::new(key.to_owned()).unwrap() }
}

fn records(keys: &[&str]) -> CopyContent {
    let entry = |key: &&str| CopyEntry {
        place: place(key),
        record: CopyRecord::Version(Record { stamp: at(1), expiry: None, value: None }),
    };
    CopyContent::Records(keys.iter().map(entry).collect())
}

fn marks(keys: &[&str]) -> CopyContent {
    let mark = |key: &&str| CopyMark { place: place(key), stamp: at(1), print: 0 };
    CopyContent::Marks(keys.iter().map(mark).collect())
}

fn leaves_of_all() -> CopyWhat {
    CopyWhat::Leaves(Place::first(), None)
}

fn at(time: u64) -> Stamp {
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn pulled(sources: &[u32]) -> FillStage {
    let pulled = sources.iter().map(|id| NodeId(*id)).collect();
    FillStage::Filling(FillProgress { pulled, ..FillProgress::default() })
}

#[test]
fn as_many_sources_are_wanted_as_any_write_must_have_reached_one_of() {
    let wanted = |n, w| sources_wanted(&state(n, w), UNIT);
    assert_eq!([wanted(1, 1), wanted(3, 1), wanted(3, 2), wanted(3, 3)], [1, 3, 2, 1]);
    assert_eq!([wanted(5, 3), wanted(5, 5)], [3, 1]);
}

#[test]
fn the_first_source_is_taken_whole_and_what_the_second_has_more_of_is_asked_for() {
    let mut stage = Stage::begun(FillProgress::default());
    let first = stage.question();
    assert_eq!((first.0, &first.1.what), (NodeId(1), &CopyWhat::All(None)));
    assert_eq!((first.1.unit, first.1.entry, first.1.changed_at), (UNIT, ENTRY, Epoch(1)));
    stage.answer(&first, records(&["a", "b"]), Some("b"));
    // The next page is asked for while this one is merged.
    let [TransferAction::Merge(..), TransferAction::Ask(_, next)] = &stage.actions[..] else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!(next.what, CopyWhat::All(Some(place("b"))));
    let next = (NodeId(1), (**next).clone());
    assert_eq!(stage.merge(), ["a", "b"]);
    stage.actions.clear();
    stage.answer(&first, records(&["d"]), None);
    assert!(stage.actions.is_empty(), "an answer that comes twice");
    stage.answer(&next, records(&["c"]), None);
    assert_eq!(stage.merge(), ["c"]);
    let second = {
        let asks = stage.actions.iter().filter_map(|it| match it {
            TransferAction::Ask(to, ask) => Some((*to, (**ask).clone())),
            _ => None,
        });
        asks.last().unwrap()
    };
    assert_eq!((second.0, &second.1.what), (NodeId(2), &leaves_of_all()));
    assert_eq!(stage.saved(), [pulled(&[1])]);
    stage.actions.clear();
    stage.answer(&second, marks(&["a", "d"]), None);
    let Some(TransferAction::Compare(_, round, _)) = stage.actions.pop() else { panic!() };
    let wanted = Some(CopyLack::Keys(vec![place("d")]));
    stage.step(|transfers, around| transfers.on_compared((UNIT, round), wanted, around));
    let third = stage.question();
    assert_eq!(third.1.what, CopyWhat::Keys(vec![place("d")]));
    stage.answer(&third, records(&["d"]), None);
    assert_eq!(stage.merge(), ["d"]);
    assert_eq!(stage.saved(), [FillStage::Complete]);
}

#[test]
fn one_source_is_enough_only_for_the_planted_bug() {
    let case = || {
        let mut stage = Stage::begun(FillProgress::default());
        let first = stage.question();
        stage.answer(&first, records(&[]), None);
        stage.saved()
    };
    assert_eq!(case(), [pulled(&[1])]);
    let _armed = arm_mutant("copy-from-one-source");
    assert_eq!(case(), [FillStage::Complete]);
}

#[test]
fn another_is_asked_in_the_place_of_one_that_refuses_or_is_lost_or_silent() {
    let mut stage = Stage::begun(FillProgress::default());
    let first = stage.question();
    stage.refuse(&first, CopyRefusal::Incomplete);
    let second = stage.question();
    assert_eq!(second.0, NodeId(2));
    stage.away.insert(NodeId(2));
    stage.step(|transfers, around| transfers.on_unreachable(NodeId(2), around));
    let third = stage.question();
    assert_eq!((third.0, &third.1.what), (NodeId(3), &CopyWhat::All(None)));
    // The first is let in again after a while, and when the third says nothing it is asked.
    for _ in 0..3 {
        stage.pass(1000);
        let again = stage.question();
        assert_eq!((again.0, &again.1.what), (NodeId(3), &third.1.what));
        assert_ne!(again.1.round, third.1.round);
    }
    stage.pass(1000);
    assert_eq!(stage.question().0, NodeId(1));
}

#[test]
fn a_source_that_is_busy_is_asked_the_same_again_after_a_pause() {
    let mut stage = Stage::begun(FillProgress::default());
    let first = stage.question();
    stage.refuse(&first, CopyRefusal::Busy);
    assert!(stage.actions.is_empty());
    stage.pass(100);
    let again = stage.question();
    assert_eq!((again.0, again.1.what), (first.0, first.1.what));
}

#[test]
fn a_source_that_has_yet_to_acknowledge_is_asked_again_soon_and_then_less_often() {
    let mut stage = Stage::begun(FillProgress::default());
    stage.away.extend([NodeId(2), NodeId(3)]);
    let mut waits = Vec::new();
    for _ in 0..7 {
        let question = stage.question();
        stage.refuse(&question, CopyRefusal::NotAcknowledged);
        let due = stage.transfers.next_deadline().unwrap();
        waits.push(due.since(stage.now).as_micros());
        stage.now = due;
        stage.step(Transfers::on_time);
    }
    assert_eq!(waits, [3125, 6250, 12_500, 25_000, 50_000, 100_000, 100_000]);
    // What it gives ends that.
    let question = stage.question();
    stage.answer(&question, records(&["a"]), Some("a"));
    stage.merge();
    let question = stage.question();
    stage.refuse(&question, CopyRefusal::NotAcknowledged);
    let due = stage.transfers.next_deadline().unwrap();
    assert_eq!(due.since(stage.now).as_micros(), 3125);
}

#[test]
fn a_copy_goes_on_where_it_was_before_a_crash() {
    let current = Some((NodeId(3), place("b")));
    let progress = FillProgress { current, ..FillProgress::default() };
    let mut stage = Stage::begun(progress);
    let first = stage.question();
    assert_eq!((first.0, first.1.what.clone()), (NodeId(3), CopyWhat::All(Some(place("b")))));
    let pulled = vec![NodeId(1), NodeId(2)];
    let progress = FillProgress { pulled, ..FillProgress::default() };
    let mut stage = Stage::begun(progress);
    assert_eq!(stage.saved(), [FillStage::Complete], "all had been pulled");
}

#[test]
fn copies_keep_to_their_pace_and_give_way_to_users() {
    let mut stage = Stage::new(state(3, 2), 1000);
    stage.transfers.begin(UNIT, ENTRY, FillProgress::default());
    stage.step(Transfers::on_time);
    let first = stage.question();
    stage.answer(&first, records(&["a", "b", "c"]), Some("c"));
    stage.merge();
    assert!(stage.actions.is_empty(), "{:?}", stage.actions);
    let due = stage.transfers.next_deadline().unwrap();
    assert!(due > stage.now);
    stage.pass(1000);
    let second = stage.question();
    stage.busy = true;
    stage.answer(&second, records(&["d"]), Some("d"));
    stage.merge();
    stage.pass(2000);
    assert!(stage.actions.is_empty());
    assert!(stage.transfers.next_deadline().unwrap() > stage.now, "it does not spin");
    stage.busy = false;
    stage.pass(200);
    assert_eq!(stage.question().1.what, CopyWhat::All(Some(place("d"))));
}

fn chunk(text: &'static str) -> CopyContent {
    CopyContent::Chunk(CopyChunk { bytes: text.into(), sum: 7 })
}

fn files(all: &[(&str, u64)]) -> CopyContent {
    let file = |(name, bytes): &(&str, u64)| CopyFile { name: (*name).to_owned(), bytes: *bytes };
    CopyContent::Files(all.iter().map(file).collect())
}

fn beside() -> FillProgress {
    FillProgress { overlay: Overlay::Files, ..FillProgress::default() }
}

impl Stage {
    /// What was to be staged or thrown away since this was looked at is.
    fn staged(&mut self) -> Vec<(String, u64)> {
        let mut staged = Vec::new();
        for action in core::mem::take(&mut self.actions) {
            let (unit, round) = match action {
                TransferAction::Clear(unit, round) => (unit, round),
                TransferAction::Stage(unit, round, name, offset, _) => {
                    staged.push((name, offset));
                    (unit, round)
                }
                other => {
                    self.actions.push(other);
                    continue;
                }
            };
            self.step(|transfers, around| transfers.on_merged((unit, round), true, around));
        }
        staged
    }

    /// The last question of those that were asked since this was looked at.
    fn last_question(&mut self) -> (NodeId, CopyAsk) {
        let asks = self.actions.iter().rev().find_map(|it| match it {
            TransferAction::Ask(to, ask) => Some((*to, (**ask).clone())),
            _ => None,
        });
        self.actions.retain(|it| !matches!(it, TransferAction::Ask(..)));
        asks.expect("a question")
    }
}

fn merging(sources: &[u32], overlay: Overlay) -> FillStage {
    let pulled = sources.iter().map(|id| NodeId(*id)).collect();
    FillStage::Filling(FillProgress { pulled, overlay, ..FillProgress::default() })
}

#[test]
fn files_come_chunk_by_chunk_are_taken_in_and_what_came_beside_is_merged_before_others_are_asked() {
    let mut stage = Stage::begun(beside());
    let first = stage.question();
    assert_eq!(first.1.what, CopyWhat::Files);
    stage.answer(&first, files(&[("1.sst", 5), ("2.blob", 2)]), None);
    assert!(stage.staged().is_empty(), "first all else is thrown away");
    for (name, offset, text) in [("1.sst", 0, "abc"), ("1.sst", 3, "de"), ("2.blob", 0, "fg")] {
        let ask = stage.last_question();
        assert_eq!(ask.1.what, CopyWhat::Chunk(name.to_owned(), offset));
        stage.answer(&ask, chunk(text), None);
        assert_eq!(stage.staged(), [(name.to_owned(), offset)]);
        assert!(stage.transfers.done_milli(UNIT, &stage.state) <= 900);
    }
    let Some(TransferAction::TakeIn(_, all, record, _)) = stage.actions.pop() else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!(
        (all.map(|all| all.len()), record.stage),
        (Some(2), merging(&[1], Overlay::Merging))
    );
    stage.pass(5000);
    stage.step(|transfers, around| transfers.on_unreachable(NodeId(1), around));
    assert!(stage.actions.is_empty(), "however long it takes");
    stage.step(|transfers, around| transfers.on_taken(UNIT, true, around));
    let Some(TransferAction::Drain(_, record)) = stage.actions.pop() else { panic!() };
    assert_eq!(record.stage, pulled(&[1]));
    let ended = stage.question();
    assert_eq!((ended.0, ended.1.what), (NodeId(1), CopyWhat::Ended));
    stage.step(|transfers, around| transfers.on_drained(UNIT, Some(false), around));
    let Some(TransferAction::Drain(..)) = stage.actions.pop() else { panic!() };
    stage.step(|transfers, around| transfers.on_drained(UNIT, Some(true), around));
    let second = stage.question();
    assert_eq!((second.0, second.1.what), (NodeId(2), leaves_of_all()));
}

#[test]
fn a_chunk_that_was_lost_is_asked_for_again_and_files_that_are_gone_are_begun_anew() {
    let mut stage = Stage::begun(beside());
    let first = stage.question();
    stage.answer(&first, files(&[("1.sst", 5)]), None);
    stage.staged();
    let ask = stage.last_question();
    stage.pass(1000);
    let again = stage.question();
    assert_eq!(again.1.what, ask.1.what);
    stage.refuse(&again, CopyRefusal::Gone);
    let anew = stage.last_question();
    assert_eq!((anew.0, &anew.1.what), (NodeId(2), &CopyWhat::Files));
    stage.staged();
    stage.answer(&anew, files(&[("7.sst", 2)]), None);
    stage.staged();
    let ask = stage.last_question();
    stage.answer(&ask, chunk("abc"), None);
    stage.staged();
    let other = stage.last_question();
    assert_eq!(other.0, NodeId(3), "more bytes than the file has");
}

#[test]
fn a_source_may_give_records_in_the_place_of_files() {
    let mut stage = Stage::begun(beside());
    let first = stage.question();
    stage.answer(&first, records(&["a"]), Some("a"));
    let next = stage.last_question();
    assert_eq!(next.1.what, CopyWhat::All(Some(place("a"))));
    stage.merge();
    stage.answer(&next, records(&["b"]), None);
    stage.merge();
    let drains = stage.actions.iter().filter(|it| matches!(it, TransferAction::Drain(..)));
    assert_eq!(drains.count(), 1, "{:?}", stage.actions);
}

#[test]
fn an_overlay_that_was_being_merged_at_a_crash_is_merged_on() {
    let pulled = vec![NodeId(1)];
    let progress = FillProgress { pulled, overlay: Overlay::Merging, current: None };
    let stage = Stage::begun(progress);
    let [TransferAction::Drain(..)] = &stage.actions[..] else { panic!("{:?}", stage.actions) };
}

/// How many actions have asked something of the disk since this was looked at.
fn asked_of_disk(stage: &mut Stage) -> usize {
    let asks = |it: &&TransferAction| matches!(it, TransferAction::Drain(..));
    core::mem::take(&mut stage.actions).iter().filter(asks).count()
}

/// Of seed 557256755192: a damaged overlay was merged 40,684 times in a minute.
fn what_the_disk_refuses_waits() {
    let pulled = vec![NodeId(1)];
    let progress = FillProgress { pulled, overlay: Overlay::Merging, current: None };
    let mut stage = Stage::begun(progress);
    assert_eq!(asked_of_disk(&mut stage), 1);
    stage.step(|transfers, around| transfers.on_drained(UNIT, None, around));
    for _ in 0..10 {
        stage.step(|transfers, around| transfers.on_unreachable(NodeId(9), around));
    }
    assert_eq!(asked_of_disk(&mut stage), 0, "whatever else goes on");
    stage.pass(1000);
    assert_eq!(asked_of_disk(&mut stage), 1, "{:?}", stage.actions);
    stage.step(|transfers, around| transfers.on_drained(UNIT, Some(true), around));
}

#[test]
fn what_the_disk_could_not_do_is_asked_of_it_again_after_a_pause() {
    what_the_disk_refuses_waits();
    let _planted = arm_mutant("failed-asked-at-once");
    assert!(std::panic::catch_unwind(what_the_disk_refuses_waits).is_err());
}

fn give_up(stage: &mut Stage, gone: &[u32], epoch: Epoch) {
    let gone = gone.iter().map(|id| NodeId(*id)).collect();
    stage.state.topology.losses = vec![crate::types::Loss { unit: UNIT, epoch, gone }];
}

#[test]
fn without_those_who_were_given_up_everybody_else_is_pulled_and_nobody_is_waited_for() {
    let mut stage = Stage::new(state(3, 2), 0);
    stage.away.extend([NodeId(2), NodeId(3)]);
    stage.transfers.begin(UNIT, ENTRY, FillProgress::default());
    stage.pass(1);
    let only = stage.question();
    stage.answer(&only, records(&["a"]), None);
    stage.merge();
    assert_eq!(stage.saved(), [pulled(&[1])]);
    stage.pass(5000);
    assert!(stage.saved().is_empty() && stage.actions.is_empty(), "one source is not enough");
    // Of what was given up before it entered it may not speak: it was written to since.
    give_up(&mut stage, &[2, 3], Epoch(ENTRY.0 - 1));
    stage.pass(5000);
    assert!(stage.saved().is_empty());
    {
        let _armed = arm_mutant("loss-outlives-entry");
        stage.pass(5000);
        assert_eq!(stage.saved(), [FillStage::Complete]);
    }
    stage.transfers.forget(UNIT);
    stage.actions.clear();
    give_up(&mut stage, &[3], Epoch(ENTRY.0));
    let progress = FillProgress { pulled: vec![NodeId(1)], ..FillProgress::default() };
    stage.transfers.begin(UNIT, ENTRY, progress);
    stage.pass(5000);
    assert!(stage.saved().is_empty(), "another one may come back");
    give_up(&mut stage, &[2, 3], Epoch(ENTRY.0));
    stage.pass(5000);
    assert_eq!(stage.saved(), [FillStage::Complete]);
}

#[test]
fn a_unit_of_which_nothing_is_left_begins_with_what_is_written_since() {
    let mut stage = Stage::new(state(3, 2), 0);
    stage.away.extend([1, 2, 3].map(NodeId));
    stage.transfers.begin(UNIT, ENTRY, beside());
    stage.pass(1);
    assert!(stage.actions.is_empty());
    give_up(&mut stage, &[1, 2, 3], Epoch(ENTRY.0));
    stage.pass(5000);
    let Some(TransferAction::TakeIn(_, files, record, _)) = stage.actions.pop() else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!(
        (files.map(|files| files.len()), record.stage),
        (Some(0), merging(&[], Overlay::Merging))
    );
    stage.pass(5000);
    assert!(stage.actions.is_empty(), "once");
    stage.step(|transfers, around| transfers.on_taken(UNIT, true, around));
    let Some(TransferAction::Drain(_, record)) = stage.actions.pop() else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!(record.stage, pulled(&[]));
    stage.step(|transfers, around| transfers.on_drained(UNIT, Some(true), around));
    assert_eq!(stage.saved(), [FillStage::Complete]);
}

#[test]
fn a_source_that_has_nothing_tells_its_floor() {
    let mut stage = Stage::begun(beside());
    let ask = stage.question();
    let page = CopyPage { content: records(&[]), next: None };
    let [floor, agreed] = [1, 2].map(|time| Stamp { time: WallTime(time), ..Stamp::ZERO });
    let message = CopyMessage::Page { round: ask.1.round, part: 0, parts: 1, floor, agreed, page };
    stage.step(|transfers, around| transfers.on_message(ask.0, message, around));
    let [TransferAction::Merge(_, _, entries, source)] = &stage.actions[..] else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!((entries.len(), *source), (0, SourceFloor { floor, agreed, is_first: true }));
}
