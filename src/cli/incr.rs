//! `kvctl incr`

use clap::Args;
use serde_json::{Map, Value as Json};

use crate::client::Incremented;
use crate::types::Quorum;

use super::args::{ModeArgs, quorum};
use super::exit::Failure;
use super::item::key;
use super::output::Output;
use super::{Context, text, waterfall};

/// `kvctl incr`
#[derive(Args, Debug)]
pub(crate) struct IncrArgs {
    /// The key; left out when --key-b64 is given
    #[arg(value_name = "KEY", required_unless_present = "key_b64")]
    key: Option<String>,
    /// What is added; a negative number as --by=-3, or after --
    #[arg(value_name = "N")]
    by_at: Option<i64>,
    /// The key, in base64
    #[arg(long, value_name = "B64", conflicts_with_all = ["key", "by_at"])]
    key_b64: Option<String>,
    /// What is added; 1 when left out
    #[arg(long, value_name = "N", conflicts_with = "by_at", allow_hyphen_values = true)]
    by: Option<i64>,
    /// Replicas that must acknowledge: a number, one, quorum or all
    #[arg(short, value_name = "W", value_parser = quorum)]
    w: Option<Quorum>,
    #[command(flatten)]
    mode: ModeArgs,
    /// Do not try again once it may have counted: what is tried again can count twice in causal tables
    #[arg(long)]
    once: bool,
    /// Show when each owner was asked and answered: on stderr, or in the JSON
    #[arg(long)]
    trace: bool,
}

/// Adds to one key.
pub(crate) async fn run(
    context: &Context<'_>,
    args: IncrArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = key(args.key, args.key_b64)?;
    let by = args.by.or(args.by_at).unwrap_or(1);
    let mut increment = context.client()?.increment(key.clone(), by).table(context.table());
    increment = increment.mode(args.mode.mode());
    if let Some(w) = args.w {
        increment = increment.w(w);
    }
    if args.once {
        increment = increment.once();
    }
    if args.trace {
        increment = increment.waterfall();
    }
    show(&key, &increment.await?, output)
}

/// Shows the sum.
fn show(key: &[u8], made: &Incremented, output: &mut Output) -> Result<(), Failure> {
    let receipt = &made.receipt;
    if let Some(trace) = made.trace.as_ref().filter(|_| !output.format().is_json()) {
        waterfall::lines(trace).iter().for_each(|line| output.note(line));
    }
    if receipt.weak {
        output.note("note: weak: below the table's floors, so later reads may miss it");
    }
    if made.value.is_none() {
        output.note(
            "note: made before by an attempt whose answer was lost; the key has changed since",
        );
    }
    if !output.format().is_json() {
        return made.value.map_or(Ok(()), |value| output.line(&value.to_string()));
    }
    let mut object = Map::new();
    text::put_bytes(&mut object, "key", key);
    object.insert("sum".to_owned(), made.value.map_or(Json::Null, Json::from));
    object.insert("stamp".to_owned(), text::stamp(receipt.stamp).into());
    object.insert("receipt".to_owned(), text::receipt(receipt));
    if let Some(trace) = &made.trace {
        object.insert("trace".to_owned(), waterfall::json(trace));
    }
    output.json(&object.into())
}
