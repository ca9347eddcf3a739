//! The bytes of contexts and sets, as they are stored, sent and given to clients. Big-endian;
//! entries in ascending order, each once, so that equal sets have equal bytes. The table is in
//! `docs/format/causal.md`.

use bytes::{Buf, Bytes};

use crate::types::{NodeId, RequestId, Tenure, Value, WallTime};

use super::{Actor, CausalContext, Dot, Payload, SiblingSet, Tick, Write};

/// The version byte of a set.
const VERSION: u8 = 1;
const EXPIRES: u8 = 0b01;
const AWAY: u8 = 0b10;

impl CausalContext {
    /// Appends the bytes of this context: 24 an entry and 8 more.
    pub fn encode(&self, out: &mut Vec<u8>) {
        count(out, self.marks().len());
        for (actor, tick) in self.marks() {
            dot_out(out, Dot { actor, tick });
        }
        count(out, self.singles().len());
        for dot in self.singles() {
            dot_out(out, dot);
        }
    }

    /// Reads a context from the front of `bytes`. `None` when there is none. Allocates in
    /// proportion to the bytes that are there.
    pub fn decode(bytes: &mut Bytes) -> Option<CausalContext> {
        let marks = dots_in(bytes)?;
        let singles = dots_in(bytes)?;
        if !marks.is_sorted_by(|a, b| a.actor < b.actor) || !singles.is_sorted_by(|a, b| a < b) {
            return None;
        }
        let entries = marks.len() + singles.len();
        let marks = marks.into_iter().map(|dot| (dot.actor, dot.tick));
        let context = CausalContext::new(marks, singles);
        (context.entries() == entries).then_some(context)
    }
}

impl SiblingSet {
    /// The bytes of this set.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        out.push(VERSION);
        self.context().encode(&mut out);
        count(&mut out, self.writes().len());
        for (dot, write) in self.writes() {
            dot_out(&mut out, dot);
            let expires = if write.expiry.is_some() { EXPIRES } else { 0 };
            let away = if matches!(write.payload, Payload::Away(_)) { AWAY } else { 0 };
            out.push(expires | away);
            out.extend_from_slice(&write.id.0.to_be_bytes());
            if let Some(expiry) = write.expiry {
                out.extend_from_slice(&expiry.0.to_be_bytes());
            }
            count(&mut out, write.payload.len());
            if let Payload::Here(value) = &write.payload {
                out.extend_from_slice(value.as_bytes());
            }
        }
        out
    }

    /// Reads a set; values share the bytes given. `None` when they are not one, or not all of it.
    pub fn decode(mut bytes: Bytes) -> Option<SiblingSet> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let context = CausalContext::decode(&mut bytes)?;
        let writes = bytes.try_get_u32().ok()?;
        let mut list: Vec<(Dot, Write)> = Vec::new();
        for _ in 0..writes {
            list.push(write_in(&mut bytes)?);
        }
        if !bytes.is_empty() || !list.is_sorted_by(|(a, _), (b, _)| a < b) {
            return None;
        }
        SiblingSet::new(context, list)
    }
}

fn write_in(bytes: &mut Bytes) -> Option<(Dot, Write)> {
    let dot = dot_in(bytes)?;
    let flags = bytes.try_get_u8().ok()?;
    if flags & !(EXPIRES | AWAY) != 0 {
        return None;
    }
    let id = RequestId(bytes.try_get_u128().ok()?);
    let expiry = match flags & EXPIRES {
        0 => None,
        _ => Some(WallTime(bytes.try_get_u64().ok()?)),
    };
    let length = bytes.try_get_u32().ok()?;
    let payload = if flags & AWAY == 0 {
        let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
        Payload::Here(Value::new(bytes.split_to(length)).ok()?)
    } else {
        Payload::Away(length)
    };
    Some((dot, Write { id, expiry, payload }))
}

fn count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("limits keep counts and lengths far below 2^32");
    out.extend_from_slice(&count.to_be_bytes());
}

fn dot_out(out: &mut Vec<u8>, dot: Dot) {
    out.extend_from_slice(&dot.to_bytes());
}

fn dots_in(bytes: &mut Bytes) -> Option<Vec<Dot>> {
    let dots = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    if dots > bytes.len() / Dot::BYTES {
        return None;
    }
    (0..dots).map(|_| dot_in(bytes)).collect()
}

fn dot_in(bytes: &mut Bytes) -> Option<Dot> {
    let node = NodeId(bytes.try_get_u32().ok()?);
    let tenure = Tenure(bytes.try_get_u64().ok()?);
    let time = WallTime(bytes.try_get_u64().ok()?);
    let counter = bytes.try_get_u32().ok()?;
    Some(Dot { actor: Actor { node, tenure }, tick: Tick { time, counter } })
}

impl Dot {
    /// Bytes of the encoding.
    pub const BYTES: usize = 24;

    /// Node, tenure, time, counter, big-endian: byte order is the order of dots.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (node, rest) = bytes.split_at_mut(4);
        node.copy_from_slice(&self.actor.node.0.to_be_bytes());
        let (tenure, rest) = rest.split_at_mut(8);
        tenure.copy_from_slice(&self.actor.tenure.0.to_be_bytes());
        let (time, counter) = rest.split_at_mut(8);
        time.copy_from_slice(&self.tick.time.0.to_be_bytes());
        counter.copy_from_slice(&self.tick.counter.to_be_bytes());
        bytes
    }
}
