//! The checkers' own tests: each passes what is right and finds what is planted.

use std::sync::Arc;

use roundtable::message::{
    BootRecord, Bound, ErrorCode, FillRecord, FillStage, FloorChange, FloorNews, FloorRecord,
    FloorState, Hello, MetaRecord, OpError, Phase, Receipt, RoundId, View,
};
use roundtable::types::{
    Class, ClassId, ClusterState, Decision, DecisionKind, Epoch, Key, Move, MovePhase, NodeId,
    Nonce, OpId, Partition, Record, RequestId, Stamp, Time, Unit, Value, WallTime,
};

use super::{
    Answers, Asked, Births, Durability, Floors, Monotonic, Moves, Owned, Schema, Stamps,
    crash_fault, end_fault, lost_fault, receipt_fault, relief_fault, share_fault, taken_fault,
};

/// A test of a checker.
type Test = (&'static str, fn() -> Result<(), String>);

/// All of them.
pub(crate) const TESTS: &[Test] = &[
    ("stamps_that_go_back_repeat_or_bear_a_foreign_number_are_found", stamps),
    ("a_monotonic_read_that_goes_back_is_found", monotonic),
    ("an_acknowledgement_on_too_few_disks_is_found", durability),
    ("a_second_a_late_and_a_missing_answer_are_found", answers),
    ("a_receipt_that_claims_too_much_is_found", receipts),
    ("a_write_that_has_lost_and_does_not_say_so_is_found", lost),
    ("a_share_that_is_no_share_is_found", shares),
    ("a_second_state_a_second_birth_and_an_old_disk_that_serves_are_found", births),
    ("a_state_that_few_of_its_council_hold_is_found", in_force),
    ("a_step_of_a_move_that_was_not_due_is_found", moves),
    ("a_floor_that_not_all_have_agreed_on_is_found", floors),
    ("a_member_that_lives_and_is_replaced_is_found", relieved),
    ("a_part_of_a_batch_is_found", together),
    ("a_table_that_is_denied_or_outlives_its_end_is_found", schema),
];

const MS: u64 = 1_000_000;

fn passes(what: &str, verdict: Result<(), String>) -> Result<(), String> {
    verdict.map_err(|text| format!("{what} should pass, but: {text}"))
}

fn found(what: &str, verdict: Result<(), String>) -> Result<(), String> {
    if verdict.is_ok() { Err(format!("{what} should be found")) } else { Ok(()) }
}

fn together() -> Result<(), String> {
    let at = |time| Stamp { time: WallTime(time), ..Stamp::ZERO };
    let after = |held: &[Option<Stamp>]| crash_fault(at(5), held).unwrap_or(Ok(()));
    passes("nothing of it", after(&[None, Some(at(3)), None]))?;
    passes("all of it", after(&[Some(at(5)), Some(at(5)), Some(at(5))]))?;
    passes("a key written over since", after(&[Some(at(5)), Some(at(9)), Some(at(5))]))?;
    found("a key that is not there", after(&[Some(at(5)), None, Some(at(9))]))?;
    found("a key as it was before", after(&[Some(at(5)), Some(at(4))]))?;
    let end = |shown: &[(u64, Option<&str>)]| {
        let own = |(time, value): &(u64, Option<&str>)| {
            (at(*time), value.map(|text| text.as_bytes().to_vec()))
        };
        end_fault(b"b", &shown.iter().map(own).collect::<Vec<_>>()).unwrap_or(Ok(()))
    };
    passes("nothing of it", end(&[(3, Some("a")), (0, None)]))?;
    passes("all of it", end(&[(5, Some("b")), (5, Some("b"))]))?;
    passes("a key deleted since", end(&[(5, Some("b")), (6, None)]))?;
    found("a key that was never written", end(&[(5, Some("b")), (0, None)]))?;
    found("two stamps of one batch", end(&[(5, Some("b")), (6, Some("b"))]))
}

fn floors() -> Result<(), String> {
    let stamp = |time| Stamp { time: WallTime(time), ..Stamp::ZERO };
    let unit = Unit { class: ClassId(0), partition: Partition(1) };
    let owners = [NodeId(1), NodeId(2), NodeId(3)];
    let owned = Owned { unit, fence: Epoch(4), owners: &owners };
    let news = |vouched, agreed| FloorNews {
        unit,
        fence: Epoch(4),
        vouched: stamp(vouched),
        agreed: stamp(agreed),
        floor: Stamp::ZERO,
    };
    let mut floors = Floors::default();
    let vouched = vec![(NodeId(2), stamp(9)), (NodeId(3), stamp(7))];
    let record = FloorRecord { vouched, ..FloorRecord::default() };
    floors.stored(NodeId(1), &[(unit, FloorState { record, voids: 0 })]);
    found("a word for one it was not equal with", floors.tells(NodeId(1), &news(8, 0), owned))?;
    passes("a word for all", floors.tells(NodeId(1), &news(7, 0), owned))?;
    let agree = FloorChange::Agree(stamp(7), Epoch(4), 0);
    found("one of two has not vouched", floors.changes(NodeId(2), &agree, owned))?;
    for id in [NodeId(2), NodeId(3)] {
        let vouched = owners.iter().map(|peer| (*peer, stamp(9))).collect();
        let record = FloorRecord { vouched, ..FloorRecord::default() };
        floors.stored(id, &[(unit, FloorState { record, voids: 0 })]);
        passes("a word for all", floors.tells(id, &news(9, 7), owned))?;
    }
    let raise = FloorChange::Raise(stamp(7));
    passes("all have vouched", floors.changes(NodeId(2), &agree, owned))?;
    found("one of two has not agreed", floors.changes(NodeId(2), &raise, owned))?;
    passes("the first agrees as well", floors.tells(NodeId(1), &news(7, 7), owned))?;
    passes("all have agreed", floors.changes(NodeId(2), &raise, owned))?;
    let entered = [NodeId(1), NodeId(2), NodeId(4)];
    let later = Owned { unit, fence: Epoch(5), owners: &entered };
    passes("it had seen so before owners changed", floors.changes(NodeId(2), &raise, later))?;
    let higher = FloorChange::Raise(stamp(8));
    found("neither these nor those have agreed", floors.changes(NodeId(2), &higher, later))?;
    found("it was no owner then", floors.changes(NodeId(4), &raise, later))?;
    let record = FloorRecord { floor: stamp(7), ..FloorRecord::default() };
    let raised = [(unit, FloorState { record, voids: 0 })];
    floors.stored(NodeId(2), &raised);
    floors.learns(NodeId(2), &raised);
    let (ends, round) = ((NodeId(2), NodeId(4)), RoundId { op: 5, round: 1 });
    floors.asked(ends, round, unit);
    found("a page without the floor", floors.gives(ends, round, Stamp::ZERO))?;
    passes("a page with it", floors.gives(ends, round, stamp(7)))
}

fn relieved() -> Result<(), String> {
    let decision = Decision {
        epoch: Epoch(7),
        kind: DecisionKind::Replaced,
        subject: NodeId(2),
        reason: "it is down".to_owned(),
    };
    passes("one that is away", relief_fault(&decision, None))?;
    let just_back = Some(std::time::Duration::from_secs(1));
    passes("one that is back since it was decided", relief_fault(&decision, just_back))?;
    let long = Some(std::time::Duration::from_secs(30));
    found("one that has been there all the time", relief_fault(&decision, long))
}

fn moves() -> Result<(), String> {
    let unit = Unit { class: ClassId(0), partition: Partition(0) };
    let ids = |of: [u32; 3]| of.map(NodeId).to_vec();
    let (old, new) = (ids([1, 2, 3]), ids([2, 3, 4]));
    let at = |epoch: u64, owners: &[NodeId], since: u64, moving: Option<MovePhase>| {
        let entries = |of: &[NodeId]| {
            of.iter().map(|id| Epoch(if *id == NodeId(4) { 2 } else { 1 })).collect::<Vec<_>>()
        };
        let other = if owners == old { new.clone() } else { old.clone() };
        let was_read = moving == Some(MovePhase::ReadNew);
        let (partition, entered) = (unit.partition, entries(&other));
        let moving =
            moving.map(|phase| Move { partition, phase, other, entries: entered, was_read });
        let class = Class {
            owners: vec![owners.to_vec()],
            entries: vec![entries(owners)],
            changed_at: vec![Epoch(since)],
            moves: moving.into_iter().collect(),
            ..Class::new(ClassId(0), (3, 2, 2), Vec::new(), Epoch(1))
        };
        Arc::new(ClusterState { epoch: Epoch(epoch), classes: vec![class], ..state(0, Nonce(7)) })
    };
    let founded = at(1, &old, 1, None);
    let begun = at(2, &old, 2, Some(MovePhase::ReadOld));
    let read = at(3, &new, 3, Some(MovePhase::ReadNew));
    let ended = at(4, &new, 4, None);
    let four = (NodeId(4), unit, Epoch(2));
    let mut moves = Moves::default();
    for state in [&founded, &begun] {
        passes("a move that begins", moves.in_force(state))?;
    }
    found("an acknowledgement that is on no disk", moves.told(NodeId(1), Epoch(2)))?;
    moves.asks(four, NodeId(1));
    found("one source of two", moves.completes(four, &begun))?;
    moves.asks(four, NodeId(2));
    passes("two sources", moves.completes(four, &begun))?;
    let round = RoundId { op: 1, round: 1 };
    let ends = (NodeId(4), NodeId(1));
    moves.reads(ends, round, (unit, Epoch(3)));
    found("an answer of who is not complete", moves.answers(ends, round, &read))?;
    let complete = FillRecord { entry: Epoch(2), stage: FillStage::Complete };
    moves.stored(NodeId(4), &MetaRecord::Fill(unit, complete));
    passes("the new set is read", moves.in_force(&read))?;
    moves.reads(ends, round, (unit, Epoch(2)));
    found("an answer from below the fence", moves.answers(ends, round, &read))?;
    let ends = (NodeId(2), NodeId(1));
    moves.reads(ends, round, (unit, Epoch(3)));
    let lost = FillRecord { entry: Epoch(1), stage: FillStage::Lost };
    moves.stored(NodeId(2), &MetaRecord::Fill(unit, lost));
    passes("what was asked before it was lost", moves.answers(ends, round, &read))?;
    moves.reads(ends, round, (unit, Epoch(3)));
    found("an answer of who has lost it", moves.answers(ends, round, &read))?;
    moves.stored(NodeId(1), &MetaRecord::Acknowledged(Epoch(3)));
    found("a set that goes before it has heard of it", moves.in_force(&ended))?;
    let mut moves = Moves::default();
    let _ = (moves.in_force(&founded), moves.in_force(&begun));
    found("a new owner that was not filled is read", moves.in_force(&read))?;
    for id in [1, 2] {
        moves.stored(NodeId(id), &MetaRecord::Acknowledged(Epoch(3)));
    }
    passes("two of three have heard of it", moves.in_force(&ended))
}

fn stamps() -> Result<(), String> {
    let key = Key::new("k").expect("a short key");
    let version = |time, node, value: &'static str| Record {
        stamp: Stamp { time: WallTime(time), counter: 0, node: NodeId(node) },
        expiry: None,
        value: Some(Value::new(value).expect("a short value")),
    };
    let (one, two) = (NodeId(1), NodeId(2));
    let mut stamps = Stamps::default();
    passes("a first stamp", stamps.gave(one, &key, &version(5, 1, "a")))?;
    passes("the same version again", stamps.gave(one, &key, &version(5, 1, "a")))?;
    passes("another node's lower stamp", stamps.gave(two, &key, &version(3, 2, "b")))?;
    passes("a higher stamp", stamps.gave(one, &key, &version(9, 1, "c")))?;
    passes("an old version sent again", stamps.gave(one, &key, &version(5, 1, "a")))?;
    found("a stamp that goes back", stamps.gave(one, &key, &version(7, 1, "d")))?;
    found("one stamp for two versions", stamps.gave(one, &key, &version(9, 1, "e")))?;
    let rest = |value| vec![(Key::new("other").expect("a key"), version(30, 1, value))];
    let of_batch = |value| (key.clone(), version(30, 1, value));
    let (first, other) = (of_batch("p"), rest("q"));
    passes("a batch", stamps.together(one, (&first.0, &first.1), &other))?;
    passes("a key of it", stamps.gave(one, &other[0].0, &other[0].1))?;
    let another = rest("r");
    found("two batches", stamps.together(one, (&first.0, &first.1), &another))?;
    found("a key that is none of it", stamps.gave(one, &another[0].0, &another[0].1))?;
    found("a foreign stamp", stamps.gave(one, &key, &version(20, 2, "f")))?;
    let timed = |value| {
        let stamp = Stamp::of_client(WallTime(2), RequestId(7));
        Record { stamp, ..version(0, 0, value) }
    };
    passes("a client's time", stamps.gave(one, &key, &timed("g")))?;
    passes("the same from elsewhere", stamps.gave(two, &key, &timed("g")))?;
    found("one client's time for two versions", stamps.gave(one, &key, &timed("h")))
}

fn monotonic() -> Result<(), String> {
    let key = Key::new("k").expect("a short key");
    let at = |time| Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    let mut reads = Monotonic::default();
    let nothing = reads.begun(&key);
    passes("a first read", reads.answered(&key, (nothing, at(5))))?;
    passes("one that began before it", reads.answered(&key, (nothing, Stamp::ZERO)))?;
    let after = reads.begun(&key);
    passes("the same again", reads.answered(&key, (after, at(5))))?;
    found("an older one", reads.answered(&key, (after, at(4))))?;
    found("a miss", reads.answered(&key, (after, Stamp::ZERO)))
}

fn durability() -> Result<(), String> {
    let key = Key::new("k").expect("a short key");
    let at = |time| Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    let mut books = Durability::default();
    books.stored(0, &key, at(5));
    books.stored(1, &key, at(9));
    books.stored(3, &key, at(9));
    let verdict =
        |books: &Durability, time, needed| books.acknowledged(&[0, 1, 2], &key, at(time), needed);
    passes("two of three", verdict(&books, 5, (2, false)))?;
    found("an older version on one", verdict(&books, 6, (2, false)))?;
    found("a copy on a machine that is no owner", verdict(&books, 5, (3, false)))?;
    books.stored(0, &key, at(3));
    passes("a late report of less", verdict(&books, 5, (2, false)))?;
    books.kept(2, &key, at(5));
    found("a hint in a strict write", verdict(&books, 5, (3, false)))?;
    passes("a hint in a sloppy write", verdict(&books, 5, (3, true)))?;
    found("an older hint", verdict(&books, 6, (3, true)))
}

fn answers() -> Result<(), String> {
    let mut answers = Answers::default();
    let ask = |answers: &mut Answers, op| answers.asked(0, OpId(op), Time(1000 * MS));
    for op in 1..=6 {
        ask(&mut answers, op);
    }
    passes("an answer in time", answers.answered(0, OpId(1), Time(10 * MS)))?;
    found("a second answer", answers.answered(0, OpId(1), Time(11 * MS)))?;
    found("an answer nobody asked for", answers.answered(0, OpId(77), Time(11 * MS)))?;
    passes("an answer within the allowance", answers.answered(0, OpId(2), Time(1100 * MS)))?;
    found("a late answer", answers.answered(0, OpId(3), Time(1102 * MS)))?;
    found("a missing answer", answers.overdue(0, OpId(4), Time(1101 * MS)))?;
    answers.abandoned(0, OpId(5));
    passes("an abandoned request", answers.overdue(0, OpId(5), Time(1101 * MS)))?;
    answers.died(0);
    passes("a request of a dead node", answers.overdue(0, OpId(6), Time(1101 * MS)))
}

fn receipts() -> Result<(), String> {
    let asked = Asked { needed: 2, weak: false, strict: true };
    let good = Receipt { answered: 0b101, n: 3, needed: 2, ..Receipt::default() };
    let verdict = |receipt: &Receipt| receipt_fault(asked, receipt).map_or(Ok(()), Err);
    passes("a plain receipt", verdict(&good))?;
    found("too few answers", verdict(&Receipt { answered: 0b100, ..good }))?;
    found("another quorum", verdict(&Receipt { needed: 1, ..good }))?;
    found("more answers than owners", verdict(&Receipt { answered: 0b1111, ..good }))?;
    found("a wrong weak flag", verdict(&Receipt { weak: true, ..good }))?;
    found("a stand-in that counts", verdict(&Receipt { stand_ins: 0b1, ..good }))?;
    let sloppy = Asked { strict: false, ..asked };
    let fault = receipt_fault(sloppy, &Receipt { stand_ins: 0b1, ..good });
    passes("one that may", fault.map_or(Ok(()), Err))
}

fn lost() -> Result<(), String> {
    let at = |time| Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    let plain = Receipt { stamp: at(5), ..Receipt::default() };
    let told = Receipt { superseded_by: Some(at(7)), ..plain };
    let verdict = |floor, receipt: &Receipt| lost_fault(at(floor), receipt).map_or(Ok(()), Err);
    passes("one that has won", verdict(4, &plain))?;
    passes("one that lost to nobody that was acknowledged", verdict(4, &told))?;
    passes("one that says so", verdict(7, &told))?;
    found("one that does not say so", verdict(7, &plain))?;
    found("one that names an older version", verdict(8, &told))?;
    let wrong = Receipt { superseded_by: Some(at(4)), ..plain };
    found("one that lost to an earlier version", verdict(3, &wrong))?;
    passes("a weak one", verdict(7, &Receipt { weak: true, ..plain }))?;
    passes("one that rests on stand-ins", verdict(7, &Receipt { stand_ins: 1, ..plain }))
}

fn shares() -> Result<(), String> {
    let refused = |bound| {
        let mut error = OpError::new(ErrorCode::Overloaded, "full");
        error.facts.bound = Some(bound);
        error
    };
    let verdict = |bound, others| share_fault(&refused(bound), others).map_or(Ok(()), Err);
    passes("a client with requests open", verdict(Bound::Client, 1))?;
    passes("the table's share", verdict(Bound::Table, 0))?;
    found("a client with nothing in flight", verdict(Bound::Client, 0))?;
    let taken = |taken| taken_fault(taken, 40).map_or(Ok(()), Err);
    passes("three quarters, and the one that was let in last", taken(31))?;
    found("more than that", taken(32))
}

fn births() -> Result<(), String> {
    let state = |parent| Arc::new(state(parent, Nonce(7)));
    let mut births = Births::default();
    let first = view(Phase::Serving, Some(state(0)), 1, 70);
    passes("a node that serves", births.published(&first, None))?;
    passes("the same again", births.published(&first, None))?;
    let founding = view(Phase::Founding(String::new()), None, 1, 70);
    passes("a doomed node that founds", births.published(&founding, Some("wiped")))?;
    found("a doomed node that serves", births.published(&first, Some("wiped")))?;
    let stateless = view(Phase::Serving, None, 2, 71);
    found("a node that serves without a state", births.published(&stateless, None))?;
    let twice = view(Phase::Serving, Some(state(0)), 1, 99);
    found("one boot number with two nonces", births.published(&twice, None))?;
    let other = view(Phase::Registering(String::new()), Some(state(1)), 2, 72);
    found("a second state of an epoch", births.published(&other, None))?;
    let mut stranger = view(Phase::Serving, Some(state(0)), 3, 73);
    stranger.hello.birth = Nonce(8);
    found("a node of another birth", births.published(&stranger, None))
}

fn in_force() -> Result<(), String> {
    let mut books = Births::default();
    let council = vec![NodeId(1), NodeId(2), NodeId(3)];
    let at = |epoch| ClusterState {
        epoch: Epoch(epoch),
        council: council.clone(),
        ..state(0, Nonce(7))
    };
    passes("epoch 1", books.in_force(&at(1)))?;
    books.stored(NodeId(1), &at(2));
    books.stored(NodeId(4), &at(2));
    found("one of three, and a stranger", books.in_force(&at(2)))?;
    books.stored(NodeId(3), &at(3));
    passes("two, one of which holds a newer one", books.in_force(&at(2)))?;
    books.stored(NodeId(3), &at(2));
    passes("an older one that comes late", books.in_force(&at(2)))?;
    found("the newer one", books.in_force(&at(3)))?;
    passes("a decided state", books.decided(&Arc::new(at(2))))?;
    let other = ClusterState { parent: 9, ..at(2) };
    found("another one of the same epoch", books.decided(&Arc::new(other)))
}

fn schema() -> Result<(), String> {
    let mut schema = Schema::default();
    let before = schema.moment();
    schema.created("t");
    let after = schema.moment();
    passes("a denial that began before", schema.denied("t", before))?;
    found("a denial that began after", schema.denied("t", after))?;
    passes("a denial of another", schema.denied("u", after))?;
    passes("a served request", schema.served("t", after))?;
    schema.drop_asked("t");
    passes("a denial while it is dropped", schema.denied("t", after))?;
    schema.dropped("t");
    passes("a request that began before the end", schema.served("t", after))?;
    let late = schema.moment();
    passes("a denial after the end", schema.denied("t", late))?;
    found("a request that began after the end", schema.served("t", late))
}

fn state(parent: u128, birth: Nonce) -> ClusterState {
    use roundtable::types::{Addresses, ClusterId, Lineage, Member, Role, Settings, TableId, Zone};
    let member = |id: u32| Member {
        id: NodeId(id),
        name: format!("n{id}").parse().expect("a plain name"),
        addresses: Addresses::default(),
        zone: Zone::default(),
        weight_milli: 1000,
        role: Role::Active,
        birth,
    };
    ClusterState {
        epoch: Epoch(1),
        parent,
        cluster: ClusterId(1),
        lineage: Lineage(0),
        feature_level: 1,
        settings: Settings { name: "kv".to_owned(), partitions: 8 },
        members: (1..=3).map(member).collect(),
        council: Vec::new(),
        ring: Vec::new(),
        classes: Vec::new(),
        tables: Vec::new(),
        table_id_max: TableId(0),
        dropped_at: Epoch(0),
        recent_changes: Vec::new(),
        topology: Default::default(),
    }
}

fn view(phase: Phase, state: Option<Arc<ClusterState>>, id: u32, boot: u128) -> View {
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        cluster_name: "kv".to_owned(),
        founders: 0,
        cluster: None,
        lineage: roundtable::types::Lineage(0),
        origin: 0,
        feature_level: 1,
        id: NodeId(id),
        name: format!("n{id}").parse().expect("a plain name"),
        to: NodeId(0),
        birth: Nonce(7),
        boot: BootRecord { number: 1, nonce: Nonce(boot) },
        address: String::new(),
    };
    let hints = roundtable::message::HintGauges::default();
    let (members, serving_since, links_left_out) = (Vec::new(), None, 0);
    let client_address = String::new();
    View {
        phase,
        hello,
        state,
        members,
        serving_since,
        hints,
        repair: Default::default(),
        transfer_taken: 0,
        health: Default::default(),
        links_left_out,
        reserve: None,
        hottest_share: 0.0,
        keeper: Default::default(),
        client_address,
    }
}
