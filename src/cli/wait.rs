//! `kvctl wait`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::client::{Client, Clock, NodeStatus, Status};

use super::Context;
use super::exit::Failure;
use super::output::Output;
use super::{hints, repair};

const TIMEOUT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(200);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// `kvctl wait`
#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// ready: every partition has a live quorum; nodes=N: at least N nodes serve; settled: no plan is
    /// carried out; no-hints: every node says that it keeps nothing for others; converged: all owners of
    /// all units have been found equal since the command began
    #[arg(long = "for", value_name = "WHAT", value_parser = condition)]
    what: Condition,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Ready,
    Nodes(usize),
    NoHints,
    Settled,
    Converged,
}

fn condition(text: &str) -> Result<Condition, String> {
    match text {
        "ready" => Ok(Condition::Ready),
        "settled" => Ok(Condition::Settled),
        "no-hints" => Ok(Condition::NoHints),
        "converged" => Ok(Condition::Converged),
        other => match other.strip_prefix("nodes=").map(str::parse) {
            Some(Ok(count)) => Ok(Condition::Nodes(count)),
            _ => Err("it is none of ready, settled, no-hints, converged, nodes=N".to_owned()),
        },
    }
}

impl Condition {
    /// Whether it holds; if not, what is missing.
    fn holds(self, status: &Status) -> Result<(), String> {
        let serving = |node: &&NodeStatus| node.state == "alive" && node.serving;
        let up = status.nodes.iter().filter(serving).count();
        match self {
            Condition::Ready if status.epoch.0 == 0 => Err("the cluster is not founded".to_owned()),
            Condition::Ready if status.unavailable.is_empty() => Ok(()),
            Condition::Ready => {
                let (lost, all) = (status.unavailable.len(), status.partitions);
                Err(format!("{lost} of {all} partitions lack a live quorum"))
            }
            Condition::Nodes(wanted) if up >= wanted => Ok(()),
            Condition::Nodes(wanted) => Err(format!("{up} of {wanted} nodes serve")),
            // Asked in other ways.
            Condition::NoHints | Condition::Settled | Condition::Converged => Ok(()),
        }
    }
}

/// Waits until the cluster is as wanted.
pub(crate) async fn run(
    context: &Context<'_>,
    args: WaitArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let client = context.client()?;
    let clock = Clock::start();
    let limit = context.global.timeout.unwrap_or(TIMEOUT);
    let mut missing = "no answer yet".to_owned();
    let waited = tokio::time::timeout(limit, poll(context, &client, args.what, &mut missing)).await;
    if waited.is_err() {
        let limit = humantime::format_duration(limit);
        return Err(Failure::deadline(format!("not so after {limit}: {missing}")));
    }
    let seconds = Duration::from_nanos(clock.now().0).as_secs_f64();
    if output.format().is_json() { output.json(&json!({ "seconds": seconds })) } else { Ok(()) }
}

async fn poll(context: &Context<'_>, client: &Client, what: Condition, missing: &mut String) {
    let mut runs = repair::Runs::default();
    loop {
        let holds = match what {
            Condition::NoHints => no_hints(context).await,
            Condition::Settled => settled(client).await,
            Condition::Converged => runs.converged(context).await,
            Condition::Ready | Condition::Nodes(_) => {
                let status = client.status().timeout(ASK_TIMEOUT).await;
                status.map_err(|error| error.to_string()).and_then(|status| what.holds(&status))
            }
        };
        match holds {
            Ok(()) => return,
            Err(why) => *missing = why,
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether no plan is carried out. Units move by plans alone, and a plan ends with its last move.
async fn settled(client: &Client) -> Result<(), String> {
    let topology = client.plans().show().timeout(ASK_TIMEOUT).await;
    match topology.map_err(|error| error.to_string())?.running {
        None => Ok(()),
        Some(plan) => {
            let (done, total) = (plan.done, plan.total);
            Err(format!("{done} of the {total} moves of the plan are done"))
        }
    }
}

/// Whether every node says so itself: what others have heard of it may be old.
async fn no_hints(context: &Context<'_>) -> Result<(), String> {
    match hints::count(context).await? {
        0 => Ok(()),
        count => Err(format!("{count} hints are not home")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        assert_eq!(condition("ready"), Ok(Condition::Ready));
        assert_eq!(condition("nodes=3"), Ok(Condition::Nodes(3)));
        assert_eq!(condition("settled"), Ok(Condition::Settled));
        assert_eq!(condition("converged"), Ok(Condition::Converged));
        for bad in ["", "nodes=", "nodes=x", "nodes", "Ready"] {
            assert!(condition(bad).is_err(), "{bad}");
        }
    }
}
