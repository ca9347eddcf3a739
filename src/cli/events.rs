//! `kvctl events`: what has happened, as all nodes remember it. What several say of the same is shown once.

use core::time::Duration;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::{Value as Json, json};

use crate::client::{EventLine, NodeStatus};

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::output::Output;
use super::stores::addresses;

/// How often nodes are asked for what is new.
const EVERY: Duration = Duration::from_secs(1);

/// `kvctl events`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  kvctl events --since 1h\n  kvctl events --follow -o jsonl\n  \
    kvctl events --limit 20 -o json"
)]
pub(crate) struct EventsArgs {
    /// Go on showing what happens, until interrupted; with -o json, one object a line
    #[arg(short, long)]
    follow: bool,
    /// Only what nodes have learned of within this time, e.g. 1h
    #[arg(long, value_name = "D", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// The latest so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// One event, and who tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    nodes: Vec<String>,
    event: EventLine,
}

#[allow(clippy::disallowed_methods, reason = "events bear the nodes' wall time, and so does this")]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Shows events.
pub(crate) async fn run(
    context: &Context<'_>,
    args: EventsArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut after: BTreeMap<String, u64> = BTreeMap::new();
    let (mut shown, failed) = ask(context, &mut after).await?;
    let least = args.since.map_or(0, |since| {
        u64::try_from(since_1970().saturating_sub(since).as_nanos()).unwrap_or(u64::MAX)
    });
    shown.retain(|told| told.event.time_ns >= least);
    let over = shown.len().saturating_sub(args.limit);
    shown.drain(..over);
    if !args.follow && output.format() == Format::Json {
        output.json(&Json::Array(shown.iter().map(as_json).collect()))?;
    } else {
        shown.iter().try_for_each(|told| show(told, output))?;
    }
    for why in &failed {
        output.note(why);
    }
    if !args.follow {
        let count = failed.len();
        let partial = || Failure::partial(format!("{count} nodes did not answer"));
        return if failed.is_empty() { Ok(()) } else { Err(partial()) };
    }
    loop {
        tokio::time::sleep(EVERY).await;
        // Who does not answer is asked again.
        let Ok((new, _)) = ask(context, &mut after).await else { continue };
        for told in new {
            if !shown.iter_mut().any(|known| is_same(&known.event, &told.event)) {
                show(&told, output)?;
                shown.push(told);
            }
        }
    }
}

/// What all nodes have learned of since they were last asked, oldest first; and who did not answer.
async fn ask(
    context: &Context<'_>,
    after: &mut BTreeMap<String, u64>,
) -> Result<(Vec<Told>, Vec<String>), Failure> {
    let status = context.client()?.status().await?;
    let nodes: Vec<&NodeStatus> = status.nodes.iter().filter(|it| it.state == "alive").collect();
    let addresses = addresses(context, &nodes).await?;
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    for node in nodes {
        let Some(address) = addresses.get(&node.name) else {
            failed.push(format!("{}: its address is not known", node.name));
            continue;
        };
        let from = after.get(&node.name).copied().unwrap_or(0);
        match context.client_over([address])?.events(from).await {
            Ok(answer) => {
                after.insert(node.name.clone(), answer.last);
                let of_node = |event| Told { nodes: vec![node.name.clone()], event };
                told.extend(answer.events.into_iter().map(of_node));
            }
            Err(error) => failed.push(format!("{}: {error}", node.name)),
        }
    }
    Ok((merged(told), failed))
}

/// Whether two nodes speak of the same: its epoch may be known to one of them less exactly.
fn is_same(a: &EventLine, b: &EventLine) -> bool {
    let overlap = a.since < b.epoch && b.since < a.epoch
        || a.epoch == b.epoch
        || a.since == a.epoch && b.since < a.epoch && a.epoch <= b.epoch
        || b.since == b.epoch && a.since < b.epoch && b.epoch <= a.epoch;
    let seen = matches!(a.kind.as_str(), "member-down" | "member-back");
    // What nodes see is each one's own; what they see at about the same time is one thing.
    let near = a.time_ns.abs_diff(b.time_ns) <= 60_000_000_000;
    a.kind == b.kind
        && a.subject == b.subject
        && a.text == b.text
        && if seen { near } else { overlap }
}

/// In order of time, each once.
fn merged(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by_key(|told| told.event.time_ns);
    let mut all: Vec<Told> = Vec::new();
    for one in told {
        let known = all.iter_mut().rev().find(|known| {
            is_same(&known.event, &one.event) && one.nodes.iter().all(|n| !known.nodes.contains(n))
        });
        match known {
            Some(known) => known.nodes.extend(one.nodes),
            None => all.push(one),
        }
    }
    all
}

fn time(event: &EventLine) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(event.time_ns);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn as_json(told: &Told) -> Json {
    let event = &told.event;
    json!({
        "time": time(event),
        "epoch": event.epoch,
        "node": told.nodes.first(),
        "nodes": told.nodes,
        "kind": event.kind,
        "subject": event.subject,
        "reason": event.text,
    })
}

fn show(told: &Told, output: &mut Output) -> Result<(), Failure> {
    if output.format().is_json() {
        return output.line(&as_json(told).to_string());
    }
    let EventLine { epoch, kind, subject, text, .. } = &told.event;
    let (time, nodes) = (time(&told.event), told.nodes.join(","));
    if output.format() == Format::Plain {
        return output.line(&format!("{time}\t{epoch}\t{kind}\t{subject}\t{text}\t{nodes}"));
    }
    let reason = if text.is_empty() { String::new() } else { format!(": {text}") };
    output.line(&format!("{time}  epoch {epoch:<6} {kind:<16} {subject}{reason}  ({nodes})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(node: &str, (since, epoch): (u64, u64), kind: &str, text: &str) -> Told {
        let event = EventLine {
            seq: 1,
            time_ns: epoch,
            epoch,
            since,
            kind: kind.to_owned(),
            subject: "n2".to_owned(),
            text: text.to_owned(),
        };
        Told { nodes: vec![node.to_owned()], event }
    }

    #[test]
    fn what_several_nodes_tell_is_shown_once() {
        let all = vec![
            told("n1", (6, 7), "plan-ended", "done"),
            // It slept through some epochs.
            told("n3", (3, 9), "plan-ended", "done"),
            told("n1", (7, 8), "replaced", "down"),
            told("n3", (8, 8), "replaced", "down"),
            told("n1", (10, 11), "plan-ended", "done"),
        ];
        let shown = merged(all);
        let line = |told: &Told| format!("{} {}", told.event.kind, told.nodes.join(","));
        let lines: Vec<String> = shown.iter().map(line).collect();
        assert_eq!(lines, ["plan-ended n1,n3", "replaced n1,n3", "plan-ended n1"]);
    }
}
