//! `kvctl scrub`: has nodes read everything on their disks, and shows what that has found.

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use crate::client::{NodeStatus, ScrubStatus};

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::output::Output;
use super::stores::addresses;

/// `kvctl scrub`
#[derive(Debug, Subcommand)]
pub(crate) enum ScrubCommand {
    /// Read everything now, as fast as `scrub.rate` allows, and do not wait for the end
    Start(NodeArgs),
    /// Show how far it is, and what has been found and healed
    Status(NodeArgs),
}

/// Which nodes.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// Only this node; all nodes that are up when left out
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Begins it, or shows how far it is.
pub(crate) async fn run(
    context: &Context<'_>,
    command: ScrubCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let (start, args) = match command {
        ScrubCommand::Start(args) => (true, args),
        ScrubCommand::Status(args) => (false, args),
    };
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
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    for node in nodes {
        let name = node.name.clone();
        match ask(context, start, addresses.get(&name)).await {
            Ok(scrub) => told.push((name, scrub)),
            Err(failure) => failed.push((name, failure)),
        }
    }
    show(&told, &failed, output)?;
    let (count, all) = (failed.len(), failed.len() + told.len());
    match failed.into_iter().next() {
        None => Ok(()),
        Some((_, failure)) if told.is_empty() => Err(failure),
        Some(_) => Err(Failure::partial(format!("{count} of {all} nodes did not answer"))),
    }
}

async fn ask(
    context: &Context<'_>,
    start: bool,
    address: Option<&String>,
) -> Result<ScrubStatus, Failure> {
    let Some(address) = address else {
        return Err(Failure::unavailable("its address is not known".to_owned()));
    };
    let client = context.client_over([address])?;
    Ok(if start { client.start_scrub().await? } else { client.scrub_status().await? })
}

fn show(
    told: &[(String, ScrubStatus)],
    failed: &[(String, Failure)],
    output: &mut Output,
) -> Result<(), Failure> {
    for (name, failure) in failed {
        output.note(&format!("{name}: {failure}"));
    }
    if output.format().is_json() {
        let nodes = told.iter().map(|(name, scrub)| node_json(name, scrub));
        let why =
            |(name, why): &(String, Failure)| json!({ "node": name, "error": why.to_string() });
        return output.json(&json!({
            "nodes": nodes.collect::<Vec<_>>(),
            "failed": failed.iter().map(why).collect::<Vec<_>>(),
        }));
    }
    let plain = output.format() == Format::Plain;
    for (name, scrub) in told {
        output.line(&if plain { plain_line(name, scrub) } else { line(name, scrub) })?;
        let places = scrub.places.iter().filter(|_| !plain);
        places.into_iter().try_for_each(|place| output.line(&format!("  damage in {place}")))?;
    }
    Ok(())
}

fn node_json(name: &str, scrub: &ScrubStatus) -> Json {
    let left = scrub.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    json!({
        "node": name,
        "running": scrub.running,
        "done_bytes": scrub.done_bytes,
        "total_bytes": scrub.total_bytes,
        "left_ms": left,
        "begun_ns": scrub.begun_ns,
        "ended_ns": scrub.ended_ns,
        "found": scrub.found,
        "lost_units": scrub.lost_units,
        "healed_units": scrub.healed_units,
        "places": scrub.places,
    })
}

fn plain_line(name: &str, scrub: &ScrubStatus) -> String {
    let ScrubStatus { running, done_bytes, total_bytes, found, .. } = scrub;
    let (lost, healed) = (scrub.lost_units, scrub.healed_units);
    format!("{name}\t{running}\t{done_bytes}\t{total_bytes}\t{found}\t{lost}\t{healed}")
}

fn line(name: &str, scrub: &ScrubStatus) -> String {
    let bytes = |bytes: u64| ByteSize(bytes).display().iec().to_string();
    let how_far = match (scrub.running, scrub.left) {
        (true, left) => {
            let left = left.unwrap_or_default();
            let left = std::time::Duration::from_secs(left.as_secs());
            let left = humantime::format_duration(left);
            let (done, total) = (bytes(scrub.done_bytes), bytes(scrub.total_bytes));
            format!("has read {done} of {total}, {left} left")
        }
        (false, _) if scrub.ended_ns.is_some() => "has read everything".to_owned(),
        (false, _) => "has not read everything yet".to_owned(),
    };
    let (found, lost, healed) = (scrub.found, scrub.lost_units, scrub.healed_units);
    let damage = match (found, lost, healed) {
        (0, 0, 0) => "no damage since it started".to_owned(),
        _ => format!("{found} places of damage, {lost} units to be filled again, {healed} healed"),
    };
    format!("{name} {how_far}; {damage}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_what_was_found() {
        let calm = ScrubStatus { ended_ns: Some(1), ..ScrubStatus::default() };
        assert_eq!(line("n1", &calm), "n1 has read everything; no damage since it started");
        let busy = ScrubStatus {
            running: true,
            done_bytes: 1 << 20,
            total_bytes: 4 << 20,
            left: Some(std::time::Duration::from_millis(90_400)),
            found: 1,
            lost_units: 2,
            healed_units: 3,
            ..ScrubStatus::default()
        };
        let text = line("n2", &busy);
        assert!(
            text.starts_with("n2 has read 1.0 MiB of 4.0 MiB, 1m 30s left; 1 places"),
            "{text}"
        );
        assert!(text.ends_with("2 units to be filled again, 3 healed"), "{text}");
        assert_eq!(plain_line("n2", &busy), "n2\ttrue\t1048576\t4194304\t1\t2\t3");
        assert_eq!(node_json("n2", &busy)["left_ms"], 90_400);
    }
}
