//! Disks that rot: bits of one node's tables, blob files and logs flip while it runs or is down. What is
//! lost with them must never be told, as data or as absence, and must be back at the end.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use roundtable::message::{DiskAnswer, DiskRequest, UnitDisk, UnitDone};
use roundtable::storage::FaultyVfs;
use roundtable::types::Unit;

use crate::judge::Checker;
use crate::plan::{SECOND, exponential};

use super::host::{machine, open};
use super::nemesis::Strike;
use super::{Happening, World};

/// How long it may take until what was lost has been filled again.
const HEALED_WITHIN: u64 = 14 * SECOND;
/// How long a node is waited for whose bytes were put right in the end.
const RESTARTED_WITHIN: u64 = 60 * SECOND;
/// Most bytes that rot in a run.
const ROTS_MAX: usize = 6;

fn of_kind(disk: &FaultyVfs, endings: &[&str]) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    let ends = |path: &PathBuf| {
        path.extension().is_some_and(|end| endings.iter().any(|wanted| end == *wanted))
    };
    files.filter(ends).collect()
}

impl World {
    pub(super) fn rot(&mut self, host: usize) {
        let wait = exponential(&mut self.rng, 3 * SECOND) + SECOND / 2;
        self.later(wait, Happening::Nemesis(Strike::Rot(host)));
        if self.hosts[host].rotten.len() >= ROTS_MAX || !self.hosts[host].serves() {
            return;
        }
        if self.rng.u8(..5) == 0 {
            return self.rot_log(host);
        }
        let files = of_kind(&self.hosts[host].disk, &["sst", "blob"]);
        if files.is_empty() {
            return;
        }
        let path = files[self.rng.usize(..files.len())].clone();
        let length = self.hosts[host].disk.content(&path).unwrap_or_default().len();
        if length == 0 {
            return;
        }
        let (byte, bit) = (self.rng.usize(..length), self.rng.u8(..8));
        self.hosts[host].disk.flip_bit(&path, byte, bit);
        self.hosts[host].rotten.push((path, byte, bit));
        self.hosts[host].rotted = true;
        self.totals.rots += 1;
    }

    /// The machine crashes, and a byte of its log is another when it is back. Only where that can be
    /// told from a torn end: a copy of the disk is asked.
    fn rot_log(&mut self, host: usize) {
        self.kill(host);
        let disk = self.hosts[host].disk.clone();
        disk.restart();
        for path in of_kind(&disk, &["wal"]) {
            let length = disk.content(&path).unwrap_or_default().len();
            let written = disk.content(&path).unwrap_or_default();
            let written = written.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            if length == 0 || written < 64 {
                continue;
            }
            let (byte, bit) = (self.rng.usize(32..written), self.rng.u8(..8));
            let copy = disk.fork(self.rng.u64(..));
            copy.set_error_rate(0.0);
            copy.flip_bit(&path, byte, bit);
            copy.restart();
            if self.is_told_and_goes_on(host, &disk, &copy) {
                disk.flip_bit(&path, byte, bit);
                self.hosts[host].rotten.push((path, byte, bit));
                self.hosts[host].rotted = true;
                self.totals.log_rots += 1;
                break;
            }
        }
        let wait = self.rng.u64(SECOND / 100..SECOND);
        self.start_after(host, wait);
    }

    /// Whether a node finds its log damaged on a copy of its disk, and may run all the same. Who forgets its
    /// birth is a stranger; who forgets a boot, or a ceiling of its clock, is an older copy for all that
    /// others can tell; and without a council of three nobody knows what it has promised. Such nodes
    /// refuse to run, and there is nothing to heal.
    fn is_told_and_goes_on(&mut self, host: usize, disk: &FaultyVfs, copy: &FaultyVfs) -> bool {
        let options = self.hosts[host].options.clone();
        let whole = disk.fork(self.rng.u64(..));
        whole.set_error_rate(0.0);
        whole.restart();
        let whole = open(&whole, options.clone());
        let (Ok((_, whole)), Ok((_, restored))) = (whole, open(copy, options)) else {
            return false;
        };
        let seats = restored.state.as_ref().map_or(0, |state| state.council.len());
        let is_same_life = restored.birth.is_some()
            && restored.boot == whole.boot
            && restored.ceiling == whole.ceiling;
        !restored.damage.is_empty() && is_same_life && seats >= 3
    }

    /// The store does not open. If bytes have rotted, they may be of what only this node has: then they
    /// are put right. Returns whether there were any.
    pub(super) fn undo_rot(&mut self, host: usize) -> bool {
        let rotten = core::mem::take(&mut self.hosts[host].rotten);
        self.totals.rots_undone += rotten.len() as u64;
        for (path, byte, bit) in &rotten {
            if self.hosts[host].disk.content(path).is_some() {
                self.hosts[host].disk.flip_bit(path, *byte, *bit);
            }
        }
        !rotten.is_empty()
    }

    /// Whether data is lost that nothing heals by itself: two owners' disks are bad or gone at the same time.
    /// Somebody would have to accept that it is gone.
    pub(super) fn needs_operator(&self) -> bool {
        let lost = self.losers().count();
        let doomed = self.hosts.iter().filter(|host| host.doomed.is_some()).count();
        lost > 0 && lost + doomed > 1
    }

    /// The same, or the only copy of a unit may be lost, which then cannot move.
    pub(super) fn holds_up_plans(&self) -> bool {
        self.needs_operator() || self.losers().any(|host| self.alone(host) > 0)
    }

    /// Hosts with units that have lost data.
    fn losers(&self) -> impl Iterator<Item = usize> {
        let lost = |host: &usize| {
            let view = self.hosts[*host].view.as_ref();
            view.is_some_and(|view| view.health.lost_units > 0)
        };
        (0..self.hosts.len()).filter(lost)
    }

    /// Whether units that have lost data have yet to be filled again.
    pub(super) fn is_healing(&mut self, since: u64) -> bool {
        let lost = |host: usize| {
            let health = self.hosts[host].view.as_ref().map_or(0, |view| view.health.lost_units);
            health.saturating_sub(self.alone(host))
        };
        let is_open = (0..self.hosts.len()).any(|host| self.hosts[host].serves() && lost(host) > 0);
        if !is_open || self.needs_operator() || self.now > since + HEALED_WITHIN {
            return false;
        }
        if self.now > since + HEALED_WITHIN / 2 {
            self.undo_own_rot();
        }
        true
    }

    /// Both copies of records of a node itself have rotted, or the only copy of a unit: its tables cannot be merged, in
    /// the end it takes no writes, and it would have to be replaced. They are put right, and it starts again.
    pub(super) fn undo_own_rot(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(running) = &self.hosts[host].running else { continue };
            if running.replica.stats().compaction_error.is_some() && self.undo_rot(host) {
                self.kill(host);
                self.start_after(host, SECOND / 10);
                self.liveness.restarted.insert(host);
            }
        }
    }

    /// Whether one of those has yet to serve again: what it lacks no read can bring it before.
    pub(super) fn is_restarting(&self, since: u64) -> bool {
        let waits =
            |host: &usize| !self.hosts[*host].serves() && self.hosts[*host].doomed.is_none();
        self.now < since + RESTARTED_WITHIN && self.liveness.restarted.iter().any(waits)
    }

    /// The node's own records stand twice: one bad byte takes none of them.
    fn compare_own_rot(&mut self, host: usize) {
        let Some(running) = &self.hosts[host].running else { return };
        let found = Arc::new(Mutex::new(None));
        let filled = Arc::clone(&found);
        let done = Box::new(move |answer| *filled.lock() = Some(answer));
        running.replica.execute(DiskRequest::Unit(Box::new(UnitDisk::Damage)), done);
        let Some(Ok(DiskAnswer::Unit(UnitDone::Damaged(found)))) = found.lock().take() else {
            return;
        };
        if self.hosts[host].rotten.len() == 1
            && let Some(lost) = found.iter().find(|keys| keys.own)
        {
            let text = format_args!("n{} has lost records of its own: {}", host + 1, lost.what);
            self.find(Checker::Durability, text);
        }
    }

    /// Units of which a host holds the only copy: there is nobody to fill them from.
    fn alone(&self, host: usize) -> u64 {
        let Some(state) = self.state() else { return 0 };
        let is_alone = |unit: &Unit| match state.owners(*unit) {
            [only] => machine(*only) == host,
            _ => false,
        };
        state.units().filter(is_alone).count() as u64
    }

    /// All that was lost has been filled again.
    pub(super) fn compare_rot(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(view) = self.hosts[host].view.clone() else { continue };
            self.compare_own_rot(host);
            self.totals.healed_units += view.health.healed_units;
            let left = view.health.lost_units.saturating_sub(self.alone(host));
            if self.hosts[host].serves() && left > 0 && !self.needs_operator() {
                let text = format_args!("n{} has {left} units that are not filled again", host + 1);
                self.find(Checker::Convergence, text);
            }
        }
    }
}
