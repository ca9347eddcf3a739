//! `kvctl node`: stages changes of members for the next plan. Nothing moves before it is committed.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::{NodeName, Topology, Zone};
use crate::types::limits;

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::output::Output;
use super::plan::hash_text;

/// `kvctl node`
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Stage that a reserved member takes its share
    Join(MemberArgs),
    /// Stage that a member gives its share away and goes
    Leave(MemberArgs),
    /// Stage that a reserved member takes over what another owns, who goes
    Replace(ReplaceArgs),
    /// Stage another weight or zone of a member
    Set(SetArgs),
}

/// A member on the command line.
#[derive(Args, Debug)]
pub(crate) struct MemberArgs {
    /// The member
    #[arg(value_name = "NAME", value_parser = name)]
    member: NodeName,
}

/// `kvctl node replace`
#[derive(Args, Debug)]
pub(crate) struct ReplaceArgs {
    /// Who goes
    #[arg(value_name = "OLD", value_parser = name)]
    old: NodeName,
    /// Who comes: a reserved member
    #[arg(value_name = "NEW", value_parser = name)]
    new: NodeName,
}

impl ReplaceArgs {
    /// Who goes, and who comes.
    pub(crate) fn into_names(self) -> (NodeName, NodeName) {
        (self.old, self.new)
    }
}

/// `kvctl node set`
#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// weight=W: its share relative to the others, 0.001 to 1000; zone=Z: its failure domain
    #[arg(value_name = "weight=W|zone=Z", required = true, value_parser = setting)]
    settings: Vec<Setting>,
}

/// One thing to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// In thousandths.
    Weight(u32),
    /// A failure domain.
    Zone(Zone),
}

fn name(text: &str) -> Result<NodeName, String> {
    text.parse()
}

fn setting(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some(("weight", weight)) => weight_milli(weight).map(Setting::Weight),
        Some(("zone", zone)) => zone.parse().map(Setting::Zone),
        _ => Err("it is neither weight=W nor zone=Z".to_owned()),
    }
}

/// A weight in thousandths. Digits are read as such: no rounding surprises anybody.
fn weight_milli(text: &str) -> Result<u32, String> {
    let most = limits::WEIGHT_MILLI_MAX;
    let wrong = || {
        format!("weight {text:?} is not a number of 0.001 to {} with three decimals", most / 1000)
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 3 || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let milli = format!("{whole}{part:0<3}").parse().map_err(|_| wrong())?;
    if (1..=most).contains(&milli) { Ok(milli) } else { Err(wrong()) }
}

/// Does what a `node` command asks.
pub(crate) async fn run(
    context: &Context<'_>,
    command: NodeCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let plans = context.client()?.plans();
    let staged = match command {
        NodeCommand::Join(args) => plans.stage_join(args.member).await?,
        NodeCommand::Leave(args) => plans.stage_leave(args.member).await?,
        NodeCommand::Replace(args) => plans.stage_replace(args.old, args.new).await?,
        NodeCommand::Set(args) => {
            let (weight, zone) = merged(args.settings)?;
            plans.stage_set(args.member.member, weight, zone).await?
        }
    };
    show(&staged, output)
}

fn merged(settings: Vec<Setting>) -> Result<(Option<u32>, Option<Zone>), Failure> {
    let (mut weight, mut zone) = (None, None);
    for setting in settings {
        let twice = match setting {
            Setting::Weight(milli) => weight.replace(milli).is_some(),
            Setting::Zone(name) => zone.replace(name).is_some(),
        };
        if twice {
            return Err(Failure::usage("weight or zone is given twice"));
        }
    }
    Ok((weight, zone))
}

/// All that is staged, and what comes next.
pub(crate) fn show(topology: &Topology, output: &mut Output) -> Result<(), Failure> {
    let hash = topology.draft.as_ref().map(|draft| hash_text(draft.hash));
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&json!({
            "staged": topology.staged,
            "hash": hash,
            "epoch": topology.epoch.0,
        })),
        Format::Plain => topology.staged.iter().try_for_each(|staged| output.line(staged)),
        Format::Table => {
            output.line("staged for the next plan:")?;
            for staged in &topology.staged {
                output.line(&format!("  {staged}"))?;
            }
            output.line("nothing has moved yet: see `kvctl plan show`, then `kvctl plan commit`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_to_the_thousandth() {
        assert_eq!(setting("weight=2"), Ok(Setting::Weight(2000)));
        assert_eq!(setting("weight=0.5"), Ok(Setting::Weight(500)));
        assert_eq!(setting("weight=1000"), Ok(Setting::Weight(1_000_000)));
        assert_eq!(setting("zone=b"), Ok(Setting::Zone("b".parse().unwrap())));
        for bad in [
            "weight=0",
            "weight=",
            "weight=.5",
            "weight=-1",
            "weight=1001",
            "weight=0.0001",
            "weight=1e3",
            "zone=",
            "zone=B",
            "colour=red",
            "weight",
        ] {
            assert!(setting(bad).is_err(), "{bad}");
        }
    }
}
