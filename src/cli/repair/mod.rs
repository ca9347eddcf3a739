//! `kvctl repair`: comparisons of the owners of units, out of turn; how far they are; what differs.

mod map;
mod runs;
mod show;

use core::time::Duration;
use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::{Client, NodeStatus, Repair};

use super::Context;
use super::exit::Failure;
use super::output::Output;
use super::stores::addresses;

pub(crate) use runs::Runs;

const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// `kvctl repair`
#[derive(Debug, Subcommand)]
pub(crate) enum RepairCommand {
    /// Compare now, out of turn
    Start(StartArgs),
    /// Show how far comparisons are
    Status(StatusArgs),
    /// Call off what was started; the schedule goes on
    Cancel,
}

/// `kvctl repair start`
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Only these partitions, the last included
    #[arg(long, value_name = "FIRST..LAST", value_parser = partitions)]
    range: Option<(u32, u32)>,
    /// Only this node, with all other owners of its units
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Wait until all of it has been found equal
    #[arg(long)]
    wait: bool,
}

/// `kvctl repair status`
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Show it again and again
    #[arg(long)]
    watch: bool,
    /// Show a map: a row for each two owners, a column for each unit
    #[arg(long)]
    map: bool,
    /// Draw the map into this file, or - for stdout
    #[arg(long, value_name = "FILE", conflicts_with = "watch")]
    svg: Option<String>,
}

fn partitions(text: &str) -> Result<(u32, u32), String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no partition"));
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err(format!("{first} is above {last}")) } else { Ok((first, last)) }
}

/// What each node has answered.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) told: BTreeMap<String, Repair>,
    pub(crate) failed: Vec<(String, Failure)>,
}

impl Answers {
    fn failed_json(&self) -> Vec<serde_json::Value> {
        let failed = self.failed.iter();
        failed.map(|(name, why)| json!({ "node": name, "error": why.to_string() })).collect()
    }

    fn finish(self, output: &mut Output) -> Result<(), Failure> {
        let (count, all) = (self.failed.len(), self.failed.len() + self.told.len());
        let mut last = None;
        for (name, failure) in self.failed {
            output.note(&format!("{name}: {failure}"));
            last = Some(failure);
        }
        match last {
            None => Ok(()),
            Some(failure) if self.told.is_empty() => Err(failure),
            Some(_) => Err(Failure::partial(format!("{count} of {all} nodes did not answer"))),
        }
    }
}

/// A client for each node, or for one.
pub(crate) async fn clients(
    context: &Context<'_>,
    only: Option<&str>,
) -> Result<Vec<(String, Result<Client, Failure>)>, Failure> {
    let status = context.client()?.status().await?;
    let chosen = |node: &&NodeStatus| match only {
        Some(name) => node.name == name,
        None => node.state != "left",
    };
    let nodes = status.nodes.iter().filter(chosen).collect::<Vec<_>>();
    if let (Some(name), []) = (only, nodes.as_slice()) {
        return Err(Failure::usage(format!("there is no node {name:?}")));
    }
    let addresses = addresses(context, &nodes).await?;
    let client = |node: &&NodeStatus| {
        let unknown = || Failure::unavailable(format!("{}: its address is not known", node.name));
        let address = addresses.get(&node.name).ok_or_else(unknown);
        (node.name.clone(), address.and_then(|address| context.client_over([address])))
    };
    Ok(nodes.iter().map(client).collect())
}

/// Asks each of them the same.
pub(crate) async fn ask(
    clients: &[(String, Result<Client, Failure>)],
    request: impl Fn(&Client) -> crate::client::RepairRequest,
) -> Answers {
    let mut answers = Answers::default();
    for (name, client) in clients {
        let answer = match client {
            Ok(client) => request(client).await.map_err(Failure::from),
            Err(failure) => Err(Failure::unavailable(failure.to_string())),
        };
        match answer {
            Ok(told) => drop(answers.told.insert(name.clone(), told)),
            Err(failure) => answers.failed.push((name.clone(), failure)),
        }
    }
    answers
}

/// Starts, shows or calls off comparisons.
pub(crate) async fn run(
    context: &Context<'_>,
    command: RepairCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        RepairCommand::Start(args) => runs::start(context, args, output).await,
        RepairCommand::Cancel => {
            let answers = ask(&clients(context, None).await?, Client::cancel_repair).await;
            if output.format().is_json() {
                let nodes: Vec<&String> = answers.told.keys().collect();
                output.json(&json!({ "cancelled": nodes, "failed": answers.failed_json() }))?;
            } else {
                let mut names = answers.told.keys();
                names.try_for_each(|name| output.line(&format!("cancelled {name}")))?;
            }
            answers.finish(output)
        }
        RepairCommand::Status(args) => loop {
            let with_pairs = args.map || args.svg.is_some();
            let status = |client: &Client| {
                let request = client.repair_status();
                if with_pairs { request.pairs() } else { request }
            };
            let answers = ask(&clients(context, None).await?, status).await;
            if let Some(path) = args.svg.as_deref() {
                return map::draw(&answers, path, output);
            }
            if args.watch && output.is_terminal() {
                // From the top, over what was there.
                output.bytes(b"\x1b[H\x1b[2J")?;
            }
            show::status(&answers, args.map, output)?;
            if !args.watch {
                return answers.finish(output);
            }
            output.finish()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read() {
        assert_eq!(partitions("3..7"), Ok((3, 7)));
        assert_eq!(partitions("3"), Ok((3, 3)));
        for bad in ["", "..", "7..3", "a..b", "3..", "-1..2"] {
            assert!(partitions(bad).is_err(), "{bad}");
        }
    }
}
