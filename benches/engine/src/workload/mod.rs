//! What is done to a store, by db_bench's names, and what is measured of it.

mod fill;
mod pause;
mod read;
mod reopen;
mod sync;
mod update;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::args::One;
use crate::data::{Codec, Size};
use crate::engine::{self, Settings, Store};
use crate::host::{self, Written};
use crate::recorder::Recorder;
use crate::report::Run;
use crate::settle::settle;

/// A workload.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[value(rename_all = "lower")]
pub(crate) enum Workload {
    /// Puts of all keys in order.
    FillSeq,
    /// As many puts as there are keys, of keys drawn at random.
    FillRandom,
    /// Puts of all keys, each once, in random order.
    #[value(name = "filluniquerandom")]
    FillUnique,
    /// Puts of random keys that are there.
    Overwrite,
    /// A get and a put of a random key.
    UpdateRandom,
    /// Batches of 100 puts of random keys that are there.
    #[value(alias = "fillbatch")]
    Batch100,
    /// Deletes of random keys that are there.
    DeleteRandom,
    /// Gets of random keys that are there.
    ReadRandom,
    /// Gets of keys between those that are there.
    ReadMissing,
    /// Gets of 100 random keys in one call.
    MultiReadRandom,
    /// A scan of 100 pairs from a random key on.
    SeekRandom,
    /// Gets of random keys while another thread makes 20,000 puts a second.
    ReadWhileWriting,
    /// Puts of random keys, each on disk before it is acknowledged.
    FillSync,
    /// The same by 16 threads.
    FillSync16,
    /// Opening after a crash with 200,000 puts in the log.
    Reopen,
    /// Opening after a crash right behind a fill of 1 GiB.
    Reopen1g,
    /// Puts of random keys at full speed for a while.
    FillPause,
}

/// What must be in the directory beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// What `filluniquerandom` leaves; it stays as it is.
    Base,
    /// A copy of that.
    Copy,
    /// What the same measurement with `--crash` leaves, from a copy of that.
    Crash,
    /// What the same measurement with `--crash` leaves, from nothing.
    CrashAlone,
}

impl Workload {
    /// All, in the order in which they are measured and shown.
    pub(crate) const ALL: [Self; 17] = [
        Self::FillSeq,
        Self::FillRandom,
        Self::FillUnique,
        Self::Overwrite,
        Self::UpdateRandom,
        Self::Batch100,
        Self::DeleteRandom,
        Self::ReadRandom,
        Self::ReadMissing,
        Self::MultiReadRandom,
        Self::SeekRandom,
        Self::ReadWhileWriting,
        Self::FillSync,
        Self::FillSync16,
        Self::Reopen,
        Self::Reopen1g,
        Self::FillPause,
    ];

    pub(crate) fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn needs(self) -> Needs {
        match self {
            Self::FillSeq | Self::FillRandom | Self::FillUnique => Needs::Nothing,
            Self::FillSync | Self::FillSync16 | Self::FillPause => Needs::Nothing,
            Self::ReadRandom | Self::ReadMissing => Needs::Base,
            Self::MultiReadRandom | Self::SeekRandom => Needs::Base,
            Self::Overwrite | Self::UpdateRandom | Self::Batch100 => Needs::Copy,
            Self::DeleteRandom | Self::ReadWhileWriting => Needs::Copy,
            Self::Reopen => Needs::Crash,
            Self::Reopen1g => Needs::CrashAlone,
        }
    }

    /// Whether it says something of its own for this size and codec: the log knows no codec, and
    /// values kept apart are not compressed.
    pub(crate) fn is_for(self, size: Size, codec: Codec) -> bool {
        use Workload::{DeleteRandom, FillRandom, FillSeq, FillUnique, Overwrite, ReadRandom};
        if size == Size::Apart {
            let told = matches!(self, FillSeq | FillRandom | FillUnique | Overwrite | DeleteRandom)
                || matches!(self, ReadRandom | Self::SeekRandom | Self::UpdateRandom);
            return told && codec == Codec::None;
        }
        match self {
            Self::FillSync | Self::FillSync16 | Self::Reopen | Self::FillPause => {
                codec == Codec::None
            }
            Self::Reopen1g => codec == Codec::None && size == Size::Large,
            _ => true,
        }
    }

    /// Whether its writes are followed to the end: flushes, compactions, space.
    fn settles(self) -> bool {
        use Workload::{Batch100, DeleteRandom, FillRandom, FillSeq, FillUnique, Overwrite};
        let fills = matches!(self, FillSeq | FillRandom | FillUnique | Self::FillPause);
        fills || matches!(self, Overwrite | Self::UpdateRandom | Batch100 | DeleteRandom)
    }
}

/// What a workload has done.
pub(crate) struct Done {
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    pub(crate) latencies: Recorder,
    /// Bytes of keys and values written.
    pub(crate) user_bytes: u64,
    /// Number of keys that are there now.
    pub(crate) live: u64,
    /// The highest pressure seen.
    pub(crate) pressure: Option<f64>,
}

/// Makes one measurement.
///
/// # Errors
/// What the engine says, and when it loses something.
pub(crate) fn run(one: &One) -> anyhow::Result<Run> {
    let sync = matches!(one.workload, Workload::FillSync | Workload::FillSync16);
    let settings = Settings { codec: one.codec, sync, apart: one.size == Size::Apart };
    if one.crash {
        let store = engine::open(one.engine, &one.dir, settings)?;
        reopen::prepare(one, &*store)?;
        // As a crash leaves it: nothing is closed, nothing is dropped.
        std::process::exit(0);
    }
    host::sync_disks();
    if matches!(one.workload, Workload::Reopen | Workload::Reopen1g) {
        let (done, store, cpu) = reopen::measure(one, settings)?;
        return report(one, &*store, done, Costs { cpu, settled: true, ..Costs::default() });
    }
    let store = engine::open(one.engine, &one.dir, settings)?;
    let (cpu_before, before) = (host::cpu(), Written::now()?);
    let done = perform(one, &*store)?;
    let cpu = (host::cpu() - cpu_before).as_secs_f64();
    let mut costs = Costs { cpu, cpu_settled: None, written: None, settled: true };
    if one.workload.settles() {
        costs.settled = settle(&*store)?;
        costs.cpu_settled = Some((host::cpu() - cpu_before).as_secs_f64());
        costs.written = Some(Written::now()?.since(before));
    }
    if one.stats
        && let Some(stats) = store.stats()
    {
        eprintln!("{stats}");
    }
    report(one, &*store, done, costs)
}

fn perform(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    match one.workload {
        Workload::FillSeq | Workload::FillRandom | Workload::FillUnique => fill::fill(one, store),
        Workload::Overwrite => fill::overwrite(one, store),
        Workload::Batch100 => fill::batches(one, store),
        Workload::UpdateRandom => update::update(one, store),
        Workload::DeleteRandom => update::delete(one, store),
        Workload::ReadRandom | Workload::ReadMissing => read::get(one, store),
        Workload::MultiReadRandom => read::multi_get(one, store),
        Workload::SeekRandom => read::scan(one, store),
        Workload::ReadWhileWriting => read::while_writing(one, store),
        Workload::FillSync => sync::fill(one, store, 1),
        Workload::FillSync16 => sync::fill(one, store, 16),
        Workload::FillPause => pause::fill(one, store),
        Workload::Reopen | Workload::Reopen1g => anyhow::bail!("these open the store themselves"),
    }
}

/// What the process was charged with, in seconds of CPU and bytes.
#[derive(Default)]
struct Costs {
    cpu: f64,
    cpu_settled: Option<f64>,
    written: Option<Written>,
    settled: bool,
}

fn report(one: &One, store: &dyn Store, done: Done, costs: Costs) -> anyhow::Result<Run> {
    let micros_each = |seconds: f64| seconds * 1e6 / done.operations as f64;
    let for_each_byte = |bytes: u64| bytes as f64 / done.user_bytes as f64;
    let written = costs.written.filter(|_| done.user_bytes > 0);
    let mut run = Run {
        workload: one.workload,
        engine: one.engine,
        size: one.size,
        codec: one.codec,
        quick: one.quick,
        operations: done.operations,
        seconds: done.seconds,
        cpu: micros_each(costs.cpu),
        cpu_settled: costs.cpu_settled.map(micros_each),
        p50: done.latencies.micros(0.5),
        p99: done.latencies.micros(0.99),
        p999: done.latencies.micros(0.999),
        max: done.latencies.micros(1.0),
        write_amplification: written.map(|written| for_each_byte(written.pages)),
        write_amplification_calls: written.map(|written| for_each_byte(written.calls)),
        space_amplification: None,
        pair_overhead: None,
        peak_mib: host::peak_memory() as f64 / f64::from(1 << 20),
        pressure: done.pressure,
        settled: costs.settled,
    };
    if one.workload.settles() && done.live > 0 {
        measure_space(&mut run, store, &one.dir, done.live)?;
    }
    Ok(run)
}

fn measure_space(run: &mut Run, store: &dyn Store, dir: &Path, live: u64) -> anyhow::Result<()> {
    let pair = run.size.pair_bytes() as f64;
    let live = live as f64;
    run.space_amplification = Some(host::directory_bytes(dir)? as f64 / (live * pair));
    if run.workload == Workload::FillSeq {
        run.pair_overhead = Some(store.table_bytes()? as f64 / live - pair);
    }
    Ok(())
}
