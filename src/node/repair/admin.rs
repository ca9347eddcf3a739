//! What operators ask about comparisons: runs out of turn, how far they are, and what differs.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::message::{
    ClientResult, DiffFound, DiffKey, DiffLine, DiffSide, Effect, ErrorCode, OpError, PairLine,
    RepairGauges, RepairRefusal, RepairReply, RepairRequest, RepairScope, Reply, RunLine,
};
use crate::node::Node;
use crate::node::client::table;
use crate::repair::exchange::{Bring, Lack};
use crate::repair::schedule::Pair;
use crate::repair::session::{End, Ended};
use crate::types::{ClassId, ClusterState, NodeId, NodeName, Now, OpId, TableName, Time, Unit};

/// Runs that are remembered.
const RUNS_MAX: usize = 16;
/// Units that one request compares without bringing anything.
const DIFF_UNITS_MAX: usize = 64;
/// How long before the end of its time a request is answered with what is known.
const DIFF_EARLY: Duration = Duration::from_millis(500);

/// How long nobody is looked at after another owner was busy.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Comparisons that an operator has started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    id: u64,
    since: Now,
    class: Option<ClassId>,
    partitions: Option<(u16, u16)>,
    all_pairs: bool,
}

impl Run {
    fn holds(&self, me: NodeId, peer: NodeId, unit: Unit) -> bool {
        let partition = unit.partition.0;
        self.class.is_none_or(|class| class == unit.class)
            && self.partitions.is_none_or(|(from, to)| (from..=to).contains(&partition))
            && (self.all_pairs || me < peer)
    }
}

/// Looks that an operator waits for.
#[derive(Debug)]
pub(super) struct Looking {
    peer: NodeId,
    left: BTreeSet<Unit>,
    /// Of these nothing has been asked yet.
    waiting: BTreeSet<Unit>,
    lines: Vec<DiffLine>,
    next: Option<Unit>,
    until: Time,
}

impl Node {
    pub(in crate::node) fn on_repair_request(
        &mut self,
        now: Now,
        (op, deadline): (OpId, Time),
        request: RepairRequest,
    ) {
        let result = match request {
            RepairRequest::Start(scope) => self.start_run(now, &scope),
            RepairRequest::Status { pairs } => Ok(self.repair_reply(pairs)),
            RepairRequest::Cancel => {
                self.repair.runs.clear();
                self.repair.schedule.want_nothing();
                self.want_dirt(now);
                self.session_step(now, |sessions, around| sessions.cancel(around));
                Ok(self.repair_reply(false))
            }
            RepairRequest::Diff { peer, table, after } => {
                match self.begin_looking(now, (op, deadline), (&peer, table.as_ref(), after)) {
                    Ok(()) => return self.look_on(now),
                    Err(error) => Err(error),
                }
            }
        };
        let result: ClientResult = result.map(|reply| Reply::Repair(Box::new(reply)));
        self.effects.push_back(Effect::Reply { op, result });
    }

    fn start_run(&mut self, now: Now, scope: &RepairScope) -> Result<RepairReply, OpError> {
        let state = self.known_state()?;
        let class = scope.table.as_ref().map(|name| table(state, name)).transpose()?;
        let run = Run {
            id: self.next_operation,
            since: now,
            class: class.map(|table| table.class),
            partitions: scope.partitions,
            all_pairs: scope.all_pairs,
        };
        self.next_operation += 1;
        let me = self.me;
        let pairs = self.repair.schedule.pairs();
        let wanted = pairs.filter(|(peer, unit, _)| run.holds(me, *peer, *unit));
        let wanted: Vec<(NodeId, Unit)> = wanted.map(|(peer, unit, _)| (peer, unit)).collect();
        for (peer, unit) in wanted {
            self.repair.schedule.want(now, (peer, unit), now);
        }
        self.repair.runs.push(run);
        if self.repair.runs.len() > RUNS_MAX {
            self.repair.runs.remove(0);
        }
        self.repair.look_at = now.mono;
        Ok(self.repair_reply(false))
    }

    /// Counts and sizes now.
    pub(in crate::node) fn repair_gauges(&self) -> RepairGauges {
        let schedule = &self.repair.schedule;
        let (mut pairs, mut unverified, mut oldest) = (0, 0, Duration::ZERO);
        for (_, _, pair) in schedule.pairs() {
            pairs += 1;
            match pair.verified {
                Some(at) => oldest = oldest.max(self.now.since(at)),
                None => unverified += 1,
            }
        }
        let counts = self.repair.sessions.counts();
        RepairGauges {
            sessions: counts.sessions,
            bytes: counts.bytes,
            here: counts.here,
            there: counts.there,
            rounds: counts.rounds,
            purged: self.floors.purged,
            pairs,
            unverified,
            oldest,
            ..self.gauges.repair
        }
    }

    fn repair_reply(&self, with_pairs: bool) -> RepairReply {
        let schedule = &self.repair.schedule;
        let name = |id: NodeId| self.member_name(id);
        let under_way = schedule.pairs().filter(|(_, _, pair)| pair.is_under_way()).count();
        let line = |(peer, unit, pair): (NodeId, Unit, &Pair)| PairLine {
            unit,
            peer: name(peer),
            verified: pair.verified.map(|at| self.now.since(at)),
            lacks: pair.lacks,
            under_way: pair.is_under_way(),
        };
        let pairs = schedule.pairs().filter(|_| with_pairs).map(line).collect();
        let run = |run: &Run| {
            let mut of =
                RunLine { id: run.id, age: self.now.since(run.since.mono), total: 0, left: 0 };
            for (_, _, pair) in
                schedule.pairs().filter(|(peer, unit, _)| run.holds(self.me, *peer, *unit))
            {
                of.total += 1;
                of.left += u64::from(!pair.fulfils(run.since));
            }
            of
        };
        RepairReply {
            me: self.config.name.to_string(),
            interval: self.config.repair_interval,
            gauges: self.repair_gauges(),
            under_way: u64::try_from(under_way).unwrap_or(u64::MAX),
            runs: self.repair.runs.iter().map(run).collect(),
            pairs,
            ..RepairReply::default()
        }
    }

    fn member_name(&self, id: NodeId) -> String {
        let member = self.state.as_ref().and_then(|state| state.member(id));
        member.map_or_else(|| id.to_string(), |member| member.name.to_string())
    }

    fn begin_looking(
        &mut self,
        now: Now,
        (op, deadline): (OpId, Time),
        (peer, of, after): (&NodeName, Option<&TableName>, Option<Unit>),
    ) -> Result<(), OpError> {
        let state = self.known_state()?;
        let class = of.map(|name| table(state, name)).transpose()?.map(|table| table.class);
        let malformed = |text| OpError::new(ErrorCode::RequestMalformed, text);
        let member = state
            .member_named(peer)
            .ok_or_else(|| malformed(format!("peer: no member is called {peer}")))?;
        if member.id == self.me {
            return Err(malformed(format!("peer: {peer} is this node itself")));
        }
        let peer = member.id;
        let pairs = self.repair.schedule.pairs();
        let units = pairs.filter(|(of, unit, _)| {
            *of == peer
                && after.is_none_or(|after| *unit > after)
                && class.is_none_or(|class| unit.class == class)
        });
        let mut units: Vec<Unit> = units.map(|(_, unit, _)| unit).collect();
        let more = units.len() > DIFF_UNITS_MAX;
        units.truncate(DIFF_UNITS_MAX);
        let next = units.last().copied().filter(|_| more);
        let left: BTreeSet<Unit> = units.into_iter().collect();
        let early = DIFF_EARLY.min(deadline.since(now.mono) / 4);
        let until = Time(deadline.0.saturating_sub(u64::try_from(early.as_nanos()).unwrap_or(0)));
        let (waiting, lines) = (left.clone(), Vec::new());
        let looking = Looking { peer, left, waiting, lines, next, until };
        self.repair.looking.insert(op, looking);
        Ok(())
    }

    /// Begins looks there is room for, and answers those that are over.
    pub(super) fn look_on(&mut self, now: Now) {
        if self.repair.looking.is_empty() {
            return;
        }
        let Some(state) = self.state.clone() else { return };
        let room = crate::types::limits::REPAIR_SESSIONS_MAX * 2;
        while self.repair.look_after <= now.mono
            && self.repair.sessions.open() < room
            && let Some((peer, unit)) = self.next_look()
        {
            self.begin_session(now, &state, (peer, unit), true);
        }
        let is_over = |looking: &Looking| looking.left.is_empty() || looking.until <= now.mono;
        let over = self.repair.looking.iter().filter(|(_, looking)| is_over(looking));
        for op in over.map(|(op, _)| *op).collect::<Vec<_>>() {
            let Some(mut looking) = self.repair.looking.remove(&op) else { continue };
            let unknown = |unit: &Unit| DiffLine {
                unit: *unit,
                found: DiffFound::Unknown("it was not compared in time".to_owned()),
            };
            looking.lines.extend(looking.left.iter().map(unknown));
            looking.lines.sort_by_key(|line| line.unit);
            let reply = RepairReply {
                diffs: looking.lines,
                next: looking.next,
                ..self.repair_reply(false)
            };
            let result = Ok(Reply::Repair(Box::new(reply)));
            self.effects.push_back(Effect::Reply { op, result });
        }
    }

    fn next_look(&mut self) -> Option<(NodeId, Unit)> {
        self.repair
            .looking
            .values_mut()
            .find_map(|looking| looking.waiting.pop_first().map(|unit| (looking.peer, unit)))
    }

    /// When a look has to be answered.
    pub(super) fn looking_deadline(&self) -> Option<Time> {
        let looking = self.repair.looking.values();
        let waits = looking.clone().any(|looking| !looking.waiting.is_empty());
        let untils = looking.map(|looking| looking.until);
        // Past it, looks wait for room, which comes with a session that ends.
        let pause = Some(self.repair.look_after).filter(|at| waits && *at > self.now);
        untils.chain(pause).min()
    }

    /// A look is over.
    pub(super) fn on_looked(&mut self, now: Now, state: &ClusterState, ended: Ended) {
        let Ended { unit, peer, end, lacks, looked, .. } = ended;
        if let End::Refused(RepairRefusal::Busy | RepairRefusal::Building) = end {
            // It is asked once more, as long as there is time.
            for looking in self.repair.looking.values_mut().filter(|of| of.peer == peer) {
                if looking.left.contains(&unit) {
                    looking.waiting.insert(unit);
                }
            }
            self.repair.look_after = now.mono.plus(LOOK_PAUSE);
            return self.look_on(now);
        }
        let found = match end {
            End::Verified => DiffFound::Equal,
            End::Unverified => DiffFound::Differs {
                count: lacks,
                keys: looked.iter().flatten().filter_map(|lack| diff_key(state, lack)).collect(),
            },
            End::Refused(why) => DiffFound::Unknown(format!("the other owner says: {why}")),
            End::Lost => DiffFound::Unknown("the other owner does not answer".to_owned()),
            End::Cancelled => DiffFound::Unknown("the owners have changed".to_owned()),
            End::Failed => DiffFound::Unknown("this node cannot tell what it holds yet".to_owned()),
        };
        let waits =
            |looking: &&mut Looking| looking.peer == peer && !looking.waiting.contains(&unit);
        for looking in self.repair.looking.values_mut().filter(waits) {
            if looking.left.remove(&unit) {
                looking.lines.push(DiffLine { unit, found: found.clone() });
            }
        }
        self.look_on(now);
    }

    /// Wants again what was said to be dirty.
    fn want_dirt(&mut self, now: Now) {
        let Some(state) = self.state.clone() else { return };
        let since =
            |told: &BTreeMap<NodeId, super::Dirt>| told.values().map(super::Dirt::since).collect();
        let dirt: Vec<(Unit, Vec<Now>)> =
            self.repair.dirt.iter().map(|(unit, told)| (*unit, since(told))).collect();
        for (unit, since) in dirt {
            for peer in state.writers(unit).into_iter().filter(|id| *id != self.me) {
                for wish in &since {
                    self.repair.schedule.want(now, (peer, unit), *wish);
                }
            }
        }
    }
}

fn diff_key(state: &ClusterState, lack: &Lack) -> Option<DiffKey> {
    let table = lack.place.table()?;
    let name = state.table(table).map_or_else(|| table.0.to_string(), |of| of.name.to_string());
    let lacks = match lack.bring {
        Bring::Here => DiffSide::First,
        Bring::There => DiffSide::Second,
        Bring::Both | Bring::Round => DiffSide::Both,
    };
    Some(DiffKey { table: name, key: lack.place.key()?.bytes().clone(), lacks })
}
