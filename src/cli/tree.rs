//! `kvctl tree`: what two nodes hold that differs, without changing it.

use clap::{Args, Subcommand};
use serde_json::{Map, Value as Json, json};

use crate::client::{KeyDifference, UnitDifference};

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::output::Output;
use super::repair::clients;
use super::text::put_bytes;

/// `kvctl tree`
#[derive(Debug, Subcommand)]
pub(crate) enum TreeCommand {
    /// Compare what two nodes hold of the units both own, and leave it as it is
    Diff(DiffArgs),
}

/// `kvctl tree diff`
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The one
    #[arg(value_name = "A")]
    first: String,
    /// The other
    #[arg(value_name = "B")]
    second: String,
    /// Show units that are equal as well
    #[arg(long)]
    all: bool,
}

/// Shows what differs.
pub(crate) async fn run(
    context: &Context<'_>,
    command: TreeCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let TreeCommand::Diff(args) = command;
    let mut clients = clients(context, Some(&args.first)).await?;
    let Some((_, client)) = clients.pop() else {
        return Err(Failure::usage(format!("there is no node {:?}", args.first)));
    };
    let client = client?;
    let (mut units, mut after) = (Vec::new(), None);
    // It waits for its share of what comparisons may cost, which can take minutes.
    let progress = output.progress(None);
    loop {
        let mut request = client.repair_diff(&args.second);
        if context.table() != "default" {
            request = request.table(context.table());
        }
        if let Some(unit) = after {
            request = request.after(unit);
        }
        let answer = request.await?;
        units.extend(answer.differences);
        after = answer.next;
        progress.tick();
        progress.set_message(format!("{} units compared", units.len()));
        if after.is_none() {
            break;
        }
    }
    progress.finish_and_clear();
    show(&args, &units, output)?;
    let unknown = units.iter().filter(|unit| unit.found == "unknown").count();
    match unknown {
        0 => Ok(()),
        count => {
            Err(Failure::partial(format!("{count} of {} units were not compared", units.len())))
        }
    }
}

fn show(args: &DiffArgs, units: &[UnitDifference], output: &mut Output) -> Result<(), Failure> {
    let differing = units.iter().filter(|unit| unit.found == "differs");
    let (count, keys) = differing.fold((0_u64, 0), |(n, keys), unit| (n + 1, keys + unit.count));
    let shown = || units.iter().filter(|unit| args.all || unit.found != "equal");
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&json!({
            "first": args.first,
            "second": args.second,
            "compared": units.len(),
            "differing": count,
            "keys": keys,
            "units": shown().map(unit_json).collect::<Vec<_>>(),
        })),
        Format::Plain => {
            for UnitDifference { unit, found, count, .. } in shown() {
                let (class, partition) = (unit.class, unit.partition);
                output.line(&format!("{class}\t{partition}\t{found}\t{count}"))?;
            }
            Ok(())
        }
        Format::Table => {
            for unit in shown() {
                output.line(&unit_text(args, unit))?;
                for key in &unit.keys {
                    output.line(&format!("  {}", key_text(args, key)))?;
                }
            }
            let all = units.len();
            output.line(&format!("{count} of {all} units differ, in {keys} keys"))
        }
    }
}

fn unit_text(args: &DiffArgs, of: &UnitDifference) -> String {
    let name = format!("unit {}/{}", of.unit.class, of.unit.partition);
    match of.found.as_str() {
        "equal" => format!("{name} is equal"),
        "differs" => format!("{name}: {} keys differ", of.count),
        _ => format!("{name} was not compared: {} and {}: {}", args.first, args.second, of.why),
    }
}

fn key_text(args: &DiffArgs, key: &KeyDifference) -> String {
    let name = key.key.escape_ascii();
    let who = match key.lacks.as_str() {
        "first" => format!("{} has nothing, or something older", args.first),
        "second" => format!("{} has nothing, or something older", args.second),
        _ => "each has something of its own".to_owned(),
    };
    format!("{}/{name}: {who}", key.table)
}

fn unit_json(of: &UnitDifference) -> Json {
    let key = |key: &KeyDifference| {
        let mut object = Map::new();
        object.insert("table".to_owned(), json!(key.table));
        put_bytes(&mut object, "key", &key.key);
        object.insert("lacks".to_owned(), json!(key.lacks));
        Json::Object(object)
    };
    json!({
        "class": of.unit.class,
        "partition": of.unit.partition,
        "found": of.found,
        "count": of.count,
        "keys": of.keys.iter().map(key).collect::<Vec<_>>(),
        "why": (!of.why.is_empty()).then_some(&of.why),
    })
}
