//! Random lives of a few members, planted bugs, and the turns of events that random lives miss.

use core::time::Duration;

use super::bench::{World, create, run};
use super::*;

#[test]
fn each_epoch_has_one_state_through_crashes_loss_and_duelling_proposers() {
    let mut decided = 0;
    for seed in 0..2000 {
        let (finding, epochs) = run(seed, 500);
        assert_eq!(finding, None, "seed {seed}");
        decided += epochs;
    }
    assert!(decided > 5000, "{decided} epochs were decided: too few to prove anything");
}

#[test]
fn planted_bugs_of_the_decree_are_found() {
    let mutants = [
        "decree-answers-before-durable",
        "decree-accept-below-promise",
        "decree-minority",
        "decree-in-force-early",
        "decree-ignores-accepted",
    ];
    for mutant in mutants {
        let _armed = crate::testing::arm_mutant(mutant);
        let found = (0..6000).find(|seed| run(*seed, 500).0.is_some());
        assert!(found.is_some(), "{mutant} is not found");
    }
}

/// A proposer is accepted by one acceptor, crashes, and comes back with another wish.
fn comes_back_with_another_wish() -> Option<String> {
    let [a, b, c] = [1, 2, 3].map(NodeId);
    let mut world = World::new(3, 1);
    world.mail.clear();
    world.propose(0, create("first"));
    world.phase(["prepare", "promise"], a, &[a, b]);
    // Its wish reaches one other and is accepted there, but not by itself.
    world.only("accept", a, &[b]);
    world.disks(&[b]);
    world.mail.clear();
    world.crash(0);
    world.start(0);
    world.mail.clear();
    world.propose(0, create("second"));
    world.phase(["prepare", "promise"], a, &[a, c]);
    world.phase(["accept", "accepted"], a, &[a, c]);
    world.mail.clear();
    // The acceptor of the first wish finishes what it knows with one of the others.
    world.crash(0);
    world.propose(1, create("third"));
    for _ in 0..6 {
        world.pass(Duration::from_millis(700));
        world.phase(["prepare", "promise"], b, &[b, c]);
        world.phase(["accept", "accepted"], b, &[b, c]);
    }
    world.heal();
    world.finding
}

#[test]
fn a_proposer_that_comes_back_never_gives_a_ballot_again() {
    assert_eq!(comes_back_with_another_wish(), None);
    let _armed = crate::testing::arm_mutant("decree-ballot-reused");
    let finding = comes_back_with_another_wish();
    assert!(finding.is_some_and(|text| text.contains("two states")), "not found");
}

#[test]
fn a_member_that_slept_over_many_epochs_catches_up_and_its_old_wish_is_made_on_top() {
    let mut world = World::new(3, 7);
    world.heal();
    world.crash(2);
    for name in ["t0", "t1", "t2", "t3"] {
        let op = world.propose(0, create(name));
        for _ in 0..20 {
            while !world.mail.is_empty() {
                world.deliver(0);
            }
            (0..2).for_each(|peer| world.work(peer));
            world.probe();
            world.pass(Duration::from_millis(20));
        }
        assert!(world.outcomes[&op].is_ok(), "{:?}", world.outcomes);
    }
    world.start(2);
    let late = world.propose(2, create("late"));
    let twice = world.propose(2, create("t1"));
    world.heal();
    assert_eq!(world.finding, None);
    assert_eq!(world.outcomes[&late], Ok(Epoch(6)));
    let refused = world.outcomes[&twice].clone().unwrap_err();
    assert_eq!((refused.code, refused.applied), (ErrorCode::TableExists, Applied::No));
}

#[test]
fn a_change_that_is_asked_for_again_is_made_once() {
    let mut world = World::new(3, 9);
    let ask = |world: &mut World, peer: usize, op: u64| {
        let decree = world.peers[peer].decree.as_mut().unwrap();
        decree.propose(world.now, OpId(op), RequestId(77), create("t")).unwrap();
        world.act(peer);
        world.heal();
        world.outcomes[&OpId(op)].clone()
    };
    assert_eq!(ask(&mut world, 0, 101), Ok(Epoch(2)));
    assert_eq!(ask(&mut world, 1, 102), Ok(Epoch(2)));
    assert_eq!(world.finding, None);
}

#[test]
fn what_no_majority_answers_is_said_with_what_is_known_of_it() {
    let mut world = World::new(3, 11);
    world.mail.clear();
    let op = world.propose(0, create("t"));
    world.phase(["prepare", "promise"], NodeId(1), &[NodeId(1)]);
    let error = world.peers[0].decree.as_mut().unwrap().withdraw(op);
    assert_eq!((error.code, error.applied), (ErrorCode::QuorumNotReached, Applied::No));
    assert_eq!((error.facts.needed, error.facts.got), (Some(2), Some(1)));
    let mut world = World::new(3, 11);
    world.mail.clear();
    let op = world.propose(0, create("t"));
    world.phase(["prepare", "promise"], NodeId(1), &[NodeId(1), NodeId(2)]);
    world.only("accept", NodeId(1), &[NodeId(2)]);
    let error = world.peers[0].decree.as_mut().unwrap().withdraw(op);
    assert_eq!(error.applied, Applied::Unknown);
    world.heal();
    assert_eq!(world.finding, None);
    assert!(world.decided.contains_key(&Epoch(2)), "what was accepted is finished all the same");
}

#[test]
fn a_check_ends_only_when_nothing_newer_can_have_been_decided_before_it() {
    let mut world = World::new(3, 13);
    world.heal();
    let seq = world.peers[2].decree.as_mut().unwrap().check(world.now);
    world.act(2);
    world.heal();
    assert_eq!(world.checked[&NodeId(3)], seq);
    // A state is decided, and the third member hears nothing of it.
    let op = world.propose(0, create("t"));
    for _ in 0..40 {
        world.mail.retain(|(from, to, _)| *from != NodeId(3) && *to != NodeId(3));
        while !world.mail.is_empty() {
            world.deliver(0);
            world.mail.retain(|(from, to, _)| *from != NodeId(3) && *to != NodeId(3));
        }
        (0..2).for_each(|peer| world.work(peer));
        world.pass(Duration::from_millis(20));
    }
    assert_eq!(world.outcomes[&op], Ok(Epoch(2)));
    world.mail.clear();
    let seq = world.peers[2].decree.as_mut().unwrap().check(world.now);
    world.act(2);
    let known = |world: &World| world.peers[2].in_force.as_ref().unwrap().epoch;
    for _ in 0..200 {
        if world.checked.get(&NodeId(3)) == Some(&seq) {
            break;
        }
        if !world.mail.is_empty() {
            world.deliver(0);
        } else {
            (0..3).for_each(|peer| world.work(peer));
            world.pass(Duration::from_millis(20));
        }
    }
    assert_eq!(world.checked[&NodeId(3)], seq);
    assert_eq!(known(&world), Epoch(2));
}

/// What an acceptor that abstains says to a proposer of epoch 2, and of epoch 3 when 2 is in force; and to
/// who asks for the newest epoch before.
fn abstainer_says() -> (usize, usize, usize) {
    let timing = DecreeTiming {
        retry: Duration::from_millis(100),
        back_off: Duration::from_millis(10),
        recover: Duration::from_secs(1),
    };
    let rng = fastrand::Rng::with_seed(1);
    let mut decree = Decree::new((NodeId(1), 1), timing, DecreeRecord::default(), None, rng);
    decree.abstain(Epoch(2));
    let now = Time(0);
    let first = bench::first_state(3);
    decree.on_state(now, first.clone());
    decree.begin(now);
    let said = |decree: &mut Decree, message: DecreeMessage| {
        while decree.poll_action().is_some() {}
        decree.on_message(now, NodeId(2), message);
        let mut count = 0;
        while let Some(action) = decree.poll_action() {
            let tells = matches!(action, DecreeAction::Persist(..) | DecreeAction::Send(..));
            count += usize::from(tells);
        }
        count
    };
    let prepare = |epoch: u64| DecreeMessage::Prepare {
        instance: Instance { lineage: first.lineage, epoch: Epoch(epoch) },
        ballot: Ballot { counter: 5, boot: 1, member: NodeId(2) },
    };
    let newest = said(&mut decree, DecreeMessage::Newest { seq: 1 });
    let second = said(&mut decree, prepare(2));
    let state = ClusterState { epoch: Epoch(2), ..(*first).clone() };
    decree.on_state(now, Arc::new(state));
    (newest, second, said(&mut decree, prepare(3)))
}

#[test]
fn what_may_have_been_promised_before_a_loss_is_not_promised_again() {
    assert_eq!(abstainer_says(), (0, 0, 1));
    let _armed = crate::testing::arm_mutant("decree-forgets-loss");
    assert_eq!(abstainer_says(), (0, 1, 1));
}
