//! Carries out disk requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::scan::{PageOrder, read_page};
use super::trees::Counted;
use super::{
    Done, Shared, aside, causal, changes, disk_error, floors, hints, keyspace, record, register,
    restore, sweep, together, trees, unit,
};
use crate::causality::{Merge, merge};
use crate::message::{
    CustodyChange, DiskAnswer, DiskError, DiskRequest, Hint, HintPlace, MetaRecord, ReplicaFacts,
    TreeSizes, WriteOutcome,
};
use crate::repair::floor::{From, Verdict};
use crate::storage::{Batch, Durability, OnDone, Seqno, TryGet};
use crate::types::{NodeId, Record, Stamp, Unit};

type Outcome = Result<DiskAnswer, DiskError>;

pub(super) fn try_execute(
    shared: &Shared,
    request: DiskRequest,
    done: Done,
) -> Option<(DiskRequest, Done)> {
    match &request {
        DiskRequest::Write { unit, table, key, record } => {
            let key = keyspace::data_key(*unit, *table, key);
            let Some(_guard) = shared.stripe(&key).try_lock() else { return Some((request, done)) };
            let key = shared.overlays.placed(*unit, key);
            let before = Undone::now(shared);
            let present = match shared.engine.try_get(&key) {
                TryGet::Found(value, _) => Ok(Some(value)),
                TryGet::Absent => Ok(None),
                TryGet::NeedsDisk => return Some((request, done)),
            };
            write(shared, (*unit, &key), (present, before), record, done);
            None
        }
        DiskRequest::Read { unit, table, key, durable } => {
            let before = durable.then(|| Undone::now(shared));
            match shared.engine.try_get(&keyspace::data_key(*unit, *table, key)) {
                TryGet::Found(value, of) => show(shared, (value, of), before, done),
                TryGet::Absent => done(Ok(DiskAnswer::Read(None))),
                TryGet::NeedsDisk => return Some((request, done)),
            }
            None
        }
        DiskRequest::Persist(records) => {
            persist(shared, records, done);
            None
        }
        DiskRequest::KeepHint { target, hint } => {
            let key = hints::key_of(*target, hint);
            let Some(guard) = shared.stripe(&key).try_lock() else { return Some((request, done)) };
            let before = Undone::now(shared);
            let present = match shared.engine.try_get(&key) {
                TryGet::Found(value, _) => Some(value),
                TryGet::Absent => None,
                TryGet::NeedsDisk => return Some((request, done)),
            };
            keep_hint(shared, (present, before), (*target, hint), done);
            drop(guard);
            None
        }
        DiskRequest::Causal(_) => {
            let DiskRequest::Causal(disk) = request else { return None };
            let back = causal::try_execute(shared, disk, done);
            back.map(|(disk, done)| (DiskRequest::Causal(disk), done))
        }
        DiskRequest::Register(_) => {
            let DiskRequest::Register(disk) = request else { return None };
            let back = register::try_execute(shared, disk, done);
            back.map(|(disk, done)| (DiskRequest::Register(disk), done))
        }
        DiskRequest::Changes(_) | DiskRequest::ForgetChanges(_) => {
            changes::try_execute(shared, request, done)
        }
        DiskRequest::WriteTogether { .. }
        | DiskRequest::Range { .. }
        | DiskRequest::EndCursors(_)
        | DiskRequest::ReadHint { .. }
        | DiskRequest::ChangeHint(_)
        | DiskRequest::Hints { .. }
        | DiskRequest::RemoveHint { .. }
        | DiskRequest::DropHints { .. }
        | DiskRequest::Sweep { .. }
        | DiskRequest::Unit(_)
        | DiskRequest::Tree(_)
        | DiskRequest::Floor(_)
        | DiskRequest::Aside(_)
        | DiskRequest::Flush
        | DiskRequest::Compact
        | DiskRequest::Measure => Some((request, done)),
    }
}

pub(super) fn execute(shared: &Arc<Shared>, request: DiskRequest, done: Done) {
    match request {
        DiskRequest::Write { unit, table, key, record } => {
            let key = keyspace::data_key(unit, table, &key);
            let _guard = shared.stripe(&key).lock();
            let key = shared.overlays.placed(unit, key);
            let before = Undone::now(shared);
            let present = shared.engine.get(&key).map_err(|error| disk_error(&error));
            let present = present.map(|present| present.map(|(value, _)| value));
            write(shared, (unit, &key), (present, before), &record, done);
        }
        DiskRequest::WriteTogether { unit, table, items } => {
            together::write(shared, (unit, table), &items, done);
        }
        DiskRequest::Read { unit, table, key, durable } => {
            let before = durable.then(|| Undone::now(shared));
            match shared.engine.get(&keyspace::data_key(unit, table, &key)) {
                Ok(Some(found)) => show(shared, found, before, done),
                Ok(None) => done(Ok(DiskAnswer::Read(None))),
                Err(error) => done(Err(disk_error(&error))),
            }
        }
        DiskRequest::Causal(disk) => causal::execute(shared, *disk, done),
        DiskRequest::Register(disk) => register::execute(shared, *disk, done),
        request @ DiskRequest::Range { .. } => range(shared, &request, done),
        DiskRequest::EndCursors(names) => {
            shared.cursors.end(&names);
            done(Ok(DiskAnswer::CursorsEnded));
        }
        request @ (DiskRequest::Changes(_) | DiskRequest::ForgetChanges(_)) => {
            changes::execute(shared, &request, done);
        }
        DiskRequest::KeepHint { target, hint } => {
            let key = hints::key_of(target, &hint);
            let _guard = shared.stripe(&key).lock();
            let before = Undone::now(shared);
            match shared.engine.get(&key).map(|present| present.map(|(value, _)| value)) {
                Ok(present) => keep_hint(shared, (present, before), (target, &hint), done),
                Err(error) => done(Err(disk_error(&error))),
            }
        }
        DiskRequest::ChangeHint(ask) => change_hint(shared, &ask, done),
        DiskRequest::ReadHint { targets, unit, table, key } => {
            let found = hints::read(&shared.engine, &targets, (unit, table, &key));
            done(found.map(DiskAnswer::Read));
        }
        DiskRequest::Hints { target, after } => hint_page(shared, target, after.as_ref(), done),
        DiskRequest::RemoveHint { target, hint } => remove_hint(shared, target, &hint, done),
        DiskRequest::DropHints { target, before, custody, after } => {
            let order = hints::DropOrder { target, before, custody, after };
            drop_hints(shared, &order, done);
        }
        DiskRequest::Sweep { state, from } => sweep::piece(shared, &state, &from, done),
        DiskRequest::Unit(disk) => unit::execute(shared, *disk, done),
        DiskRequest::Aside(task) => aside::execute(shared, task, done),
        DiskRequest::Tree(disk) => trees::execute(shared, *disk, done),
        DiskRequest::Floor(disk) => floors::execute(shared, *disk, done),
        DiskRequest::Persist(records) => persist(shared, &records, done),
        DiskRequest::Flush => {
            let result = shared.engine.flush();
            done(result.map(|()| DiskAnswer::Flushed).map_err(|error| disk_error(&error)));
        }
        DiskRequest::Compact => compact(shared, done),
        DiskRequest::Measure => done(Ok(DiskAnswer::Measured(shared.measure()))),
    }
}

/// Reads a page.
fn range(shared: &Shared, request: &DiskRequest, done: Done) {
    let DiskRequest::Range {
        units,
        table,
        prefix,
        after,
        limit,
        keys_only,
        reverse,
        cursor,
        durable,
        ..
    } = request
    else {
        unreachable!("the caller has looked")
    };
    let order = PageOrder {
        units,
        table: *table,
        prefix,
        after,
        limit: *limit,
        keys_only: *keys_only,
        reverse: *reverse,
        durable: *durable,
    };
    match read_page(shared, &order, *cursor) {
        Ok((page, Some(before))) => {
            register::tell_durable(shared, DiskAnswer::Range(page), before.guard(done));
        }
        outcome => done(outcome.map(|(page, _)| DiskAnswer::Range(page))),
    }
}

/// Merges all tables on a thread of its own: it may take minutes, and those that answer reads are
/// few. One at a time; whoever asks meanwhile hears `Overloaded`.
fn compact(shared: &Arc<Shared>, done: Done) {
    let run = |shared: &Shared| {
        let result = shared.engine.compact();
        shared.compacting.store(false, Ordering::Release);
        result.map(|()| DiskAnswer::Compacted).map_err(|error| disk_error(&error))
    };
    if shared.compacting.swap(true, Ordering::AcqRel) {
        return done(Err(DiskError::Overloaded));
    }
    if shared.inline {
        return done(run(shared));
    }
    let (own, slot) = (Arc::clone(shared), Arc::new(Mutex::new(Some(done))));
    let handed = Arc::clone(&slot);
    let thread = std::thread::Builder::new().name("kvd-compact".to_owned()).spawn(move || {
        let answer = run(&own);
        if let Some(done) = handed.lock().take() {
            done(answer);
        }
    });
    if thread.is_err() {
        shared.compacting.store(false, Ordering::Release);
        if let Some(done) = slot.lock().take() {
            done(Err(DiskError::Overloaded));
        }
    }
}

impl Shared {
    pub(super) fn stripe(&self, key: &[u8]) -> &Mutex<()> {
        self.stripes.get(self.stripe_index(key)).expect("a remainder is below the count")
    }

    pub(super) fn stripe_index(&self, key: &[u8]) -> usize {
        let count = self.stripes.len() as u64;
        usize::try_from(xxh3_64(key) % count).unwrap_or(0)
    }

    fn measure(&self) -> ReplicaFacts {
        let stats = self.engine.stats();
        let (trees, [file_bytes, ..]) = (self.trees.facts(), self.keeper.figures());
        // Between 0 and 1000: fits.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=1000")]
        let pressure_milli = (self.engine.pressure() * 1000.0) as u16;
        ReplicaFacts {
            disk_bytes: stats.disk_bytes,
            free_bytes: self.vfs.free(&self.dir),
            memory_bytes: stats.memtable_bytes as u64,
            trees: TreeSizes { bytes: trees.bytes, file_bytes, leaves: trees.leaves },
            keys: stats.levels.iter().map(|level| level.entries).sum(),
            pressure_milli,
            damaged: self.engine.may_have_damage(),
        }
    }
}

/// What the engine had taken back, for want of room, before a key was read. An answer that rests
/// on what was read holds only if nothing has been taken back since.
#[derive(Clone)]
pub(super) struct Undone {
    counter: Arc<AtomicU64>,
    seen: u64,
    watched: bool,
}

impl Undone {
    pub(super) fn now(shared: &Shared) -> Undone {
        let counter = shared.engine.undone();
        let seen = counter.load(Ordering::SeqCst);
        Undone { counter, seen, watched: shared.changes.is_live() }
    }

    /// Whether anybody watched then.
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// The count itself.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn has_risen(&self) -> bool {
        self.counter.load(Ordering::SeqCst) != self.seen
    }

    pub(super) fn guard(self, done: Done) -> Done {
        Box::new(move |outcome: Outcome| {
            let risen = self.has_risen();
            done(if risen && outcome.is_ok() { Err(DiskError::TakenBack) } else { outcome });
        })
    }
}

/// Answers a read with the version that was found. With `before` it is to be durable: what is not yet
/// waits for the log behind an empty batch, as a write would that found it there already.
fn show(shared: &Shared, (value, of): (bytes::Bytes, Seqno), before: Option<Undone>, done: Done) {
    let answer = match decode(value) {
        Ok(record) => DiskAnswer::Read(Some(record)),
        Err(error) => return done(Err(error)),
    };
    let open = |before: &Undone| !shared.engine.is_settled(of) || before.has_risen();
    let Some(before) = before.filter(open) else { return done(Ok(answer)) };
    if crate::mutant!("read-before-durable") {
        return done(Ok(answer));
    }
    crate::sometimes!("replica: a read waits for what it shows");
    submit(shared, Batch::new(), Durability::Default, answer, before.guard(done));
    shared.engine.wake_log();
}

/// Merges a version into what is there; the caller holds the key's stripe.
fn write(
    shared: &Shared,
    (unit, key): (Unit, &[u8]),
    (present, before): (Result<Option<bytes::Bytes>, DiskError>, Undone),
    arriving: &Record,
    done: Done,
) {
    let present = match present.and_then(|present| present.map(decode).transpose()) {
        Ok(present) => present,
        Err(error) => return done(Err(error)),
    };
    let mut counted = Counted::new(unit, &before);
    let outcome = match merge(present.as_ref(), arriving) {
        Merge::Replace => {
            let bounds = shared.floors.bounds(unit);
            let verdict = bounds.judge(arriving.stamp, From::Outside);
            if matches!(verdict, Verdict::Drop | Verdict::Refuse) {
                crate::sometimes!("replica: a late version is not taken");
                let purged = verdict == Verdict::Drop;
                let answer = DiskAnswer::Late { bound: bounds.gate, purged };
                let done = before.guard(done);
                return submit(shared, Batch::new(), Durability::Default, answer, done);
            }
            counted.batch.put(key, &record::encode(arriving));
            counted.version(key, present.as_ref(), arriving);
            WriteOutcome::Stored
        }
        Merge::Same => {
            counted.stands(key, arriving);
            WriteOutcome::Stored
        }
        Merge::Keep => {
            if !crate::mutant!("watch-superseded-unnoted") {
                present.iter().for_each(|present| counted.stands(key, present));
            }
            WriteOutcome::Superseded(present.map_or(Stamp::ZERO, |present| present.stamp))
        }
    };
    let answer = DiskAnswer::Written(outcome);
    let is_barrier = counted.batch.is_empty();
    if is_barrier && crate::mutant!("superseded-before-durable") {
        return done(Ok(answer));
    }
    // An empty batch is a barrier: what is there may itself not be durable yet, or may never be.
    let done = if is_barrier { before.guard(done) } else { done };
    trees::submit(shared, counted, Durability::Default, answer, done);
}

/// Merges a hint into what is there; the caller holds the key's stripe.
fn keep_hint(
    shared: &Shared,
    (present, before): (Option<bytes::Bytes>, Undone),
    (target, hint): (NodeId, &Hint),
    done: Done,
) {
    match hints::keep(target, hint, present) {
        Ok((batch, outcome, change)) => {
            // As for a user's version: what is there may not be durable yet. A set may also name values
            // that were written before.
            let rests = batch.is_empty() || hint.kept.is_set();
            let done = if rests { before.guard(done) } else { done };
            let answer = DiskAnswer::Kept(outcome, change);
            submit(shared, batch, Durability::Default, answer, done);
        }
        Err(error) => done(Err(error)),
    }
}

fn hint_page(shared: &Shared, target: NodeId, after: Option<&HintPlace>, done: Done) {
    let before = Undone::now(shared);
    match hints::page(&shared.engine, target, after) {
        // What this node wrote as a stand-in is told once it is durable, like all it writes.
        Ok(page) if page.hints.iter().any(|hint| hint.kept.is_set()) => {
            let answer = DiskAnswer::Hints(page);
            submit(shared, Batch::new(), Durability::Default, answer, before.guard(done));
        }
        outcome => done(outcome.map(DiskAnswer::Hints)),
    }
}

/// A stand-in coordinates a write.
fn change_hint(shared: &Shared, ask: &CustodyChange, done: Done) {
    let key = keyspace::hint_key(ask.target, ask.unit, ask.table, &ask.key);
    let _guard = shared.stripe(&key).lock();
    let before = Undone::now(shared);
    let present = shared.engine.get(&key).map_err(|error| disk_error(&error));
    let present = present.map(|present| present.map(|(value, _)| value));
    match present.and_then(|present| hints::change(&shared.engine, ask, present)) {
        Ok((batch, answer, change)) => {
            let answer = DiskAnswer::ChangedHint(answer, change);
            submit(shared, batch, Durability::Default, answer, before.guard(done));
        }
        Err(error) => done(Err(error)),
    }
}

fn remove_hint(shared: &Shared, target: NodeId, hint: &Hint, done: Done) {
    let key = hints::key_of(target, hint);
    let _guard = shared.stripe(&key).lock();
    let present = shared.engine.get(&key).map_err(|error| disk_error(&error));
    let present = present.map(|present| present.map(|(value, _)| value));
    match present.and_then(|present| hints::remove(&shared.engine, (target, hint), present)) {
        Ok((batch, gone)) => {
            submit(shared, batch, Durability::Default, DiskAnswer::HintRemoved(gone), done);
        }
        Err(error) => done(Err(error)),
    }
}

/// A hint that is written over meanwhile keeps its place in the index, so its stripe must be held:
/// all of them, for a short while.
fn drop_hints(shared: &Shared, order: &hints::DropOrder, done: Done) {
    let _guards: Vec<_> = shared.stripes.iter().map(Mutex::lock).collect();
    match hints::drop_piece(&shared.engine, order) {
        Ok((batch, dropped)) => {
            let answer = DiskAnswer::HintsDropped(dropped);
            submit(shared, batch, Durability::Synced, answer, done);
        }
        Err(error) => done(Err(error)),
    }
}

fn persist(shared: &Shared, records: &[MetaRecord], done: Done) {
    let mut batch = Batch::new();
    for record in records {
        if let Err(error) = restore::put(&mut batch, record) {
            return done(Err(DiskError::Io(error.to_string())));
        }
    }
    submit(shared, batch, Durability::Synced, DiskAnswer::Persisted, done);
}

pub(super) fn submit(
    shared: &Shared,
    batch: Batch,
    durability: Durability,
    answer: DiskAnswer,
    done: Done,
) {
    let on_done: OnDone = Box::new(move |result| {
        done(result.map(|_| answer).map_err(|error| disk_error(&error)));
    });
    if let Err((error, on_done)) = shared.submit_quietly(batch, durability, on_done) {
        on_done(Err(error));
    }
}

pub(super) fn decode(value: bytes::Bytes) -> Result<Record, DiskError> {
    record::decode(value)
        .ok_or_else(|| DiskError::Corruption("a stored version does not decode".to_owned()))
}
