//! `kvctl grow`: what the nodes foresee of their load, whether more of them should own, or fewer, and the one
//! word that has it done.

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use crate::client::{Client, Growth, GrowthProposal, GrowthShare, Status};

use super::Context;
use super::exit::Failure;
use super::grid::size;
use super::output::Output;
use super::plan::{digits, hash_text};
use super::stores::addresses;

/// `kvctl grow`
#[derive(Debug, Subcommand)]
pub(crate) enum GrowCommand {
    /// Show what is foreseen, and what is proposed with its plan
    Show,
    /// Carry out what is proposed, as it was shown
    Commit(CommitArgs),
    /// Put what is proposed aside: it is not proposed again before it changes, or a week is over
    Dismiss(DismissArgs),
}

/// `kvctl grow dismiss`
#[derive(Args, Debug)]
pub(crate) struct DismissArgs {
    /// The hash that `grow show` or `status` has shown, or its first digits, 8 or more; none: what is proposed and
    /// cannot be carried out
    #[arg(value_name = "HASH", value_parser = digits)]
    hash: Option<String>,
}

/// `kvctl grow commit`
#[derive(Args, Debug)]
pub(crate) struct CommitArgs {
    /// The hash that `grow show` or `status` has shown, or its first digits, 8 or more
    #[arg(value_name = "HASH", value_parser = digits)]
    hash: String,
}

/// Does what a `grow` command asks.
pub(crate) async fn run(
    context: &Context<'_>,
    command: GrowCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let client = context.client()?;
    let status = client.status().await?;
    let growth = status.growth.clone();
    match command {
        GrowCommand::Show => show(growth.as_ref(), output),
        GrowCommand::Dismiss(DismissArgs { hash }) => {
            let (client, meant) = match hash {
                Some(hash) => proposer(context, (client, &status), &hash).await?,
                None => (client, 0),
            };
            client.plans().dismiss(meant).await?;
            if output.format().is_json() {
                return output.json(&json!({ "dismissed": hash_text(meant) }));
            }
            output.line("put aside: it is not proposed again before it changes, or a week is over")
        }
        GrowCommand::Commit(CommitArgs { hash }) => {
            let (client, meant) = proposer(context, (client, &status), &hash).await?;
            let topology = client.plans().grow(meant).await?;
            let moves = topology.running.as_ref().map_or(0, |plan| plan.total);
            if output.format().is_json() {
                return output.json(&json!({
                    "committed": hash_text(meant),
                    "epoch": topology.epoch.0,
                    "moves": moves,
                }));
            }
            output.line(&format!("committed {}: {moves} moves", hash_text(meant)))?;
            output.note("`kvctl plan status --watch` shows how far they are");
            Ok(())
        }
    }
}

/// Who proposes what is meant, and its whole hash: the node that has been asked, or any other. Exchanges are each
/// node's own, so another one may have shown this.
async fn proposer(
    context: &Context<'_>,
    (client, status): (Client, &Status),
    hash: &str,
) -> Result<(Client, u128), Failure> {
    let asked = meant(status.growth.as_ref(), hash);
    let nodes: Vec<_> = status.nodes.iter().filter(|node| node.state != "left").collect();
    let addresses = addresses(context, &nodes).await?;
    let (mine, others): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|(name, _)| **name == status.me);
    for (name, address) in mine.into_iter().chain(others) {
        let node = context.client_over([address])?;
        let told = match *name == status.me {
            true => status.growth.clone(),
            // Who does not answer proposes nothing now.
            false => node.status().await.ok().and_then(|status| status.growth),
        };
        if let Some(found) = proposed(told.as_ref(), hash) {
            return Ok((node, found));
        }
    }
    Ok((client, asked?))
}

/// What is proposed, if it is meant by these digits.
fn proposed(growth: Option<&Growth>, hash: &str) -> Option<u128> {
    let known = growth?.proposal.as_ref()?.hash?;
    hash_text(known).starts_with(hash).then_some(known)
}

/// The hash that is meant by its digits.
fn meant(growth: Option<&Growth>, hash: &str) -> Result<u128, Failure> {
    let proposal = growth.and_then(|growth| growth.proposal.as_ref());
    let known = proposal.and_then(|proposal| proposal.hash);
    // A whole hash is the servers' to judge: another node may propose it by now.
    let whole = u128::from_str_radix(hash, 16).ok().filter(|_| hash.len() == 32);
    let meant = whole.or(known.filter(|known| hash_text(*known).starts_with(hash)));
    meant.ok_or_else(|| {
        let text = match known.map(hash_text) {
            Some(known) => format!("{hash} is not proposed: {known} is"),
            None => format!("{hash} is not proposed: nothing is"),
        };
        Failure::not_proposed(text)
    })
}

fn show(growth: Option<&Growth>, output: &mut Output) -> Result<(), Failure> {
    if output.format().is_json() {
        return output.json(&growth.map_or(Json::Null, as_json));
    }
    let Some(growth) = growth else {
        return output.line("this node does not look at its load: orchestrator.sample_interval");
    };
    lines(growth).iter().try_for_each(|line| output.line(line))?;
    for share in growth.proposal.iter().flat_map(|proposal| &proposal.shares) {
        let GrowthShare { node, before, after, bytes_before, bytes_after } = share;
        output.line(&format!(
            "  {node}: {before} copies ({}) -> {after} ({})",
            size(*bytes_before),
            size(*bytes_after)
        ))?;
    }
    Ok(())
}

/// As `kvctl status` and `kvctl grow show` tell it.
pub(crate) fn as_json(growth: &Growth) -> Json {
    let share = |it: &GrowthShare| {
        json!({
            "node": it.node,
            "before": it.before,
            "after": it.after,
            "bytes_before": it.bytes_before,
            "bytes_after": it.bytes_after,
        })
    };
    let proposal = |it: &GrowthProposal| {
        json!({
            "kind": it.kind,
            "hash": it.hash.map(hash_text),
            "members": it.members,
            "missing": it.missing,
            "reason": it.reason,
            "after_milli": it.after_milli,
            "units": it.units,
            "bytes": it.bytes,
            "shares": it.shares.iter().map(share).collect::<Vec<_>>(),
        })
    };
    let peak = (growth.peak_hour > 0).then(|| hour_text(growth.peak_hour));
    json!({
        "mode": growth.mode,
        "peak_milli": growth.peak_milli,
        "busiest": growth.busiest,
        "peak": peak,
        "disk_days": growth.disk_days,
        "quiet_hours": growth.quiet_hours,
        "quiet": growth.quiet,
        "paused": growth.paused,
        "proposal": growth.proposal.as_ref().map(proposal),
        "waits_for": growth.waits_for,
    })
}

fn hour_text(hour: u32) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(hour) * 3600);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn percent(milli: u32) -> String {
    format!("{}.{} %", milli / 10, milli % 10)
}

/// What is foreseen, in a line, and what is proposed, in another.
pub(crate) fn lines(growth: &Growth) -> Vec<String> {
    let Growth { mode, busiest, quiet_hours, waits_for, .. } = growth;
    let peak = match growth.peak_milli {
        Some(milli) => format!("{} is foreseen for the {busiest}", percent(milli)),
        None => "nothing is known yet".to_owned(),
    };
    let next = match growth.peak_hour {
        0 => String::new(),
        hour => format!("; next peak {}", hour_text(hour)),
    };
    let disk = match growth.disk_days {
        Some(days) => format!("a disk 80 % full in {days} days"),
        None => "a disk 80 % full: not foreseen".to_owned(),
    };
    let mut lines =
        vec![format!("load: {peak}{next}; {disk}; quiet hours {quiet_hours} (grow = {mode})")];
    if !growth.paused.is_empty() {
        let who = growth.paused.join(", ");
        lines.push(format!("hint: {who} copy nothing for now: users wait twice as long as before"));
    }
    let waits = if waits_for.is_empty() { String::new() } else { format!(" (waits: {waits_for})") };
    match &growth.proposal {
        Some(it) if it.hash.is_some() => lines.push(format!(
            "proposal: {} by {}: {}; {} units move, {}, then {}{}; kvctl grow commit {}{waits}",
            it.kind,
            it.members.join(", "),
            it.reason,
            it.units,
            size(it.bytes),
            percent(it.after_milli),
            if it.kind == "exchange" { " of the mean at most" } else { "" },
            it.hash.map(hash_text).unwrap_or_default(),
        )),
        Some(it) => lines.push(format!("proposal: {}: {}{waits}", it.kind, it.reason)),
        None if !waits_for.is_empty() => lines.push(format!("load: {waits_for}")),
        None => {}
    }
    if let Some(it) = growth.proposal.as_ref().filter(|it| it.missing > 0) {
        let missing = it.missing;
        lines.push(format!("hint: {missing} more reserved members are needed for all that is due"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_foreseen_and_proposed_is_told_in_lines() {
        let proposal = GrowthProposal {
            kind: "grow".to_owned(),
            hash: Some(0xabcd),
            members: vec!["n4".to_owned(), "n5".to_owned()],
            missing: 1,
            reason: "71.0 % of n1 is foreseen".to_owned(),
            after_milli: 426,
            units: 77,
            bytes: 3 << 20,
            ..GrowthProposal::default()
        };
        let mut growth = Growth {
            mode: "suggest".to_owned(),
            peak_milli: Some(710),
            busiest: "disk of n1".to_owned(),
            peak_hour: 490_000,
            disk_days: Some(9),
            quiet_hours: "02:00-05:00 UTC, learned".to_owned(),
            paused: vec!["n4".to_owned()],
            proposal: Some(proposal),
            waits_for: "an operator".to_owned(),
            ..Growth::default()
        };
        let text = lines(&growth).join("\n");
        for part in [
            "load: 71.0 % is foreseen for the disk of n1; next peak 2025-11-24T16:00:00Z; a disk 80 % full in 9 days",
            "hint: n4 copy nothing for now",
            "proposal: grow by n4, n5: 71.0 % of n1 is foreseen; 77 units move",
            "then 42.6 %; kvctl grow commit 0000000000000000000000000000abcd (waits: an operator)",
            "hint: 1 more reserved members are needed",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(as_json(&growth)["proposal"]["members"][1], "n5");
        let proposal = growth.proposal.as_mut().unwrap();
        (proposal.kind, proposal.after_milli) = ("exchange".to_owned(), 1210);
        let text = lines(&growth).join("\n");
        assert!(text.contains("exchange by n4, n5") && text.contains("then 121.0 % of the mean"));
        let refused = meant(Some(&growth), "12345678").unwrap_err();
        assert!(format!("{refused:?}").contains("not proposed"), "{refused:?}");
        assert_eq!(meant(Some(&growth), "00000000").unwrap(), 0xabcd);
        growth.proposal = None;
        assert!(lines(&growth).iter().any(|line| line == "load: an operator"));
    }
}
