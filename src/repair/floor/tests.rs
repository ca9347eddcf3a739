//! The rules of the floor by themselves, and in a small cluster where everything may happen in any
//! order: owners write to each other, late copies come, owners compare, agree, raise.

use super::*;
use crate::testing::arm_mutant;
use crate::types::{ClassId, Partition, Unit};
use proptest::prelude::*;

const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(0) };
const ALL: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const FENCE: Epoch = Epoch(5);

fn at(time: u64) -> Stamp {
    if time == 0 {
        return Stamp::ZERO;
    }
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn owners(me: u32) -> Owners<'static> {
    Owners { me: NodeId(me), all: &ALL, fence: FENCE }
}

fn change(floor: &mut Floor, change: FloorChange) -> bool {
    let mut state = floor.own().clone();
    let changed = apply(&mut state, change);
    floor.on_own(state);
    changed
}

fn news(vouched: u64, agreed: u64) -> FloorNews {
    FloorNews {
        unit: UNIT,
        fence: FENCE,
        vouched: at(vouched),
        agreed: at(agreed),
        floor: Stamp::ZERO,
    }
}

fn vouching() -> Floor {
    let mut floor = Floor::default();
    change(&mut floor, FloorChange::Close(at(10)));
    change(&mut floor, FloorChange::Vouch(NodeId(2), at(10), 0));
    change(&mut floor, FloorChange::Vouch(NodeId(3), at(8), 0));
    floor
}

#[test]
fn the_floor_rises_to_the_lowest_that_all_have_agreed_at() {
    let mut floor = vouching();
    assert_eq!(floor.vouched(owners(1)), at(8));
    floor.on_news(NodeId(2), &news(9, 0));
    assert_eq!(floor.may_agree(owners(1)), None, "one has said nothing");
    floor.on_news(NodeId(3), &news(7, 0));
    let Some(agree) = floor.may_agree(owners(1)) else { panic!("all have vouched") };
    assert_eq!(agree, FloorChange::Agree(at(7), FENCE, 0));
    assert!(change(&mut floor, agree));
    assert_eq!(floor.may_agree(owners(1)), None, "once");
    floor.on_news(NodeId(2), &news(9, 7));
    assert_eq!(floor.may_raise(owners(1)), None, "who knows that all have vouched may be alone");
    floor.on_news(NodeId(3), &news(9, 5));
    assert_eq!(floor.may_raise(owners(1)), Some(FloorChange::Raise(at(5))));
    assert!(change(&mut floor, FloorChange::Raise(at(5))));
    assert_eq!((floor.own().record.floor, floor.own().record.gate), (at(5), at(10)));
}

#[test]
fn what_was_brought_voids_what_was_vouched_for_and_what_is_on_its_way() {
    let mut floor = vouching();
    let mut state = floor.own().clone();
    void(&mut state);
    assert!(!apply(&mut state, FloorChange::Vouch(NodeId(2), at(10), 0)), "of an earlier session");
    assert!(!apply(&mut state, FloorChange::Agree(at(7), FENCE, 0)));
    floor.on_own(state.clone());
    assert_eq!(floor.vouched(owners(1)), Stamp::ZERO);
    floor.on_news(NodeId(2), &news(9, 0));
    floor.on_news(NodeId(3), &news(9, 0));
    assert_eq!(floor.may_agree(owners(1)), None);
    assert!(apply(&mut state, FloorChange::Vouch(NodeId(2), at(10), 1)));
    let _armed = arm_mutant("vouch-kept");
    assert!(apply(&mut state, FloorChange::Vouch(NodeId(3), at(10), 0)));
}

#[test]
fn what_was_said_under_one_fence_stays_said_there_and_counts_under_no_other() {
    let mut floor = vouching();
    for peer in [NodeId(2), NodeId(3)] {
        floor.on_news(peer, &news(9, 0));
        floor.on_news(peer, &news(0, 0));
    }
    assert!(floor.may_agree(owners(1)).is_some());
    let later = Owners { fence: Epoch(6), ..owners(1) };
    assert_eq!(floor.may_agree(later), None);
    change(&mut floor, FloorChange::Agree(at(8), FENCE, 0));
    assert_eq!(floor.news(UNIT, later).agreed, Stamp::ZERO);
    assert_eq!(floor.news(UNIT, owners(1)).agreed, at(8));
    floor.on_news(NodeId(2), &FloorNews { fence: Epoch(6), ..news(3, 3) });
    assert_eq!(floor.may_agree(owners(1)), None, "it has gone on");
}

#[test]
fn a_gate_is_never_opened_and_no_vouching_is_above_it() {
    let mut state = FloorState::default();
    assert!(apply(&mut state, FloorChange::Close(at(9))));
    assert!(!apply(&mut state, FloorChange::Close(at(4))));
    apply(&mut state, FloorChange::Vouch(NodeId(2), at(20), 0));
    assert_eq!(state.record.vouched, [(NodeId(2), at(9))]);
    assert!(apply(&mut state, FloorChange::Raise(at(12))));
    assert_eq!((state.record.gate, state.record.agreed), (at(12), at(12)));
    assert!(apply(&mut state, FloorChange::Fill(at(3), at(15))));
    assert_eq!(
        (state.record.floor, state.record.gate, state.record.agreed),
        (at(12), at(15), at(15))
    );
}

#[test]
fn a_mirror_that_is_equal_counts_for_nothing() {
    let mut floor = vouching();
    floor.on_news(NodeId(2), &news(9, 0));
    floor.on_news(NodeId(9), &news(9, 9));
    assert_eq!(floor.may_agree(owners(1)), None, "an owner has said nothing");
    {
        let _armed = arm_mutant("mirror-counted");
        assert!(floor.may_agree(owners(1)).is_some());
    }
    floor.keep(owners(1));
    assert!(!floor.heard.contains_key(&NodeId(9)));
}

#[test]
fn who_blocks_is_named() {
    let mut floor = Floor::default();
    assert_eq!(floor.blocked(owners(1)), [], "nothing has been tried");
    change(&mut floor, FloorChange::Close(at(10)));
    let not = |ids: [u32; 2]| ids.map(|id| Blocked::NotCompared(NodeId(id))).to_vec();
    assert_eq!(floor.blocked(owners(1)), not([2, 3]));
    let mut floor = vouching();
    floor.on_news(NodeId(2), &news(9, 9));
    assert_eq!(floor.blocked(owners(1)), [Blocked::NotVouched(NodeId(3))]);
    floor.on_news(NodeId(3), &news(9, 0));
    assert_eq!(floor.blocked(owners(1)), [Blocked::NotAgreed(NodeId(3))]);
}

/// One key in a cluster of three: the version that stands with each (0: none), with deletes even.
#[derive(Clone, Debug, Default)]
struct World {
    floors: [Floor; 3],
    value: [u64; 3],
    issued: u64,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Issue,
    Arrive(u64, usize),
    Close(usize, u64),
    Session(usize, usize),
    Tell(usize, usize),
    Go(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let node = 0..3_usize;
    prop_oneof![
        1 => Just(Act::Issue),
        1 => (1..9_u64, node.clone()).prop_map(|(version, x)| Act::Arrive(version, x)),
        1 => (node.clone(), 0..9_u64).prop_map(|(x, gate)| Act::Close(x, gate)),
        4 => (node.clone(), node.clone()).prop_map(|(x, y)| Act::Session(x, y)),
        4 => (node.clone(), node.clone()).prop_map(|(x, y)| Act::Tell(x, y)),
        2 => node.prop_map(Act::Go),
    ]
}

impl World {
    fn gate(&self, x: usize) -> u64 {
        self.floors[x].own().record.gate.time.0
    }

    fn floor(&self, x: usize) -> u64 {
        self.floors[x].own().record.floor.time.0
    }

    fn purge(&mut self, x: usize) {
        if self.value[x].is_multiple_of(2) && self.value[x] <= self.floor(x) {
            self.value[x] = 0;
        }
    }

    fn bring(&mut self, from: usize, to: usize) {
        let given = self.value[from];
        if given <= self.value[to] || given <= self.floor(to) {
            return;
        }
        if given <= self.gate(to) {
            let mut state = self.floors[to].own().clone();
            void(&mut state);
            self.floors[to].on_own(state);
        }
        self.value[to] = given;
    }

    fn session(&mut self, x: usize, y: usize) {
        let highest = self.floor(x).max(self.floor(y));
        for node in [x, y] {
            change(&mut self.floors[node], FloorChange::Raise(at(highest)));
            self.purge(node);
        }
        let voids = [x, y].map(|node| self.floors[node].own().voids);
        self.bring(x, y);
        self.bring(y, x);
        for ((node, peer), voids) in [(x, y), (y, x)].into_iter().zip(voids) {
            let vouch = FloorChange::Vouch(ALL[peer], at(self.gate(node)), voids);
            change(&mut self.floors[node], vouch);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Issue => self.issued += u64::from(self.issued < 8),
            Act::Arrive(version, x) => {
                if version <= self.issued && version > self.value[x] && version > self.gate(x) {
                    self.value[x] = version;
                }
            }
            // What is younger than the slack is never gated.
            Act::Close(x, gate) => {
                change(&mut self.floors[x], FloorChange::Close(at(gate.min(self.issued))));
            }
            Act::Session(x, y) if x != y => self.session(x, y),
            Act::Tell(x, y) if x != y => {
                let news = self.floors[x].news(UNIT, owners(ALL[x].0));
                self.floors[y].on_news(ALL[x], &news);
            }
            Act::Session(..) | Act::Tell(..) => {}
            Act::Go(x) => {
                let own = owners(ALL[x].0);
                let wishes = [self.floors[x].may_agree(own), self.floors[x].may_raise(own)];
                for wish in wishes.into_iter().flatten() {
                    change(&mut self.floors[x], wish);
                }
                self.purge(x);
            }
        }
    }

    /// What stands with an owner once its floor has risen: nobody holds a put at or below that which
    /// it lacks, unless a delete at or below it stands there.
    fn check(&self) -> Result<(), String> {
        for x in 0..3 {
            for y in 0..3 {
                let (has, lacks) = (self.value[y], self.value[x]);
                if has % 2 == 1 && has <= self.floor(x) && has > lacks {
                    return Err(format!("{y} holds {has}, {x} purged it: {self:?}"));
                }
            }
        }
        Ok(())
    }
}

fn run(acts: &[Act]) -> Result<bool, String> {
    let mut world = World::default();
    for act in acts {
        world.act(*act);
        world.check()?;
    }
    Ok((0..3).any(|x| world.floor(x) > 0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_purged_is_with_no_owner(acts in proptest::collection::vec(act(), 1..80)) {
        if let Err(error) = run(&acts) {
            prop_assert!(false, "{}", error);
        }
    }
}

#[test]
fn a_floor_that_rises_by_age_is_found_out() {
    use Act::{Arrive, Close, Go, Issue, Tell};
    let acts = [
        Issue,
        Arrive(1, 0),
        Arrive(1, 2),
        Issue,
        Arrive(2, 0),
        Arrive(2, 1),
        Close(0, 2),
        Close(1, 2),
        Close(2, 2),
        Tell(1, 0),
        Tell(2, 0),
        Tell(0, 1),
        Tell(2, 1),
        Tell(0, 2),
        Tell(1, 2),
        Go(0),
        Go(1),
        Go(2),
        Tell(1, 0),
        Tell(2, 0),
        Go(0),
    ];
    assert_eq!(run(&acts), Ok(false));
    let _armed = arm_mutant("purge-by-age");
    assert!(run(&acts).is_err());
}

#[test]
fn it_rises_when_all_compare() {
    use Act::{Arrive, Close, Go, Issue, Session, Tell};
    let mut acts =
        vec![Issue, Arrive(1, 0), Issue, Arrive(2, 1), Close(0, 2), Close(1, 2), Close(2, 2)];
    let pairs = || [(0, 1), (1, 2), (0, 2)].into_iter();
    for _ in 0..3 {
        acts.extend(pairs().map(|(x, y)| Session(x, y)));
    }
    for _ in 0..2 {
        acts.extend(pairs().flat_map(|(x, y)| [Tell(x, y), Tell(y, x)]));
        acts.extend((0..3).map(Go));
    }
    assert_eq!(run(&acts), Ok(true));
}
