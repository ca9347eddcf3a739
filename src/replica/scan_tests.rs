//! Cursors over a real store: a scan that goes on with one shows what pages read one by one do.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Replica;
use crate::message::{
    CursorName, CursorUse, DiskAnswer, DiskError, DiskRequest, FloorChange, FloorDisk, RangePage,
};
use crate::storage::vfs::MemoryVfs;
use crate::storage::{Options, ThreadMode};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Key, NodeId, Partition, Record, Stamp, TableId, Time, Unit, Value, WallTime,
};

const NAME: CursorName = CursorName { coordinator: NodeId(2), scan: 7 };

fn fresh() -> Replica {
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    Replica::open(Arc::new(MemoryVfs::default()), Path::new("data"), options).unwrap().0
}

fn run(replica: &Replica, request: DiskRequest) -> Result<DiskAnswer, DiskError> {
    let slot = Arc::new(Mutex::new(None));
    let filled = slot.clone();
    replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
    while slot.lock().is_none() {
        assert!(replica.step(), "nothing left to do");
    }
    let outcome = slot.lock().take();
    outcome.unwrap()
}

fn unit(partition: u16) -> Unit {
    Unit { class: ClassId(0), partition: Partition(partition) }
}

fn at(time: u64) -> Stamp {
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn write(replica: &Replica, number: u16, time: u64, value: Option<&str>) {
    let value = value.map(|value| Value::new(value.to_owned()).unwrap());
    let record = Record { stamp: at(time), expiry: None, value };
    let key = Key::new(format!("k{number:03}")).unwrap();
    let (unit, table) = (unit(number % 8), TableId(1));
    run(replica, DiskRequest::Write { unit, table, key, record }).unwrap();
}

fn page(
    replica: &Replica,
    (after, limit, reverse): (&str, u32, bool),
    cursor: Option<CursorUse>,
) -> RangePage {
    let units = Arc::new((0..8).map(unit).collect::<Vec<_>>());
    let (prefix, after) = (Bytes::from("k"), Bytes::from(after.to_owned()));
    let (table, keys_only, deadline) = (TableId(1), false, Time(u64::MAX));
    let request = DiskRequest::Range {
        units,
        table,
        prefix,
        after,
        limit,
        keys_only,
        reverse,
        cursor,
        durable: false,
        deadline,
    };
    let Ok(DiskAnswer::Range(page)) = run(replica, request) else { panic!("no page") };
    page
}

fn text(key: &Key) -> String {
    String::from_utf8(key.as_bytes().to_vec()).unwrap()
}

/// Reads on to the end. Of each page only the first `used` entries are taken, as one does who merges.
fn walk(replica: &Replica, used: usize, reverse: bool) -> Vec<String> {
    let (mut keys, mut after, mut fresh) = (Vec::new(), String::new(), true);
    loop {
        let cursor = Some(CursorUse { name: NAME, fresh });
        let page = page(replica, (&after, 7, reverse), cursor);
        fresh = false;
        let is_last = page.complete && page.entries.len() <= used;
        keys.extend(page.entries.iter().take(used).map(|(key, _)| text(key)));
        if is_last || keys.len() > 1000 || page.entries.is_empty() {
            return keys;
        }
        after = keys.last().cloned().unwrap_or_default();
    }
}

fn filled() -> (Replica, Vec<String>) {
    let replica = fresh();
    for number in 0..100 {
        write(&replica, number, 1, Some("old"));
        if number == 60 {
            run(&replica, DiskRequest::Flush).unwrap();
        }
    }
    (replica, (0..100).map(|number| format!("k{number:03}")).collect())
}

#[test]
fn a_scan_with_a_cursor_shows_each_key_once_wherever_pages_are_cut() {
    let (replica, expected) = filled();
    let back: Vec<String> = expected.iter().rev().cloned().collect();
    for used in [7, 6, 3, 1] {
        assert_eq!(walk(&replica, used, false), expected, "{used} of each page");
        assert_eq!(walk(&replica, used, true), back, "{used} of each page, in reverse");
    }
    assert_eq!(replica.shared.cursors.count(), 0, "one at its end is closed");
    let _armed = arm_mutant("cursor-skips-back");
    assert_ne!(walk(&replica, 3, false), expected);
}

#[test]
fn a_cursor_that_is_gone_costs_no_key() {
    let (replica, expected) = filled();
    let read = || {
        let (mut keys, mut after, mut fresh) = (Vec::new(), String::new(), true);
        loop {
            let cursor = Some(CursorUse { name: NAME, fresh });
            let page = page(&replica, (&after, 7, false), cursor);
            fresh = false;
            keys.extend(page.entries.iter().map(|(key, _)| text(key)));
            if page.complete {
                return keys;
            }
            after = keys.last().cloned().unwrap();
            run(&replica, DiskRequest::EndCursors(vec![NAME])).unwrap();
        }
    };
    assert_eq!(read(), expected);
    let _armed = arm_mutant("cursor-lost-ends-scan");
    assert_ne!(read(), expected);
}

#[test]
fn a_cursor_shows_what_was_there_when_it_was_opened_and_a_fresh_one_what_is_there() {
    let (replica, _) = filled();
    let first = page(&replica, ("", 7, false), Some(CursorUse { name: NAME, fresh: true }));
    assert_eq!(text(&first.entries[6].0), "k006");
    write(&replica, 50, 2, Some("new"));
    let value = |fresh| {
        let name = NAME;
        let page = page(&replica, ("k006", 90, false), Some(CursorUse { name, fresh }));
        let found = page.entries.iter().find(|(key, _)| text(key) == "k050");
        found.unwrap().1.value.clone().unwrap().into_bytes()
    };
    assert_eq!((&value(false)[..], &value(true)[..]), (&b"old"[..], &b"new"[..]));
    // Another question under the same name is not answered with it.
    let cursor = Some(CursorUse { name: NAME, fresh: false });
    let other = page(&replica, ("k006", 90, true), cursor);
    assert_eq!(text(&other.entries[0].0), "k005");
}

#[test]
fn what_a_floor_has_passed_is_not_shown_out_of_an_older_cursor() {
    let shows = || {
        let (replica, _) = filled();
        let cursor = |fresh| Some(CursorUse { name: NAME, fresh });
        page(&replica, ("", 7, false), cursor(true));
        // Deleted, known to be so by all, and forgotten.
        write(&replica, 50, 5, None);
        for change in [FloorChange::Close(at(9)), FloorChange::Raise(at(9))] {
            let change = FloorDisk::Change(vec![(unit(50 % 8), change)]);
            let request = DiskRequest::Floor(Box::new(change));
            assert!(matches!(run(&replica, request), Ok(DiskAnswer::Floor(_))));
        }
        let page = page(&replica, ("k006", 90, false), cursor(false));
        let (_, record) = page.entries.iter().find(|(key, _)| text(key) == "k050").unwrap();
        (page.entries.len(), record.value.is_some())
    };
    assert_eq!(shows(), (90, false));
    let _armed = arm_mutant("cursor-survives-floor");
    assert_eq!(shows(), (90, true));
}

/// Units are merged by some bytes of their keys behind the prefix: keys that are alike there, or end there, or go
/// on with zeros, come in order all the same, in both directions; and so do many of one unit, which are read ahead.
#[test]
fn keys_that_begin_alike_come_in_order() {
    let replica = fresh();
    let alike = "k0123456789abcdef";
    let mut keys: Vec<String> =
        ["k", "k\0", "k\0\0", "k\0a", "k0", alike].map(str::to_owned).into();
    keys.extend((0..60).map(|number| format!("{alike}{}{number:02}", "\0".repeat(number % 3))));
    for (place, key) in (0..).zip(&keys) {
        let value = Value::new(key.clone()).ok();
        let record = Record { stamp: at(1), expiry: None, value };
        let key = Key::new(key.clone()).unwrap();
        // Most of them of one unit.
        let unit = unit(if place % 3 == 0 { place % 8 } else { 1 });
        run(&replica, DiskRequest::Write { unit, table: TableId(1), key, record }).unwrap();
    }
    keys.sort();
    for reverse in [false, true] {
        if reverse {
            keys.reverse();
        }
        let (mut shown, mut after, mut fresh) = (Vec::new(), String::new(), true);
        loop {
            let cursor = Some(CursorUse { name: NAME, fresh });
            let page = page(&replica, (&after, 7, reverse), cursor);
            let read = page.entries.iter().map(|(key, record)| {
                let value = record.value.as_ref().map(Value::as_bytes);
                assert_eq!(value, Some(key.as_bytes()));
                String::from_utf8(key.as_bytes().to_vec()).unwrap()
            });
            shown.extend(read);
            fresh = false;
            if page.complete {
                break;
            }
            after = shown.last().unwrap().clone();
        }
        assert_eq!(shown, keys, "reverse: {reverse}");
    }
}
