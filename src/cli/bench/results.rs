//! What a run leaves behind, as it is saved: the settings, the surroundings, all counts, whole
//! histograms and the course over time. Everything that is shown is computed from it, so that a saved
//! run can be shown and compared as well as one that has just ended.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::Counts;
use crate::load::generator::{Outcomes, Report, WRONG_VALUE};
use crate::load::latency::Latency;
use crate::load::series::Series;

use crate::cli::exit::Failure;

use super::machine::Machine;
use super::servers::Servers;

/// The format of files of results; others are refused.
const FORMAT: u32 = 1;
/// A file of results is a few hundred kilobytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Results {
    pub(super) format: u32,
    /// When it began, in UTC.
    pub(super) begun: String,
    pub(super) settings: Settings,
    pub(super) cluster: Cluster,
    pub(super) machine: Machine,
    pub(super) measured: Measured,
}

/// What was asked for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Settings {
    pub(super) workload: String,
    pub(super) mix: BTreeMap<String, u16>,
    pub(super) dist: String,
    pub(super) theta: Option<f64>,
    pub(super) keys: u64,
    pub(super) prefix: String,
    pub(super) value_bytes: u32,
    pub(super) scan_max: u32,
    pub(super) table: String,
    pub(super) r: Option<String>,
    pub(super) w: Option<String>,
    /// Operations a second of an open loop; `None` of a closed one.
    pub(super) rate: Option<f64>,
    pub(super) spacing: Option<String>,
    /// Operations under way at most; the callers of a closed loop.
    pub(super) in_flight: u32,
    pub(super) clients: u32,
    pub(super) warmup_s: f64,
    pub(super) duration_s: f64,
    pub(super) timeout_s: f64,
    pub(super) attempts: u32,
    pub(super) seed: u64,
    pub(super) verified: bool,
    pub(super) loaded: bool,
}

/// Who was asked.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) nodes: u64,
    pub(super) client_version: String,
    /// Of one of the servers.
    pub(super) server_version: Option<String>,
}

/// What was measured, from the end of the warm-up on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Measured {
    /// Up to the end, or to the last answer if that came later.
    pub(super) seconds: f64,
    pub(super) interrupted: bool,
    pub(super) kinds: BTreeMap<String, KindResult>,
    /// How late operations were sent, and how late of these the timers were.
    pub(super) lag: Histogram,
    pub(super) timer_lag: Histogram,
    /// Operations that were due and given up.
    pub(super) unstarted: u64,
    pub(super) requests: u64,
    pub(super) attempts: u64,
    /// Attempts for which a second node was asked.
    #[serde(default)]
    pub(super) hedges: u64,
    pub(super) series: Series,
    pub(super) servers: Servers,
}

/// What became of the operations of one kind.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct KindResult {
    pub(super) errors: BTreeMap<String, u64>,
    /// Reads that found nothing.
    pub(super) absent: u64,
    /// Entries that scans returned.
    pub(super) entries: u64,
    /// Of those that succeeded.
    pub(super) latency: Histogram,
}

/// Latencies in nanoseconds and how often each occurred, ascending.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Histogram(Vec<(u64, u64)>);

impl Histogram {
    pub(super) fn of(latency: &Latency) -> Histogram {
        Histogram(latency.counts())
    }

    pub(super) fn latency(&self) -> Latency {
        Latency::from_counts(&self.0)
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

impl KindResult {
    fn of(outcomes: &Outcomes) -> KindResult {
        KindResult {
            errors: outcomes.errors.clone(),
            absent: outcomes.absent,
            entries: outcomes.entries,
            latency: Histogram::of(&outcomes.latency),
        }
    }

    pub(super) fn succeeded(&self) -> u64 {
        self.latency.count()
    }

    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    fn add(&mut self, other: &KindResult) {
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        self.absent += other.absent;
        self.entries += other.entries;
        let mut latency = self.latency.latency();
        latency.merge(&other.latency.latency());
        self.latency = Histogram::of(&latency);
    }
}

/// What stands beside the generator's report.
pub(super) struct Beside {
    pub(super) interrupted: bool,
    pub(super) counts: Counts,
    pub(super) series: Series,
    pub(super) servers: Servers,
}

impl Measured {
    /// Of a run that was to take `duration`.
    pub(super) fn new(report: &Report, duration: Duration, beside: Beside) -> Measured {
        let kind = |(kind, outcomes): (&crate::load::mix::Kind, &Outcomes)| {
            (kind.as_str().to_owned(), KindResult::of(outcomes))
        };
        // The last operation of an open loop may be answered before the time is over.
        let least = if beside.interrupted { Duration::ZERO } else { duration };
        Measured {
            seconds: report.elapsed.max(least).as_secs_f64(),
            interrupted: beside.interrupted,
            kinds: report.outcomes.iter().map(kind).collect(),
            lag: Histogram::of(&report.lag),
            timer_lag: Histogram::of(&report.timer_lag),
            unstarted: report.unstarted,
            requests: beside.counts.requests,
            attempts: beside.counts.attempts,
            hedges: beside.counts.hedges,
            series: beside.series,
            servers: beside.servers,
        }
    }

    /// All kinds together.
    pub(super) fn all(&self) -> KindResult {
        let mut all = KindResult::default();
        self.kinds.values().for_each(|kind| all.add(kind));
        all
    }

    /// So many a second.
    #[allow(clippy::cast_precision_loss, reason = "a rate, not an account")]
    pub(super) fn rate(&self, count: u64) -> f64 {
        count as f64 / self.seconds.max(1e-9)
    }

    /// Values that were not what was written.
    pub(super) fn wrong(&self) -> u64 {
        self.kinds.values().filter_map(|kind| kind.errors.get(WRONG_VALUE)).sum()
    }

    /// Processor time of the servers per operation, in microseconds, when all of them are known.
    #[allow(clippy::cast_precision_loss, reason = "a figure, not an account")]
    pub(super) fn cpu_us(&self) -> Option<f64> {
        let all = self.all();
        let count = all.succeeded() + all.failed();
        let seconds = self.servers.cpu_s().filter(|_| count > 0)?;
        Some(seconds * 1e6 / count as f64)
    }
}

impl Results {
    pub(super) fn new(
        begun: String,
        (settings, cluster, machine): (Settings, Cluster, Machine),
        measured: Measured,
    ) -> Results {
        Results { format: FORMAT, begun, settings, cluster, machine, measured }
    }

    /// As a file.
    pub(super) fn to_text(&self) -> Result<String, Failure> {
        let text = serde_json::to_string(self);
        text.map_err(|error| Failure::internal(format!("cannot save: {error}")))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It is not there, too large, no file of results, or of another format.
    pub(super) fn read(path: &str) -> Result<Results, Failure> {
        let refuse = |why: String| Failure::usage(format!("{path}: {why}"));
        let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(refuse(format!(
                "it has {size} bytes; results have at most {FILE_BYTES_MAX}"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Results::from_text(&text).map_err(refuse)
    }

    fn from_text(text: &str) -> Result<Results, String> {
        /// What all formats have.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let not_ours = |error| format!("it is no file of `kvctl bench run --save`: {error}");
        let head: Head = serde_json::from_str(text).map_err(not_ours)?;
        if head.format != FORMAT {
            return Err(format!("it has format {}; this kvctl reads {FORMAT}", head.format));
        }
        serde_json::from_str(text).map_err(not_ours)
    }
}

/// The quantiles that are shown, and what they are called in JSON.
pub(super) const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// A latency for people, with three digits.
pub(super) fn latency(latency: Duration) -> String {
    let us = latency.as_secs_f64() * 1e6;
    let (value, unit) = match us {
        us if us < 999.5 => (us, "µs"),
        us if us < 999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    match value {
        value if value < 9.995 => format!("{value:.2} {unit}"),
        value if value < 99.95 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::bench::servers;

    /// A run of two kinds, all of whose latencies are `scale` times as long as they might be.
    pub(crate) fn results(scale: u64) -> Results {
        let mut report = Report { elapsed: Duration::from_secs(2), ..Report::default() };
        let mut series = Series::new(Duration::from_secs(1));
        for (kind, count) in
            [(crate::load::mix::Kind::Get, 1000), (crate::load::mix::Kind::Put, 500)]
        {
            let outcomes = report.outcomes.entry(kind).or_default();
            for n in 1..=count {
                let took = Duration::from_micros(n * scale);
                outcomes.latency.record(took);
                series.record(Duration::from_millis(n * 2), Some(took));
            }
            outcomes.errors.insert("OVERLOADED <&>".to_owned(), 3);
        }
        let settings = Settings {
            workload: "a".to_owned(),
            mix: [("get".to_owned(), 2), ("put".to_owned(), 1)].into(),
            dist: "zipfian".to_owned(),
            theta: Some(0.99),
            keys: 1000,
            prefix: "<bench>:".to_owned(),
            value_bytes: 100,
            scan_max: 100,
            table: "default".to_owned(),
            r: None,
            w: Some("all".to_owned()),
            rate: Some(750.0),
            spacing: Some("poisson".to_owned()),
            in_flight: 512,
            clients: 1,
            warmup_s: 0.0,
            duration_s: 2.0,
            timeout_s: 5.0,
            attempts: 4,
            seed: 7,
            verified: true,
            loaded: false,
        };
        let cluster = Cluster { name: "dev".to_owned(), nodes: 3, ..Cluster::default() };
        let counts = Counts { requests: 1506, attempts: 1510, hedges: 3 };
        let beside =
            Beside { interrupted: false, counts, series, servers: servers::tests::servers() };
        let parts = (settings, cluster, Machine::default());
        Results::new(
            "2026-01-02T03:04:05Z".to_owned(),
            parts,
            Measured::new(&report, Duration::from_secs(2), beside),
        )
    }

    #[test]
    fn a_saved_run_reads_back_whole_and_others_are_refused() {
        let saved = results(1);
        let text = saved.to_text().unwrap();
        let read = Results::from_text(&text).unwrap();
        assert_eq!(read.to_text().unwrap(), text);
        let all = read.measured.all();
        assert_eq!((all.succeeded(), all.failed()), (1500, 6));
        assert_eq!(read.measured.rate(1500), 750.0);
        let other = text.replacen("\"format\":1", "\"format\":2", 1);
        assert!(Results::from_text(&other).unwrap_err().contains("format 2"));
        assert!(Results::from_text("{}").unwrap_err().contains("no file of"));
        assert!(Results::from_text("{\"format\":1}").unwrap_err().contains("no file of"));
    }

    #[test]
    fn latencies_have_three_digits_and_a_unit() {
        for (us, text) in [
            (0.25, "0.25 µs"),
            (9.996, "10.0 µs"),
            (345.4, "345 µs"),
            (999.6, "1.00 ms"),
            (12_345.0, "12.3 ms"),
            (999_600.0, "1.00 s"),
            (61_000_000.0, "61.0 s"),
        ] {
            assert_eq!(latency(Duration::from_secs_f64(us / 1e6)), text);
        }
    }
}
