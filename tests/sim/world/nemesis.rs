//! What goes wrong by the clock: partitions, cuts, slow and ill things, power cuts, moved clocks,
//! and disks that are emptied or swapped for an older copy. What is tied to events is in `life`
//! and `disk`.

use roundtable::storage::vfs::FaultyVfs;

use crate::plan::{Fault, MS, SECOND, exponential};

use super::host::member;
use super::{Happening, Stage, World};

/// Something the nemesis does.
#[derive(Clone, Debug)]
pub(crate) enum Strike {
    /// Splits the nodes in two.
    Partition,
    /// Cuts one link.
    CutLink,
    /// Joins these links again.
    Join(Vec<(usize, usize)>),
    /// Makes all links of one node, or one of them, slow.
    SlowLink,
    /// Makes these links fast again.
    FastLinks(Vec<(usize, usize)>),
    /// Makes a disk slow.
    SlowDisk,
    /// Makes it fast again.
    FastDisk(usize),
    /// Makes a disk return errors.
    IllDisk,
    /// Ends that, and the machine is started anew as an operator would.
    WellDisk(usize),
    /// Everything loses power.
    PowerCut,
    /// A wall clock jumps.
    ClockJump,
    /// A node crashes for no reason.
    Crash,
    /// Keeps a copy of a machine's disk.
    TakeCopy(usize),
    /// Puts the copy back.
    RestoreCopy(usize),
    /// Empties a disk.
    Wipe(usize),
    /// A member of the council crashes because a step was decided.
    Die(usize),
    /// A byte of this disk rots.
    Rot(usize),
    /// A council member loses power and these links are cut, for so long.
    Forget(usize, Vec<(usize, usize)>, u64),
}

impl World {
    /// Plans the first of each kind of strike; recurring ones plan their next themselves.
    pub(super) fn schedule_faults(&mut self) {
        let recurring = [
            (Fault::Partition, Strike::Partition),
            (Fault::LinkCut, Strike::CutLink),
            (Fault::SlowLink, Strike::SlowLink),
            (Fault::SlowDisk, Strike::SlowDisk),
            (Fault::DiskError, Strike::IllDisk),
            (Fault::SkewBeyond, Strike::ClockJump),
            (Fault::Crash, Strike::Crash),
            (Fault::ClockBack, Strike::Crash),
        ];
        for (fault, strike) in recurring {
            if self.plan.has(fault) {
                self.strike_later(strike);
            }
        }
        for at in self.plan.crash.power_cuts.clone() {
            self.queue.push(at, Happening::Nemesis(Strike::PowerCut));
        }
        if self.plan.has(Fault::Rot) {
            let victim = usize::try_from(self.plan.seed).unwrap_or(0) % self.plan.founders();
            self.queue.push(4 * SECOND, Happening::Nemesis(Strike::Rot(victim)));
        }
        let victim = self.rng.usize(..self.hosts.len());
        if self.plan.has(Fault::Wipe) {
            let at = self.rng.u64(8 * SECOND..18 * SECOND);
            self.queue.push(at, Happening::Nemesis(Strike::Wipe(victim)));
        } else if self.plan.has(Fault::OldCopy) {
            let at = self.rng.u64(3 * SECOND..10 * SECOND);
            self.queue.push(at, Happening::Nemesis(Strike::TakeCopy(victim)));
        }
    }

    fn strike_later(&mut self, strike: Strike) {
        let mean = match strike {
            Strike::SlowDisk | Strike::IllDisk | Strike::Crash => self.plan.disk.every,
            _ => self.plan.network.cut_every,
        };
        let wait = exponential(&mut self.rng, mean) + SECOND / 2;
        self.later(wait, Happening::Nemesis(strike));
    }

    pub(super) fn strike(&mut self, strike: Strike) {
        if self.stage != Stage::Turmoil {
            return;
        }
        self.trace.step(self.now, [40, 0, 0], format_args!("nemesis: {strike:?}"));
        match strike {
            Strike::Partition => self.partition(),
            Strike::CutLink => self.cut_link(),
            Strike::Join(links) => links.into_iter().for_each(|(from, to)| self.join(from, to)),
            Strike::SlowLink => self.slow_link(),
            Strike::FastLinks(links) => {
                links.into_iter().for_each(|(from, to)| self.network.link(from, to).slow = 0);
            }
            Strike::SlowDisk => self.slow_disk(),
            Strike::FastDisk(host) => self.hosts[host].slow = 0,
            Strike::IllDisk => self.ill_disk(),
            Strike::WellDisk(host) => self.well_disk(host),
            Strike::PowerCut => self.power_cut(),
            Strike::ClockJump => self.clock_jump(),
            Strike::Crash => {
                let host = self.rng.usize(..self.hosts.len());
                if self.may_die() && self.hosts[host].running.is_some() {
                    self.crash(host);
                }
                self.strike_later(Strike::Crash);
            }
            Strike::TakeCopy(host) => self.take_copy(host),
            Strike::RestoreCopy(host) => self.restore_copy(host),
            Strike::Wipe(host) => self.wipe(host),
            Strike::Die(host) => self.die(host),
            Strike::Rot(host) => self.rot(host),
            Strike::Forget(host, links, long) => self.forget(host, links, long),
        }
    }

    fn partition(&mut self) {
        self.strike_later(Strike::Partition);
        let nodes = self.hosts.len();
        let side: Vec<bool> = (0..nodes).map(|_| self.rng.bool()).collect();
        let mut links = Vec::new();
        for from in 0..nodes {
            for to in 0..nodes {
                if side[from] != side[to] {
                    links.push((from, to));
                }
            }
        }
        self.totals.partitions += u64::from(!links.is_empty());
        self.cut_all(links);
    }

    fn cut_link(&mut self) {
        self.strike_later(Strike::CutLink);
        let nodes = self.hosts.len();
        let from = self.rng.usize(..nodes);
        let to = (from + self.rng.usize(1..nodes)) % nodes;
        let both = self.rng.bool();
        self.totals.link_cuts += 1;
        self.cut_all(if both { vec![(from, to), (to, from)] } else { vec![(from, to)] });
    }

    fn cut_all(&mut self, links: Vec<(usize, usize)>) {
        for &(from, to) in &links {
            self.cut(from, to);
        }
        let wait = exponential(&mut self.rng, self.plan.network.cut_for);
        self.later(wait, Happening::Nemesis(Strike::Join(links)));
    }

    fn slow_link(&mut self) {
        self.strike_later(Strike::SlowLink);
        self.totals.slow_links += 1;
        let nodes = self.hosts.len();
        let one = self.rng.usize(..nodes);
        let delay = self.rng.u64(10 * MS..600 * MS);
        let mut links = Vec::new();
        for other in (0..nodes).filter(|other| *other != one) {
            links.push((one, other));
            links.push((other, one));
        }
        if self.rng.bool() {
            links.truncate(2);
        }
        for &(from, to) in &links {
            self.network.link(from, to).slow = delay;
        }
        let wait = exponential(&mut self.rng, self.plan.network.cut_for);
        self.later(wait, Happening::Nemesis(Strike::FastLinks(links)));
    }

    fn slow_disk(&mut self) {
        self.strike_later(Strike::SlowDisk);
        self.totals.slow_disks += 1;
        let host = self.rng.usize(..self.hosts.len());
        self.hosts[host].slow = self.plan.disk.slow_latency;
        let wait = exponential(&mut self.rng, self.plan.network.cut_for);
        self.later(wait, Happening::Nemesis(Strike::FastDisk(host)));
    }

    fn ill_disk(&mut self) {
        self.strike_later(Strike::IllDisk);
        let host = self.rng.usize(..self.hosts.len());
        if self.hosts[host].running.is_some() {
            self.totals.ill_disks += 1;
            self.hosts[host].ill = true;
            self.hosts[host].disk.set_error_rate(self.plan.disk.error);
            let wait = exponential(&mut self.rng, self.plan.network.cut_for);
            self.later(wait, Happening::Nemesis(Strike::WellDisk(host)));
        }
    }

    pub(super) fn well_disk(&mut self, host: usize) {
        self.hosts[host].disk.set_error_rate(0.0);
        self.hosts[host].ill = false;
        if self.hosts[host].running.is_some() {
            self.crash(host);
        }
    }

    fn power_cut(&mut self) {
        self.totals.power_cuts += 1;
        for host in 0..self.hosts.len() {
            if self.hosts[host].running.is_some() {
                self.crash(host);
            }
        }
    }

    fn clock_jump(&mut self) {
        self.strike_later(Strike::ClockJump);
        let host = self.rng.usize(..self.hosts.len());
        let far = if self.rng.bool() { SECOND } else { 30 * SECOND };
        let far = i64::try_from(far).expect("half a minute");
        self.totals.clock_jumps += 1;
        self.note_clock(host);
        self.hosts[host].wall.offset += self.rng.i64(-far..=far);
    }

    fn take_copy(&mut self, host: usize) {
        let boot = self.hosts[host].served.filter(|_| self.hosts[host].serves());
        let Some(boot) = boot else {
            return self.later(SECOND, Happening::Nemesis(Strike::TakeCopy(host)));
        };
        let copy = self.hosts[host].disk.fork(self.rng.u64(..));
        copy.set_error_rate(0.0);
        copy.crash();
        self.hosts[host].copy = Some((copy, boot));
        self.later(2 * SECOND, Happening::Nemesis(Strike::RestoreCopy(host)));
    }

    /// The copy goes back once its node has served a later boot that all others know of: a
    /// majority may be the node itself and one that is down when the copy asks, and then nobody
    /// who answers has evidence.
    fn restore_copy(&mut self, host: usize) {
        let taken = self.hosts[host].copy.as_ref().map_or(0, |(_, boot)| boot.number);
        let served = self.hosts[host].served.map_or(0, |boot| boot.number);
        let others = (0..self.hosts.len()).filter(|other| *other != host);
        let seated = self.state().map(|state| state.council.clone()).unwrap_or_default();
        let known = others
            .filter(|other| seated.contains(&member(*other)))
            .all(|other| self.hosts[host].noted.contains(&(served, other)));
        if served <= taken || !known || !self.hosts[host].serves() {
            if served <= taken && self.hosts[host].serves() {
                self.crash(host);
            }
            return self.later(2 * SECOND, Happening::Nemesis(Strike::RestoreCopy(host)));
        }
        let Some((copy, _)) = self.hosts[host].copy.take() else { return };
        self.totals.old_copies += 1;
        self.swap(host, copy, "its disk is an older copy of itself");
    }

    fn wipe(&mut self, host: usize) {
        if !self.hosts[host].serves() {
            return self.later(SECOND, Happening::Nemesis(Strike::Wipe(host)));
        }
        self.totals.wipes += 1;
        let empty = FaultyVfs::new(self.rng.u64(..));
        self.swap(host, empty, "its disk was emptied");
    }

    fn swap(&mut self, host: usize, disk: FaultyVfs, why: &'static str) {
        self.kill(host);
        self.hosts[host].disk = disk;
        self.hosts[host].doomed = Some(why);
        let wait = self.rng.u64(10 * MS..SECOND);
        self.start_after(host, wait);
    }
}
