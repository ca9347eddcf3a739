//! Notes of what is merged here, for those who watch tables. A change is noted when it is as durable as
//! was asked, and before that is answered: what is acknowledged has been noted. While nobody watches a
//! write looks at one flag.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::keyspace::{PREFIX_BYTES, data_key, table_of};
use super::{Done, Shared, causal, disk_error, record};
use crate::causality::{Dot, Payload, SiblingSet};
use crate::message::{Change, ChangesAsk, ChangesPage, DiskAnswer, DiskError, DiskRequest};
use crate::types::{Key, Record, Stamp, TableId, Unit, Value, WallTime, limits};
use crate::watch::Recent;

/// The notes of a store.
#[derive(Debug)]
pub(super) struct Changes {
    live: AtomicBool,
    recent: Mutex<Recent>,
}

impl Default for Changes {
    fn default() -> Changes {
        let recent = Mutex::new(Recent::new(limits::WATCH_NOTES_BYTES_MAX));
        Changes { live: AtomicBool::new(false), recent }
    }
}

impl Changes {
    /// Whether anybody watches.
    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Notes changes of one unit.
    pub(super) fn note(&self, unit: Unit, changes: Vec<(TableId, Change)>) {
        let mut recent = self.recent.lock();
        for (table, change) in changes {
            recent.note((unit, table), change);
        }
    }

    /// Ceases to note tables.
    pub(super) fn forget(&self, tables: &[TableId]) {
        let mut recent = self.recent.lock();
        tables.iter().for_each(|table| recent.forget(*table));
        self.live.store(recent.is_live(), Ordering::Release);
    }

    fn read(&self, ask: &ChangesAsk) -> (ChangesPage, Vec<(u64, Unit)>) {
        let mut recent = self.recent.lock();
        let page = recent.read(ask);
        self.live.store(true, Ordering::Release);
        page
    }
}

/// A version that stands at an engine's key, as a change.
pub(super) fn of_version(key: &[u8], record: &Record) -> Option<(TableId, Change)> {
    let change = Change {
        key: user_key(key)?,
        stamp: record.stamp,
        print: 0,
        deleted: record.value.is_none(),
        expiry: record.expiry,
        siblings: record.value.is_some().into(),
        value: None,
        value_left_out: false,
    };
    Some((table_of(key)?, change))
}

/// The same of a set of siblings.
pub(super) fn of_set(key: &[u8], set: &SiblingSet) -> Option<(TableId, Change)> {
    let siblings = u32::try_from(set.groups()).unwrap_or(u32::MAX);
    let mut expiry = None;
    if let Some((_, write)) = set.writes().next()
        && siblings == 1
    {
        let shown = || set.shown(WallTime(0)).first().and_then(|shown| shown.expiry);
        expiry = if write.part().is_some() { shown() } else { write.expiry };
    }
    let change = Change {
        key: user_key(key)?,
        stamp: set.context().last().map_or(Stamp::ZERO, Dot::stamp),
        // 0 says that there is none.
        print: xxh3_64(&set.sketch().encode()).max(1),
        deleted: siblings == 0,
        expiry,
        siblings,
        value: None,
        value_left_out: false,
    };
    Some((table_of(key)?, change))
}

fn user_key(key: &[u8]) -> Option<Key> {
    Key::new(Bytes::copy_from_slice(key.get(PREFIX_BYTES..)?)).ok()
}

/// Carries out a request if memory can answer it; hands it back otherwise.
pub(super) fn try_execute(
    shared: &Shared,
    request: DiskRequest,
    done: Done,
) -> Option<(DiskRequest, Done)> {
    if matches!(&request, DiskRequest::Changes(ask) if ask.values) {
        return Some((request, done));
    }
    execute(shared, &request, done);
    None
}

/// Carries out a request; may wait for reads of the disk where values are wanted.
pub(super) fn execute(shared: &Shared, request: &DiskRequest, done: Done) {
    match request {
        DiskRequest::Changes(ask) => done(answer(shared, ask)),
        DiskRequest::ForgetChanges(tables) => {
            shared.changes.forget(tables);
            done(Ok(DiskAnswer::ChangesForgotten));
        }
        _ => unreachable!("the caller has looked"),
    }
}

/// Answers what is asked of the notes; with values, as the keys hold them now.
fn answer(shared: &Shared, ask: &ChangesAsk) -> Result<DiskAnswer, DiskError> {
    let (mut page, places) = shared.changes.read(ask);
    if !ask.values {
        return Ok(DiskAnswer::Changes(page));
    }
    let mut bytes = 0;
    for (index, (seq, unit)) in places.into_iter().enumerate() {
        let Some(change) = page.changes.get_mut(index) else { break };
        bring_value(shared, (unit, ask.table), change)?;
        bytes += change.bytes();
        if bytes > ask.bytes_max as usize && index > 0 {
            page.changes.truncate(index);
            (page.next, page.more) = (seq, true);
            break;
        }
    }
    Ok(DiskAnswer::Changes(page))
}

/// Makes of a change what its key holds now, with the value if it is small.
fn bring_value(
    shared: &Shared,
    (unit, table): (Unit, TableId),
    change: &mut Change,
) -> Result<(), DiskError> {
    let below = data_key(unit, table, &change.key);
    let placed = shared.overlays.placed(unit, below.clone());
    let mut found = shared.engine.get(&placed).map_err(|error| disk_error(&error))?;
    if found.is_none() && placed != below {
        found = shared.engine.get(&below).map_err(|error| disk_error(&error))?;
    }
    let Some((bytes, _)) = found else {
        // It has been purged, or has moved away, since.
        change.value_left_out = !change.deleted;
        return Ok(());
    };
    let (now, value) = if bytes.first() == Some(&causal::HEAD) {
        let set = causal::decode(bytes)?;
        (of_set(&below, &set), only_value(&set))
    } else {
        let damaged = || DiskError::Corruption("a stored version does not decode".to_owned());
        let record = record::decode(bytes).ok_or_else(damaged)?;
        (of_version(&below, &record), record.value)
    };
    let Some((_, now)) = now else { return Ok(()) };
    *change = now;
    let small = value.filter(|it| it.as_bytes().len() <= limits::WATCH_VALUE_BYTES_MAX);
    // A copy: what waits for a client pins no block.
    let copied = small.and_then(|it| Value::new(Bytes::copy_from_slice(it.as_bytes())).ok());
    change.value_left_out = copied.is_none() && !change.deleted;
    change.value = copied;
    Ok(())
}

/// The value of a set that has only one, if it stands with it.
fn only_value(set: &SiblingSet) -> Option<Value> {
    let (_, write) = set.writes().next().filter(|_| set.groups() == 1)?;
    match &write.payload {
        Payload::Here(value) => Some(value.clone()),
        // This owner may not have all parts of a counter.
        Payload::Away(_) | Payload::Part(_) => None,
    }
}
