//! What a node does a second, from two readings of what it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::metrics::samples;

/// Kinds of operations that are shown together.
pub(super) const READS: &[&str] = &["get"];
pub(super) const WRITES: &[&str] = &["put", "delete", "cas"];
pub(super) const SCANS: &[&str] = &["scan"];

/// One reading. Floating point, as the text has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Answers by kind of operation.
    answers: BTreeMap<String, f64>,
    /// Those that were errors, "not found" not among them.
    errors: f64,
    /// Latencies by kind: below each bound, in seconds, so many.
    latencies: BTreeMap<String, Vec<(f64, f64)>>,
    cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    in_flight: f64,
    disk_bytes: f64,
    pending_bytes: f64,
    hints: f64,
    read_only: bool,
}

/// What is between two.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    /// A second, by kind.
    rates: BTreeMap<String, f64>,
    pub(super) errors: f64,
    latencies: BTreeMap<String, Vec<(f64, f64)>>,
    /// Of one processor; 1 is all of it.
    pub(super) cpu: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) in_flight: f64,
    pub(super) disk_bytes: f64,
    pub(super) pending_bytes: f64,
    pub(super) hints: f64,
    pub(super) read_only: bool,
}

impl Counts {
    /// Reads OpenMetrics text; what is not there counts as nothing.
    pub(super) fn read(text: &str) -> Counts {
        let mut counts = Counts::default();
        for sample in samples(text) {
            let value = sample.value;
            let kind = || sample.label("op").unwrap_or_default().to_owned();
            match sample.name {
                "kv_operations_total" => {
                    *counts.answers.entry(kind()).or_default() += value;
                    if !matches!(sample.label("outcome"), Some("ok" | "KEY_NOT_FOUND")) {
                        counts.errors += value;
                    }
                }
                "kv_operation_seconds_bucket" => {
                    let bound = sample.label("le").and_then(|le| le.parse().ok());
                    let bound = bound.unwrap_or(f64::INFINITY);
                    counts.latencies.entry(kind()).or_default().push((bound, value));
                }
                "process_cpu_seconds_total" => counts.cpu_seconds = Some(value),
                "process_resident_memory_bytes" => counts.resident_bytes = Some(value),
                "kv_operations_in_flight" => counts.in_flight = value,
                "kv_store_disk_bytes" => counts.disk_bytes = value,
                "kv_store_pending_bytes" => counts.pending_bytes = value,
                "kv_store_read_only" => counts.read_only = value > 0.0,
                "kv_hints_count" => counts.hints += value,
                _ => {}
            }
        }
        counts
    }

    /// What happened since `before`; nothing is known when the process began anew in between.
    pub(super) fn since(&self, before: &Counts, time: Duration) -> Option<Figures> {
        let seconds = time.as_secs_f64();
        let all = |counts: &Counts| counts.answers.values().sum::<f64>();
        if seconds <= 0.0 || all(self) < all(before) {
            return None;
        }
        let rate = |(kind, now): (&String, &f64)| {
            let then = before.answers.get(kind).copied().unwrap_or(0.0);
            (kind.clone(), (now - then).max(0.0) / seconds)
        };
        let cpu = self.cpu_seconds.zip(before.cpu_seconds);
        Some(Figures {
            rates: self.answers.iter().map(rate).collect(),
            errors: (self.errors - before.errors).max(0.0) / seconds,
            latencies: difference(&self.latencies, &before.latencies),
            cpu: cpu.map(|(now, then)| (now - then).max(0.0) / seconds),
            resident_bytes: self.resident_bytes,
            in_flight: self.in_flight,
            disk_bytes: self.disk_bytes,
            pending_bytes: self.pending_bytes,
            hints: self.hints,
            read_only: self.read_only,
        })
    }
}

type Buckets = BTreeMap<String, Vec<(f64, f64)>>;

fn difference(now: &Buckets, before: &Buckets) -> Buckets {
    let of_kind = |(kind, buckets): (&String, &Vec<(f64, f64)>)| {
        let then = before.get(kind).map_or(&[][..], Vec::as_slice);
        let then = then.iter().map(|(_, count)| *count).chain(std::iter::repeat(0.0));
        let counts = buckets.iter().zip(then);
        (kind.clone(), counts.map(|((bound, now), then)| (*bound, now - then)).collect())
    };
    now.iter().map(of_kind).collect()
}

impl Figures {
    /// Answers a second to operations of clients.
    pub(super) fn operations(&self) -> f64 {
        self.rate(READS) + self.rate(WRITES) + self.rate(SCANS)
    }

    /// Answers a second to some kinds of operations.
    pub(super) fn rate(&self, kinds: &[&str]) -> f64 {
        kinds.iter().filter_map(|kind| self.rates.get(*kind)).sum()
    }

    /// The latency that the share `part` of these operations stayed below, in seconds: as exact as the
    /// buckets, which double. `None` when there were none.
    pub(super) fn latency(&self, kinds: &[&str], part: f64) -> Option<f64> {
        let mut below: Vec<(f64, f64)> = Vec::new();
        for buckets in kinds.iter().filter_map(|kind| self.latencies.get(*kind)) {
            if below.is_empty() {
                below.clone_from(buckets);
            } else {
                below.iter_mut().zip(buckets).for_each(|(sum, (_, count))| sum.1 += count);
            }
        }
        let all = below.last().map_or(0.0, |(_, count)| *count);
        if all <= 0.0 {
            return None;
        }
        let wanted = all * part;
        let at = below.iter().position(|(_, count)| *count >= wanted)?;
        let (high, count) = *below.get(at)?;
        let (low, under) =
            at.checked_sub(1).and_then(|at| below.get(at)).copied().unwrap_or((high / 2.0, 0.0));
        if high.is_infinite() || count <= under {
            return Some(low);
        }
        Some(low + (high - low) * (wanted - under) / (count - under))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(gets: u32, failed: u32, fast: u32, cpu: f64) -> String {
        format!(
            "kv_operations_total{{op=\"get\",outcome=\"ok\"}} {gets}\n\
             kv_operations_total{{op=\"get\",outcome=\"KEY_NOT_FOUND\"}} 5\n\
             kv_operations_total{{op=\"put\",outcome=\"OVERLOADED\"}} {failed}\n\
             kv_operation_seconds_bucket{{op=\"get\",le=\"0.001\"}} {fast}\n\
             kv_operation_seconds_bucket{{op=\"get\",le=\"0.002\"}} {gets}\n\
             kv_operation_seconds_bucket{{op=\"get\",le=\"+Inf\"}} {gets}\n\
             process_cpu_seconds_total {cpu}\n\
             kv_hints_count{{kind=\"plain\"}} 3\nkv_hints_count{{kind=\"custody\"}} 4\n"
        )
    }

    #[test]
    fn rates_and_latencies_are_those_between_two_readings() {
        let before = Counts::read(&text(100, 0, 100, 1.0));
        let now = Counts::read(&text(300, 10, 200, 2.0));
        let figures = now.since(&before, Duration::from_secs(2)).unwrap();
        assert_eq!((figures.rate(READS), figures.rate(WRITES), figures.errors), (100.0, 5.0, 5.0));
        assert_eq!((figures.cpu, figures.hints), (Some(0.5), 7.0));
        // Of two hundred in between, half were below a millisecond.
        assert_eq!(figures.latency(READS, 0.5), Some(0.001));
        assert_eq!(figures.latency(READS, 0.75), Some(0.0015));
        assert_eq!(figures.latency(WRITES, 0.5), None);
    }

    #[test]
    fn a_process_that_began_anew_has_no_figures_yet() {
        let before = Counts::read(&text(100, 0, 100, 1.0));
        let now = Counts::read(&text(3, 0, 3, 0.1));
        assert_eq!(now.since(&before, Duration::from_secs(1)), None);
    }
}
