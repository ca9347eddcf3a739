//! Batches, between `message` and the protocols: `proto/kv.proto` and, to owners, `proto/peer.proto`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::message::{
    Batch, BatchItem, ClientBody, ClientRequest, ClientResult, OpError, Put, QuorumMode, Reply,
    TimeToLive, WriteAsk, check_batch_size,
};
use crate::ring::{partition_of, token};
use crate::types::{Key, Partition, Record, Value, WallTime, limits};

use super::Malformed;
use super::client::{
    Call, attempt_from_wire, key_from_wire, malformed, mismatched, quorum_from_wire,
    receipt_to_wire, request, ttl_from_wire, untraced, value_from_wire,
};
use super::error::error_detail;
use super::peer::{key_from_wire as peer_key, required, write_from_wire, write_to_wire};
use super::proto::{peer as peer_pb, v1 as pb};

/// Writes of a batch that share their outcome.
#[derive(Debug)]
pub struct Group {
    /// Their places in the batch.
    pub places: Vec<usize>,
    /// What they are as an operation.
    pub request: ClientRequest,
}

/// A batch, checked, in groups: of an atomic one, by partition, of `partitions`; else each write is a
/// group.
///
/// # Errors
/// The first field that is outside its bounds; [`BatchTooLarge`](crate::message::ErrorCode::BatchTooLarge).
pub fn batch_from_wire(
    call: &Call,
    batch: pb::BatchRequest,
    partitions: u32,
) -> Result<Vec<Group>, OpError> {
    let pb::BatchRequest { header, items, w, attempt, atomic } = batch;
    if items.is_empty() {
        return Err(malformed("items is empty; a batch has at least one write"));
    }
    let size =
        |item: &pb::batch_request::Item| item.key.len() + item.value.as_ref().map_or(0, Bytes::len);
    check_batch_size(items.iter().map(size))?;
    let items: Vec<BatchItem> =
        items.into_iter().enumerate().map(item_from_wire).collect::<Result<_, _>>()?;
    let mut keys = BTreeSet::new();
    if let Some(twice) = items.iter().find(|item| !keys.insert(&item.key)) {
        let key = twice.key.as_bytes().escape_ascii();
        return Err(malformed(format!("key {key} stands twice in the batch")));
    }
    let (w, attempt) = (quorum_from_wire(w, "w")?, attempt_from_wire(attempt)?);
    let of = |items: Vec<BatchItem>| {
        request(call, header.clone(), |table| {
            if atomic {
                return Ok(ClientBody::Batch(Box::new(Batch { table, items, w, attempt })));
            }
            let BatchItem { key, value, ttl } =
                items.into_iter().next().expect("no group is empty");
            let (r, time, mode) = (None, None, QuorumMode::ByTable);
            let (context, traced) = (Bytes::new(), false);
            let put = Put { table, key, value, ttl, w, r, attempt, time, mode, context, traced };
            Ok(ClientBody::Put(put))
        })
    };
    let mut groups: BTreeMap<Slot, (Vec<usize>, Vec<BatchItem>)> = BTreeMap::new();
    for (place, item) in items.into_iter().enumerate() {
        let slot = if atomic {
            Slot::Together(partition_of(token(item.key.as_bytes()), partitions))
        } else {
            Slot::Alone(place)
        };
        let group = groups.entry(slot).or_default();
        group.0.push(place);
        group.1.push(item);
    }
    let group = |(places, items)| Ok(Group { places, request: of(items)? });
    groups.into_values().map(group).collect()
}

/// What makes writes a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Together(Partition),
    Alone(usize),
}

fn item_from_wire((place, item): (usize, pb::batch_request::Item)) -> Result<BatchItem, OpError> {
    let named = |mut error: OpError| {
        error.message = format!("items[{place}]: {}", error.message);
        error
    };
    let read = || {
        if item.value.is_none() && item.ttl_ms.is_some() {
            return Err(malformed("ttl_ms is of a value; this is a delete"));
        }
        let key = key_from_wire(item.key)?;
        let value = item.value.map(value_from_wire).transpose()?;
        let ttl = if value.is_some() { ttl_from_wire(item.ttl_ms)? } else { TimeToLive::Never };
        Ok(BatchItem { key, value, ttl })
    };
    read().map_err(named)
}

/// What became of the groups of a batch of `count` writes, as it travels.
pub fn batch_to_wire(
    count: usize,
    groups: impl Iterator<Item = (Vec<usize>, ClientResult)>,
) -> pb::BatchResponse {
    use pb::batch_response::outcome::Outcome;
    let mut outcomes = vec![pb::batch_response::Outcome::default(); count];
    for (number, (places, result)) in groups.enumerate() {
        let outcome = match result.map(|reply| untraced(reply).0) {
            Ok(Reply::Put(reply)) => Outcome::Receipt(receipt_to_wire(&reply.receipt)),
            Ok(Reply::Causal(reply)) => Outcome::Receipt(receipt_to_wire(&reply.receipt)),
            Ok(_) => Outcome::Error(error_detail(&mismatched())),
            Err(error) => Outcome::Error(error_detail(&error)),
        };
        let group = u32::try_from(number).unwrap_or(u32::MAX);
        for place in places {
            if let Some(slot) = outcomes.get_mut(place) {
                slot.outcome = Some(outcome.clone());
                slot.group = group;
            }
        }
    }
    pb::BatchResponse { outcomes }
}

/// A question to an owner, with more keys than one.
pub(super) fn together_to_wire(mut ask: WriteAsk) -> peer_pb::WriteTogether {
    let item = |(key, record): (Key, Record)| peer_pb::write_together::Item {
        key: key.bytes().clone(),
        expiry_ns: record.expiry.map_or(0, |at| at.0),
        value: record.value.map(Value::into_bytes),
    };
    let rest = core::mem::take(&mut ask.rest).into_iter().map(item).collect();
    peer_pb::WriteTogether { first: Some(write_to_wire(ask)), rest }
}

/// The same of a peer's, checked.
pub(super) fn together_from_wire(ask: peer_pb::WriteTogether) -> Result<WriteAsk, Malformed> {
    let mut first = write_from_wire(required(ask.first, "first")?)?;
    let count = ask.rest.len() + 1;
    if !(2..=limits::BATCH_ITEMS_MAX).contains(&count) || first.hint_for.is_some() {
        return Err(Malformed::new(format!("a batch of {count} writes, or for custody")));
    }
    let stamp = first.record.stamp;
    let item = |item: peer_pb::write_together::Item| {
        let value = item.value.map(Value::new).transpose();
        let value = value.map_err(|len| Malformed::new(format!("a value has {len} bytes")))?;
        let expiry = (item.expiry_ns != 0).then_some(WallTime(item.expiry_ns));
        Ok((peer_key(item.key)?, Record { stamp, expiry, value }))
    };
    first.rest = ask.rest.into_iter().map(item).collect::<Result<_, Malformed>>()?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::message::{ErrorCode, Principal, PutReply, Receipt, RoundId};
    use crate::types::{ClassId, Epoch, NodeId, Stamp, TableId, Time, Unit};

    fn call() -> Call {
        Call {
            now: Time(0),
            transport_timeout: None,
            default_timeout: Duration::from_secs(5),
            principal: Principal::Anonymous,
        }
    }

    fn item(key: &str, value: Option<&str>) -> pb::batch_request::Item {
        let (key, value) = (key.to_owned().into(), value.map(|text| text.to_owned().into()));
        pb::batch_request::Item { key, value, ttl_ms: None }
    }

    fn asked(items: Vec<pb::batch_request::Item>, atomic: bool) -> Result<Vec<Group>, OpError> {
        let batch = pb::BatchRequest { items, atomic, ..Default::default() };
        batch_from_wire(&call(), batch, 64)
    }

    #[test]
    fn an_atomic_batch_is_grouped_by_partition_and_another_is_not() {
        let items = || {
            vec![
                item("{a}1", Some("x")),
                item("{b}1", None),
                item("{a}2", None),
                item("{b}2", None),
            ]
        };
        let groups = asked(items(), true).unwrap();
        let mut places: Vec<_> = groups.iter().map(|group| group.places.clone()).collect();
        places.sort();
        assert_eq!(places, [vec![0, 2], vec![1, 3]]);
        for group in groups {
            let ClientBody::Batch(batch) = group.request.body else { panic!("a batch") };
            assert_eq!(batch.items.len(), 2);
        }
        let alone = asked(items(), false).unwrap();
        assert_eq!(alone.len(), 4);
        assert!(alone.iter().all(|group| matches!(group.request.body, ClientBody::Put(_))));
    }

    #[test]
    fn each_field_outside_its_bounds_refuses_all_of_it_and_names_the_item() {
        let many = (0..=limits::BATCH_ITEMS_MAX).map(|at| item(&at.to_string(), None)).collect();
        let large = "v".repeat(limits::VALUE_BYTES_MAX);
        let heavy = (0..5).map(|at| item(&at.to_string(), Some(&large))).collect();
        let ttl = |value, ttl_ms| pb::batch_request::Item { ttl_ms, ..item("k", value) };
        let cases: [(Vec<_>, _, _); 7] = [
            (vec![], ErrorCode::RequestMalformed, "items is empty"),
            (vec![item("a", None), item("", None)], ErrorCode::KeyEmpty, "items[1]"),
            (vec![item("a", None), item("a", None)], ErrorCode::RequestMalformed, "twice"),
            (vec![ttl(None, Some(5000))], ErrorCode::RequestMalformed, "items[0]: ttl_ms"),
            (vec![ttl(Some("v"), Some(1))], ErrorCode::RequestMalformed, "items[0]: ttl_ms"),
            (many, ErrorCode::BatchTooLarge, "257 writes; the limit is 256"),
            (heavy, ErrorCode::BatchTooLarge, "the limit is 4194304"),
        ];
        for (items, code, text) in cases {
            let error = asked(items, true).unwrap_err();
            assert_eq!(error.code, code, "{}", error.message);
            assert!(error.message.contains(text), "{}", error.message);
            assert_eq!(error.facts.limit.is_some(), code == ErrorCode::BatchTooLarge);
        }
    }

    #[test]
    fn all_items_of_a_group_are_told_what_became_of_it() {
        let receipt = Receipt { n: 3, ..Receipt::default() };
        let made = (vec![0, 2], Ok(Reply::Put(PutReply { receipt })));
        let failed = (vec![1], Err(OpError::new(ErrorCode::QuorumNotReached, "two are away")));
        let told = batch_to_wire(3, [made, failed].into_iter()).outcomes;
        use pb::batch_response::outcome::Outcome;
        assert_eq!(told[0], told[2]);
        assert_eq!((told[0].group, told[1].group), (0, 1));
        assert!(matches!(&told[0].outcome, Some(Outcome::Receipt(receipt)) if receipt.n == 3));
        assert!(
            matches!(&told[1].outcome, Some(Outcome::Error(error)) if error.code == "QUORUM_NOT_REACHED")
        );
    }

    #[test]
    fn a_question_to_an_owner_arrives_as_it_left_and_others_are_refused() {
        let stamp = Stamp { time: WallTime(7), counter: 1, node: NodeId(2) };
        let key = |name: &str| Key::new(name.to_owned()).unwrap();
        let value = Value::new("v").ok();
        let rest = vec![
            (key("b"), Record { stamp, expiry: Some(WallTime(99)), value: value.clone() }),
            (key("c"), Record { stamp, expiry: None, value: None }),
        ];
        let ask = WriteAsk {
            round: RoundId { op: 5, round: 2 },
            unit: Unit { class: ClassId(1), partition: Partition(3) },
            changed_at: Epoch(4),
            table: TableId(6),
            key: key("a"),
            record: Record { stamp, expiry: None, value },
            rest,
            fresh: true,
            hint_for: None,
            remaining: Duration::from_millis(70),
        };
        let there = together_from_wire(together_to_wire(ask.clone())).unwrap();
        assert_eq!(there, ask);
        let bad = |change: &dyn Fn(&mut peer_pb::WriteTogether)| {
            let mut travels = together_to_wire(ask.clone());
            change(&mut travels);
            together_from_wire(travels).is_err()
        };
        assert!(bad(&|ask| ask.first = None));
        assert!(bad(&|ask| ask.rest.clear()));
        assert!(bad(&|ask| ask.rest = vec![ask.rest[0].clone(); limits::BATCH_ITEMS_MAX]));
        assert!(bad(&|ask| ask.rest[0].key = Bytes::new()));
        assert!(bad(&|ask| ask.first.as_mut().unwrap().hint_for = 3));
    }
}
