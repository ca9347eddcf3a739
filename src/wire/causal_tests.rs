//! Messages about causal tables survive the wire; foreign ones are errors.

use core::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::peer;
use super::proto::peer as pb;
use crate::causality::{Actor, CausalContext, Dot, Payload, SiblingSet, Tick, Write};
use crate::message::{
    Applied, Attempt, CausalMessage, CausalPut, CausalReply, ErrorCode, KeyPlace, OpError,
    PeerMessage, Receipt, Refusal, RoundId,
};
use crate::types::{
    ClassId, Epoch, Key, NodeId, Partition, RequestId, Stamp, TableId, Tenure, TraceId, Unit,
    Value, WallTime, limits,
};

fn dot() -> impl Strategy<Value = Dot> {
    (0..3u32, 0..2u64, 1..9u64, 0..3u32).prop_map(|(node, tenure, time, counter)| Dot {
        actor: Actor { node: NodeId(node), tenure: Tenure(tenure) },
        tick: Tick { time: WallTime(time), counter },
    })
}

fn set() -> impl Strategy<Value = SiblingSet> {
    let writes = proptest::collection::btree_map(dot(), any::<(u128, Option<u64>)>(), 0..4);
    (writes, proptest::collection::vec(dot(), 0..3)).prop_map(|(writes, marks)| {
        let marks = marks.into_iter().map(|dot| (dot.actor, dot.tick));
        let context = CausalContext::new(marks, writes.keys().copied());
        let write = |(dot, (id, expiry)): (Dot, (u128, Option<u64>))| {
            let value = Value::new(id.to_string()).unwrap();
            let payload = Payload::Here(value);
            (dot, Write { id: RequestId(id), expiry: expiry.map(WallTime), payload })
        };
        SiblingSet::new(context, writes.into_iter().map(write)).unwrap()
    })
}

fn place() -> impl Strategy<Value = KeyPlace> {
    any::<(u16, u16, u64, u32, u8)>().prop_map(|(class, partition, epoch, table, key)| KeyPlace {
        unit: Unit { class: ClassId(class), partition: Partition(partition) },
        changed_at: Epoch(epoch),
        table: TableId(table),
        key: Key::new(vec![key]).unwrap(),
    })
}

fn round() -> impl Strategy<Value = RoundId> {
    any::<(u64, u32)>().prop_map(|(op, round)| RoundId { op, round })
}

fn remaining() -> impl Strategy<Value = Duration> {
    (0..60_000_000_u64).prop_map(Duration::from_micros)
}

fn owner() -> impl Strategy<Value = Option<NodeId>> {
    proptest::option::of((1..=u32::MAX).prop_map(NodeId))
}

fn put() -> impl Strategy<Value = CausalPut> {
    let seen = proptest::option::of(set().prop_map(|set| set.context().clone()));
    let window = any::<(u128, u32, u64, Option<u64>)>();
    (any::<Option<Vec<u8>>>(), seen, window, any::<(u8, bool, bool, Option<u16>, u128)>()).prop_map(
        |(value, seen, (id, number, lower, upper), (w, sloppy, weak, ttl, trace))| CausalPut {
            // An increment has neither a value nor a context.
            add: (value.is_none() && seen.is_none())
                .then_some(lower.cast_signed())
                .filter(|_| weak),
            value: value.map(|value| Value::new(value).unwrap()),
            seen,
            attempt: Attempt {
                id: RequestId(id),
                number,
                lower: WallTime(lower),
                upper: upper.map(WallTime),
                since: WallTime(0),
            },
            w,
            sloppy,
            weak,
            ttl: ttl.map(|ms| Duration::from_millis(ms.into())),
            trace: TraceId(trace),
        },
    )
}

fn reply() -> impl Strategy<Value = CausalReply> {
    any::<([u8; 16], (u16, u16), u8, bool, u64, u32, Vec<u8>)>().prop_map(
        |(stamp, (answered, stand_ins), n, weak, time, count, context)| CausalReply {
            wrote: true,
            siblings: Vec::new(),
            count,
            counter: weak.then_some(time.cast_signed()),
            context: context.into(),
            receipt: Receipt {
                epoch: Epoch(time),
                stamp: Stamp::from_bytes(stamp),
                answered,
                stand_ins,
                many_siblings: count >= limits::SIBLINGS_WARN,
                n,
                needed: n,
                weak,
                repaired: false,
                server_time: WallTime(time),
                trace: TraceId(7),
                ..Receipt::default()
            },
        },
    )
}

fn message() -> impl Strategy<Value = CausalMessage> {
    let error = || {
        Just(Box::new(OpError::new(ErrorCode::SiblingLimit, "why").with_applied(Applied::Unknown)))
    };
    prop_oneof![
        (round(), place(), owner(), put(), remaining()).prop_map(
            |(round, place, hint_for, put, remaining)| {
                CausalMessage::Put { round, place, hint_for, put: Box::new(put), remaining }
            }
        ),
        (round(), prop::result::maybe_err(reply().prop_map(Box::new), error()))
            .prop_map(|(round, result)| CausalMessage::PutAnswer { round, result }),
        (round(), place(), owner(), set(), remaining()).prop_map(
            |(round, place, hint_for, set, remaining)| {
                CausalMessage::Merge { round, place, hint_for, set, remaining }
            }
        ),
        (round(), any::<bool>()).prop_map(|(round, good)| CausalMessage::MergeAnswer {
            round,
            result: if good { Ok(()) } else { Err(Refusal::DiskFull) },
        }),
        (round(), place(), owner(), remaining()).prop_map(|(round, place, hint_for, remaining)| {
            CausalMessage::Read { round, place, hint_for, remaining }
        }),
        (round(), any::<(u8, u8)>(), prop::result::maybe_err(set(), Just(Refusal::NotOwner)))
            .prop_map(|(round, (piece, pieces), result)| CausalMessage::ReadAnswer {
                round,
                piece,
                pieces,
                result
            }),
    ]
}

proptest! {
    #[test]
    fn messages_about_causal_tables_survive_the_wire(message in message()) {
        let message = PeerMessage::Causal(Box::new(message));
        let bytes = peer::message_to_wire(message.clone()).encode_to_vec();
        let op = pb::Op::decode(Bytes::from(bytes)).unwrap();
        prop_assert_eq!(peer::message_from_wire(op).unwrap(), message);
    }

    #[test]
    fn a_damaged_one_never_panics(
        message in message(), at: prop::sample::Index, bit in 0..8_u32,
    ) {
        let message = PeerMessage::Causal(Box::new(message));
        let mut bytes = peer::message_to_wire(message).encode_to_vec();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let Ok(op) = pb::Op::decode(Bytes::from(bytes)) {
            let _ = peer::message_from_wire(op);
        }
    }
}
