//! Tests of links: verdicts, trials, relapses, and what is kept.

use super::*;

const MS: u64 = 1_000_000;
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const OWNERS: [NodeId; 3] = [A, B, C];

fn at(ms: u64) -> Time {
    Time(ms * MS)
}

/// Links that have each answered one read in a millisecond.
fn links() -> Links {
    let mut links = Links::default();
    for (op, id) in (1..).zip(OWNERS) {
        read(&mut links, id, op, (0, 1));
    }
    links
}

/// One read, asked and answered at these times.
fn read(links: &mut Links, id: NodeId, op: u64, (asked, answered): (u64, u64)) {
    links.on_asked(at(asked), id, AskKind::Read, op);
    links.on_answered(at(answered), id, (AskKind::Read, op), Answered::Well);
}

fn well(links: &mut Links, ms: u64) -> u16 {
    links.prefer(at(ms), &OWNERS).well
}

#[test]
fn a_link_of_which_nothing_is_known_is_well() {
    let preference = Links::default().prefer(at(0), &OWNERS);
    assert_eq!(preference, Preference { well: 0b111, trials: 0 });
}

#[test]
fn a_read_that_is_not_answered_for_300_ms_takes_the_link_out() {
    let mut links = links();
    links.on_asked(at(10), B, AskKind::Read, 10);
    assert_eq!(well(&mut links, 309), 0b111);
    let preference = links.prefer(at(310), &OWNERS);
    assert_eq!(preference, Preference { well: 0b101, trials: 0b010 });
    assert_eq!(links.poll_news(), Some((B, Some(Unwell::Stalled))));
    assert_eq!((links.poll_news(), links.ejections()), (None, 1));
}

fn round(links: &mut Links, id: NodeId, (asked, answered): (u64, u64), how: Answered) {
    links.on_asked(at(asked), id, AskKind::Round, 50);
    links.on_answered(at(answered), id, (AskKind::Round, 50), how);
}

#[test]
fn rounds_of_registers_tell_of_silence_and_failures_and_bring_a_link_back() {
    let mut links = links();
    links.on_asked(at(0), B, AskKind::Round, 50);
    assert_eq!(well(&mut links, 300), 0b101);
    // What comes so late is no sign that it is well again; the next answer is.
    links.on_answered(at(400), B, (AskKind::Round, 50), Answered::Well);
    assert_eq!(well(&mut links, 400), 0b101);
    round(&mut links, B, (400, 430), Answered::Well);
    assert_eq!(well(&mut links, 430), 0b111);
    // A round has a disk to wait for: that it takes longer than reads is nothing against the link.
    assert_eq!(links.latency(B), Some(Duration::from_millis(1)));
    for how in [Answered::Failed, Answered::Failed, Answered::Well, Answered::Failed] {
        round(&mut links, C, (500, 501), how);
    }
    assert_eq!(well(&mut links, 501), 0b111, "not three in a row");
    for _ in 0..2 {
        round(&mut links, C, (502, 503), Answered::Failed);
    }
    assert_eq!((well(&mut links, 503), links.unwell(C)), (0b011, Some(Unwell::Failing)));
    round(&mut links, C, (504, 505), Answered::Well);
    assert_eq!(well(&mut links, 505), 0b111);
}

#[test]
fn a_link_that_reads_find_slow_does_not_come_back_by_rounds() {
    let mut links = links();
    for op in 10..60 {
        read(&mut links, B, op, (op * 100, op * 100 + 90));
    }
    assert_eq!(links.unwell(B), Some(Unwell::Slow));
    round(&mut links, B, (6000, 6001), Answered::Well);
    assert_eq!(links.unwell(B), Some(Unwell::Slow));
}

#[test]
fn writes_tell_of_a_silent_link_too_and_any_answer_breaks_the_silence() {
    let mut links = links();
    links.on_asked(at(0), B, AskKind::Write, 10);
    links.on_asked(at(0), C, AskKind::Write, 10);
    links.on_asked(at(200), C, AskKind::Write, 11);
    // The answer to the later one: the disk is slow, the link is not silent.
    links.on_answered(at(250), C, (AskKind::Write, 11), Answered::Well);
    assert_eq!(well(&mut links, 400), 0b101);
}

#[test]
fn what_was_overtaken_is_not_waited_for() {
    let mut links = links();
    links.on_asked(at(0), B, AskKind::Read, 10);
    read(&mut links, B, 11, (100, 101));
    assert_eq!(well(&mut links, 1000), 0b111);
    assert_eq!(links.latency(B), Some(Duration::from_millis(1)), "the later one was timed");
}

#[test]
fn three_failures_in_a_row_take_the_link_out_and_a_good_answer_between_counts_anew() {
    let mut links = links();
    let fail = |links: &mut Links, op| {
        links.on_asked(at(op), B, AskKind::Read, op);
        links.on_answered(at(op), B, (AskKind::Read, op), Answered::Failed);
    };
    fail(&mut links, 10);
    fail(&mut links, 11);
    read(&mut links, B, 12, (12, 12));
    fail(&mut links, 13);
    fail(&mut links, 14);
    assert_eq!(well(&mut links, 20), 0b111);
    links.on_lost(at(20), B);
    assert_eq!(well(&mut links, 20), 0b101);
    assert_eq!(links.unwell(B), Some(Unwell::Failing));
}

#[test]
fn a_refusal_that_any_member_would_give_says_nothing_of_the_link() {
    let mut links = links();
    for op in 10..20 {
        links.on_asked(at(op), B, AskKind::Read, op);
        links.on_answered(at(op), B, (AskKind::Read, op), Answered::Neutral);
    }
    assert_eq!(well(&mut links, 1000), 0b111);
}

#[test]
fn a_link_that_is_eight_times_slower_than_the_others_is_out_within_a_second() {
    for ms in [40, 100, 200] {
        let mut links = links();
        let (mut now, mut op) = (0, 10);
        while links.unwell(B).is_none() {
            read(&mut links, B, op, (now, now + ms));
            (now, op) = (now + ms, op + 1);
            assert!(now < 1000, "{ms} ms were not noticed: {:?}", links.latency(B));
        }
        assert_eq!(links.unwell(B), Some(Unwell::Slow));
    }
}

#[test]
fn what_is_slow_everywhere_or_fast_enough_for_users_is_well() {
    let mut links = links();
    for op in 10..100 {
        for (index, id) in (0..).zip(OWNERS) {
            let asked = op * 100;
            read(&mut links, id, op * 3 + index, (asked, asked + 60 + index));
        }
    }
    assert_eq!(well(&mut links, 20_000), 0b111);
    let mut links = Links::default();
    for op in 10..100 {
        read(&mut links, A, op * 3, (op * 100, op * 100));
        read(&mut links, B, op * 3 + 1, (op * 100, op * 100 + 20));
    }
    assert_eq!(well(&mut links, 20_000), 0b111);
}

#[test]
fn an_unwell_link_is_tried_each_250_ms_and_let_back_by_a_good_answer() {
    let mut links = links();
    links.on_asked(at(0), B, AskKind::Read, 10);
    assert_eq!(links.prefer(at(300), &OWNERS).trials, 0b010);
    links.on_asked(at(300), B, AskKind::Read, 11);
    assert_eq!(links.prefer(at(549), &OWNERS).trials, 0);
    assert_eq!(links.prefer(at(550), &OWNERS).trials, 0b010);
    // Too late to be good, though the next one is not.
    links.on_answered(at(640), B, (AskKind::Read, 11), Answered::Well);
    assert_eq!(well(&mut links, 640), 0b101);
    read(&mut links, B, 12, (650, 652));
    assert_eq!(links.prefer(at(652), &OWNERS), Preference { well: 0b111, trials: 0 });
    assert_eq!(links.poll_news(), Some((B, None)), "only the newest is told");
}

#[test]
fn a_write_does_not_let_a_link_back() {
    let mut links = links();
    links.on_asked(at(0), B, AskKind::Read, 10);
    assert_eq!(well(&mut links, 300), 0b101);
    links.on_asked(at(310), B, AskKind::Write, 11);
    links.on_answered(at(311), B, (AskKind::Write, 11), Answered::Well);
    assert_eq!(well(&mut links, 312), 0b101);
}

#[test]
fn a_link_that_relapses_needs_more_and_more_good_trials() {
    let mut links = links();
    let (mut now, mut op) = (0, 10);
    for needed in [1, 2, 4, 8, 16, 16] {
        links.on_asked(at(now), B, AskKind::Read, op);
        now += 300;
        assert_eq!(well(&mut links, now), 0b101);
        for _ in 0..needed {
            assert_eq!(well(&mut links, now), 0b101);
            op += 1;
            read(&mut links, B, op, (now, now + 1));
            now += 250;
        }
        assert_eq!(well(&mut links, now), 0b111, "after {needed}");
        op += 1;
    }
    now += 10_000;
    links.on_asked(at(now), B, AskKind::Read, op);
    assert_eq!(well(&mut links, now + 300), 0b101);
    read(&mut links, B, op + 1, (now + 300, now + 301));
    assert_eq!(well(&mut links, now + 301), 0b111, "it was well for long enough");
}

#[test]
fn however_much_is_asked_of_a_silent_link_little_is_kept() {
    let mut links = links();
    for op in 10..10_000 {
        links.on_asked(at(op), B, AskKind::Read, op);
        well(&mut links, op);
    }
    assert!(links.links[&B].reads.len() <= TIMED_MAX);
    links.on_answered(at(10_000), B, (AskKind::Read, 9_999), Answered::Well);
    assert_eq!(well(&mut links, 10_000), 0b111, "and its trial is known");
    links.retain(|id| id != B);
    assert!(!links.links.contains_key(&B));
}

#[test]
fn planted_bugs_are_seen() {
    let stalls = || {
        let mut links = links();
        links.on_asked(at(0), B, AskKind::Read, 10);
        well(&mut links, 400) == 0b101
    };
    let slow = || {
        let mut links = links();
        (10..20).for_each(|op| read(&mut links, B, op, (op * 100, op * 100 + 90)));
        links.unwell(B) == Some(Unwell::Slow)
    };
    assert!(stalls() && slow());
    {
        let _armed = crate::testing::arm_mutant("link-stall-unseen");
        assert!(!stalls());
    }
    let _armed = crate::testing::arm_mutant("link-slow-unseen");
    assert!(!slow());
}
