//! One merge of tables, done in bounded steps.
//!
//! Decides what of the inputs goes on: the newest version of each key; a delete only while a table
//! further down may hold what it hides; nothing that a deleted range hides; what the caller's filter
//! lets go only as such a delete. Every entry read is written or counted as dropped with its reason,
//! and the numbers are compared with those of the tables. Does not know which tables to merge, nor
//! what becomes of the result.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::cut::{Cutter, TableSize};
use super::filter::SharedFilter;
use super::view::Job;
use crate::storage::batch::{Kind, Seqno};
use crate::storage::blob::{BlobFile, NewFiles, Separator, head_of};
use crate::storage::deleted::{Covers, Deleted};
use crate::storage::entry::EntryRef;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::iter::{Direction, Range};
use crate::storage::levels::{LEVELS, Levels};
use crate::storage::merge::{Merge, Source};
use crate::storage::options::Options;
use crate::storage::sstable::{ReadMode, Table, TableBuilder};
use crate::storage::vfs::Vfs;

/// What became of the entries of a merge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) read: u64,
    pub(crate) kept: u64,
    /// Dropped because a newer version of the key is there.
    pub(crate) superseded: u64,
    /// Deletes dropped because nothing lies below them.
    pub(crate) tombstones: u64,
    /// Dropped because their range was deleted later.
    pub(crate) hidden: u64,
    /// Dropped because the caller's filter lets them go.
    pub(crate) filtered: u64,
    /// Of those that are kept, how many are written as deletes because the filter lets them go, but
    /// an older version may lie below.
    pub(crate) replaced: u64,
    /// Bytes of records that the entries read refer to; they are left where they are, written anew,
    /// or dropped.
    pub(crate) values_read: u64,
    pub(crate) values_left: u64,
    pub(crate) values_moved: u64,
    pub(crate) values_dropped: u64,
    /// Bytes of the blob files written, with values that stood in tables before.
    pub(crate) values_written: u64,
    /// Bytes of the entries read, and of the tables and blob files written.
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

impl Tally {
    /// Number of entries that were read and not written.
    pub(crate) fn dropped(&self) -> u64 {
        self.superseded + self.tombstones + self.hidden + self.filtered
    }
}

/// What becomes of the newest version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is written; the filter will let it go at this point.
    Keep(Option<u64>),
    /// A delete is written in its place.
    Replace,
    /// Its range was deleted later.
    Hidden,
    /// It is a delete that hides nothing.
    Tombstone,
    /// The filter lets it go, and nothing lies below.
    Filtered,
}

/// Where the value of an entry stands, and what becomes of it.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    /// In the entry, if there is one.
    Here,
    /// In a blob file of this table, where it stays.
    Elsewhere(&'a Table),
    /// The same, and it is written anew.
    Collected(&'a Table),
}

/// A merge on its way. Dropping it leaves its files to be swept; see [`Merging::abandon`].
#[derive(Debug)]
pub(crate) struct Merging {
    pub(crate) job: Job,
    pub(crate) inputs: Vec<Arc<Table>>,
    /// The deleted ranges as they were when it began.
    deleted: Arc<Deleted>,
    /// The same: blocks that cannot be read are left out where these hide all that can stand in them.
    covers: Arc<Covers>,
    /// The first and last keys of the tables below the target that it meets, by level: they stay so
    /// until it ends. Not the tables themselves: their files would stay as long as it goes on.
    below: Vec<Vec<(Bytes, Bytes)>>,
    filter: Option<SharedFilter>,
    /// Blob files whose values are written anew.
    collected: BTreeSet<FileNo>,
    merge: Merge,
    output: Output,
    pub(crate) tally: Tally,
}

/// Where the new tables are written.
#[derive(Debug)]
struct Output {
    cutter: Cutter,
    /// What ranges deleted up to here hide is left out.
    purged: Seqno,
    /// A table that was taken in is rewritten in level 0: a memtable that is made anew from the log
    /// may reach over its number, and over that of the new one.
    adopted: bool,
    builder: Option<TableBuilder>,
    separator: Separator,
    /// The file of a table that could not be ended.
    ending: Option<PathBuf>,
    tables: Vec<Table>,
    bytes: u64,
}

impl Output {
    fn add(
        &mut self,
        entry: EntryRef<'_>,
        value: Value<'_>,
        point: Option<u64>,
        new: &mut dyn NewFiles,
    ) -> Result<(), Error> {
        let size = self.builder.as_ref().map(TableSize::of).unwrap_or_default();
        let is_scattered = self.builder.as_ref().is_some_and(TableBuilder::is_scattered);
        if self.cutter.cuts_before(entry.key, size) || is_scattered {
            self.end_table()?;
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            none => none.insert(new.table()?),
        };
        match value {
            Value::Here => self.separator.add(builder, entry, new)?,
            Value::Elsewhere(table) => Separator::pass(builder, entry, table)?,
            Value::Collected(table) => self.separator.collect(builder, entry, table, new)?,
        }
        if let Some(point) = point {
            builder.note_droppable(point);
        }
        Ok(())
    }

    /// Ends the last table, after what it refers to.
    fn end(&mut self) -> Result<(), Error> {
        self.separator.end()?;
        self.end_table()
    }

    fn end_table(&mut self) -> Result<(), Error> {
        if let Some(builder) = self.builder.take() {
            self.ending = Some(builder.path().to_path_buf());
            let mut table = builder.finish()?;
            self.ending = None;
            table.meta.purged = self.purged;
            if self.adopted && !crate::mutant!("storage-rewrite-forgets-adoption") {
                table.meta.adopted = Some(table.meta.salt());
            }
            self.bytes += table.meta.bytes;
            self.tables.push(table);
        }
        Ok(())
    }
}

impl Merging {
    /// Prepares a job; nothing is read or written yet.
    /// The values of the blob files in `collected` are written anew.
    pub(crate) fn new(
        job: Job,
        levels: &Levels,
        options: &Options,
        collected: BTreeSet<FileNo>,
    ) -> Self {
        let chosen = |level: usize, numbers: &[FileNo]| -> Vec<Arc<Table>> {
            let tables = levels.level(level).iter();
            tables.filter(|table| numbers.contains(&table.meta.no)).cloned().collect()
        };
        let upper = chosen(job.from, &job.upper);
        let lower = chosen(job.to, &job.lower);
        // Tables of level 0 overlap, so each is a run of its own.
        let runs = upper.chunks(if job.from == 0 { 1 } else { upper.len().max(1) });
        let runs = runs.chain(std::iter::once(lower.as_slice()));
        let deleted = Arc::clone(levels.deleted());
        let covers = Arc::new(Covers::new([Arc::clone(&deleted)], Seqno(u64::MAX)));
        let source = |run| Source::run(run, Direction::Forward, ReadMode::Passing).heeding(&covers);
        let merge = Merge::new(runs.map(source).collect(), Range::all(), Direction::Forward);
        let above = if job.from == job.to { &[][..] } else { &upper };
        let beside = levels.level(job.to).iter().chain(above).map(|table| &table.meta);
        let beside: Vec<_> = beside.collect();
        let next = levels.level(job.to + 1).iter().map(|table| &table.meta);
        let next: Vec<_> = next.filter(|table| job.span.meets(table)).collect();
        let cutter = Cutter::for_merge(options, job.to, &beside, &next);
        let spans_of = |level: usize| {
            let tables = levels.level(level).iter().map(|table| &table.meta);
            let met = tables.filter(|table| job.span.meets(table));
            met.map(|table| (table.smallest.clone(), table.largest.clone())).collect::<Vec<_>>()
        };
        let below = (job.to + 1..LEVELS).map(spans_of).collect();
        let inputs = [upper, lower].concat();
        let purged = levels.deleted().newest();
        let adopted = job.to == 0 && inputs.iter().any(|table| table.meta.adopted.is_some());
        Self {
            job,
            inputs,
            deleted,
            covers,
            below,
            filter: options.filter.clone(),
            collected,
            merge,
            output: Output {
                cutter,
                purged,
                adopted,
                builder: None,
                separator: Separator::new(options),
                ending: None,
                tables: Vec::new(),
                bytes: 0,
            },
            tally: Tally::default(),
        }
    }

    /// Merges about `budget` bytes more. Returns whether there is more to do.
    ///
    /// # Errors
    /// `Corrupt` naming the input that cannot be read, or what the file system says: the merge has
    /// failed, and the inputs are as they were.
    pub(crate) fn advance(&mut self, budget: u64, new: &mut dyn NewFiles) -> Result<bool, Error> {
        let done = |tally: &Tally| tally.bytes_read.saturating_add(tally.values_moved);
        let end = done(&self.tally).saturating_add(budget.max(1));
        while done(&self.tally) < end {
            if !self.merge.advance()? {
                self.output.end()?;
                self.tally.values_written = self.output.separator.bytes();
                self.tally.bytes_written = self.output.bytes + self.tally.values_written;
                self.count_passed();
                self.check()?;
                return Ok(false);
            }
            let Some(entry) = self.merge.entry() else { continue };
            self.tally.read += 1;
            self.tally.bytes_read += (entry.key.len() + entry.value.len()) as u64 + 1;
            // Only an entry of a table has its value elsewhere.
            let of =
                self.merge.table().filter(|_| entry.kind == Kind::Pointer).map(|table| &**table);
            let pointer = of.map(|table| table.pointer(entry.value)).transpose()?;
            let values = pointer.map_or(0, |(pointer, _)| pointer.bytes as u64);
            self.tally.values_read += values;
            if self.merge.is_superseded() {
                if crate::mutant!("storage-cut-inside-versions") {
                    self.output.end_table()?;
                    self.tally.kept += 1;
                    self.tally.values_left += values;
                    let value = of.map_or(Value::Here, Value::Elsewhere);
                    self.output.add(entry, value, None, new)?;
                } else {
                    self.tally.superseded += 1;
                    self.tally.values_dropped += values;
                }
                continue;
            }
            // Lent by the merge and copied once, into the new block.
            let fate = self.fate(entry, pointer.map_or(entry.value, |(pointer, _)| pointer.head));
            let is_collected = pointer.is_some_and(|(_, blob)| self.collected.contains(&blob.no));
            let fate = match is_collected && crate::mutant!("storage-blob-collects-live") {
                true => Fate::Hidden,
                false => fate,
            };
            *match fate {
                Fate::Keep(_) if is_collected => &mut self.tally.values_moved,
                Fate::Keep(_) => &mut self.tally.values_left,
                _ => &mut self.tally.values_dropped,
            } += values;
            match fate {
                Fate::Keep(point) => {
                    self.tally.kept += 1;
                    let value = match of {
                        Some(table) if is_collected => Value::Collected(table),
                        Some(table) => Value::Elsewhere(table),
                        None => Value::Here,
                    };
                    self.output.add(entry, value, point, new)?;
                }
                Fate::Replace => {
                    self.tally.kept += 1;
                    self.tally.replaced += 1;
                    let delete = EntryRef { kind: Kind::Delete, value: &[], ..entry };
                    self.output.add(delete, Value::Here, None, new)?;
                }
                Fate::Hidden => self.tally.hidden += 1,
                Fate::Tombstone => self.tally.tombstones += 1,
                Fate::Filtered => self.tally.filtered += 1,
            }
        }
        Ok(true)
    }

    /// The new tables and blob files.
    pub(crate) fn into_files(self) -> (Vec<Table>, Vec<Arc<BlobFile>>) {
        let blobs = self.output.separator.files().to_vec();
        (self.output.tables, blobs)
    }

    /// Bytes of the new files so far.
    pub(crate) fn written(&self) -> u64 {
        let Output { bytes, separator, .. } = &self.output;
        bytes + separator.bytes() + self.output.builder.as_ref().map_or(0, TableBuilder::bytes)
    }

    /// What becomes of the newest version of a key, whose value begins with `head`.
    fn fate(&self, entry: EntryRef<'_>, head: &[u8]) -> Fate {
        if entry.seqno < self.deleted.cover(entry.key, Seqno(u64::MAX))
            && !crate::mutant!("storage-compaction-keeps-deleted-range")
        {
            return Fate::Hidden;
        }
        if entry.kind == Kind::Delete {
            return if self.lies_above(entry.key) { Fate::Keep(None) } else { Fate::Tombstone };
        }
        let Some(filter) = self.filter.as_ref().map(SharedFilter::get) else {
            return Fate::Keep(None);
        };
        let horizon = || match crate::mutant!("storage-filter-foreign-horizon") {
            true => filter.horizon(&self.job.span.smallest, &self.job.span.smallest),
            // Of this key alone: another in the table may be of a unit that has come further.
            false => filter.horizon(entry.key, entry.key),
        };
        match filter.point(entry.key, head_of(head)) {
            // What is gone is gone: an answer that comes later cannot bring it back.
            Some(point) if crate::mutant!("storage-filter-horizon-after-drop") => {
                let _too_late = point > horizon();
                if self.lies_above(entry.key) { Fate::Replace } else { Fate::Filtered }
            }
            Some(point) if point > horizon() => Fate::Keep(Some(point)),
            None => Fate::Keep(None),
            Some(_) if crate::mutant!("storage-filter-uncovers-older") => Fate::Filtered,
            // Not just left out: what is older would be the newest then.
            Some(_) if self.lies_above(entry.key) => Fate::Replace,
            Some(_) => Fate::Filtered,
        }
    }

    /// Whether a table below the target level may hold `key`.
    fn lies_above(&self, key: &[u8]) -> bool {
        if crate::mutant!("storage-compaction-drops-tombstone-early") {
            return false;
        }
        // Written back into level 0, a delete may hide something in an older table beside it.
        self.job.to == 0
            || self.below.iter().any(|tables| {
                let first = tables.partition_point(|(_, largest)| **largest < *key);
                tables.get(first).is_some_and(|(smallest, _)| **smallest <= *key)
            })
    }

    /// What stood in blocks that could not be read and were passed over was hidden, all of it.
    fn count_passed(&mut self) {
        if self.covers.passed() == 0 {
            return;
        }
        let (entries, values) = self.promised();
        let lacking = entries.saturating_sub(self.tally.read);
        self.tally.read += lacking;
        self.tally.hidden += lacking;
        let lacking = values.saturating_sub(self.tally.values_read);
        self.tally.values_read += lacking;
        self.tally.values_dropped += lacking;
    }

    /// How many entries the inputs have, and how many bytes of values they refer to.
    fn promised(&self) -> (u64, u64) {
        let uses = |table: &Arc<Table>| table.meta.blobs.iter().map(|one| one.bytes).sum::<u64>();
        let entries = self.inputs.iter().map(|table| table.meta.entries).sum();
        (entries, self.inputs.iter().map(uses).sum())
    }

    /// Entries in are entries out and entries dropped.
    fn check(&self) -> Result<(), Error> {
        let (promised, _) = self.promised();
        if let (true, Some(input)) = (promised != self.tally.read, self.inputs.first()) {
            let what = "tables to merge hold more or fewer entries than they say";
            return Err(Error::corrupt(input.path(), 0, what));
        }
        let Tally { read, kept, .. } = self.tally;
        assert_eq!(read, kept + self.tally.dropped(), "every entry is accounted for");
        let written: u64 = self.output.tables.iter().map(|table| table.meta.entries).sum();
        assert_eq!(kept, written, "every entry that is kept is written");
        self.check_values()
    }

    /// What the inputs refer to is referred to by the outputs, written anew or dropped.
    fn check_values(&self) -> Result<(), Error> {
        let uses = |table: &Table| table.meta.blobs.iter().map(|one| one.bytes).sum::<u64>();
        let (_, promised) = self.promised();
        let Tally { values_read, values_left, values_moved, values_dropped, .. } = self.tally;
        if let (true, Some(input)) = (promised != values_read, self.inputs.first()) {
            let what = "tables to merge refer to more or fewer values than they say";
            return Err(Error::corrupt(input.path(), 0, what));
        }
        let accounted = values_left + values_moved + values_dropped;
        assert_eq!(values_read, accounted, "every value elsewhere is accounted for");
        let referred: u64 = self.output.tables.iter().map(uses).sum();
        let new = self.output.separator.files().iter().map(|blob| blob.meta().record_bytes());
        let new: u64 = new.sum();
        assert_eq!(referred, values_left + new, "a table refers to every value that is kept");
        Ok(())
    }

    /// Gives the files of the unfinished result back, as far as the disk lets it.
    pub(crate) fn abandon(self, vfs: &Arc<dyn Vfs>) {
        let Output { builder, separator, ending, tables, .. } = self.output;
        tables.iter().for_each(|table| table.retire(vfs));
        if let Some(builder) = builder {
            builder.abandon(&**vfs);
        }
        if let Some(path) = ending {
            let _orphan = vfs.remove(&path);
        }
        separator.abandon(vfs);
    }
}
