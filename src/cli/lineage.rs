//! `kvctl lineage`: begins a new history when the majority of the council is gone for good.

use std::io::{self, BufRead, IsTerminal};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::NodeName;

use super::Context;
use super::exit::Failure;
use super::output::{self, Output};

/// `kvctl lineage`
#[derive(Debug, Subcommand)]
pub(crate) enum LineageCommand {
    /// Go on from what one node knows, without the council's majority
    Force(ForceArgs),
}

/// `kvctl lineage force`
#[derive(Args, Debug)]
pub(crate) struct ForceArgs {
    /// The members that are gone for good: they are never accepted again
    #[arg(long, value_name = "NAME", required = true, value_delimiter = ',')]
    gone: Vec<NodeName>,
    /// The cluster's name, in the place of being asked for it
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

/// Forces a lineage at the one node that was named.
pub(crate) async fn run(
    context: &Context<'_>,
    command: LineageCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let LineageCommand::Force(args) = command;
    if context.global.endpoints.len() != 1 {
        return Err(Failure::usage(
            "a lineage is forced at one node: name it with -e, the one that knows the newest epoch",
        ));
    }
    let cluster = match args.cluster {
        Some(cluster) => cluster,
        None => ask(&args.gone)?,
    };
    let client = context.client()?;
    let forced = client.force_lineage(cluster, args.gone.clone()).await?;
    let gone: Vec<&str> = args.gone.iter().map(NodeName::as_str).collect();
    if output.format().is_json() {
        return output.json(&json!({
            "lineage": forced.lineage,
            "epoch": forced.epoch.0,
            "council": forced.council,
            "gone": gone,
        }));
    }
    let council = forced.council.join(", ");
    output.line(&format!(
        "lineage {}, epoch {}: {council} decide now, without {}",
        forced.lineage,
        forced.epoch,
        gone.join(", ")
    ))?;
    output.note("replace those that are gone: kvctl node replace OLD NEW, kvctl plan show");
    Ok(())
}

fn ask(gone: &[NodeName]) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to be asked: name the cluster with --cluster"));
    }
    let gone = gone.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    output::error_line(&format!(
        "{gone} will never be accepted again, and what was decided without this node's hearing of it is \
         forgotten. Do this at one node only. Type the name of the cluster to go on:"
    ));
    let mut typed = String::new();
    let read = io::stdin().lock().read_line(&mut typed);
    read.map_err(|error| Failure::internal(format!("cannot read the answer: {error}")))?;
    Ok(typed.trim().to_owned())
}
