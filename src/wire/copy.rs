//! Copies of units, between `message` and `proto/peer.proto`.

use bytes::Bytes;
use std::collections::BTreeSet;

use crate::causality::{Acceptor, SiblingSet};
use crate::message::{
    CopyAsk, CopyChunk, CopyContent, CopyEntry, CopyFile, CopyLeaves, CopyMark, CopyMessage,
    CopyPage, CopyPlace, CopyRecord, CopyRefusal, CopyStretch, CopyWhat, RoundId,
};
use crate::repair::tree::{Place, Range};
use crate::types::{Epoch, TableId, limits};

use super::floor::{bound_from_wire, bound_to_wire};
use super::packed::{Packer, Unpacker};
use super::peer::{
    Malformed, key_from_wire, narrow, record_from_wire, record_to_wire, required, round_from_wire,
    round_to_wire, stamp_from_wire, stamp_to_wire, unit_from_wire, unit_to_wire, wide, wide_bytes,
};
use super::proto::peer as pb;
use pb::copy::{Body, Everything, From, Keys, ask::What, entry::Record as WireRecord};

/// A message as it travels.
pub(super) fn copy_to_wire(message: CopyMessage) -> pb::Copy {
    let (round, body) = match message {
        CopyMessage::Ask(ask) => (ask.round, Body::Ask(ask_to_wire(ask))),
        CopyMessage::Page { round, part, parts, floor, agreed, page } => {
            let (floor, agreed) = (bound_to_wire(floor), bound_to_wire(agreed));
            let page = page_to_wire((part, parts), page);
            (round, Body::Page(pb::copy::Page { floor, agreed, ..page }))
        }
        CopyMessage::Refused { round, why } => (round, Body::Refused(refusal_to_wire(why).into())),
    };
    pb::Copy { round: round_to_wire(round), body: Some(body) }
}

/// A foreign message, checked.
pub(super) fn copy_from_wire(message: pb::Copy) -> Result<CopyMessage, Malformed> {
    let round = round_from_wire(message.round)?;
    Ok(match required(message.body, "body")? {
        Body::Ask(ask) => CopyMessage::Ask(ask_from_wire(round, ask)?),
        Body::Page(mut page) => {
            let (part, parts) = (narrow(page.part, "part")?, narrow(page.parts, "parts")?);
            if part >= parts {
                return Err(Malformed::new(format!("part {part} of {parts}")));
            }
            let floor = bound_from_wire(page.floor.take());
            let agreed = bound_from_wire(page.agreed.take());
            CopyMessage::Page { round, part, parts, floor, agreed, page: page_from_wire(page)? }
        }
        Body::Refused(why) => CopyMessage::Refused { round, why: refusal_from_wire(why)? },
    })
}

pub(super) fn place_to_wire(place: CopyPlace) -> pb::CopyPlace {
    pb::CopyPlace { table: place.table.0, key: place.key.bytes().clone() }
}

pub(super) fn place_from_wire(place: pb::CopyPlace) -> Result<CopyPlace, Malformed> {
    Ok(CopyPlace { table: TableId(place.table), key: key_from_wire(place.key)? })
}

fn ask_to_wire(ask: CopyAsk) -> pb::copy::Ask {
    let behind = |after: Option<CopyPlace>| {
        let after = after.map(place_to_wire);
        Everything { after, ..Everything::default() }
    };
    pb::copy::Ask {
        unit: unit_to_wire(ask.unit),
        entry: ask.entry.0,
        changed_at: ask.changed_at.0,
        what: Some(match ask.what {
            CopyWhat::All(after) => What::All(behind(after)),
            CopyWhat::Marks(CopyStretch { range, after }) => {
                let range = if range == Range::default() { Bytes::new() } else { packed(&range) };
                What::Marks(Everything { range, ..behind(after) })
            }
            CopyWhat::Leaves(from, after) => {
                What::Marks(Everything { leaves: Some(packed_place(&from)), ..behind(after) })
            }
            CopyWhat::Keys(places) => {
                What::Keys(Keys { places: places.into_iter().map(place_to_wire).collect() })
            }
            CopyWhat::Files => What::Files(true),
            CopyWhat::Chunk(file, offset) => What::Chunk(From { file, offset }),
            CopyWhat::Ended => What::Ended(true),
        }),
    }
}

fn ask_from_wire(round: RoundId, ask: pb::copy::Ask) -> Result<CopyAsk, Malformed> {
    let what = match required(ask.what, "what")? {
        What::All(Everything { after, .. }) => {
            CopyWhat::All(after.map(place_from_wire).transpose()?)
        }
        What::Marks(all) => marks_from_wire(all)?,
        What::Keys(Keys { places }) => {
            let places: Vec<CopyPlace> =
                places.into_iter().map(place_from_wire).collect::<Result<_, _>>()?;
            if places.is_empty() || places.len() > limits::COPY_PAGE_ENTRIES_MAX {
                return Err(Malformed::new(format!("{} keys", places.len())));
            }
            if !places.is_sorted_by(|a, b| a < b) {
                return Err(Malformed::new("keys are not in order"));
            }
            CopyWhat::Keys(places)
        }
        What::Files(_) => CopyWhat::Files,
        What::Chunk(From { file, offset }) => CopyWhat::Chunk(file_name(file)?, offset),
        What::Ended(_) => CopyWhat::Ended,
    };
    let (entry, changed_at) = (Epoch(ask.entry), Epoch(ask.changed_at));
    Ok(CopyAsk { round, unit: unit_from_wire(ask.unit)?, entry, changed_at, what })
}

fn packed(range: &Range) -> Bytes {
    let mut packer = Packer::default();
    packer.range(range);
    packer.finish()
}

fn packed_place(place: &Place) -> Bytes {
    let mut packer = Packer::default();
    packer.place(place);
    packer.finish()
}

/// One thing that was packed, and nothing behind it.
fn unpacked<T>(
    bytes: &[u8],
    what: &'static str,
    one: impl for<'a> FnOnce(&mut Unpacker<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut unpacker = Unpacker::new(bytes, what);
    let one = one(&mut unpacker)?;
    if unpacker.is_at_end() { Ok(one) } else { Err(Malformed::new(format!("{what} goes on"))) }
}

fn marks_from_wire(all: Everything) -> Result<CopyWhat, Malformed> {
    let after = all.after.map(place_from_wire).transpose()?;
    if let Some(from) = all.leaves {
        if !all.range.is_empty() {
            return Err(Malformed::new("leaves of a range"));
        }
        return Ok(CopyWhat::Leaves(unpacked(&from, "a place", |it| it.bound())?, after));
    }
    let range = match all.range.is_empty() {
        true => Range::default(),
        false => unpacked(&all.range, "a range", |it| it.range())?,
    };
    Ok(CopyWhat::Marks(CopyStretch { range, after }))
}

fn leaves_to_wire(CopyLeaves { leaves, end }: &CopyLeaves) -> pb::copy::Leaves {
    let mut packer = Packer::default();
    leaves.iter().for_each(|leaf| packer.leaf(leaf));
    pb::copy::Leaves { leaves: packer.finish(), end: end.as_ref().map(packed_place) }
}

fn leaves_from_wire(wire: &pb::copy::Leaves) -> Result<CopyLeaves, Malformed> {
    let mut unpacker = Unpacker::new(&wire.leaves, "leaves");
    let leaves = unpacker.all(limits::COPY_PAGE_ENTRIES_MAX, Unpacker::leaf)?;
    let end = wire.end.as_ref().map(|end| unpacked(end, "a place", |it| it.bound()));
    let told = CopyLeaves { leaves, end: end.transpose()? };
    if !told.fits(&Place::first()) {
        return Err(Malformed::new("leaves are not in order"));
    }
    Ok(told)
}

pub(super) fn page_to_wire((part, parts): (u16, u16), page: CopyPage) -> pb::copy::Page {
    let mut wire = pb::copy::Page {
        part: part.into(),
        parts: parts.into(),
        next: page.next.map(place_to_wire),
        ..pb::copy::Page::default()
    };
    match page.content {
        CopyContent::Records(entries) => {
            wire.entries = entries.into_iter().map(entry_to_wire).collect();
        }
        CopyContent::Marks(marks) => {
            wire.of_marks = true;
            wire.marks = marks.into_iter().map(mark_to_wire).collect();
        }
        CopyContent::Leaves(leaves) => wire.leaves = Some(leaves_to_wire(&leaves)),
        CopyContent::Files(files) => {
            let file = |CopyFile { name, bytes }| pb::copy::File { name, bytes };
            wire.files = Some(pb::copy::Files { files: files.into_iter().map(file).collect() });
        }
        CopyContent::Chunk(CopyChunk { bytes, sum }) => {
            wire.chunk = Some(pb::copy::Chunk { bytes, sum });
        }
    }
    wire
}

pub(super) fn page_from_wire(page: pb::copy::Page) -> Result<CopyPage, Malformed> {
    let content = if let Some(files) = page.files {
        CopyContent::Files(files_from_wire(files.files)?)
    } else if let Some(pb::copy::Chunk { bytes, sum }) = page.chunk {
        CopyContent::Chunk(CopyChunk { bytes, sum })
    } else if let Some(leaves) = &page.leaves {
        CopyContent::Leaves(leaves_from_wire(leaves)?)
    } else if page.of_marks {
        let marks = page.marks.into_iter().map(mark_from_wire);
        let marks: Vec<CopyMark> = marks.collect::<Result<_, _>>()?;
        if !marks.is_sorted_by(|a, b| a.place < b.place) {
            return Err(Malformed::new("marks are not in order"));
        }
        CopyContent::Marks(marks)
    } else {
        let entries = page.entries.into_iter().map(entry_from_wire);
        let entries: Vec<CopyEntry> = entries.collect::<Result<_, _>>()?;
        // Pieces of one set follow each other.
        if !entries.is_sorted_by(|a, b| a.place <= b.place) {
            return Err(Malformed::new("a page is not in order"));
        }
        CopyContent::Records(entries)
    };
    Ok(CopyPage { content, next: page.next.map(place_from_wire).transpose()? })
}

/// What is to be the name of a file here, and is chosen elsewhere.
fn file_name(name: String) -> Result<String, Malformed> {
    if CopyFile::is_name(&name) { Ok(name) } else { Err(Malformed::new("no name of a file")) }
}

fn files_from_wire(files: Vec<pb::copy::File>) -> Result<Vec<CopyFile>, Malformed> {
    if files.len() > limits::COPY_FILES_MAX {
        return Err(Malformed::new(format!("{} files", files.len())));
    }
    let mut checked = Vec::with_capacity(files.len());
    for pb::copy::File { name, bytes } in files {
        checked.push(CopyFile { name: file_name(name)?, bytes });
    }
    let names: BTreeSet<&str> = checked.iter().map(|file| file.name.as_str()).collect();
    if names.len() < checked.len() || checked.iter().any(|file| file.bytes == 0) {
        return Err(Malformed::new("files that are empty, or have one name"));
    }
    Ok(checked)
}

pub(super) fn entry_to_wire(CopyEntry { place, record }: CopyEntry) -> pb::copy::Entry {
    let record = match record {
        CopyRecord::Version(record) => WireRecord::Version(record_to_wire(record)),
        CopyRecord::Siblings(set) => WireRecord::Siblings(set.encode().into()),
        CopyRecord::Register(acceptor) => {
            let mut bytes = Vec::new();
            acceptor.encode(&mut bytes);
            WireRecord::Acceptor(bytes.into())
        }
    };
    pb::copy::Entry { place: Some(place_to_wire(place)), record: Some(record) }
}

pub(super) fn entry_from_wire(entry: pb::copy::Entry) -> Result<CopyEntry, Malformed> {
    let damaged = |what: &str| Malformed::new(format!("{what} does not decode"));
    let set = |bytes: Bytes| SiblingSet::decode(bytes).ok_or_else(|| damaged("a set of siblings"));
    let record = match required(entry.record, "record")? {
        WireRecord::Version(record) => CopyRecord::Version(record_from_wire(record)?),
        WireRecord::Siblings(bytes) => CopyRecord::Siblings(set(bytes)?),
        WireRecord::Acceptor(bytes) => {
            let acceptor = Acceptor::decode(bytes).ok_or_else(|| damaged("an acceptor"))?;
            CopyRecord::Register(acceptor)
        }
    };
    Ok(CopyEntry { place: place_from_wire(required(entry.place, "place")?)?, record })
}

fn mark_to_wire(mark: CopyMark) -> pb::copy::Mark {
    pb::copy::Mark {
        place: Some(place_to_wire(mark.place)),
        stamp: Some(stamp_to_wire(mark.stamp)),
        print: wide_bytes(mark.print),
    }
}

fn mark_from_wire(mark: pb::copy::Mark) -> Result<CopyMark, Malformed> {
    Ok(CopyMark {
        place: place_from_wire(required(mark.place, "place")?)?,
        stamp: stamp_from_wire(required(mark.stamp, "stamp")?),
        print: wide(&mark.print, "print")?,
    })
}

fn refusal_to_wire(why: CopyRefusal) -> pb::copy::Refusal {
    match why {
        CopyRefusal::Incomplete => pb::copy::Refusal::Incomplete,
        CopyRefusal::NotAcknowledged => pb::copy::Refusal::NotAcknowledged,
        CopyRefusal::OtherEntry => pb::copy::Refusal::OtherEntry,
        CopyRefusal::Fenced => pb::copy::Refusal::Fenced,
        CopyRefusal::Gone => pb::copy::Refusal::Gone,
        CopyRefusal::Busy => pb::copy::Refusal::Busy,
    }
}

fn refusal_from_wire(why: i32) -> Result<CopyRefusal, Malformed> {
    match pb::copy::Refusal::try_from(why) {
        Ok(pb::copy::Refusal::Incomplete) => Ok(CopyRefusal::Incomplete),
        Ok(pb::copy::Refusal::NotAcknowledged) => Ok(CopyRefusal::NotAcknowledged),
        Ok(pb::copy::Refusal::OtherEntry) => Ok(CopyRefusal::OtherEntry),
        Ok(pb::copy::Refusal::Fenced) => Ok(CopyRefusal::Fenced),
        Ok(pb::copy::Refusal::Gone) => Ok(CopyRefusal::Gone),
        Ok(pb::copy::Refusal::Busy) => Ok(CopyRefusal::Busy),
        Ok(pb::copy::Refusal::None) | Err(_) => Err(Malformed::new("an unknown refusal")),
    }
}
