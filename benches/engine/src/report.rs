//! What one measurement says: a line of JSON from the process that made it.

use serde::{Deserialize, Serialize};

use crate::data::{Codec, Size};
use crate::engine::Kind;
use crate::workload::Workload;

/// One measurement. Fields that a workload does not measure are absent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) workload: Workload,
    pub(crate) engine: Kind,
    pub(crate) size: Size,
    pub(crate) codec: Codec,
    /// Of a tenth of the size.
    pub(crate) quick: bool,
    /// Operations done, and how long they took in seconds.
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    /// CPU time of all threads for one operation, in microseconds: until the last operation was
    /// done, and until all background work that follows from them was.
    pub(crate) cpu: f64,
    pub(crate) cpu_settled: Option<f64>,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// Bytes written for each byte of keys and values, by pages and by calls.
    pub(crate) write_amplification: Option<f64>,
    pub(crate) write_amplification_calls: Option<f64>,
    /// Bytes of the directory for each byte of live keys and values, settled.
    pub(crate) space_amplification: Option<f64>,
    /// Bytes of all tables for each live pair, beyond key and value.
    pub(crate) pair_overhead: Option<f64>,
    /// Most memory, in MiB.
    pub(crate) peak_mib: f64,
    /// The highest pressure the engine reported, 0 to 1.
    pub(crate) pressure: Option<f64>,
    /// Whether all background work ended in the time it was given.
    pub(crate) settled: bool,
}

impl Run {
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// CPU an operation costs in the end.
    pub(crate) fn cpu_whole(&self) -> f64 {
        self.cpu_settled.unwrap_or(self.cpu)
    }
}
