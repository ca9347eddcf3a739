//! `kvctl safe-to stop` and `kvctl whatif`: what would be lost if nodes stopped. The node that is asked
//! judges; this shows what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::{Cell, Color};
use serde_json::{Value as Json, json};

use crate::client::{Liveness, Outage, OutageLine, OutageReason, RingMember, RingView};
use crate::picture::{PictureLoss, PictureMember, RingPicture, ring_svg};

use super::Context;
use super::args::{Format, duration};
use super::exit::Failure;
use super::grid::{grid, grouped, size};
use super::output::Output;

const SAFE_EXAMPLES: &str = "\
Examples:
  kvctl safe-to stop n2                     exit code 0: it is safe; 4: it is not, and why
  kvctl safe-to stop n2 n5 --for 20m        both at once, for twenty minutes
  kvctl safe-to stop --zone b -o json       a whole zone, for scripts
  kvctl safe-to stop n2 && systemctl restart kvd";

const WHATIF_EXAMPLES: &str = "\
Examples:
  kvctl whatif --kill n2,n5                 table by table
  kvctl whatif --zone b --svg zone-b.svg    and a picture of the ring: orange cannot be written,
                                            red not read, black has no copy left";

/// `kvctl safe-to`
#[derive(Debug, Subcommand)]
pub(crate) enum SafeToCommand {
    /// Say whether nodes can be stopped now without loss of service: exit code 0 if so, 4 if not
    #[command(after_help = SAFE_EXAMPLES)]
    Stop(StopArgs),
}

/// `kvctl safe-to stop`
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// The nodes, by name
    #[arg(value_name = "NODE", required_unless_present = "zone")]
    nodes: Vec<String>,
    /// All nodes of this zone
    #[arg(long, value_name = "ZONE")]
    zone: Vec<String>,
    /// How long they would be away
    #[arg(long = "for", value_name = "D", value_parser = duration, default_value = "1h")]
    lasts: Duration,
}

/// `kvctl whatif`
#[derive(Args, Debug)]
#[command(after_help = WHATIF_EXAMPLES)]
pub(crate) struct WhatIfArgs {
    /// The nodes that are gone, by name, separated by commas
    #[arg(long, value_name = "NODES", value_delimiter = ',', required_unless_present = "zone")]
    kill: Vec<String>,
    /// All nodes of this zone are gone
    #[arg(long, value_name = "ZONE")]
    zone: Vec<String>,
    /// How long they would be away
    #[arg(long = "for", value_name = "D", value_parser = duration, default_value = "1h")]
    lasts: Duration,
    /// Write a picture of the ring to this file; - for stdout
    #[arg(long, value_name = "FILE")]
    svg: Option<String>,
}

async fn ask(
    context: &Context<'_>,
    nodes: Vec<String>,
    (zones, lasts): (&[String], Duration),
) -> Result<Outage, Failure> {
    let request = context.client()?.outage(nodes).lasts(lasts);
    Ok(zones.iter().fold(request, |request, zone| request.zone(zone.as_str())).await?)
}

/// Says whether nodes can be stopped.
pub(crate) async fn safe_to(
    context: &Context<'_>,
    command: SafeToCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let SafeToCommand::Stop(args) = command;
    let outage = ask(context, args.nodes, (&args.zone, args.lasts)).await?;
    let who = outage.gone.join(", ");
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(&outage))?,
        Format::Plain => {
            let all = outage.reasons.iter().map(|reason| ("unsafe", reason));
            let all = all.chain(outage.warnings.iter().map(|reason| ("note", reason)));
            for (what, OutageReason { kind, units, text, .. }) in all {
                output.line(&format!("{what}\t{kind}\t{units}\t{text}"))?;
            }
        }
        Format::Table => {
            let head = if outage.is_safe() { "Safe" } else { "Not safe" };
            output.line(&format!("{head} to stop {who}{}", beside(&outage)))?;
            for line in reasons(&outage) {
                output.line(&line)?;
            }
            output.line(&hints(&outage, args.lasts))?;
        }
    }
    if outage.is_safe() {
        return Ok(());
    }
    let kinds: Vec<&str> = outage.reasons.iter().map(|reason| reason.kind.as_str()).collect();
    Err(Failure::not_safe(format!("it is not safe to stop {who}: {}", kinds.join(", "))))
}

/// Shows what would be.
pub(crate) async fn what_if(
    context: &Context<'_>,
    args: WhatIfArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let outage = ask(context, args.kill, (&args.zone, args.lasts)).await?;
    if let Some(path) = args.svg.as_deref() {
        let svg = picture(&context.client()?.ring().await?, &outage);
        if path == "-" {
            return output.bytes(svg.as_bytes());
        }
        let unwritable = |error| Failure::internal(format!("cannot write {path}: {error}"));
        std::fs::write(path, svg).map_err(unwritable)?;
        output.note(&format!("the picture is in {path}"));
    }
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(&outage)),
        Format::Plain => outage.lines.iter().try_for_each(|line| {
            let OutageLine { class, kind, partitions, writable, readable, lost, .. } = line;
            let tables = line.tables.join(",");
            output.line(&format!(
                "{tables}\t{class}\t{kind}\t{partitions}\t{writable}\t{readable}\t{}\t{lost}",
                line.last_copy
            ))
        }),
        Format::Table => {
            let text = as_text(&outage, args.lasts, output.color());
            output.bytes(text.as_bytes())
        }
    }
}

fn beside(outage: &Outage) -> String {
    match outage.down.as_slice() {
        [] => String::new(),
        down => format!("; {} does not answer already", down.join(", ")),
    }
}

fn reasons(outage: &Outage) -> Vec<String> {
    let line = |mark: &str, reason: &OutageReason| {
        let units: Vec<String> = reason.examples.iter().map(|(c, p)| format!("{c}/{p}")).collect();
        let more = if reason.units as usize > units.len() { " .." } else { "" };
        let units = match units.as_slice() {
            [] => String::new(),
            some => format!(" ({}{more})", some.join(" ")),
        };
        format!("  {mark}: {}{units}", reason.text)
    };
    let unsafe_now = outage.reasons.iter().map(|reason| line("loses", reason));
    unsafe_now.chain(outage.warnings.iter().map(|reason| line("note", reason))).collect()
}

fn hints(outage: &Outage, lasts: Duration) -> String {
    let room = size(outage.hint_room);
    let lasts = humantime::format_duration(lasts);
    match outage.hint_bytes {
        Some(bytes) => {
            format!("  hints: about {} in {lasts}, the others have room for {room}", size(bytes))
        }
        None => {
            format!("  hints: it is not known what is written; the others have room for {room}")
        }
    }
}

/// The contract of `docs/kvctl.md`.
fn as_json(outage: &Outage) -> Json {
    let unit = |class: u32, partition: u32| json!({ "class": class, "partition": partition });
    let reason = |reason: &OutageReason| {
        json!({
            "kind": reason.kind,
            "text": reason.text,
            "units": reason.units,
            "tables": reason.tables,
            "examples": reason.examples.iter().map(|(c, p)| unit(*c, *p)).collect::<Vec<_>>(),
        })
    };
    let line = |line: &OutageLine| {
        json!({
            "class": line.class, "tables": line.tables, "kind": line.kind,
            "n": line.n, "r": line.r, "w": line.w,
            "partitions": line.partitions,
            "writable": line.writable, "by_stand_ins": line.by_stand_ins,
            "readable": line.readable, "last_copy": line.last_copy, "lost": line.lost,
        })
    };
    let hit = |hit: &crate::client::OutageUnit| {
        json!({
            "class": hit.class, "partition": hit.partition,
            "writes": hit.writes, "reads": hit.reads, "lost": hit.lost,
        })
    };
    let stand_in = |(node, units): &(String, u32)| json!({ "node": node, "units": units });
    let replaced = |(node, by): &(String, Option<String>)| json!({ "node": node, "by": by });
    json!({
        "safe": outage.is_safe(),
        "epoch": outage.epoch.0,
        "answered_by": outage.me,
        "gone": outage.gone,
        "down": outage.down,
        "reasons": outage.reasons.iter().map(reason).collect::<Vec<_>>(),
        "warnings": outage.warnings.iter().map(reason).collect::<Vec<_>>(),
        "tables": outage.lines.iter().map(line).collect::<Vec<_>>(),
        "units": outage.units.iter().map(hit).collect::<Vec<_>>(),
        "stand_ins": outage.stand_ins.iter().map(stand_in).collect::<Vec<_>>(),
        "replaced": outage.replaced.iter().map(replaced).collect::<Vec<_>>(),
        "hint_bytes": outage.hint_bytes,
        "hint_room": outage.hint_room,
    })
}

/// For people.
fn as_text(outage: &Outage, lasts: Duration, color: bool) -> String {
    let mut text = format!("If {} were gone{}:\n", outage.gone.join(", "), beside(outage));
    let of = |part: u32, whole: u32| {
        let cell = Cell::new(grouped(part.into()));
        if color && part < whole { cell.fg(Color::Red) } else { cell }
    };
    let row = |line: &OutageLine| {
        let all = line.partitions;
        let lost = Cell::new(grouped(line.lost.into()));
        let lost = if color && line.lost > 0 { lost.fg(Color::Red) } else { lost };
        vec![
            Cell::new(line.tables.join(", ")),
            Cell::new(&line.kind),
            Cell::new(format!("{}/{}/{}", line.n, line.r, line.w)),
            Cell::new(grouped(all.into())),
            of(line.writable, all),
            of(line.readable, all),
            Cell::new(grouped(line.last_copy.into())),
            lost,
        ]
    };
    let heads = ["TABLES", "KIND", "N/R/W", "PARTS", "WRITABLE", "READABLE", "LAST COPY", "LOST"];
    text.push_str(&grid(&heads, 3, outage.lines.iter().map(row).collect(), color));
    for line in reasons(outage) {
        text.push_str(&line);
        text.push('\n');
    }
    if !outage.stand_ins.is_empty() {
        let one = |(node, units): &(String, u32)| format!("{node} for {units} units");
        let all: Vec<String> = outage.stand_ins.iter().map(one).collect();
        text.push_str(&format!("  stand-ins: {}\n", all.join(", ")));
    }
    for (node, by) in &outage.replaced {
        let by = by.as_ref().map_or("no reserved node is free".to_owned(), |by| {
            format!("{by}, which is reserved, could replace it")
        });
        text.push_str(&format!("  {node}: {by}\n"));
    }
    text.push_str(&hints(outage, lasts));
    text.push('\n');
    text
}

fn picture(ring: &RingView, outage: &Outage) -> String {
    let away = |member: &RingMember| {
        let name = member.name.as_str();
        member.liveness != Liveness::Alive || outage.gone.iter().any(|gone| gone == name)
    };
    let member = |member: &RingMember| PictureMember {
        id: member.id,
        name: member.name.to_string(),
        zone: member.zone.to_string(),
        is_down: away(member),
    };
    let mut losses: BTreeMap<u32, PictureLoss> = BTreeMap::new();
    for unit in &outage.units {
        let loss = match (unit.lost, unit.reads) {
            (true, _) => PictureLoss::Data,
            (false, true) => PictureLoss::Reads,
            (false, false) => PictureLoss::Writes,
        };
        let worst = losses.entry(unit.partition).or_insert(loss);
        *worst = loss.max(*worst);
    }
    ring_svg(&RingPicture {
        title: format!("{} without {}", ring.placement.cluster, outage.gone.join(", ")),
        spots: ring.placement.ring.clone(),
        members: ring.members.iter().map(member).collect(),
        losses: losses.into_iter().collect(),
        ..RingPicture::default()
    })
}

#[cfg(test)]
#[path = "outage_tests.rs"]
mod tests;
