//! When everything on disk is read: each block at least once a period, in pieces that give way to users.
//! `docs/protocol/repair.md`, "Healing".
//!
//! Decides when the next piece is due. What a piece has found is for `losses`.

use core::time::Duration;

use super::disk::Pending;
use super::fills::UnitPending;
use super::{Node, NodeConfig};
use crate::message::{
    ClientResult, DiskError, DiskRequest, Level, MetaRecord, Phase, Reply, Restored, ScrubMark,
    ScrubRecord, ScrubReply, ScrubRequest, StoreHealth, UnitDisk, UnitDone,
};
use crate::types::{Now, Time, WallTime};

/// Bytes of a piece.
const PIECE_BYTES: u64 = 1 << 20;
/// The longest pause between two pieces: a small store is read in a while, and then left alone.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest time after which it is looked whether the next pass is due.
const LOOK_MAX: Duration = Duration::from_secs(3600);
/// How long it waits while users are busy.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// After so many pieces it is durable how far it is.
const SAVE_PIECES: u32 = 64;
/// Pressure of the store's write path from which on it gives way, in thousandths.
const PRESSURE_MAX: u16 = 700;

/// How far it is.
#[derive(Debug)]
pub(super) struct Scrub {
    record: ScrubRecord,
    /// A piece is being read.
    reading: bool,
    /// When the next piece, or the next look whether one is due, is.
    next_at: Option<Time>,
    /// An operator has asked: it does not spread over the period.
    hurried: bool,
    /// The piece that is being read is of a pass that is given up.
    anew: bool,
    done: u64,
    total: u64,
    unsaved: u32,
}

impl Scrub {
    pub(super) fn new(now: Now, config: &NodeConfig, restored: &Restored) -> Scrub {
        let soon = config.probe_interval.saturating_mul(20);
        Scrub {
            record: restored.scrub,
            reading: false,
            next_at: (!config.scrub_period.is_zero()).then(|| now.mono.plus(soon)),
            hurried: false,
            anew: false,
            done: 0,
            total: 0,
            unsaved: 0,
        }
    }

    /// Half the period: a block that is read first in one pass and last in the next is then read in time.
    fn pass_due(&self, period: Duration) -> WallTime {
        self.record.begun.plus(period / 2)
    }

    /// How long to wait before the next piece.
    fn pause(&self, config: &NodeConfig, bytes: u64) -> Duration {
        let rate = config.scrub_rate.max(1);
        let paced = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
        if self.hurried || crate::mutant!("scrub-unspread") {
            return paced;
        }
        // A quarter of the period: half of the time is for what comes between.
        let nanos = (config.scrub_period / 4).as_nanos().saturating_mul(u128::from(bytes));
        let spread = nanos / u128::from(self.total.max(1));
        let spread = Duration::from_nanos(u64::try_from(spread).unwrap_or(u64::MAX));
        spread.min(PAUSE_MAX).max(paced)
    }
}

impl Node {
    /// What is known of the disk, for metrics.
    pub(super) fn store_health(&self) -> StoreHealth {
        StoreHealth {
            scrubbed_bytes: self.fills.scrub.done,
            scrub_bytes: self.fills.scrub.total,
            found: self.fills.losses.found().0,
            lost_units: self.lost_units() as u64,
            healed_units: self.fills.losses.healed(),
        }
    }

    /// When the scrub wants to go on: while this node serves.
    pub(super) fn scrub_deadline(&self) -> Option<Time> {
        let serves = self.phase == Phase::Serving && !self.fills.scrub.reading;
        self.fills.scrub.next_at.filter(|_| serves)
    }

    pub(super) fn on_scrub_time(&mut self, now: Now) {
        if self.scrub_deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        let busy = self.replica_operations > self.config.replica_operations_max / 4
            || self.replica.pressure_milli > PRESSURE_MAX;
        if busy {
            self.fills.scrub.next_at = Some(now.mono.plus(BUSY_PAUSE));
            return;
        }
        let from = match self.fills.scrub.record.at {
            Some(at) => at,
            None => {
                let left = self.until_pass(now);
                let is_first = self.fills.scrub.record.begun == WallTime(0);
                if !left.is_zero() && !is_first && !self.fills.scrub.hurried {
                    self.fills.scrub.next_at = Some(now.mono.plus(left));
                    return;
                }
                self.begin_pass(now)
            }
        };
        self.fills.scrub.reading = true;
        let request = UnitDisk::Scrub { from, bytes: PIECE_BYTES };
        self.unit_disk(UnitPending::Scrubbed, request);
    }

    /// How long until the next pass is due, or is to be looked at again: wall clocks are set.
    fn until_pass(&self, now: Now) -> Duration {
        let due = self.fills.scrub.pass_due(self.config.scrub_period);
        Duration::from_nanos(due.0.saturating_sub(now.wall.0)).min(LOOK_MAX)
    }

    fn begin_pass(&mut self, now: Now) -> ScrubMark {
        let first = ScrubMark::default();
        self.fills.scrub.record.begun = now.wall;
        self.fills.scrub.record.at = Some(first);
        self.fills.scrub.done = 0;
        self.save_scrub();
        first
    }

    fn save_scrub(&mut self) {
        self.fills.scrub.unsaved = 0;
        let records = vec![MetaRecord::Scrub(self.fills.scrub.record)];
        self.disk(Pending::Housekeeping, DiskRequest::Persist(records));
    }

    pub(super) fn on_scrubbed(&mut self, now: Now, result: &Result<UnitDone, DiskError>) {
        self.fills.scrub.reading = false;
        let Ok(UnitDone::Scrubbed(piece)) = result else {
            self.fills.scrub.next_at = Some(now.mono.plus(PAUSE_MAX));
            return;
        };
        (self.fills.scrub.done, self.fills.scrub.total) = (piece.done, piece.total);
        self.fills.scrub.record.at = piece.next;
        self.fills.scrub.unsaved += 1;
        // What it has met.
        self.look_for_damage();
        if core::mem::take(&mut self.fills.scrub.anew) {
            self.fills.scrub.record.at = None;
            self.fills.scrub.next_at = Some(now.mono);
            return;
        }
        match piece.next {
            Some(_) => {
                let pause = self.fills.scrub.pause(&self.config, piece.bytes.max(1));
                self.fills.scrub.next_at = Some(now.mono.plus(pause));
                if self.fills.scrub.unsaved >= SAVE_PIECES {
                    self.save_scrub();
                }
            }
            None => {
                crate::sometimes!("scrub: a pass has ended");
                self.fills.scrub.record.ended = now.wall;
                self.fills.scrub.hurried = false;
                let is_on = !self.config.scrub_period.is_zero();
                self.fills.scrub.next_at = is_on.then(|| now.mono.plus(self.until_pass(now)));
                self.save_scrub();
                let text = format!("all {} bytes of tables have been read", piece.total);
                self.note(Level::Info, None, text);
            }
        }
    }

    pub(super) fn scrub_reply(&mut self, now: Now, request: ScrubRequest) -> ClientResult {
        if request == ScrubRequest::Start && !self.fills.scrub.hurried {
            // From the beginning, also of what this pass has read.
            self.fills.scrub.hurried = true;
            self.fills.scrub.anew = self.fills.scrub.reading;
            self.fills.scrub.record.at = None;
            self.fills.scrub.next_at = Some(now.mono);
        }
        let Scrub { record, done, total, .. } = &self.fills.scrub;
        let (begun, ended) = (record.begun, record.ended);
        let running = record.at.is_some() || self.fills.scrub.hurried;
        let left = self.fills.scrub.pause(&self.config, PIECE_BYTES).as_nanos();
        let pieces = u128::from(total.saturating_sub(*done).div_ceil(PIECE_BYTES));
        let left = u64::try_from(left.saturating_mul(pieces)).unwrap_or(u64::MAX);
        let known = |time: WallTime| (time != WallTime(0)).then_some(time);
        let (found, places) = self.fills.losses.found();
        Ok(Reply::Scrub(Box::new(ScrubReply {
            running,
            done_bytes: *done,
            total_bytes: *total,
            left: running.then(|| Duration::from_nanos(left)),
            begun: known(begun).filter(|_| running),
            ended: known(ended),
            found,
            lost_units: u32::try_from(self.lost_units()).unwrap_or(u32::MAX),
            healed_units: self.fills.losses.healed(),
            places,
        })))
    }
}
