//! `kvctl bench compare`: two saved runs beside each other, as ratios, and their curves in one picture.

use std::collections::BTreeSet;

use clap::Args;
use comfy_table::Cell;
use serde_json::{Value as Json, json};

use crate::load::latency::Latency;
use crate::picture::nines_svg;

use crate::cli::args::Format;
use crate::cli::exit::Failure;
use crate::cli::grid::grid;
use crate::cli::output::Output;

use super::html::overlay;
use super::results::{KindResult, Measured, Results, latency};
use super::style::Page;
use super::write_file;

/// `kvctl bench compare`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl bench run a --load --save before.json
  kvctl bench run a --save after.json
  kvctl bench compare before.json after.json --html both.html")]
pub(crate) struct CompareArgs {
    /// A file of `kvctl bench run --save`
    #[arg(value_name = "A")]
    first: String,
    /// Another one: ratios are B to A
    #[arg(value_name = "B")]
    second: String,
    /// Write a page with the curves of both
    #[arg(long, value_name = "FILE")]
    html: Option<String>,
}

/// One figure of both runs.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    kind: String,
    metric: &'static str,
    a: Option<f64>,
    b: Option<f64>,
}

const HEADS: [&str; 5] = ["KIND", "FIGURE", "A", "B", "B / A"];

impl Row {
    /// B to A, when there are both.
    fn ratio(&self) -> Option<f64> {
        let (a, b) = self.a.zip(self.b)?;
        (a > 0.0).then_some(b / a)
    }

    fn texts(&self) -> [String; 5] {
        let text = |value: Option<f64>| match (value, self.metric) {
            (None, _) => "–".to_owned(),
            (Some(value), "op/s" | "failed/s") => format!("{value:.1}"),
            (Some(us), _) => latency(std::time::Duration::from_secs_f64(us.max(0.0) / 1e6)),
        };
        let ratio = self.ratio().map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        [self.kind.clone(), self.metric.to_owned(), text(self.a), text(self.b), ratio]
    }
}

/// Compares two runs.
pub(super) fn run(args: &CompareArgs, output: &mut Output) -> Result<(), Failure> {
    let (a, b) = (Results::read(&args.first)?, Results::read(&args.second)?);
    let (rows, differences) = (rows(&a.measured, &b.measured), differences(&a, &b));
    if let Some(path) = &args.html {
        write_file("--html", path, &page((&args.first, &a), (&args.second, &b)))?;
        output.note(&format!("the page is in {path}"));
    }
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(&rows, &differences)),
        Format::Plain => rows.iter().try_for_each(|row| output.line(&line(row))),
        Format::Table => {
            for (name, path, run) in [("A", &args.first, &a), ("B", &args.second, &b)] {
                output.line(&format!("{name}  {path}, {}", run.begun))?;
            }
            let cells = rows.iter().map(|row| row.texts().map(Cell::new).to_vec()).collect();
            output.bytes(grid(&HEADS, 2, cells, output.color()).as_bytes())?;
            differences.iter().try_for_each(|difference| output.line(&difference.text()))
        }
    }
}

/// Rate, errors and quantiles for each kind that either has, then the servers' processor time.
fn rows(a: &Measured, b: &Measured) -> Vec<Row> {
    let kinds: BTreeSet<&String> = a.kinds.keys().chain(b.kinds.keys()).collect();
    let mut rows = Vec::new();
    for kind in &kinds {
        let of = |run: &Measured| run.kinds.get(*kind).cloned();
        rows.extend(of_kind(kind, (a, of(a)), (b, of(b))));
    }
    if kinds.len() > 1 {
        rows.extend(of_kind("all", (a, Some(a.all())), (b, Some(b.all()))));
    }
    rows.push(Row { kind: "all".to_owned(), metric: "CPU/op", a: a.cpu_us(), b: b.cpu_us() });
    rows
}

type Side<'a> = (&'a Measured, Option<KindResult>);

fn of_kind(kind: &str, a: Side<'_>, b: Side<'_>) -> Vec<Row> {
    const METRICS: [&str; 5] = ["op/s", "failed/s", "p50", "p99", "p99.9"];
    let figures = |(run, found): Side<'_>| {
        let found = found?;
        let times = found.latency.latency();
        let us = |quantile| times.quantile(quantile).as_secs_f64() * 1e6;
        let rates = [run.rate(found.succeeded()), run.rate(found.failed())];
        let shown = |figure| (found.succeeded() > 0).then_some(figure);
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| shown(us(quantile)));
        Some([Some(rates[0]), Some(rates[1]), p50, p99, p999])
    };
    let (a, b) = (figures(a).unwrap_or_default(), figures(b).unwrap_or_default());
    let row = |((metric, a), b)| Row { kind: kind.to_owned(), metric, a, b };
    METRICS.into_iter().zip(a).zip(b).map(row).collect()
}

/// Something that was not the same in both runs, and may explain figures that are not.
#[derive(Clone, Debug, PartialEq)]
struct Difference {
    what: String,
    a: Json,
    b: Json,
}

impl Difference {
    fn text(&self) -> String {
        format!("note: {} differs: {} in A, {} in B", self.what, self.a, self.b)
    }
}

fn differences(a: &Results, b: &Results) -> Vec<Difference> {
    let parts = |run: &Results| {
        let Results { settings, cluster, machine, .. } = run;
        json!({ "setting": settings, "cluster": cluster, "machine": machine })
    };
    let (a, b) = (parts(a), parts(b));
    let mut found = Vec::new();
    for (part, fields) in a.as_object().into_iter().flatten() {
        for (name, value) in fields.as_object().into_iter().flatten() {
            let other = b.get(part).and_then(|fields| fields.get(name)).unwrap_or(&Json::Null);
            // A seed is meant to differ.
            if other != value && name != "seed" {
                let what = format!("{part} {name}");
                found.push(Difference { what, a: value.clone(), b: other.clone() });
            }
        }
    }
    found
}

fn as_json(rows: &[Row], differences: &[Difference]) -> Json {
    let row = |row: &Row| {
        let unit = match row.metric {
            "op/s" | "failed/s" => "1/s",
            _ => "us",
        };
        json!({
            "kind": row.kind, "metric": row.metric, "unit": unit,
            "a": row.a, "b": row.b, "ratio": row.ratio(),
        })
    };
    let difference = |it: &Difference| json!({ "what": it.what, "a": it.a, "b": it.b });
    json!({
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "differences": differences.iter().map(difference).collect::<Vec<_>>(),
    })
}

fn line(row: &Row) -> String {
    let text = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
    let Row { kind, metric, a, b } = row;
    format!("{kind}\t{metric}\t{}\t{}\t{}", text(*a), text(*b), text(row.ratio()))
}

fn page((first, a): (&str, &Results), (second, b): (&str, &Results)) -> String {
    let mut page = Page::new("kvctl bench: two runs compared");
    let told = |path: &str, run: &Results| format!("{path}, {}", run.begun);
    page.facts(&[("A", told(first, a)), ("B", told(second, b))]);
    page.heading("Figures");
    page.table("", &HEADS, rows(&a.measured, &b.measured).iter().map(Row::texts));
    page.heading("Percentiles");
    let kinds: BTreeSet<&String> = a.measured.kinds.keys().chain(b.measured.kinds.keys()).collect();
    let latency = |run: &Results, kind: &str| {
        let found = run.measured.kinds.get(kind);
        found.map_or(Latency::default(), |found| found.latency.latency())
    };
    let both: Vec<(String, Latency, Latency)> =
        kinds.into_iter().map(|kind| (kind.clone(), latency(a, kind), latency(b, kind))).collect();
    page.figure(&nines_svg(&overlay(&both)));
    let differences = differences(a, b);
    if !differences.is_empty() {
        page.heading("What else differs");
        let row = |it: &Difference| [it.what.clone(), it.a.to_string(), it.b.to_string()];
        page.table("facts", &["", "A", "B"], differences.iter().map(row));
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::results::tests::results;
    use crate::cli::bench::style::tests::check;

    #[test]
    fn ratios_are_b_to_a_for_each_kind() {
        let (a, mut b) = (results(1), results(3));
        b.measured.seconds = 4.0;
        let rows = rows(&a.measured, &b.measured);
        let ratio = |kind: &str, metric: &str| {
            let row = rows.iter().find(|row| row.kind == kind && row.metric == metric).unwrap();
            (row.ratio().unwrap() * 100.0).round() / 100.0
        };
        assert_eq!(ratio("get", "op/s"), 0.5);
        assert_eq!((ratio("put", "p50"), ratio("all", "p99.9")), (3.0, 3.0));
        assert_eq!((ratio("all", "CPU/op"), ratio("get", "failed/s")), (1.0, 0.5));
    }

    #[test]
    fn what_only_one_run_has_has_no_ratio() {
        let (a, mut b) = (results(1), results(1));
        b.measured.kinds.remove("get");
        b.measured.servers.why = Some("elsewhere".to_owned());
        b.settings.rate = None;
        let rows = rows(&a.measured, &b.measured);
        let of = |kind: &str, metric: &str| {
            rows.iter().find(|row| row.kind == kind && row.metric == metric).unwrap().texts()
        };
        assert_eq!(of("get", "p50")[3..], ["–", "–"]);
        assert_eq!(of("all", "CPU/op")[2..], ["664 µs", "–", "–"]);
        let differences = differences(&a, &b);
        assert_eq!(differences[0].text(), "note: setting rate differs: 750.0 in A, null in B");
        assert_eq!(differences.len(), 1);
    }

    #[test]
    fn the_page_draws_both_curves_of_each_kind() {
        let (a, mut b) = (results(1), results(2));
        b.settings.table = "<other>".to_owned();
        let page = page(("a<.json", &a), ("b.json", &b));
        check(&page);
        assert_eq!(page.matches("stroke-dasharray=\"7 4\"").count(), 4);
        assert!(
            page.contains("get, A") && page.contains("put, B") && page.contains("&lt;other&gt;")
        );
    }
}
