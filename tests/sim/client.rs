//! What a simulated client knows and does by itself. It follows the same rule as the client
//! library: an attempt is abandoned before the next one starts, and the next one may stamp only
//! above the window of the last.

use core::time::Duration;

use fastrand::Rng;
use roundtable::load::history::{OpIndex, ProcessId};
use roundtable::message::{
    Attempt, ClientBody, ClientRequest, Get, OpError, Principal, Put, QuorumMode, Scan, TimeToLive,
};
use roundtable::types::{
    Key, Quorum, RequestId, Stamp, TableName, Time, TraceId, Value, WallTime, limits,
};

use crate::judge::Asked;
use crate::plan::{ClientPlan, MS};

/// Keys beside the hot ones, so that runs flush and scans have something to find.
const WIDE_KEYS: usize = 24;

/// What a node remembers of a request in flight.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) serial: u64,
    /// The key of a write or read.
    pub(crate) key: Option<Key>,
    pub(crate) is_write: bool,
    pub(crate) asked: Asked,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Get { key: Key, r: Option<Quorum> },
    Put { key: Key, value: Option<Value>, ttl: TimeToLive, w: Option<Quorum> },
    Scan { prefix: &'static str, after: Option<Key>, limit: u32, r: Option<Quorum> },
}

/// An operation of a client, over all its attempts.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) want: Want,
    /// Where it stands in the history; a scan reads many keys.
    pub(crate) entries: Vec<(Key, ProcessId, OpIndex)>,
    pub(crate) attempt: Attempt,
    /// Of a write: the time the client gives it, and what had been acknowledged of the key by then.
    pub(crate) time: Option<WallTime>,
    pub(crate) floor: Stamp,
    /// Whether stand-ins may count.
    pub(crate) mode: QuorumMode,
    /// Of a monotonic read: the version it must not go back behind.
    pub(crate) monotonic: Option<Stamp>,
    /// An attempt may have been applied.
    pub(crate) uncertain: bool,
    /// Where the attempt in flight went.
    pub(crate) at: Option<usize>,
}

/// One client: one operation at a time.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: usize,
    pub(crate) process: ProcessId,
    pub(crate) rng: Rng,
    /// Server time as last heard, and when by the world.
    pub(crate) heard: Option<(WallTime, u64)>,
    pub(crate) current: Option<Operation>,
    /// Counts attempts of all operations: an answer to an older one is ignored.
    pub(crate) serial: u64,
    writes: u64,
    /// The node it always asks, if it has one.
    pub(crate) pinned: Option<usize>,
    /// It writes for the check that the cluster serves again.
    pub(crate) probes: bool,
    /// What it does, in order, instead of what it would draw.
    pub(crate) script: Vec<Want>,
}

impl Client {
    /// A client that has asked nothing yet.
    pub(crate) fn new(id: usize, process: ProcessId, rng: Rng) -> Client {
        Client {
            id,
            process,
            rng,
            heard: None,
            current: None,
            serial: 0,
            writes: 0,
            pinned: None,
            probes: false,
            script: Vec::new(),
        }
    }

    /// Draws the next operation.
    pub(crate) fn draw(&mut self, plan: &ClientPlan) -> Want {
        let rng = &mut self.rng;
        let weak = rng.f64() < plan.weak;
        let strong = [None, None, Some(Quorum::Majority), Some(Quorum::All)];
        let quorum = if weak { Some(Quorum::One) } else { strong[rng.usize(..strong.len())] };
        let quorum = if quorum == Some(Quorum::All) && rng.bool() { None } else { quorum };
        if rng.f64() < plan.scans {
            let after = rng.bool().then(|| hot_key(rng.usize(..plan.hot_keys)));
            let prefix = ["h", "w", ""][rng.usize(..3)];
            return Want::Scan { prefix, after, limit: rng.u32(1..30), r: quorum };
        }
        let key = if rng.u8(..4) > 0 {
            hot_key(rng.usize(..plan.hot_keys))
        } else {
            wide_key(rng.usize(..WIDE_KEYS))
        };
        if rng.f64() >= plan.writes {
            return Want::Get { key, r: quorum };
        }
        let value = (rng.f64() >= plan.deletes).then(|| self.value(plan.value_bytes_max));
        let ttl = self.ttl(value.as_ref(), plan);
        Want::Put { key, value, ttl, w: quorum }
    }

    /// How long a value lives: drawn from the value itself, so that all other draws stay as they are.
    fn ttl(&self, value: Option<&Value>, plan: &ClientPlan) -> TimeToLive {
        let Some(_) = value.filter(|_| plan.expiring > 0.0) else { return TimeToLive::Table };
        let place = (self.id as u64) << 32 | self.writes;
        let mut rng = Rng::with_seed(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if rng.f64() >= plan.expiring {
            return TimeToLive::Table;
        }
        TimeToLive::For(Duration::from_millis(rng.u64(100..6000)))
    }

    /// A value that nobody else writes.
    pub(crate) fn value(&mut self, bytes_max: usize) -> Value {
        self.writes += 1;
        let mut bytes = format!("{}:{}", self.id, self.writes).into_bytes();
        let length = bytes.len().max(self.rng.usize(..=bytes_max));
        bytes.resize(length, b'.');
        Value::new(bytes).expect("far below the limit")
    }

    /// Gives the attempt in flight its window of stamps. Returns false when there can be no
    /// further attempt, because the last one had no bound.
    pub(crate) fn open_window(&mut self, now: u64, first: bool) -> bool {
        let server = self.heard.map(|(at, when)| WallTime(at.0 + (now - when)));
        let Some(operation) = &mut self.current else { return false };
        let attempt = &mut operation.attempt;
        if first {
            attempt.id = RequestId(u128::from(self.rng.u64(1..)));
        } else {
            match attempt.upper {
                Some(upper) if operation.uncertain => attempt.lower = upper,
                None if operation.uncertain => return false,
                Some(_) | None => {}
            }
            attempt.number += 1;
        }
        attempt.upper = server.map(|time| time.max(attempt.lower).plus(limits::ATTEMPT_WINDOW));
        true
    }

    /// How long the attempt to come waits until its window begins, if that is no longer than `longest`:
    /// one that does not wait drives the clocks of the cluster forward.
    pub(crate) fn ahead(&self, now: u64, longest: u64) -> u64 {
        let (Some((at, when)), Some(operation)) = (self.heard, &self.current) else { return 0 };
        if !matches!(operation.want, Want::Put { .. }) {
            return 0;
        }
        let server = WallTime(at.0 + (now - when));
        let ahead = operation.attempt.lower.ahead_of(server).as_nanos();
        u64::try_from(ahead).ok().filter(|ahead| *ahead <= longest).unwrap_or(0)
    }

    /// The time the client gives a write, in a share of them: a little ahead of what it takes for the
    /// servers' time, or some seconds behind. Drawn from the write itself, so that all other draws stay
    /// as they are; one that expires has none, for nobody could say when it is gone.
    pub(crate) fn draw_time(&self, want: &Want, timed: f64, now: u64) -> Option<WallTime> {
        let Want::Put { ttl: TimeToLive::Table, .. } = want else { return None };
        let (at, when) = self.heard.filter(|_| timed > 0.0)?;
        let place = (self.id as u64) << 32 | self.serial;
        let mut rng = Rng::with_seed(place.wrapping_mul(0xd6e8_feb8_6659_fd93));
        if rng.f64() >= timed {
            return None;
        }
        let server = at.0 + (now - when);
        let behind = if rng.bool() { rng.u64(..3000 * MS) } else { rng.u64(..300 * MS) };
        Some(WallTime(server + 90 * MS - behind))
    }

    /// Learns server time.
    pub(crate) fn hear(&mut self, time: WallTime, now: u64) {
        if time.0 > 0 {
            self.heard = Some((time, now));
        }
    }

    /// Learns server time from an error, if it says it.
    pub(crate) fn hear_error(&mut self, error: &OpError, now: u64) {
        if let Some(time) = error.facts.server_time {
            self.hear(time, now);
        }
    }

    /// The request of the attempt in flight.
    pub(crate) fn request(&self, deadline: Time) -> Option<ClientRequest> {
        let operation = self.current.as_ref()?;
        let table: TableName = "default".to_owned().try_into().expect("a plain name");
        let body = match &operation.want {
            Want::Get { key, r } => {
                let (key, mode) = (key.clone(), operation.mode);
                let monotonic = operation.monotonic.is_some();
                ClientBody::Get(Get { table, key, r: *r, mode, monotonic, traced: false })
            }
            Want::Put { key, value, ttl, w } => ClientBody::Put(Put {
                table,
                key: key.clone(),
                value: value.clone(),
                ttl: *ttl,
                w: *w,
                r: None,
                attempt: operation.attempt,
                time: operation.time,
                mode: operation.mode,
                context: bytes::Bytes::new(),
                traced: false,
            }),
            Want::Scan { prefix, after, limit, r } => ClientBody::Scan(Scan {
                table,
                prefix: prefix.as_bytes().to_vec().into(),
                after: after.as_ref().map(|key| key.bytes().clone()).unwrap_or_default(),
                limit: *limit,
                keys_only: false,
                reverse: false,
                r: *r,
                part: None,
            }),
        };
        let trace = TraceId(u128::from(self.serial));
        let principal = Principal::Connection(self.id as u64);
        Some(ClientRequest { deadline, trace, principal, body })
    }

    /// How long until it tries again.
    pub(crate) fn back_off(&mut self) -> u64 {
        self.rng.u64(5 * MS..60 * MS)
    }
}

impl Want {
    /// Whether what it writes is a delete, or expires.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Want::Put { value, ttl, .. } => value.is_none() || matches!(ttl, TimeToLive::For(_)),
            Want::Get { .. } | Want::Scan { .. } => false,
        }
    }

    /// The quorum that was asked for.
    pub(crate) fn quorum(&self) -> Option<Quorum> {
        match self {
            Want::Get { r, .. } | Want::Scan { r, .. } => *r,
            Want::Put { w, .. } => *w,
        }
    }

    /// The key, unless it is a scan.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Want::Get { key, .. } | Want::Put { key, .. } => Some(key),
            Want::Scan { .. } => None,
        }
    }
}

/// Every key that clients use, in byte order.
pub(crate) fn keys(plan: &ClientPlan) -> Vec<Key> {
    let mut keys: Vec<Key> = (0..plan.hot_keys).map(hot_key).collect();
    keys.extend((0..WIDE_KEYS).map(wide_key));
    keys.sort();
    keys
}

/// A key that many operations are about; `i` is below `hot_keys`.
pub(crate) fn hot_key(i: usize) -> Key {
    Key::new(format!("h{i}")).expect("a short key")
}

fn wide_key(i: usize) -> Key {
    Key::new(format!("w{i:02}")).expect("a short key")
}
