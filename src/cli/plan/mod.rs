//! `kvctl plan`: shows what is staged and what it would do, commits it by its hash, and shows, pauses
//! and undoes the plan that is carried out.

mod loss;
mod risk;
mod show;
mod status;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::{PlanStatus, Plans, Topology};

use super::Context;
use super::exit::Failure;
use super::output::Output;

/// Digits of a hash that stand for all of it.
const PREFIX_MIN: usize = 8;
const HASH_DIGITS: usize = 32;

/// `kvctl plan`
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Show what is staged, and what it would move; or what is at risk if a node dies now
    Show(ShowArgs),
    /// Carry out what is staged, as it was shown
    Commit(CommitArgs),
    /// Show how far the plan is that is carried out
    Status(StatusArgs),
    /// Begin no more moves; those that have begun go on
    Pause,
    /// Go on with a plan that was paused
    Resume,
    /// Move back what was moved, and end the plan
    Rollback,
    /// Forget all that is staged
    Clear,
    /// Fill another member in the place of one that the plan gives units to, and that is dead
    Retarget(super::node::ReplaceArgs),
    /// Go on with units without copies that are gone for good
    AcceptLoss(loss::LossArgs),
}

/// `kvctl plan show`
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Instead: which units could not be read or written if this node died now
    #[arg(long, value_name = "NODE")]
    risk: Option<String>,
}

/// `kvctl plan commit`
#[derive(Args, Debug)]
pub(crate) struct CommitArgs {
    /// The hash that `plan show` has shown, or its first digits, 8 or more
    #[arg(value_name = "HASH", value_parser = digits)]
    hash: String,
}

/// `kvctl plan status`
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Go on until the plan has ended
    #[arg(long)]
    watch: bool,
}

/// Reads the first digits of a hash, or all of them.
pub(crate) fn digits(text: &str) -> Result<String, String> {
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || !(PREFIX_MIN..=HASH_DIGITS).contains(&text.len()) {
        return Err(format!(
            "a hash is {HASH_DIGITS} hex digits, or the first {PREFIX_MIN} or more"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// A hash as it is shown and given.
pub(crate) fn hash_text(hash: u128) -> String {
    format!("{hash:032x}")
}

/// As scripts read it.
pub(crate) fn status_text(status: PlanStatus) -> &'static str {
    match status {
        PlanStatus::Running => "running",
        PlanStatus::Paused => "paused",
        PlanStatus::RollingBack => "rolling-back",
    }
}

/// Does what a `plan` command asks.
pub(crate) async fn run(
    context: &Context<'_>,
    command: PlanCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let client = context.client()?;
    let plans = client.plans();
    match command {
        PlanCommand::Show(ShowArgs { risk: Some(node) }) => {
            risk::show(&client.ring().await?, &node, output)
        }
        PlanCommand::Show(ShowArgs { risk: None }) => show::show(&plans.show().await?, output),
        PlanCommand::Commit(args) => commit(&plans, &args.hash, output).await,
        PlanCommand::Status(StatusArgs { watch: true }) => status::watch(context, output).await,
        PlanCommand::Status(StatusArgs { watch: false }) => {
            status::status(&plans.show().await?, output)
        }
        PlanCommand::Retarget(args) => {
            let (old, new) = args.into_names();
            changed("goes on", &plans.retarget(old, new).await?, output)
        }
        PlanCommand::AcceptLoss(args) => loss::run(context, args, output).await,
        PlanCommand::Pause => changed("paused", &plans.pause().await?, output),
        PlanCommand::Resume => changed("resumed", &plans.resume().await?, output),
        PlanCommand::Rollback => changed("rolling back", &plans.roll_back().await?, output),
        PlanCommand::Clear => {
            let topology = plans.clear().await?;
            if output.format().is_json() {
                return output.json(&json!({ "cleared": true, "epoch": topology.epoch.0 }));
            }
            output.line("nothing is staged any more")
        }
    }
}

async fn commit(plans: &Plans, digits: &str, output: &mut Output) -> Result<(), Failure> {
    let hash = match u128::from_str_radix(digits, 16) {
        // A whole hash is the servers' to judge.
        Ok(hash) if digits.len() == HASH_DIGITS => hash,
        _ => full(&plans.show().await?, digits)?,
    };
    let topology = plans.commit(hash).await?;
    let moves = topology.running.as_ref().map_or(0, |plan| plan.total);
    if output.format().is_json() {
        return output.json(&json!({
            "committed": hash_text(hash),
            "epoch": topology.epoch.0,
            "moves": moves,
        }));
    }
    output.line(&format!("committed {}: {moves} moves", hash_text(hash)))?;
    output.note("`kvctl plan status --watch` shows how far they are");
    Ok(())
}

/// The hash that begins with these digits: of what is staged, or of what is carried out already,
/// which the servers refuse in their own words.
fn full(topology: &Topology, digits: &str) -> Result<u128, Failure> {
    let staged = topology.draft.as_ref().map(|draft| draft.hash);
    let running = topology.running.as_ref().map(|plan| plan.hash);
    let mut known = [staged, running].into_iter().flatten();
    let found = known.find(|hash| hash_text(*hash).starts_with(digits));
    found.ok_or_else(|| {
        let now = match staged {
            Some(hash) => format!("what is staged has the hash {} now", hash_text(hash)),
            None => "nothing is staged".to_owned(),
        };
        Failure::plan_conflict(format!("no plan has a hash that begins with {digits}: {now}"))
    })
}

fn changed(verb: &str, topology: &Topology, output: &mut Output) -> Result<(), Failure> {
    let plan = topology.running.as_ref();
    if output.format().is_json() {
        return output.json(&json!({
            "hash": plan.map(|plan| hash_text(plan.hash)),
            "status": plan.map(|plan| status_text(plan.status)),
            "epoch": topology.epoch.0,
        }));
    }
    match plan {
        Some(plan) => output.line(&format!("{verb}: plan {}", hash_text(plan.hash))),
        None => output.line(&format!("{verb}: the plan has ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_given_whole_or_by_its_first_digits() {
        assert_eq!(digits("ABCDEF01"), Ok("abcdef01".to_owned()));
        assert!(digits(&"0".repeat(32)).is_ok());
        for bad in ["", "abcdef0", "HASH", "abcdef0g", &"0".repeat(33)] {
            assert!(digits(bad).is_err(), "{bad}");
        }
    }
}
