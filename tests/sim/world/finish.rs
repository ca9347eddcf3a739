//! The end of a run: faults stop, the cluster must serve again soon, everything is read back from
//! every node, and the owners of what was read must have become equal.

use roundtable::load::check::Violation;
use roundtable::load::history::History;
use roundtable::message::{DiskAnswer, DiskRequest, TimeToLive};
use roundtable::types::{Key, Record, Stamp, TableId, WallTime};
use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use roundtable::replica::Replica;

use crate::client::{Client, Want, keys};
use crate::judge::Checker;
use crate::plan::{Fault, MS, SECOND};

use super::host::{member, open};
use super::traffic::unit;
use super::{Happening, Stage, World};

/// How soon after faults stop a write must succeed.
const SERVES_WITHIN: u64 = 2 * SECOND;
/// How many writes must have been tried by then to show anything.
const TRIED_MIN: u32 = 8;
/// A clock is at most 500 ms ahead, and stamps from 300 ms on.
const CLOCK_CATCHES_UP: u64 = 250 * MS;
/// Writes that each node that serves is asked for where clients happened to try fewer.
const PROBES: usize = 3;
/// Quarters of a second in which an epoch is heard of by everybody.
const EPOCH_WAITS: u32 = 12;
/// How long clients go on after that before everything is read back.
const CALM: u64 = 4 * SECOND;
/// How long repairs may take after the last read.
const REPAIRED_WITHIN: u64 = 5 * SECOND;

/// Whether the cluster served again in time.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    served: bool,
    /// Writes of at most a majority that have reached a node that serves since.
    pub(super) tried: u32,
    /// Clients that write on behalf of the check itself, and have not done so yet.
    probes: usize,
    probed: bool,
    /// A node that serves has refused to stamp since, because its clock was ahead: by design it is
    /// waited for.
    pub(super) clock_refused: bool,
    clock_waits: u32,
    /// How often the end has waited for everybody to hear of the newest epoch.
    epoch_waits: u32,
    scripts: usize,
    /// Nodes whose bytes were put right in the end, and that were started again.
    pub(super) restarted: BTreeSet<usize>,
    /// When the last key of a table of the other kinds is read back.
    read_by: u64,
}

impl World {
    /// Faults stop, if enough has happened.
    pub(super) fn peace(&mut self) {
        if !self.is_busy_enough() {
            return self.later(SECOND, Happening::Peace);
        }
        self.stage = Stage::Healed;
        self.trace.step(self.now, [50, 0, 0], format_args!("faults stop"));
        // A slow link has not healed before all that it holds has arrived.
        let held = self.network.heal().saturating_sub(self.now);
        for host in 0..self.hosts.len() {
            let ill = self.hosts[host].ill;
            self.hosts[host].ill = false;
            self.hosts[host].slow = 0;
            self.hosts[host].disk.set_error_rate(0.0);
            self.hosts[host].wall.offset =
                self.hosts[host].wall.offset.clamp(-100_000_000, 100_000_000);
            if ill && self.hosts[host].running.is_some() {
                self.kill(host);
            }
            if self.hosts[host].absent {
                continue;
            }
            self.hosts[host].starting = true;
            self.later(MS, Happening::Start { host });
        }
        self.later(held + SERVES_WITHIN + 100 * MS, Happening::Settled);
        self.later(held + CALM, Happening::Verify);
    }

    /// A write has succeeded.
    pub(super) fn first_success(&mut self) {
        if self.stage == Stage::Healed || self.liveness.probes > 0 {
            self.liveness.served = true;
        }
    }

    /// The time is over in which the cluster had to serve again; later, the one for repairs.
    pub(super) fn settled(&mut self) {
        if self.stage == Stage::Verifying {
            // Plans go on meanwhile: of an epoch that was decided just now not everybody has heard.
            if !self.is_of_one_epoch() && self.liveness.epoch_waits < EPOCH_WAITS {
                self.liveness.epoch_waits += 1;
                return self.later(SECOND / 4, Happening::Settled);
            }
            return self.compare();
        }
        let ahead = core::mem::take(&mut self.liveness.clock_refused);
        if !self.liveness.served && ahead && self.liveness.clock_waits < 2 {
            self.liveness.clock_waits += 1;
            self.liveness.tried = 0;
            return self.later(CLOCK_CATCHES_UP, Happening::Settled);
        }
        let shown = self.liveness.tried >= TRIED_MIN;
        if !self.liveness.served && !shown && !self.liveness.probed {
            return self.probe();
        }
        self.judge_liveness();
    }

    /// Clients draw what they ask and whom: it happens that none wrote once a quorum served, and
    /// then nothing has been shown. Each node that serves is asked to write, now.
    fn probe(&mut self) {
        self.liveness.probed = true;
        let serving: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].serves()).collect();
        for host in serving {
            let id = self.clients.len();
            let mut client = Client::new(id, self.history.new_process(), self.rng.fork());
            client.pinned = Some(host);
            client.probes = true;
            for key in keys(&self.plan.clients).into_iter().take(PROBES) {
                let value = Some(client.value(16));
                client.script.push(Want::Put { key, value, ttl: TimeToLive::Never, w: None });
            }
            self.clients.push(client);
            self.liveness.probes += 1;
            self.later(MS, Happening::Think { client: id });
        }
        if self.liveness.probes == 0 {
            self.judge_liveness();
        }
    }

    /// Whether a node has begun so lately that it may wait for council members that are silent.
    fn is_young(&self, host: usize) -> bool {
        let patience = 3 * self.plan.configs[host].probe_interval;
        let since = self.hosts[host].running.as_ref().map_or(self.now, |running| running.boot_at);
        u128::from(self.now - since) < patience.as_nanos()
    }

    fn judge_liveness(&mut self) {
        // A clock that was far ahead is waited for, by design: writes stand still until then.
        let waits = self.plan.has(Fault::SkewBeyond) || self.plan.has(Fault::ClockBack);
        if !self.liveness.served && !waits {
            let phases: Vec<String> = self.hosts.iter().map(|host| host.state_text()).collect();
            let text = format_args!("no write within {SERVES_WITHIN} ns of peace: {phases:?}");
            self.find(Checker::Liveness, text);
        }
        for host in 0..self.hosts.len() {
            let gone = self.hosts[host].absent || self.topology.gone.contains(&host);
            let may = self.hosts[host].doomed.is_none();
            if may && !gone && !self.hosts[host].serves() && !self.is_young(host) {
                let text = self.hosts[host].state_text();
                self.find(Checker::Liveness, format_args!("n{} does not serve: {text}", host + 1));
            }
        }
    }

    /// Clients stop; hints come home, then everything is read back.
    pub(super) fn verify(&mut self) {
        self.stage = Stage::Verifying;
        // Clients of before get the time to hear of what they have begun.
        let since = self.now + 4 * self.plan.clients.attempt_timeout + SECOND;
        self.queue.push(since, Happening::ComeHome { since });
    }

    /// One reader for each node reads everything back.
    pub(super) fn begin_reading(&mut self) {
        self.trace.step(self.now, [51, 0, 0], format_args!("reading back"));
        let all = keys(&self.plan.clients);
        for host in 0..self.hosts.len() {
            if !self.hosts[host].serves() {
                continue;
            }
            let id = self.clients.len();
            let mut client = Client::new(id, self.history.new_process(), self.rng.fork());
            client.pinned = Some(host);
            for key in &all {
                client.script.push(Want::Get { key: key.clone(), r: Some(self.widest(key)) });
            }
            client.script.push(Want::Scan { prefix: "", after: None, limit: 100, r: None });
            self.totals.read_back += client.script.len() as u64;
            self.clients.push(client);
            self.liveness.scripts += 1;
            self.later(MS, Happening::Think { client: id });
        }
        let wait = 4 * self.plan.clients.attempt_timeout + SECOND;
        let causal = self.read_causal_back(wait);
        let register = self.read_register_back(wait);
        let counters = self.read_counters_back(wait);
        let batches = self.read_batches_back(wait);
        self.liveness.read_by = self.now + causal.max(register).max(counters).max(batches);
        if self.liveness.scripts == 0 {
            self.stage = Stage::Over;
        }
    }

    /// A client has done all it was to do.
    pub(super) fn script_over(&mut self, client: usize) {
        if self.clients[client].probes {
            self.liveness.probes -= 1;
            if self.liveness.probes == 0 {
                self.judge_liveness();
            }
            return;
        }
        self.liveness.scripts -= 1;
        if self.liveness.scripts == 0 {
            let still = self.liveness.read_by.saturating_sub(self.now);
            self.later(still + REPAIRED_WITHIN, Happening::Settled);
        }
    }

    /// Everything was read with an answer of every owner that can answer: they must be equal now.
    fn compare(&mut self) {
        self.stage = Stage::Over;
        self.compare_schema();
        for host in 0..self.hosts.len() {
            if let Some(running) = &self.hosts[host].running {
                running.replica.settle_trees();
            }
            self.compare_trees(host);
        }
        self.compare_rot();
        if self.needs_operator() {
            return;
        }
        self.compare_causal();
        for key in keys(&self.plan.clients) {
            let owners = self.owners(&key).unwrap_or_default();
            let owners: Vec<usize> =
                owners.into_iter().filter(|owner| self.hosts[*owner].serves()).collect();
            let found: Vec<Option<(Stamp, Option<WallTime>)>> =
                owners.iter().map(|owner| self.held_for_good(*owner, &key)).collect();
            self.totals.compared += 1;
            if found.windows(2).any(|pair| pair[0] != pair[1]) {
                let text = format_args!("owners of {key:?} hold {found:?} after a read of all");
                self.find(Checker::Convergence, text);
            }
        }
    }

    pub(super) fn held(&self, host: usize, key: &Key) -> Option<(Stamp, Option<WallTime>)> {
        self.read_at(host, key).map(|record| (record.stamp, record.expiry))
    }

    /// The same without what may be purged: each owner does that when its merges come to it.
    fn held_for_good(&self, host: usize, key: &Key) -> Option<(Stamp, Option<WallTime>)> {
        let lasts = |record: &Record| {
            let passes = record.value.is_none() || record.expiry.is_some();
            !(passes && self.may_be_purged(key, record.stamp))
        };
        let record = self.read_at(host, key).filter(lasts)?;
        Some((record.stamp, record.expiry))
    }

    fn read_at(&self, host: usize, key: &Key) -> Option<Record> {
        let state = self.state()?;
        let running = self.hosts[host].running.as_ref()?;
        read(&running.replica, &state, key)
    }

    /// Looks for an acknowledged version on the disks themselves, as a crash would leave them.
    pub(super) fn look(
        &mut self,
        owners: &[usize],
        key: &Key,
        stamp: Stamp,
        (needed, stand_ins): (u8, bool),
    ) -> Result<(), String> {
        self.totals.disk_looks += 1;
        let Some(state) = self.state() else { return Ok(()) };
        let mut holders = 0;
        for &owner in owners {
            if self.hosts[owner].doomed.is_some() || self.hosts[owner].rotted {
                // Emptied or rotten since: what its disk has reported must do.
                let held = self.durability.holders(&[owner], key, stamp, stand_ins);
                holders += u8::from(!held.is_empty());
                continue;
            }
            let copy = self.hosts[owner].disk.fork(self.rng.u64(..));
            copy.set_error_rate(0.0);
            copy.crash();
            copy.restart();
            let Ok((replica, _)) = open(&copy, self.hosts[owner].options.clone()) else { continue };
            let held = read(&replica, &state, key).map(|record| record.stamp);
            let own = held >= Some(stamp);
            holders += u8::from(own || stand_ins && self.is_kept((owner, key), &state, stamp));
        }
        if holders < needed {
            return Err(format!(
                "{key:?} at {stamp} was acknowledged, {holders} of {needed} disks would keep it"
            ));
        }
        Ok(())
    }

    /// Whether some disk, as a crash would leave it, keeps a version for an owner.
    fn is_kept(
        &mut self,
        (owner, key): (usize, &Key),
        state: &roundtable::types::ClusterState,
        stamp: Stamp,
    ) -> bool {
        for holder in 0..self.hosts.len() {
            let copy = self.hosts[holder].disk.fork(self.rng.u64(..));
            copy.set_error_rate(0.0);
            copy.crash();
            copy.restart();
            let Ok((replica, _)) = open(&copy, self.hosts[holder].options.clone()) else {
                continue;
            };
            let kept = super::sloppy::hinted(&replica, state, (owner, key));
            if kept.map(|record| record.stamp) >= Some(stamp) {
                return true;
            }
        }
        // Emptied since: what a disk has reported must do.
        let is_doomed = |host: &super::host::Host| host.doomed.is_some() || host.rotted;
        let doomed = self.hosts.iter().any(is_doomed);
        doomed && !self.durability.holders(&[owner], key, stamp, true).is_empty()
    }

    /// The operations on the key of a violation, for whoever reads the run.
    pub(super) fn explain(&self, violation: &Violation) -> String {
        self.explain_in(&self.history, violation)
    }

    /// The same, of another history.
    pub(super) fn explain_in(&self, history: &History, violation: &Violation) -> String {
        let text = violation.to_string();
        let mut shown = String::new();
        for (index, operation) in history.operations().iter().enumerate() {
            if text.contains(&format!("{:?}", operation.key)) || text.contains(&key_text(operation))
            {
                let line = format!(
                    "  {index:>5} {:?} {:>12}..{:<12} {:?} {:?}\n",
                    operation.process,
                    operation.invoked.at.0 / 1000,
                    operation.returned.map_or(0, |moment| moment.at.0 / 1000),
                    operation.action,
                    operation.outcome,
                );
                shown.push_str(&line);
            }
        }
        shown
    }
}

fn key_text(operation: &roundtable::load::history::Operation) -> String {
    operation.key.as_bytes().escape_ascii().to_string()
}

/// What a store holds under a key.
fn read(replica: &Replica, state: &roundtable::types::ClusterState, key: &Key) -> Option<Record> {
    let unit = unit(state, key)?;
    let table = state.tables.first().map_or(TableId(0), |table| table.id);
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

impl super::host::Host {
    /// How its node is, in words.
    pub(super) fn state_text(&self) -> String {
        match (&self.running, &self.view) {
            (None, _) => "down".to_owned(),
            (Some(_), None) => "starting".to_owned(),
            (Some(_), Some(view)) => format!("{} {:?}", member_text(view), view.phase),
        }
    }
}

fn member_text(view: &roundtable::message::View) -> String {
    let id = usize::try_from(view.hello.id.0).unwrap_or(0).max(1);
    format!("n{}", member(id - 1))
}
