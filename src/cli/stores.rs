//! `kvctl flush` and `kvctl compact`: work that each node's store does for itself.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use crate::client::NodeStatus;

use super::Context;
use super::exit::Failure;
use super::output::Output;

/// What the stores are to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Write memtables out.
    Flush,
    /// Write memtables out and merge all tables.
    Compact,
}

impl Task {
    /// What has been done to a node.
    fn done(self) -> &'static str {
        match self {
            Self::Flush => "flushed",
            Self::Compact => "compacted",
        }
    }
}

/// `kvctl flush` and `kvctl compact`
#[derive(Args, Debug)]
pub(crate) struct NodesArgs {
    /// Only this node; all nodes that are up when left out
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Has every chosen node do its task, one after the other, so that a cluster is never busy with
/// itself everywhere at once.
pub(crate) async fn run(
    context: &Context<'_>,
    task: Task,
    args: NodesArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let status = context.client()?.status().await?;
    let chosen = |node: &&NodeStatus| match &args.node {
        Some(name) => node.name == *name,
        None => node.state != "left",
    };
    let nodes = status.nodes.iter().filter(chosen).collect::<Vec<_>>();
    if let (Some(name), []) = (&args.node, nodes.as_slice()) {
        return Err(Failure::usage(format!("there is no node {name:?}")));
    }
    let addresses = addresses(context, &nodes).await?;
    let (mut done, mut failed, mut last) = (Vec::new(), Vec::new(), None);
    for node in &nodes {
        match ask(context, task, node, &addresses).await {
            Ok(()) => done.push(node.name.clone()),
            Err((failure, error)) => {
                output.note(&format!("{}: {error}", node.name));
                failed.push(json!({ "node": node.name, "error": error }));
                last = Some(failure);
            }
        }
    }
    if output.format().is_json() {
        output.json(&json!({ task.done(): done, "failed": failed }))?;
    } else {
        done.iter().try_for_each(|name| output.line(&format!("{} {name}", task.done())))?;
    }
    match last {
        None => Ok(()),
        Some(failure) if done.is_empty() => Err(failure),
        Some(_) => {
            let (failed, all) = (failed.len(), nodes.len());
            let what = task.done();
            Err(Failure::partial(format!("{failed} of {all} nodes were not {what}")))
        }
    }
}

/// Where each node listens for clients. Word of a young node's address may not have reached the
/// one that was asked; then those on the command line are asked who they are.
pub(crate) async fn addresses(
    context: &Context<'_>,
    nodes: &[&NodeStatus],
) -> Result<BTreeMap<String, String>, Failure> {
    let told = nodes.iter().filter(|node| !node.address.is_empty());
    let told = told.map(|node| (node.name.clone(), node.address.clone()));
    let mut addresses: BTreeMap<String, String> = told.collect();
    if addresses.len() < nodes.len() {
        for endpoint in &context.global.endpoints {
            if let Ok(status) = context.client_over([endpoint])?.status().await {
                addresses.entry(status.me).or_insert_with(|| endpoint.clone());
            }
        }
    }
    Ok(addresses)
}

async fn ask(
    context: &Context<'_>,
    task: Task,
    node: &NodeStatus,
    addresses: &BTreeMap<String, String>,
) -> Result<(), (Failure, String)> {
    let Some(address) = addresses.get(&node.name) else {
        let why = "its address is not known".to_owned();
        return Err((Failure::unavailable(format!("{}: {why}", node.name)), why));
    };
    let client = context.client_over([address]).map_err(|failure| {
        let why = format!("its address {address:?} is of no use");
        (failure, why)
    })?;
    let answer = match task {
        Task::Flush => client.flush().await,
        Task::Compact => client.compact().await,
    };
    answer.map_err(|error| {
        let why = error.to_string();
        (error.into(), why)
    })
}
