//! Clients in the world: what they send and hear, on a network of their own, and what the history
//! and the checkers learn from it.

use core::time::Duration;

use roundtable::load::history::{Action, Life, Outcome};
use roundtable::message::{
    Applied, ClientResult, ErrorCode, Event, OpError, PutReply, QuorumMode, Receipt, Reply,
    ScanReply, TimeToLive,
};
use roundtable::types::{Key, OpId, Quorum, Stamp};

use crate::client::{Operation, Request, Want, keys};
use crate::judge::{Asked, Checker, lost_fault, receipt_fault, share_fault};
use crate::plan::{Fault, MS, exponential};

use super::life::Point;
use super::{Happening, Stage, World};

/// How far a stamp and a reader's clock may be from the world's time, together: two clocks within
/// their bound, and a hybrid clock ahead of the wall.
pub(super) const CLOCKS_APART: Duration = Duration::from_millis(1500);
/// How long after the deadline of a request its answer is looked for.
pub(super) const OVERDUE: u64 = 100 * MS + MS;

impl World {
    pub(super) fn think(&mut self, id: usize) {
        let pinned = self.clients[id].pinned.is_some();
        if self.stage > Stage::Healed && !pinned {
            return;
        }
        let client = &mut self.clients[id];
        let want = match client.script.pop() {
            Some(want) => want,
            None if pinned => return self.script_over(id),
            None => match self.focused(id) {
                Some(want) => want,
                None => self.clients[id].draw(&self.plan.clients),
            },
        };
        let mut entries = Vec::new();
        let now = self.time();
        match &want {
            Want::Get { key, .. } => {
                let (key, process) = (key.clone(), self.clients[id].process);
                let op = self.history.invoke(process, key.clone(), Action::Get, now);
                entries.push((key, process, op));
            }
            Want::Put { key, value, ttl, .. } => {
                let (key, process) = (key.clone(), self.clients[id].process);
                let action = value.clone().map_or(Action::Delete, Action::Put);
                let op = self.history.invoke(process, key.clone(), action, now);
                if let TimeToLive::For(ttl) = *ttl {
                    self.totals.expiring += 1;
                    self.history.expires(op, Life { ttl, slack: CLOCKS_APART });
                }
                entries.push((key, process, op));
            }
            Want::Scan { prefix, after, .. } => {
                for key in keys(&self.plan.clients) {
                    let inside = key.as_bytes().starts_with(prefix.as_bytes());
                    if inside && after.as_ref().is_none_or(|after| key > *after) {
                        let process = self.history.new_process();
                        let op = self.history.invoke(process, key.clone(), Action::Get, now);
                        entries.push((key, process, op));
                    }
                }
            }
        }
        let attempt = roundtable::message::Attempt::default();
        let mode = match pinned {
            true if self.is_always_sloppy() => QuorumMode::Strict,
            true => QuorumMode::ByTable,
            false => self.draw_mode(),
        };
        let monotonic = self.draw_monotonic(id, &want, mode);
        let timed = if self.stage == Stage::Turmoil { self.plan.clients.timed } else { 0.0 };
        let time = self.clients[id].draw_time(&want, timed, self.now);
        let floor = want.key().and_then(|key| self.highest.get(key).copied());
        let (floor, uncertain, at) = (floor.unwrap_or_default(), false, None);
        let operation =
            Operation { want, entries, attempt, time, floor, mode, monotonic, uncertain, at };
        self.clients[id].current = Some(operation);
        self.clients[id].open_window(self.now, true);
        self.send_attempt(id);
    }

    /// Half of the strict reads at the floors are monotonic, in one of five seeds.
    fn draw_monotonic(&self, id: usize, want: &Want, mode: QuorumMode) -> Option<Stamp> {
        let Want::Get { key, r } = want else { return None };
        let sloppy =
            mode == QuorumMode::Sloppy || self.is_always_sloppy() && mode == QuorumMode::ByTable;
        let eligible = self.plan.seed % 10 >= 8 && !sloppy;
        let client = &self.clients[id];
        // Drawn from what is there, so that all other draws stay as they are.
        let drawn = (client.serial ^ id as u64).is_multiple_of(2);
        let monotonic = eligible && drawn && *r != Some(Quorum::One);
        monotonic.then(|| self.monotonic.begun(key))
    }

    fn send_attempt(&mut self, id: usize) {
        self.clients[id].serial += 1;
        let serial = self.clients[id].serial;
        self.attempt(id, serial);
    }

    pub(super) fn attempt(&mut self, id: usize, serial: u64) {
        let hosts = self.hosts.len();
        let client = &mut self.clients[id];
        if client.serial != serial {
            return;
        }
        let host = match (client.pinned, &client.current) {
            (Some(host), _) => host,
            (None, current) => {
                let drawn = client.rng.usize(..hosts);
                let want = current.as_ref().map(|operation| operation.want.clone());
                want.map_or(drawn, |want| self.focused_host(&want, drawn))
            }
        };
        let Some(operation) = &mut self.clients[id].current else { return };
        operation.at = Some(host);
        self.trace.step(
            self.now,
            [30, id as u64, host as u64],
            format_args!("c{id} asks n{} ({serial}): {operation:?}", host + 1),
        );
        let timeout = self.plan.clients.attempt_timeout;
        self.later(timeout + 110 * MS, Happening::Timeout { client: id, serial });
        let delay = self.client_delay();
        if let Some(delay) = delay {
            self.later(delay, Happening::Arrive { client: id, serial, host });
        }
    }

    /// How long a message from or to a client takes; `None` when it gets lost.
    fn client_delay(&mut self) -> Option<u64> {
        let lost = self.net_rng.f64() < self.network.client_loss;
        let delay = self.network.delay(&mut self.net_rng) / 2;
        (!lost).then_some(delay)
    }

    pub(super) fn arrive(&mut self, id: usize, serial: u64, host: usize) {
        if self.clients[id].serial != serial {
            return;
        }
        let timeout = self.plan.clients.attempt_timeout;
        let Some(running) = &self.hosts[host].running else {
            let error = OpError::new(ErrorCode::NotReady, "connection refused");
            return self.tell(id, serial, Err(error));
        };
        let deadline = self.now + timeout;
        let mono = running.mono(deadline);
        let Some(request) = self.clients[id].request(mono) else { return };
        let Some(operation) = &self.clients[id].current else { return };
        let known = Request {
            client: id,
            serial,
            key: operation.want.key().cloned(),
            is_write: matches!(operation.want, Want::Put { .. }),
            asked: self.asked(operation),
        };
        if let (true, Some(key)) = (operation.want.passes(), &known.key) {
            self.removed.insert(key.clone());
        }
        let life = self.hosts[host].life;
        if self.stage == Stage::Healed && self.hosts[host].serves() && known.is_write {
            self.liveness.tried += 1;
        }
        let Some(running) = &mut self.hosts[host].running else { return };
        running.ops += 1;
        let op = OpId(running.ops);
        running.requests.insert(op, known);
        self.answers.asked(host, op, roundtable::types::Time(deadline));
        self.queue.push(deadline + OVERDUE, Happening::Overdue { host, life, op });
        self.feed(host, Event::Client { op, request }, Point::Other);
    }

    fn asked(&self, operation: &Operation) -> Asked {
        let want = &operation.want;
        let n = self.plan.replicas();
        let majority = n / 2 + 1;
        let needed = want.quorum().and_then(|quorum| quorum.resolve(n)).unwrap_or(majority);
        let strict = match operation.mode {
            QuorumMode::Strict => true,
            QuorumMode::ByTable => !self.is_always_sloppy(),
            QuorumMode::Sloppy => false,
        };
        Asked { needed, weak: needed < majority, strict }
    }

    pub(super) fn reply(&mut self, host: usize, op: OpId, result: ClientResult) {
        self.trace.step(
            self.now,
            [31, host as u64, op.0],
            format_args!("n{} answers {op}: {result:?}", host + 1),
        );
        let now = self.time();
        let verdict = self.answers.answered(host, op, now);
        let late = verdict.as_ref().is_err_and(|text| text.contains("owes"));
        self.judge(if late { Checker::Deadline } else { Checker::Answers }, verdict);
        let Some(running) = &mut self.hosts[host].running else { return };
        if let Some(asked) = running.asked.remove(&op) {
            return self.tables_answered(host, asked, &result);
        }
        let Some(request) = running.requests.remove(&op) else { return };
        let mine = |other: &&Request| other.client == request.client;
        let others = running.requests.values().filter(mine).count();
        let receipt = match &result {
            Ok(Reply::Get(reply)) => Some(reply.receipt),
            Ok(Reply::Put(reply)) => Some(reply.receipt),
            // A page has no preference list: who answered does not apply to it.
            Ok(Reply::Scan(reply)) => Some(Receipt { answered: u16::MAX, n: 16, ..reply.receipt }),
            Ok(
                Reply::Status(_)
                | Reply::Locate(_)
                | Reply::Traced(_)
                | Reply::Flushed
                | Reply::Compacted
                | Reply::Scrub(_)
                | Reply::Gc(_)
                | Reply::Outage(_)
                | Reply::Hot(_)
                | Reply::Events(_)
                | Reply::Repair(_)
                | Reply::Table(_)
                | Reply::Tables(_)
                | Reply::Hints(_)
                | Reply::Topology(_)
                | Reply::Forced(_)
                | Reply::Joined(_)
                | Reply::Causal(_)
                | Reply::Cas(_)
                | Reply::Increment(_)
                | Reply::Outcome(_)
                | Reply::Watch(_)
                | Reply::Explain(_),
            )
            | Err(_) => None,
        };
        if let Some(fault) = receipt.and_then(|receipt| receipt_fault(request.asked, &receipt)) {
            self.find(Checker::Receipt, format_args!("n{} {op}: {fault}", host + 1));
        }
        let fault = result.as_ref().err().and_then(|error| share_fault(error, others));
        if let Some(fault) = fault {
            self.find(Checker::Shares, format_args!("n{} {op}: {fault}", host + 1));
        }
        if let (Ok(Reply::Put(reply)), Some(key), true) = (&result, &request.key, request.is_write)
        {
            self.acknowledged(key, reply, request.asked.needed);
        }
        self.tell(request.client, request.serial, result);
    }

    /// I9: asks the books at each acknowledgement, and the disks themselves now and then.
    fn acknowledged(&mut self, key: &Key, reply: &PutReply, needed: u8) {
        let Some(owners) = self.owners(key) else { return };
        // Who owned the key when it was written may own it no more.
        let owners = if self.members_change() { (0..self.hosts.len()).collect() } else { owners };
        let stamp = reply.receipt.stamp;
        let needed = (needed, reply.receipt.stand_ins != 0);
        self.note_custody(key, &reply.receipt);
        let verdict = self.durability.acknowledged(&owners, key, stamp, needed);
        self.judge(Checker::Durability, verdict);
        if self.rng.u8(..64) == 0 {
            let verdict = self.look(&owners, key, stamp, needed);
            self.judge(Checker::Durability, verdict);
        }
    }

    pub(super) fn overdue(&mut self, host: usize, life: u64, op: OpId) {
        if self.is_alive(host, life) {
            let now = self.time();
            let verdict = self.answers.overdue(host, op, now);
            self.judge(Checker::Deadline, verdict);
        }
    }

    /// Brings a client its answer, unless that gets lost.
    pub(super) fn tell(&mut self, client: usize, serial: u64, result: ClientResult) {
        if let Some(delay) = self.client_delay() {
            self.later(delay, Happening::Answer { client, serial, result });
        }
    }

    pub(super) fn timeout(&mut self, id: usize, serial: u64) {
        if self.clients[id].serial != serial || self.clients[id].current.is_none() {
            return;
        }
        let at = self.clients[id].current.as_ref().and_then(|operation| operation.at);
        if let Some(host) = at
            && self.rng.bool()
        {
            let life = self.hosts[host].life;
            let delay = self.client_delay().unwrap_or(MS);
            self.later(delay, Happening::Abandon { host, life, client: id, serial });
        }
        let error = OpError::new(ErrorCode::DeadlineExceeded, "no answer in time")
            .with_applied(Applied::Unknown);
        self.answer(id, serial, Err(error));
    }

    pub(super) fn abandon(&mut self, (host, life): (usize, u64), client: usize, serial: u64) {
        if !self.is_alive(host, life) {
            return;
        }
        let Some(running) = &self.hosts[host].running else { return };
        let mine =
            |(_, request): &(&OpId, &Request)| request.client == client && request.serial == serial;
        if let Some((&op, _)) = running.requests.iter().find(mine) {
            self.answers.abandoned(host, op);
            self.feed(host, Event::Abandon { op }, Point::Other);
        }
    }

    pub(super) fn answer(&mut self, id: usize, serial: u64, result: ClientResult) {
        if self.clients[id].serial != serial || self.clients[id].current.is_none() {
            return;
        }
        // From here on this attempt is abandoned: a later answer to it is ignored.
        self.clients[id].serial += 1;
        self.trace.step(
            self.now,
            [32, id as u64, u64::from(result.is_ok())],
            format_args!("c{id} hears ({serial}): {result:?}"),
        );
        match result {
            Ok(reply) => self.succeed(id, reply),
            Err(error) => self.fail(id, &error),
        }
    }

    fn succeed(&mut self, id: usize, reply: Reply) {
        let now = self.now;
        let Some(receipt) = receipt_of(&reply) else { return };
        self.clients[id].hear(receipt.server_time, now);
        let Some(operation) = self.clients[id].current.take() else { return };
        // Whatever says that it may miss something demands nothing, and what rests on stand-ins is
        // not promised before it is home.
        let loose = receipt.may_miss || receipt.stand_ins != 0;
        self.totals.may_miss += u64::from(receipt.may_miss);
        let (stamp, weak) = (receipt.stamp, receipt.weak || loose);
        match reply {
            Reply::Get(reply) => {
                self.totals.reads += 1;
                if let (Some(floor), Some(key)) = (operation.monotonic, operation.want.key()) {
                    self.totals.monotonic += 1;
                    let verdict = self.monotonic.answered(key, (floor, stamp));
                    // What was deleted and purged has left nothing that could be shown.
                    if stamp != Stamp::ZERO || !self.may_be_purged(key, floor) {
                        self.judge(Checker::Monotonic, verdict);
                    }
                }
                let value = reply.record.and_then(|record| record.value);
                self.complete(&operation, Outcome::Read { value, stamp, weak });
            }
            Reply::Put(_) => {
                self.totals.acknowledged += 1;
                self.totals.timed += u64::from(operation.time.is_some());
                if operation.time.is_some() {
                    self.totals.timed_lost += u64::from(receipt.superseded_by.is_some());
                    if let Some(fault) = lost_fault(operation.floor, &receipt) {
                        self.find(Checker::Receipt, format_args!("c{id}: {fault}"));
                    }
                }
                if let Some(key) = operation.want.key().filter(|_| !weak) {
                    let highest = self.highest.entry(key.clone()).or_default();
                    *highest = stamp.max(*highest);
                }
                if weak {
                    // It rests on too few owners to be seen by every later write, so it may yet
                    // win over one: to the history it never ends.
                    self.clients[id].process = self.history.new_process();
                } else {
                    self.complete(&operation, Outcome::Written { stamp, weak });
                }
                self.first_success();
            }
            Reply::Scan(reply) => self.complete_scan(&operation, &reply),
            Reply::Status(_)
            | Reply::Locate(_)
            | Reply::Traced(_)
            | Reply::Flushed
            | Reply::Compacted
            | Reply::Scrub(_)
            | Reply::Gc(_)
            | Reply::Outage(_)
            | Reply::Hot(_)
            | Reply::Events(_)
            | Reply::Repair(_)
            | Reply::Table(_)
            | Reply::Tables(_)
            | Reply::Hints(_)
            | Reply::Topology(_)
            | Reply::Forced(_)
            | Reply::Joined(_)
            | Reply::Causal(_)
            | Reply::Cas(_)
            | Reply::Increment(_)
            | Reply::Outcome(_)
            | Reply::Watch(_)
            | Reply::Explain(_) => {}
        }
        self.ended(id);
    }

    fn complete(&mut self, operation: &Operation, outcome: Outcome) {
        let now = self.time();
        for (_, _, op) in &operation.entries {
            self.history.complete(*op, outcome.clone(), now);
        }
    }

    fn complete_scan(&mut self, operation: &Operation, reply: &ScanReply) {
        self.totals.scans += 1;
        let now = self.time();
        let weak = reply.receipt.weak || reply.receipt.may_miss;
        let covered = |key: &Key| match &reply.resume {
            None => true,
            Some(resume) => key.as_bytes() <= resume.as_ref(),
        };
        for (key, _, op) in operation.entries.iter().filter(|(key, ..)| covered(key)) {
            let found = reply.entries.iter().find(|entry| entry.key == *key);
            let stamp = found.map(|entry| entry.record.stamp).unwrap_or_default();
            let value = found.and_then(|entry| entry.record.value.clone());
            self.history.complete(*op, Outcome::Read { value, stamp, weak }, now);
        }
    }

    fn fail(&mut self, id: usize, error: &OpError) {
        let now = self.now;
        let attempts_max = self.plan.clients.attempts_max;
        let longest = self.plan.clients.attempt_timeout * u64::from(attempts_max) / 2;
        if error.code == ErrorCode::ClockAhead && self.stage == Stage::Healed {
            self.liveness.clock_refused = true;
        }
        let client = &mut self.clients[id];
        client.hear_error(error, now);
        let Some(operation) = &mut client.current else { return };
        operation.uncertain |= error.applied != Applied::No;
        let again = error.code.is_retryable() && operation.attempt.number + 1 < attempts_max;
        if again && client.open_window(now, false) {
            self.totals.retries += 1;
            let serial = client.serial;
            let wait = client.back_off().max(client.ahead(now, longest));
            return self.later(wait, Happening::Attempt { client: id, serial });
        }
        let Some(operation) = client.current.take() else { return };
        let is_write = matches!(operation.want, Want::Put { .. });
        if is_write && !operation.uncertain {
            self.complete(&operation, Outcome::Failed);
        } else {
            self.totals.unknown += u64::from(is_write);
            self.clients[id].process = self.history.new_process();
        }
        self.ended(id);
    }

    fn ended(&mut self, id: usize) {
        self.totals.operations += 1;
        let pause = match self.clients[id].pinned {
            Some(_) => MS,
            None => {
                let think = self.pause_at_this_hour(self.plan.clients.think);
                exponential(&mut self.clients[id].rng, think)
            }
        };
        self.later(pause, Happening::Think { client: id });
    }

    /// The machines that own `key`.
    pub(super) fn owners(&self, key: &Key) -> Option<Vec<usize>> {
        let state = self.state()?;
        let unit = unit(&state, key)?;
        Some(state.owners(unit).iter().map(|owner| super::host::machine(*owner)).collect())
    }

    /// The quorum that reads back: all owners when all may answer.
    pub(super) fn widest(&self, key: &Key) -> Quorum {
        let owners = self.owners(key).unwrap_or_default();
        let all = owners.iter().all(|owner| self.hosts[*owner].doomed.is_none());
        let fatal = self.plan.has(Fault::Wipe) || self.plan.has(Fault::OldCopy);
        if all && (!fatal || !owners.is_empty()) { Quorum::All } else { Quorum::Majority }
    }
}

/// The receipt of an answer to a client.
fn receipt_of(reply: &Reply) -> Option<Receipt> {
    match reply {
        Reply::Get(reply) => Some(reply.receipt),
        Reply::Put(reply) => Some(reply.receipt),
        Reply::Scan(reply) => Some(reply.receipt),
        _ => None,
    }
}

/// The unit of `key` in table `default`.
pub(super) fn unit(
    state: &roundtable::types::ClusterState,
    key: &Key,
) -> Option<roundtable::types::Unit> {
    let table = state.tables.first()?;
    let token = roundtable::ring::token(key.as_bytes());
    let partition = roundtable::ring::partition_of(token, state.settings.partitions);
    Some(roundtable::types::Unit { class: table.class, partition })
}
