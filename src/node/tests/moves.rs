//! Reads and writes while the owners of a unit change: who counts, who is asked, and what becomes of
//! what was under way. States are made by hand and installed where the test wants them.

use core::time::Duration;
use std::sync::Arc;

use super::bench::{Bench, get, get_in, name, node, put, put_in, scan};
use super::causal::carts;
use super::register::create_jobs;
use crate::message::{
    CausalMessage, ClientBody, ErrorCode, Event, Get, MetaRecord, PeerMessage, ReadAsk, Refusal,
    RegisterMessage, Reply, RoundId, WriteAnswer,
};
use crate::node::client::unit_of;
use crate::testing::arm_mutant;
use crate::types::{ClusterState, Epoch, Key, Move, MovePhase, NodeId, OpId, Unit};

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A cluster in which the owners of the unit of `k` change.
pub(super) struct Moving {
    pub(super) bench: Bench,
    pub(super) state: Arc<ClusterState>,
    pub(super) unit: Unit,
    /// Its owners.
    pub(super) owners: [NodeId; 3],
    /// Two that own nothing of it.
    pub(super) spares: [NodeId; 2],
}

impl Moving {
    pub(super) fn of(bench: Bench, table: &str) -> Moving {
        let mut bench = bench;
        let state = bench.host(node(1)).node.as_ref().unwrap().state.clone().unwrap();
        let table = state.table_named(&name(table)).unwrap();
        let unit = unit_of(&state, table, &Key::new("k").unwrap());
        let owners: [NodeId; 3] = state.owners(unit).to_vec().try_into().unwrap();
        let mut spares = (1..=5).map(NodeId).filter(|id| !owners.contains(id));
        let spares = [spares.next().unwrap(), spares.next().unwrap()];
        bench.drop_probes = true;
        bench.drop_copies = true;
        Moving { bench, state, unit, owners, spares }
    }

    pub(super) fn new() -> Moving {
        Moving::of(Bench::serving(5), "default")
    }

    /// Makes the next state: the fence of the unit rises.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut ClusterState, usize, usize)) {
        let mut next = (*self.state).clone();
        next.epoch = Epoch(next.epoch.0 + 1);
        let (class, partition) =
            (usize::from(self.unit.class.0), usize::from(self.unit.partition.0));
        change(&mut next, class, partition);
        next.classes[class].changed_at[partition] = next.epoch;
        self.state = Arc::new(next);
    }

    /// The last owner is to give way to the first spare.
    pub(super) fn begin(&mut self) {
        let ([a, b, _], [d, _], unit) = (self.owners, self.spares, self.unit);
        self.change(|next, class, _| {
            let (epoch, class) = (next.epoch, &mut next.classes[class]);
            class.moves.push(Move {
                partition: unit.partition,
                phase: MovePhase::ReadOld,
                other: vec![a, b, d],
                entries: vec![class.created, class.created, epoch],
                was_read: false,
            });
        });
    }

    /// The new owners are read; as if all of them had always been owners.
    pub(super) fn read_new(&mut self) {
        self.change(|next, class, partition| {
            let class = &mut next.classes[class];
            let moving = class.moves.first_mut().unwrap();
            core::mem::swap(&mut moving.other, &mut class.owners[partition]);
            (moving.phase, moving.was_read) = (MovePhase::ReadNew, true);
            class.entries[partition] = vec![class.created; 3];
            moving.entries = vec![class.created; 3];
        });
    }

    /// The new owners alone are left.
    pub(super) fn end(&mut self) {
        self.change(|next, class, _| next.classes[class].moves.clear());
    }

    /// Owner `place` is filled again.
    pub(super) fn refill(&mut self, place: usize) {
        self.change(|next, class, partition| {
            next.classes[class].entries[partition][place] = next.epoch;
        });
    }

    pub(super) fn install(&mut self, at: NodeId) {
        let from = self.spares[usize::from(at == self.spares[0])];
        let message = PeerMessage::StateNews(self.state.clone());
        self.bench.event(at, Event::Peer { from, message });
    }

    pub(super) fn install_everywhere(&mut self) {
        (1..=5).for_each(|id| self.install(node(id)));
        self.bench.settle();
        self.bench.seen.clear();
    }

    /// Nothing reaches these from `from`.
    pub(super) fn cut(&mut self, from: NodeId, to: &[NodeId]) {
        self.bench.cut.extend(to.iter().map(|to| (from, *to)));
    }

    pub(super) fn succeeds(&mut self, op: OpId) -> bool {
        match self.bench.reply(op) {
            Some(result) => result.is_ok(),
            None => false,
        }
    }

    /// Whether a put of the first owner is acknowledged that reaches none of `cut`.
    fn put_without(&mut self, cut: &[NodeId]) -> bool {
        let a = self.owners[0];
        self.cut(a, cut);
        let op = self.bench.ask(a, put("k", "v"));
        let done = self.succeeds(op);
        self.bench.cut.clear();
        done
    }

    fn asked_to_read(&self) -> Vec<NodeId> {
        let read = |(_, to, message): &(NodeId, NodeId, PeerMessage)| {
            matches!(message, PeerMessage::Read(_)).then_some(*to)
        };
        self.bench.seen.iter().filter_map(read).collect()
    }
}

#[test]
fn in_both_phases_a_put_needs_a_quorum_of_each_set() {
    for read_new in [false, true] {
        let mut moving = Moving::new();
        let ([a, b, c], [d, _]) = (moving.owners, moving.spares);
        moving.begin();
        if read_new {
            moving.read_new();
        }
        moving.install_everywhere();
        assert!(moving.put_without(&[c, d]), "a node of both sets counts in each");
        assert!(moving.put_without(&[b]));
        assert!(!moving.put_without(&[b, d]), "the other set has one");
        assert!(!moving.put_without(&[b, c]), "the set that is read has one, or the other");
        assert!(!moving.put_without(&[b, c, d]));
        let held = |id: NodeId, bench: &mut Bench| !bench.host(id).disk.data.is_empty();
        assert!(held(a, &mut moving.bench) && held(d, &mut moving.bench), "all are written");
        // The set that is read has its quorum, the other one has not.
        let cut = if read_new { [b, c] } else { [b, d] };
        for mutant in ["node-counts-twice", "sets-together", "old-set-alone"] {
            let _armed = arm_mutant(mutant);
            assert!(moving.put_without(&cut), "{mutant}");
        }
    }
}

#[test]
fn reads_ask_the_set_that_is_read() {
    for read_new in [false, true] {
        let mut moving = Moving::new();
        let ([_, _, c], [d, e]) = (moving.owners, moving.spares);
        moving.begin();
        if read_new {
            moving.read_new();
        }
        moving.install_everywhere();
        assert!(moving.put_without(&[]));
        for r in 1..=3 {
            let op = moving.bench.ask(e, get("k", Some(crate::types::Quorum::Count(r))));
            let Some(Ok(Reply::Get(reply))) = moving.bench.reply(op) else { panic!() };
            assert_eq!((reply.receipt.n, reply.record.is_some()), (3, true));
        }
        let asked = moving.asked_to_read();
        let (left, read) = if read_new { (c, d) } else { (d, c) };
        assert!(!asked.contains(&left) && asked.contains(&read), "{asked:?}");
    }
}

#[test]
fn a_monotonic_read_writes_back_to_both_sets() {
    let mut moving = Moving::new();
    let ([a, b, c], [d, e]) = (moving.owners, moving.spares);
    // Held by the owner alone that is to go.
    moving.cut(c, &[a, b]);
    let op = moving.bench.ask(c, put("k", "v"));
    moving.bench.pass(ms(1100));
    assert!(!moving.succeeds(op));
    moving.bench.cut.clear();
    moving.begin();
    moving.install_everywhere();
    moving.bench.cut.insert((e, a));
    let ClientBody::Get(read) = get("k", None) else { unreachable!() };
    let op = moving.bench.ask(e, ClientBody::Get(Get { monotonic: true, ..read }));
    // Extra reads are not afforded at once.
    moving.bench.pass(ms(400));
    let Some(Ok(Reply::Get(reply))) = moving.bench.reply(op) else { panic!() };
    assert!(reply.record.is_some());
    let holds = |id: NodeId, bench: &mut Bench| !bench.host(id).disk.data.is_empty();
    assert!(holds(b, &mut moving.bench) && holds(d, &mut moving.bench), "two of each set");
}

#[test]
fn a_put_on_its_way_when_a_move_begins_starts_again_and_is_acknowledged_once() {
    let mut moving = Moving::new();
    let ([a, b, c], [d, _]) = (moving.owners, moving.spares);
    for id in [b, c] {
        moving.bench.host(id).slow_writes = true;
    }
    let op = moving.bench.ask(a, put("k", "v"));
    let stamp = moving.bench.host(a).disk.data.values().next().unwrap().stamp;
    moving.begin();
    moving.install(a);
    moving.bench.settle();
    assert!(moving.bench.reply(op).is_none());
    [b, c].into_iter().for_each(|id| moving.bench.release_disk(id));
    moving.bench.settle();
    let Some(Ok(Reply::Put(reply))) = moving.bench.reply(op) else { panic!() };
    assert_eq!((reply.receipt.epoch, reply.receipt.n), (moving.state.epoch, 4));
    assert_eq!(reply.receipt.stamp, stamp, "the version is the same");
    moving.bench.pass(ms(1200));
    assert_eq!(moving.bench.host(d).disk.data.values().next().unwrap().stamp, stamp);
}

#[test]
fn an_operation_that_nobody_tells_the_state_ends_at_its_deadline() {
    let mut moving = Moving::new();
    let [a, b, c] = moving.owners;
    moving.begin();
    [b, c].into_iter().for_each(|id| moving.install(id));
    moving.bench.settle();
    let op = moving.bench.ask(a, put("k", "v"));
    assert!(moving.succeeds(op), "the state follows the refusal");
    let mut moving = Moving::new();
    let [a, b, c] = moving.owners;
    moving.begin();
    [b, c].into_iter().for_each(|id| moving.install(id));
    moving.bench.host(a).refusals_left = u32::MAX;
    moving.bench.host(a).refuses = |record| matches!(record, MetaRecord::State(_));
    let op = moving.bench.ask(a, put("k", "v"));
    moving.bench.pass(ms(500));
    assert!(moving.bench.reply(op).is_none(), "a refusal of this kind ends nothing");
    moving.bench.pass(ms(600));
    let error = moving.bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
}

/// Whether an answer to an attempt under an older fence makes the next one acknowledged.
fn old_attempt_counts() -> bool {
    let mut moving = Moving::new();
    let [a, b, c] = moving.owners;
    moving.cut(a, &[c]);
    moving.bench.host(b).slow_writes = true;
    let op = moving.bench.ask(a, put("k", "v"));
    moving.refill(2);
    moving.cut(a, &[b]);
    moving.install(a);
    moving.bench.settle();
    assert!(moving.bench.reply(op).is_none());
    moving.bench.release_disk(b);
    moving.bench.settle();
    let counted = moving.succeeds(op);
    moving.bench.cut.clear();
    counted
}

#[test]
fn answers_to_an_older_attempt_do_not_count() {
    assert!(!old_attempt_counts());
    let _armed = arm_mutant("old-attempt-counts");
    assert!(old_attempt_counts());
}

#[test]
fn a_restarted_put_that_fails_may_have_been_applied() {
    let mut moving = Moving::new();
    let [a, b, c] = moving.owners;
    let op = {
        moving.cut(a, &[b, c]);
        moving.bench.ask(a, put("k", "v"))
    };
    moving.begin();
    // Too few can be reached then: a first attempt would not have been applied.
    moving.bench.event(a, Event::Unreachable { peer: b });
    moving.install(a);
    moving.bench.event(a, Event::Unreachable { peer: c });
    let error = moving.bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.applied, crate::message::Applied::Unknown);
}

#[test]
fn gets_and_scans_on_their_way_start_again() {
    let mut moving = Moving::new();
    assert!(moving.put_without(&[]));
    let ([a, b, c], [_, e]) = (moving.owners, moving.spares);
    for id in [a, b, c] {
        moving.bench.host(id).slow_disk = true;
    }
    let one = moving.bench.ask(e, get("k", None));
    let page = moving.bench.ask(e, scan("", "", 10));
    moving.begin();
    moving.install(e);
    for id in [a, b, c] {
        moving.bench.release_disk(id);
    }
    moving.install_everywhere();
    moving.bench.pass(ms(300));
    let Some(Ok(Reply::Get(reply))) = moving.bench.reply(one) else { panic!() };
    assert!(reply.record.is_some());
    let Some(Ok(Reply::Scan(reply))) = moving.bench.reply(page) else { panic!() };
    assert_eq!((reply.entries.len(), reply.receipt.epoch), (1, moving.state.epoch));
}

/// What an owner answers to a read that it let in before a move ended without it, when its copy is
/// gone by then.
fn read_after_delete() -> Result<Option<crate::types::Record>, Refusal> {
    let mut moving = Moving::new();
    assert!(moving.put_without(&[]));
    let ([a, b, c], [_, e]) = (moving.owners, moving.spares);
    moving.bench.host(c).slow_reads = true;
    moving.cut(e, &[a, b]);
    moving.bench.ask(e, get("k", Some(crate::types::Quorum::All)));
    for step in [Moving::begin, Moving::read_new, Moving::end] {
        step(&mut moving);
        moving.install(c);
    }
    moving.bench.seen.clear();
    moving.bench.host(c).disk.data.clear();
    moving.bench.release_disk(c);
    let answer = moving.bench.seen.iter().find_map(|(_, _, message)| match message {
        PeerMessage::ReadAnswer(answer) => Some(answer.result.clone()),
        _ => None,
    });
    answer.expect("it answers")
}

#[test]
fn a_read_that_was_let_in_before_a_deletion_is_refused_after_it() {
    assert!(matches!(read_after_delete(), Err(Refusal::Fenced { .. })));
    let _armed = arm_mutant("read-after-delete");
    assert_eq!(read_after_delete(), Ok(None));
}

/// Whether a read is answered by two of three owners of which one is being filled again.
fn incomplete_serves() -> bool {
    let mut moving = Moving::new();
    assert!(moving.put_without(&[]));
    let ([_, b, c], [_, e]) = (moving.owners, moving.spares);
    moving.refill(1);
    moving.install_everywhere();
    moving.bench.host(b).disk.data.clear();
    moving.cut(e, &[c]);
    let op = moving.bench.ask(e, get("k", None));
    moving.bench.pass(ms(500));
    moving.succeeds(op)
}

#[test]
fn an_owner_that_is_not_complete_is_not_read() {
    assert!(!incomplete_serves());
    let _armed = arm_mutant("incomplete-serves");
    assert!(incomplete_serves());
}

/// Whether a put is acknowledged by two of three owners of which one is being filled again.
fn put_trusts_incomplete() -> bool {
    let mut moving = Moving::new();
    let c = moving.owners[2];
    moving.refill(1);
    moving.install_everywhere();
    moving.put_without(&[c])
}

#[test]
fn a_put_needs_complete_owners_and_an_incomplete_one_takes_it() {
    assert!(!put_trusts_incomplete());
    let mut moving = Moving::new();
    let b = moving.owners[1];
    moving.refill(1);
    moving.install_everywhere();
    assert!(moving.put_without(&[]));
    assert!(!moving.bench.host(b).disk.data.is_empty());
    let complete = |(from, _, message): &(NodeId, NodeId, PeerMessage)| match message {
        PeerMessage::WriteAnswer(WriteAnswer { complete, .. }) if *from == b => Some(*complete),
        _ => None,
    };
    assert_eq!(moving.bench.seen.iter().find_map(complete), Some(false));
    let _armed = arm_mutant("put-trusts-incomplete");
    assert!(put_trusts_incomplete());
}

fn jobs() -> Moving {
    let mut bench = Bench::serving(5);
    create_jobs(&mut bench);
    Moving::of(bench, "jobs")
}

/// Whether a change is made by promises of two of three acceptors of which one is being filled again.
fn incomplete_promises() -> bool {
    let mut moving = jobs();
    let [a, _, c] = moving.owners;
    moving.refill(1);
    moving.install_everywhere();
    moving.cut(a, &[c]);
    moving.bench.ask(a, put_in("jobs", "k", "v"));
    moving.bench.seen.iter().any(|(_, _, message)| match message {
        PeerMessage::Consensus(message) => match &**message {
            RegisterMessage::Ask { task, .. } => {
                matches!(task, crate::message::RegisterTask::Accept(..))
            }
            RegisterMessage::Answer { .. } => false,
        },
        _ => false,
    })
}

#[test]
fn an_acceptor_that_is_not_complete_makes_no_promise() {
    assert!(!incomplete_promises());
    let _armed = arm_mutant("incomplete-promises");
    assert!(incomplete_promises());
}

#[test]
fn a_register_is_changed_and_read_while_its_owners_change() {
    let mut moving = jobs();
    let ([a, b, c], [d, e]) = (moving.owners, moving.spares);
    // A change that is on its way when the move begins.
    for id in [b, c] {
        moving.bench.host(id).slow_writes = true;
    }
    let op = moving.bench.ask(a, put_in("jobs", "k", "v1"));
    moving.begin();
    moving.install_everywhere();
    [b, c].into_iter().for_each(|id| moving.bench.release_disk(id));
    moving.bench.pass(ms(300));
    assert!(moving.succeeds(op));
    assert_eq!(moving.bench.host(d).disk.acceptors.len(), 1, "the new owner accepts");
    // A majority of each set.
    moving.cut(e, &[c, d]);
    let op = moving.bench.ask(e, put_in("jobs", "k", "v2"));
    assert!(moving.succeeds(op));
    moving.cut(e, &[b]);
    moving.bench.cut.remove(&(e, c));
    let op = moving.bench.ask(e, put_in("jobs", "k", "v3"));
    assert!(!moving.succeeds(op), "one of the other set alone");
    moving.bench.cut.clear();
    moving.read_new();
    moving.install_everywhere();
    moving.bench.pass(ms(1200));
    let op = moving.bench.ask(e, get_in("jobs", "k"));
    moving.bench.pass(ms(200));
    assert!(moving.succeeds(op));
}

#[test]
fn a_causal_put_that_was_sent_on_is_sent_on_again_and_made_once() {
    let mut moving = Moving::of(carts(5), "carts");
    let ([a, b, c], [d, e]) = (moving.owners, moving.spares);
    moving.cut(a, &[b, c]);
    let op = moving.bench.ask(e, put_in("carts", "k", "v"));
    assert!(moving.bench.reply(op).is_none());
    moving.begin();
    moving.bench.cut.clear();
    // Its coordinator learns of the move, and tells where the put came from.
    for id in [a, b, c, d] {
        moving.install(id);
    }
    moving.bench.pass(ms(50));
    let Some(Ok(Reply::Causal(reply))) = moving.bench.reply(op) else { panic!() };
    assert_eq!((reply.receipt.epoch, reply.count), (moving.state.epoch, 1));
    for id in [a, b, d] {
        assert_eq!(moving.bench.host(id).disk.sets.len(), 1);
    }
    let op = moving.bench.ask(e, get_in("carts", "k"));
    let Some(Ok(Reply::Causal(reply))) = moving.bench.reply(op) else { panic!() };
    assert_eq!(reply.siblings.len(), 1);
}

#[test]
fn only_complete_owners_that_are_read_coordinate_causal_puts() {
    let mut moving = Moving::of(carts(5), "carts");
    let ([a, ..], [d, _]) = (moving.owners, moving.spares);
    moving.begin();
    moving.install_everywhere();
    let sent_on = |bench: &Bench, from: NodeId| {
        bench.seen.iter().find_map(|(by, to, message)| match message {
            PeerMessage::Causal(message) if *by == from => {
                matches!(**message, CausalMessage::Put { .. }).then_some(*to)
            }
            _ => None,
        })
    };
    let op = moving.bench.ask(d, put_in("carts", "k", "one"));
    assert!(moving.succeeds(op));
    assert_eq!(sent_on(&moving.bench, d), Some(a), "a target coordinates nothing");
    moving.refill(0);
    moving.install_everywhere();
    let op = moving.bench.ask(a, put_in("carts", "k", "two"));
    assert!(moving.succeeds(op));
    assert!(sent_on(&moving.bench, a).is_some(), "nor does one that is filled again");
}

#[test]
fn a_hint_for_who_is_no_owner_any_more_goes_to_all_who_are() {
    let mut moving = Moving::new();
    let ([a, b, c], [d, _]) = (moving.owners, moving.spares);
    moving.cut(a, &[c]);
    let op = moving.bench.ask(a, put("k", "v"));
    assert!(moving.succeeds(op));
    moving.bench.pass(ms(1100));
    assert_eq!(moving.bench.host(a).disk.hints.len(), 1);
    moving.begin();
    moving.read_new();
    moving.end();
    moving.bench.drop_probes = false;
    moving.install_everywhere();
    moving.bench.pass(ms(3000));
    assert_eq!(moving.bench.host(a).disk.hints.len(), 0);
    for id in [a, b, d] {
        assert_eq!(moving.bench.host(id).disk.data.len(), 1);
    }
}

#[test]
fn writes_that_were_let_in_before_a_token_are_told_until_they_are_durable() {
    let mut moving = Moving::new();
    let a = moving.owners[0];
    assert!(moving.put_without(&[]));
    let token = |moving: &mut Moving| {
        let node = moving.bench.host(a).node.as_ref().unwrap();
        let token = node.next_token;
        (token, node.writes_before(token))
    };
    moving.bench.host(a).slow_disk = true;
    moving.bench.ask(a, get("k", None));
    let (before, waits) = token(&mut moving);
    assert!(!waits, "a read is no write");
    moving.bench.ask(a, put("k", "v"));
    let (after, waits) = token(&mut moving);
    assert!(waits);
    let writes = |moving: &mut Moving, token| {
        moving.bench.host(a).node.as_ref().unwrap().writes_before(token)
    };
    assert!(!writes(&mut moving, before));
    moving.bench.ask(a, put("k", "w"));
    moving.bench.release_one(a);
    moving.bench.release_one(a);
    assert!(!writes(&mut moving, after), "what came later does not matter");
    assert!(writes(&mut moving, u64::MAX));
    moving.bench.release_disk(a);
    assert!(!writes(&mut moving, u64::MAX));
}

#[test]
fn a_target_takes_writes_and_answers_no_read() {
    let mut moving = Moving::new();
    let (a, [d, _]) = (moving.owners[0], moving.spares);
    moving.begin();
    moving.install_everywhere();
    assert!(moving.put_without(&[]));
    assert_eq!(moving.bench.host(d).disk.data.len(), 1);
    let (unit, changed_at) = (moving.unit, moving.state.changed_at(moving.unit));
    let ask = ReadAsk {
        round: RoundId { op: 1, round: 1 },
        unit,
        changed_at,
        table: moving.state.table_named(&name("default")).unwrap().id,
        key: Key::new("k").unwrap(),
        hint_for: None,
        durable: false,
        remaining: ms(100),
    };
    moving.bench.seen.clear();
    let message = PeerMessage::Read(Box::new(ask));
    moving.bench.event(d, Event::Peer { from: a, message });
    let refused = moving.bench.seen.iter().any(|(_, _, message)| {
        let PeerMessage::ReadAnswer(answer) = message else { return false };
        answer.result == Err(Refusal::Incomplete)
    });
    assert!(refused);
}
