//! `kvctl get`

use clap::Args;
use serde_json::Map;

use crate::types::Quorum;

use super::args::{KeyArgs, ModeArgs, quorum};
use super::exit::Failure;
use super::output::Output;
use super::resolve::{context_json, show};
use super::{Context, text, waterfall};

/// `kvctl get`
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Replicas that must answer: a number, one, quorum or all
    #[arg(short, value_name = "R", value_parser = quorum)]
    r: Option<Quorum>,
    #[command(flatten)]
    mode: ModeArgs,
    /// Show only what w replicas hold, so that no later read goes back behind it
    #[arg(long, conflicts_with = "sloppy")]
    monotonic: bool,
    /// Show all siblings of a key of a causal table
    #[arg(long)]
    siblings: bool,
    /// Show when each owner was asked and answered: on stderr, or in the JSON
    #[arg(long, conflicts_with = "siblings")]
    trace: bool,
}

/// Reads one key.
pub(crate) async fn run(
    context: &Context<'_>,
    args: GetArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = args.key.resolve()?;
    let client = context.client()?;
    let mut get = client.get(key.clone()).table(context.table());
    get = get.mode(args.mode.mode());
    if let Some(r) = args.r {
        get = get.r(r);
    }
    if args.monotonic {
        get = get.monotonic();
    }
    if args.siblings {
        let found = get.siblings().await?;
        if found.values.is_empty() {
            return Err(Failure::key_not_found());
        }
        return show(&key, &found, output);
    }
    if args.trace {
        get = get.waterfall();
    }
    let reply = get.await?;
    if let Some(trace) = reply.trace.as_ref().filter(|_| !output.format().is_json()) {
        waterfall::lines(trace).iter().for_each(|line| output.note(line));
    }
    if reply.receipt.may_miss {
        output.note("note: sloppy: may miss writes that stand-ins hold for owners that were away");
    }
    let Some(value) = reply.value else { return Err(Failure::key_not_found()) };
    if output.format().is_json() {
        let mut object = Map::new();
        text::put_bytes(&mut object, "key", &key);
        text::put_bytes(&mut object, "value", &value);
        object.insert("stamp".to_owned(), text::stamp(reply.receipt.stamp).into());
        object.insert("expires_ms".to_owned(), text::expires_ms(reply.expires));
        object.insert("context".to_owned(), context_json(&reply.context));
        object.insert("receipt".to_owned(), text::receipt(&reply.receipt));
        if let Some(trace) = &reply.trace {
            object.insert("trace".to_owned(), waterfall::json(trace));
        }
        return output.json(&object.into());
    }
    output.bytes(&value)?;
    if output.is_terminal() { output.bytes(b"\n") } else { Ok(()) }
}
