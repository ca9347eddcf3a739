//! What owners lack of each other, between `message` and `proto/peer.proto`.

use bytes::Bytes;

use crate::message::{
    CopyContent, CopyEntry, CopyPlace, RepairMessage, RepairRefusal, RootSaid, RoundId, SessionAsk,
    SessionPlace, UnitRoot,
};
use crate::repair::exchange::{Ask, Cell, MARKS_MAX, RANGE_ENTRIES_MAX, Said};
use crate::repair::tree::{NODES_MAX, Print, Range, Sum};
use crate::types::{ClassId, Epoch, Partition, Stamp, Unit, limits};

use super::copy::{entry_from_wire, entry_to_wire, page_from_wire, page_to_wire};
use super::copy::{place_from_wire as key_from_wire, place_to_wire as key_to_wire};
use super::packed::{ENTRIES_MAX, Packer, Unpacker};
use super::peer::{Malformed, narrow, required, stamp_from_wire, stamp_to_wire};
use super::proto::peer as pb;
use pb::repair::{Body, What};

/// A message as it travels.
pub(super) fn repair_to_wire(message: RepairMessage) -> pb::Repair {
    let (round, body) = match message {
        RepairMessage::Roots { round, units } => {
            let units = units.into_iter().map(root_to_wire).collect();
            (round, Body::Roots(pb::repair::Roots { units }))
        }
        RepairMessage::Differ { round, units } => {
            let units = units.into_iter().map(difference_to_wire).collect();
            (round, Body::Differ(pb::repair::Differences { units }))
        }
        RepairMessage::Ask(ask) => (ask.round, Body::Ask(ask_to_wire(*ask))),
        RepairMessage::Said { round, said } => (round, Body::Said(said_to_wire(said))),
        RepairMessage::Give { round, place, keys } => {
            let keys = keys.into_iter().map(key_to_wire).collect();
            (round, Body::Give(pb::repair::Give { place: Some(place_to_wire(place)), keys }))
        }
        RepairMessage::Given { round, part, parts, page } => {
            (round, Body::Given(page_to_wire((part, parts), page)))
        }
        RepairMessage::Take { round, place, entries } => {
            let entries = entries.into_iter().map(entry_to_wire).collect();
            (round, Body::Take(pb::repair::Take { place: Some(place_to_wire(place)), entries }))
        }
        RepairMessage::Taken { round } => (round, Body::Taken(true)),
        RepairMessage::Refused { round, why } => {
            (round, Body::Refused(refusal_to_wire(why).into()))
        }
        RepairMessage::Dirty { round, unit } => (round, Body::Dirty(unit_to_wire(unit))),
        RepairMessage::Clean { round, unit } => (round, Body::Clean(unit_to_wire(unit))),
    };
    pb::Repair { session: round.op, number: round.round, body: Some(body) }
}

/// A foreign message, checked.
pub(super) fn repair_from_wire(message: pb::Repair) -> Result<RepairMessage, Malformed> {
    let round = RoundId { op: message.session, round: message.number };
    Ok(match required(message.body, "body")? {
        Body::Roots(roots) => {
            let units = bounded(roots.units, limits::REPAIR_ROOTS_MAX, "roots", root_from_wire)?;
            ascending(&units, "roots", |root| root.unit)?;
            RepairMessage::Roots { round, units }
        }
        Body::Differ(roots) => {
            let most = limits::REPAIR_ROOTS_MAX;
            let units = bounded(roots.units, most, "differences", difference_from_wire)?;
            ascending(&units, "differences", |(unit, _)| *unit)?;
            RepairMessage::Differ { round, units }
        }
        Body::Ask(ask) => RepairMessage::Ask(Box::new(ask_from_wire(round, ask)?)),
        Body::Said(said) => RepairMessage::Said { round, said: said_from_wire(said)? },
        Body::Give(give) => {
            let keys = bounded(give.keys, limits::REPAIR_KEYS_MAX, "keys", key_from_wire)?;
            if keys.is_empty() {
                return Err(Malformed::new("keys: there are none"));
            }
            ascending(&keys, "keys", CopyPlace::clone)?;
            RepairMessage::Give { round, place: place_from_wire(give.place)?, keys }
        }
        Body::Given(page) => {
            let (part, parts) = (narrow(page.part, "part")?, narrow(page.parts, "parts")?);
            if part >= parts {
                return Err(Malformed::new(format!("part {part} of {parts}")));
            }
            let page = page_from_wire(page)?;
            if !matches!(page.content, CopyContent::Records(_)) {
                return Err(Malformed::new("given: not records"));
            }
            RepairMessage::Given { round, part, parts, page }
        }
        Body::Take(take) => {
            let most = limits::COPY_PAGE_ENTRIES_MAX;
            let entries = bounded(take.entries, most, "entries", entry_from_wire)?;
            // Pieces of one set follow each other.
            if !entries.is_sorted_by(|a: &CopyEntry, b| a.place <= b.place) {
                return Err(Malformed::new("entries are not in order"));
            }
            RepairMessage::Take { round, place: place_from_wire(take.place)?, entries }
        }
        Body::Taken(_) => RepairMessage::Taken { round },
        Body::Refused(why) => RepairMessage::Refused { round, why: refusal_from_wire(why)? },
        Body::Dirty(unit) => RepairMessage::Dirty { round, unit: unit_from_wire(unit) },
        Body::Clean(unit) => RepairMessage::Clean { round, unit: unit_from_wire(unit) },
    })
}

fn bounded<W, T>(
    of: Vec<W>,
    most: usize,
    what: &'static str,
    one: impl FnMut(W) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    if of.len() > most {
        return Err(Malformed::new(format!("{} {what}: at most {most}", of.len())));
    }
    of.into_iter().map(one).collect()
}

fn ascending<T, K: Ord>(
    of: &[T],
    what: &'static str,
    key: impl Fn(&T) -> K,
) -> Result<(), Malformed> {
    if of.is_sorted_by(|a, b| key(a) < key(b)) {
        return Ok(());
    }
    Err(Malformed::new(format!("{what} are not in order")))
}

fn unit_to_wire(Unit { class: ClassId(class), partition: Partition(partition) }: Unit) -> u32 {
    u32::from(class) << 16 | u32::from(partition)
}

fn unit_from_wire(unit: u32) -> Unit {
    let [a, b, c, d] = unit.to_be_bytes();
    let (class, partition) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Unit { class: ClassId(class), partition: Partition(partition) }
}

fn floor_to_wire(floor: Stamp) -> Option<pb::Stamp> {
    (floor != Stamp::ZERO).then(|| stamp_to_wire(floor))
}

fn floor_from_wire(floor: Option<pb::Stamp>) -> Stamp {
    floor.map_or(Stamp::ZERO, stamp_from_wire)
}

fn print_to_wire(print: Print) -> Bytes {
    Bytes::copy_from_slice(&print.to_bytes())
}

fn print_from_wire(bytes: &[u8]) -> Result<Print, Malformed> {
    let bytes = <[u8; Print::BYTES]>::try_from(bytes)
        .map_err(|_| Malformed::new(format!("print has {} bytes, not 16", bytes.len())))?;
    Ok(Print::from_bytes(bytes))
}

fn sum_from_wire(count: u64, print: &[u8]) -> Result<Sum, Malformed> {
    if count > ENTRIES_MAX {
        return Err(Malformed::new(format!("count is {count}: too large")));
    }
    Ok(Sum { count, print: print_from_wire(print)? })
}

fn root_to_wire(root: UnitRoot) -> pb::repair::Root {
    pb::repair::Root {
        unit: unit_to_wire(root.unit),
        changed_at: root.changed_at.0,
        floor: floor_to_wire(root.floor),
        count: root.sum.count,
        print: print_to_wire(root.sum.print),
    }
}

fn root_from_wire(root: pb::repair::Root) -> Result<UnitRoot, Malformed> {
    Ok(UnitRoot {
        unit: unit_from_wire(root.unit),
        changed_at: Epoch(root.changed_at),
        floor: floor_from_wire(root.floor),
        sum: sum_from_wire(root.count, &root.print)?,
    })
}

fn difference_to_wire((unit, said): (Unit, RootSaid)) -> pb::repair::Difference {
    let mut wire = pb::repair::Difference { unit: unit_to_wire(unit), ..Default::default() };
    match said {
        RootSaid::Differs { floor, sum } => {
            wire.floor = floor_to_wire(floor);
            (wire.count, wire.print) = (sum.count, print_to_wire(sum.print));
        }
        RootSaid::Refused(why) => wire.refused = refusal_to_wire(why).into(),
    }
    wire
}

fn difference_from_wire(wire: pb::repair::Difference) -> Result<(Unit, RootSaid), Malformed> {
    let said = if wire.refused == 0 {
        let sum = sum_from_wire(wire.count, &wire.print)?;
        RootSaid::Differs { floor: floor_from_wire(wire.floor), sum }
    } else {
        RootSaid::Refused(refusal_from_wire(wire.refused)?)
    };
    Ok((unit_from_wire(wire.unit), said))
}

fn place_to_wire(place: SessionPlace) -> pb::repair::Place {
    let SessionPlace { unit, changed_at, floor } = place;
    let (unit, floor) = (unit_to_wire(unit), floor_to_wire(floor));
    pb::repair::Place { unit, changed_at: changed_at.0, floor }
}

fn place_from_wire(place: Option<pb::repair::Place>) -> Result<SessionPlace, Malformed> {
    let place = required(place, "place")?;
    let (unit, floor) = (unit_from_wire(place.unit), floor_from_wire(place.floor));
    Ok(SessionPlace { unit, changed_at: Epoch(place.changed_at), floor })
}

fn packed<T>(all: impl IntoIterator<Item = T>, mut one: impl FnMut(&mut Packer, T)) -> Bytes {
    let mut packer = Packer::default();
    all.into_iter().for_each(|each| one(&mut packer, each));
    packer.finish()
}

fn ask_to_wire(ask: SessionAsk) -> pb::repair::Ask {
    let SessionAsk { place, horizon, ask, .. } = ask;
    let mut wire = pb::repair::Ask {
        unit: unit_to_wire(place.unit),
        changed_at: place.changed_at.0,
        floor: floor_to_wire(place.floor),
        ..Default::default()
    };
    let range = |range: &Range| packed([range], |packer, range| packer.range(range));
    let (what, of) = match &ask {
        Ask::Root => (What::Root, None),
        Ask::Nodes(of) => (What::Nodes, Some(of)),
        Ask::Cells(of, _) => (What::Cells, Some(of)),
        Ask::Entries(of, _) => (What::Entries, Some(of)),
        Ask::Places(of, _) => (What::Places, Some(of)),
    };
    wire.what = what.into();
    wire.range = of.map_or_else(Bytes::new, range);
    match &ask {
        Ask::Cells(_, cells) | Ask::Entries(_, cells) if *cells == [Cell::ALL] => {
            wire.horizon = Some(stamp_to_wire(horizon));
        }
        Ask::Cells(_, cells) | Ask::Entries(_, cells) => {
            wire.cells = packed(cells, |packer, cell| packer.cell(*cell));
        }
        Ask::Places(_, digests) => {
            wire.digests = packed(digests, |packer, digest| packer.digest(*digest));
        }
        Ask::Root | Ask::Nodes(_) => {}
    }
    wire
}

fn ask_from_wire(round: RoundId, wire: pb::repair::Ask) -> Result<SessionAsk, Malformed> {
    let range = || {
        let mut unpacker = Unpacker::new(&wire.range, "range");
        let range = unpacker.range()?;
        if unpacker.is_at_end() { Ok(range) } else { Err(Malformed::new("range: too long")) }
    };
    let cells = || {
        if wire.cells.is_empty() {
            return Ok(vec![Cell::ALL]);
        }
        let mut unpacker = Unpacker::new(&wire.cells, "cells");
        unpacker.all(limits::REPAIR_CELLS_MAX, Unpacker::cell)
    };
    let ask = match What::try_from(wire.what) {
        Ok(What::Root) => Ask::Root,
        Ok(What::Nodes) => Ask::Nodes(range()?),
        Ok(What::Cells) => Ask::Cells(range()?, cells()?),
        Ok(What::Entries) => Ask::Entries(range()?, cells()?),
        Ok(What::Places) => {
            let mut unpacker = Unpacker::new(&wire.digests, "digests");
            Ask::Places(range()?, unpacker.all(MARKS_MAX, Unpacker::digest)?)
        }
        Ok(What::TooMany) | Err(_) => return Err(Malformed::new("what: an unknown question")),
    };
    let unit = unit_from_wire(wire.unit);
    let (changed_at, floor) = (Epoch(wire.changed_at), floor_from_wire(wire.floor));
    let place = SessionPlace { unit, changed_at, floor };
    Ok(SessionAsk { round, place, horizon: floor_from_wire(wire.horizon), ask })
}

fn said_to_wire(said: Said) -> pb::repair::Said {
    let mut wire = pb::repair::Said::default();
    let mut sum = None;
    let what = match said {
        Said::Root(of) => {
            sum = Some(of);
            What::Root
        }
        Said::Nodes(nodes) => {
            wire.nodes = packed(&nodes, Packer::node);
            What::Nodes
        }
        Said::Cells(below, digests) => {
            sum = below;
            wire.digests = packed(digests, Packer::digest);
            What::Cells
        }
        Said::Entries(below, cells) => {
            sum = below;
            wire.digests = packed(cells, |packer, of| {
                packer.number(u64::try_from(of.len()).unwrap_or(u64::MAX));
                of.into_iter().for_each(|digest| packer.digest(digest));
            });
            What::Entries
        }
        Said::Places(marks) => {
            wire.nodes = packed(&marks, Packer::mark);
            What::Places
        }
        Said::TooMany => What::TooMany,
    };
    wire.what = what.into();
    if let Some(Sum { count, print }) = sum {
        (wire.count, wire.print) = (count, print_to_wire(print));
    }
    wire
}

fn said_from_wire(wire: pb::repair::Said) -> Result<Said, Malformed> {
    let sum = || sum_from_wire(wire.count, &wire.print);
    let below = || (!wire.print.is_empty()).then(sum).transpose();
    Ok(match What::try_from(wire.what) {
        Ok(What::Root) => Said::Root(sum()?),
        Ok(What::Nodes) => {
            let nodes = Unpacker::new(&wire.nodes, "nodes").all(NODES_MAX, Unpacker::node)?;
            ascending(&nodes, "nodes", |node| node.from.clone())?;
            Said::Nodes(nodes)
        }
        Ok(What::Cells) => {
            let most = limits::REPAIR_CELLS_MAX * 8;
            let mut unpacker = Unpacker::new(&wire.digests, "digests");
            Said::Cells(below()?, unpacker.all(most, Unpacker::digest)?)
        }
        Ok(What::Entries) => {
            let mut left = RANGE_ENTRIES_MAX;
            let cell = |unpacker: &mut Unpacker<'_>| {
                let count = usize::try_from(unpacker.number()?).unwrap_or(usize::MAX);
                let too_many = || Malformed::new(format!("more than {RANGE_ENTRIES_MAX} entries"));
                left = left.checked_sub(count).ok_or_else(too_many)?;
                (0..count).map(|_| unpacker.digest()).collect::<Result<Vec<u32>, _>>()
            };
            let mut unpacker = Unpacker::new(&wire.digests, "cells");
            let cells = unpacker.all(limits::REPAIR_CELLS_MAX, cell)?;
            if !cells.iter().all(|of| of.is_sorted()) {
                return Err(Malformed::new("digests are not in order"));
            }
            Said::Entries(below()?, cells)
        }
        Ok(What::Places) => {
            let mut unpacker = Unpacker::new(&wire.nodes, "places");
            let marks = unpacker.all(2 * MARKS_MAX, Unpacker::mark)?;
            ascending(&marks, "places", |mark| mark.place.clone())?;
            Said::Places(marks)
        }
        Ok(What::TooMany) => Said::TooMany,
        Err(_) => return Err(Malformed::new("what: an unknown answer")),
    })
}

fn refusal_to_wire(why: RepairRefusal) -> pb::repair::Refusal {
    match why {
        RepairRefusal::Fenced => pb::repair::Refusal::Fenced,
        RepairRefusal::Incomplete => pb::repair::Refusal::Incomplete,
        RepairRefusal::Busy => pb::repair::Refusal::Busy,
        RepairRefusal::Building => pb::repair::Refusal::Building,
        RepairRefusal::Floor => pb::repair::Refusal::Floor,
    }
}

fn refusal_from_wire(why: i32) -> Result<RepairRefusal, Malformed> {
    match pb::repair::Refusal::try_from(why) {
        Ok(pb::repair::Refusal::Fenced) => Ok(RepairRefusal::Fenced),
        Ok(pb::repair::Refusal::Incomplete) => Ok(RepairRefusal::Incomplete),
        Ok(pb::repair::Refusal::Busy) => Ok(RepairRefusal::Busy),
        Ok(pb::repair::Refusal::Building) => Ok(RepairRefusal::Building),
        Ok(pb::repair::Refusal::Floor) => Ok(RepairRefusal::Floor),
        Ok(pb::repair::Refusal::None) | Err(_) => Err(Malformed::new("an unknown refusal")),
    }
}
