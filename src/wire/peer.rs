//! What nodes say to each other, between `message` and `proto/peer.proto`. Every field of a foreign
//! message is checked here; a message that fails is an error that ends its stream, never a panic.

use bytes::Bytes;
use core::time::Duration;
use std::sync::Arc;

use crate::message::{
    BirthNews, BootRecord, DecreeMessage, FounderNonce, KeyPlace, LifeAnswer, LifeRecord,
    PeerMessage, ReadAnswer, ReadAsk, Refusal, RoundId, ScanAnswer, ScanAsk, ScanPart, WriteAnswer,
    WriteAsk, WriteOutcome,
};
use crate::types::{
    ClassId, Epoch, Key, NodeId, NodeName, Nonce, Partition, Record, Stamp, TableId, Unit, Value,
    WallTime, limits,
};

use super::batch::{together_from_wire, together_to_wire};
use super::causal::{causal_from_wire, causal_to_wire};
use super::consensus::{consensus_from_wire, consensus_to_wire};
use super::copy::{copy_from_wire, copy_to_wire};
use super::decree::{decree_from_wire, decree_to_wire};
use super::floor::{floors_from_wire, floors_to_wire};
use super::gossip::{probe_from_wire, probe_to_wire, sync_from_wire, sync_to_wire};
use super::key_facts::{key_facts_from_wire, key_facts_to_wire};
use super::proto::peer as pb;
use super::repair::{repair_from_wire, repair_to_wire};
use super::state::{state_from_wire, state_to_wire, state_weight};
use super::watch;

/// Why a foreign message is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed peer message: {0}")]
pub struct Malformed(pub String);

impl Malformed {
    pub(super) fn new(what: impl Into<String>) -> Malformed {
        Malformed(what.into())
    }
}

/// A part of a message that must be there.
pub(super) fn required<T>(part: Option<T>, what: &'static str) -> Result<T, Malformed> {
    part.ok_or_else(|| Malformed::new(format!("{what} is missing")))
}

/// Sixteen bytes as a number.
pub(super) fn wide(bytes: &[u8], what: &'static str) -> Result<u128, Malformed> {
    <[u8; 16]>::try_from(bytes)
        .map(u128::from_be_bytes)
        .map_err(|_| Malformed::new(format!("{what} has {} bytes, not 16", bytes.len())))
}

/// A number as sixteen bytes.
pub(super) fn wide_bytes(number: u128) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

pub(super) fn narrow<T: TryFrom<u32>>(number: u32, what: &'static str) -> Result<T, Malformed> {
    T::try_from(number).map_err(|_| Malformed::new(format!("{what} is {number}: too large")))
}

pub(super) fn node_name(text: String) -> Result<NodeName, Malformed> {
    NodeName::try_from(text).map_err(Malformed)
}

/// A message as it travels.
pub fn message_to_wire(message: PeerMessage) -> pb::Op {
    use pb::op::Op;
    let op = match message {
        PeerMessage::Write(ask) if ask.rest.is_empty() => Op::Write(write_to_wire(*ask)),
        PeerMessage::Write(ask) => Op::WriteTogether(together_to_wire(*ask)),
        PeerMessage::WriteAnswer(answer) => Op::WriteAnswer(write_answer_to_wire(answer)),
        PeerMessage::Read(ask) => Op::Read(read_to_wire(*ask)),
        PeerMessage::ReadAnswer(answer) => Op::ReadAnswer(read_answer_to_wire(*answer)),
        PeerMessage::Watch(message) => Op::Watch(watch::message_to_wire(*message)),
        PeerMessage::Scan(ask) => Op::Scan(scan_to_wire(*ask)),
        PeerMessage::ScanAnswer(answer) => Op::ScanAnswer(scan_answer_to_wire(*answer)),
        PeerMessage::ScanEnd(scan) => Op::ScanEnd(pb::ScanEnd { scan }),
        PeerMessage::Probe(probe) => Op::Probe(probe_to_wire(*probe)),
        PeerMessage::ProbeAck(probe) => Op::ProbeAck(probe_to_wire(*probe)),
        PeerMessage::News(probe) => Op::News(probe_to_wire(*probe)),
        PeerMessage::ProbeVia { seq, target } => {
            Op::ProbeVia(pb::ProbeVia { seq, target: target.0 })
        }
        PeerMessage::Vouch { seq, target, heard } => {
            Op::Vouch(pb::Vouch { seq, target: target.0, heard })
        }
        PeerMessage::MemberSync(sync) => Op::MemberSync(sync_to_wire(*sync)),
        PeerMessage::Birth(news) => Op::Birth(birth_to_wire(*news)),
        PeerMessage::Register { epoch, life } => {
            Op::Register(pb::Register { epoch: epoch.0, life: Some(life_to_wire(life)) })
        }
        PeerMessage::Registered { boot, answer } => Op::Registered(pb::Registered {
            boot: Some(boot_to_wire(boot)),
            answer: Some(match answer {
                LifeAnswer::Noted => pb::registered::Answer::Noted(true),
                LifeAnswer::Refused { seen } => pb::registered::Answer::Refused(life_to_wire(seen)),
            }),
        }),
        PeerMessage::StateAsk { epoch } => Op::StateAsk(pb::StateAsk { epoch: epoch.0 }),
        PeerMessage::StateNews(state) => Op::StateNews(state_to_wire(&state)),
        PeerMessage::Decree(message) => Op::Decree(decree_to_wire(*message)),
        PeerMessage::Causal(message) => Op::Causal(causal_to_wire(*message)),
        PeerMessage::Consensus(message) => Op::Consensus(consensus_to_wire(*message)),
        PeerMessage::Explain(message) => Op::Explain(key_facts_to_wire(*message)),
        PeerMessage::Copy(message) => Op::Copy(copy_to_wire(*message)),
        PeerMessage::Repair(message) => Op::Repair(repair_to_wire(*message)),
        PeerMessage::Floors(news) => Op::Floors(floors_to_wire(news)),
    };
    pb::Op { op: Some(op) }
}

/// A foreign message, checked.
///
/// # Errors
/// [`Malformed`]: a part is missing or outside its bounds.
pub fn message_from_wire(op: pb::Op) -> Result<PeerMessage, Malformed> {
    use pb::op::Op;
    Ok(match required(op.op, "op")? {
        Op::Write(ask) => PeerMessage::Write(Box::new(write_from_wire(ask)?)),
        Op::WriteTogether(ask) => PeerMessage::Write(Box::new(together_from_wire(ask)?)),
        Op::WriteAnswer(answer) => PeerMessage::WriteAnswer(write_answer_from_wire(answer)?),
        Op::Read(ask) => PeerMessage::Read(Box::new(read_from_wire(ask)?)),
        Op::ReadAnswer(answer) => PeerMessage::ReadAnswer(Box::new(read_answer_from_wire(answer)?)),
        Op::Watch(message) => PeerMessage::Watch(Box::new(watch::message_from_wire(message)?)),
        Op::Scan(ask) => PeerMessage::Scan(Box::new(scan_from_wire(ask)?)),
        Op::ScanAnswer(answer) => PeerMessage::ScanAnswer(Box::new(scan_answer_from_wire(answer)?)),
        Op::ScanEnd(end) => PeerMessage::ScanEnd(end.scan),
        Op::Probe(probe) => PeerMessage::Probe(Box::new(probe_from_wire(probe)?)),
        Op::ProbeAck(probe) => PeerMessage::ProbeAck(Box::new(probe_from_wire(probe)?)),
        Op::News(probe) => PeerMessage::News(Box::new(probe_from_wire(probe)?)),
        Op::ProbeVia(ask) => PeerMessage::ProbeVia { seq: ask.seq, target: NodeId(ask.target) },
        Op::Vouch(pb::Vouch { seq, target, heard }) => {
            PeerMessage::Vouch { seq, target: NodeId(target), heard }
        }
        Op::MemberSync(sync) => PeerMessage::MemberSync(Box::new(sync_from_wire(sync)?)),
        Op::Birth(news) => PeerMessage::Birth(Box::new(birth_from_wire(news)?)),
        Op::Register(ask) => PeerMessage::Register {
            epoch: Epoch(ask.epoch),
            life: life_from_wire(required(ask.life, "life")?)?,
        },
        Op::Registered(answer) => PeerMessage::Registered {
            boot: boot_from_wire(required(answer.boot, "boot")?)?,
            answer: match required(answer.answer, "answer")? {
                pb::registered::Answer::Noted(_) => LifeAnswer::Noted,
                pb::registered::Answer::Refused(seen) => {
                    LifeAnswer::Refused { seen: life_from_wire(seen)? }
                }
            },
        },
        Op::StateAsk(ask) => PeerMessage::StateAsk { epoch: Epoch(ask.epoch) },
        Op::StateNews(state) => PeerMessage::StateNews(Arc::new(state_from_wire(state)?)),
        Op::Decree(message) => PeerMessage::Decree(Box::new(decree_from_wire(message)?)),
        Op::Causal(message) => PeerMessage::Causal(Box::new(causal_from_wire(message)?)),
        Op::Consensus(message) => PeerMessage::Consensus(Box::new(consensus_from_wire(message)?)),
        Op::Explain(message) => PeerMessage::Explain(Box::new(key_facts_from_wire(message)?)),
        Op::Copy(message) => PeerMessage::Copy(Box::new(copy_from_wire(message)?)),
        Op::Repair(message) => PeerMessage::Repair(Box::new(repair_from_wire(message)?)),
        Op::Floors(floors) => PeerMessage::Floors(floors_from_wire(floors)?),
    })
}

/// About how many bytes a message takes, in queues and on the wire. Never below 32.
pub fn message_weight(message: &PeerMessage) -> usize {
    let body = match message {
        PeerMessage::Write(ask) => ask.bytes(),
        PeerMessage::Read(ask) => ask.key.as_bytes().len(),
        PeerMessage::ReadAnswer(answer) => match &answer.result {
            Ok(record) => record.as_ref().map_or(0, Record::bytes),
            Err(_) => 0,
        },
        PeerMessage::Watch(message) => message.bytes(),
        PeerMessage::Scan(ask) => ask.prefix.len() + ask.after.len(),
        PeerMessage::ScanAnswer(answer) => match &answer.result {
            Ok((entries, _)) => {
                entries.iter().map(|(key, record)| key.as_bytes().len() + record.bytes()).sum()
            }
            Err(_) => 0,
        },
        PeerMessage::Causal(message) => message.bytes(),
        PeerMessage::Consensus(message) => message.bytes(),
        PeerMessage::Explain(message) => message.bytes(),
        PeerMessage::Copy(message) => message.bytes(),
        PeerMessage::Repair(message) => message.bytes(),
        PeerMessage::Floors(news) => 80 * news.len(),
        PeerMessage::Birth(news) => 64 * (news.known.len() + 1),
        PeerMessage::StateNews(state) => state_weight(state),
        PeerMessage::Decree(message) => match message.as_ref() {
            DecreeMessage::Promise { accepted, .. } => {
                accepted.as_ref().map_or(0, |(_, state)| state_weight(state))
            }
            DecreeMessage::Accept { state, .. } | DecreeMessage::Decided(state) => {
                state_weight(state)
            }
            DecreeMessage::Prepare { .. }
            | DecreeMessage::Accepted { .. }
            | DecreeMessage::Outbid { .. }
            | DecreeMessage::Stored(_)
            | DecreeMessage::Newest { .. }
            | DecreeMessage::NewestAnswer { .. } => 32,
        },
        PeerMessage::Probe(probe) | PeerMessage::ProbeAck(probe) | PeerMessage::News(probe) => {
            probe.bytes()
        }
        PeerMessage::MemberSync(sync) => sync.bytes(),
        PeerMessage::WriteAnswer(_)
        | PeerMessage::ScanEnd(_)
        | PeerMessage::ProbeVia { .. }
        | PeerMessage::Vouch { .. }
        | PeerMessage::Register { .. }
        | PeerMessage::Registered { .. }
        | PeerMessage::StateAsk { .. } => 32,
    };
    body + 32
}

pub(super) fn round_to_wire(round: RoundId) -> Option<pb::Round> {
    Some(pb::Round { op: round.op, round: round.round })
}

pub(super) fn round_from_wire(round: Option<pb::Round>) -> Result<RoundId, Malformed> {
    let round = required(round, "round")?;
    Ok(RoundId { op: round.op, round: round.round })
}

pub(super) fn unit_to_wire(unit: Unit) -> Option<pb::Unit> {
    let Unit { class: ClassId(class), partition: Partition(partition) } = unit;
    Some(pb::Unit { class: class.into(), partition: partition.into() })
}

pub(super) fn unit_from_wire(unit: Option<pb::Unit>) -> Result<Unit, Malformed> {
    let unit = required(unit, "unit")?;
    Ok(Unit {
        class: ClassId(narrow(unit.class, "class")?),
        partition: Partition(narrow(unit.partition, "partition")?),
    })
}

pub(super) fn key_from_wire(bytes: Bytes) -> Result<Key, Malformed> {
    Key::new(bytes).map_err(|error| Malformed::new(error.to_string()))
}

pub(super) fn place_to_wire(place: KeyPlace) -> pb::KeyPlace {
    pb::KeyPlace {
        unit: unit_to_wire(place.unit),
        changed_at: place.changed_at.0,
        table: place.table.0,
        key: place.key.bytes().clone(),
    }
}

pub(super) fn place_from_wire(place: Option<pb::KeyPlace>) -> Result<KeyPlace, Malformed> {
    let place = required(place, "place")?;
    Ok(KeyPlace {
        unit: unit_from_wire(place.unit)?,
        changed_at: Epoch(place.changed_at),
        table: TableId(place.table),
        key: key_from_wire(place.key)?,
    })
}

pub(super) fn stamp_to_wire(stamp: Stamp) -> pb::Stamp {
    pb::Stamp { time_ns: stamp.time.0, counter: stamp.counter, node: stamp.node.0 }
}

pub(super) fn stamp_from_wire(stamp: pb::Stamp) -> Stamp {
    let (time, node) = (WallTime(stamp.time_ns), NodeId(stamp.node));
    Stamp { time, counter: stamp.counter, node }
}

pub(super) fn record_to_wire(record: Record) -> pb::Record {
    let Record { stamp, expiry, value } = record;
    pb::Record {
        time_ns: stamp.time.0,
        counter: stamp.counter,
        node: stamp.node.0,
        expiry_ns: expiry.map(|at| at.0),
        value: value.map(Value::into_bytes),
    }
}

pub(super) fn record_from_wire(record: pb::Record) -> Result<Record, Malformed> {
    let value = record.value.map(Value::new).transpose();
    Ok(Record {
        stamp: Stamp {
            time: WallTime(record.time_ns),
            counter: record.counter,
            node: NodeId(record.node),
        },
        expiry: record.expiry_ns.map(WallTime),
        value: value.map_err(|len| Malformed::new(format!("a value has {len} bytes")))?,
    })
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn remaining(micros: u64) -> Duration {
    Duration::from_micros(micros).min(limits::REQUEST_TIMEOUT_MAX)
}

/// 0 is nobody.
pub(super) fn owner_from_wire(id: u32) -> Option<NodeId> {
    (id != 0).then_some(NodeId(id))
}

pub(super) fn write_to_wire(ask: WriteAsk) -> pb::Write {
    pb::Write {
        round: round_to_wire(ask.round),
        unit: unit_to_wire(ask.unit),
        changed_at: ask.changed_at.0,
        table: ask.table.0,
        key: ask.key.bytes().clone(),
        record: Some(record_to_wire(ask.record)),
        fresh: ask.fresh,
        hint_for: ask.hint_for.map_or(0, |owner| owner.0),
        remaining_us: micros(ask.remaining),
    }
}

pub(super) fn write_from_wire(ask: pb::Write) -> Result<WriteAsk, Malformed> {
    Ok(WriteAsk {
        round: round_from_wire(ask.round)?,
        unit: unit_from_wire(ask.unit)?,
        changed_at: Epoch(ask.changed_at),
        table: TableId(ask.table),
        key: key_from_wire(ask.key)?,
        record: record_from_wire(required(ask.record, "record")?)?,
        rest: Vec::new(),
        fresh: ask.fresh,
        hint_for: owner_from_wire(ask.hint_for),
        remaining: remaining(ask.remaining_us),
    })
}

fn write_answer_to_wire(answer: WriteAnswer) -> pb::WriteAnswer {
    use pb::write_answer::Result as Wire;
    let result = match answer.result {
        Ok(WriteOutcome::Stored) => Wire::Stored(true),
        Ok(WriteOutcome::Superseded(stamp)) => Wire::Superseded(stamp_to_wire(stamp)),
        Err(refusal) => Wire::Refusal(refusal_to_wire(refusal)),
    };
    let (round, incomplete) = (round_to_wire(answer.round), !answer.complete);
    pb::WriteAnswer { round, incomplete, result: Some(result) }
}

fn write_answer_from_wire(answer: pb::WriteAnswer) -> Result<WriteAnswer, Malformed> {
    use pb::write_answer::Result as Wire;
    let result = match required(answer.result, "result")? {
        Wire::Stored(_) => Ok(WriteOutcome::Stored),
        Wire::Superseded(stamp) => Ok(WriteOutcome::Superseded(stamp_from_wire(stamp))),
        Wire::Refusal(refusal) => Err(refusal_from_wire(refusal)?),
    };
    Ok(WriteAnswer { round: round_from_wire(answer.round)?, complete: !answer.incomplete, result })
}

fn read_to_wire(ask: ReadAsk) -> pb::Read {
    pb::Read {
        round: round_to_wire(ask.round),
        unit: unit_to_wire(ask.unit),
        changed_at: ask.changed_at.0,
        table: ask.table.0,
        key: ask.key.bytes().clone(),
        hint_for: ask.hint_for.map_or(0, |owner| owner.0),
        durable: ask.durable,
        remaining_us: micros(ask.remaining),
    }
}

fn read_from_wire(ask: pb::Read) -> Result<ReadAsk, Malformed> {
    Ok(ReadAsk {
        round: round_from_wire(ask.round)?,
        unit: unit_from_wire(ask.unit)?,
        changed_at: Epoch(ask.changed_at),
        table: TableId(ask.table),
        key: key_from_wire(ask.key)?,
        hint_for: owner_from_wire(ask.hint_for),
        durable: ask.durable,
        remaining: remaining(ask.remaining_us),
    })
}

fn read_answer_to_wire(answer: ReadAnswer) -> pb::ReadAnswer {
    use pb::read_answer::Result as Wire;
    let result = match answer.result {
        Ok(Some(record)) => Wire::Record(record_to_wire(record)),
        Ok(None) => Wire::Absent(true),
        Err(refusal) => Wire::Refusal(refusal_to_wire(refusal)),
    };
    pb::ReadAnswer { round: round_to_wire(answer.round), result: Some(result) }
}

fn read_answer_from_wire(answer: pb::ReadAnswer) -> Result<ReadAnswer, Malformed> {
    use pb::read_answer::Result as Wire;
    let result = match required(answer.result, "result")? {
        Wire::Record(record) => Ok(Some(record_from_wire(record)?)),
        Wire::Absent(_) => Ok(None),
        Wire::Refusal(refusal) => Err(refusal_from_wire(refusal)?),
    };
    Ok(ReadAnswer { round: round_from_wire(answer.round)?, result })
}

fn scan_to_wire(ask: ScanAsk) -> pb::Scan {
    pb::Scan {
        round: round_to_wire(ask.round),
        changed_at: ask.changed_at.0,
        table: ask.table.0,
        prefix: ask.prefix,
        after: ask.after,
        limit: ask.limit,
        keys_only: ask.keys_only,
        reverse: ask.reverse,
        remaining_us: micros(ask.remaining),
        scan: ask.part.map_or(0, |part| part.scan),
        first: ask.part.is_some_and(|part| part.first),
    }
}

fn scan_from_wire(ask: pb::Scan) -> Result<ScanAsk, Malformed> {
    for (what, bytes) in [("prefix", &ask.prefix), ("after", &ask.after)] {
        if bytes.len() > limits::KEY_BYTES_MAX {
            return Err(Malformed::new(format!("{what} has {} bytes", bytes.len())));
        }
    }
    if !(1..=limits::SCAN_PAGE_ENTRIES_MAX).contains(&ask.limit) {
        return Err(Malformed::new(format!("limit is {}", ask.limit)));
    }
    Ok(ScanAsk {
        round: round_from_wire(ask.round)?,
        changed_at: Epoch(ask.changed_at),
        table: TableId(ask.table),
        prefix: ask.prefix,
        after: ask.after,
        limit: ask.limit,
        keys_only: ask.keys_only,
        reverse: ask.reverse,
        part: (ask.scan != 0).then_some(ScanPart { scan: ask.scan, first: ask.first }),
        remaining: remaining(ask.remaining_us),
    })
}

fn scan_answer_to_wire(answer: ScanAnswer) -> pb::ScanAnswer {
    use pb::scan_answer::{Entry, Page, Result as Wire};
    let result = match answer.result {
        Ok((entries, complete)) => {
            let entry = |(key, record): (Key, Record)| Entry {
                key: key.into_bytes(),
                record: Some(record_to_wire(record)),
            };
            Wire::Page(Page { entries: entries.into_iter().map(entry).collect(), complete })
        }
        Err(refusal) => Wire::Refusal(refusal_to_wire(refusal)),
    };
    pb::ScanAnswer { round: round_to_wire(answer.round), result: Some(result) }
}

fn scan_answer_from_wire(answer: pb::ScanAnswer) -> Result<ScanAnswer, Malformed> {
    use pb::scan_answer::Result as Wire;
    let result = match required(answer.result, "result")? {
        Wire::Page(page) => {
            let mut entries = Vec::with_capacity(page.entries.len());
            for entry in page.entries {
                let record = record_from_wire(required(entry.record, "record")?)?;
                entries.push((key_from_wire(entry.key)?, record));
            }
            // As asked, up or down; whoever asked knows which.
            let is_up = entries.is_sorted_by(|(a, _), (b, _)| a < b);
            if !is_up && !entries.is_sorted_by(|(a, _), (b, _)| a > b) {
                return Err(Malformed::new("a page is not in byte order"));
            }
            Ok((entries, page.complete))
        }
        Wire::Refusal(refusal) => Err(refusal_from_wire(refusal)?),
    };
    Ok(ScanAnswer { round: round_from_wire(answer.round)?, result })
}

pub(super) fn refusal_to_wire(refusal: Refusal) -> pb::Refusal {
    use pb::refusal::Reason;
    let reason = match refusal {
        Refusal::Fenced { epoch } => Reason::Fenced(epoch.0),
        Refusal::Behind { epoch } => Reason::Behind(epoch.0),
        Refusal::NotOwner => Reason::NotOwner(true),
        Refusal::Incomplete => Reason::Incomplete(true),
        Refusal::Dropped { epoch } => Reason::Dropped(epoch.0),
        Refusal::ClockAhead { clock } => Reason::ClockAhead(clock.0),
        Refusal::Overloaded => Reason::Overloaded(true),
        Refusal::NotServing => Reason::NotServing(true),
        Refusal::Late { bound } => Reason::Late(stamp_to_wire(bound)),
        Refusal::Expired => Reason::Expired(true),
        Refusal::ReadOnly => Reason::ReadOnly(true),
        Refusal::DiskFull => Reason::DiskFull(true),
        Refusal::TakenBack => Reason::TakenBack(true),
        Refusal::Storage(text) => Reason::Storage(text),
    };
    pb::Refusal { reason: Some(reason) }
}

pub(super) fn refusal_from_wire(refusal: pb::Refusal) -> Result<Refusal, Malformed> {
    use pb::refusal::Reason;
    Ok(match required(refusal.reason, "reason")? {
        Reason::Fenced(epoch) => Refusal::Fenced { epoch: Epoch(epoch) },
        Reason::Behind(epoch) => Refusal::Behind { epoch: Epoch(epoch) },
        Reason::NotOwner(_) => Refusal::NotOwner,
        Reason::Incomplete(_) => Refusal::Incomplete,
        Reason::Dropped(epoch) => Refusal::Dropped { epoch: Epoch(epoch) },
        Reason::ClockAhead(clock) => Refusal::ClockAhead { clock: WallTime(clock) },
        Reason::Overloaded(_) => Refusal::Overloaded,
        Reason::NotServing(_) => Refusal::NotServing,
        Reason::Late(bound) => Refusal::Late { bound: stamp_from_wire(bound) },
        Reason::Expired(_) => Refusal::Expired,
        Reason::ReadOnly(_) => Refusal::ReadOnly,
        Reason::DiskFull(_) => Refusal::DiskFull,
        Reason::TakenBack(_) => Refusal::TakenBack,
        Reason::Storage(text) => Refusal::Storage(text),
    })
}

/// Longest `host:port` a node accepts from another: a DNS name and a port.
pub(super) const ADDRESS_BYTES_MAX: usize = 253 + 6;

fn birth_to_wire(news: BirthNews) -> pb::BirthNews {
    let nonce = |founder: FounderNonce| pb::FounderNonce {
        name: founder.name.into(),
        nonce: wide_bytes(founder.nonce.0),
    };
    pb::BirthNews {
        founders: wide_bytes(news.founders),
        own: Some(nonce(news.own)),
        known: news.known.into_iter().map(nonce).collect(),
        pledge: news.pledge.map_or_else(Bytes::new, wide_bytes),
    }
}

fn birth_from_wire(news: pb::BirthNews) -> Result<BirthNews, Malformed> {
    let nonce = |founder: pb::FounderNonce| -> Result<FounderNonce, Malformed> {
        Ok(FounderNonce {
            name: node_name(founder.name)?,
            nonce: Nonce(wide(&founder.nonce, "nonce")?),
        })
    };
    if news.known.len() > limits::MEMBERS_MAX {
        return Err(Malformed::new(format!("{} founders", news.known.len())));
    }
    let pledge = (!news.pledge.is_empty()).then(|| wide(&news.pledge, "pledge"));
    Ok(BirthNews {
        founders: wide(&news.founders, "founders")?,
        own: nonce(required(news.own, "own")?)?,
        known: news.known.into_iter().map(nonce).collect::<Result<_, _>>()?,
        pledge: pledge.transpose()?,
    })
}

pub(super) fn boot_to_wire(boot: BootRecord) -> pb::Boot {
    pb::Boot { number: boot.number, nonce: wide_bytes(boot.nonce.0) }
}

pub(super) fn boot_from_wire(boot: pb::Boot) -> Result<BootRecord, Malformed> {
    Ok(BootRecord { number: boot.number, nonce: Nonce(wide(&boot.nonce, "boot nonce")?) })
}

fn life_to_wire(life: LifeRecord) -> pb::Life {
    pb::Life { boot: Some(boot_to_wire(life.boot)), ceiling_ns: life.ceiling.0 }
}

fn life_from_wire(life: pb::Life) -> Result<LifeRecord, Malformed> {
    Ok(LifeRecord {
        boot: boot_from_wire(required(life.boot, "boot")?)?,
        ceiling: WallTime(life.ceiling_ns),
    })
}
