//! Clients of a causal table: they read, write with and without what they have read, delete, and
//! try again under the same id; at the end every node reads every key, and the owners must agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use parking_lot::Mutex;
use roundtable::causality::SiblingSet;
use roundtable::load::causal::{CausalAction, CausalHistory, CausalOutcome, Saw};
use roundtable::load::history::OpIndex;
use roundtable::message::{
    AdminRequest, Applied, Attempt, CausalDisk, CausalDone, CausalReply, CausalTask, ClientBody,
    ClientRequest, ClientResult, DiskAnswer, DiskRequest, Event, Get, OpError, Principal, Put,
    QuorumMode, Reply, Scan, TableChange, TableRequest, TableSpec, TimeToLive,
};
use roundtable::types::{
    Key, Quorum, RequestId, TableKind, TableName, TraceId, Unit, Value, WallTime, limits,
};

use crate::judge::Checker;
use crate::plan::{MS, SECOND, exponential};

use super::schema::Asked;
use super::{Happening, Stage, World};

/// Owners of each of its keys.
const OWNERS: usize = 3;
/// Keys of the table.
const KEYS: usize = 3;
/// How long a client waits for an answer.
const TIMEOUT: u64 = 1700 * MS;
/// Most tries of one write.
const TRIES_MAX: u32 = 4;

/// How a seed uses a causal table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CausalPlan {
    clients: usize,
    /// Mean pause of a client.
    think: u64,
    /// Share of reads; the rest writes.
    reads: f64,
    /// Share of requests that are sloppy; `None` where there are none.
    sloppy: Option<f64>,
    /// Some reads are monotonic.
    monotonic: bool,
}

impl CausalPlan {
    /// Every third seed has one. Drawn apart, so that the others stay what they are.
    pub(crate) fn draw(seed: u64) -> Option<CausalPlan> {
        let mut rng = Rng::with_seed(seed ^ 0x6361_7573_616c_2e2e);
        let mut modes = Rng::with_seed(seed ^ 0x6361_7573_2e6d_6f64);
        (seed % 3 == EVERY_THIRD).then(|| CausalPlan {
            clients: rng.usize(2..=4),
            think: rng.u64(30 * MS..120 * MS),
            reads: 0.2 + rng.f64() * 0.3,
            sloppy: modes.bool().then(|| 0.3 + modes.f64() * 0.7),
            monotonic: modes.u8(..3) == 0,
        })
    }
}

/// Which of three seeds.
const EVERY_THIRD: u64 = 2;

/// What a client carries from its last read or write of a key.
#[derive(Clone, Debug, Default)]
struct Carried {
    context: Bytes,
    saw: Vec<Value>,
}

/// An operation of a client, over all its tries.
#[derive(Clone, Debug)]
struct Doing {
    op: OpIndex,
    key: Key,
    body: ClientBody,
    /// What its writer will have seen, when it succeeds; `None` when nobody can tell.
    carried: Option<Vec<Value>>,
    attempt: Attempt,
    tries: u32,
    uncertain: bool,
    /// A delete of whatever its coordinator finds: with stand-ins it may not find all.
    finds: bool,
}

#[derive(Debug, Default)]
struct CausalClient {
    serial: u64,
    carried: BTreeMap<Key, Carried>,
    doing: Option<Doing>,
    heard: Option<(WallTime, u64)>,
}

/// The clients of a run, and what they have seen.
#[derive(Debug)]
pub(crate) struct CausalUse {
    pub(super) rng: Rng,
    /// Of which kind requests are. Apart, so that all other draws stay as they are.
    modes: Rng,
    clients: Vec<CausalClient>,
    history: CausalHistory,
    created: bool,
    writes: u64,
}

impl CausalUse {
    pub(super) fn new(seed: u64, plan: Option<CausalPlan>) -> CausalUse {
        let clients = plan.map_or(0, |plan| plan.clients);
        CausalUse {
            rng: Rng::with_seed(seed ^ 0x6361_7274_732e_2e2e),
            modes: Rng::with_seed(seed ^ 0x6361_7274_732e_6d6f),
            clients: (0..clients).map(|_| CausalClient::default()).collect(),
            history: CausalHistory::new(),
            created: false,
            writes: 0,
        }
    }

    /// A value that nobody else writes; some are large enough to be stored apart.
    fn value(&mut self) -> Value {
        self.writes += 1;
        let mut bytes = format!("{}", self.writes).into_bytes();
        let length = if self.rng.u8(..4) == 0 { limits::SIBLING_INLINE_BYTES + 9 } else { 1 };
        bytes.resize(bytes.len().max(length), b'.');
        Value::new(bytes).expect("far below the limit")
    }
}

impl World {
    /// Makes the table and lets its clients begin, if this seed has one.
    pub(super) fn schedule_causal(&mut self) {
        if self.plan.causal.is_none() {
            return;
        }
        self.later(2 * SECOND, Happening::MakeCausal);
        for client in 0..self.causal.clients.len() {
            self.later(3 * SECOND, Happening::CausalThink { client });
        }
        let sloppy = self.plan.causal.is_some_and(|plan| plan.sloppy.is_some());
        if sloppy && self.hosts.len() > OWNERS {
            let first = self.causal.modes.u64(5 * SECOND..9 * SECOND);
            self.later(first, Happening::CausalOutage);
        }
    }

    /// The owners of a key lose power at once, as far as two nodes are left: stand-ins must do. By
    /// itself that hardly happens.
    pub(super) fn causal_outage(&mut self) {
        if self.stage != Stage::Turmoil {
            return;
        }
        let key = key(self.causal.modes.usize(..KEYS));
        let mut owners = self.causal_owners(&key);
        owners.truncate(self.hosts.len() - 2);
        owners.retain(|owner| self.hosts[*owner].running.is_some());
        self.totals.causal_outages += u64::from(!owners.is_empty());
        for owner in owners {
            self.kill(owner);
            let back = self.causal.modes.u64(SECOND..4 * SECOND);
            self.start_after(owner, back);
        }
        let next = self.causal.modes.u64(5 * SECOND..9 * SECOND);
        self.later(next, Happening::CausalOutage);
    }

    pub(super) fn make_causal(&mut self) {
        if self.causal.created || self.stage > Stage::Healed {
            return;
        }
        self.later(SECOND, Happening::MakeCausal);
        let host = self.causal.rng.usize(..self.hosts.len());
        let spec = TableSpec {
            name: table(),
            kind: TableKind::Causal,
            n: None,
            r: None,
            w: None,
            r_min: None,
            w_min: None,
            sloppy: None,
            ttl: None,
            value_bytes_max: None,
        };
        // The same id each time: what was made is not made again.
        let (id, change) = (RequestId(0xca), TableChange::Create(spec));
        let request = TableRequest::Change { id, change };
        self.ask_about_tables(host, Asked::CausalTable, |deadline, op| Event::Admin {
            op,
            deadline,
            request: AdminRequest::Table(Box::new(request)),
        });
    }

    pub(super) fn causal_table_answered(&mut self, result: &ClientResult) {
        self.causal.created |= result.is_ok();
    }

    pub(super) fn causal_think(&mut self, client: usize) {
        let Some(plan) = self.plan.causal.filter(|_| self.stage <= Stage::Healed) else { return };
        let pause = exponential(&mut self.causal.rng, plan.think) + MS;
        if !self.causal.created {
            return self.later(pause, Happening::CausalThink { client });
        }
        let doing = self.draw_causal(client, plan);
        self.causal.clients[client].doing = Some(doing);
        self.try_causal(client);
    }

    fn draw_causal(&mut self, client: usize, plan: CausalPlan) -> Doing {
        let now = self.time();
        let causal = &mut self.causal;
        let sloppy = plan.sloppy.is_some_and(|share| causal.modes.f64() < share);
        let mode = if sloppy { QuorumMode::Sloppy } else { QuorumMode::ByTable };
        let monotonic = plan.monotonic && !sloppy && causal.modes.bool();
        let key = key(causal.rng.usize(..KEYS));
        let quorum = (causal.rng.u8(..8) == 0).then_some(Quorum::All);
        let attempt = Attempt { id: RequestId(causal.rng.u128(1..)), ..Attempt::default() };
        let carried = causal.clients[client].carried.get(&key).cloned();
        let body = |value, context| {
            let (table, key, w, r) = (table(), key.clone(), quorum, None);
            let (ttl, time, traced) = (TimeToLive::Table, None, false);
            let put = Put { table, key, value, ttl, w, r, attempt, time, mode, context, traced };
            ClientBody::Put(put)
        };
        let (action, body, saw) = if causal.rng.f64() < plan.reads {
            let key = key.clone();
            let get = Get { table: table(), key, r: quorum, mode, monotonic, traced: false };
            let action = if monotonic { CausalAction::Monotonic } else { CausalAction::Get };
            (action, ClientBody::Get(get), None)
        } else {
            let blind = causal.rng.u8(..3) == 0;
            let Carried { context, saw } = carried.filter(|_| !blind).unwrap_or_default();
            if causal.rng.u8(..5) == 0 {
                let sees = !context.is_empty();
                let seen = if sees { Saw::Values(saw.clone()) } else { Saw::Whatever };
                (CausalAction::Delete(seen), body(None, context), sees.then_some(saw))
            } else {
                let value = causal.value();
                let mut after = saw.clone();
                after.push(value.clone());
                let action = CausalAction::Put(value.clone(), Saw::Values(saw));
                (action, body(Some(value), context), Some(after))
            }
        };
        let finds = action == CausalAction::Delete(Saw::Whatever);
        let op = causal.history.invoke(key.clone(), action, now);
        Doing { op, key, body, carried: saw, attempt, tries: 0, uncertain: false, finds }
    }

    fn try_causal(&mut self, client: usize) {
        let mut host = self.causal.rng.usize(..self.hosts.len());
        if self.plan.causal.is_some_and(|plan| plan.sloppy.is_some()) {
            // Where most are down, clients would wait for them most of the time.
            let all = self.hosts.len();
            let mut others = (0..all).map(|step| (host + step) % all);
            host = others.find(|other| self.hosts[*other].running.is_some()).unwrap_or(host);
        }
        let now = self.now;
        let state = &mut self.causal.clients[client];
        state.serial += 1;
        let serial = state.serial;
        let heard = state.heard.map(|(at, when)| WallTime(at.0 + (now - when)));
        let Some(doing) = &mut state.doing else { return };
        let attempt = &mut doing.attempt;
        attempt.upper = heard.map(|time| time.max(attempt.lower).plus(limits::ATTEMPT_WINDOW));
        doing.tries += 1;
        let (mut body, attempt) = (doing.body.clone(), doing.attempt);
        if let ClientBody::Put(put) = &mut body {
            put.attempt = attempt;
        }
        self.later(TIMEOUT, Happening::CausalTimeout { client, serial });
        self.totals.causal_tries += 1;
        let asked = Asked::Causal { client, serial };
        self.ask_about_tables(host, asked, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Connection(1000 + client as u64));
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn causal_timeout(&mut self, client: usize, serial: u64) {
        let error = OpError::new(roundtable::message::ErrorCode::DeadlineExceeded, "no answer")
            .with_applied(Applied::Unknown);
        self.causal_answered(client, serial, &Err(error));
    }

    pub(super) fn causal_answered(&mut self, client: usize, serial: u64, result: &ClientResult) {
        let now = self.now;
        let state = &mut self.causal.clients[client];
        if state.serial != serial || state.doing.is_none() {
            return;
        }
        // An answer to this try that comes later is ignored.
        state.serial += 1;
        match result {
            Ok(Reply::Causal(reply)) => {
                state.heard = Some((reply.receipt.server_time, now));
                self.causal_done(client, reply);
            }
            Ok(_) => self.causal_over(client, false),
            Err(error) => {
                if let Some(time) = error.facts.server_time {
                    state.heard = Some((time, now));
                }
                self.causal_failed(client, error);
            }
        }
    }

    fn causal_done(&mut self, client: usize, reply: &CausalReply) {
        let Some(doing) = self.causal.clients[client].doing.take() else { return };
        self.totals.causal_done += 1;
        let values: Vec<Value> = reply.siblings.iter().map(|s| s.value.clone()).collect();
        let receipt = &reply.receipt;
        let (outcome, saw) = if reply.wrote {
            self.totals.causal_custody += u64::from(receipt.stand_ins != 0);
            let outcome = match receipt.stand_ins {
                0 => CausalOutcome::Written,
                _ if doing.finds => CausalOutcome::Weak,
                _ => CausalOutcome::Custody,
            };
            (outcome, doing.carried)
        } else {
            self.totals.causal_siblings += u64::from(values.len() > 1);
            let sure = !receipt.may_miss && receipt.stand_ins == 0;
            let read = CausalOutcome::Read(values.clone());
            (if sure { read } else { CausalOutcome::Weak }, Some(values))
        };
        self.causal.history.complete(doing.op, outcome);
        let carried = &mut self.causal.clients[client].carried;
        match saw {
            Some(saw) => {
                carried.insert(doing.key, Carried { context: reply.context.clone(), saw });
            }
            None => {
                carried.remove(&doing.key);
            }
        }
        self.causal_rest(client);
    }

    fn causal_failed(&mut self, client: usize, error: &OpError) {
        let sloppy = self.plan.causal.is_some_and(|plan| plan.sloppy.is_some());
        // Hints of late tries would be on their way while everything is read back.
        let late = sloppy && self.stage > Stage::Healed;
        let again = self.causal.rng.u8(..4) > 0 && !late;
        let wait = self.causal.rng.u64(5 * MS..100 * MS);
        let Some(doing) = &mut self.causal.clients[client].doing else { return };
        doing.uncertain |= error.applied != Applied::No;
        let windowed = doing.attempt.upper.is_some() || !doing.uncertain;
        if again && windowed && error.code.is_retryable() && doing.tries < TRIES_MAX {
            doing.attempt.number += 1;
            if let Some(upper) = doing.attempt.upper.filter(|_| doing.uncertain) {
                doing.attempt.lower = upper;
            }
            self.totals.causal_retries += 1;
            self.causal.history.tried_again(doing.op);
            // As the client library does, where that does not take all of its time.
            let (lower, now) = (doing.attempt.lower, self.now);
            let heard = self.causal.clients[client].heard;
            let ahead = heard.map(|(at, when)| lower.ahead_of(WallTime(at.0 + (now - when))));
            let ahead = ahead.and_then(|ahead| u64::try_from(ahead.as_nanos()).ok());
            let wait = wait.max(ahead.filter(|ahead| *ahead <= TIMEOUT).unwrap_or(0));
            return self.later(wait, Happening::CausalTry { client });
        }
        let uncertain = doing.uncertain;
        self.causal_over(client, !uncertain);
    }

    pub(super) fn causal_try(&mut self, client: usize) {
        if self.causal.clients[client].doing.is_some() {
            self.try_causal(client);
        }
    }

    fn causal_over(&mut self, client: usize, failed: bool) {
        let Some(doing) = self.causal.clients[client].doing.take() else { return };
        let outcome = if failed { CausalOutcome::Failed } else { CausalOutcome::Unknown };
        self.causal.history.complete(doing.op, outcome);
        self.causal_rest(client);
    }

    fn causal_rest(&mut self, client: usize) {
        let Some(plan) = self.plan.causal else { return };
        let pause = exponential(&mut self.causal.rng, plan.think) + MS;
        self.later(pause, Happening::CausalThink { client });
    }

    /// Every node reads every key, once clients have had the time to hear of what they have begun. How long that
    /// takes.
    pub(super) fn read_causal_back(&mut self, wait: u64) -> u64 {
        if self.plan.causal.is_none() || !self.causal.created {
            return 0;
        }
        let mut last = 0;
        for (number, host) in (0u64..).zip(0..self.hosts.len()) {
            for index in 0..KEYS {
                let after = wait + TIMEOUT + number * 20 * MS;
                self.later(after, Happening::CausalBack { host, index });
                last = after + TIMEOUT;
            }
        }
        last
    }

    pub(super) fn causal_back(&mut self, host: usize, index: usize) {
        if !self.hosts[host].serves() {
            return;
        }
        let (key, now) = (key(index), self.time());
        let owners = self.causal_owners(&key);
        let whole = owners.iter().all(|owner| self.hosts[*owner].doomed.is_none());
        let r = Some(if whole { Quorum::All } else { Quorum::Majority });
        let op = self.causal.history.invoke(key.clone(), CausalAction::Get, now);
        let body = if host == 0 && index == 0 {
            // One of them reads all keys at once.
            let (prefix, after) = (Bytes::new(), Bytes::new());
            let (limit, keys_only, reverse, r) = (100, false, false, None);
            ClientBody::Scan(Scan {
                table: table(),
                prefix,
                after,
                limit,
                keys_only,
                reverse,
                r,
                part: None,
            })
        } else {
            let mode = QuorumMode::ByTable;
            let (key, monotonic) = (key.clone(), false);
            ClientBody::Get(Get { table: table(), key, r, mode, monotonic, traced: false })
        };
        self.ask_about_tables(host, Asked::CausalBack { op }, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Anonymous);
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn causal_read_back(&mut self, op: OpIndex, result: &ClientResult) {
        if let Ok(Reply::Causal(reply)) = result
            && !reply.receipt.may_miss
        {
            let values = reply.siblings.iter().map(|s| s.value.clone()).collect();
            self.causal.history.complete(op, CausalOutcome::Read(values));
        }
        if let Ok(Reply::Scan(page)) = result
            && !page.receipt.may_miss
        {
            // A page leaves out what it cannot show in full: only what is there is judged.
            let wanted = key(0);
            let found = page.entries.iter().find(|entry| entry.key == wanted);
            let shown = found.map_or(Some(Vec::new()), |entry| {
                entry.record.value.clone().map(|value| vec![value])
            });
            if let Some(values) = shown {
                self.causal.history.complete(op, CausalOutcome::Read(values));
            }
        }
    }

    /// All hints are home.
    pub(super) fn causal_home(&mut self) {
        self.causal.history.home();
    }

    /// What the clients have seen, and whether owners agree in the end.
    pub(super) fn judge_causal(&mut self) {
        let history = core::mem::take(&mut self.causal.history);
        let violations = roundtable::load::check::causal(&history);
        if let Some(violation) = violations.first() {
            let lines: Vec<String> = history
                .operations()
                .iter()
                .enumerate()
                .filter(|(_, operation)| {
                    violation.to_string().starts_with(&format!("{:?}", operation.key))
                })
                .map(|(index, operation)| format!("  {index} {operation}"))
                .collect();
            let text = format_args!("{violation}\n{}", lines.join("\n"));
            self.find(Checker::Causal, text);
        }
    }

    /// All owners that serve have been read by a read of all: they must hold the same.
    pub(super) fn compare_causal(&mut self) {
        // A late hint is on its way to one owner after the other.
        if self.plan.causal.is_none() || !self.causal.created || self.has_hints_left() {
            return;
        }
        for index in 0..KEYS {
            let key = key(index);
            let owners: Vec<usize> = self.causal_owners(&key);
            let owners = owners.into_iter().filter(|owner| self.hosts[*owner].serves());
            // What is left of a set without siblings each owner purges when it comes to it.
            let is_purged =
                |set: &SiblingSet| set.writes().len() == 0 && self.plan.repair.is_some();
            let held = |owner| self.causal_held(owner, &key).filter(|set| !is_purged(set));
            let found: Vec<Option<SiblingSet>> = owners.map(held).collect();
            self.totals.causal_compared += 1;
            if found.windows(2).any(|pair| pair[0] != pair[1]) {
                let text = format_args!("owners of {key:?} hold {found:#?} after a read of all");
                self.find(Checker::Convergence, text);
            }
        }
    }

    fn causal_unit(&self, key: &Key) -> Option<(Unit, roundtable::types::TableId)> {
        let state = self.state()?;
        let table = state.table_named(&table())?;
        let token = roundtable::ring::token(key.as_bytes());
        let partition = roundtable::ring::partition_of(token, state.settings.partitions);
        Some((Unit { class: table.class, partition }, table.id))
    }

    fn causal_owners(&self, key: &Key) -> Vec<usize> {
        let Some((unit, _)) = self.causal_unit(key) else { return Vec::new() };
        let Some(state) = self.state() else { return Vec::new() };
        state.owners(unit).iter().map(|owner| super::host::machine(*owner)).collect()
    }

    fn causal_held(&self, host: usize, key: &Key) -> Option<SiblingSet> {
        let (unit, table) = self.causal_unit(key)?;
        let running = self.hosts[host].running.as_ref()?;
        let found = Arc::new(Mutex::new(None));
        let answer = Arc::clone(&found);
        let disk = CausalDisk { unit, table, key: key.clone(), task: CausalTask::Read };
        let done = Box::new(move |result| {
            if let Ok(DiskAnswer::Causal(CausalDone::Read(set))) = result {
                *answer.lock() = Some(set);
            }
        });
        running.replica.execute(DiskRequest::Causal(Box::new(disk)), done);
        while found.lock().is_none() && running.replica.step() {}
        found.lock().take()
    }
}

fn table() -> TableName {
    TableName::try_from("carts".to_owned()).expect("a plain name")
}

fn key(index: usize) -> Key {
    Key::new(format!("cart{index}")).expect("a short key")
}
