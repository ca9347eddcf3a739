//! `kvctl del`

use clap::Args;

use crate::types::Quorum;

use super::Context;
use super::args::{KeyArgs, ModeArgs, quorum};
use super::exit::Failure;
use super::output::Output;
use super::put::written;

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
    /// Not available yet
    #[arg(long, value_name = "C", hide = true)]
    context: Option<String>,
}

/// Deletes one key.
pub(crate) async fn run(
    context: &Context<'_>,
    args: DelArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    if args.context.is_some() {
        return Err(Failure::not_available_yet("--context"));
    }
    let key = args.key.resolve()?;
    let client = context.client()?;
    let mut delete = client.delete(key.clone()).table(context.table());
    delete = delete.mode(args.mode.mode());
    if let Some(w) = args.w {
        delete = delete.w(w);
    }
    if let Some(r) = args.r {
        delete = delete.r(r);
    }
    let receipt = delete.await?;
    written(&key, &receipt, output)
}
