//! Batches: writes of one unit that are made together or not at all.

use core::time::Duration;

use super::bench::{Bench, get, put};
use crate::message::{
    Applied, Batch, BatchItem, ClientBody, ErrorCode, Event, OpError, PeerMessage, PutReply, Reply,
    TimeToLive,
};
use crate::testing::arm_mutant;
use crate::types::{Key, NodeId, Stamp, TableKind, Value, limits};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn item(key: &str, value: Option<&str>) -> BatchItem {
    BatchItem {
        key: Key::new(key.to_owned()).unwrap(),
        value: value.map(|value| Value::new(value.to_owned()).unwrap()),
        ttl: TimeToLive::Table,
    }
}

fn batch_in(table: &str, items: Vec<BatchItem>) -> ClientBody {
    let table = table.to_owned().try_into().unwrap();
    ClientBody::Batch(Box::new(Batch { table, items, w: None, attempt: Default::default() }))
}

fn batch(items: &[(&str, Option<&str>)]) -> ClientBody {
    batch_in("default", items.iter().map(|(key, value)| item(key, *value)).collect())
}

fn done(bench: &mut Bench, at: NodeId, body: ClientBody) -> Result<PutReply, OpError> {
    let op = bench.ask(at, body);
    match bench.reply(op).expect("an answer")? {
        Reply::Put(reply) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

/// What a node holds: each key, with its stamp and its value.
fn held(bench: &mut Bench, at: NodeId) -> Vec<(String, Stamp, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let data = bench.host(at).disk.data.iter();
    data.map(|((_, _, key), record)| {
        let value = record.value.as_ref().map(|value| text(value.as_bytes()));
        (text(key.as_bytes()), record.stamp, value)
    })
    .collect()
}

#[test]
fn a_batch_is_one_question_to_each_owner_under_one_stamp() {
    let mut bench = Bench::serving(3);
    bench.seen.clear();
    let reply =
        done(&mut bench, A, batch(&[("{t}a", Some("1")), ("{t}b", Some("2")), ("{t}c", None)]));
    let stamp = reply.unwrap().receipt.stamp;
    let writes = bench.seen.iter().filter(|(.., message)| matches!(message, PeerMessage::Write(_)));
    assert_eq!(writes.count(), 2, "one to each of the others");
    for id in [A, B, C] {
        let all = held(&mut bench, id);
        assert!(all.iter().all(|(_, of, _)| *of == stamp), "{all:?}");
        let values: Vec<_> = all.iter().map(|(_, _, value)| value.as_deref()).collect();
        assert_eq!(values, [Some("1"), Some("2"), None]);
    }
}

#[test]
fn a_later_version_of_any_key_has_the_whole_batch_stamped_again() {
    let wins = || {
        let mut bench = Bench::serving(3);
        bench.host(B).wall_offset_ms = -400;
        // B hears nothing of the put: its clock cannot know.
        bench.cut.insert((A, B));
        let first = done(&mut bench, A, put("{t}b", "first")).unwrap().receipt.stamp;
        bench.cut.clear();
        let items = [("{t}a", Some("2")), ("{t}b", Some("2")), ("{t}c", Some("2"))];
        let second = done(&mut bench, B, batch(&items)).unwrap().receipt.stamp;
        for id in [A, C] {
            let all = held(&mut bench, id);
            let whole = all.iter().all(|(_, of, _)| *of == second);
            assert_eq!(whole, second > first, "{all:?}");
        }
        second > first
    };
    assert!(wins());
    let _armed = arm_mutant("no-restamp");
    assert!(!wins());
}

/// An owner that hears nothing of the first question is asked again; what it has then.
fn of_one_that_is_asked_again() -> usize {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, B), (A, C)]);
    let op = bench.ask(A, batch(&[("{t}a", Some("1")), ("{t}b", Some("2"))]));
    bench.cut.clear();
    bench.pass(Duration::from_millis(500));
    assert!(bench.reply(op).unwrap().is_ok());
    held(&mut bench, B).len()
}

#[test]
fn an_owner_that_is_asked_again_is_asked_for_all_of_it() {
    assert_eq!(of_one_that_is_asked_again(), 2);
    let _armed = arm_mutant("batch-acks-part");
    assert_eq!(of_one_that_is_asked_again(), 1);
}

#[test]
fn a_batch_that_cannot_be_made_says_so_as_a_whole() {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, B), (A, C)]);
    let op = bench.ask(A, batch(&[("{t}a", Some("1")), ("{t}b", Some("2"))]));
    bench.event(A, Event::Unreachable { peer: B });
    bench.event(A, Event::Unreachable { peer: C });
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::QuorumNotReached, Applied::Unknown));
    // What one owner took is whole.
    assert_eq!((held(&mut bench, A).len(), held(&mut bench, B).len()), (2, 0));
}

#[test]
fn what_an_owner_missed_is_kept_for_it_and_comes_home() {
    let mut bench = Bench::serving(3);
    bench.stop(C);
    for id in [A, B] {
        bench.event(id, Event::Unreachable { peer: C });
    }
    done(&mut bench, A, batch(&[("{t}a", Some("1")), ("{t}b", None)])).unwrap();
    bench.pass(Duration::from_secs(2));
    bench.start(C);
    bench.pass(Duration::from_secs(20));
    assert_eq!(held(&mut bench, C), held(&mut bench, A));
    assert_eq!(held(&mut bench, C).len(), 2);
}

#[test]
fn what_is_none_is_refused_and_nothing_of_it_is_made() {
    let mut bench = Bench::serving(3);
    let many: Vec<BatchItem> =
        (0..=limits::BATCH_ITEMS_MAX).map(|at| item(&format!("{{t}}{at}"), None)).collect();
    let large: Vec<BatchItem> = (0..5)
        .map(|at| BatchItem {
            value: Value::new(vec![0; limits::VALUE_BYTES_MAX]).ok(),
            ..item(&format!("{{t}}{at}"), None)
        })
        .collect();
    let cases = [
        (batch(&[]), ErrorCode::RequestMalformed, None),
        (batch(&[("{t}a", None), ("{t}a", None)]), ErrorCode::RequestMalformed, None),
        (batch(&[("{t}a", None), ("{u}a", None)]), ErrorCode::RequestMalformed, None),
        (batch_in("default", many), ErrorCode::BatchTooLarge, Some(limits::BATCH_ITEMS_MAX)),
        (batch_in("default", large), ErrorCode::BatchTooLarge, Some(limits::BATCH_BYTES_MAX)),
    ];
    for (body, code, limit) in cases {
        let error = done(&mut bench, A, body).unwrap_err();
        assert_eq!((error.code, error.applied), (code, Applied::No));
        assert_eq!(error.facts.limit, limit.map(|limit| limit as u64));
    }
    assert!(held(&mut bench, A).is_empty());
}

#[test]
fn tables_of_other_kinds_refuse_it_with_the_reason() {
    for (kind, why) in
        [(TableKind::Causal, "one owner holds"), (TableKind::Linearizable, "consensus")]
    {
        let mut bench = Bench::serving(3);
        let op = bench.begin_admin(A, super::tables::create("other", kind));
        bench.pass(Duration::from_secs(2));
        bench.reply(op).unwrap().unwrap();
        let items = vec![item("{t}a", Some("1")), item("{t}b", Some("2"))];
        let error = done(&mut bench, A, batch_in("other", items)).unwrap_err();
        assert_eq!(error.code, ErrorCode::KindMismatch);
        assert!(error.message.contains(why), "{}", error.message);
    }
}

#[test]
fn it_is_read_like_anything_else() {
    let mut bench = Bench::serving(3);
    done(&mut bench, B, batch(&[("{t}a", Some("1")), ("{t}b", Some("2"))])).unwrap();
    for (key, value) in [("{t}a", "1"), ("{t}b", "2")] {
        let op = bench.ask(C, get(key, None));
        let Some(Ok(Reply::Get(found))) = bench.reply(op) else { panic!("no answer") };
        let found = found.record.unwrap().value.unwrap();
        assert_eq!(found.as_bytes(), value.as_bytes());
    }
}
