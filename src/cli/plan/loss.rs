//! `kvctl plan accept-loss`: goes on with units without copies that are gone for good.

use core::time::Duration;
use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use serde_json::json;

use crate::client::{Error, NodeName, Plans, StuckLine, Topology, Unit};
use crate::types::{ClassId, Partition, limits};

use super::super::Context;
use super::super::exit::Failure;
use super::super::output::{self, Output};

/// How often it is looked again.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long units may be stuck on somebody else before it is given up.
const PATIENCE: u32 = 60;
/// Units that are listed before it is asked.
const LISTED_MAX: usize = 16;

/// `kvctl plan accept-loss`
#[derive(Args, Debug)]
pub(crate) struct LossArgs {
    /// The units, as `plan status` names them: CLASS/PARTITION
    #[arg(value_name = "UNIT", value_parser = unit, required_unless_present = "all")]
    units: Vec<Unit>,
    /// All units that are stuck on these members, and no others
    #[arg(long, conflicts_with = "units")]
    all: bool,
    /// The members that are gone for good: what they alone held is lost
    #[arg(long, value_name = "NAME", required = true, value_delimiter = ',')]
    gone: Vec<NodeName>,
    /// Go on until the plan has ended, with every unit that gets stuck on these members
    #[arg(long, requires = "all")]
    follow: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Reads CLASS/PARTITION.
fn unit(text: &str) -> Result<Unit, String> {
    let parts = text.split_once('/');
    let parsed = parts.and_then(|(class, partition)| {
        let (class, partition) = (class.parse().ok()?, partition.parse().ok()?);
        Some(Unit { class: ClassId(class), partition: Partition(partition) })
    });
    parsed.ok_or_else(|| "a unit is CLASS/PARTITION, as `plan status` names it".to_owned())
}

/// Gives copies up.
pub(super) async fn run(
    context: &Context<'_>,
    args: LossArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let plans = context.client()?.plans();
    let topology = plans.show().await?;
    let units = match args.all {
        true => on_them(&topology.stuck, &args.gone),
        false => args.units.clone(),
    };
    if units.is_empty() && !args.follow {
        let names = names(&args.gone);
        return Err(Failure::plan_conflict(format!("no unit is stuck on {names} alone")));
    }
    confirm(&units, &args)?;
    let mut given_up = 0;
    let mut epoch = topology.epoch;
    for some in units.chunks(limits::LOSS_UNITS_MAX) {
        epoch = plans.accept_loss(some.to_vec(), args.gone.clone()).await?.epoch;
        given_up += some.len();
    }
    if args.follow {
        given_up += follow(&plans, &args.gone).await?;
    }
    if output.format().is_json() {
        let gone: Vec<&str> = args.gone.iter().map(NodeName::as_str).collect();
        let units: Vec<String> = units.iter().map(ToString::to_string).collect();
        return output.json(&json!({
            "gone": gone, "units": units, "accepted": given_up, "epoch": epoch.0,
        }));
    }
    output.line(&format!("{given_up} units go on without {}", names(&args.gone)))
}

/// Goes on with whatever gets stuck on these members until no plan is carried out and nothing is stuck.
/// Returns how many units that were.
async fn follow(plans: &Plans, gone: &[NodeName]) -> Result<usize, Failure> {
    let (mut given_up, mut idle) = (0, 0);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Topology { stuck, running, .. } = match plans.show().await {
            Ok(topology) => topology,
            Err(error) if error.is_retryable() && idle < PATIENCE => {
                idle += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if running.is_none() && stuck.is_empty() {
            return Ok(given_up);
        }
        let units = on_them(&stuck, gone);
        if units.is_empty() && !stuck.is_empty() {
            idle += 1;
            if idle >= PATIENCE {
                return Err(on_others(&stuck));
            }
            continue;
        }
        for some in units.chunks(limits::LOSS_UNITS_MAX) {
            match plans.accept_loss(some.to_vec(), gone.to_vec()).await {
                Ok(_) => (given_up, idle) = (given_up + some.len(), 0),
                // Something has gone on since it was looked.
                Err(error) if is_stale(&error) && idle < PATIENCE => idle += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_stale(error: &Error) -> bool {
    matches!(error.code(), "PLAN_INVALID" | "PLAN_CONFLICT") || error.is_retryable()
}

fn on_others(stuck: &[StuckLine]) -> Failure {
    let first = stuck.first().map_or_else(String::new, |line| {
        format!(": unit {} waits for {}", line.unit, names(&line.waits_for))
    });
    Failure::unavailable(format!("{} units are stuck on other members{first}", stuck.len()))
}

/// The units that wait for nobody who is down but these.
fn on_them(stuck: &[StuckLine], gone: &[NodeName]) -> Vec<Unit> {
    let theirs = stuck.iter().filter(|line| line.down.iter().all(|name| gone.contains(name)));
    theirs.map(|line| line.unit).collect()
}

fn names(names: &[NodeName]) -> String {
    names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

fn confirm(units: &[Unit], args: &LossArgs) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to be asked: say --yes to accept the loss"));
    }
    let mut list: Vec<String> = units.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    if units.len() > list.len() {
        list.push(format!("and {} more", units.len() - list.len()));
    }
    let (list, gone) = (list.join(", "), names(&args.gone));
    let later = if args.follow { ", and units that get stuck later" } else { "" };
    output::error_line(&format!(
        "Of these units: {list}{later}, what {gone} alone held is lost, acknowledged writes included. \
         A disk of theirs that comes back is emptied for these units. Type the names of the members \
         to go on:"
    ));
    let mut typed = String::new();
    let read = io::stdin().lock().read_line(&mut typed);
    read.map_err(|error| Failure::internal(format!("cannot read the answer: {error}")))?;
    let typed: Vec<&str> =
        typed.split([',', ' ']).map(str::trim).filter(|n| !n.is_empty()).collect();
    let wanted: Vec<&str> = args.gone.iter().map(NodeName::as_str).collect();
    match typed == wanted {
        true => Ok(()),
        false => Err(Failure::usage("no loss was accepted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_written_as_it_is_shown() {
        let shown = Unit { class: ClassId(1), partition: Partition(30) };
        assert_eq!(unit(&shown.to_string()), Ok(shown));
        for bad in ["", "3", "0/", "/3", "a/3", "0/70000", "0/3/1"] {
            assert!(unit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_units_that_wait_for_nobody_else_are_taken() {
        let line = |partition, down: &[&str]| StuckLine {
            unit: Unit { class: ClassId(0), partition: Partition(partition) },
            why: String::new(),
            waits_for: down.iter().map(|name| name.parse().unwrap()).collect(),
            down: down.iter().map(|name| name.parse().unwrap()).collect(),
        };
        let stuck = [line(1, &["n2"]), line(2, &["n2", "n3"]), line(3, &["n4"])];
        let units = |gone: &[&str]| {
            let gone: Vec<NodeName> = gone.iter().map(|name| name.parse().unwrap()).collect();
            on_them(&stuck, &gone).iter().map(|unit| unit.partition.0).collect::<Vec<_>>()
        };
        assert_eq!((units(&["n2"]), units(&["n2", "n3"])), (vec![1], vec![1, 2]));
    }
}
