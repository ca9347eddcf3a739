//! What is asked about tables: changes of the schema until they are in force and heard of widely
//! enough, and requests that name a table this node has not heard of, which wait until it is sure
//! that there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Node;
use crate::control::Change;
use crate::message::{
    AdminRequest, Applied, ClientRequest, ClientResult, Effect, ErrorCode, OpError, Reply,
    TableChange, TableReply, TableRequest, TablesReply,
};
use crate::types::{
    Class, ClassId, ClusterState, Epoch, MovePhase, NodeId, Now, OpId, RequestId, TableName, Time,
};

/// Longest time a question waits for the council's confirmation when it could be answered without.
const CONFIRM_MAX: core::time::Duration = core::time::Duration::from_secs(1);

/// Requests that wait.
#[derive(Debug, Default)]
pub(super) struct Tables {
    waiting: BTreeMap<OpId, Waiting>,
    deadlines: BTreeSet<(Time, OpId)>,
    /// What clients ask of them most.
    pub(super) hot: super::Hot,
}

#[derive(Debug)]
struct Waiting {
    deadline: Time,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    /// A request of a client for a table unknown here, until the check of this number is over.
    Client(Box<ClientRequest>, u64),
    /// A question of an operator, until the check of this number is over.
    Ask(Box<AdminRequest>, u64),
    /// A change.
    Change(Box<Changing>),
}

/// A change that somebody waits for.
#[derive(Debug)]
struct Changing {
    change: Change,
    /// The class of the table, as far as this node knew it before it was dropped.
    class: Option<ClassId>,
    /// The epoch it has become, in force here.
    epoch: Option<Epoch>,
}

impl Tables {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn insert(&mut self, op: OpId, deadline: Time, wait: Wait) {
        self.deadlines.insert((deadline, op));
        self.waiting.insert(op, Waiting { deadline, wait });
    }

    fn remove(&mut self, op: OpId) -> Option<Wait> {
        let Waiting { deadline, wait } = self.waiting.remove(&op)?;
        self.deadlines.remove(&(deadline, op));
        Some(wait)
    }

    fn deadline(&self, op: OpId) -> Option<Time> {
        self.waiting.get(&op).map(|waiting| waiting.deadline)
    }

    fn changing(&mut self, op: OpId) -> Option<&mut Changing> {
        match &mut self.waiting.get_mut(&op)?.wait {
            Wait::Change(changing) => Some(changing),
            Wait::Client(..) | Wait::Ask(..) => None,
        }
    }

    /// Those for which `wanted` holds.
    fn select(&self, wanted: impl Fn(&Wait) -> bool) -> Vec<OpId> {
        let found = self.waiting.iter().filter(|(_, waiting)| wanted(&waiting.wait));
        found.map(|(op, _)| *op).collect()
    }
}

impl Node {
    fn reply(&mut self, op: OpId, result: ClientResult) {
        self.effects.push_back(Effect::Reply { op, result });
    }

    /// A client asks for a table this node has not heard of. It may have been created a moment
    /// ago: the council is asked before it is said that there is none.
    pub(super) fn wait_for_table(&mut self, now: Now, op: OpId, request: ClientRequest) {
        if self.tables.len() >= self.config.operations_max {
            let error = OpError::new(ErrorCode::Overloaded, "too many requests for unknown tables");
            let error = error.with_limit(self.config.operations_max, self.tables.len());
            return self.reply(op, Err(error));
        }
        let deadline = request.deadline;
        let check = self.decree.check(now.mono);
        self.tables.insert(op, deadline, Wait::Client(Box::new(request), check));
        self.run_decree(now);
    }

    /// An operator asks what must be answered as of the newest state.
    pub(super) fn ask_confirmed(&mut self, now: Now, op: OpId, until: Time, request: AdminRequest) {
        if let Err(error) = self.serving_state() {
            return self.reply(op, Err(error));
        }
        // Where there is an answer without a confirmation, there is time left to give it.
        let known = self.answer_ask(now, &request, false).is_ok();
        let half = until.since(now.mono) / 2;
        let deadline = if known { now.mono.plus(half.min(CONFIRM_MAX)) } else { until };
        let check = self.decree.check(now.mono);
        self.tables.insert(op, deadline, Wait::Ask(Box::new(request), check));
        self.run_decree(now);
    }

    pub(super) fn on_table_request(
        &mut self,
        now: Now,
        op: OpId,
        deadline: Time,
        request: TableRequest,
    ) {
        let TableRequest::Change { id, change } = request else {
            let request = AdminRequest::Table(Box::new(request));
            return self.ask_confirmed(now, op, deadline, request);
        };
        let state = match self.serving_state() {
            Ok(state) => state,
            Err(error) => return self.reply(op, Err(error)),
        };
        let change = Change::Table(change);
        let table = change.table().and_then(|name| state.table_named(name));
        let class = table.map(|table| table.class);
        self.propose_for(now, (op, deadline), (id, change), class);
    }

    /// Proposes a change that an operator waits for.
    pub(super) fn propose_for(
        &mut self,
        now: Now,
        (op, deadline): (OpId, Time),
        (id, change): (RequestId, Change),
        class: Option<ClassId>,
    ) {
        match self.decree.propose(now.mono, op, id, change.clone()) {
            Ok(()) => {
                let changing = Changing { change, class, epoch: None };
                self.tables.insert(op, deadline, Wait::Change(Box::new(changing)));
                self.run_decree(now);
            }
            Err(error) => self.reply(op, Err(error)),
        }
    }

    /// A change has been decided and is in force here, or cannot be made.
    pub(super) fn on_change_outcome(&mut self, op: OpId, outcome: Result<Epoch, OpError>) {
        if self.topology.is_own(op) {
            return self.topology.on_outcome(op);
        }
        match outcome {
            Err(error) => {
                if self.tables.remove(op).is_some() {
                    self.reply(op, Err(error));
                }
            }
            Ok(epoch) => {
                if let Some(changing) = self.tables.changing(op) {
                    changing.epoch = Some(epoch);
                    self.finish_change(op);
                }
            }
        }
    }

    /// Members have told their epochs: changes may have been heard of widely enough by now.
    pub(super) fn finish_changes(&mut self) {
        if self.tables.waiting.is_empty() {
            return;
        }
        let made = |wait: &Wait| matches!(wait, Wait::Change(changing) if changing.epoch.is_some());
        for op in self.tables.select(made) {
            self.finish_change(op);
        }
    }

    fn finish_change(&mut self, op: OpId) {
        let Some(state) = self.state.clone() else { return };
        let Some(Changing { change, class, epoch: Some(epoch) }) = self.tables.changing(op) else {
            return;
        };
        let (epoch, class) = (*epoch, *class);
        let Some(name) = change.table().cloned() else {
            let admits = matches!(change, Change::Member(_));
            self.tables.remove(op);
            let result = if admits { Ok(Reply::Joined(state)) } else { self.topology_reply(epoch) };
            return self.reply(op, result);
        };
        let drops = matches!(change, Change::Table(TableChange::Drop(_)));
        if drops && !self.unheard(&state, class, epoch).is_empty() {
            return;
        }
        let table = state.table_named(&name).filter(|_| !drops && state.epoch == epoch).cloned();
        self.tables.remove(op);
        let reply = TableReply { epoch, confirmed: true, table };
        self.reply(op, Ok(Reply::Table(Box::new(reply))));
    }

    /// Owners that have not told that `epoch` is in force with them, of units in which so few have
    /// that a quorum of the others could still take a write, or answer a read, of a dropped table.
    pub(super) fn unheard(
        &self,
        state: &ClusterState,
        class: Option<ClassId>,
        epoch: Epoch,
    ) -> BTreeSet<NodeId> {
        let heard = |id: &NodeId| *id == self.me || self.members.epoch(*id) >= epoch;
        let mut unheard = BTreeSet::new();
        for Class { n, r_min, w_min, owners, moves, .. } in
            state.classes.iter().filter(|known| class.is_none_or(|class| known.id == class))
        {
            let needed = usize::from(n - r_min.min(w_min) + 1);
            // Who is behind may still read a set that was read before: until its barrier it counts as well.
            let was_read = moves.iter().filter(|moving| {
                (moving.phase == MovePhase::ReadNew || moving.was_read)
                    && !crate::mutant!("drop-forgets-the-read-set")
            });
            for owners in owners.iter().chain(was_read.map(|moving| &moving.other)) {
                if owners.iter().filter(|id| heard(id)).count() < needed {
                    unheard.extend(owners.iter().filter(|id| !heard(id)));
                }
            }
        }
        unheard
    }

    /// A newer state is in force: what waits for it may go on.
    pub(super) fn on_schema(&mut self, now: Now, before: Option<&Arc<ClusterState>>) {
        let Some(state) = self.state.clone() else { return };
        if let Some(before) = before {
            for Waiting { wait, .. } in self.tables.waiting.values_mut() {
                if let Wait::Change(changing) = wait
                    && let Some(name) = changing.change.table()
                    && let Some(table) = before.table_named(name)
                {
                    changing.class = Some(table.class);
                }
            }
        }
        let known = |wait: &Wait| match wait {
            Wait::Client(request, _) => state.table_named(request.body.table()).is_some(),
            Wait::Ask(..) | Wait::Change(_) => false,
        };
        for op in self.tables.select(known) {
            if let Some(Wait::Client(request, _)) = self.tables.remove(op) {
                self.on_client(now, op, *request);
            }
        }
        self.finish_changes();
    }

    /// The state in force here was the newest when the checks up to `number` began.
    pub(super) fn on_checked(&mut self, now: Now, number: u64) {
        self.on_newest_known(number);
        let over = |wait: &Wait| match wait {
            Wait::Client(_, check) | Wait::Ask(_, check) => *check <= number,
            Wait::Change(_) => false,
        };
        for op in self.tables.select(over) {
            let known = |name: &TableName| {
                self.state.as_ref().is_some_and(|state| state.table_named(name).is_some())
            };
            let deadline = self.tables.deadline(op).unwrap_or(now.mono);
            match self.tables.remove(op) {
                // The state that has just come into force may have ended the check.
                Some(Wait::Client(request, _)) if known(request.body.table()) => {
                    self.on_client(now, op, *request);
                }
                Some(Wait::Client(request, _)) => {
                    crate::sometimes!("node: is sure that there is no such table");
                    let name = request.body.table();
                    let text = format!("no table is called {name}");
                    self.reply(op, Err(OpError::new(ErrorCode::TableUnknown, text)));
                }
                Some(Wait::Ask(request, _)) => match *request {
                    AdminRequest::Explain(locate) if known(&locate.table) => {
                        self.on_admin(now, op, deadline, AdminRequest::Explain(locate));
                    }
                    request => {
                        let result = self.answer_ask(now, &request, true);
                        self.reply(op, result);
                    }
                },
                Some(Wait::Change(_)) | None => {}
            }
        }
    }

    fn answer_ask(&self, now: Now, request: &AdminRequest, confirmed: bool) -> ClientResult {
        let state = self.serving_state()?;
        let epoch = state.epoch;
        match request {
            AdminRequest::Locate(locate) => self.locate(locate),
            // One that may be begun by now has no time left for it.
            AdminRequest::Explain(locate) => self.locate(locate).and_then(|_| {
                let text = "deadline passed before members could be asked";
                Err(OpError::new(ErrorCode::DeadlineExceeded, text))
            }),
            AdminRequest::Status => self.status(now),
            AdminRequest::Table(request) => match request.as_ref() {
                TableRequest::Describe(name) => {
                    let table = Some(super::client::table(&state, name)?.clone());
                    Ok(Reply::Table(Box::new(TableReply { epoch, confirmed, table })))
                }
                TableRequest::List | TableRequest::Change { .. } => {
                    let tables = state.tables.clone().into();
                    Ok(Reply::Tables(TablesReply { epoch, confirmed, tables }))
                }
            },
            AdminRequest::Flush => Ok(Reply::Flushed),
            AdminRequest::Compact => Ok(Reply::Compacted),
            AdminRequest::Scrub(_) => Ok(Reply::Scrub(Box::default())),
            AdminRequest::Hints(_) => Ok(Reply::Hints(Box::default())),
            AdminRequest::Events(ask) => self.events_reply(*ask),
            AdminRequest::Gc => Ok(Reply::Gc(Box::default())),
            AdminRequest::Repair(_) => Ok(Reply::Repair(Box::default())),
            AdminRequest::Topology(_) => self.topology_reply(epoch),
            AdminRequest::Hot { limit } => Ok(Reply::Hot(Box::new(self.hot_reply(now, *limit)))),
            AdminRequest::Outage(ask) => self.outage_reply(ask),
            AdminRequest::Join(_) => Ok(Reply::Joined(state)),
            AdminRequest::Force(_) => Ok(Reply::Forced(Box::new(self.lineage_reply(&state)))),
        }
    }

    /// Deadlines have come.
    pub(super) fn on_tables_time(&mut self, now: Now) {
        while let Some(&(deadline, op)) = self.tables.deadlines.first() {
            if deadline > now.mono {
                break;
            }
            let result = match self.tables.remove(op) {
                Some(Wait::Client(request, _)) => Err(self.unsure(request.body.table())),
                Some(Wait::Ask(request, _)) => match self.answer_ask(now, &request, false) {
                    Err(error) if error.code == ErrorCode::TableUnknown => {
                        let unchecked = self.decree.unchecked();
                        Err(OpError {
                            message: format!("{}: {unchecked}", error.message),
                            ..unchecked
                        })
                    }
                    result => result,
                },
                Some(Wait::Change(changing)) => Err(self.overdue(op, &changing)),
                None => continue,
            };
            self.reply(op, result);
        }
    }

    fn unsure(&self, name: &TableName) -> OpError {
        let unchecked = self.decree.unchecked();
        let text = format!(
            "this node knows of no table {name}, and cannot make sure: {}",
            unchecked.message
        );
        OpError { message: text, ..unchecked }
    }

    fn overdue(&mut self, op: OpId, changing: &Changing) -> OpError {
        let Some(epoch) = changing.epoch else { return self.decree.withdraw(op) };
        let Some(state) = self.state.clone() else { return self.decree.withdraw(op) };
        let silent = self.unheard(&state, changing.class, epoch);
        let name = |id: &NodeId| state.member(*id).map(|member| member.name.to_string());
        let names: Vec<String> = silent.iter().filter_map(name).collect();
        let text = format!(
            "the table is dropped as of epoch {epoch}, but too few owners have heard of it: until one \
             of these does, a request that was sent before may still succeed with them: {}",
            names.join(", ")
        );
        let mut error = OpError::new(ErrorCode::DeadlineExceeded, text);
        error.facts.epoch = Some(epoch);
        error.with_applied(Applied::Yes)
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon_table(&mut self, op: OpId) {
        if let Some(Wait::Change(_)) = self.tables.remove(op) {
            self.decree.withdraw(op);
        }
    }

    /// Ends all that waits: the node must not run as itself.
    pub(super) fn fail_tables(&mut self, error: &OpError) {
        for op in self.tables.select(|_| true) {
            let applied = match self.tables.remove(op) {
                Some(Wait::Change(_)) => Applied::Unknown,
                Some(Wait::Client(..) | Wait::Ask(..)) | None => Applied::No,
            };
            self.reply(op, Err(error.clone().with_applied(applied)));
        }
    }
}
