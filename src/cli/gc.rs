//! `kvctl gc`: deletes and expired values that wait to be purged, and who holds them back.

use core::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use crate::client::{GcStatus, GcUnit, NodeStatus};

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::output::Output;
use super::stores::addresses;

/// `kvctl gc`
#[derive(Debug, Subcommand)]
pub(crate) enum GcCommand {
    /// Show what each node keeps, what waits, and for whom
    Status(StatusArgs),
}

/// `kvctl gc status`
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Only what this node keeps; all nodes when left out
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// What the nodes have answered.
struct Answers {
    told: Vec<(String, GcStatus)>,
    failed: Vec<(String, Failure)>,
}

/// Shows deletes that wait.
pub(crate) async fn run(
    context: &Context<'_>,
    command: GcCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let GcCommand::Status(StatusArgs { node }) = command;
    let answers = ask(context, node).await?;
    show(&answers, output)?;
    for (name, failure) in &answers.failed {
        output.note(&format!("{name}: {failure}"));
    }
    let (count, all) = (answers.failed.len(), answers.failed.len() + answers.told.len());
    match answers.failed.into_iter().next() {
        None => Ok(()),
        Some((_, failure)) if answers.told.is_empty() => Err(failure),
        Some(_) => Err(Failure::partial(format!("{count} of {all} nodes did not answer"))),
    }
}

async fn ask(context: &Context<'_>, only: Option<String>) -> Result<Answers, Failure> {
    let status = context.client()?.status().await?;
    let chosen = |node: &&NodeStatus| match &only {
        Some(name) => node.name == *name,
        None => node.state != "left",
    };
    let nodes = status.nodes.iter().filter(chosen).collect::<Vec<_>>();
    if let (Some(name), []) = (&only, nodes.as_slice()) {
        return Err(Failure::usage(format!("there is no node {name:?}")));
    }
    let addresses = addresses(context, &nodes).await?;
    let mut answers = Answers { told: Vec::new(), failed: Vec::new() };
    for node in nodes {
        let answer = match addresses.get(&node.name) {
            Some(address) => {
                let client = context.client_over([address])?;
                client.gc_status().await.map_err(Failure::from)
            }
            None => Err(Failure::unavailable(format!("{}: its address is not known", node.name))),
        };
        match answer {
            Ok(told) => answers.told.push((node.name.clone(), told)),
            Err(failure) => answers.failed.push((node.name.clone(), failure)),
        }
    }
    Ok(answers)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unit_json(line: &GcUnit) -> Json {
    json!({
        "class": line.class,
        "partition": line.partition,
        "deletes": line.deletes,
        "oldest_age_ms": millis(line.oldest_age),
        "floor_ns": line.floor_ns,
        "blocked_by": line.blocked_by,
    })
}

fn json_of(name: &str, gc: &GcStatus) -> Json {
    let blockers = gc.blockers.iter().map(
        |blocker| json!({ "member": blocker.member, "why": blocker.why, "units": blocker.units }),
    );
    json!({
        "node": name,
        "deletes": gc.deletes,
        "units": gc.units,
        "more": gc.more,
        "slack_ms": millis(gc.slack),
        "waiting_units": gc.waiting_units,
        "oldest_age_ms": millis(gc.oldest_age),
        "purged": gc.purged,
        "blockers": blockers.collect::<Vec<_>>(),
        "waiting": gc.waiting.iter().map(unit_json).collect::<Vec<_>>(),
    })
}

fn show(answers: &Answers, output: &mut Output) -> Result<(), Failure> {
    if output.format().is_json() {
        let nodes = answers.told.iter().map(|(name, gc)| json_of(name, gc));
        let failed = answers.failed.iter();
        let failed = failed.map(|(name, why)| json!({ "node": name, "error": why.to_string() }));
        return output.json(&json!({
            "nodes": nodes.collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>(),
        }));
    }
    let plain = output.format() == Format::Plain;
    for (name, gc) in &answers.told {
        if plain {
            let age = millis(gc.oldest_age);
            let GcStatus { deletes, units, waiting_units, purged, .. } = gc;
            output
                .line(&format!("{name}\t{deletes}\t{units}\t{waiting_units}\t{age}\t{purged}"))?;
            continue;
        }
        let least = if gc.more { "at least " } else { "" };
        output.line(&format!(
            "{name} keeps {least}{} deletes and values that expire, in {} units; {} purged since it \
             started",
            gc.deletes, gc.units, gc.purged
        ))?;
        if gc.waiting_units > 0 {
            let seconds = |duration: Duration| {
                humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
            };
            output.line(&format!(
                "  {} units have some that are older than {} (the oldest {})",
                gc.waiting_units,
                seconds(gc.slack),
                seconds(gc.oldest_age)
            ))?;
        }
        for blocker in &gc.blockers {
            let (member, why, units) = (&blocker.member, &blocker.why, blocker.units);
            output.line(&format!("  {units} units wait for {member}: it {why}"))?;
        }
    }
    Ok(())
}
