//! The machine alone: rounds, what it says when it fails, and what it does with answers that come
//! late, twice or in another order.

use core::time::Duration;

use super::*;
use crate::causality::Accepted;
use crate::coordinator::{Action, Ask, Clock, Health, HedgeBudget, Sets, Step, Target};
use crate::message::{
    Applied, Attempt, ClientResult, ErrorCode, Expectation, Refusal, RegisterMessage, RegisterSaid,
    RegisterTask, Reply, RoundId,
};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Epoch, Key, NodeId, Now, Partition, RegisterState, RequestId, Stamp, TableId, Time,
    TraceId, Unit, Value, WallTime,
};

const MS: u64 = 1_000_000;

struct Bench {
    clock: Clock,
    hedges: HedgeBudget,
    mono: u64,
    reachable: u16,
    sets: Sets,
    /// Owners that are not complete.
    incomplete: u16,
    register: Option<Register>,
    asked: Vec<(NodeId, RoundId, RegisterTask)>,
    reply: Option<ClientResult>,
}

fn at(time: u64, node: u32) -> Stamp {
    Stamp { time: WallTime(time), counter: 0, node: NodeId(node) }
}

fn value(text: &str) -> NewValue {
    NewValue { value: Value::new(text.to_owned()).ok(), ttl: None }
}

fn holding(ballot: Stamp, text: &str) -> Option<Accepted> {
    let value = Value::new(text.to_owned()).ok();
    let state = RegisterState { value, stamp: ballot, ..RegisterState::default() };
    Some(Accepted { fence: Epoch(1), ballot, state })
}

fn promised(accepted: Option<Accepted>) -> RegisterSaid {
    RegisterSaid::Promised { accepted, floor: Stamp::ZERO }
}

impl Bench {
    fn new() -> Bench {
        let wall = WallTime(1_000 * MS);
        let mut clock = Clock::new(NodeId(1), WallTime(0));
        clock.reserve(wall, WallTime(5_000 * MS)).unwrap();
        clock.reserved(true);
        Bench {
            clock,
            hedges: HedgeBudget::default(),
            mono: 0,
            reachable: 0b111,
            sets: Sets::one(3),
            incomplete: 0,
            register: None,
            asked: Vec::new(),
            reply: None,
        }
    }

    fn begin(goal: Goal) -> Bench {
        Bench::begin_as(goal, Attempt { id: RequestId(7), ..Attempt::default() })
    }

    fn begin_as(goal: Goal, attempt: Attempt) -> Bench {
        let mut bench = Bench::new();
        bench.start(goal, attempt);
        bench
    }

    fn start(&mut self, goal: Goal, attempt: Attempt) {
        let target = Target {
            op: 9,
            epoch: Epoch(1),
            unit: Unit { class: ClassId(0), partition: Partition(0) },
            changed_at: Epoch(1),
            table: TableId(1),
            key: Key::new("k").unwrap(),
            owners: (1..=self.sets.all().count_ones()).map(NodeId).collect(),
            sets: self.sets,
        };
        let order = RegisterOrder {
            goal,
            attempt,
            quorum: 2,
            must_not_stamp: None,
            trace: TraceId(0),
            deadline: Time(1_000 * MS),
            retry_interval: Duration::from_millis(100),
            patience: Duration::from_millis(10),
            seed: 1,
            sent: None,
            waits: false,
        };
        self.step(|slot, step| *slot = Some(Register::begin(target, order, step)));
    }

    fn step(&mut self, run: impl FnOnce(&mut Option<Register>, &mut Step<'_>)) {
        let now = Now { mono: Time(self.mono), wall: WallTime(1_000 * MS + self.mono) };
        let mut out = Vec::new();
        let mut step = Step {
            now,
            clock: &mut self.clock,
            reachable: self.reachable,
            health: Health::default(),
            stand_ins: 0,
            hedges: &mut self.hedges,
            out: &mut out,
        };
        run(&mut self.register, &mut step);
        for action in out {
            match action {
                Action::Ask(to, Ask::Register(message)) => {
                    let RegisterMessage::Ask { round, task, .. } = *message else { panic!() };
                    self.asked.push((to, round, task));
                }
                Action::Reply(result) => assert!(self.reply.replace(*result).is_none()),
                Action::Done => assert!(self.reply.is_some()),
                other => panic!("{other:?}"),
            }
        }
    }

    fn round(&self) -> RoundId {
        self.asked.last().expect("asked").1
    }

    fn task(&self) -> &RegisterTask {
        &self.asked.last().expect("asked").2
    }

    fn ballot(&self) -> Stamp {
        match self.task() {
            RegisterTask::Prepare(ballot) | RegisterTask::Accept(ballot, _) => *ballot,
            RegisterTask::Look => panic!("a look"),
        }
    }

    /// Owner `index` answers the latest round.
    fn answer(&mut self, index: u8, result: Result<RegisterSaid, Refusal>) {
        let round = self.round();
        self.answer_to(index, round, result);
    }

    fn answer_to(&mut self, index: u8, round: RoundId, result: Result<RegisterSaid, Refusal>) {
        let answer = (self.incomplete & (1 << index) == 0, result);
        self.step(|register, step| {
            register.as_mut().unwrap().on_answer(index, round, answer, step);
        });
    }

    fn promise(&mut self, index: u8, shown: Option<Accepted>) {
        self.answer(index, Ok(promised(shown)));
    }

    fn lose(&mut self, index: u8) {
        self.reachable &= !(1 << index);
        self.step(|register, step| register.as_mut().unwrap().on_unreachable(index, step));
    }

    fn wait(&mut self, ms: u64) {
        let end = self.mono + ms * MS;
        while self.mono < end && self.reply.is_none() {
            self.mono += MS;
            if self.register.as_ref().unwrap().next_deadline() <= Time(self.mono) {
                self.step(|register, step| register.as_mut().unwrap().on_time(step));
            }
        }
    }

    fn error(&mut self) -> (ErrorCode, Applied) {
        let error = self.reply.take().expect("answered").unwrap_err();
        (error.code, error.applied)
    }
}

#[test]
fn a_put_is_answered_after_a_majority_has_promised_and_a_majority_has_accepted() {
    let mut bench = Bench::begin(Goal::Put(value("v")));
    assert_eq!(bench.asked.len(), 3);
    let ballot = bench.ballot();
    bench.promise(0, None);
    bench.promise(0, None);
    assert!(matches!(bench.task(), RegisterTask::Prepare(_)), "one owner counts once");
    bench.promise(2, None);
    assert!(matches!(bench.task(), RegisterTask::Accept(b, _) if *b == ballot));
    bench.answer(1, Ok(RegisterSaid::Accepted));
    assert!(bench.reply.is_none());
    bench.answer(0, Ok(RegisterSaid::Accepted));
    let Some(Ok(Reply::Put(reply))) = bench.reply else { panic!() };
    assert_eq!((reply.receipt.stamp, reply.receipt.answered), (ballot, 0b011));
}

#[test]
fn answers_to_an_older_round_do_not_count() {
    let counted = || {
        let mut bench = Bench::begin(Goal::Put(value("v")));
        let first = bench.round();
        bench.answer(0, Ok(RegisterSaid::Outbid(at(1_001 * MS, 3))));
        bench.answer(1, Ok(RegisterSaid::Outbid(at(1_001 * MS, 3))));
        bench.wait(20);
        assert!(bench.ballot() > at(1_001 * MS, 3), "the next ballot is above");
        assert!(bench.round() > first);
        // Promises that were made to the first ballot, and overtaken.
        bench.answer_to(0, first, Ok(promised(None)));
        bench.answer_to(1, first, Ok(promised(None)));
        matches!(bench.task(), RegisterTask::Accept(..))
    };
    assert!(!counted());
    let _armed = arm_mutant("register-stale-round-counts");
    assert!(counted());
}

/// What a put says that was sent for acceptance and then refused everywhere.
fn refused_after_accept() -> (ErrorCode, Applied) {
    let mut bench = Bench::begin(Goal::Put(value("v")));
    bench.promise(0, None);
    bench.promise(1, None);
    for index in 0..2 {
        bench.answer(index, Err(Refusal::Fenced { epoch: Epoch(2) }));
    }
    bench.error()
}

#[test]
fn nothing_is_said_not_to_be_applied_once_it_was_sent_for_acceptance() {
    let mut bench = Bench::begin(Goal::Put(value("v")));
    bench.answer(0, Err(Refusal::Fenced { epoch: Epoch(2) }));
    bench.answer(1, Err(Refusal::Overloaded));
    assert_eq!(bench.error(), (ErrorCode::QuorumNotReached, Applied::No));
    assert_eq!(refused_after_accept(), (ErrorCode::QuorumNotReached, Applied::Unknown));
    let _armed = arm_mutant("register-no-too-early");
    assert_eq!(refused_after_accept().1, Applied::No);
}

#[test]
fn what_was_sent_in_an_earlier_ballot_is_not_forgotten_by_a_later_one() {
    let mut bench = Bench::begin(Goal::Put(value("v")));
    bench.promise(0, None);
    bench.promise(1, None);
    for index in [0, 1] {
        bench.answer(index, Ok(RegisterSaid::Outbid(at(1_002 * MS, 3))));
    }
    bench.wait(20);
    assert!(matches!(bench.task(), RegisterTask::Prepare(_)));
    bench.lose(0);
    bench.lose(1);
    assert_eq!(bench.error().1, Applied::Unknown);
}

#[test]
fn one_who_is_outbid_until_the_deadline_says_so() {
    let mut bench = Bench::begin(Goal::Put(value("v")));
    for n in 0..2_000 {
        if bench.reply.is_some() {
            break;
        }
        if let RegisterTask::Prepare(_) = bench.task() {
            let by = Stamp { counter: n, ..at(1_001 * MS + bench.mono, 3) };
            bench.answer(1, Ok(RegisterSaid::Outbid(by)));
            bench.answer(2, Ok(RegisterSaid::Outbid(by)));
        }
        bench.wait(5);
    }
    assert_eq!(bench.error(), (ErrorCode::Contention, Applied::No));
    let ballots = bench.asked.len() / 3;
    assert!((5..60).contains(&ballots), "rests grow: {ballots} ballots in a second");
}

#[test]
fn one_outbid_owner_among_a_majority_that_promises_is_no_reason_to_begin_again() {
    let mut bench = Bench::begin(Goal::Put(value("v")));
    bench.answer(0, Ok(RegisterSaid::Outbid(at(1_001 * MS, 3))));
    bench.promise(1, None);
    bench.promise(2, None);
    assert!(matches!(bench.task(), RegisterTask::Accept(..)));
    // And one that is outbid while another stays silent does not wait for that one for ever.
    let mut bench = Bench::begin(Goal::Put(value("v")));
    bench.answer(0, Ok(RegisterSaid::Outbid(at(1_001 * MS, 3))));
    bench.promise(1, None);
    bench.wait(40);
    assert!(bench.ballot() > at(1_001 * MS, 3));
}

#[test]
fn a_look_that_a_majority_agrees_on_is_answered_at_once() {
    let mut bench = Bench::begin_as(Goal::Get, Attempt::default());
    bench.answer(0, Ok(RegisterSaid::Looked(holding(at(5, 1), "a"))));
    assert!(bench.reply.is_none());
    bench.answer(1, Ok(RegisterSaid::Looked(holding(at(5, 1), "a"))));
    let Some(Ok(Reply::Get(reply))) = bench.reply else { panic!() };
    assert_eq!(reply.record.unwrap().stamp, at(5, 1));
    let mut bench = Bench::begin_as(Goal::Get, Attempt::default());
    bench.answer(0, Ok(RegisterSaid::Looked(None)));
    bench.answer(2, Ok(RegisterSaid::Looked(None)));
    assert!(matches!(&bench.reply, Some(Ok(Reply::Get(reply))) if reply.record.is_none()));
}

#[test]
fn a_look_that_shows_something_newer_is_answered_only_when_that_is_decided() {
    let answered_early = || {
        let mut bench = Bench::begin_as(Goal::Get, Attempt::default());
        for (index, shown) in [(0, holding(at(5, 1), "a")), (1, holding(at(9, 2), "b"))] {
            bench.answer(index, Ok(RegisterSaid::Looked(shown)));
        }
        if bench.reply.is_some() {
            return true;
        }
        bench.answer(2, Ok(RegisterSaid::Looked(holding(at(5, 1), "a"))));
        assert!(bench.reply.is_none(), "the newest state is at one owner alone");
        bench.wait(30);
        // It looked once more, in vain, and has the newest state decided.
        for (index, shown) in [(0, holding(at(5, 1), "a")), (1, holding(at(9, 2), "b"))] {
            bench.answer(index, Ok(RegisterSaid::Looked(shown)));
        }
        bench.wait(30);
        bench.promise(0, holding(at(5, 1), "a"));
        bench.promise(1, holding(at(9, 2), "b"));
        let RegisterTask::Accept(ballot, state) = bench.task().clone() else { panic!() };
        assert!(ballot > at(9, 2) && state.stamp == at(9, 2), "the value keeps its stamp");
        bench.answer(0, Ok(RegisterSaid::Accepted));
        bench.answer(1, Ok(RegisterSaid::Accepted));
        let Some(Ok(Reply::Get(reply))) = bench.reply.take() else { panic!() };
        assert_eq!(reply.record.unwrap().stamp, at(9, 2));
        false
    };
    assert!(!answered_early());
    let _armed = arm_mutant("skip-write-back");
    assert!(answered_early());
}

#[test]
fn a_change_is_made_upon_the_newest_state_that_any_promise_shows() {
    let stamp = Expectation::Stamp(at(9, 2));
    let mut bench = Bench::begin(Goal::Cas(stamp, value("c")));
    bench.promise(1, holding(at(5, 1), "a"));
    bench.promise(2, holding(at(9, 2), "b"));
    let RegisterTask::Accept(ballot, state) = bench.task() else { panic!() };
    assert_eq!(state.ids.find(RequestId(7)).map(|entry| entry.ballot), Some(*ballot));
}

#[test]
fn silent_owners_are_asked_again_and_late_answers_count() {
    let mut bench = Bench::begin(Goal::Put(value("v")));
    bench.promise(0, None);
    bench.wait(110);
    assert_eq!(bench.asked.len(), 5, "both silent ones again");
    bench.promise(1, None);
    assert!(matches!(bench.task(), RegisterTask::Accept(..)));
    bench.wait(1_000);
    assert_eq!(bench.error(), (ErrorCode::DeadlineExceeded, Applied::Unknown));
}

#[test]
fn too_few_reachable_owners_fail_at_once() {
    let mut bench = Bench::new();
    bench.reachable = 0b010;
    bench.start(Goal::Put(value("v")), Attempt::default());
    assert_eq!(bench.error(), (ErrorCode::QuorumNotReached, Applied::No));
    assert!(bench.asked.is_empty());
}

#[test]
fn an_attempt_stays_in_its_window() {
    let upper = Some(WallTime(1_003 * MS));
    let attempt = Attempt { id: RequestId(7), upper, ..Attempt::default() };
    let mut bench = Bench::begin_as(Goal::Put(value("v")), attempt);
    for index in 0..2 {
        bench.answer(index, Ok(RegisterSaid::Outbid(at(1_004 * MS, 3))));
    }
    bench.wait(20);
    assert_eq!(bench.error(), (ErrorCode::AttemptExpired, Applied::No));
    let since = WallTime(1_002 * MS);
    let attempt = Attempt { id: RequestId(7), since, ..Attempt::default() };
    let bench = Bench::begin_as(Goal::Put(value("v")), attempt);
    assert!(bench.ballot().time > since);
}

/// {1, 2, 3} is read, {1, 2, 4} is written besides; 4 is being filled.
fn moving(goal: Goal) -> Bench {
    let mut bench = Bench::new();
    bench.sets = Sets { read: 0b0111, other: 0b1011 };
    (bench.reachable, bench.incomplete) = (0b1111, 0b1000);
    bench.start(goal, Attempt { id: RequestId(7), ..Attempt::default() });
    bench
}

#[test]
fn while_owners_change_those_that_are_read_promise_and_both_sets_accept() {
    let mut bench = moving(Goal::Put(value("v")));
    assert_eq!(bench.asked.len(), 3, "who is not read is asked for no promise");
    bench.promise(0, None);
    bench.promise(2, None);
    assert_eq!(bench.asked.len(), 7);
    let accept = |bench: &mut Bench, index| bench.answer(index, Ok(RegisterSaid::Accepted));
    accept(&mut bench, 0);
    accept(&mut bench, 2);
    assert!(bench.reply.is_none(), "one of the other set");
    accept(&mut bench, 3);
    let Some(Ok(Reply::Put(reply))) = bench.reply else { panic!() };
    assert_eq!((reply.receipt.answered, reply.receipt.n), (0b1101, 4));
}

#[test]
fn an_acceptance_of_who_is_not_complete_does_not_count_where_it_is_read() {
    let mut bench = Bench::new();
    bench.incomplete = 0b001;
    bench.start(Goal::Put(value("v")), Attempt { id: RequestId(7), ..Attempt::default() });
    bench.answer(0, Err(Refusal::Incomplete));
    bench.promise(1, None);
    bench.promise(2, None);
    bench.answer(0, Ok(RegisterSaid::Accepted));
    bench.answer(1, Ok(RegisterSaid::Accepted));
    assert!(bench.reply.is_none());
    bench.answer(2, Ok(RegisterSaid::Accepted));
    assert!(matches!(bench.reply, Some(Ok(_))));
}

#[test]
fn a_look_is_decided_when_both_sets_show_it() {
    let shows = |bench: &mut Bench, index, ballot| {
        bench.answer(index, Ok(RegisterSaid::Looked(holding(at(ballot, 1), "v"))));
    };
    let mut bench = moving(Goal::Get);
    assert_eq!(bench.asked.len(), 4);
    shows(&mut bench, 0, 5);
    shows(&mut bench, 2, 5);
    assert!(bench.reply.is_none(), "one of the other set");
    shows(&mut bench, 1, 5);
    assert!(matches!(bench.reply, Some(Ok(_))));

    let mut bench = moving(Goal::Get);
    shows(&mut bench, 0, 5);
    shows(&mut bench, 2, 5);
    shows(&mut bench, 1, 4);
    bench.answer(3, Err(Refusal::Incomplete));
    assert!(matches!(bench.task(), RegisterTask::Look), "nobody is left: once more");
    let first = bench.round();
    assert_eq!(first.round, 2);
    for index in 0..3 {
        shows(&mut bench, index, 5 - u64::from(index == 1));
    }
    bench.answer(3, Err(Refusal::Incomplete));
    assert!(matches!(bench.task(), RegisterTask::Prepare(_)), "then a round of its own");
}
