//! `kvctl put`

use std::time::Duration;

use clap::Args;
use serde_json::Map;

use crate::client::Written;
use crate::types::{Quorum, WallTime};

use super::args::{ModeArgs, quorum, ttl};
use super::exit::Failure;
use super::item::{ValueSource, key};
use super::output::Output;
use super::resolve::{context_from, context_json};
use super::{Context, text, waterfall};

/// `kvctl put`
#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// The key; left out when --key-b64 is given
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// The value; - reads stdin, @FILE a file
    #[arg(value_name = "VALUE")]
    value_at: Option<String>,
    /// The key, in base64
    #[arg(long, value_name = "B64")]
    key_b64: Option<String>,
    /// The value, taken as it is, also when it begins with - or @
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    value: Option<String>,
    /// The value, in base64
    #[arg(long, value_name = "B64", conflicts_with = "value")]
    value_b64: Option<String>,
    /// Replicas that must acknowledge: a number, one, quorum or all
    #[arg(short, value_name = "W", value_parser = quorum)]
    w: Option<Quorum>,
    /// Replicas the readers of this key will ask
    #[arg(short, value_name = "R", value_parser = quorum)]
    r: Option<Quorum>,
    #[command(flatten)]
    mode: ModeArgs,
    /// How long the value lives, as 90s or 7d; the table's default when left out
    #[arg(long, value_name = "D", value_parser = ttl)]
    ttl: Option<Duration>,
    /// The value lives for ever, whatever the table's default is
    #[arg(long, conflicts_with = "ttl")]
    no_ttl: bool,
    /// The time of the version, in nanoseconds of Unix time, instead of the servers': only earlier
    /// versions give way to it
    #[arg(long, value_name = "NS", value_parser = clap::value_parser!(u64).range(1..))]
    time: Option<u64>,
    /// Causal tables: take the place of what a get or put showed with this context
    #[arg(long, value_name = "C")]
    context: Option<String>,
    /// Show when each owner was asked and answered: on stderr, or in the JSON
    #[arg(long)]
    trace: bool,
}

impl PutArgs {
    /// The key, and where its value comes from.
    fn resolve(self) -> Result<(bytes::Bytes, ValueSource), Failure> {
        // With --key-b64, the only positional argument is the value.
        let (key_text, value_at) = match (&self.key_b64, self.key, self.value_at) {
            (Some(_), Some(_), Some(_)) => {
                return Err(Failure::usage("KEY and --key-b64 exclude each other"));
            }
            (Some(_), value_at, None) => (None, value_at),
            (_, key, value_at) => (key, value_at),
        };
        let source = match (value_at, self.value, self.value_b64) {
            (Some(at), None, None) => ValueSource::Positional(at),
            (None, Some(literal), None) => ValueSource::Literal(literal),
            (None, None, Some(b64)) => ValueSource::Base64(b64),
            (None, ..) => {
                return Err(Failure::usage("one of VALUE, --value and --value-b64 is needed"));
            }
            (Some(_), ..) => {
                return Err(Failure::usage("VALUE excludes --value and --value-b64"));
            }
        };
        Ok((key(key_text, self.key_b64)?, source))
    }
}

/// Writes one key.
pub(crate) async fn run(
    context: &Context<'_>,
    args: PutArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let (w, r, ttl, no_ttl, mode) = (args.w, args.r, args.ttl, args.no_ttl, args.mode.mode());
    let (time, trace) = (args.time.map(WallTime), args.trace);
    let seen = context_from(args.context.clone())?;
    let (key, source) = args.resolve()?;
    context.saw(&key);
    let client = context.client()?;
    let mut put = client.put(key.clone(), source.read()?).table(context.table());
    if ttl.is_some() || no_ttl {
        put = put.ttl(ttl);
    }
    put = put.mode(mode);
    if let Some(time) = time {
        put = put.time(time);
    }
    if trace {
        put = put.waterfall();
    }
    if let Some(w) = w {
        put = put.w(w);
    }
    if let Some(r) = r {
        put = put.r(r);
    }
    if let Some(seen) = seen {
        put = put.context(&seen);
    }
    wrote(&key, &put.returning_context().await?, output)
}

/// Shows what a write rests on.
pub(crate) fn wrote(key: &[u8], written: &Written, output: &mut Output) -> Result<(), Failure> {
    let receipt = &written.receipt;
    if let Some(trace) = written.trace.as_ref().filter(|_| !output.format().is_json()) {
        waterfall::lines(trace).iter().for_each(|line| output.note(line));
    }
    if let Some(by) = receipt.superseded_by {
        let by = text::stamp(by);
        output.note(&format!("note: superseded: the key holds a later version, {by}"));
    }
    if receipt.many_siblings {
        let count = written.siblings;
        output.note(&format!("note: the key has {count} siblings; `kvctl resolve` settles on one"));
    }
    if receipt.weak {
        output.note("note: weak: below the table's floors, so later reads may miss it");
    }
    if receipt.stand_ins != 0 {
        let count = receipt.stand_ins.count_ones();
        output.note(&format!(
            "note: sloppy: {count} of the answers are of stand-ins; reads may miss it until their \
             hints are home"
        ));
    }
    if !output.format().is_json() {
        return Ok(());
    }
    let mut object = Map::new();
    text::put_bytes(&mut object, "key", key);
    object.insert("stamp".to_owned(), text::stamp(receipt.stamp).into());
    object.insert("context".to_owned(), context_json(&written.context));
    if !written.context.is_empty() {
        object.insert("siblings".to_owned(), written.siblings.into());
    }
    object.insert("receipt".to_owned(), text::receipt(receipt));
    if let Some(trace) = &written.trace {
        object.insert("trace".to_owned(), waterfall::json(trace));
    }
    output.json(&object.into())
}
