//! `kvctl del`

use clap::Args;

use crate::types::{Quorum, WallTime};

use super::Context;
use super::args::{KeyArgs, ModeArgs, quorum};
use super::exit::Failure;
use super::output::Output;
use super::put::wrote;
use super::resolve::context_from;

/// `kvctl del`
#[derive(Args, Debug)]
pub(crate) struct DelArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Replicas that must acknowledge: a number, one, quorum or all
    #[arg(short, value_name = "W", value_parser = quorum)]
    w: Option<Quorum>,
    /// Replicas the readers of this key will ask
    #[arg(short, value_name = "R", value_parser = quorum)]
    r: Option<Quorum>,
    #[command(flatten)]
    mode: ModeArgs,
    /// The time of the delete, in nanoseconds of Unix time, instead of the servers': only earlier
    /// versions give way to it
    #[arg(long, value_name = "NS", value_parser = clap::value_parser!(u64).range(1..))]
    time: Option<u64>,
    /// Causal tables: delete what a get or put showed with this context, and nothing else
    #[arg(long, value_name = "C")]
    context: Option<String>,
    /// Show when each owner was asked and answered: on stderr, or in the JSON
    #[arg(long)]
    trace: bool,
}

/// Deletes one key.
pub(crate) async fn run(
    context: &Context<'_>,
    args: DelArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let seen = context_from(args.context)?;
    let key = args.key.resolve()?;
    let client = context.client()?;
    let mut delete = client.delete(key.clone()).table(context.table());
    delete = delete.mode(args.mode.mode());
    if let Some(time) = args.time {
        delete = delete.time(WallTime(time));
    }
    if args.trace {
        delete = delete.waterfall();
    }
    if let Some(w) = args.w {
        delete = delete.w(w);
    }
    if let Some(r) = args.r {
        delete = delete.r(r);
    }
    if let Some(seen) = seen {
        delete = delete.context(&seen);
    }
    wrote(&key, &delete.returning_context().await?, output)
}
