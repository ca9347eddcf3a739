//! One machine: its disk, its clocks, and the node that runs on it, if one does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use roundtable::message::{
    BootRecord, DiskAnswer, DiskError, DiskRequest, DiskToken, MetaRecord, View,
};
use roundtable::node::Node;
use roundtable::replica::{Replica, ReplicaError};
use roundtable::storage::vfs::FaultyVfs;
use roundtable::storage::{Options, ThreadMode};
use roundtable::types::{ClusterState, NodeId, Now, OpId, Stamp, Time, WallTime};

use crate::client::Request;

/// Wall time of the world's beginning: any will do that leaves room on both sides.
const WALL_START: u64 = 1_700_000_000_000_000_000;
/// The engine's directory on every disk.
const DIR: &str = "/data";

/// What the disk has answered and nobody has looked at yet.
pub(crate) type Answered = Arc<Mutex<Vec<(DiskToken, Result<DiskAnswer, DiskError>)>>>;

/// A wall clock: the world's time with an offset and a drift.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WallClock {
    /// Ahead of the world, in nanoseconds.
    pub(crate) offset: i64,
    /// Faster than the world, in parts per million.
    pub(crate) drift_ppm: i64,
}

impl WallClock {
    /// What it shows when the world's time is `now`.
    pub(crate) fn read(self, now: u64) -> WallTime {
        let now = i64::try_from(now).expect("a run lasts minutes");
        let shift = self.offset + now / 1_000_000 * self.drift_ppm;
        WallTime((WALL_START + now.unsigned_abs()).saturating_add_signed(shift))
    }
}

/// A write that the disk has been asked for, until it is answered.
#[derive(Clone, Debug)]
pub(crate) struct PendingWrite {
    pub(crate) key: roundtable::types::Key,
    pub(crate) stamp: Stamp,
    /// The owner it is kept for, if it is a hint.
    pub(crate) hint_for: Option<usize>,
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) replica: Replica,
    pub(crate) answered: Answered,
    /// When it booted, by the world, and what its monotonic clock showed then.
    pub(crate) boot_at: u64,
    pub(crate) origin: u64,
    /// When a `Tick` is due, by the world.
    pub(crate) tick_at: Option<u64>,
    pub(crate) ops: u64,
    /// Requests in flight, by number.
    pub(crate) requests: BTreeMap<OpId, Request>,
    /// Requests about tables in flight.
    pub(crate) asked: BTreeMap<OpId, super::schema::Asked>,
    /// The state in records of the node itself on their way to the disk.
    pub(crate) states: BTreeMap<DiskToken, Arc<ClusterState>>,
    /// What of such records the checker of moves hears of.
    pub(crate) records: BTreeMap<DiskToken, Vec<MetaRecord>>,
    /// Disk requests that have not begun, in order.
    pub(crate) disk_queue: VecDeque<(DiskToken, DiskRequest)>,
    pub(crate) disk_free_at: u64,
    pub(crate) writes: BTreeMap<DiskToken, PendingWrite>,
    pub(crate) stepping: bool,
    pub(crate) spins: (u64, u32),
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) disk: FaultyVfs,
    pub(crate) options: Options,
    pub(crate) wall: WallClock,
    /// Counts boots; events of an earlier life are stale.
    pub(crate) life: u64,
    pub(crate) running: Option<Running>,
    /// The view last published in this life.
    pub(crate) view: Option<Arc<View>>,
    /// The last boot that served.
    pub(crate) served: Option<BootRecord>,
    /// Who has told it that a boot, by number, is noted.
    pub(crate) noted: BTreeSet<(u64, usize)>,
    /// Why its disk may not serve, once that is so.
    pub(crate) doomed: Option<&'static str>,
    /// An older copy of its disk, with the boot it was taken in.
    pub(crate) copy: Option<(FaultyVfs, BootRecord)>,
    /// Bytes of its disk that have rotted, with the bit.
    pub(crate) rotten: Vec<(PathBuf, usize, u8)>,
    /// Some of it has rotted, ever.
    pub(crate) rotted: bool,
    /// Extra latency of its disk.
    pub(crate) slow: u64,
    /// Its disk returns errors, or has since the last boot.
    pub(crate) ill: bool,
    /// Someone has asked for it to be started.
    pub(crate) starting: bool,
    /// It has not joined yet: there is nothing to start.
    pub(crate) absent: bool,
    /// When it last lost power.
    pub(crate) down_since: u64,
}

impl Host {
    /// A machine with an empty disk.
    pub(crate) fn new(seed: u64, wall: WallClock, memtable_bytes: usize) -> Host {
        let options = Options {
            threads: ThreadMode::Inline,
            memtable_bytes,
            wal_segment_bytes: 1 << 18,
            ..Options::default()
        };
        Host {
            disk: FaultyVfs::new(seed),
            options,
            wall,
            life: 0,
            running: None,
            view: None,
            served: None,
            noted: BTreeSet::new(),
            doomed: None,
            copy: None,
            rotten: Vec::new(),
            rotted: false,
            slow: 0,
            ill: false,
            starting: false,
            absent: false,
            down_since: 0,
        }
    }

    /// Both clocks, as the node on this machine reads them.
    pub(crate) fn now(&self, world: u64) -> Now {
        let mono = self.running.as_ref().map_or(0, |running| running.mono(world).0);
        Now { mono: Time(mono), wall: self.wall.read(world) }
    }

    /// Opens the store on this disk.
    pub(crate) fn open(&self) -> Result<(Replica, roundtable::message::Restored), ReplicaError> {
        open(&self.disk, self.options.clone())
    }

    /// Whether its node serves.
    pub(crate) fn serves(&self) -> bool {
        self.running.is_some()
            && self
                .view
                .as_ref()
                .is_some_and(|view| view.phase == roundtable::message::Phase::Serving)
    }
}

/// Opens the store on a disk.
pub(crate) fn open(
    disk: &FaultyVfs,
    options: Options,
) -> Result<(Replica, roundtable::message::Restored), ReplicaError> {
    Replica::open(Arc::new(disk.clone()), Path::new(DIR), options)
}

impl Running {
    /// The monotonic clock when the world's time is `world`.
    pub(crate) fn mono(&self, world: u64) -> Time {
        Time(world - self.boot_at + self.origin)
    }

    /// The world's time of a monotonic moment.
    pub(crate) fn world(&self, mono: Time) -> u64 {
        mono.0.saturating_sub(self.origin).saturating_add(self.boot_at)
    }
}

/// The number of the member on machine `host`.
pub(crate) fn member(host: usize) -> NodeId {
    NodeId(u32::try_from(host + 1).expect("a handful of machines"))
}

/// The machine of a member.
pub(crate) fn machine(member: NodeId) -> usize {
    usize::try_from(member.0).expect("a handful of machines").wrapping_sub(1)
}
