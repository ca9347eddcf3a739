//! The node's own records: where they are kept and how they are read back at boot.

use std::path::Path;
use std::sync::mpsc;

use super::{ReplicaError, hints, own};
use crate::codec;
use crate::message::{FillRecord, FillStage, MetaRecord, Restored};
use crate::storage::{self, Batch, Durability, Engine, Recovery, Snapshot};
use crate::types::{Unit, limits};

const BIRTH: u8 = 1;
const PLEDGE: u8 = 2;
const STATE: u8 = 3;
const BOOT: u8 = 4;
const CEILING: u8 = 5;
const LIFE: u8 = 6;
const DECREE: u8 = 8;
const DECIDED: u8 = 9;
const SWEPT: u8 = 10;
const DIRTY: u8 = 11;
/// Numbers below 16 are kept for the records of other kinds of table.
const TENURE: u8 = 16;
const ACKNOWLEDGED: u8 = 17;
/// How far a unit is filled.
const FILL: u8 = 18;
/// What is known of the purge floor of a unit.
const FLOOR: u8 = 19;
const CUSTODY: u8 = 20;
const ABSTAIN: u8 = 24;
const SCRUB: u8 = 25;
const REFUSED: u8 = 26;
const ASIDE: u8 = 60;
/// What has happened, in a ring.
const EVENT: u8 = 61;
/// How busy the node was, in a ring of hours.
const HOUR: u8 = 62;
const RESIZED: u8 = 63;
const PROPOSALS: u8 = 64;
/// Damage that was found in the log once: not forgotten when the log is.
const DAMAGE: u8 = 7;

/// Adds a record of the node itself to a batch.
pub(super) fn put(batch: &mut Batch, record: &MetaRecord) -> Result<(), codec::CodecError> {
    if let MetaRecord::Clean(..) = record {
        own::delete(batch, &key(record));
    } else {
        own::put(batch, &key(record), &codec::encode(record)?);
    }
    Ok(())
}

/// Takes out how far a unit is filled.
pub(super) fn forget_fill(batch: &mut Batch, unit: Unit) {
    own::delete(batch, &of_unit(FILL, unit));
}

/// Whether it is on record that a unit has lost data, and has not been emptied since.
pub(super) fn has_lost(snapshot: &Snapshot, unit: Unit) -> bool {
    let record = own::get(snapshot, &of_unit(FILL, unit));
    let record = record.and_then(|record| codec::decode::<MetaRecord>(&record).ok());
    matches!(record, Some(MetaRecord::Fill(_, FillRecord { stage: FillStage::Lost, .. })))
}

/// Takes out what is known of the purge floor of a unit.
pub(super) fn forget_floor(batch: &mut Batch, unit: Unit) {
    own::delete(batch, &of_unit(FLOOR, unit));
}

/// Where a record stands behind the space.
fn key(record: &MetaRecord) -> Vec<u8> {
    let mut key = Vec::new();
    match record {
        MetaRecord::Birth(_) => key.push(BIRTH),
        MetaRecord::Pledge(_) => key.push(PLEDGE),
        MetaRecord::State(_) => key.push(STATE),
        MetaRecord::Boot(_) => key.push(BOOT),
        MetaRecord::Ceiling(_) => key.push(CEILING),
        MetaRecord::Life(member, _) => {
            key.push(LIFE);
            key.extend_from_slice(&member.0.to_be_bytes());
        }
        MetaRecord::Decree(_) => key.push(DECREE),
        MetaRecord::Decided(_) => key.push(DECIDED),
        MetaRecord::Swept(_) => key.push(SWEPT),
        MetaRecord::Dirty(unit, target) | MetaRecord::Clean(unit, target) => {
            key.push(DIRTY);
            key.extend_from_slice(&unit.class.0.to_be_bytes());
            key.extend_from_slice(&unit.partition.0.to_be_bytes());
            key.extend_from_slice(&target.0.to_be_bytes());
        }
        MetaRecord::Tenure(_) => key.push(TENURE),
        MetaRecord::Acknowledged(_) => key.push(ACKNOWLEDGED),
        MetaRecord::Abstain(_) => key.push(ABSTAIN),
        MetaRecord::Scrub(_) => key.push(SCRUB),
        MetaRecord::Refused(_) => key.push(REFUSED),
        MetaRecord::Aside(_) => key.push(ASIDE),
        MetaRecord::Event(event) => {
            key.push(EVENT);
            let slot = event.seq % limits::EVENTS_MAX as u64;
            key.extend_from_slice(&slot.to_be_bytes());
        }
        MetaRecord::Hour(hour) => {
            key.push(HOUR);
            key.extend_from_slice(&hour.slot().to_be_bytes());
        }
        MetaRecord::Resized(_) => key.push(RESIZED),
        MetaRecord::Proposals(_) => key.push(PROPOSALS),
        MetaRecord::Fill(unit, _) => return of_unit(FILL, *unit).to_vec(),
        MetaRecord::Floor(unit, _) => return of_unit(FLOOR, *unit).to_vec(),
        MetaRecord::Custody(_) => key.push(CUSTODY),
    }
    key
}

fn of_unit(kind: u8, unit: Unit) -> [u8; 5] {
    let [c0, c1] = unit.class.0.to_be_bytes();
    let [p0, p1] = unit.partition.0.to_be_bytes();
    [kind, c0, c1, p0, p1]
}

/// Makes damage of the log durable, so that a node that once lost acknowledged writes does not
/// forget it when the log is gone.
pub(super) fn note_damage(engine: &Engine, recovery: &Recovery) -> Result<(), storage::Error> {
    if recovery.corrupt.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for region in &recovery.corrupt {
        let place = format!("{} {}..{}", region.file.display(), region.start, region.end);
        let mut key = vec![DAMAGE];
        key.extend_from_slice(place.as_bytes());
        own::put(&mut batch, &key, b"");
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let on_done = Box::new(move |result| {
        // The receiver waits below; it cannot be gone.
        let _received = sender.send(result);
    });
    engine.submit(batch, Durability::Synced, on_done)?;
    while engine.step() {}
    receiver.recv().unwrap_or(Err(storage::Error::Closed))?;
    // The damaged log goes, and with it the damage.
    engine.forget_log_damage()
}

/// Takes out what was noted of damage of the log: it has been dealt with.
pub(super) fn forget_damage(batch: &mut Batch) {
    own::delete_all(batch, &[DAMAGE]);
}

/// Reads the node's own records.
pub(super) fn restore(engine: &Engine, dir: &Path) -> Result<Restored, ReplicaError> {
    let mut restored = Restored::default();
    for (key, value) in own::read_all(engine)? {
        if let Some(place) = key.strip_prefix(&[DAMAGE]) {
            let place = String::from_utf8_lossy(place);
            restored.damage.push(format!("the log was damaged at {place} below what was synced"));
            continue;
        }
        let record = codec::decode::<MetaRecord>(&value).map_err(|error| ReplicaError::Meta {
            dir: dir.to_path_buf(),
            record: key,
            reason: error.to_string(),
        })?;
        match record {
            MetaRecord::Birth(birth) => restored.birth = Some(birth),
            MetaRecord::Pledge(hash) => restored.pledge = Some(hash),
            MetaRecord::State(state) => restored.state = Some(state),
            MetaRecord::Boot(boot) => restored.boot = Some(boot),
            MetaRecord::Ceiling(ceiling) => restored.ceiling = ceiling,
            MetaRecord::Life(member, life) => {
                restored.lives.insert(member, life);
            }
            MetaRecord::Decree(record) => restored.decree = record,
            MetaRecord::Decided(state) => restored.decided = Some(state),
            MetaRecord::Swept(epoch) => restored.swept = epoch,
            MetaRecord::Dirty(unit, target) => {
                restored.dirty.insert((unit, target));
            }
            MetaRecord::Clean(unit, target) => {
                restored.dirty.remove(&(unit, target));
            }
            MetaRecord::Tenure(tenure) => restored.tenure = Some(tenure),
            MetaRecord::Acknowledged(epoch) => restored.acknowledged = epoch,
            MetaRecord::Abstain(epoch) => restored.abstain = epoch,
            MetaRecord::Scrub(record) => restored.scrub = record,
            MetaRecord::Refused(why) => restored.refused = Some(why),
            MetaRecord::Fill(unit, record) => {
                restored.fills.insert(unit, record);
            }
            MetaRecord::Floor(unit, record) => {
                restored.floors.insert(unit, record);
            }
            MetaRecord::Custody(bar) => restored.custody = bar,
            MetaRecord::Aside(aside) => restored.aside = Some(aside),
            MetaRecord::Event(event) => {
                restored.events.insert(event.seq, event);
            }
            MetaRecord::Hour(hour) => restored.hours.push(hour),
            MetaRecord::Resized(resized) => restored.resized = resized,
            MetaRecord::Proposals(proposals) => restored.proposals = proposals,
        }
    }
    restored.hints = hints::count(engine)?;
    Ok(restored)
}
