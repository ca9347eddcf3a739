//! Clients of a linearizable table: they read, write, delete, compare and set, try again under the
//! same id, give up early, and ask what became of writes whose outcome they do not know. The whole
//! history of every key must have an explanation by one register.

use std::collections::BTreeMap;

use core::time::Duration;

use fastrand::Rng;
use roundtable::load::check::{Violation, linearizable};
use roundtable::load::history::{
    Action, Expect, History, Life, OpIndex, Outcome, ProcessId, Settled,
};
use roundtable::message::{
    AdminRequest, Applied, Attempt, Cas, ClientBody, ClientRequest, ClientResult, ErrorCode, Event,
    Expectation, Fate, Get, OpError, OutcomeAsk, Principal, Put, QuorumMode, Receipt, Reply,
    TableChange, TableRequest, TableSpec, TimeToLive,
};
use roundtable::types::{
    Key, RequestId, Stamp, TableKind, TableName, TraceId, Value, WallTime, limits,
};

use crate::judge::Checker;
use crate::plan::{MS, SECOND, exponential};

use super::schema::Asked;
use super::traffic::CLOCKS_APART;
use super::{Happening, Stage, World};

/// How long a patient client waits for an answer.
const TIMEOUT: u64 = 1700 * MS;
/// Most tries of one write, and of one question.
const TRIES_MAX: u32 = 4;
/// How often a read is tried in the end, every 100 ms, at nodes that are full or whose clocks are off: one that was half a
/// minute ahead has left ballots that the others may go above only when their walls have caught up.
const BACK_TRIES_MAX: u32 = 400;

/// How a seed uses a linearizable table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegisterPlan {
    clients: usize,
    /// Keys of the table: few, so that clients meet.
    pub(super) keys: usize,
    /// Mean pause of a client.
    think: u64,
    /// Share of reads; the rest changes.
    reads: f64,
    /// Share of tries that are given up early.
    hasty: f64,
    /// Share of values that expire.
    expiring: f64,
}

impl RegisterPlan {
    /// A third of the seeds has one. Drawn apart, so that the others stay what they are.
    pub(crate) fn draw(seed: u64, expiring: f64) -> Option<RegisterPlan> {
        let mut rng = Rng::with_seed(seed ^ APART);
        rng.u64(..).is_multiple_of(3).then(|| RegisterPlan {
            clients: rng.usize(2..=4),
            keys: rng.usize(1..=2),
            think: rng.u64(30 * MS..150 * MS),
            reads: 0.2 + rng.f64() * 0.3,
            hasty: rng.f64() * 0.3,
            // Where nobody can say when a value expires, none does.
            expiring: if expiring > 0.0 { 0.3 } else { 0.0 },
        })
    }
}

/// Chosen so that the seeds that were recorded before there were such tables have none.
const APART: u64 = 0x7265_6769_7374_e813;

/// What a client is at.
#[derive(Clone, Debug)]
struct Doing {
    op: OpIndex,
    body: ClientBody,
    attempt: Attempt,
    tries: u32,
    uncertain: bool,
    /// It finds out what became of a write that was given up: a question, or the write once more.
    settles: bool,
}

#[derive(Debug)]
struct RegisterClient {
    process: ProcessId,
    serial: u64,
    /// What it has seen of each key.
    seen: BTreeMap<Key, (Value, Stamp)>,
    doing: Option<Doing>,
    /// Writes of unknown outcome that it is to ask after or to send again, newest last.
    unknown: Vec<(OpIndex, ClientBody, Attempt)>,
    heard: Option<(WallTime, u64)>,
}

/// The clients of a run, and what they have seen.
#[derive(Debug)]
pub(crate) struct RegisterUse {
    pub(super) rng: Rng,
    clients: Vec<RegisterClient>,
    pub(super) history: History,
    pub(super) created: bool,
    writes: u64,
}

impl RegisterUse {
    pub(super) fn new(seed: u64, plan: Option<RegisterPlan>) -> RegisterUse {
        let mut history = History::new();
        let client = |history: &mut History| RegisterClient {
            process: history.new_process(),
            serial: 0,
            seen: BTreeMap::new(),
            doing: None,
            unknown: Vec::new(),
            heard: None,
        };
        let clients = plan.map_or(0, |plan| plan.clients);
        let clients = (0..clients).map(|_| client(&mut history)).collect();
        let rng = Rng::with_seed(seed ^ 0x7365_6174_732e_2e2e);
        RegisterUse { rng, clients, history, created: false, writes: 0 }
    }

    /// A value that nobody else writes.
    fn value(&mut self) -> Value {
        self.writes += 1;
        Value::new(format!("{}", self.writes)).expect("far below the limit")
    }

    /// What an expected value or version is drawn from: most clients expect what they have seen.
    fn expectation(&mut self, seen: Option<&(Value, Stamp)>) -> (Expect, Expectation) {
        let drawn = self.rng.u8(..10);
        match seen {
            Some((value, _)) if drawn < 5 => {
                (Expect::Value(value.clone()), Expectation::Value(value.clone()))
            }
            Some((_, stamp)) if drawn < 8 => (Expect::Stamp(*stamp), Expectation::Stamp(*stamp)),
            _ => (Expect::Absent, Expectation::Absent),
        }
    }
}

impl World {
    /// Makes the table and lets its clients begin, if this seed has one.
    pub(super) fn schedule_register(&mut self) {
        if self.plan.register.is_none() {
            return;
        }
        self.later(2 * SECOND, Happening::MakeRegister);
        for client in 0..self.register.clients.len() {
            self.later(3 * SECOND, Happening::RegisterThink { client });
        }
    }

    pub(super) fn make_register(&mut self) {
        if self.register.created || self.stage > Stage::Healed {
            return;
        }
        self.later(SECOND, Happening::MakeRegister);
        let host = self.register.rng.usize(..self.hosts.len());
        let spec = TableSpec {
            name: table(),
            kind: TableKind::Linearizable,
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
        let (id, change) = (RequestId(0x5ea7), TableChange::Create(spec));
        let request = TableRequest::Change { id, change };
        self.ask_about_tables(host, Asked::RegisterTable, |deadline, op| Event::Admin {
            op,
            deadline,
            request: AdminRequest::Table(Box::new(request)),
        });
    }

    pub(super) fn register_table_answered(&mut self, result: &ClientResult) {
        self.register.created |= result.is_ok();
    }

    pub(super) fn register_think(&mut self, client: usize) {
        let Some(plan) = self.plan.register.filter(|_| self.stage <= Stage::Healed) else { return };
        if !self.register.created {
            let pause = exponential(&mut self.register.rng, plan.think) + MS;
            return self.later(pause, Happening::RegisterThink { client });
        }
        let ask = self.register.rng.bool();
        let unknown = &mut self.register.clients[client].unknown;
        let unknown = if ask { unknown.pop() } else { None };
        let doing = match unknown {
            Some(unknown) => self.settle_register(client, unknown),
            None => self.draw_register(client, &plan),
        };
        self.register.clients[client].doing = Some(doing);
        self.try_register(client);
    }

    fn draw_register(&mut self, client: usize, plan: &RegisterPlan) -> Doing {
        let now = self.time();
        let register = &mut self.register;
        let key = key(register.rng.usize(..plan.keys));
        let process = register.clients[client].process;
        let attempt = Attempt { id: RequestId(register.rng.u128(1..)), ..Attempt::default() };
        let ttl = if register.rng.f64() < plan.expiring {
            TimeToLive::For(Duration::from_millis(register.rng.u64(100..4000)))
        } else {
            TimeToLive::Table
        };
        let (table, mode) = (table(), QuorumMode::ByTable);
        let put = |value| {
            let (table, key, context) = (table.clone(), key.clone(), bytes::Bytes::new());
            let (w, r, time, traced) = (None, None, None, false);
            let put = Put { table, key, value, ttl, w, r, attempt, time, mode, context, traced };
            ClientBody::Put(put)
        };
        let (action, body) = if register.rng.f64() < plan.reads {
            let (key, monotonic) = (key.clone(), false);
            let get = Get { table, key, r: None, mode, monotonic, traced: false };
            (Action::Get, ClientBody::Get(get))
        } else {
            match register.rng.u8(..10) {
                0..3 => {
                    let value = register.value();
                    (Action::Put(value.clone()), put(Some(value)))
                }
                3 => (Action::Delete, put(None)),
                drawn => {
                    let seen = register.clients[client].seen.get(&key).cloned();
                    let (wanted, expect) = register.expectation(seen.as_ref());
                    let value = (drawn > 4).then(|| register.value());
                    let cas =
                        Cas { table, key: key.clone(), expect, value: value.clone(), ttl, attempt };
                    (Action::Cas(wanted, value), ClientBody::Cas(Box::new(cas)))
                }
            }
        };
        let valued = matches!(&action, Action::Put(_) | Action::Cas(_, Some(_)));
        let op = register.history.invoke(process, key, action, now);
        if let (true, TimeToLive::For(ttl)) = (valued, ttl) {
            register.history.expires(op, Life { ttl, slack: CLOCKS_APART });
        }
        Doing { op, body, attempt, tries: 0, uncertain: false, settles: false }
    }

    /// Asks after a write, or sends it once more, above every window that may still be open.
    fn settle_register(
        &mut self,
        client: usize,
        (op, body, mut attempt): (OpIndex, ClientBody, Attempt),
    ) -> Doing {
        let again = self.register.rng.u8(..3) == 0;
        let now = self.now;
        let heard = self.register.clients[client].heard;
        let body = match (attempt.upper, heard) {
            (Some(upper), Some((at, when))) if again => {
                let open = WallTime(at.0 + (now - when)).plus(limits::ATTEMPT_WINDOW);
                attempt.number += 1;
                attempt.lower = upper.max(open);
                body
            }
            _ => {
                let (id, since) = (attempt.id, attempt.since);
                let lower = attempt.upper.unwrap_or(attempt.lower);
                let key = key_of(&body);
                ClientBody::Outcome(OutcomeAsk { table: table(), key, id, since, lower })
            }
        };
        Doing { op, body, attempt, tries: 0, uncertain: true, settles: true }
    }

    fn try_register(&mut self, client: usize) {
        let host = self.register.rng.usize(..self.hosts.len());
        let hasty = self.plan.register.is_some_and(|plan| self.register.rng.f64() < plan.hasty);
        let patience = if hasty { self.register.rng.u64(5 * MS..200 * MS) } else { TIMEOUT };
        let now = self.now;
        let state = &mut self.register.clients[client];
        state.serial += 1;
        let serial = state.serial;
        let heard = state.heard.map(|(at, when)| WallTime(at.0 + (now - when)));
        let Some(doing) = &mut state.doing else { return };
        let attempt = &mut doing.attempt;
        if doing.tries == 0 && !doing.settles {
            attempt.since = heard.unwrap_or_default();
        }
        if !matches!(doing.body, ClientBody::Outcome(_)) {
            attempt.upper = heard.map(|time| time.max(attempt.lower).plus(limits::ATTEMPT_WINDOW));
        }
        doing.tries += 1;
        let (mut body, attempt) = (doing.body.clone(), doing.attempt);
        match &mut body {
            ClientBody::Put(put) => put.attempt = attempt,
            ClientBody::Cas(cas) => cas.attempt = attempt,
            _ => {}
        }
        self.later(patience, Happening::RegisterTimeout { client, serial });
        self.totals.register_tries += 1;
        let asked = Asked::Register { client, serial };
        self.ask_about_tables(host, asked, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Connection(2000 + client as u64));
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn register_timeout(&mut self, client: usize, serial: u64) {
        let error =
            OpError::new(ErrorCode::DeadlineExceeded, "no answer").with_applied(Applied::Unknown);
        self.register_heard(client, serial, Err(error));
    }

    /// An answer has left its node: it arrives, unless it gets lost.
    pub(super) fn register_answered(&mut self, client: usize, serial: u64, result: &ClientResult) {
        let network = &self.plan.network;
        if self.register.rng.f64() < network.client_loss {
            return;
        }
        let delay = exponential(&mut self.register.rng, network.delay_mean);
        let result = Box::new(result.clone());
        self.later(delay, Happening::RegisterAnswer { client, serial, result });
    }

    pub(super) fn register_heard(&mut self, client: usize, serial: u64, result: ClientResult) {
        let now = self.now;
        let state = &mut self.register.clients[client];
        if state.serial != serial || state.doing.is_none() {
            return;
        }
        // From here on this try is given up: a later answer to it is ignored.
        state.serial += 1;
        match result {
            Ok(reply) => self.register_done(client, &reply),
            Err(error) => {
                if let Some(time) = error.facts.server_time {
                    state.heard = Some((time, now));
                }
                self.register_failed(client, &error);
            }
        }
    }

    fn register_done(&mut self, client: usize, reply: &Reply) {
        let (now, time) = (self.now, self.time());
        let Some(doing) = self.register.clients[client].doing.take() else { return };
        if doing.settles {
            return self.register_settled(client, &doing, reply);
        }
        let found = |receipt: &Receipt, value: Option<Value>| (value, receipt.stamp);
        let (receipt, outcome) = match reply {
            Reply::Get(reply) => {
                let value = reply.record.as_ref().and_then(|record| record.value.clone());
                let (value, stamp) = found(&reply.receipt, value);
                (reply.receipt, Outcome::Read { value, stamp, weak: false })
            }
            Reply::Put(reply) => {
                (reply.receipt, Outcome::Written { stamp: reply.receipt.stamp, weak: false })
            }
            Reply::Cas(reply) if reply.applied => {
                (reply.receipt, Outcome::Written { stamp: reply.receipt.stamp, weak: false })
            }
            Reply::Cas(reply) => {
                self.totals.register_mismatches += 1;
                let value = reply.current.as_ref().and_then(|record| record.value.clone());
                let (current, stamp) = found(&reply.receipt, value);
                (reply.receipt, Outcome::Mismatch { current, stamp })
            }
            _ => return self.register_rest(client),
        };
        self.totals.register_done += 1;
        self.totals.register_cas_done += u64::from(matches!(reply, Reply::Cas(_)));
        let state = &mut self.register.clients[client];
        state.heard = Some((receipt.server_time, now));
        let key = self.register.history.operation(doing.op).map(|operation| operation.key.clone());
        let written = match &doing.body {
            ClientBody::Put(put) => put.value.clone(),
            ClientBody::Cas(cas) => cas.value.clone(),
            _ => None,
        };
        let holds = match &outcome {
            Outcome::Read { value, .. } | Outcome::Mismatch { current: value, .. } => value.clone(),
            _ => written,
        };
        if let Some(key) = key {
            match holds {
                Some(value) => drop(state.seen.insert(key, (value, receipt.stamp))),
                None => drop(state.seen.remove(&key)),
            }
        }
        self.register.history.complete(doing.op, outcome, time);
        self.register_rest(client);
    }

    /// What became of a write that had been given up is known now.
    fn register_settled(&mut self, client: usize, doing: &Doing, reply: &Reply) {
        let settled = match reply {
            Reply::Outcome(reply) => match reply.fate {
                Fate::Applied(stamp) => Settled::Applied(stamp),
                Fate::Cancelled => Settled::Cancelled,
            },
            Reply::Put(reply) => Settled::Applied(reply.receipt.stamp),
            Reply::Cas(reply) if reply.applied => Settled::Applied(reply.receipt.stamp),
            Reply::Cas(_) => Settled::Cancelled,
            _ => return self.register_rest(client),
        };
        self.totals.register_settled += 1;
        self.totals.register_again += u64::from(!matches!(reply, Reply::Outcome(_)));
        let now = self.time();
        self.register.history.settle(doing.op, settled, now);
        self.register_rest(client);
    }

    fn register_failed(&mut self, client: usize, error: &OpError) {
        let (again, time) = (self.register.rng.bool(), self.time());
        let wait = self.register.rng.u64(5 * MS..100 * MS);
        let asks = self.register.rng.u8(..3) > 0;
        let now = self.now;
        let state = &mut self.register.clients[client];
        let heard = state.heard.map(|(at, when)| WallTime(at.0 + (now - when)));
        let Some(doing) = &mut state.doing else { return };
        let is_write = matches!(doing.body, ClientBody::Put(_) | ClientBody::Cas(_));
        doing.uncertain |= is_write && error.applied != Applied::No;
        let windowed = doing.attempt.upper.is_some() || !doing.uncertain;
        if again && windowed && error.code.is_retryable() && doing.tries < TRIES_MAX {
            doing.attempt.number += 1;
            if let Some(upper) = doing.attempt.upper.filter(|_| doing.uncertain) {
                doing.attempt.lower = upper;
            }
            // As the client library does: attempts that do not wait for their window drive the clocks
            // of the nodes forward, without end.
            let ahead = heard.map_or(Duration::ZERO, |time| doing.attempt.lower.ahead_of(time));
            let ahead = u64::try_from(ahead.as_nanos()).unwrap_or(0);
            self.totals.register_retries += 1;
            return self.later(wait.max(ahead), Happening::RegisterTry { client });
        }
        let Some(doing) = self.register.clients[client].doing.take() else { return };
        match &doing.body {
            _ if error.code == ErrorCode::OutcomeForgotten => {
                self.totals.register_forgotten += 1;
                if !doing.settles {
                    self.register.history.complete(doing.op, Outcome::Unknown, time);
                    self.register.clients[client].process = self.register.history.new_process();
                }
            }
            _ if doing.settles && error.code == ErrorCode::RequestCancelled => {
                self.totals.register_again += 1;
                self.register.history.settle(doing.op, Settled::Cancelled, time);
            }
            body if doing.settles => {
                let unknown = (doing.op, body.clone(), doing.attempt);
                self.register.clients[client].unknown.push(unknown);
            }
            // Whoever asked was told that it never will be: that is final.
            _ if !doing.uncertain || error.code == ErrorCode::RequestCancelled => {
                self.register.history.complete(doing.op, Outcome::Failed, time);
            }
            body => {
                self.register.history.complete(doing.op, Outcome::Unknown, time);
                let process = self.register.history.new_process();
                let state = &mut self.register.clients[client];
                state.process = process;
                if asks {
                    state.unknown.push((doing.op, body.clone(), doing.attempt));
                }
            }
        }
        self.register_rest(client);
    }

    pub(super) fn register_try(&mut self, client: usize) {
        if self.register.clients[client].doing.is_some() {
            self.try_register(client);
        }
    }

    fn register_rest(&mut self, client: usize) {
        let Some(plan) = self.plan.register else { return };
        let pause = exponential(&mut self.register.rng, plan.think) + MS;
        self.later(pause, Happening::RegisterThink { client });
    }

    /// Every node reads every key, once clients have had the time to hear of what they have begun. How long that
    /// takes.
    pub(super) fn read_register_back(&mut self, wait: u64) -> u64 {
        let Some(plan) = self.plan.register.filter(|_| self.register.created) else { return 0 };
        let mut last = 0;
        for (number, host) in (0u64..).zip(0..self.hosts.len()) {
            for index in 0..plan.keys {
                let after = wait + TIMEOUT + number * 100 * MS;
                self.later(after, Happening::RegisterBack { host, index, tries: 0 });
                last = after + TIMEOUT;
            }
        }
        last
    }

    pub(super) fn register_back(&mut self, (host, index): (usize, usize), tries: u32) {
        if !self.hosts[host].serves() {
            return;
        }
        let (key, now) = (key(index), self.time());
        let process = self.register.history.new_process();
        let op = self.register.history.invoke(process, key.clone(), Action::Get, now);
        let (r, mode, monotonic) = (None, QuorumMode::ByTable, false);
        let get = Get { table: table(), key, r, mode, monotonic, traced: false };
        let asked = Asked::RegisterBack { op, place: (host, index), tries };
        self.ask_about_tables(host, asked, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Anonymous);
            let body = ClientBody::Get(get);
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn register_read_back(
        &mut self,
        op: OpIndex,
        ((host, index), tries): ((usize, usize), u32),
        result: &ClientResult,
    ) {
        let now = self.time();
        match result {
            // A node that may hold two operations says so to a third, which comes again. One whose
            // clock is off must not stamp, as it may have to for a read: another node is asked, and
            // the walls catch up; those that are far behind are set right.
            Err(error) if is_for_others(error) && tries < BACK_TRIES_MAX => {
                self.register.history.complete(op, Outcome::Failed, now);
                let from = host + usize::from(error.code != ErrorCode::Overloaded);
                let mut around = (from..).map(|at| at % self.hosts.len()).take(self.hosts.len());
                let host = around.find(|at| self.hosts[*at].serves()).unwrap_or(host);
                let tries = tries + 1;
                if tries == 15 {
                    self.set_clocks_right();
                }
                self.later(100 * MS, Happening::RegisterBack { host, index, tries });
            }
            Ok(Reply::Get(reply)) => {
                self.totals.register_read_back += 1;
                let value = reply.record.as_ref().and_then(|record| record.value.clone());
                let outcome = Outcome::Read { value, stamp: reply.receipt.stamp, weak: false };
                self.register.history.complete(op, outcome, now);
            }
            Ok(_) => {
                self.find(Checker::Linearizable, format_args!("a read is answered otherwise"));
            }
            // Nothing goes wrong any more, and a majority of owners serves, whatever was lost.
            Err(error) => {
                let text = format_args!("a read of a linearizable table fails in peace: {error:?}");
                self.find(Checker::Liveness, text);
            }
        }
    }

    /// What the clients have seen.
    pub(super) fn judge_register(&mut self) {
        let history = core::mem::take(&mut self.register.history);
        let violations = linearizable(&history);
        let undecided = |violation: &&Violation| matches!(violation, Violation::Undecided { .. });
        self.totals.register_undecided += violations.iter().filter(undecided).count() as u64;
        if let Some(violation) = violations.iter().find(|violation| !undecided(violation)) {
            let mut text = format!("{violation}\n{}", self.explain_in(&history, violation));
            for settlement in history.settlements() {
                let line = format!(
                    "  told {:>5} at {:>12} {:?}\n",
                    settlement.op.get(),
                    settlement.at.at.0 / 1000,
                    settlement.settled
                );
                text.push_str(&line);
            }
            self.find(Checker::Linearizable, format_args!("{text}"));
        }
    }
}

/// Whether a node that answers so sends its client away unharmed.
fn is_for_others(OpError { code, message, .. }: &OpError) -> bool {
    let is_off = matches!(code, ErrorCode::ClockAhead | ErrorCode::ClockBehind);
    is_off || *code == ErrorCode::Overloaded || message.contains("clock too far ahead")
}

fn key_of(body: &ClientBody) -> Key {
    match body {
        ClientBody::Get(get) => get.key.clone(),
        ClientBody::Put(put) => put.key.clone(),
        ClientBody::Cas(cas) => cas.key.clone(),
        ClientBody::Outcome(ask) => ask.key.clone(),
        _ => unreachable!("nobody asks that here"),
    }
}

pub(super) fn table() -> TableName {
    TableName::try_from("seats".to_owned()).expect("a plain name")
}

pub(super) fn key(index: usize) -> Key {
    Key::new(format!("seat{index}")).expect("a short key")
}
