//! Changes of the schema, and requests for the tables they make, at whatever node and whatever goes
//! wrong meanwhile.

use std::sync::Arc;

use parking_lot::Mutex;
use roundtable::load::counter::CounterOp;
use roundtable::load::history::{Action, History, OpIndex, Outcome};
use roundtable::message::{
    AdminRequest, Applied, ClientBody, ClientRequest, ClientResult, DiskAnswer, DiskRequest,
    ErrorCode, Event, Get, Principal, Put, QuorumMode, Reply, Scan, TableAlteration, TableChange,
    TableRequest, TableSpec, TimeToLive,
};
use roundtable::types::{
    ClassId, Key, OpId, Partition, RequestId, TableId, TableKind, TableName, Time, TraceId, Unit,
    Value,
};

use crate::judge::Checker;
use crate::plan::{Fault, MS, SECOND, exponential};

use super::life::Point;
use super::{Happening, Stage, World};

/// Keys of each table.
const KEYS: usize = 3;
/// How long a request may take.
const TIMEOUT: u64 = 1500 * MS;

/// A request about tables, or for one, in flight on a node.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// A change; with its id, for whoever asks again.
    Change { id: RequestId, change: TableChange },
    /// A read or write of a key of a table, as its history names it.
    Use { table: String, since: u64, op: OpIndex },
    /// A page of a table: whether it is served is what matters.
    Page { table: String, since: u64 },
    /// The creation of the causal table.
    CausalTable,
    /// A try of a client of the causal table.
    Causal { client: usize, serial: u64 },
    /// A read of the causal table at the end.
    CausalBack { op: OpIndex },
    /// The creation of the table of batches.
    BatchTable,
    /// A try of a client of batches.
    Batch { client: usize, serial: u64 },
    /// A read of a key of batches at the end.
    BatchBack { key: Key, op: OpIndex },
    /// The creation of a table of counters.
    CounterTable(super::Tallies),
    /// A try of a client of counters.
    Counter { client: usize, serial: u64 },
    /// A read of a counter at the end.
    CounterBack { of: super::Tallies, op: CounterOp },
    /// Something whose answer shows in what replicas hold.
    Late,
    /// The creation of the linearizable table.
    RegisterTable,
    /// A try of a client of the linearizable table.
    Register { client: usize, serial: u64 },
    /// A page of a walk.
    Walk { walker: usize, serial: u64 },
    /// A request of a flood, or of the client of this number that comes after it.
    Flood { client: u64 },
    /// Something about members and plans.
    Topology(super::topology::TopologyAsk),
    /// A read of the linearizable table at the end.
    RegisterBack { op: OpIndex, place: (usize, usize), tries: u32 },
}

/// The tables a run has made, and their histories.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Names, in the order in which they were asked for, and whether it is worth dropping them.
    names: Vec<(String, bool)>,
    /// A history for each: one history covers one table.
    pub(super) histories: Vec<History>,
    values: u64,
}

impl World {
    /// Begins to change the schema, if this seed does.
    pub(super) fn schedule_schema(&mut self) {
        if self.plan.schema.is_some() {
            self.later(3 * SECOND, Happening::ChangeTables);
            self.later(4 * SECOND, Happening::UseTables);
        }
    }

    pub(super) fn change_tables(&mut self) {
        let Some(plan) = self.plan.schema.filter(|_| self.stage == Stage::Turmoil) else { return };
        let wait = exponential(&mut self.schema_rng, plan.change_every) + 50 * MS;
        self.later(wait, Happening::ChangeTables);
        let alive: Vec<usize> =
            (0..self.tables.names.len()).filter(|index| self.tables.names[*index].1).collect();
        let change = match self.schema_rng.u8(..10) {
            0..3 if !alive.is_empty() => {
                let index = alive[self.schema_rng.usize(..alive.len())];
                self.tables.names[index].1 = false;
                let name = self.tables.names[index].0.clone();
                self.schema.drop_asked(&name);
                TableChange::Drop(table_name(&name))
            }
            3..5 if !alive.is_empty() => {
                let index = alive[self.schema_rng.usize(..alive.len())];
                TableChange::Alter(TableAlteration {
                    name: table_name(&self.tables.names[index].0),
                    r: None,
                    w: None,
                    sloppy: None,
                    ttl: None,
                    value_bytes_max: Some(self.schema_rng.u32(100..1000)),
                })
            }
            _ => self.draw_table(),
        };
        let id = RequestId(u128::from(self.schema_rng.u64(1..)));
        self.ask_change(id, change);
        // Two operators at once, now and then.
        if self.schema_rng.u8(..3) == 0 {
            let change = self.draw_table();
            let id = RequestId(u128::from(self.schema_rng.u64(1..)));
            self.ask_change(id, change);
        }
    }

    fn draw_table(&mut self) -> TableChange {
        let name = format!("t{}", self.tables.names.len());
        let nodes = u8::try_from(self.hosts.len()).expect("a handful of machines");
        // Of a key with one owner nothing is left where its disk is lost: no plan can move it then.
        let loses = self.plan.has(Fault::Wipe) || self.plan.has(Fault::OldCopy);
        let least = if loses && self.members_change() { 2 } else { 1 };
        let n = self.schema_rng.bool().then(|| self.schema_rng.u8(least..=nodes));
        self.tables.names.push((name.clone(), true));
        self.tables.histories.push(History::new());
        TableChange::Create(TableSpec {
            name: table_name(&name),
            kind: TableKind::Lww,
            n,
            r: None,
            w: None,
            r_min: None,
            w_min: None,
            sloppy: None,
            ttl: None,
            value_bytes_max: None,
        })
    }

    pub(super) fn ask_change(&mut self, id: RequestId, change: TableChange) {
        let host = self.schema_rng.usize(..self.hosts.len());
        let request = TableRequest::Change { id, change: change.clone() };
        let asked = Asked::Change { id, change };
        self.totals.schema_changes += 1;
        self.ask_about_tables(host, asked, |deadline, op| Event::Admin {
            op,
            deadline,
            request: AdminRequest::Table(Box::new(request)),
        });
    }

    pub(super) fn use_tables(&mut self) {
        let Some(plan) = self.plan.schema else { return };
        if self.stage > Stage::Healed {
            return;
        }
        let wait = exponential(&mut self.schema_rng, plan.use_every) + MS;
        self.later(wait, Happening::UseTables);
        if self.tables.names.is_empty() {
            return;
        }
        let place = self.schema_rng.usize(..self.tables.names.len());
        let table = self.tables.names[place].0.clone();
        let host = self.schema_rng.usize(..self.hosts.len());
        let (since, now) = (self.schema.moment(), self.time());
        let key = format!("{table}-{}", self.schema_rng.usize(..KEYS));
        let key = Key::new(key).expect("a short key");
        let draw = self.schema_rng.u8(..10);
        let name = table_name(&table);
        let history = &mut self.tables.histories[place];
        let process = history.new_process();
        let (asked, body) = if draw < 5 {
            self.tables.values += 1;
            let value = Value::new(format!("{table}:{}", self.tables.values)).expect("short");
            let op = history.invoke(process, key.clone(), Action::Put(value.clone()), now);
            let attempt = roundtable::message::Attempt::default();
            let (value, ttl, mode) = (Some(value), TimeToLive::Table, QuorumMode::ByTable);
            let (w, r, context) = (None, None, bytes::Bytes::new());
            let put = {
                let (table, time, traced) = (name, None, false);
                Put { table, key, value, ttl, w, r, attempt, time, mode, context, traced }
            };
            (Asked::Use { table, since, op }, ClientBody::Put(put))
        } else if draw < 9 {
            let op = history.invoke(process, key.clone(), Action::Get, now);
            let (r, mode, monotonic) = (None, QuorumMode::ByTable, false);
            let get = Get { table: name, key, r, mode, monotonic, traced: false };
            (Asked::Use { table, since, op }, ClientBody::Get(get))
        } else {
            let (prefix, after) = (bytes::Bytes::new(), bytes::Bytes::new());
            let (limit, keys_only, reverse, r) = (10, false, false, None);
            let scan =
                Scan { table: name, prefix, after, limit, keys_only, reverse, r, part: None };
            (Asked::Page { table, since }, ClientBody::Scan(scan))
        };
        self.totals.table_uses += 1;
        self.ask_about_tables(host, asked, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Anonymous);
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    pub(super) fn ask_about_tables(
        &mut self,
        host: usize,
        asked: Asked,
        event: impl FnOnce(Time, OpId) -> Event,
    ) {
        self.trace.step(
            self.now,
            [60, host as u64, 0],
            format_args!("tables: n{} is asked {asked:?}", host + 1),
        );
        let life = self.hosts[host].life;
        let deadline = self.now + TIMEOUT;
        let Some(running) = &mut self.hosts[host].running else { return };
        running.ops += 1;
        let op = OpId(running.ops);
        running.asked.insert(op, asked);
        let event = event(running.mono(deadline), op);
        self.answers.asked(host, op, Time(deadline));
        let overdue = deadline + super::traffic::OVERDUE;
        self.queue.push(overdue, Happening::Overdue { host, life, op });
        self.feed(host, event, Point::Other);
    }

    /// A node has answered what was asked about tables.
    pub(super) fn tables_answered(&mut self, host: usize, asked: Asked, result: &ClientResult) {
        let unknown = matches!(result, Err(error) if error.code == ErrorCode::TableUnknown);
        match asked {
            Asked::CausalTable => self.causal_table_answered(result),
            Asked::Causal { client, serial } => self.causal_answered(client, serial, result),
            Asked::CausalBack { op } => self.causal_read_back(op, result),
            Asked::BatchTable => self.batch_table_answered(result),
            Asked::Batch { client, serial } => self.batch_answered(client, serial, result),
            Asked::BatchBack { key, op } => self.batch_read_back(key, op, result),
            Asked::CounterTable(of) => self.counter_table_answered(of, result),
            Asked::Counter { client, serial } => self.counter_answered(client, serial, result),
            Asked::CounterBack { of, op } => self.counter_read_back(of, op, result),
            Asked::RegisterTable => self.register_table_answered(result),
            Asked::Register { client, serial } => self.register_answered(client, serial, result),
            Asked::RegisterBack { op, place, tries } => {
                self.register_read_back(op, (place, tries), result);
            }
            Asked::Late => {}
            Asked::Walk { walker, serial } => self.walk_answered(walker, serial, result),
            Asked::Flood { client } => self.flood_answered(host, client, result),
            Asked::Topology(asked) => self.topology_answered(asked, result),
            Asked::Change { id, change } => self.changed(host, (id, change), result),
            Asked::Page { table, since } => {
                let verdict = match result {
                    Ok(_) => self.schema.served(&table, since),
                    Err(_) if unknown => self.schema.denied(&table, since),
                    Err(_) => Ok(()),
                };
                self.judge(Checker::Schema, verdict);
            }
            Asked::Use { table, since, op } => {
                let place = self.tables.names.iter().position(|(name, _)| *name == table);
                let Some(place) = place else { return };
                let (now, weak) = (self.time(), false);
                let outcome = match result {
                    Ok(Reply::Get(reply)) => {
                        let value = reply.record.clone().and_then(|record| record.value);
                        Outcome::Read { value, stamp: reply.receipt.stamp, weak }
                    }
                    Ok(Reply::Put(reply)) => Outcome::Written { stamp: reply.receipt.stamp, weak },
                    Ok(_) => Outcome::Unknown,
                    Err(error) if error.applied == Applied::No => Outcome::Failed,
                    Err(_) => Outcome::Unknown,
                };
                self.tables.histories[place].complete(op, outcome, now);
                let verdict = match result {
                    Ok(_) => {
                        self.totals.tables_served += 1;
                        self.schema.served(&table, since)
                    }
                    Err(_) if unknown => self.schema.denied(&table, since),
                    Err(_) => Ok(()),
                };
                self.judge(Checker::Schema, verdict);
            }
        }
    }

    fn changed(
        &mut self,
        host: usize,
        (id, change): (RequestId, TableChange),
        result: &ClientResult,
    ) {
        match (result, &change) {
            (Ok(_), TableChange::Create(spec)) => {
                self.totals.tables_created += 1;
                self.schema.created(spec.name.as_str());
            }
            (Ok(_), TableChange::Drop(name)) => {
                self.totals.tables_dropped += 1;
                self.schema.dropped(name.as_str());
            }
            (Ok(_), TableChange::Alter(_)) => {}
            (Err(error), TableChange::Create(spec)) if error.code == ErrorCode::TableExists => {
                let text =
                    format_args!("n{}: {} exists, and nobody else makes it", host + 1, spec.name);
                self.find(Checker::Schema, text);
            }
            (Err(error), _) if error.applied == Applied::Unknown => {
                if self.schema_rng.bool() && self.stage == Stage::Turmoil {
                    self.totals.schema_retries += 1;
                    self.ask_change(id, change);
                }
            }
            (Err(_), _) => {}
        }
    }

    /// Whether all nodes that serve act by one state.
    pub(super) fn is_of_one_epoch(&self) -> bool {
        let serving = self.hosts.iter().filter(|host| host.serves());
        let states = serving.filter_map(|host| host.view.as_ref()?.state.as_ref());
        let epochs: Vec<_> = states.map(|state| state.epoch).collect();
        epochs.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// At the end: all nodes are at one epoch, and nothing is left of tables that were dropped.
    pub(super) fn compare_schema(&mut self) {
        let mut epochs = Vec::new();
        for host in 0..self.hosts.len() {
            if !self.hosts[host].serves() {
                continue;
            }
            let Some(state) = self.hosts[host].view.as_ref().and_then(|v| v.state.clone()) else {
                continue;
            };
            epochs.push(state.epoch);
            for id in (1..=state.table_id_max.0).map(TableId).filter(|id| state.is_dropped(*id)) {
                let left = self.left_of(host, id);
                if left > 0 {
                    let text =
                        format_args!("n{} holds {left} keys of dropped table {id}", host + 1);
                    self.find(Checker::Schema, text);
                }
            }
        }
        if epochs.windows(2).any(|pair| pair[0] != pair[1]) {
            self.find(Checker::Liveness, format_args!("nodes are at epochs {epochs:?}"));
        }
    }

    fn left_of(&self, host: usize, table: TableId) -> usize {
        let Some(running) = &self.hosts[host].running else { return 0 };
        let partitions = self.plan.configs[0].charter.partitions;
        let partitions = u16::try_from(partitions).expect("small rings");
        let units: Vec<Unit> = (0..16)
            .flat_map(|class| (0..partitions).map(move |partition| (class, partition)))
            .map(|(class, partition)| Unit {
                class: ClassId(class),
                partition: Partition(partition),
            })
            .collect();
        let found = Arc::new(Mutex::new(0));
        let answer = Arc::clone(&found);
        let (prefix, after) = (bytes::Bytes::new(), bytes::Bytes::new());
        let (units, limit, keys_only, reverse) = (Arc::new(units), 100, true, false);
        let request = DiskRequest::Range {
            units,
            table,
            prefix,
            after,
            limit,
            keys_only,
            reverse,
            cursor: None,
            durable: false,
            deadline: Time(u64::MAX),
        };
        let done = Box::new(move |result| {
            if let Ok(DiskAnswer::Range(page)) = result {
                let page: roundtable::message::RangePage = page;
                *answer.lock() = page.entries.len();
            }
        });
        running.replica.execute(request, done);
        *found.lock()
    }

    /// What the histories of all tables have to say.
    pub(super) fn judge_tables(&mut self) {
        for history in core::mem::take(&mut self.tables.histories) {
            if let Some(violation) = roundtable::load::check::register(&history).first() {
                let text = self.explain_in(&history, violation);
                self.find(Checker::Register, format_args!("{violation}\n{text}"));
                return;
            }
        }
    }
}

fn table_name(name: &str) -> TableName {
    TableName::try_from(name.to_owned()).expect("a plain name")
}

/// How often the schema changes and its tables are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchemaPlan {
    /// Mean time between changes.
    pub(crate) change_every: u64,
    /// Mean time between requests.
    pub(crate) use_every: u64,
}

impl SchemaPlan {
    /// A quarter of the seeds changes the schema. Drawn apart, so that the others stay what they
    /// are.
    pub(crate) fn draw(seed: u64) -> Option<SchemaPlan> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5363_6865_6d61_2e2e);
        (rng.u8(..4) == 0).then(|| SchemaPlan {
            change_every: rng.u64(300 * MS..3 * SECOND),
            use_every: rng.u64(20 * MS..80 * MS),
        })
    }
}
