//! `kvctl capacity`: how many nodes to reserve. Asks no server, unless it is asked about the running one.

use std::time::Duration;

use clap::Args;
use comfy_table::Cell;
use serde_json::json;

use crate::control::capacity::{NODES_MAX, smallest, tail};
use crate::picture::{Line, Plot, plot_svg};

use super::Context;
use super::args::{Format, duration};
use super::exit::Failure;
use super::grid::{grid, grouped};
use super::output::Output;
use super::status::{loss_text, reserve_json};

/// The confidences of the table.
const CONFIDENCES: [f64; 5] = [0.9, 0.95, 0.99, 0.999, 0.9999];
/// The picture ends where more are needed this rarely, in percent.
const PERCENT_MIN: f64 = 0.001;

const EXAMPLES: &str = "\
Examples:
  kvctl capacity --nodes 1000 --p 0.005                 11, though only 5 are gone on average
  kvctl capacity --nodes 1000 --mtbf 365d --repair 2d   p = repair / (mtbf + repair)
  kvctl capacity --running                              of the cluster that is there

Each node is taken to fail by itself: what racks, switches and versions take down together is not in it.";

/// `kvctl capacity`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CapacityArgs {
    /// Ask the running cluster: how many should be reserved, how many are, and how likely it is that all
    /// owners of some partition are gone at once
    #[arg(long, conflicts_with_all = ["nodes", "p", "mtbf", "repair", "confidence", "svg"])]
    running: bool,
    /// How many nodes there are, 1..1000000
    #[arg(long, value_name = "N", required_unless_present = "running", value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u32>,
    /// The probability that a node is gone at some moment, 0..1
    #[arg(long, value_name = "P", required_unless_present_any = ["mtbf", "running"], conflicts_with_all = ["mtbf", "repair"])]
    p: Option<f64>,
    /// Instead: how long a node runs from a repair to the next failure, on average
    #[arg(long, value_name = "D", value_parser = duration, requires = "repair")]
    mtbf: Option<Duration>,
    /// How long it is gone then
    #[arg(long, value_name = "D", value_parser = duration, requires = "mtbf")]
    repair: Option<Duration>,
    /// How often the reserve is to be enough, above 0 and below 1
    #[arg(long, value_name = "C", default_value_t = 0.99)]
    confidence: f64,
    /// Write a picture of how often each reserve is not enough to this file; - for stdout
    #[arg(long, value_name = "FILE")]
    svg: Option<String>,
}

/// Shows how many to reserve.
pub(crate) async fn run(
    context: &Context<'_>,
    args: &CapacityArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    if args.running { running(context, output).await } else { planned(args, output) }
}

/// What the cluster says of itself.
async fn running(context: &Context<'_>, output: &mut Output) -> Result<(), Failure> {
    let status = context.client()?.status().await?;
    let Some(reserve) = status.reserve else {
        return Err(Failure::usage(format!("{} is too old to tell", status.me)));
    };
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&reserve_json(&reserve)),
        Format::Plain => output.line(&format!(
            "{}\t{}\t{}\t{:e}\t{:e}",
            reserve.members, reserve.needed, reserve.present, reserve.loss_low, reserve.loss_high
        )),
        Format::Table => {
            output.line(&format!(
                "Reserve {} for {} nodes: {} are reserved and answer",
                grouped(reserve.needed.into()),
                grouped(reserve.members.into()),
                grouped(reserve.present.into())
            ))?;
            output.line(&format!(
                "(p = {:.6}, enough {} of the time)",
                reserve.p,
                percent(reserve.confidence)
            ))?;
            let loss = loss_text(&reserve);
            output.line(&format!("All owners of some partition are gone at once: {loss}"))?;
            if reserve.present < reserve.needed {
                output.line("warning: too few nodes are reserved")?;
            }
            Ok(())
        }
    }
}

fn planned(args: &CapacityArgs, output: &mut Output) -> Result<(), Failure> {
    let nodes = args.nodes.unwrap_or(0);
    let p = match (args.p, args.mtbf, args.repair) {
        (Some(p), ..) => p,
        (None, Some(mtbf), Some(repair)) => {
            repair.as_secs_f64() / (mtbf.as_secs_f64() + repair.as_secs_f64())
        }
        _ => return Err(Failure::usage("--p, or --mtbf and --repair, are needed")),
    };
    if !(0.0..=1.0).contains(&p) {
        return Err(Failure::usage("--p is in 0..1"));
    }
    if !(args.confidence > 0.0 && args.confidence < 1.0) {
        return Err(Failure::usage("--confidence is above 0 and below 1"));
    }
    let tail = tail(nodes, p);
    let reserve = smallest(&tail, args.confidence);
    let expected = f64::from(nodes) * p;
    match args.svg.as_deref() {
        Some("-") => return output.bytes(picture(args, p, &tail).as_bytes()),
        Some(path) => {
            let unwritable = |error| Failure::usage(format!("--svg: cannot write {path}: {error}"));
            std::fs::write(path, picture(args, p, &tail)).map_err(unwritable)?;
            output.note(&format!("the picture is in {path}"));
        }
        None => {}
    }
    let table = CONFIDENCES.map(|confidence| (confidence, smallest(&tail, confidence)));
    match output.format() {
        Format::Json | Format::Jsonl => {
            let row =
                |(confidence, reserve)| json!({ "confidence": confidence, "reserve": reserve });
            output.json(&json!({
                "nodes": nodes, "p": p, "confidence": args.confidence,
                "reserve": reserve, "expected": expected,
                "table": table.map(row),
            }))
        }
        Format::Plain => output.line(&reserve.to_string()),
        Format::Table => {
            output.line(&format!(
                "Reserve {} of {} nodes: more are gone at once less than {} of the time",
                grouped(reserve.into()),
                grouped(nodes.into()),
                percent(1.0 - args.confidence)
            ))?;
            output.line(&format!("{expected:.2} are gone on average (p = {p:.6})\n"))?;
            let row = |(confidence, reserve): (f64, u32)| {
                vec![Cell::new(percent(confidence)), Cell::new(grouped(reserve.into()))]
            };
            let rows = table.map(row).to_vec();
            let text = grid(&["ENOUGH", "RESERVE"], 0, rows, output.color());
            output.bytes(text.as_bytes())
        }
    }
}

/// A fraction in percent, without digits that rounding made.
fn percent(fraction: f64) -> String {
    let rounded = (fraction * 1e8).round() / 1e6;
    format!("{rounded} %")
}

fn picture(args: &CapacityArgs, p: f64, tail: &[f64]) -> String {
    let points = (0u32..).map(f64::from).zip(tail.iter().map(|beyond| beyond * 100.0));
    let mark = |confidence: f64| {
        let reserve = smallest(tail, confidence);
        (f64::from(reserve), format!("{reserve}: {}", percent(confidence)))
    };
    let line = Line {
        name: "not enough".to_owned(),
        points: points.take_while(|(_, percent)| *percent > PERCENT_MIN).collect(),
    };
    plot_svg(&Plot {
        title: format!(
            "How often a reserve is not enough: {} nodes, p = {p:.6}",
            args.nodes.unwrap_or(0)
        ),
        x_label: "nodes reserved".to_owned(),
        y_label: "% of the time".to_owned(),
        is_log: true,
        lines: vec![line],
        marks: vec![mark(args.confidence)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_have_no_digits_that_rounding_made() {
        assert_eq!(percent(1.0 - 0.99), "1 %");
        assert_eq!(percent(1.0 - 0.9999), "0.01 %");
        assert_eq!(percent(0.999), "99.9 %");
    }
}
