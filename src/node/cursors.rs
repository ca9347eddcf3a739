//! Which cursors this node's replica keeps open for scans, and for how long. The replica holds them and
//! knows no time; what is decided here is only what a page costs. What a page shows does not depend on
//! it: a cursor that is gone is opened anew where the page begins. `docs/protocol/scan.md`.

use core::time::Duration;
use std::collections::BTreeMap;

use super::Node;
use super::disk::Pending;
use super::reads::Reads;
use crate::message::{CursorName, CursorUse, DiskRequest, PeerMessage, ScanAsk};
use crate::types::{ClassId, Epoch, NodeId, Now, Time, limits};

/// What a page reads, as far as a cursor goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Under {
    /// The class.
    pub(super) class: ClassId,
    /// When any owners of it last changed.
    pub(super) fence: Epoch,
}

/// One that is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    under: Under,
    opened: Time,
    used: Time,
    bytes: usize,
    /// A page is being read with it.
    busy: bool,
    /// It goes when that page is there.
    ends: bool,
}

/// The book of them.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    open: BTreeMap<CursorName, Open>,
    bytes: usize,
    /// Pages that are being read, with a cursor or without.
    pub(super) pages: usize,
    /// Keys that pages have read by themselves.
    pub(super) reads: Reads,
    /// Whom the scans that clients stream here have asked.
    scanned: BTreeMap<u64, Vec<NodeId>>,
}

impl Cursors {
    /// The cursor a page is read with, if it may have one, and those that make room for it.
    pub(super) fn take(
        &mut self,
        (name, first): (CursorName, bool),
        (under, units): (Under, usize),
        now: Time,
    ) -> (Option<CursorUse>, Vec<CursorName>) {
        let held = self.open.get(&name).copied();
        if held.is_some_and(|held| held.busy) {
            // The same page, asked once more. It is not worth waiting for.
            return (None, Vec::new());
        }
        let is_good = |held: &Open| {
            (held.under == under || crate::mutant!("cursor-survives-fence"))
                && now.since(held.opened) < limits::SCAN_CURSOR_AGE_MAX
        };
        let held = held.filter(|held| !first && is_good(held));
        let bytes = units * limits::SCAN_CURSOR_UNIT_BYTES;
        let mut ends = Vec::new();
        self.forget(name);
        while self.open.len() >= limits::SCAN_CURSORS_MAX
            || self.bytes + bytes > limits::SCAN_CURSORS_BYTES_MAX
        {
            let idle = self.open.iter().filter(|(_, open)| !open.busy);
            let Some((&oldest, _)) = idle.min_by_key(|(_, open)| open.used) else {
                // Whatever it has there is of no use without its place in the book.
                ends.push(name);
                return (None, ends);
            };
            crate::sometimes!("cursors: one goes for want of room");
            self.forget(oldest);
            ends.push(oldest);
        }
        let opened = held.map_or(now, |held| held.opened);
        let open = Open { under, opened, used: now, bytes, busy: true, ends: false };
        self.bytes += bytes;
        self.open.insert(name, open);
        (Some(CursorUse { name, fresh: held.is_none() }), ends)
    }

    /// A page has been read; whether the cursor is to be closed. One at its end, or of a page that could
    /// not be read, has been already.
    pub(super) fn done(&mut self, name: CursorName, goes_on: bool) -> bool {
        let Some(open) = self.open.get_mut(&name) else { return false };
        open.busy = false;
        let ends = open.ends;
        if ends || !goes_on {
            self.forget(name);
        }
        ends && goes_on
    }

    /// Takes those off the book that `which` names, and returns what is to be closed.
    fn end(&mut self, which: impl Fn(&CursorName, &Open) -> bool) -> Vec<CursorName> {
        let mut ends = Vec::new();
        for (name, open) in &mut self.open {
            if !which(name, open) {
                continue;
            }
            if open.busy {
                open.ends = true;
            } else {
                ends.push(*name);
            }
        }
        ends.iter().for_each(|name| self.forget(*name));
        ends
    }

    fn forget(&mut self, name: CursorName) {
        if let Some(open) = self.open.remove(&name) {
            self.bytes -= open.bytes;
        }
    }
}

impl Node {
    /// Whether one more page may be read now.
    pub(super) fn has_room_for_page(&self) -> bool {
        self.cursors.pages < limits::SCAN_PAGES_UNDER_WAY_MAX
    }

    /// A coordinator asks for no page of a scan any more.
    pub(super) fn on_scan_end(&mut self, coordinator: NodeId, scan: u64) {
        let ends = self.cursors.end(|name, _| *name == CursorName { coordinator, scan });
        self.end_cursors(ends);
    }

    /// A coordinator has gone.
    pub(super) fn on_scanner_lost(&mut self, peer: NodeId) {
        let ends = self.cursors.end(|name, _| name.coordinator == peer);
        self.end_cursors(ends);
    }

    /// Closes those that have waited too long for their next page.
    pub(super) fn end_idle_cursors(&mut self, now: Now) {
        let is_idle = |used: Time| now.mono.since(used) >= limits::SCAN_CURSOR_IDLE;
        let ends = self.cursors.end(|_, open| is_idle(open.used));
        self.end_cursors(ends);
    }

    pub(super) fn end_cursors(&mut self, names: Vec<CursorName>) {
        if !names.is_empty() {
            self.disk(Pending::CursorsEnded, DiskRequest::EndCursors(names));
        }
    }

    /// A client's stream of a scan has ended: the replicas keep nothing open for it any more. One that does
    /// not hear of it closes its cursor when it has been idle.
    pub(super) fn on_stream_ended(&mut self, stream: u64) {
        self.end_watch(stream);
        let scan = self.scan_number(stream);
        self.on_scan_end(self.me, scan);
        let Some(asked) = self.cursors.scanned.remove(&scan) else { return };
        for member in asked {
            if member != self.me && self.members.is_reachable(member) {
                self.send(member, PeerMessage::ScanEnd(scan));
            }
        }
    }

    /// The number by which peers know a stream of this boot: never 0, and none of another boot.
    pub(super) fn scan_number(&self, stream: u64) -> u64 {
        let nonce = u64::try_from(self.boot.nonce.0 >> 64).unwrap_or(0);
        nonce.wrapping_add(stream) | 1 << 63
    }

    /// Asks a member, which may be this node, for a page.
    pub(super) fn ask_page(&mut self, now: Now, to: NodeId, ask: Box<ScanAsk>) {
        if let Some(part) = ask.part {
            self.note_scanned(part.scan, to);
        }
        if to == self.me {
            self.on_scan_ask(now, to, *ask);
        } else {
            self.send(to, PeerMessage::Scan(ask));
        }
    }

    /// A member is asked for a page of a scan.
    fn note_scanned(&mut self, scan: u64, member: NodeId) {
        let scanned = &mut self.cursors.scanned;
        let asked = scanned.entry(scan).or_default();
        if !asked.contains(&member) {
            asked.push(member);
        }
        // As many as there are streams; a stream that was never ended must not stay.
        while scanned.len() > 2 * limits::SCAN_STREAMS_MAX {
            scanned.pop_first();
        }
    }
}

/// How long an answer to "there is no room" says to wait.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);
