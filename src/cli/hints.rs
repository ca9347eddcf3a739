//! `kvctl hints`: what each node keeps for owners that were away.

use std::io::{self, BufRead, IsTerminal};

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use crate::client::{Client, HintLine, HintTotals, Hints, NodeStatus};

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::output::{self, Output};
use super::stores::addresses;

/// `kvctl hints`
#[derive(Debug, Subcommand)]
pub(crate) enum HintsCommand {
    /// Show what each node holds, for whom, and what is dirty
    List(HoldersArgs),
    /// Hand hints back now, without waiting for the next try
    Replay(ReplayArgs),
    /// Give up all hints for a node, those in custody included
    Drop(DropArgs),
}

/// Which holders.
#[derive(Args, Debug)]
pub(crate) struct HoldersArgs {
    /// Only what this node holds; all nodes when left out
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// `kvctl hints replay`
#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    holders: HoldersArgs,
    /// Only hints for this node
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// `kvctl hints drop`
#[derive(Args, Debug)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    holders: HoldersArgs,
    /// The node whose hints are given up
    #[arg(long, value_name = "NAME")]
    target: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What is asked of each holder.
#[derive(Clone, Debug)]
enum Task {
    List,
    Replay(Option<String>),
    Drop(String),
}

/// What the holders have answered.
struct Answers {
    held: Vec<(String, Hints)>,
    failed: Vec<(String, Failure)>,
}

/// Shows, hands back or gives up hints.
pub(crate) async fn run(
    context: &Context<'_>,
    command: HintsCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        HintsCommand::List(holders) => {
            let answers = ask(context, holders, Task::List).await?;
            show_list(&answers, output)?;
            answers.finish(output)
        }
        HintsCommand::Replay(ReplayArgs { holders, target }) => {
            let answers = ask(context, holders, Task::Replay(target)).await?;
            show_touched("replaying", &answers, output)?;
            answers.finish(output)
        }
        HintsCommand::Drop(DropArgs { holders, target, yes }) => {
            confirm(&target, yes)?;
            let answers = ask(context, holders, Task::Drop(target)).await?;
            let lost: u64 = answers.held.iter().map(|(_, hints)| hints.touched.custody).sum();
            if lost > 0 {
                output.note(&format!(
                    "note: {lost} of them were in custody: writes that were acknowledged may be lost \
                     unless another owner has them"
                ));
            }
            show_touched("dropped", &answers, output)?;
            answers.finish(output)
        }
    }
}

fn confirm(target: &str, yes: bool) -> Result<(), Failure> {
    if yes || !io::stdin().is_terminal() {
        return Ok(());
    }
    output::error_line(&format!(
        "Dropping the hints for {target} gives up writes it has missed, those in custody included; \
         their units are marked dirty. Type its name to go on:"
    ));
    let mut typed = String::new();
    let read = io::stdin().lock().read_line(&mut typed);
    read.map_err(|error| Failure::internal(format!("cannot read the answer: {error}")))?;
    if typed.trim() == target {
        Ok(())
    } else {
        Err(Failure::usage(format!("the hints for {target} were not dropped")))
    }
}

async fn ask(context: &Context<'_>, holders: HoldersArgs, task: Task) -> Result<Answers, Failure> {
    let status = context.client()?.status().await?;
    let target = match &task {
        Task::List | Task::Replay(None) => None,
        Task::Replay(Some(target)) | Task::Drop(target) => Some(target),
    };
    let known = |name: &String| {
        // The number of a member that is gone is a name as well.
        status.nodes.iter().any(|node| node.name == *name) || name.parse::<u32>().is_ok()
    };
    if let Some(target) = target.filter(|target| !known(target)) {
        return Err(Failure::usage(format!("there is no node {target:?}")));
    }
    // Nobody keeps hints for itself, and the target may well be down.
    let chosen = |node: &&NodeStatus| match &holders.node {
        Some(name) => node.name == *name,
        None => node.state != "left" && target != Some(&node.name),
    };
    let nodes = status.nodes.iter().filter(chosen).collect::<Vec<_>>();
    if let (Some(name), []) = (&holders.node, nodes.as_slice()) {
        return Err(Failure::usage(format!("there is no node {name:?}")));
    }
    let addresses = addresses(context, &nodes).await?;
    let mut answers = Answers { held: Vec::new(), failed: Vec::new() };
    for node in nodes {
        let answer = match addresses.get(&node.name) {
            Some(address) => ask_one(&context.client_over([address])?, &task).await,
            None => Err(Failure::unavailable(format!("{}: its address is not known", node.name))),
        };
        match answer {
            Ok(hints) => answers.held.push((node.name.clone(), hints)),
            Err(failure) => answers.failed.push((node.name.clone(), failure)),
        }
    }
    Ok(answers)
}

async fn ask_one(client: &Client, task: &Task) -> Result<Hints, Failure> {
    let answer = match task {
        Task::List => client.hints().await,
        Task::Replay(None) => client.replay_hints().await,
        Task::Replay(Some(target)) => client.replay_hints().target(target).await,
        Task::Drop(target) => client.drop_hints(target).await,
    };
    Ok(answer?)
}

impl Answers {
    /// Tells who did not answer.
    fn finish(self, output: &mut Output) -> Result<(), Failure> {
        for (name, failure) in &self.failed {
            output.note(&format!("{name}: {failure}"));
        }
        let all = self.failed.len() + self.held.len();
        let count = self.failed.len();
        match self.failed.into_iter().next() {
            None => Ok(()),
            Some((_, failure)) if self.held.is_empty() => Err(failure),
            Some(_) => Err(Failure::partial(format!("{count} of {all} nodes did not answer"))),
        }
    }

    fn failed_json(&self) -> Vec<Json> {
        let failed = self.failed.iter();
        failed.map(|(name, why)| json!({ "node": name, "error": why.to_string() })).collect()
    }
}

fn touched_json(holder: &str, totals: HintTotals) -> Json {
    json!({
        "holder": holder,
        "count": totals.count,
        "bytes": totals.bytes,
        "custody": totals.custody,
        "custody_bytes": totals.custody_bytes,
    })
}

fn line_json(holder: &str, line: &HintLine) -> Json {
    json!({
        "holder": holder,
        "target": line.target,
        "count": line.totals.count,
        "bytes": line.totals.bytes,
        "custody": line.totals.custody,
        "custody_bytes": line.totals.custody_bytes,
        "oldest_age_ms": u64::try_from(line.oldest_age.as_millis()).unwrap_or(u64::MAX),
        "replaying": line.replaying,
    })
}

fn show_list(answers: &Answers, output: &mut Output) -> Result<(), Failure> {
    let lines = || {
        answers
            .held
            .iter()
            .flat_map(|(holder, hints)| hints.lines.iter().map(move |line| (holder.as_str(), line)))
    };
    if output.format().is_json() {
        let hints = lines().map(|(holder, line)| line_json(holder, line));
        let dirty = answers.held.iter().flat_map(|(holder, hints)| {
            hints.dirty.iter().map(move |mark| {
                json!({ "holder": holder, "target": mark.target, "class": mark.class,
                        "partition": mark.partition })
            })
        });
        let marks: u64 = answers.held.iter().map(|(_, hints)| hints.dirty_count).sum();
        return output.json(&json!({
            "hints": hints.collect::<Vec<_>>(),
            "dirty": dirty.collect::<Vec<_>>(),
            "dirty_count": marks,
            "failed": answers.failed_json(),
        }));
    }
    let plain = output.format() == Format::Plain;
    for (holder, line) in lines() {
        let HintTotals { count, bytes, custody, .. } = line.totals;
        let (target, age) = (&line.target, line.oldest_age);
        let text = if plain {
            format!("{holder}\t{target}\t{count}\t{bytes}\t{custody}\t{}", age.as_millis())
        } else {
            let bytes = ByteSize(bytes).display().iec();
            let age = humantime::format_duration(std::time::Duration::from_secs(age.as_secs()));
            let now = if line.replaying { ", being handed back" } else { "" };
            format!(
                "{holder} holds {count} hints for {target} ({bytes}, {custody} in custody), the \
                 oldest {age} old{now}"
            )
        };
        output.line(&text)?;
    }
    if plain {
        return Ok(());
    }
    if lines().next().is_none() {
        output.line("no hints")?;
    }
    for (holder, hints) in answers.held.iter().filter(|(_, hints)| hints.dirty_count > 0) {
        let count = hints.dirty_count;
        output.line(&format!("{holder} has {count} dirty marks: owners that may lack writes"))?;
    }
    Ok(())
}

fn show_touched(verb: &str, answers: &Answers, output: &mut Output) -> Result<(), Failure> {
    if output.format().is_json() {
        let nodes = answers.held.iter().map(|(holder, hints)| touched_json(holder, hints.touched));
        let nodes = nodes.collect::<Vec<_>>();
        return output.json(&json!({ verb: nodes, "failed": answers.failed_json() }));
    }
    for (holder, hints) in answers.held.iter().filter(|(_, hints)| hints.touched.count > 0) {
        let HintTotals { count, custody, .. } = hints.touched;
        output.line(&format!("{verb} {count} hints of {holder} ({custody} in custody)"))?;
    }
    let none = answers.held.iter().all(|(_, hints)| hints.touched.count == 0);
    if none && answers.failed.is_empty() {
        output.line("no hints")?;
    }
    Ok(())
}

/// How many hints there are in the whole cluster, or why that cannot be said.
pub(crate) async fn count(context: &Context<'_>) -> Result<u64, String> {
    let answers = ask(context, HoldersArgs { node: None }, Task::List).await;
    let answers = answers.map_err(|failure| failure.to_string())?;
    if let Some((name, failure)) = answers.failed.first() {
        return Err(format!("{name} does not say: {failure}"));
    }
    let lines = answers.held.iter().flat_map(|(_, hints)| &hints.lines);
    Ok(lines.map(|line| line.totals.count).sum())
}
