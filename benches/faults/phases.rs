//! What a run was like phase by phase, and second by second.

use std::fmt::Write as _;
use std::time::Duration;

use roundtable::load::latency::Latency;
use roundtable::load::timeline::Timeline;
use roundtable::picture::{Line, Plot, plot_svg};

use crate::scenario::ms;

/// The width of the timeline's stretches: four to a second, so that a run of some four minutes fits.
pub(crate) const STRETCH: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);
/// How much worse p99 may be during a change than before it.
const FACTOR_MAX: f64 = 3.0;

/// A part of a run, counted from its start.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: String,
    /// Whether something is done to the cluster in it.
    pub(crate) is_change: bool,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// The operations that were due in some stretches.
struct Seen {
    latency: Latency,
    failed: u64,
}

/// Everything that was due from the stretch of one moment to before the stretch of another.
fn seen(timeline: &Timeline, from: Duration, to: Duration) -> Seen {
    let mut all = Seen { latency: Latency::default(), failed: 0 };
    for (at, stretch) in timeline.stretches() {
        if at + timeline.width() > from && at < to {
            all.latency.merge(&stretch.latency);
            all.failed += stretch.failed;
        }
    }
    all
}

/// A line a phase, with p99 in multiples of the last quiet phase before.
pub(crate) fn table(timeline: &Timeline, phases: &[Phase]) -> String {
    let mut text = format!(
        "       {:<28} {:>7} {:>7} {:>6} {:>8} {:>8} {:>8} {:>8}  p99 to quiet\n",
        "phase", "seconds", "ok", "failed", "p50 ms", "p99 ms", "p99.9", "max"
    );
    let mut quiet = 0.0;
    for phase in phases {
        let Seen { latency, failed } = seen(timeline, phase.from, phase.to);
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| ms(latency.quantile(q)));
        let _ = write!(
            text,
            "       {:<28} {:>7.1} {:>7} {failed:>6} {p50:>8.2} {p99:>8.2} {p999:>8.2} {:>8.2}",
            phase.name,
            (phase.to.saturating_sub(phase.from)).as_secs_f64(),
            latency.count(),
            ms(latency.max()),
        );
        if phase.is_change && quiet > 0.0 {
            let verdict = if p99 <= quiet * FACTOR_MAX { "" } else { "  over the aim of 3" };
            let _ = write!(text, "  {:>5.2}{verdict}", p99 / quiet);
        } else {
            quiet = p99;
        }
        text.push('\n');
    }
    text
}

/// A line a second.
pub(crate) fn by_the_second(timeline: &Timeline, phases: &[Phase]) -> String {
    let mut text = format!(
        "       {:>6} {:>6} {:>6} {:>8} {:>8} {:>8}  phase\n",
        "second", "ok", "failed", "p50 ms", "p99 ms", "p99.9"
    );
    let end = phases.last().map_or(Duration::ZERO, |phase| phase.to);
    let mut at = Duration::ZERO;
    while at < end {
        let Seen { latency, failed } = seen(timeline, at, at + SECOND);
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| ms(latency.quantile(q)));
        let phase = phases.iter().rfind(|phase| phase.from < at + SECOND);
        let _ = writeln!(
            text,
            "       {:>6} {:>6} {failed:>6} {p50:>8.2} {p99:>8.2} {p999:>8.2}  {}",
            at.as_secs(),
            latency.count(),
            phase.map_or("", |phase| &phase.name)
        );
        at += SECOND;
    }
    text
}

/// p50, p99 and p99.9 by the second, with the beginnings of the phases.
pub(crate) fn plot(title: String, timeline: &Timeline, phases: &[Phase]) -> String {
    let end = phases.last().map_or(Duration::ZERO, |phase| phase.to);
    let line = |(name, quantile): (&str, f64)| {
        let mut points = Vec::new();
        let mut at = Duration::ZERO;
        while at < end {
            let Seen { latency, .. } = seen(timeline, at, at + SECOND);
            let value =
                if latency.count() == 0 { f64::NAN } else { ms(latency.quantile(quantile)) };
            points.push((at.as_secs_f64(), value));
            at += SECOND;
        }
        Line { name: name.to_owned(), points }
    };
    let changes = phases.iter().filter(|phase| phase.is_change || phase.from > Duration::ZERO);
    plot_svg(&Plot {
        title,
        x_label: "seconds".to_owned(),
        y_label: "ms, by the second".to_owned(),
        is_log: true,
        lines: [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)].map(line).to_vec(),
        marks: changes.map(|phase| (phase.from.as_secs_f64(), phase.name.clone())).collect(),
    })
}
