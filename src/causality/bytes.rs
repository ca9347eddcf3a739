//! The bytes of contexts and sets, as they are stored, sent and given to clients. Big-endian;
//! entries in ascending order, each once, so that equal sets have equal bytes. The table is in
//! `docs/format/causal.md`.

use bytes::{Buf, Bytes};

use crate::types::{NodeId, RequestId, Tenure, Value, WallTime, limits};

use super::{Actor, CausalContext, Dot, Part, Payload, SiblingSet, Tick, Write};

/// The version byte of a set.
const VERSION: u8 = 1;
const EXPIRES: u8 = 0b01;
const AWAY: u8 = 0b10;
const PART: u8 = 0b100;

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
            let kind = match write.payload {
                Payload::Here(_) => 0,
                Payload::Away(_) => AWAY,
                Payload::Part(_) => PART,
            };
            out.push(expires | kind);
            out.extend_from_slice(&write.id.0.to_be_bytes());
            if let Some(expiry) = write.expiry {
                out.extend_from_slice(&expiry.0.to_be_bytes());
            }
            count(&mut out, write.payload.len());
            match &write.payload {
                Payload::Here(value) => out.extend_from_slice(value.as_bytes()),
                Payload::Away(_) => {}
                Payload::Part(part) => part.encode(&mut out),
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

impl Part {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.total.to_be_bytes());
        for id in &self.earlier {
            out.extend_from_slice(&id.0.to_be_bytes());
        }
    }

    fn decode(mut bytes: Bytes) -> Option<Part> {
        let total = bytes.try_get_i128().ok()?;
        let ids = bytes.len() / size_of::<RequestId>();
        if !bytes.len().is_multiple_of(size_of::<RequestId>()) || ids >= limits::COUNTER_IDS_MAX {
            return None;
        }
        let id = |_| bytes.try_get_u128().ok().map(RequestId);
        let earlier = (0..ids).map(id).collect::<Option<Vec<RequestId>>>()?;
        Some(Part { total, earlier })
    }
}

fn write_in(bytes: &mut Bytes) -> Option<(Dot, Write)> {
    let dot = dot_in(bytes)?;
    let flags = bytes.try_get_u8().ok()?;
    if flags & !(EXPIRES | AWAY | PART) != 0 || flags & (AWAY | PART) == AWAY | PART {
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
        let content = bytes.split_to(length);
        if flags & PART == 0 {
            Payload::Here(Value::new(content).ok()?)
        } else {
            Payload::Part(Part::decode(content)?)
        }
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
