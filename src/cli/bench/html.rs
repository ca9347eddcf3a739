//! A run as a page.

use crate::load::latency::Latency;
use crate::load::series::{Series, Stretch};
use crate::picture::{
    Column, DensityPicture, Line, NinesLine, NinesPicture, Plot, density_svg, nines_svg, plot_svg,
};

use super::results::{KindResult, Measured, Results};
use super::servers::{NodeCost, Sample};
use super::style::Page;
use super::text::{HEADS, conduct, costs, errors, facts, remarks, rows};

/// Points of a percentile curve for each further nine.
const PER_NINE: u32 = 40;

/// The page.
pub(super) fn page(results: &Results) -> String {
    let measured = &results.measured;
    let mut page = Page::new(&format!("kvctl bench: workload {}", results.settings.workload));
    page.facts(&facts(results));
    for remark in remarks(results) {
        let class = if remark.starts_with("note") { "quiet" } else { "warn" };
        page.paragraph(class, &remark);
    }
    page.heading("Operations");
    page.table("", &HEADS, rows(measured));
    conduct(results).iter().for_each(|line| page.paragraph("quiet", line));
    if results.settings.rate.is_some() {
        page.paragraph(
            "quiet",
            "Latency counts from when an operation was due, so waiting for a stalled server counts.",
        );
    } else {
        page.paragraph(
            "quiet",
            "A closed loop asks no more while it waits: its latencies are lower than users would see.",
        );
    }
    let errors = errors(measured);
    page.heading("Errors");
    if errors.is_empty() {
        page.paragraph("quiet", "None.");
    } else {
        let row = |(kind, code, count): &(&str, &str, u64)| {
            [(*kind).to_owned(), (*code).to_owned(), count.to_string()]
        };
        page.table("left", &["KIND", "CODE", "COUNT"], errors.iter().map(row));
    }
    page.heading("Over time");
    page.figure(&plot_svg(&throughput(&measured.series)));
    page.figure(&density_svg(&density(&measured.series)));
    page.heading("Percentiles");
    page.figure(&nines_svg(&percentiles(measured)));
    cost(&mut page, measured);
    page.finish()
}

fn cost(page: &mut Page, measured: &Measured) {
    page.heading("Cost");
    if measured.servers.nodes.is_empty() {
        let why = measured.servers.why.as_deref().unwrap_or("no node was found");
        page.paragraph("quiet", &format!("What the servers cost is not known: {why}."));
        return;
    }
    page.table("", &["", "CPU PER OPERATION", "CPUS BUSY", "MEMORY AT MOST"], costs(measured));
    page.paragraph(
        "quiet",
        "Processor time of the nodes on this machine, user and system, over all operations, those that \
         failed included.",
    );
    page.figure(&plot_svg(&busy(measured)));
    page.figure(&plot_svg(&memory(measured)));
}

const TIME: &str = "seconds from the end of the warm-up";

#[allow(clippy::cast_precision_loss, reason = "a picture, not an account")]
fn throughput(series: &Series) -> Plot {
    let width = series.width().as_secs_f64();
    let line = |name: &str, count: fn(&Stretch) -> u64| Line {
        name: name.to_owned(),
        points: course(series, |stretch| count(stretch) as f64 / width),
    };
    let mut lines = vec![line("succeeded", |stretch| stretch.succeeded)];
    if series.stretches().iter().any(|stretch| stretch.failed > 0) {
        lines.push(line("failed", |stretch| stretch.failed));
    }
    Plot {
        title: "Throughput, by when operations were due".to_owned(),
        x_label: TIME.to_owned(),
        y_label: "operations/s".to_owned(),
        lines,
        ..Plot::default()
    }
}

/// A value for the middle of each stretch.
fn course(series: &Series, value: impl Fn(&Stretch) -> f64) -> Vec<(f64, f64)> {
    let width = series.width().as_secs_f64();
    let middles = (0u32..).map(|place| width * (f64::from(place) + 0.5));
    middles.zip(series.stretches().iter().map(value)).collect()
}

fn density(series: &Series) -> DensityPicture {
    let column = |stretch: &Stretch| Column { classes: stretch.classes().collect() };
    DensityPicture {
        title: "Latency over time: how many operations took how long".to_owned(),
        width: series.width().as_secs_f64(),
        columns: series.stretches().iter().map(column).collect(),
    }
}

fn percentiles(measured: &Measured) -> NinesPicture {
    let line = |(colour, (name, kind)): (usize, (&String, &KindResult))| NinesLine {
        name: name.clone(),
        colour,
        is_dashed: false,
        points: curve(&kind.latency.latency()),
    };
    NinesPicture {
        title: "Latency by percentile".to_owned(),
        lines: measured.kinds.iter().enumerate().map(line).collect(),
    }
}

/// Fractions and the latency in seconds that each stayed within, as far as there are operations to tell.
#[allow(clippy::cast_precision_loss, reason = "a picture, not an account")]
pub(super) fn curve(latency: &Latency) -> Vec<(f64, f64)> {
    if latency.count() == 0 {
        return Vec::new();
    }
    let nines = (latency.count() as f64).log10().clamp(1.0, 6.0);
    let point = |step: u32| {
        let fraction = 1.0 - 10f64.powf(-f64::from(step) / f64::from(PER_NINE));
        (fraction, latency.quantile(fraction).as_secs_f64())
    };
    let steps = (0..).take_while(|step| f64::from(*step) <= nines * f64::from(PER_NINE));
    steps.map(point).collect()
}

fn busy(measured: &Measured) -> Plot {
    Plot {
        title: "Processors that each node keeps busy".to_owned(),
        x_label: TIME.to_owned(),
        y_label: "processors".to_owned(),
        lines: lines(measured, NodeCost::busy),
        ..Plot::default()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a picture, not an account")]
fn memory(measured: &Measured) -> Plot {
    let point = |sample: &Sample| (sample.at_s, sample.resident_bytes as f64 / f64::from(1 << 20));
    Plot {
        title: "Memory of each node in RAM".to_owned(),
        x_label: TIME.to_owned(),
        y_label: "MiB".to_owned(),
        lines: lines(measured, |node| node.samples.iter().map(point).collect()),
        ..Plot::default()
    }
}

fn lines(measured: &Measured, points: impl Fn(&NodeCost) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |node: &NodeCost| Line { name: node.name.clone(), points: points(node) };
    measured.servers.nodes.iter().map(line).collect()
}

/// The page of a comparison draws the curves of both.
pub(super) fn overlay(kinds: &[(String, Latency, Latency)]) -> NinesPicture {
    let pair = |(colour, (kind, a, b)): (usize, &(String, Latency, Latency))| {
        [("A", a, false), ("B", b, true)].map(|(run, latency, is_dashed)| NinesLine {
            name: format!("{kind}, {run}"),
            colour,
            is_dashed,
            points: curve(latency),
        })
    };
    NinesPicture {
        title: "Latency by percentile: A whole, B dashed".to_owned(),
        lines: kinds.iter().enumerate().flat_map(pair).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::results::tests::results;
    use crate::cli::bench::style::tests::check;

    #[test]
    fn a_page_is_well_formed_and_needs_nothing_else() {
        let page = page(&results(1));
        check(&page);
        for words in [
            "OVERLOADED &lt;&amp;&gt;",
            "&lt;bench&gt;:*",
            "n&lt;2&gt;",
            "prefers-color-scheme",
            "99.9 %",
            "operations/s",
            "CPU PER OPERATION",
        ] {
            assert!(page.contains(words), "{words}");
        }
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.len() < 300_000, "{}", page.len());
    }

    #[test]
    fn an_empty_run_and_unknown_servers_make_a_page_too() {
        let mut run = results(1);
        run.measured.kinds.clear();
        run.measured.series = Series::new(Duration::from_secs(1));
        run.measured.servers.nodes.clear();
        run.measured.servers.why = Some("no /proc".to_owned());
        run.settings.rate = None;
        let page = page(&run);
        check(&page);
        assert!(page.contains("not known: no /proc") && page.contains("closed loop"));
    }

    #[test]
    fn a_curve_ends_where_there_are_no_operations_to_tell() {
        let mut latency = Latency::default();
        (1..=1000).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let curve = curve(&latency);
        let (last, slowest) = *curve.last().unwrap();
        assert!((last - 0.999).abs() < 1e-9 && (0.99..1.01).contains(&slowest), "{last} {slowest}");
        assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    }
}
