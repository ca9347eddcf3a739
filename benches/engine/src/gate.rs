//! What our engine must reach: bounds of its own, and ratios to the better rival of the same run.

use crate::data::{Codec, Size};
use crate::engine::Kind;
use crate::report::Run;
use crate::workload::Workload;

/// A figure of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Operations a second: more is better. Of all others less is.
    Rate,
    Cpu,
    P50,
    P99,
    Worst,
    WriteAmplification,
    SpaceAmplification,
    Memory,
    Seconds,
    PairOverhead,
}

impl Metric {
    pub(crate) fn of(self, run: &Run) -> Option<f64> {
        match self {
            Self::Rate => Some(run.rate()),
            Self::Cpu => Some(run.cpu_whole()),
            Self::P50 => Some(run.p50),
            Self::P99 => Some(run.p99),
            Self::Worst => Some(run.max / 1000.0),
            Self::WriteAmplification => run.write_amplification,
            Self::SpaceAmplification => run.space_amplification,
            Self::Memory => Some(run.peak_mib),
            Self::Seconds => Some(run.seconds),
            Self::PairOverhead => run.pair_overhead,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "ops/s",
            Self::Cpu => "CPU",
            Self::P50 => "p50",
            Self::P99 => "p99 us",
            Self::Worst => "worst ms",
            Self::WriteAmplification => "W-amp",
            Self::SpaceAmplification => "S-amp",
            Self::Memory => "peak MiB",
            Self::Seconds => "seconds",
            Self::PairOverhead => "bytes a pair",
        }
    }
}

/// What must hold of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Gate {
    /// At least this many times as good as each of the rivals.
    Rivals(Metric, f64),
    /// At least this many times as good as one of them.
    One(Metric, Kind, f64),
    /// At most this.
    AtMost(Metric, f64),
}

/// The gates of a row. For rows that have none of their own: no worse than the better rival. Values
/// kept apart are compared, and judged by the writing alone.
pub(crate) fn gates(size: Size, codec: Codec, workload: Workload) -> Vec<Gate> {
    use Metric::{Cpu, P50, Rate};
    if size == Size::Apart {
        let rocks = Gate::One(Metric::WriteAmplification, Kind::RocksDb, 1.0);
        return if is_fill(workload) { vec![rocks] } else { Vec::new() };
    }
    let plain = size == Size::Small && codec == Codec::None;
    let factor = match workload {
        Workload::UpdateRandom if plain => 1.1,
        Workload::Batch100 if plain => 1.2,
        _ => 1.0,
    };
    let mut gates: Vec<Gate> = match workload {
        Workload::FillSync => vec![Gate::One(Rate, Kind::Raw, 0.95)],
        Workload::Reopen => vec![Gate::AtMost(Metric::Seconds, 0.5)],
        Workload::Reopen1g => vec![Gate::AtMost(Metric::Seconds, 2.0)],
        Workload::FillPause => vec![],
        _ => [Cpu, P50, Rate].map(|metric| Gate::Rivals(metric, factor)).to_vec(),
    };
    match workload {
        Workload::FillSeq if plain => gates.push(Gate::AtMost(Metric::PairOverhead, 30.0)),
        Workload::FillRandom if plain => gates.push(Gate::One(Cpu, Kind::RocksDb, 1.6)),
        Workload::ReadWhileWriting if plain => gates.push(Gate::AtMost(Metric::P99, 11.0)),
        Workload::Overwrite => gates.extend(overwrite(size, codec)),
        _ => {}
    }
    if is_fill(workload) {
        gates.push(Gate::AtMost(Metric::Worst, 20.0));
        // Not of a fill that is bounded by time: who writes three times as much in it has a larger
        // store in the end, and each byte in that costs more merges. The figures are not comparable.
        if workload != Workload::FillPause {
            gates.push(Gate::One(Metric::WriteAmplification, Kind::RocksDb, 1.0));
        }
    }
    gates
}

fn is_fill(workload: Workload) -> bool {
    use Workload::{FillPause, FillRandom, FillSeq, FillUnique, Overwrite};
    matches!(workload, FillSeq | FillRandom | FillUnique | Overwrite | FillPause)
}

fn overwrite(size: Size, codec: Codec) -> Vec<Gate> {
    let space = match (size, codec) {
        (_, Codec::None) => 1.30,
        (Size::Small, Codec::Lz4) => 0.84,
        (_, Codec::Lz4) => 0.69,
    };
    let mut gates = vec![Gate::AtMost(Metric::SpaceAmplification, space)];
    if size == Size::Small && codec == Codec::None {
        gates.push(Gate::AtMost(Metric::WriteAmplification, 3.2));
        gates.push(Gate::AtMost(Metric::Memory, 380.0));
    }
    gates
}

/// How a gate stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    /// The ratio to the rival, or the figure itself.
    pub(crate) figure: f64,
    pub(crate) met: bool,
}

impl Gate {
    /// `None` when something that it needs was not measured.
    pub(crate) fn judge(self, figure: impl Fn(Kind, Metric) -> Option<f64>) -> Option<Verdict> {
        let ratio = |metric: Metric, rival: Kind| {
            let (ours, theirs) = (figure(Kind::Ours, metric)?, figure(rival, metric)?);
            Some(if metric == Metric::Rate { ours / theirs } else { theirs / ours })
        };
        let least = |figure: f64, factor: f64| Verdict { figure, met: figure >= factor };
        match self {
            Self::Rivals(metric, factor) => {
                let ratios = [Kind::Fjall, Kind::RocksDb].map(|rival| ratio(metric, rival));
                let worst = ratios.into_iter().flatten().reduce(f64::min)?;
                Some(least(worst, factor))
            }
            Self::One(metric, rival, factor) => Some(least(ratio(metric, rival)?, factor)),
            Self::AtMost(metric, bound) => {
                let figure = figure(Kind::Ours, metric)?;
                Some(Verdict { figure, met: figure <= bound })
            }
        }
    }

    /// The gate in words, without the figure.
    pub(crate) fn says(self) -> String {
        match self {
            Self::Rivals(metric, factor) => format!("{} >= {factor:.2}x", metric.name()),
            Self::One(metric, kind, factor) => {
                format!("{} >= {factor:.2}x {}", metric.name(), kind.name())
            }
            Self::AtMost(metric, bound) => format!("{} <= {bound}", metric.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, Metric, Verdict, gates};
    use crate::data::{Codec, Size};
    use crate::engine::Kind;
    use crate::workload::Workload;

    #[test]
    fn writing_is_judged_of_fills_that_write_the_same() {
        let judges = |workload| {
            let gates = gates(Size::Small, Codec::Lz4, workload);
            gates.iter().any(|gate| matches!(gate, Gate::One(Metric::WriteAmplification, ..)))
        };
        assert!(judges(Workload::FillRandom) && judges(Workload::Overwrite));
        assert!(!judges(Workload::FillPause) && !judges(Workload::ReadRandom));
    }

    #[test]
    fn a_ratio_is_to_the_better_rival_and_above_one_is_better() {
        let figure = |kind, metric| match (kind, metric) {
            (Kind::Ours, Metric::Rate | Metric::Cpu) => Some(4.0),
            (Kind::Fjall, Metric::Rate | Metric::Cpu) => Some(2.0),
            (Kind::RocksDb, Metric::Rate | Metric::Cpu) => Some(8.0),
            _ => None,
        };
        let judged = |gate: Gate| gate.judge(figure);
        let missed = Some(Verdict { figure: 0.5, met: false });
        assert_eq!(judged(Gate::Rivals(Metric::Rate, 1.0)), missed);
        assert_eq!(judged(Gate::Rivals(Metric::Cpu, 1.0)), missed);
        let met = Some(Verdict { figure: 2.0, met: true });
        assert_eq!(judged(Gate::One(Metric::Cpu, Kind::RocksDb, 1.6)), met);
        assert_eq!(
            judged(Gate::AtMost(Metric::Cpu, 3.0)),
            Some(Verdict { figure: 4.0, met: false })
        );
        assert_eq!(judged(Gate::AtMost(Metric::Worst, 3.0)), None, "was not measured");
    }
}
