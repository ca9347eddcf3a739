//! `kvctl del`

use clap::Args;

use crate::types::Quorum;

use super::Context;
use super::args::{KeyArgs, quorum};
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
    /// Only owners count towards W (the default)
    #[arg(long, conflicts_with = "sloppy")]
    strict: bool,
    /// Not available yet
    #[arg(long, hide = true)]
    sloppy: bool,
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
    if args.sloppy || args.context.is_some() {
        let option = if args.sloppy { "--sloppy" } else { "--context" };
        return Err(Failure::not_available_yet(option));
    }
    let key = args.key.resolve()?;
    let client = context.client()?;
    let mut delete = client.delete(key.clone()).table(context.table());
    if let Some(w) = args.w {
        delete = delete.w(w);
    }
    if let Some(r) = args.r {
        delete = delete.r(r);
    }
    let receipt = delete.await?;
    written(&key, &receipt, output)
}
