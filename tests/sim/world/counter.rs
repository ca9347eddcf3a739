//! Clients of counters, in a causal and in a linearizable table: they add and read, lose answers and try
//! again under the same id; at the end every node reads every counter. What they have seen is judged by
//! `roundtable::load::counter`.

use fastrand::Rng;
use roundtable::load::counter::{CounterHistory, CounterOp};
use roundtable::message::{
    AdminRequest, Applied, Attempt, ClientBody, ClientRequest, ClientResult, ErrorCode, Event, Get,
    Increment, OpError, Principal, QuorumMode, Reply, TableChange, TableRequest, TableSpec,
};
use roundtable::types::{
    Key, Quorum, RequestId, TableKind, TableName, TraceId, Value, WallTime, limits,
};

use crate::judge::Checker;
use crate::plan::{MS, SECOND, exponential};

use super::schema::Asked;
use super::{Happening, Stage, World};

/// Counters of each table.
const KEYS: usize = 2;
/// How long a client waits for an answer.
const TIMEOUT: u64 = 1700 * MS;
/// Most tries of one increment.
const TRIES_MAX: u32 = 3;
/// Remainders of 17 that no seed has which was recorded before there were counters: those stay what
/// they are.
const REMAINDERS: [u64; 3] = [3, 9, 14];

/// How a seed uses counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CounterPlan {
    clients: usize,
    /// Mean pause of a client.
    think: u64,
    /// Share of reads.
    reads: f64,
    /// Share of requests of the causal table that are sloppy.
    sloppy: f64,
    /// Share of failed increments that are tried again.
    again: f64,
}

impl CounterPlan {
    /// About every sixth seed has one.
    pub(crate) fn draw(seed: u64) -> Option<CounterPlan> {
        let mut rng = Rng::with_seed(seed ^ 0x7461_6c6c_6965_7321);
        REMAINDERS.contains(&(seed % 17)).then(|| CounterPlan {
            clients: rng.usize(2..=4),
            think: rng.u64(40 * MS..150 * MS),
            reads: 0.2 + rng.f64() * 0.2,
            sloppy: if rng.bool() { 0.5 } else { 0.0 },
            again: [0.0, 0.5, 1.0][rng.usize(..3)],
        })
    }
}

/// One of the two tables, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tallies {
    exact: bool,
}

const BOTH: [Tallies; 2] = [Tallies { exact: false }, Tallies { exact: true }];

impl Tallies {
    fn name(self) -> TableName {
        let name = if self.exact { "meters" } else { "tallies" };
        TableName::try_from(name.to_owned()).expect("a plain name")
    }

    fn kind(self) -> TableKind {
        if self.exact { TableKind::Linearizable } else { TableKind::Causal }
    }
}

/// A read, or an increment over all its tries.
#[derive(Clone, Debug)]
struct Doing {
    of: Tallies,
    op: CounterOp,
    key: Key,
    by: Option<i64>,
    mode: QuorumMode,
    attempt: Attempt,
    tries: u32,
    uncertain: bool,
}

#[derive(Clone, Debug, Default)]
struct CounterClient {
    serial: u64,
    doing: Option<Doing>,
    heard: Option<(WallTime, u64)>,
}

/// The clients of a run, and what they have seen.
#[derive(Debug)]
pub(crate) struct CounterUse {
    rng: Rng,
    clients: Vec<CounterClient>,
    histories: [CounterHistory; 2],
    created: [bool; 2],
}

impl CounterUse {
    pub(super) fn new(seed: u64, plan: Option<CounterPlan>) -> CounterUse {
        CounterUse {
            rng: Rng::with_seed(seed ^ 0x6d65_7465_7273_2121),
            clients: vec![CounterClient::default(); plan.map_or(0, |plan| plan.clients)],
            histories: BOTH.map(|of| CounterHistory::new(of.exact)),
            created: [false; 2],
        }
    }

    fn history(&mut self, of: Tallies) -> &mut CounterHistory {
        &mut self.histories[usize::from(of.exact)]
    }
}

impl World {
    /// Makes the tables and lets their clients begin, if this seed has them.
    pub(super) fn schedule_counters(&mut self) {
        if self.plan.counters.is_none() {
            return;
        }
        BOTH.into_iter().for_each(|of| self.later(2 * SECOND, Happening::MakeCounters(of)));
        for client in 0..self.counters.clients.len() {
            self.later(3 * SECOND, Happening::CounterThink { client });
        }
    }

    pub(super) fn make_counters(&mut self, of: Tallies) {
        if self.counters.created[usize::from(of.exact)] || self.stage > Stage::Healed {
            return;
        }
        self.later(SECOND, Happening::MakeCounters(of));
        let host = self.counters.rng.usize(..self.hosts.len());
        let (name, kind) = (of.name(), of.kind());
        let (n, r, w, r_min, w_min) = (None, None, None, None, None);
        let (sloppy, ttl, value_bytes_max) = (None, None, None);
        let spec = TableSpec { name, kind, n, r, w, r_min, w_min, sloppy, ttl, value_bytes_max };
        // The same id each time: what was made is not made again.
        let (id, change) = (RequestId(0xc0 + u128::from(of.exact)), TableChange::Create(spec));
        let request = TableRequest::Change { id, change };
        self.ask_about_tables(host, Asked::CounterTable(of), |deadline, op| Event::Admin {
            op,
            deadline,
            request: AdminRequest::Table(Box::new(request)),
        });
    }

    pub(super) fn counter_table_answered(&mut self, of: Tallies, result: &ClientResult) {
        self.counters.created[usize::from(of.exact)] |= result.is_ok();
    }

    pub(super) fn counter_think(&mut self, client: usize) {
        let Some(plan) = self.plan.counters.filter(|_| self.stage <= Stage::Healed) else { return };
        let counters = &mut self.counters;
        let of = BOTH[usize::from(counters.rng.bool())];
        let (index, reads) = (counters.rng.usize(..KEYS), counters.rng.f64() < plan.reads);
        // In the linearizable table counters only rise, so that order can be judged.
        let by = if of.exact { counters.rng.i64(1..4) } else { counters.rng.i64(-3..10) };
        let sloppy = !of.exact && counters.rng.f64() < plan.sloppy;
        let id = RequestId(counters.rng.u128(1..));
        if !counters.created[usize::from(of.exact)] {
            return self.counter_rest(client);
        }
        let (key, by) = (key(index), (!reads).then_some(by));
        let mode = if sloppy { QuorumMode::Sloppy } else { QuorumMode::ByTable };
        let op = counters.history(of).invoke(key.clone(), by);
        let attempt = Attempt { id, ..Attempt::default() };
        let doing = Doing { of, op, key, by, mode, attempt, tries: 0, uncertain: false };
        counters.clients[client].doing = Some(doing);
        self.counter_try(client);
    }

    pub(super) fn counter_try(&mut self, client: usize) {
        let host = self.counters.rng.usize(..self.hosts.len());
        let now = self.now;
        let state = &mut self.counters.clients[client];
        let heard = state.heard.map(|(at, when)| WallTime(at.0 + (now - when)));
        let Some(doing) = &mut state.doing else { return };
        state.serial += 1;
        let serial = state.serial;
        let attempt = &mut doing.attempt;
        if doing.tries == 0 {
            attempt.since = heard.unwrap_or_default();
        }
        attempt.upper = heard.map(|time| time.max(attempt.lower).plus(limits::ATTEMPT_WINDOW));
        doing.tries += 1;
        let (of, op, attempt, mode) = (doing.of, doing.op, doing.attempt, doing.mode);
        let (table, key) = (of.name(), doing.key.clone());
        let body = match doing.by {
            None => {
                let (r, monotonic, traced) = (None, false, false);
                ClientBody::Get(Get { table, key, r, mode, monotonic, traced })
            }
            Some(by) => {
                let (w, traced) = (None, false);
                ClientBody::Increment(Box::new(Increment {
                    table,
                    key,
                    by,
                    w,
                    attempt,
                    mode,
                    traced,
                }))
            }
        };
        self.counters.history(of).tried(op);
        self.totals.counter_tries += 1;
        self.later(TIMEOUT, Happening::CounterTimeout { client, serial });
        self.ask_about_tables(host, Asked::Counter { client, serial }, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Connection(4000 + client as u64));
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn counter_timeout(&mut self, client: usize, serial: u64) {
        let error = OpError::new(ErrorCode::DeadlineExceeded, "no answer");
        self.counter_heard(client, serial, &Err(error.with_applied(Applied::Unknown)));
    }

    /// An answer has left its node: some are lost on their way.
    pub(super) fn counter_answered(&mut self, client: usize, serial: u64, result: &ClientResult) {
        if self.counters.rng.f64() < self.plan.network.client_loss.max(0.05) {
            return;
        }
        self.counter_heard(client, serial, result);
    }

    fn counter_heard(&mut self, client: usize, serial: u64, result: &ClientResult) {
        let now = self.now;
        let state = &mut self.counters.clients[client];
        if state.serial != serial || state.doing.is_none() {
            return;
        }
        // An answer to this try that comes later is ignored.
        state.serial += 1;
        let time = match result {
            Ok(Reply::Causal(reply)) => Some(reply.receipt.server_time),
            Ok(Reply::Get(reply)) => Some(reply.receipt.server_time),
            Ok(Reply::Increment(reply)) => Some(reply.receipt.server_time),
            Ok(_) => None,
            Err(error) => error.facts.server_time,
        };
        if let Some(time) = time.filter(|time| time.0 > 0) {
            state.heard = Some((time, now));
        }
        match result {
            Err(error) => self.counter_failed(client, error),
            Ok(reply) => {
                let Some(doing) = state.doing.take() else { return };
                self.totals.counter_done += 1;
                self.totals.counter_retried += u64::from(doing.by.is_some() && doing.tries > 1);
                self.counter_done(doing.of, doing.op, reply);
                self.counter_rest(client);
            }
        }
    }

    fn counter_done(&mut self, of: Tallies, op: CounterOp, reply: &Reply) {
        let history = self.counters.history(of);
        match reply {
            Reply::Causal(reply) if reply.wrote => {
                history.made(op, reply.counter, reply.receipt.stand_ins != 0);
            }
            Reply::Increment(reply) => history.made(op, reply.value, false),
            Reply::Get(reply) => {
                let value = reply.record.as_ref().and_then(|record| record.value.as_ref());
                history.read(op, value.map_or(0, number));
            }
            Reply::Causal(reply) if !reply.receipt.may_miss && reply.receipt.stand_ins == 0 => {
                let sum = reply.siblings.iter().map(|sibling| number(&sibling.value)).sum();
                history.read(op, sum);
                if reply.siblings.len() > 1 {
                    let text = format_args!("a counter is shown as {:?}", reply.siblings);
                    self.find(Checker::Counter, text);
                }
            }
            _ => {}
        }
    }

    fn counter_failed(&mut self, client: usize, error: &OpError) {
        let Some(plan) = self.plan.counters else { return };
        let again = self.counters.rng.f64() < plan.again && self.stage <= Stage::Healed;
        let wait = self.counters.rng.u64(5 * MS..100 * MS);
        let Some(doing) = &mut self.counters.clients[client].doing else { return };
        doing.uncertain |= error.applied != Applied::No;
        let windowed = doing.attempt.upper.is_some() || !doing.uncertain;
        let retryable = error.code.is_retryable() && doing.by.is_some();
        if again && windowed && retryable && doing.tries < TRIES_MAX {
            doing.attempt.number += 1;
            if let Some(upper) = doing.attempt.upper.filter(|_| doing.uncertain) {
                doing.attempt.lower = upper;
            }
            return self.later(wait + limits_window(), Happening::CounterTry { client });
        }
        let failed = (!doing.uncertain).then_some((doing.of, doing.op));
        self.counters.clients[client].doing = None;
        if let Some((of, op)) = failed {
            self.counters.history(of).failed(op);
        }
        self.counter_rest(client);
    }

    fn counter_rest(&mut self, client: usize) {
        let Some(plan) = self.plan.counters else { return };
        let pause = exponential(&mut self.counters.rng, plan.think) + MS;
        self.later(pause, Happening::CounterThink { client });
    }

    /// Every node reads every counter, once clients have had the time to hear of what they have begun.
    /// How long that takes.
    pub(super) fn read_counters_back(&mut self, wait: u64) -> u64 {
        if self.plan.counters.is_none() {
            return 0;
        }
        for host in 0..self.hosts.len() {
            for place in 0..2 * KEYS {
                let after = wait + TIMEOUT + host as u64 * 20 * MS;
                self.later(after, Happening::CounterBack { host, place });
            }
        }
        wait + 2 * TIMEOUT + SECOND
    }

    pub(super) fn counter_back(&mut self, host: usize, place: usize) {
        let of = BOTH[place / KEYS];
        if !self.hosts[host].serves() || !self.counters.created[usize::from(of.exact)] {
            return;
        }
        let key = key(place % KEYS);
        let op = self.counters.history(of).invoke(key.clone(), None);
        let (table, mode, r) = (of.name(), QuorumMode::ByTable, Some(Quorum::Majority));
        let (monotonic, traced) = (false, false);
        let body = ClientBody::Get(Get { table, key, r, mode, monotonic, traced });
        self.ask_about_tables(host, Asked::CounterBack { of, op }, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Anonymous);
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn counter_read_back(&mut self, of: Tallies, op: CounterOp, result: &ClientResult) {
        if let Ok(reply) = result {
            self.totals.counter_read_back += 1;
            self.counter_done(of, op, reply);
        }
    }

    /// All hints are home.
    pub(super) fn counters_home(&mut self) {
        self.counters.histories.iter_mut().for_each(CounterHistory::home);
    }

    /// Whether what the clients have seen can be.
    pub(super) fn judge_counters(&mut self) {
        for (of, history) in BOTH.into_iter().zip(core::mem::take(&mut self.counters.histories)) {
            self.totals.counter_made += history.acknowledged() as u64;
            if let Some(fault) = history.judge().first() {
                self.find(Checker::Counter, format_args!("{}: {fault}", of.name()));
            }
        }
    }
}

/// A try that waits until the window of the last is over drives no clock forward.
fn limits_window() -> u64 {
    u64::try_from(limits::ATTEMPT_WINDOW.as_nanos()).unwrap_or(SECOND)
}

/// What is shown of a counter; what is none is out of all bounds.
fn number(value: &Value) -> i64 {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.parse().unwrap_or(i64::MIN)
}

fn key(index: usize) -> Key {
    Key::new(format!("count{index}")).expect("a short key")
}
