//! Reading everything that is on disk, a piece at a time: damage is to be found while others still have
//! what it has cost.
//!
//! Decides in which order files are read: tables by their numbers, with the values they refer to; then
//! sealed segments of the log, and the manifest. What of these two does not check is written anew at
//! once: memory holds all of it.

use std::collections::BTreeMap;

use super::core::Core;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::manifest::{self, Edit};
use crate::storage::wal::replay;

/// The number of a file that stands for the log and the manifest.
const LOGS: FileNo = FileNo::MAX;

/// Where a scrub has come to; the first place of all by default. Means the same after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScrubPlace {
    /// The number of a table; the greatest number for the log.
    pub file: u32,
    /// Where in it.
    pub offset: u64,
}

/// What a piece of a scrub has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scrubbed {
    /// Where the next piece begins; `None`: everything has been read.
    pub next: Option<ScrubPlace>,
    /// Bytes that this piece has read.
    pub bytes: u64,
    /// Bytes of tables before the next piece.
    pub done: u64,
    /// Bytes of all tables.
    pub total: u64,
}

impl Core {
    /// See [`super::Engine::scrub`].
    pub(super) fn scrub(&self, from: ScrubPlace, budget: u64) -> Scrubbed {
        let view = self.view.load_full();
        let mut tables: Vec<_> = view.levels.all().map(|(_, table)| table).collect();
        tables.sort_by_key(|table| table.meta.no);
        let total = tables.iter().map(|table| table.meta.bytes).sum();
        let mut scrubbed = Scrubbed { total, ..Scrubbed::default() };
        for table in tables {
            let no = table.meta.no;
            let ahead = (no, 0) < (from.file, from.offset) && no != from.file;
            if ahead {
                scrubbed.done += table.meta.bytes;
                continue;
            }
            if scrubbed.bytes >= budget {
                scrubbed.next = Some(ScrubPlace { file: no, offset: 0 });
                return scrubbed;
            }
            let offset = if no == from.file { from.offset } else { 0 };
            let (bytes, next) = table.scrub(offset, budget - scrubbed.bytes);
            scrubbed.bytes += bytes;
            if let Some(offset) = next {
                scrubbed.next = Some(ScrubPlace { file: no, offset });
                scrubbed.done += offset;
                return scrubbed;
            }
            scrubbed.done += table.meta.bytes;
        }
        let behind = if from.file == LOGS { from.offset } else { 0 };
        scrubbed.next = match scrubbed.bytes > 0 {
            true => Some(ScrubPlace { file: LOGS, offset: 0 }),
            false => self.scrub_log(behind, &mut scrubbed.bytes),
        };
        scrubbed
    }

    /// Reads the first sealed segment from number `from` on; behind the last of them the manifest.
    fn scrub_log(&self, from: u64, bytes: &mut u64) -> Option<ScrubPlace> {
        let (logs, flushed) = {
            let manifest = self.manifest.lock();
            (manifest.state.logs.clone(), manifest.state.flushed)
        };
        let sealed =
            logs.into_iter().filter(|(no, sealed)| u64::from(*no) >= from && sealed.is_some());
        let Some((no, sealed)) = sealed.into_iter().next() else {
            self.scrub_manifest();
            return None;
        };
        *bytes += sealed.map_or(0, |sealed| sealed.bytes);
        let one = BTreeMap::from([(no, sealed)]);
        let read = replay(&*self.vfs, &self.dir, &one, flushed, &mut |_, _| Ok(()));
        let is_sound = read.is_ok_and(|read| read.iter().all(|log| log.scan.damage.is_empty()));
        if !is_sound && self.manifest.lock().state.logs.contains_key(&no) {
            crate::sometimes!("storage: a scrub finds damage in the log");
            // Memory has what was in it; a flush makes it superfluous.
            let _next_time = self.request_flush();
        }
        Some(ScrubPlace { file: LOGS, offset: u64::from(no) + 1 })
    }

    /// Reads the manifest, and has it written anew if it does not say what it should.
    fn scrub_manifest(&self) {
        let mut manifest = self.manifest.lock();
        let names = self.vfs.list(&self.dir).map_err(|error| Error::io("list", &self.dir, error));
        let read = names.and_then(|names| manifest::read(&*self.vfs, &self.dir, &names));
        let is_sound = match read {
            Ok(Some(state)) => state.entries() == manifest.state.entries(),
            Ok(None) | Err(Error::Corrupt { .. } | Error::Missing { .. }) => false,
            Err(_) => true,
        };
        if !is_sound {
            crate::sometimes!("storage: a scrub finds damage in the manifest");
            manifest.renew();
            let _latched_by_who_is_next = manifest.append(Edit::default());
        }
    }
}
