//! Readers that walk a table as one stream, page by page, with time between the pages: nodes keep cursors for
//! them, and crash, lose owners and purge meanwhile. Each key's answer is a read that began with the stream and
//! ended with its page, in the history of its table; the pages themselves must show each key once, in order.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use roundtable::load::history::{Action, History, OpIndex, Outcome};
use roundtable::message::{
    ClientBody, ClientRequest, ClientResult, Event, Principal, Reply, Scan, ScanPart, ScanReply,
};
use roundtable::types::{Key, Quorum, TableName, TraceId};

use crate::client::keys;
use crate::judge::Checker;
use crate::plan::{MS, SECOND, exponential};

use super::life::Point;
use super::schema::Asked;
use super::{Happening, Stage, World, register};

/// How long a reader waits for a page.
const TIMEOUT: u64 = 1700 * MS;
/// How often it goes on elsewhere before it gives a walk up.
const STREAMS_MAX: u32 = 6;

/// How a seed's tables are walked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkPlan {
    walkers: usize,
    /// Mean pause between two pages, and half of that between two walks.
    pause: u64,
}

impl WalkPlan {
    /// A quarter of the seeds has one. Those that were recorded before there were walks have none.
    pub(crate) fn draw(seed: u64) -> Option<WalkPlan> {
        let drawn = seed.wrapping_add(75).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        if seed < 2000 || !drawn.is_multiple_of(4) {
            return None;
        }
        let mut rng = Rng::with_seed(seed ^ 0x7761_6c6b);
        Some(WalkPlan { walkers: rng.usize(1..=3), pause: rng.u64(20 * MS..500 * MS) })
    }
}

/// One walk, over all the streams it takes.
#[derive(Debug)]
struct Walk {
    /// Of the linearizable table.
    seats: bool,
    prefix: &'static str,
    reverse: bool,
    limit: u32,
    r: Option<Quorum>,
    /// Where it goes on.
    after: Bytes,
    /// Keys that are still to come, and the reads of this stream.
    open: BTreeMap<Key, OpIndex>,
    streams: u32,
    stream: Option<Stream>,
}

/// What a node keeps open for it.
#[derive(Clone, Copy, Debug)]
struct Stream {
    host: usize,
    life: u64,
    scan: u64,
    first: bool,
}

#[derive(Debug, Default)]
struct Walker {
    serial: u64,
    walk: Option<Walk>,
}

/// The readers of a run.
#[derive(Debug)]
pub(crate) struct WalkUse {
    rng: Rng,
    walkers: Vec<Walker>,
}

impl WalkUse {
    pub(super) fn new(seed: u64, plan: Option<WalkPlan>) -> WalkUse {
        let walkers = plan.map_or(0, |plan| plan.walkers);
        let walkers = (0..walkers).map(|_| Walker::default()).collect();
        WalkUse { rng: Rng::with_seed(seed ^ 0x7061_6765_7321), walkers }
    }
}

impl World {
    pub(super) fn schedule_walks(&mut self) {
        for walker in 0..self.walks.walkers.len() {
            self.later(3 * SECOND, Happening::WalkOn { walker });
        }
    }

    /// A reader wants the next page, or begins a walk.
    pub(super) fn walk_on(&mut self, walker: usize) {
        if self.stage > Stage::Healed {
            return;
        }
        if self.walks.walkers[walker].walk.is_none() {
            let walk = self.draw_walk();
            self.walks.walkers[walker].walk = Some(walk);
        }
        let leaves = self.walks.rng.u8(..25) == 0;
        if leaves {
            self.end_stream(walker);
            self.give_up(walker);
            return self.walk_later(walker);
        }
        if !self.is_open(walker) && !self.begin_stream(walker) {
            return self.walk_later(walker);
        }
        self.ask_page(walker);
    }

    fn draw_walk(&mut self) -> Walk {
        let rng = &mut self.walks.rng;
        let seats = rng.bool() && self.register.created;
        let prefix = if seats { "" } else { ["", "", "h", "w"][rng.usize(..4)] };
        let (reverse, limit) = (rng.u8(..3) == 0, rng.u32(1..8));
        let limit = if seats { rng.u32(1..4) } else { limit };
        let r = [None, None, Some(Quorum::Majority)][rng.usize(..3)];
        let (after, open) = (Bytes::new(), BTreeMap::new());
        self.totals.walks += 1;
        Walk { seats, prefix, reverse, limit, r, after, open, streams: 0, stream: None }
    }

    /// Whether its stream is still there.
    fn is_open(&self, walker: usize) -> bool {
        let walk = self.walks.walkers[walker].walk.as_ref();
        let stream = walk.and_then(|walk| walk.stream);
        stream.is_some_and(|stream| self.is_alive(stream.host, stream.life))
    }

    fn keys_of(&self, seats: bool) -> Vec<Key> {
        let count = self.plan.register.map_or(0, |plan| plan.keys);
        if seats { (0..count).map(register::key).collect() } else { keys(&self.plan.clients) }
    }

    /// Begins a stream where the walk stands: of each key that is still to come a read begins now.
    fn begin_stream(&mut self, walker: usize) -> bool {
        self.give_up_reads(walker);
        let host = self.walks.rng.usize(..self.hosts.len());
        let (life, now) = (self.hosts[host].life, self.time());
        let Some(mut walk) = self.walks.walkers[walker].walk.take() else { return false };
        let Some(running) = &mut self.hosts[host].running else {
            self.walks.walkers[walker].walk = Some(walk);
            return false;
        };
        running.ops += 1;
        let scan = running.ops;
        let keys = self.keys_of(walk.seats);
        let history = self.history_of(walk.seats);
        let to_come: Vec<Key> = keys.into_iter().filter(|key| walk.is_to_come(key)).collect();
        for key in to_come {
            let process = history.new_process();
            let op = history.invoke(process, key.clone(), Action::Get, now);
            walk.open.insert(key, op);
        }
        walk.streams += 1;
        walk.stream = Some(Stream { host, life, scan, first: true });
        self.walks.walkers[walker].walk = Some(walk);
        true
    }

    fn history_of(&mut self, seats: bool) -> &mut History {
        if seats { &mut self.register.history } else { &mut self.history }
    }

    fn ask_page(&mut self, walker: usize) {
        let state = &mut self.walks.walkers[walker];
        state.serial += 1;
        let serial = state.serial;
        let Some(walk) = &mut state.walk else { return };
        let Some(stream) = &mut walk.stream else { return };
        let part = Some(ScanPart { scan: stream.scan, first: stream.first });
        stream.first = false;
        let host = stream.host;
        let body = ClientBody::Scan(Scan {
            table: if walk.seats { register::table() } else { default_table() },
            prefix: Bytes::from_static(walk.prefix.as_bytes()),
            after: walk.after.clone(),
            limit: walk.limit,
            keys_only: false,
            reverse: walk.reverse,
            r: walk.r,
            part,
        });
        self.later(TIMEOUT, Happening::WalkTimeout { walker, serial });
        self.ask_about_tables(host, Asked::Walk { walker, serial }, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Connection(3000 + walker as u64));
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    /// A page has left its node.
    pub(super) fn walk_answered(&mut self, walker: usize, serial: u64, result: &ClientResult) {
        let delay = exponential(&mut self.walks.rng, self.plan.network.delay_mean);
        let result = Box::new(result.clone());
        self.later(delay, Happening::WalkPage { walker, serial, result });
    }

    pub(super) fn walk_page(&mut self, walker: usize, serial: u64, result: &ClientResult) {
        if self.walks.walkers[walker].serial != serial {
            return;
        }
        self.walks.walkers[walker].serial += 1;
        match result {
            Ok(Reply::Scan(page)) => self.take_page(walker, page),
            _ => self.walk_broken(walker),
        }
        self.walk_later(walker);
    }

    pub(super) fn walk_timeout(&mut self, walker: usize, serial: u64) {
        if self.walks.walkers[walker].serial == serial {
            self.walks.walkers[walker].serial += 1;
            self.walk_broken(walker);
            self.walk_later(walker);
        }
    }

    fn walk_later(&mut self, walker: usize) {
        let mean = self.plan.walks.map_or(SECOND, |plan| plan.pause);
        let pause = exponential(&mut self.walks.rng, mean) + MS;
        self.later(pause, Happening::WalkOn { walker });
    }

    /// Goes on elsewhere, as the client library does, a few times.
    fn walk_broken(&mut self, walker: usize) {
        self.totals.walk_breaks += 1;
        self.end_stream(walker);
        let walk = self.walks.walkers[walker].walk.as_ref();
        if walk.is_none_or(|walk| walk.streams >= STREAMS_MAX) {
            self.give_up(walker);
        }
    }

    fn take_page(&mut self, walker: usize, page: &ScanReply) {
        let Some(mut walk) = self.walks.walkers[walker].walk.take() else { return };
        self.totals.walk_pages += 1;
        if let Err(text) = walk.judge(page) {
            self.find(Checker::Scan, format_args!("{text}\n{walk:?}\n{page:?}"));
        }
        let weak = page.receipt.weak || page.receipt.may_miss;
        let now = self.time();
        let end = page.resume.as_ref();
        let covered: Vec<Key> =
            walk.open.keys().filter(|key| walk.is_covered(key, end)).cloned().collect();
        for key in covered {
            let Some(op) = walk.open.remove(&key) else { continue };
            let found = page.entries.iter().find(|entry| entry.key == key);
            let stamp = found.map(|entry| entry.record.stamp).unwrap_or_default();
            let value = found.and_then(|entry| entry.record.value.clone());
            self.totals.walk_keys += 1;
            let outcome = Outcome::Read { value, stamp, weak };
            self.history_of(walk.seats).complete(op, outcome, now);
        }
        if let Some(resume) = &page.resume {
            walk.after = resume.clone();
            self.walks.walkers[walker].walk = Some(walk);
            return;
        }
        self.totals.walks_whole += 1;
        self.walks.walkers[walker].walk = Some(walk);
        self.end_stream(walker);
        self.walks.walkers[walker].walk = None;
    }

    /// Its node is told that no more pages are wanted.
    fn end_stream(&mut self, walker: usize) {
        let walk = self.walks.walkers[walker].walk.as_mut();
        let Some(stream) = walk.and_then(|walk| walk.stream.take()) else { return };
        if self.is_alive(stream.host, stream.life) {
            self.feed(stream.host, Event::ScanEnded { scan: stream.scan }, Point::Other);
        }
    }

    fn give_up(&mut self, walker: usize) {
        self.give_up_reads(walker);
        self.walks.walkers[walker].walk = None;
    }

    fn give_up_reads(&mut self, walker: usize) {
        let now = self.time();
        let Some(walk) = self.walks.walkers[walker].walk.as_mut() else { return };
        let (seats, open) = (walk.seats, core::mem::take(&mut walk.open));
        for op in open.into_values() {
            self.history_of(seats).complete(op, Outcome::Failed, now);
        }
    }
}

impl Walk {
    fn is_behind(&self, key: &[u8], place: &[u8]) -> bool {
        if self.reverse { key < place } else { key > place }
    }

    /// Whether pages from here on show a key.
    fn is_to_come(&self, key: &Key) -> bool {
        let is_behind = self.after.is_empty() || self.is_behind(key.as_bytes(), &self.after);
        key.as_bytes().starts_with(self.prefix.as_bytes()) && is_behind
    }

    /// Whether a page that ends there has come as far as a key.
    fn is_covered(&self, key: &Key, end: Option<&Bytes>) -> bool {
        end.is_none_or(|end| !self.is_behind(key.as_bytes(), end))
    }

    /// Each key once, in order, behind the page before and before where the next one begins.
    fn judge(&self, page: &ScanReply) -> Result<(), String> {
        if page.entries.len() > self.limit as usize {
            return Err(format!("a page has {} entries", page.entries.len()));
        }
        let mut last = self.after.clone();
        for entry in &page.entries {
            let key = entry.key.bytes();
            if !last.is_empty() && !self.is_behind(key, &last) {
                return Err(format!("a page shows {:?} behind {last:?}", entry.key));
            }
            if !key.starts_with(self.prefix.as_bytes()) || entry.record.value.is_none() {
                return Err(format!("a page shows {:?}, which is not asked for", entry.key));
            }
            last.clone_from(key);
        }
        match &page.resume {
            Some(resume) if !last.is_empty() && self.is_behind(&last, resume) => {
                Err(format!("a page shows {last:?} and goes on behind {resume:?}"))
            }
            Some(resume) if !self.after.is_empty() && !self.is_behind(resume, &self.after) => {
                Err(format!("a page behind {:?} goes on behind {resume:?}", self.after))
            }
            _ => Ok(()),
        }
    }
}

fn default_table() -> TableName {
    TableName::try_from("default".to_owned()).expect("a plain name")
}
