//! Copies: round trips, and foreign bytes that must never do more than fail.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::copy::{copy_from_wire, copy_to_wire};
use super::proto::peer as pb;
use crate::causality::Acceptor;
use crate::message::{
    CopyAsk, CopyChunk, CopyContent, CopyEntry, CopyFile, CopyLeaves, CopyMark, CopyMessage,
    CopyPage, CopyPlace, CopyRecord, CopyRefusal, CopyStretch, CopyWhat, RoundId,
};
use crate::repair::tree::{Place, Print, Range, Sum};
use crate::types::{ClassId, Epoch, Key, Partition, Record, Stamp, TableId, Unit, Value, WallTime};

fn place() -> impl Strategy<Value = CopyPlace> {
    (any::<u32>(), vec(any::<u8>(), 1..20))
        .prop_map(|(table, key)| CopyPlace { table: TableId(table), key: Key::new(key).unwrap() })
}

fn places() -> impl Strategy<Value = Vec<CopyPlace>> {
    proptest::collection::btree_set(place(), 1..6).prop_map(|places| places.into_iter().collect())
}

/// Where a range may begin or end.
fn bound() -> impl Strategy<Value = Place> {
    let edge = any::<u32>().prop_map(|table| Place::edge(TableId(table)));
    prop_oneof![Just(Place::first()), edge, place().prop_map(|place| place.place())]
}

fn range() -> impl Strategy<Value = Range> {
    (bound(), option::of(bound())).prop_map(|(from, to)| {
        let to = to.filter(|to| *to > from);
        Range { from, to }
    })
}

fn leaves() -> impl Strategy<Value = CopyContent> {
    let leaves = proptest::collection::btree_map(bound(), any::<(u32, [u8; 16])>(), 0..6);
    (leaves, option::of(place())).prop_map(|(leaves, end)| {
        let sum =
            |(count, print): (u32, _)| Sum { count: count.into(), print: Print::from_bytes(print) };
        let leaves: Vec<_> = leaves.into_iter().map(|(from, it)| (from, sum(it))).collect();
        let end = end.map(|end| end.place());
        let end = end.filter(|end| leaves.last().is_none_or(|(last, _)| last < end));
        CopyContent::Leaves(CopyLeaves { leaves, end })
    })
}

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<[u8; 16]>().prop_map(Stamp::from_bytes)
}

fn record() -> impl Strategy<Value = CopyRecord> {
    let version = (stamp(), option::of(any::<u64>()), option::of(vec(any::<u8>(), 0..50)));
    let version = version.prop_map(|(stamp, expiry, value)| {
        let value = value.map(|value| Value::new(value).unwrap());
        CopyRecord::Version(Record { stamp, expiry: expiry.map(WallTime), value })
    });
    let acceptor = stamp().prop_map(|ballot| {
        let mut acceptor = Acceptor::default();
        acceptor.promise(ballot).unwrap();
        CopyRecord::Register(acceptor)
    });
    prop_oneof![version, acceptor]
}

fn message() -> impl Strategy<Value = CopyMessage> {
    let round = any::<(u64, u32)>().prop_map(|(op, round)| RoundId { op, round });
    let what = prop_oneof![
        option::of(place()).prop_map(CopyWhat::All),
        (range(), option::of(place()))
            .prop_map(|(range, after)| CopyWhat::Marks(CopyStretch { range, after })),
        (bound(), option::of(place())).prop_map(|(from, after)| CopyWhat::Leaves(from, after)),
        places().prop_map(CopyWhat::Keys),
        Just(CopyWhat::Files),
        Just(CopyWhat::Ended),
        any::<u64>().prop_map(|offset| CopyWhat::Chunk("12.sst".to_owned(), offset)),
    ];
    let ask = (round.clone(), any::<(u16, u16, u64, u64)>(), what).prop_map(
        |(round, (class, partition, entry, changed_at), what)| {
            let unit = Unit { class: ClassId(class), partition: Partition(partition) };
            let (entry, changed_at) = (Epoch(entry), Epoch(changed_at));
            CopyMessage::Ask(CopyAsk { round, unit, entry, changed_at, what })
        },
    );
    let records = (places(), record()).prop_map(|(places, record)| {
        let entry = |place| CopyEntry { place, record: record.clone() };
        CopyContent::Records(places.into_iter().map(entry).collect())
    });
    let marks = (places(), stamp(), any::<u128>()).prop_map(|(places, stamp, print)| {
        let mark = |place| CopyMark { place, stamp, print };
        CopyContent::Marks(places.into_iter().map(mark).collect())
    });
    let chunk = (vec(any::<u8>(), 0..50), any::<u64>())
        .prop_map(|(bytes, sum)| CopyContent::Chunk(CopyChunk { bytes: bytes.into(), sum }));
    let files = proptest::collection::btree_map(0..99_u8, 1..=u64::MAX, 0..5);
    let files = files.prop_map(|files| {
        let file = |(number, bytes)| CopyFile { name: format!("{number}-a_b.blob"), bytes };
        CopyContent::Files(files.into_iter().map(file).collect())
    });
    let content = prop_oneof![records, marks, leaves(), chunk, files];
    let page = (round.clone(), content, option::of(place()), 0..9_u16);
    let page = page.prop_map(|(round, content, next, part)| {
        let page = CopyPage { content, next };
        let floor = Stamp { time: WallTime(part.into()), ..Stamp::ZERO };
        CopyMessage::Page { round, part, parts: part + 1, floor, agreed: floor, page }
    });
    let why = prop_oneof![
        Just(CopyRefusal::Incomplete),
        Just(CopyRefusal::NotAcknowledged),
        Just(CopyRefusal::OtherEntry),
        Just(CopyRefusal::Fenced),
        Just(CopyRefusal::Busy),
        Just(CopyRefusal::Gone),
    ];
    let refused = (round, why).prop_map(|(round, why)| CopyMessage::Refused { round, why });
    prop_oneof![ask, page, refused]
}

proptest! {
    #[test]
    fn copies_read_back(message in message()) {
        prop_assert_eq!(copy_from_wire(copy_to_wire(message.clone())), Ok(message));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(message) = pb::Copy::decode(bytes.as_slice()) {
            let _told = copy_from_wire(message);
        }
    }
}

#[test]
fn what_is_out_of_order_or_out_of_bounds_is_refused() {
    let round = Some(pb::Round { op: 1, round: 1 });
    let of = |body| copy_from_wire(pb::Copy { round, body: Some(body) });
    let page = pb::copy::Page { part: 1, parts: 1, ..pb::copy::Page::default() };
    assert!(of(pb::copy::Body::Page(page)).is_err());
    assert!(of(pb::copy::Body::Refused(0)).is_err() && of(pb::copy::Body::Refused(77)).is_err());
    let key = |text: &'static str| pb::CopyPlace { table: 1, key: text.into() };
    let keys = |places| {
        let keys = pb::copy::ask::What::Keys(pb::copy::Keys { places });
        let unit = Some(pb::Unit { class: 0, partition: 0 });
        of(pb::copy::Body::Ask(pb::copy::Ask { unit, what: Some(keys), ..Default::default() }))
    };
    assert!(keys(vec![key("a"), key("b")]).is_ok());
    assert!(keys(vec![key("b"), key("a")]).is_err());
    assert!(keys(Vec::new()).is_err());
    for name in ["../x.sst", "", ".sst", "a/b.sst", "x.log", "a.b.sst", "LOCK", "x.sst\0"] {
        assert!(!CopyFile::is_name(name), "{name:?}");
    }
    assert!(CopyFile::is_name("000012.sst") && CopyFile::is_name("7.blob"));
    let file = |name: &str, bytes| pb::copy::File { name: name.to_owned(), bytes };
    let files = |files: Vec<pb::copy::File>| {
        let files = Some(pb::copy::Files { files });
        let page = pb::copy::Page { parts: 1, files, ..pb::copy::Page::default() };
        of(pb::copy::Body::Page(page))
    };
    assert!(files(vec![file("1.sst", 1), file("2.sst", 1)]).is_ok());
    assert!(files(vec![file("1.sst", 1), file("1.sst", 1)]).is_err());
    assert!(files(vec![file("1.sst", 0)]).is_err() && files(vec![file("../1.sst", 1)]).is_err());
}

#[test]
fn leaves_and_ranges_that_cannot_be_are_refused() {
    let round = Some(pb::Round { op: 1, round: 1 });
    let of = |body| copy_from_wire(pb::Copy { round, body: Some(body) });
    let marks = |all: pb::copy::Everything| {
        let what = Some(pb::copy::ask::What::Marks(all));
        let unit = Some(pb::Unit { class: 0, partition: 0 });
        of(pb::copy::Body::Ask(pb::copy::Ask { unit, what, ..Default::default() }))
    };
    let everything = |range: &'static [u8], leaves: Option<&'static [u8]>| pb::copy::Everything {
        range: range.into(),
        leaves: leaves.map(Into::into),
        after: None,
    };
    // A range from table 1 on, up to table 2 or to the end; leaves from the beginning on.
    let (to_two, open) = (&[0, 4, 0, 0, 0, 1, 1, 3, 1, 2], &[0, 4, 0, 0, 0, 1, 0]);
    assert!(marks(everything(to_two, None)).is_ok() && marks(everything(open, None)).is_ok());
    assert!(marks(everything(&[], Some(&[0, 0]))).is_ok());
    let backwards = &[0, 4, 0, 0, 0, 2, 1, 3, 1, 1];
    let longer = &[0, 4, 0, 0, 0, 1, 0, 0];
    for range in [&backwards[..], longer, &[0, 2, 0, 0, 0], &[0, 4, 0, 0, 0, 1, 7], &[9]] {
        assert!(marks(everything(range, None)).is_err(), "{range:?}");
    }
    assert!(marks(everything(open, Some(&[0, 0]))).is_err());
    assert!(marks(everything(&[], Some(&[]))).is_err());
    let leaves = |leaves: &[u8], end: Option<&'static [u8]>| {
        let leaves = pb::copy::Leaves { leaves: leaves.to_vec().into(), end: end.map(Into::into) };
        let page = pb::copy::Page { parts: 1, leaves: Some(leaves), ..Default::default() };
        of(pb::copy::Body::Page(page))
    };
    let leaf = |table: u8| [&[0, 4, 0, 0, 0, table, 5][..], &[7; 16]].concat();
    let again = |table: u8| [&[3, 1, table, 5][..], &[7; 16]].concat();
    let both = [leaf(1), again(2)].concat();
    assert!(leaves(&both, None).is_ok() && leaves(&[], None).is_ok());
    assert!(leaves(&both, Some(&[0, 4, 0, 0, 0, 3])).is_ok());
    assert!(leaves(&both, Some(&[0, 4, 0, 0, 0, 2])).is_err(), "the last one is empty");
    assert!(leaves(&[], Some(&[0, 0])).is_err(), "nothing, and then more");
    assert!(leaves(&[leaf(2), again(1)].concat(), None).is_err(), "not in order");
    assert!(leaves(&both[..20], None).is_err());
    let many = [&[0, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..]];
    assert!(leaves(&[&many.concat()[..], &[7; 16]].concat(), None).is_err(), "too many entries");
}
