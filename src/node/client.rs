//! What clients ask: admission, the request's table and quorums, and the operation it begins.

use std::sync::Arc;

use super::Node;
use super::batch;
use super::cursors::RETRY_AFTER;
use super::operation::{Machine, Operation};
use super::register::majority;
use super::waterfall::Asker;
use crate::coordinator::{
    Get, GetOrder, Holder, Put, PutOrder, Room, Scan, ScanOrder, Sets, ShareLimits, Step, Target,
};
use crate::message::{
    self, Bound, ClientBody, ClientRequest, Effect, ErrorCode, OpError, Phase, QuorumMode, ScanPart,
};
use crate::ring;
use crate::types::{
    ClusterState, Key, NodeId, Now, OpId, Quorum, RequestId, Role, Sloppy, Table, TableKind,
    TableName, Time, TraceId, Unit, Value, WallTime, limits,
};

/// How far down the walk stand-ins are looked for.
const STAND_INS_ASKED_MAX: usize = 32;

impl Node {
    pub(super) fn on_client(&mut self, now: Now, op: OpId, request: ClientRequest) {
        if let Err(error) = self.try_client(now, op, request) {
            self.effects.push_back(Effect::Reply { op, result: Err(error) });
        }
    }

    /// Begins what a client asks, or lets it wait for its table.
    fn try_client(&mut self, now: Now, op: OpId, request: ClientRequest) -> Result<(), OpError> {
        let state = self.serving_state()?;
        self.admit(now, &request)?;
        self.asker = request.principal.number();
        if state.table_named(request.body.table()).is_none() {
            self.wait_for_table(now, op, request);
            return Ok(());
        }
        // What a table never allows is said before what does not go with its kind.
        is_sloppy(table(&state, request.body.table())?, mode_of(&request.body))?;
        let table = served_table(&state, &request.body)?;
        self.admit_share(Holder { table: table.id, client: self.asker })?;
        self.count_hot(now, &state, table, &request.body);
        let asker = Asker::new(op, request.body.is_traced(), now);
        self.begin_request(now, asker, &state, request)
    }

    /// Begins what has been let in, for the first time or once more.
    pub(super) fn begin_request(
        &mut self,
        now: Now,
        mut asker: Asker,
        state: &Arc<ClusterState>,
        request: ClientRequest,
    ) -> Result<(), OpError> {
        let table = served_table(state, &request.body)?;
        check_options(table, &request.body)?;
        asker.request = Some(Box::new(request.clone()));
        let of_many = matches!(request.body, ClientBody::Scan(_) | ClientBody::Watch(_));
        let is_scan = matches!(request.body, ClientBody::Scan(_));
        if table.kind == TableKind::Linearizable && !is_scan {
            return self.begin_register(now, asker, (state, table), request);
        }
        if table.kind == TableKind::Causal && !of_many {
            return self.begin_causal(now, asker, (state, table), request);
        }
        match request.body {
            ClientBody::Get(get) => {
                // What stand-ins hold is no owner's, and monotonic reads rest on owners.
                let sloppy = is_sloppy(table, get.mode)? && !get.monotonic;
                let r = quorum(get.r, table.r, table.n, "r")?;
                let target = self.target(state, table, get.key);
                let mut order = self.get_order(table, r, &target, sloppy);
                order.monotonic = get.monotonic.then(|| table.w.max(table.w_min));
                (order.trace, order.deadline) = (request.trace, request.deadline);
                self.begin(now, asker, target, |target, step| {
                    Machine::Get(Box::new(Get::begin(target, order, step)))
                });
            }
            ClientBody::Put(put) => {
                let sloppy = is_sloppy(table, put.mode)?;
                let mut order =
                    self.put_order(now, table, &put, (request.trace, request.deadline))?;
                if order.time.is_some() && order.attempt.id == RequestId(0) {
                    order.attempt.id = self.name_write();
                    asker.name(order.attempt.id);
                }
                order.earlier = asker.left.stamp;
                let target = self.target(state, table, put.key);
                order.own = target.index(self.me);
                order.stand_ins = self.stand_ins(sloppy, &target);
                self.raise_ceiling_early(now);
                self.begin(now, asker, target, |target, step| {
                    Machine::Put(Box::new(Put::begin(target, order, step)))
                });
            }
            ClientBody::Scan(scan) => {
                let mut order = self.scan_order(state, table, scan)?;
                (order.trace, order.deadline) = (request.trace, request.deadline);
                self.begin_scan(now, asker, order);
            }
            ClientBody::Watch(ask) => {
                self.on_watch_ask(now, (asker.op, request.deadline), state, *ask)?
            }
            ClientBody::Batch(batch) => {
                let asked = (*batch, request.trace, request.deadline);
                self.begin_batch(now, asker, (state, table), asked)?;
            }
            ClientBody::Cas(_) | ClientBody::Outcome(_) | ClientBody::Increment(_) => {
                unreachable!("tables of this kind refuse them")
            }
        }
        Ok(())
    }

    pub(super) fn serving_state(&self) -> Result<Arc<ClusterState>, OpError> {
        let reason = match &self.phase {
            Phase::Serving => None,
            Phase::Draining => Some("this node is shutting down".to_owned()),
            Phase::Founding(why) => Some(format!("the cluster is not founded yet: {why}")),
            Phase::Registering(why) => Some(format!("this node is not registered yet: {why}")),
            Phase::Refused(why) => Some(why.clone()),
        };
        match (reason, &self.state) {
            (None, Some(state)) => Ok(state.clone()),
            (reason, _) => {
                let reason = reason.unwrap_or_else(|| "no cluster state".to_owned());
                Err(OpError::new(ErrorCode::NotReady, reason))
            }
        }
    }

    fn admit(&self, now: Now, request: &ClientRequest) -> Result<(), OpError> {
        if now.mono >= request.deadline {
            let message = "deadline passed before the request was begun";
            return Err(OpError::new(ErrorCode::DeadlineExceeded, message));
        }
        self.admit_operation()
    }

    /// Whether there is room for one more operation.
    pub(super) fn admit_operation(&self) -> Result<(), OpError> {
        let in_flight = self.operations.len() - self.lingering.len();
        let over_count = in_flight >= self.config.operations_max;
        if over_count || self.operation_bytes >= self.config.operation_bytes_max {
            let (limit, got) = if over_count {
                (self.config.operations_max, in_flight)
            } else {
                (self.config.operation_bytes_max, self.operation_bytes)
            };
            let message = "too many operations, or bytes of them, in flight on this node";
            return Err(overloaded(Bound::Node, message, (limit, got)));
        }
        Ok(())
    }

    /// Whether its table and its client have room for one more operation.
    pub(super) fn admit_share(&self, of: Holder) -> Result<(), OpError> {
        let config = &self.config;
        let in_flight = self.operations.len() - self.lingering.len();
        let free = Room {
            operations: config.operations_max.saturating_sub(in_flight),
            bytes: config.operation_bytes_max.saturating_sub(self.operation_bytes),
        };
        let limits = ShareLimits { table: config.table_share, client: config.client_share };
        self.shares.admit(of, limits, free).map_err(|full| {
            let whose = match full.bound {
                Bound::Client => "this client",
                Bound::Table | Bound::Node => "this table",
            };
            let text = format!("{whose} has its share of the {} in flight on this node", full.what);
            overloaded(full.bound, &text, (full.limit, full.taken))
        })
    }

    pub(super) fn get_order(
        &mut self,
        table: &Table,
        r: u8,
        target: &Target,
        sloppy: bool,
    ) -> GetOrder {
        let may_be_sloppy = table.sloppy != Sloppy::Never;
        GetOrder {
            r,
            weak: r < table.r_min,
            trace: TraceId::default(),
            deadline: Time(0),
            hedge_after: self.config.hedge_after,
            retry_interval: self.config.retry_interval,
            nearest: target.read_index(self.me).filter(|_| self.is_complete(target.unit)),
            turn: self.tables.hot.turn(self.now, table.id, &target.key),
            stand_ins: self.stand_ins(sloppy, target),
            returning: if may_be_sloppy { self.returning(&target.owners) } else { 0 },
            unsure: sloppy && !self.members.custody_is_known(),
            monotonic: None,
        }
    }

    pub(super) fn put_order(
        &self,
        now: Now,
        table: &Table,
        put: &message::Put,
        (trace, deadline): (TraceId, Time),
    ) -> Result<PutOrder, OpError> {
        let w = quorum(put.w, table.w, table.n, "w")?;
        let r = quorum(put.r, table.r, table.n, "r")?;
        check_value_size(table, put.value.as_ref())?;
        self.check_own_clock(now)?;
        self.check_client_time(now, put.time)?;
        Ok(PutOrder {
            value: put.value.clone(),
            ttl: put.ttl.resolve(table.ttl),
            rest: Vec::new(),
            attempt: put.attempt,
            time: put.time,
            w,
            // Below the floor nothing is promised about what came before.
            whole: if w < table.w_min { 0 } else { table.n - table.w_min + 1 },
            weak: w < table.w_min || (put.r.is_some() && r < table.r_min),
            trace,
            deadline,
            retry_interval: self.config.retry_interval,
            own: None,
            earlier: None,
            stand_ins: Vec::new(),
        })
    }

    fn scan_order(
        &self,
        state: &Arc<ClusterState>,
        table: &Table,
        scan: message::Scan,
    ) -> Result<ScanOrder, OpError> {
        self.admit_page()?;
        let r = match table.kind {
            TableKind::Linearizable if crate::mutant!("scan-asks-one-owner") => 1,
            TableKind::Linearizable => majority(scan.r, table.r, table, "r")?,
            TableKind::Lww | TableKind::Causal => quorum(scan.r, table.r, table.n, "r")?,
        };
        if scan.limit == 0 || scan.limit > limits::SCAN_PAGE_ENTRIES_MAX {
            let message = format!(
                "limit is {}; it must be 1..={}",
                scan.limit,
                limits::SCAN_PAGE_ENTRIES_MAX
            );
            return Err(OpError::new(ErrorCode::RequestMalformed, message));
        }
        Ok(ScanOrder {
            op: self.next_operation,
            table: table.id,
            kind: table.kind,
            class: table.class,
            r,
            weak: r < table.r_min,
            returning: self.returning_members(state, table),
            prefix: scan.prefix,
            after: scan.after,
            limit: scan.limit,
            keys_only: scan.keys_only,
            reverse: scan.reverse,
            part: scan.part.map(|part| ScanPart { scan: self.scan_number(part.scan), ..part }),
            own: self.me,
            trace: TraceId::default(),
            deadline: Time(0),
            retry_interval: self.config.retry_interval,
            state: state.clone(),
        })
    }

    /// Whether there is room for one more page of a scan: each may hold megabytes.
    fn admit_page(&self) -> Result<(), OpError> {
        let is_scan = |operation: &&Operation| matches!(operation.machine, Machine::Scan(_));
        let (limit, got) =
            (limits::SCAN_PAGES_UNDER_WAY_MAX, self.operations.values().filter(is_scan).count());
        if got < limit {
            return Ok(());
        }
        let text = "too many pages of scans in flight on this node";
        let mut error = overloaded(Bound::Node, text, (limit, got));
        error.facts.retry_after = Some(RETRY_AFTER);
        Err(error)
    }

    /// Members that may stand in for owners of the key and can be reached, in the order of the walk:
    /// none in a strict request.
    pub(super) fn stand_ins(&self, sloppy: bool, target: &Target) -> Vec<NodeId> {
        if !sloppy && !crate::mutant!("stand-in-counts-in-strict") {
            return Vec::new();
        }
        let Some(ring) = &self.ring else { return Vec::new() };
        let (partition, most) = (target.unit.partition, STAND_INS_ASKED_MAX);
        let walk = ring.stand_ins(partition, &target.owners, most);
        // Who leaves takes nothing more into custody: it would have to be home before it goes.
        let stays = |id: &NodeId| {
            let member = self.state.as_ref().and_then(|state| state.member(*id));
            member.is_some_and(|member| member.role != Role::Leaving)
        };
        let up = |id: &NodeId| stays(id) && (*id == self.me || self.members.is_reachable(*id));
        walk.into_iter().filter(up).take(usize::from(limits::REPLICAS_MAX)).collect()
    }

    /// Members that own units of the table's class and may lack what is held for them.
    fn returning_members(&self, state: &ClusterState, table: &Table) -> Vec<NodeId> {
        if table.sloppy == Sloppy::Never {
            return Vec::new();
        }
        let ids: Vec<NodeId> = state.members.iter().map(|member| member.id).collect();
        ids.into_iter().filter(|id| self.returning(&[*id]) != 0).collect()
    }

    /// A node whose clock is ahead does not stamp: its stamps would win over later writes of
    /// others, and the key could not be written anywhere else until their clocks caught up. A
    /// node that has heard no other clock has nothing to be ahead of.
    pub(super) fn check_own_clock(&self, now: Now) -> Result<(), OpError> {
        let Some(median) = self.members.median_clock(now) else { return Ok(()) };
        let record = self.clock.of_record(now.wall);
        let drifted = record.ahead_of(now.wall.max(median)) > limits::CLOCK_COORDINATE_MAX;
        let wrong = record.ahead_of(median) > limits::CLOCK_AHEAD_MAX;
        if drifted || wrong {
            crate::sometimes!("node: clock too far ahead to coordinate");
            let message = format!(
                "this node's clock is {} ms ahead of the others' median; ask another node, and \
                 check this one's clock",
                record.ahead_of(median).as_millis()
            );
            return Err(OpError::new(ErrorCode::ClockAhead, message));
        }
        Ok(())
    }

    /// A time from a wrong clock would win until that time has come, and clocks follow it.
    fn check_client_time(&self, now: Now, time: Option<WallTime>) -> Result<(), OpError> {
        let bound = now.wall.plus(limits::CLIENT_TIME_AHEAD_MAX);
        let Some(time) = time.filter(|time| *time > bound) else { return Ok(()) };
        let message = format!(
            "time is {} ms ahead of this node's clock; at most {} ms are taken",
            time.ahead_of(now.wall).as_millis(),
            limits::CLIENT_TIME_AHEAD_MAX.as_millis()
        );
        let mut error = OpError::new(ErrorCode::TimeTooFar, message);
        (error.facts.limit, error.facts.got) = (Some(bound.0), Some(time.0));
        error.facts.server_time = Some(self.clock.of_record(now.wall));
        Err(error)
    }

    pub(super) fn target(&mut self, state: &ClusterState, table: &Table, key: Key) -> Target {
        let unit = unit_of(state, table, &key);
        let op = self.next_operation;
        let owners = state.writers(unit);
        let bit = |bits: u16, (at, is_in): (usize, bool)| bits | u16::from(is_in) << at;
        let of = |set: &[NodeId]| {
            let members = owners.iter().map(|id| set.contains(id));
            members.enumerate().fold(0, bit)
        };
        let sets = Sets { read: of(state.owners(unit)), other: of(state.other_owners(unit)) };
        Target {
            op,
            epoch: state.epoch,
            unit,
            changed_at: state.changed_at(unit),
            table: table.id,
            key,
            owners,
            sets,
        }
    }

    pub(super) fn begin(
        &mut self,
        now: Now,
        asker: Asker,
        target: Target,
        make: impl FnOnce(Target, &mut Step<'_>) -> Machine,
    ) {
        let reachable = self.reachable(&target.owners);
        let mut out = Vec::with_capacity(4);
        // Those who may stand in have just been chosen among the reachable.
        let stand_ins = (1 << limits::REPLICAS_MAX) - 1;
        let health = self.health(now, &target.owners);
        let (clock, hedges) = (&mut self.clock, &mut self.hedges);
        let step = &mut Step { now, clock, reachable, health, stand_ins, hedges, out: &mut out };
        let machine = make(target, step);
        self.insert_operation(asker, machine);
        self.finish_step(now, out);
    }

    /// Begins an operation of this node's own, for no client.
    pub(super) fn begin_own(
        &mut self,
        now: Now,
        target: Target,
        make: impl FnOnce(Target, &mut Step<'_>) -> Machine,
    ) {
        let reachable = self.reachable(&target.owners);
        let (mut out, stand_ins) = (Vec::with_capacity(4), 0);
        let health = self.health(now, &target.owners);
        let (clock, hedges) = (&mut self.clock, &mut self.hedges);
        let step = &mut Step { now, clock, reachable, health, stand_ins, hedges, out: &mut out };
        let machine = make(target, step);
        self.insert(Operation::own(machine));
        self.finish_step(now, out);
    }

    fn begin_scan(&mut self, now: Now, asker: Asker, order: ScanOrder) {
        let mut out = Vec::new();
        let (members, me) = (&self.members, self.me);
        let reachable = |member| member == me || members.is_reachable(member);
        let (clock, hedges) = (&mut self.clock, &mut self.hedges);
        let step = &mut Step::of_all(now, (clock, hedges), &mut out);
        let machine = Machine::Scan(Box::new(Scan::begin(order, reachable, step)));
        self.insert_operation(asker, machine);
        self.finish_step(now, out);
    }

    fn insert_operation(&mut self, asker: Asker, machine: Machine) {
        self.waiting.insert(asker.op, self.next_operation);
        self.insert(Operation::new(asker, self.asker, machine));
    }

    pub(super) fn insert(&mut self, mut operation: Operation) {
        operation.since = self.now;
        let id = self.next_operation;
        self.next_operation += 1;
        self.operation_bytes += operation.bytes;
        self.shares.begin(operation.holder, operation.bytes);
        self.operations.insert(id, operation);
        self.gauges.operations_begun += 1;
        self.current = id;
    }
}

/// There is no room for an operation now.
fn overloaded(bound: Bound, message: &str, (limit, got): (usize, usize)) -> OpError {
    let mut error = OpError::new(ErrorCode::Overloaded, message).with_limit(limit, got);
    error.facts.retry_after = Some(core::time::Duration::from_millis(50));
    error.facts.bound = Some(bound);
    error
}

/// The unit that holds `key`.
pub(super) fn unit_of(state: &ClusterState, table: &Table, key: &Key) -> Unit {
    let token = ring::token(key.as_bytes());
    Unit { class: table.class, partition: ring::partition_of(token, state.settings.partitions) }
}

/// The table of a data operation, if this build can serve its kind.
fn served_table<'a>(state: &'a ClusterState, body: &ClientBody) -> Result<&'a Table, OpError> {
    let table = table(state, body.table())?;
    if let ClientBody::Put(put) = body
        && !put.context.is_empty()
        && table.kind != TableKind::Causal
    {
        let message =
            format!("table {} is {}: only causal tables have contexts", table.name, table.kind);
        return Err(OpError::new(ErrorCode::ContextInvalid, message));
    }
    let consensus_only = matches!(body, ClientBody::Cas(_) | ClientBody::Outcome(_));
    if consensus_only && table.kind != TableKind::Linearizable {
        let message = format!(
            "table {} is {}: only linearizable tables have compare-and-set and outcomes",
            table.name, table.kind
        );
        return Err(OpError::new(ErrorCode::KindMismatch, message));
    }
    if matches!(body, ClientBody::Batch(_)) {
        batch::check_kind(table)?;
    }
    if matches!(body, ClientBody::Increment(_)) && table.kind == TableKind::Lww {
        let message = format!(
            "table {} is lww: of increments at the same time one would vanish; counters are for \
             causal and linearizable tables",
            table.name
        );
        return Err(OpError::new(ErrorCode::KindMismatch, message));
    }
    Ok(table)
}

pub(super) fn table<'a>(state: &'a ClusterState, name: &TableName) -> Result<&'a Table, OpError> {
    state
        .table_named(name)
        .ok_or_else(|| OpError::new(ErrorCode::TableUnknown, format!("no table is called {name}")))
}

/// Whether stand-ins may count in a request.
pub(super) fn is_sloppy(table: &Table, mode: QuorumMode) -> Result<bool, OpError> {
    match (mode, table.sloppy) {
        (QuorumMode::Strict, _) | (QuorumMode::ByTable, Sloppy::Never | Sloppy::Request) => {
            Ok(false)
        }
        (QuorumMode::ByTable, Sloppy::Always)
        | (QuorumMode::Sloppy, Sloppy::Request | Sloppy::Always) => Ok(true),
        (QuorumMode::Sloppy, Sloppy::Never) => {
            let name = &table.name;
            let message = match table.kind {
                TableKind::Linearizable => format!(
                    "table {name} is linearizable: stand-ins never count towards its quorums"
                ),
                TableKind::Lww | TableKind::Causal => {
                    format!("table {name} does not allow sloppy quorums (sloppy is never)")
                }
            };
            Err(OpError::new(ErrorCode::SloppyNotAllowed, message))
        }
    }
}

/// Whether what is asked goes together with the table's kind.
fn check_options(table: &Table, body: &ClientBody) -> Result<(), OpError> {
    if let ClientBody::Put(message::Put { time: Some(_), .. }) = body
        && table.kind != TableKind::Lww
    {
        let (name, kind) = (&table.name, table.kind);
        let message = format!("table {name} is {kind}: clients give times in lww tables alone");
        return Err(OpError::new(ErrorCode::KindMismatch, message));
    }
    let ClientBody::Get(message::Get { monotonic: true, mode, .. }) = body else { return Ok(()) };
    if *mode == QuorumMode::Sloppy {
        let message = "a monotonic read counts owners only: leave sloppy out";
        return Err(OpError::new(ErrorCode::RequestMalformed, message));
    }
    Ok(())
}

/// What a request says about stand-ins.
fn mode_of(body: &ClientBody) -> QuorumMode {
    match body {
        ClientBody::Get(get) => get.mode,
        ClientBody::Put(put) => put.mode,
        ClientBody::Increment(increment) => increment.mode,
        ClientBody::Scan(_)
        | ClientBody::Cas(_)
        | ClientBody::Batch(_)
        | ClientBody::Outcome(_)
        | ClientBody::Watch(_) => QuorumMode::ByTable,
    }
}

/// Whether a value is within its table's limit.
pub(super) fn check_value_size(table: &Table, value: Option<&Value>) -> Result<(), OpError> {
    let bytes = value.map_or(0, |value| value.as_bytes().len());
    let limit = table.value_bytes_max as usize;
    if bytes > limit {
        let message = format!("value has {bytes} bytes; the table's limit is {limit} bytes");
        return Err(OpError::new(ErrorCode::ValueTooLarge, message).with_limit(limit, bytes));
    }
    Ok(())
}

pub(super) fn quorum(asked: Option<Quorum>, default: u8, n: u8, name: &str) -> Result<u8, OpError> {
    let Some(asked) = asked else { return Ok(default) };
    asked.resolve(n).ok_or_else(|| {
        let message = format!("{name} is {asked}; it must be 1..={n} for this table");
        OpError::new(ErrorCode::QuorumInvalid, message)
    })
}
