//! Clients of atomic batches, in an lww table: they write the keys of a group together, or one of them
//! alone, read them, lose answers and try again. What an owner took from a coordinator is on its disk whole
//! or not at all after every crash; in the end each batch is everywhere whole or nowhere; and every key is a
//! register (I1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use roundtable::load::history::{Action, History, OpIndex, Outcome, ProcessId};
use roundtable::message::{
    AdminRequest, Applied, Attempt, Batch, BatchItem, ClientBody, ClientRequest, ClientResult,
    CopyRecord, DiskAnswer, DiskRequest, ErrorCode, Event, Get, OpError, Principal, Put,
    QuorumMode, Reply, TableChange, TableRequest, TableSpec, TimeToLive, UnitDisk,
};
use roundtable::replica::Replica;
use roundtable::types::{
    Key, Quorum, Record, RequestId, Stamp, TableId, TableKind, TableName, TraceId, Unit, Value,
    WallTime, limits,
};

use crate::judge::{Checker, crash_fault, end_fault};
use crate::plan::{MS, SECOND, exponential};

use super::schema::Asked;
use super::{Happening, Stage, World};

/// Groups of keys, each of one partition, and keys of each.
const GROUPS: usize = 2;
const KEYS: usize = 3;
/// How long a client waits for an answer.
const TIMEOUT: u64 = 1700 * MS;
/// Most tries of one operation.
const TRIES_MAX: u32 = 3;
/// Remainders of 29 that no seed has which was recorded before there were batches: those stay what they are.
const REMAINDERS: [u64; 3] = [14, 20, 26];

/// How a seed uses batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchPlan {
    clients: usize,
    /// Mean pause of a client.
    think: u64,
    /// Share of reads.
    reads: f64,
    /// Share of writes that are of one key alone.
    single: f64,
    /// Share of failed writes that are tried again.
    again: f64,
}

impl BatchPlan {
    /// About every tenth seed has one.
    pub(crate) fn draw(seed: u64) -> Option<BatchPlan> {
        let mut rng = Rng::with_seed(seed ^ 0x746f_6765_7468_6572);
        REMAINDERS.contains(&(seed % 29)).then(|| BatchPlan {
            clients: rng.usize(2..=4),
            think: rng.u64(30 * MS..120 * MS),
            reads: 0.2 + rng.f64() * 0.2,
            single: rng.f64() * 0.3,
            again: [0.0, 0.5, 1.0][rng.usize(..3)],
        })
    }
}

/// A read, or a write of some keys of a group, over all its tries.
#[derive(Clone, Debug)]
struct Doing {
    /// Each key, with its operation in the history.
    ops: Vec<(Key, OpIndex)>,
    /// What is written; nothing is a read.
    value: Option<Value>,
    attempt: Attempt,
    tries: u32,
    uncertain: bool,
}

#[derive(Clone, Debug, Default)]
struct BatchClient {
    serial: u64,
    doing: Option<Doing>,
    heard: Option<(WallTime, u64)>,
}

/// What the disk of a machine was asked to write together.
#[derive(Clone, Debug)]
struct Asking {
    unit: Unit,
    table: TableId,
    stamp: Stamp,
    keys: Vec<Key>,
}

/// The clients of a run, and what they have seen.
#[derive(Debug)]
pub(crate) struct BatchUse {
    rng: Rng,
    clients: Vec<BatchClient>,
    history: History,
    created: bool,
    writes: u64,
    /// The keys that each value was written to together.
    written: BTreeMap<Vec<u8>, Vec<Key>>,
    /// What each key shows in the end, as far as nodes agree with all owners: its stamp, and its value.
    last: BTreeMap<Key, (Stamp, Option<Vec<u8>>)>,
    /// By machine.
    asked: Vec<Vec<Asking>>,
    /// Versions that a machine was also brought key by key, or may have been.
    brought: BTreeSet<(usize, Stamp)>,
}

impl BatchUse {
    pub(super) fn new(seed: u64, plan: Option<BatchPlan>) -> BatchUse {
        BatchUse {
            rng: Rng::with_seed(seed ^ 0x616c_6c6f_726e_6f6e),
            clients: vec![BatchClient::default(); plan.map_or(0, |plan| plan.clients)],
            history: History::new(),
            created: false,
            writes: 0,
            written: BTreeMap::new(),
            last: BTreeMap::new(),
            asked: Vec::new(),
            brought: BTreeSet::new(),
        }
    }

    fn process(&mut self) -> ProcessId {
        self.history.new_process()
    }

    /// Takes note of what a disk is asked.
    fn note(&mut self, host: usize, request: &DiskRequest) {
        match request {
            DiskRequest::WriteTogether { unit, table, items } => {
                let Some((_, first)) = items.first() else { return };
                let keys = items.iter().map(|(key, _)| key.clone()).collect();
                let asking = Asking { unit: *unit, table: *table, stamp: first.stamp, keys };
                if self.asked.len() <= host {
                    self.asked.resize(host + 1, Vec::new());
                }
                self.asked[host].push(asking);
            }
            DiskRequest::Write { record, .. } => {
                self.brought.insert((host, record.stamp));
            }
            DiskRequest::Unit(disk) => self.note_unit(host, disk),
            _ => {}
        }
    }

    fn note_unit(&mut self, host: usize, disk: &UnitDisk) {
        match disk {
            UnitDisk::Merge { entries, .. } | UnitDisk::Fill { entries, .. } => {
                for entry in entries {
                    if let CopyRecord::Version(record) = &entry.record {
                        self.brought.insert((host, record.stamp));
                    }
                }
            }
            UnitDisk::TakeIn { .. }
            | UnitDisk::Empty { .. }
            | UnitDisk::Clear { .. }
            | UnitDisk::Drain { .. }
            | UnitDisk::Lose { .. }
            | UnitDisk::Forgo { .. } => self.forget(host),
            _ => {}
        }
    }

    /// What is on the disk of a machine comes from elsewhere from now on.
    fn forget(&mut self, host: usize) {
        if let Some(asked) = self.asked.get_mut(host) {
            asked.clear();
        }
    }
}

impl World {
    /// Makes the table and lets its clients begin, if this seed has them.
    pub(super) fn schedule_batches(&mut self) {
        if self.plan.batches.is_none() {
            return;
        }
        self.later(2 * SECOND, Happening::MakeBatches);
        for client in 0..self.batches.clients.len() {
            self.later(3 * SECOND, Happening::BatchThink { client });
        }
    }

    pub(super) fn make_batches(&mut self) {
        if self.batches.created || self.stage > Stage::Healed {
            return;
        }
        self.later(SECOND, Happening::MakeBatches);
        let host = self.batches.rng.usize(..self.hosts.len());
        let (name, kind) = (table(), TableKind::Lww);
        let (n, r, w, r_min, w_min) = (None, None, None, None, None);
        let (sloppy, ttl, value_bytes_max) = (None, None, None);
        let spec = TableSpec { name, kind, n, r, w, r_min, w_min, sloppy, ttl, value_bytes_max };
        // The same id each time: what was made is not made again.
        let (id, change) = (RequestId(0xba), TableChange::Create(spec));
        let request = TableRequest::Change { id, change };
        self.ask_about_tables(host, Asked::BatchTable, |deadline, op| Event::Admin {
            op,
            deadline,
            request: AdminRequest::Table(Box::new(request)),
        });
    }

    pub(super) fn batch_table_answered(&mut self, result: &ClientResult) {
        self.batches.created |= result.is_ok();
    }

    pub(super) fn batch_think(&mut self, client: usize) {
        let Some(plan) = self.plan.batches.filter(|_| self.stage <= Stage::Healed) else { return };
        if !self.batches.created {
            return self.batch_rest(client);
        }
        let now = self.time();
        let batches = &mut self.batches;
        let (group, reads) = (batches.rng.usize(..GROUPS), batches.rng.f64() < plan.reads);
        let single = reads || batches.rng.f64() < plan.single;
        let id = RequestId(batches.rng.u128(1..));
        let keys: Vec<Key> = if single {
            vec![key(group, batches.rng.usize(..KEYS))]
        } else {
            // All of them, or all but one.
            let left = batches.rng.usize(..KEYS + 2);
            (0..KEYS).filter(|at| *at != left).map(|at| key(group, at)).collect()
        };
        batches.writes += 1;
        let value = (!reads)
            .then(|| Value::new(format!("{}", batches.writes)).expect("far below the limit"));
        if let Some(value) = &value {
            batches.written.insert(value.as_bytes().to_vec(), keys.clone());
        }
        let action = value.clone().map_or(Action::Get, Action::Put);
        let mut ops = Vec::new();
        for key in keys {
            let process = batches.process();
            let op = batches.history.invoke(process, key.clone(), action.clone(), now);
            ops.push((key, op));
        }
        let attempt = Attempt { id, ..Attempt::default() };
        let doing = Doing { ops, value, attempt, tries: 0, uncertain: false };
        batches.clients[client].doing = Some(doing);
        self.batch_try(client);
    }

    pub(super) fn batch_try(&mut self, client: usize) {
        let host = self.batches.rng.usize(..self.hosts.len());
        let now = self.now;
        let state = &mut self.batches.clients[client];
        let heard = state.heard.map(|(at, when)| WallTime(at.0 + (now - when)));
        let Some(doing) = &mut state.doing else { return };
        state.serial += 1;
        let serial = state.serial;
        let attempt = &mut doing.attempt;
        attempt.upper = heard.map(|time| time.max(attempt.lower).plus(limits::ATTEMPT_WINDOW));
        doing.tries += 1;
        let body = body(doing);
        self.totals.batch_tries += 1;
        self.later(TIMEOUT, Happening::BatchTimeout { client, serial });
        self.ask_about_tables(host, Asked::Batch { client, serial }, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Connection(5000 + client as u64));
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn batch_timeout(&mut self, client: usize, serial: u64) {
        let error = OpError::new(ErrorCode::DeadlineExceeded, "no answer");
        self.batch_heard(client, serial, &Err(error.with_applied(Applied::Unknown)));
    }

    /// An answer has left its node: some are lost on their way.
    pub(super) fn batch_answered(&mut self, client: usize, serial: u64, result: &ClientResult) {
        if self.batches.rng.f64() < self.plan.network.client_loss.max(0.05) {
            return;
        }
        self.batch_heard(client, serial, result);
    }

    fn batch_heard(&mut self, client: usize, serial: u64, result: &ClientResult) {
        let now = self.now;
        let state = &mut self.batches.clients[client];
        if state.serial != serial || state.doing.is_none() {
            return;
        }
        // An answer to this try that comes later is ignored.
        state.serial += 1;
        let time = match result {
            Ok(Reply::Put(reply)) => Some(reply.receipt.server_time),
            Ok(Reply::Get(reply)) => Some(reply.receipt.server_time),
            Ok(_) => None,
            Err(error) => error.facts.server_time,
        };
        if let Some(time) = time.filter(|time| time.0 > 0) {
            state.heard = Some((time, now));
        }
        match result {
            Err(error) => self.batch_failed(client, error),
            Ok(reply) => {
                let Some(doing) = state.doing.take() else { return };
                self.totals.batch_done += u64::from(doing.ops.len() > 1);
                self.batch_done(&doing, reply);
                self.batch_rest(client);
            }
        }
    }

    fn batch_done(&mut self, doing: &Doing, reply: &Reply) {
        let now = self.time();
        let outcome = match reply {
            Reply::Put(reply) => {
                Outcome::Written { stamp: reply.receipt.stamp, weak: reply.receipt.weak }
            }
            Reply::Get(reply) => shown(reply),
            _ => return,
        };
        for (_, op) in &doing.ops {
            self.batches.history.complete(*op, outcome.clone(), now);
        }
    }

    fn batch_failed(&mut self, client: usize, error: &OpError) {
        let Some(plan) = self.plan.batches else { return };
        let again = self.batches.rng.f64() < plan.again && self.stage <= Stage::Healed;
        let wait = self.batches.rng.u64(5 * MS..100 * MS);
        let now = self.time();
        let Some(doing) = &mut self.batches.clients[client].doing else { return };
        doing.uncertain |= error.applied != Applied::No;
        let windowed = doing.attempt.upper.is_some() || !doing.uncertain;
        let retryable = error.code.is_retryable() && doing.value.is_some();
        if again && windowed && retryable && doing.tries < TRIES_MAX {
            doing.attempt.number += 1;
            if let Some(upper) = doing.attempt.upper.filter(|_| doing.uncertain) {
                doing.attempt.lower = upper;
            }
            let window = u64::try_from(limits::ATTEMPT_WINDOW.as_nanos()).unwrap_or(SECOND);
            return self.later(wait + window, Happening::BatchTry { client });
        }
        let Some(doing) = self.batches.clients[client].doing.take() else { return };
        let outcome = if doing.uncertain { Outcome::Unknown } else { Outcome::Failed };
        for (_, op) in &doing.ops {
            self.batches.history.complete(*op, outcome.clone(), now);
        }
        self.batch_rest(client);
    }

    fn batch_rest(&mut self, client: usize) {
        let Some(plan) = self.plan.batches else { return };
        let pause = exponential(&mut self.batches.rng, plan.think) + MS;
        self.later(pause, Happening::BatchThink { client });
    }

    /// Every node reads every key from all owners, once clients have had the time to hear of what they
    /// have begun. How long that takes.
    pub(super) fn read_batches_back(&mut self, wait: u64) -> u64 {
        if self.plan.batches.is_none() {
            return 0;
        }
        for host in 0..self.hosts.len() {
            for place in 0..GROUPS * KEYS {
                let after = wait + TIMEOUT + host as u64 * 20 * MS;
                self.later(after, Happening::BatchBack { host, place });
            }
        }
        wait + 2 * TIMEOUT + SECOND
    }

    pub(super) fn batch_back(&mut self, host: usize, place: usize) {
        if !self.hosts[host].serves() || !self.batches.created {
            return;
        }
        let key = key(place / KEYS, place % KEYS);
        let now = self.time();
        let process = self.batches.process();
        let op = self.batches.history.invoke(process, key.clone(), Action::Get, now);
        let (table, mode, r) = (table(), QuorumMode::ByTable, Some(Quorum::All));
        let (monotonic, traced) = (false, false);
        let body = ClientBody::Get(Get { table, key: key.clone(), r, mode, monotonic, traced });
        self.ask_about_tables(host, Asked::BatchBack { key, op }, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Anonymous);
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn batch_read_back(&mut self, key: Key, op: OpIndex, result: &ClientResult) {
        let Ok(Reply::Get(reply)) = result else { return };
        self.totals.batch_read_back += 1;
        let now = self.time();
        self.batches.history.complete(op, shown(reply), now);
        let value = reply.record.as_ref().and_then(|record| record.value.as_ref());
        let value = value.map(|value| value.as_bytes().to_vec());
        let last = self.batches.last.entry(key).or_default();
        *last = (reply.receipt.stamp, value).max(last.clone());
    }

    /// Takes note of what the disk of a machine is asked.
    pub(super) fn note_batches(&mut self, host: usize, request: &DiskRequest) {
        if self.plan.batches.is_some() {
            self.batches.note(host, request);
        }
    }

    /// What a machine has been asked to write together is there whole, or not at all, after a crash; as far
    /// as nobody has brought it any of that key by key.
    pub(super) fn judge_recovered(&mut self, host: usize, replica: &Replica) {
        if self.hosts[host].rotted || self.hosts[host].doomed.is_some() {
            return;
        }
        let Some(asked) = self.batches.asked.get(host).cloned() else { return };
        for Asking { unit, table, stamp, keys } in asked {
            if self.batches.brought.contains(&(host, stamp)) {
                continue;
            }
            let stamp_of = |key: &Key| look(replica, (unit, table, key)).map(|record| record.stamp);
            let held: Vec<Option<Stamp>> = keys.iter().map(stamp_of).collect();
            let Some(verdict) = crash_fault(stamp, &held) else { continue };
            self.totals.batch_recovered += 1;
            if let Err(text) = verdict {
                let text = format_args!("n{} after a crash: {text}: {keys:?}", host + 1);
                return self.find(Checker::Together, text);
            }
        }
    }

    /// Whether what the clients have seen can be, and whether each batch is whole, or nowhere.
    pub(super) fn judge_batches(&mut self) {
        let batches = &mut self.batches;
        let history = core::mem::take(&mut batches.history);
        let (written, last) =
            (core::mem::take(&mut batches.written), core::mem::take(&mut batches.last));
        if let Some(violation) = roundtable::load::check::register(&history).first() {
            let text = self.explain_in(&history, violation);
            self.find(Checker::Register, format_args!("{violation}\n{text}"));
            return;
        }
        // Where whoever alone has taken a batch loses its disk, or is no owner any more, a part that it had
        // handed on may be all that is left of one that was not acknowledged.
        let stay = |host: &super::host::Host| !host.rotted && host.doomed.is_none();
        let all_stay = self.plan.topology.is_none()
            && self.plan.keeper.is_none()
            && self.hosts.iter().all(stay);
        if !all_stay {
            return;
        }
        for (value, keys) in written.into_iter().filter(|(_, keys)| keys.len() > 1) {
            let shown: Vec<_> = keys.iter().filter_map(|key| last.get(key).cloned()).collect();
            let Some(verdict) = end_fault(&value, &shown) else { continue };
            self.totals.batch_judged += 1;
            if let Err(text) = verdict {
                let text = format_args!("in the end {text}: {keys:?} {shown:?}");
                return self.find(Checker::Together, text);
            }
        }
    }
}

fn body(doing: &Doing) -> ClientBody {
    let (table, attempt) = (table(), doing.attempt);
    let alone = || doing.ops.first().map(|(key, _)| key.clone()).expect("no operation is empty");
    let Some(value) = &doing.value else {
        let (mode, r, monotonic, traced) = (QuorumMode::ByTable, None, false, false);
        return ClientBody::Get(Get { table, key: alone(), r, mode, monotonic, traced });
    };
    if doing.ops.len() == 1 {
        let (key, value, ttl) = (alone(), Some(value.clone()), TimeToLive::Never);
        let (w, r, time, mode) = (None, None, None, QuorumMode::ByTable);
        let (context, traced) = (bytes::Bytes::new(), false);
        let put = Put { table, key, value, ttl, w, r, attempt, time, mode, context, traced };
        return ClientBody::Put(put);
    }
    let item = |(key, _): &(Key, OpIndex)| {
        let (key, value) = (key.clone(), Some(value.clone()));
        BatchItem { key, value, ttl: TimeToLive::Never }
    };
    let items = doing.ops.iter().map(item).collect();
    ClientBody::Batch(Box::new(Batch { table, items, w: None, attempt }))
}

fn shown(reply: &roundtable::message::GetReply) -> Outcome {
    let value = reply.record.as_ref().and_then(|record| record.value.clone());
    Outcome::Read { value, stamp: reply.receipt.stamp, weak: reply.receipt.weak }
}

/// What a store that nobody uses yet holds of a key.
fn look(replica: &Replica, (unit, table, key): (Unit, TableId, &Key)) -> Option<Record> {
    let found = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&found);
    let request = DiskRequest::Read { unit, table, key: key.clone(), durable: false };
    replica.execute(
        request,
        Box::new(move |result| {
            if let Ok(DiskAnswer::Read(record)) = result {
                *answer.lock() = record;
            }
        }),
    );
    found.lock().take()
}

fn table() -> TableName {
    TableName::try_from("orders".to_owned()).expect("a plain name")
}

/// The keys of a group have a tag in common, and so a partition.
fn key(group: usize, at: usize) -> Key {
    Key::new(format!("{{g{group}}}{at}")).expect("a short key")
}
