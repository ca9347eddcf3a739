//! `kvctl ring`: who holds how much of the ring, what is on the move, where a key lives, and the picture
//! of it all.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use comfy_table::{Attribute, Cell, Color};
use serde_json::{Map, Value as Json, json};

use crate::client::{Liveness, Location, MovePhase, NodeId, PlacedMove, RingMember, RingView};
use crate::picture::{KeyMarker, PictureMember, PictureMove, RingPicture, ring_svg};
use crate::types::{Partition, Unit};

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::grid::{bar, grid, grouped, share};
use super::output::Output;
use super::text;

const BAR_WIDTH: u64 = 16;
/// Units on the move that people are shown.
const MOVES_MAX: usize = 16;

/// `kvctl ring`
#[derive(Args, Debug)]
pub(crate) struct RingArgs {
    /// Show who answers for this key, in order
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The same, in base64
    #[arg(long, value_name = "B64", conflicts_with = "key")]
    key_b64: Option<String>,
    /// Write a picture to this file; - for stdout
    #[arg(long, value_name = "FILE")]
    svg: Option<String>,
}

/// A key, and where it lives.
struct Found {
    key: Vec<u8>,
    place: Location,
}

/// Shows the ring.
pub(crate) async fn run(
    context: &Context<'_>,
    args: RingArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let key = match (args.key, args.key_b64) {
        (Some(key), _) => Some(key.into_bytes()),
        (None, Some(b64)) => Some(text::from_base64("KEY", &b64).map_err(Failure::usage)?),
        (None, None) => None,
    };
    let client = context.client()?;
    let ring = client.ring().await?;
    let found = match key {
        None => None,
        Some(key) => {
            let place = client.locate(key.clone()).table(context.table()).await?;
            Some(Found { key, place })
        }
    };
    match args.svg.as_deref() {
        Some("-") => return output.bytes(picture(&ring, found.as_ref()).as_bytes()),
        Some(path) => {
            let unwritable = |error| Failure::internal(format!("cannot write {path}: {error}"));
            std::fs::write(path, picture(&ring, found.as_ref())).map_err(unwritable)?;
            output.note(&format!("the picture is in {path}"));
        }
        None => {}
    }
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(&ring, found.as_ref())),
        Format::Plain => as_lines(&ring, found.as_ref(), output),
        Format::Table => {
            let text = as_text(&ring, found.as_ref(), output.color());
            output.bytes(text.as_bytes())
        }
    }
}

/// What each member holds.
#[derive(Clone, Copy, Default)]
struct Held {
    /// Virtual nodes.
    partitions: u64,
    /// Copies that are read, over all classes.
    copies: u64,
    /// Copies it gets.
    arriving: u64,
}

fn held(ring: &RingView) -> BTreeMap<NodeId, Held> {
    let mut held: BTreeMap<NodeId, Held> =
        ring.members.iter().map(|member| (member.id, Held::default())).collect();
    let placement = &ring.placement;
    for id in &placement.ring {
        held.entry(*id).or_default().partitions += 1;
    }
    for class in &placement.classes {
        for id in class.owners.iter().flatten() {
            held.entry(*id).or_default().copies += 1;
        }
    }
    for unit in placement.units() {
        let owners = placement.owners(unit);
        let other = placement.moving(unit).map_or(&[][..], |moving| &moving.other);
        for id in other.iter().filter(|id| !owners.contains(id)) {
            held.entry(*id).or_default().arriving += 1;
        }
    }
    held
}

fn name(ring: &RingView, id: NodeId) -> String {
    ring.member(id).map_or_else(|| format!("id-{id}"), |member| member.name.to_string())
}

fn names(ring: &RingView, ids: &[NodeId]) -> Vec<String> {
    ids.iter().map(|id| name(ring, *id)).collect()
}

fn moving(ring: &RingView) -> impl Iterator<Item = (Unit, &PlacedMove)> {
    let placement = &ring.placement;
    placement.units().filter_map(|unit| Some((unit, placement.moving(unit)?)))
}

fn phase(moving: &PlacedMove) -> &'static str {
    match moving.phase {
        MovePhase::ReadOld => "read-old",
        MovePhase::ReadNew => "read-new",
    }
}

/// The contract of `docs/kvctl.md`.
fn as_json(ring: &RingView, found: Option<&Found>) -> Json {
    let held = held(ring);
    let copies: u64 = held.values().map(|held| held.copies).sum();
    let member = |member: &RingMember| {
        let Held { partitions, copies: own, arriving } =
            held.get(&member.id).copied().unwrap_or_default();
        json!({
            "name": member.name.as_str(),
            "id": member.id.0,
            "address": member.address,
            "zone": member.zone.as_str(),
            "state": member.liveness.as_str(),
            "role": member.role,
            "serving": member.serving,
            "partitions": partitions,
            "copies": own,
            "arriving": arriving,
            "share": if copies == 0 { 0.0 } else { ratio(own, copies) },
        })
    };
    let unit = |(unit, moving): (Unit, &PlacedMove)| {
        json!({
            "class": unit.class.0,
            "partition": unit.partition.0,
            "phase": phase(moving),
            "owners": names(ring, ring.placement.owners(unit)),
            "other": names(ring, &moving.other),
        })
    };
    let key = found.map(|found| {
        let mut object = Map::new();
        text::put_bytes(&mut object, "key", &found.key);
        let Location { token, partition, class, owners, stand_ins } = &found.place;
        object.insert("token".to_owned(), format!("{token:016x}").into());
        object.insert("class".to_owned(), (*class).into());
        object.insert("partition".to_owned(), (*partition).into());
        object.insert("owners".to_owned(), json!(owners));
        object.insert("stand_ins".to_owned(), json!(stand_ins));
        Json::from(object)
    });
    json!({
        "cluster": ring.placement.cluster,
        "epoch": ring.epoch.0,
        "partitions": ring.placement.ring.len(),
        "members": ring.members.iter().map(member).collect::<Vec<_>>(),
        "moving": moving(ring).map(unit).collect::<Vec<_>>(),
        "key": key,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a share for people and graphs")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn as_lines(ring: &RingView, found: Option<&Found>, output: &mut Output) -> Result<(), Failure> {
    if let Some(found) = found {
        let owners = found.place.owners.iter().map(|name| (name, "owner"));
        let stand_ins = found.place.stand_ins.iter().map(|name| (name, "stand-in"));
        return owners
            .chain(stand_ins)
            .zip(1..)
            .try_for_each(|((name, what), rank)| output.line(&format!("{rank}\t{name}\t{what}")));
    }
    let held = held(ring);
    ring.members.iter().try_for_each(|member| {
        let Held { partitions, copies, arriving } =
            held.get(&member.id).copied().unwrap_or_default();
        let RingMember { name, zone, liveness, role, .. } = member;
        let state = liveness.as_str();
        output.line(&format!("{name}\t{zone}\t{state}\t{role}\t{partitions}\t{copies}\t{arriving}"))
    })
}

/// For people.
fn as_text(ring: &RingView, found: Option<&Found>, color: bool) -> String {
    let mut text = format!(
        "Ring of {}   epoch {}   {} partitions   {} members\n",
        ring.placement.cluster,
        ring.epoch,
        grouped(ring.placement.ring.len() as u64),
        ring.members.len(),
    );
    text.push_str(&members(ring, color));
    let count = moving(ring).count();
    if count > 0 {
        text.push_str(&format!("\n{} units on the move\n", grouped(count as u64)));
        let row = |(unit, moving): (Unit, &PlacedMove)| {
            let (read, other) = (ring.placement.owners(unit), &moving.other[..]);
            vec![
                Cell::new(unit),
                Cell::new(names(ring, read).join(", ")),
                Cell::new(names(ring, other).join(", ")),
                Cell::new(phase(moving)),
            ]
        };
        let rows = moving(ring).take(MOVES_MAX).map(row).collect();
        text.push_str(&grid(&["UNIT", "READ", "ALSO WRITTEN", "PHASE"], 4, rows, color));
        if count > MOVES_MAX {
            text.push_str(&format!("and {} more\n", count - MOVES_MAX));
        }
    }
    if let Some(Found { key, place }) = found {
        let label = String::from_utf8_lossy(&text::escape(key)).into_owned();
        let (token, partition) = (place.token, place.partition);
        text.push_str(&format!("\nKey {label}   token {token:016x}   partition {partition}\n"));
        let owners = place.owners.iter().map(|name| (name, "owner"));
        let all = owners.chain(place.stand_ins.iter().map(|name| (name, "stand-in")));
        for ((name, what), rank) in all.zip(1..) {
            text.push_str(&format!("{rank:>3}  {name}  {what}\n"));
        }
    }
    text
}

fn members(ring: &RingView, color: bool) -> String {
    let held = held(ring);
    let copies: u64 = held.values().map(|held| held.copies).sum();
    let most = held.values().map(|held| held.copies).max().unwrap_or(0);
    let row = |member: &RingMember| {
        let own = held.get(&member.id).copied().unwrap_or_default();
        let shade = match member.liveness {
            Liveness::Alive => Color::Green,
            Liveness::Suspect => Color::Yellow,
            Liveness::Down | Liveness::Left => Color::Red,
        };
        let arriving =
            if own.arriving == 0 { "–".to_owned() } else { format!("+{}", own.arriving) };
        let state = member.liveness.as_str();
        vec![
            Cell::new(&member.name).add_attribute(Attribute::Bold),
            Cell::new(&member.zone),
            Cell::new(state).fg(shade),
            Cell::new(member.role),
            Cell::new(bar(own.copies, most, BAR_WIDTH)),
            Cell::new(grouped(own.partitions)),
            Cell::new(grouped(own.copies)),
            Cell::new(arriving),
            Cell::new(share(own.copies, copies)),
        ]
    };
    let heads = ["NODE", "ZONE", "STATE", "ROLE", "", "PARTITIONS", "COPIES", "ARRIVING", "SHARE"];
    grid(&heads, 5, ring.members.iter().map(row).collect(), color)
}

/// The picture: owners by colour, zones, who is down, what moves, and the key.
fn picture(ring: &RingView, found: Option<&Found>) -> String {
    let member = |member: &RingMember| PictureMember {
        id: member.id,
        name: member.name.to_string(),
        zone: member.zone.to_string(),
        is_down: member.liveness != Liveness::Alive,
    };
    let one = |(partition, to): (Partition, BTreeSet<NodeId>)| PictureMove {
        partition: partition.0.into(),
        to: to.into_iter().collect(),
    };
    let id = |name: &String| {
        let found = ring.members.iter().find(|member| member.name.as_str() == name);
        found.map(|member| member.id)
    };
    let marker = found.map(|Found { key, place }| {
        let owners: Vec<NodeId> = place.owners.iter().filter_map(id).collect();
        let n_owners = owners.len();
        let members = owners.into_iter().chain(place.stand_ins.iter().filter_map(id)).collect();
        let label = String::from_utf8_lossy(key).into_owned();
        KeyMarker { label, token: place.token, members, n_owners }
    });
    ring_svg(&RingPicture {
        title: format!("{}, epoch {}", ring.placement.cluster, ring.epoch),
        spots: ring.placement.ring.clone(),
        members: ring.members.iter().map(member).collect(),
        moving: ring.placement.arrivals().into_iter().map(one).collect(),
        marker,
        losses: Vec::new(),
    })
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
