//! Disk requests on their way: begun in order, synced when the world says so, answered later; the
//! machine may die at each of these moments.

use roundtable::message::{
    DiskAnswer, DiskError, DiskRequest, DiskToken, Event, FloorDone, Kept, WriteOutcome,
};
use std::sync::Arc;

use crate::judge::Checker;
use crate::plan::{MS, exponential};

use super::host::{PendingWrite, member};
use super::life::Point;
use super::{Happening, Stage, World};

/// After so many steps of disks the trees of one are compared with its store.
const TREES_EVERY: u64 = 128;

impl World {
    pub(super) fn ask_disk(&mut self, host: usize, token: DiskToken, request: DiskRequest) {
        self.trace.step(
            self.now,
            [10, host as u64, token.0],
            format_args!("n{} disk {} <- {request:?}", host + 1, token.0),
        );
        self.note_batches(host, &request);
        let latency = exponential(&mut self.rng, self.plan.disk.latency / 8);
        let (now, life) = (self.now, self.hosts[host].life);
        let Some(running) = &mut self.hosts[host].running else { return };
        if let DiskRequest::Write { key, record, .. } = &request {
            let write = PendingWrite { key: key.clone(), stamp: record.stamp, hint_for: None };
            running.writes.insert(token, write);
        }
        if let DiskRequest::KeepHint { target, hint } = &request {
            let hint_for = Some(super::sloppy::target_machine(*target));
            if let Kept::Version(record) = &hint.kept {
                let (key, stamp) = (hint.key.clone(), record.stamp);
                running.writes.insert(token, PendingWrite { key, stamp, hint_for });
            }
            self.totals.hints_kept += 1;
        }
        if let DiskRequest::RemoveHint { .. } = &request {
            self.totals.hints_handed_back += 1;
        }
        let records = super::life::of_moves(&request);
        if !records.is_empty() {
            running.records.insert(token, records);
        }
        if let Some(state) = super::life::states(&request).last() {
            running.states.insert(token, Arc::clone(state));
        }
        running.disk_queue.push_back((token, request));
        running.disk_free_at = running.disk_free_at.max(now) + latency;
        let at = running.disk_free_at;
        self.queue.push(at, Happening::DiskStart { host, life });
    }

    pub(super) fn disk_start(&mut self, host: usize, life: u64) {
        if !self.is_alive(host, life) {
            return;
        }
        let Some(running) = &mut self.hosts[host].running else { return };
        let Some((token, request)) = running.disk_queue.pop_front() else { return };
        let answered = Arc::clone(&running.answered);
        let done = Box::new(move |result| answered.lock().push((token, result)));
        running.replica.execute(request, done);
        self.collect(host);
        let slow = self.hosts[host].slow;
        let latency = self.plan.disk.latency + exponential(&mut self.rng, self.plan.disk.latency);
        let Some(running) = &mut self.hosts[host].running else { return };
        if !running.stepping {
            running.stepping = true;
            self.later(latency + slow, Happening::DiskStep { host, life });
        }
    }

    pub(super) fn disk_step(&mut self, host: usize, life: u64) {
        if !self.is_alive(host, life) {
            return;
        }
        if self.dies_at_disk(host) {
            return self.crash(host);
        }
        let Some(running) = &mut self.hosts[host].running else { return };
        let more = running.replica.step();
        running.stepping = more;
        self.totals.disk_steps += 1;
        if self.totals.disk_steps.is_multiple_of(TREES_EVERY) {
            self.compare_trees(host);
        }
        self.trace.step(
            self.now,
            [11, host as u64, u64::from(more)],
            format_args!("n{} disk steps", host + 1),
        );
        self.collect(host);
        if more {
            let slow = self.hosts[host].slow;
            let latency = exponential(&mut self.rng, self.plan.disk.latency);
            self.later(latency + slow, Happening::DiskStep { host, life });
        }
    }

    /// The trees of a machine that runs must count what its store holds, whatever is under way.
    pub(super) fn compare_trees(&mut self, host: usize) {
        let Some(running) = &self.hosts[host].running else { return };
        match running.replica.check_trees() {
            Ok(checked) => {
                self.totals.trees_compared += checked.equal as u64;
                self.totals.tree_entries += checked.entries;
            }
            Err(text) => self.find(Checker::Trees, format_args!("n{}: {text}", host + 1)),
        }
    }

    /// What the disk has answered is on its way to the node.
    fn collect(&mut self, host: usize) {
        let life = self.hosts[host].life;
        let Some(running) = &mut self.hosts[host].running else { return };
        let answers = std::mem::take(&mut *running.answered.lock());
        for (token, result) in answers {
            let write = self.hosts[host].running.as_mut().and_then(|r| r.writes.remove(&token));
            if let Some(write) = write
                && let Ok(DiskAnswer::Written(outcome) | DiskAnswer::Kept(outcome, _)) = &result
            {
                let stamp = match outcome {
                    WriteOutcome::Stored => write.stamp,
                    WriteOutcome::Superseded(by) => *by,
                };
                match write.hint_for {
                    Some(owner) => self.durability.kept(owner, &write.key, stamp),
                    None => self.durability.stored(host, &write.key, stamp),
                }
            }
            if let Ok(DiskAnswer::Floor(FloorDone::Changed(states))) = &result {
                self.floors.stored(member(host), states);
            }
            let state = self.hosts[host].running.as_mut().and_then(|r| r.states.remove(&token));
            if let (Some(state), Ok(_)) = (state, &result) {
                self.births.stored(member(host), &state);
            }
            let records = self.hosts[host].running.as_mut().and_then(|r| r.records.remove(&token));
            if let (Some(records), Ok(_)) = (records, &result) {
                records.iter().for_each(|record| self.moves.stored(member(host), record));
            }
            let hop = self.rng.u64(..MS / 5);
            let slow = self.hosts[host].slow / 4;
            self.later(hop + slow, Happening::DiskDone { host, life, token, result });
        }
    }

    pub(super) fn disk_done(
        &mut self,
        (host, life): (usize, u64),
        token: DiskToken,
        result: Result<DiskAnswer, DiskError>,
    ) {
        if !self.is_alive(host, life) {
            return;
        }
        if self.dies_at_disk(host) {
            return self.crash(host);
        }
        self.trace.step(
            self.now,
            [12, host as u64, token.0],
            format_args!("n{} disk {} -> {result:?}", host + 1, token.0),
        );
        self.totals.disk_errors += u64::from(result.is_err());
        if let Ok(DiskAnswer::Floor(FloorDone::Changed(states))) = &result {
            self.floors.learns(member(host), states);
        }
        self.feed(host, Event::DiskDone { token, result }, Point::DiskDone);
    }

    /// Between the effect and its answer.
    fn dies_at_disk(&mut self, host: usize) -> bool {
        let crash = &self.plan.crash;
        let founding = self.hosts[host].served.is_none();
        let probability = if founding {
            crash.at_boot.max(crash.before_disk_done)
        } else {
            crash.before_disk_done
        };
        self.stage == Stage::Turmoil
            && probability > 0.0
            && self.may_die()
            && self.rng.f64() < probability
    }
}
