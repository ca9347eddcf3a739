//! Scans of linearizable tables: what is decided is shown, and everything else is read by itself.

use core::time::Duration;

use super::bench::{Bench, get_in, put_in, scan_in};
use super::moves::Moving;
use super::register::{A, B, C, answer, done, is, jobs, ms, read, until, written};
use crate::message::{
    ClientBody, ErrorCode, Event, Put, RegisterTask, Reply, Scan, ScanReply, TimeToLive,
};
use crate::testing::arm_mutant;
use crate::types::{NodeId, OpId, Quorum, Value, limits};

fn page_of(bench: &mut Bench, at: NodeId, change: impl FnOnce(&mut Scan)) -> ScanReply {
    match done(bench, at, asked(change)) {
        Ok(Reply::Scan(page)) => page,
        other => panic!("{other:?}"),
    }
}

fn asked(change: impl FnOnce(&mut Scan)) -> ClientBody {
    let ClientBody::Scan(mut scan) = scan_in("jobs") else { unreachable!() };
    change(&mut scan);
    ClientBody::Scan(scan)
}

/// Keys and values.
fn shown(page: &ScanReply) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let value = |value: &Option<Value>| text(value.as_ref().unwrap().as_bytes());
    let entries = page.entries.iter();
    entries.map(|entry| (text(entry.key.as_bytes()), value(&entry.record.value))).collect()
}

fn scan(bench: &mut Bench, at: NodeId) -> Vec<(String, String)> {
    shown(&page_of(bench, at, |_| ()))
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn fill(bench: &mut Bench, count: usize) -> Vec<(String, String)> {
    let pairs: Vec<_> = (0..count).map(|n| pair(&format!("k{n:03}"), &format!("v{n}"))).collect();
    for (key, value) in &pairs {
        written(done(bench, A, put_in("jobs", key, value)));
    }
    pairs
}

fn delete(key: &str) -> ClientBody {
    let ClientBody::Put(put) = put_in("jobs", key, "") else { unreachable!() };
    ClientBody::Put(Put { value: None, ..put })
}

fn lose(bench: &mut Bench, at: NodeId) {
    bench.stop(at);
    for other in [A, B, C].into_iter().filter(|other| *other != at) {
        if bench.host(other).node.is_some() {
            bench.event(other, Event::Unreachable { peer: at });
        }
    }
}

fn begin_again(bench: &mut Bench, at: NodeId) {
    bench.start(at);
    bench.pass(ms(2_000));
}

/// Questions about single keys that have been asked.
fn count(bench: &Bench, wanted: fn(&RegisterTask) -> bool) -> usize {
    bench.seen.iter().filter(|(_, _, message)| is(message, wanted)).count()
}

#[test]
fn what_all_agree_on_is_shown_in_order_and_no_key_is_asked_for_by_itself() {
    let mut bench = jobs(3);
    let mut pairs = fill(&mut bench, 20);
    written(done(&mut bench, B, delete("k007")));
    pairs.remove(7);
    bench.seen.clear();
    for at in [A, B, C] {
        assert_eq!(scan(&mut bench, at), pairs);
    }
    let page = page_of(&mut bench, B, |scan| (scan.reverse, scan.limit) = (true, 3));
    assert_eq!(shown(&page), [pairs[18].clone(), pairs[17].clone(), pairs[16].clone()]);
    assert_eq!(page.resume.as_deref(), Some(pairs[16].0.as_bytes()));
    let page = page_of(&mut bench, C, |scan| {
        (scan.prefix, scan.after, scan.keys_only) = ("k01".into(), "k013".into(), true);
    });
    assert_eq!(shown(&page)[0], pair("k014", ""));
    assert_eq!((page.entries.len(), page.resume), (6, None));
    assert_eq!(count(&bench, |_| true), 0);
    let stamp = page.entries[0].record.stamp;
    let Ok(Reply::Get(get)) = done(&mut bench, A, get_in("jobs", "k014")) else { panic!() };
    assert_eq!(get.record.unwrap().stamp, stamp);
}

#[test]
fn less_than_a_majority_gives_no_page() {
    let mut bench = jobs(3);
    fill(&mut bench, 3);
    let asks_for_one = || asked(|scan| scan.r = Some(Quorum::One));
    assert_eq!(done(&mut bench, A, asks_for_one()).unwrap_err().code, ErrorCode::QuorumInvalid);
    lose(&mut bench, B);
    lose(&mut bench, C);
    let error = done(&mut bench, A, asked(|_| ())).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuorumNotReached);
    let _armed = arm_mutant("scan-asks-one-owner");
    assert!(done(&mut bench, A, asked(|_| ())).is_ok());
}

/// Whether an owner that was away shows what it missed.
fn shows_what_was_missed() -> bool {
    let mut bench = jobs(3);
    written(done(&mut bench, A, put_in("jobs", "k", "old")));
    lose(&mut bench, C);
    written(done(&mut bench, A, put_in("jobs", "k", "new")));
    begin_again(&mut bench, C);
    scan(&mut bench, C) == [pair("k", "new")]
}

#[test]
fn an_owner_that_was_away_is_not_believed_alone() {
    assert!(shows_what_was_missed());
    let _armed = arm_mutant("scan-asks-one-owner");
    assert!(!shows_what_was_missed());
}

/// A change that only `A` has accepted: what a scan shows of the key while C is away, and what there is when A is
/// away in its place.
fn accepted_by_one(change: ClientBody) -> (Vec<(String, String)>, Option<String>) {
    let mut bench = jobs(3);
    lose(&mut bench, C);
    written(done(&mut bench, B, put_in("jobs", "k", "old")));
    bench.ask_quietly(A, change);
    until(&mut bench, B, |task| matches!(task, RegisterTask::Accept(..)));
    bench.take_queue();
    let page = scan(&mut bench, B);
    lose(&mut bench, A);
    begin_again(&mut bench, C);
    (page, read(&mut bench, B))
}

#[test]
fn what_a_minority_has_accepted_is_shown_once_it_is_decided() {
    let new = || put_in("jobs", "k", "new");
    assert_eq!(accepted_by_one(new()), (vec![pair("k", "new")], Some("new".to_owned())));
    assert_eq!(accepted_by_one(delete("k")), (vec![], None));
    let _armed = arm_mutant("scan-minority-decides");
    assert_eq!(accepted_by_one(new()), (vec![pair("k", "new")], Some("old".to_owned())));
}

/// A delete that only A has accepted, of a value that only A and B know: what a scan of A and C shows, and what B
/// and C make of it.
fn denied() -> (Vec<(String, String)>, Option<String>) {
    let mut bench = jobs(3);
    lose(&mut bench, C);
    written(done(&mut bench, B, put_in("jobs", "k", "old")));
    bench.ask_quietly(A, delete("k"));
    until(&mut bench, B, |task| matches!(task, RegisterTask::Accept(..)));
    bench.take_queue();
    lose(&mut bench, B);
    begin_again(&mut bench, C);
    let page = scan(&mut bench, C);
    lose(&mut bench, A);
    begin_again(&mut bench, B);
    (page, read(&mut bench, C))
}

#[test]
fn a_delete_that_one_has_accepted_is_no_absence() {
    assert_eq!(denied(), (vec![], None));
    let _armed = arm_mutant("page-hides-register-deletes");
    assert_eq!(denied(), (vec![], Some("old".to_owned())));
}

#[test]
fn a_value_whose_time_is_over_is_denied_once_that_is_decided() {
    let brought_back = || {
        let mut bench = jobs(3);
        let ClientBody::Put(put) = put_in("jobs", "k", "short") else { unreachable!() };
        let ttl = TimeToLive::For(ms(100));
        written(done(&mut bench, A, ClientBody::Put(Put { ttl, ..put })));
        assert_eq!(scan(&mut bench, B), [pair("k", "short")]);
        bench.pass(ms(300));
        assert_eq!(scan(&mut bench, B), []);
        // A node whose clock is behind does not bring it back.
        bench.host(C).wall_offset_ms = -250;
        scan(&mut bench, C).len()
    };
    assert_eq!(brought_back(), 0);
    let _armed = arm_mutant("scan-denies-expired-register");
    assert_eq!(brought_back(), 1);
}

#[test]
fn a_page_has_few_keys_read_by_themselves_and_ends_before_the_next() {
    let mut bench = jobs(3);
    let (most, all) = (limits::SCAN_READS_MAX, limits::SCAN_READS_MAX + 30);
    lose(&mut bench, C);
    let pairs = fill(&mut bench, all);
    begin_again(&mut bench, C);
    lose(&mut bench, A);
    bench.host(B).slow_disk = true;
    let op = bench.ask(C, asked(|_| ()));
    let reading = |bench: &mut Bench| bench.host(C).node.as_ref().unwrap().operations.len();
    assert_eq!(reading(&mut bench), 1);
    bench.release_one(B);
    bench.settle();
    assert_eq!(reading(&mut bench), 1 + limits::SCAN_READS_AT_ONCE);
    bench.host(B).slow_disk = false;
    bench.release_disk(B);
    let Ok(Reply::Scan(page)) = answer(&mut bench, op) else { panic!("no page") };
    assert_eq!(shown(&page), pairs[..most]);
    let after = page.resume.expect("there are more");
    let page = page_of(&mut bench, C, |scan| scan.after = after);
    assert_eq!((shown(&page), page.resume), (pairs[most..].to_vec(), None));
    // They are decided everywhere now.
    bench.seen.clear();
    assert_eq!(scan(&mut bench, B), pairs);
    assert_eq!(count(&bench, |_| true), 0);
}

/// A page of keys that C has missed, whose reads B keeps waiting.
fn reading(bench: &mut Bench) -> OpId {
    lose(bench, C);
    fill(bench, 20);
    begin_again(bench, C);
    lose(bench, A);
    bench.host(B).slow_disk = true;
    let op = bench.ask(C, asked(|_| ()));
    bench.release_one(B);
    bench.settle();
    op
}

#[test]
fn reads_end_with_their_page() {
    let mut bench = jobs(3);
    let op = reading(&mut bench);
    let open = |bench: &mut Bench| bench.host(C).node.as_ref().unwrap().operations.len();
    assert!(open(&mut bench) > 1);
    bench.event(C, Event::Abandon { op });
    assert_eq!(open(&mut bench), 0);
    // One whose read fails says why.
    let mut bench = jobs(3);
    let op = reading(&mut bench);
    bench.pass(Duration::from_millis(1_100));
    let error = bench.reply(op).expect("its time is over").unwrap_err();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded, "{error}");
    assert_eq!(open(&mut bench), 0);
}

#[test]
fn a_key_of_a_unit_that_moves_is_read_by_itself() {
    let looks = || {
        let mut moving = Moving::of(jobs(5), "jobs");
        let op = moving.bench.ask(NodeId(1), put_in("jobs", "k", "v"));
        assert!(moving.succeeds(op));
        moving.begin();
        (1..=5).for_each(|id| moving.install(NodeId(id)));
        moving.bench.pass(ms(100));
        moving.bench.seen.clear();
        assert_eq!(scan(&mut moving.bench, NodeId(1)), [pair("k", "v")]);
        count(&moving.bench, |task| matches!(task, RegisterTask::Look))
    };
    assert!(looks() > 0);
    let _armed = arm_mutant("scan-of-moving-unit-decides");
    assert_eq!(looks(), 0);
}
