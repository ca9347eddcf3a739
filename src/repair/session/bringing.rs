//! What differs, brought: first to this node, then to the other, then by rounds of registers.

use std::collections::{BTreeMap, VecDeque};

use super::{Asked, SessionAround, SessionPace, TRIES_MAX};
use crate::message::{
    CopyContent, CopyEntry, CopyPage, CopyPlace, RepairMessage, RoundId, SessionPlace,
};
use crate::repair::exchange::{Bring, Lack};
use crate::types::{Time, limits};

/// Numbers of questions begin here, so that they are none of the asker's.
const NUMBERS: u32 = 1 << 31;
/// Rounds of registers under way.
const ROUNDS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Bringing {
    here: VecDeque<CopyPlace>,
    there: VecDeque<CopyPlace>,
    rounds: VecDeque<CopyPlace>,
    under_way: usize,
    number: u32,
    at: At,
}

#[derive(Debug)]
enum At {
    Nothing,
    /// The other owner is asked for keys.
    Giving {
        asked: Asked,
        keys: Vec<CopyPlace>,
        parts: BTreeMap<u16, CopyPage>,
    },
    /// What it gave is being merged; up to where it went, and how many records there are.
    Merging {
        keys: Vec<CopyPlace>,
        next: Option<CopyPlace>,
        records: u64,
    },
    /// The own store is read.
    Fetching {
        keys: Vec<CopyPlace>,
    },
    /// The other owner is given what was read, a part at a time.
    Taking {
        asked: Asked,
        keys: Vec<CopyPlace>,
        next: Option<CopyPlace>,
        parts: VecDeque<Vec<CopyEntry>>,
    },
}

impl Bringing {
    pub(super) fn new(lacks: impl Iterator<Item = Lack>) -> Bringing {
        let (mut here, mut there, mut rounds) = (Vec::new(), Vec::new(), Vec::new());
        for Lack { place, bring } in lacks {
            let (Some(table), Some(key)) = (place.table(), place.key()) else { continue };
            let place = CopyPlace { table, key };
            match bring {
                Bring::Here => here.push(place),
                Bring::There => there.push(place),
                Bring::Both => {
                    here.push(place.clone());
                    there.push(place);
                }
                Bring::Round => rounds.push(place),
            }
        }
        here.sort_unstable();
        there.sort_unstable();
        Bringing {
            here: here.into(),
            there: there.into(),
            rounds: rounds.into(),
            under_way: 0,
            number: NUMBERS,
            at: At::Nothing,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        let empty = self.here.is_empty() && self.there.is_empty() && self.rounds.is_empty();
        empty && self.under_way == 0 && matches!(self.at, At::Nothing)
    }

    /// The question that waits to be sent, or for its answer. Something that waits to be begun counts.
    pub(super) fn asked(&self) -> Option<Asked> {
        match &self.at {
            At::Nothing if self.under_way > 0 => None,
            At::Nothing => Some(Asked::default()),
            At::Giving { asked, .. } | At::Taking { asked, .. } => Some(*asked),
            At::Merging { .. } | At::Fetching { .. } => None,
        }
    }

    pub(super) fn waits_for(&self, number: u32) -> bool {
        number == self.number && self.asked().is_some_and(|asked| asked.since.is_some())
    }

    pub(super) fn ask_again(&mut self, around: &SessionAround<'_>, pace: &SessionPace) -> bool {
        let (At::Giving { asked, .. } | At::Taking { asked, .. }) = &mut self.at else {
            return false;
        };
        if !asked.is_due(around, pace) {
            return false;
        }
        *asked = Asked { since: None, tries: asked.tries + 1 };
        asked.tries > TRIES_MAX
    }

    /// The next question to the other owner, if one is to be asked.
    pub(super) fn next_message(
        &mut self,
        now: Time,
        session: u64,
        place: SessionPlace,
    ) -> Option<RepairMessage> {
        if matches!(self.at, At::Nothing) && !self.here.is_empty() {
            let keys = self.here.iter().take(limits::REPAIR_KEYS_MAX).cloned().collect();
            self.at = At::Giving { asked: Asked::default(), keys, parts: BTreeMap::new() };
        }
        let asked = match &mut self.at {
            At::Giving { asked, .. } | At::Taking { asked, .. } => asked,
            _ => return None,
        };
        if asked.since.is_some() {
            return None;
        }
        asked.since = Some(now);
        self.number += 1;
        let round = RoundId { op: session, round: self.number };
        match &mut self.at {
            At::Giving { keys, parts, .. } => {
                parts.clear();
                Some(RepairMessage::Give { round, place, keys: keys.clone() })
            }
            At::Taking { parts, .. } => {
                let entries = parts.front().cloned().unwrap_or_default();
                Some(RepairMessage::Take { round, place, entries })
            }
            _ => None,
        }
    }

    /// A part of what was asked for has come. When it is the last: all of it, unless it is not what was
    /// asked for.
    pub(super) fn on_given(
        &mut self,
        number: u32,
        (part, parts): (u16, u16),
        page: CopyPage,
    ) -> Option<Result<Vec<CopyEntry>, ()>> {
        if !self.waits_for(number) {
            return None;
        }
        let At::Giving { keys, parts: have, .. } = &mut self.at else { return None };
        have.insert(part, page);
        if have.len() < usize::from(parts) {
            return None;
        }
        let (mut entries, mut next) = (Vec::new(), None);
        for page in core::mem::take(have).into_values() {
            next = page.next;
            let CopyContent::Records(some) = page.content else { return Some(Err(())) };
            entries.extend(some);
        }
        let is_asked = |entry: &CopyEntry| keys.binary_search(&entry.place).is_ok();
        let goes_on = next.as_ref().is_none_or(|next| keys.first().is_some_and(|key| key <= next));
        if !goes_on || !entries.iter().all(is_asked) {
            return Some(Err(()));
        }
        let records = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        self.at = At::Merging { keys: core::mem::take(keys), next, records };
        Some(Ok(entries))
    }

    /// What was given is here; how many records that were.
    pub(super) fn on_merged(&mut self) -> u64 {
        let At::Merging { keys, next, records } = core::mem::replace(&mut self.at, At::Nothing)
        else {
            return 0;
        };
        pop(&mut self.here, &keys, next.as_ref());
        records
    }

    /// Keys of the own store that are to be read.
    pub(super) fn next_fetch(&mut self) -> Option<Vec<CopyPlace>> {
        if !matches!(self.at, At::Nothing) || !self.here.is_empty() || self.there.is_empty() {
            return None;
        }
        let keys: Vec<CopyPlace> =
            self.there.iter().take(limits::REPAIR_KEYS_MAX).cloned().collect();
        self.at = At::Fetching { keys: keys.clone() };
        Some(keys)
    }

    pub(super) fn on_fetched(&mut self, page: CopyPage) {
        let At::Fetching { keys } = core::mem::replace(&mut self.at, At::Nothing) else { return };
        let next = page.next.clone();
        let records = |page: CopyPage| match page.content {
            CopyContent::Records(entries) if !entries.is_empty() => Some(entries),
            _ => None,
        };
        let parts: VecDeque<Vec<CopyEntry>> =
            page.parts().into_iter().filter_map(records).collect();
        if parts.is_empty() {
            // They have gone meanwhile.
            return pop(&mut self.there, &keys, next.as_ref());
        }
        self.at = At::Taking { asked: Asked::default(), keys, next, parts };
    }

    /// The other owner has what it was given; how many records that were. `None`: nobody waited.
    pub(super) fn on_taken(&mut self, number: u32) -> Option<u64> {
        if !self.waits_for(number) {
            return None;
        }
        let At::Taking { asked, keys, next, parts } = &mut self.at else { return None };
        let taken = parts.pop_front().map_or(0, |entries| entries.len());
        *asked = Asked::default();
        if parts.is_empty() {
            pop(&mut self.there, keys, next.as_ref());
            self.at = At::Nothing;
        }
        u64::try_from(taken).ok()
    }

    /// Registers whose rounds are to begin.
    pub(super) fn next_rounds(&mut self) -> Vec<CopyPlace> {
        let is_idle = matches!(self.at, At::Nothing);
        if !is_idle || !self.here.is_empty() || !self.there.is_empty() {
            return Vec::new();
        }
        let room = ROUNDS_MAX.saturating_sub(self.under_way).min(self.rounds.len());
        self.under_way += room;
        self.rounds.drain(..room).collect()
    }

    pub(super) fn on_round(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }
}

/// Takes those of `keys` off the front that have been dealt with: all, or those up to `next`.
fn pop(from: &mut VecDeque<CopyPlace>, keys: &[CopyPlace], next: Option<&CopyPlace>) {
    let done = keys.iter().take_while(|key| next.is_none_or(|next| *key <= next)).count();
    from.drain(..done.min(from.len()));
}
