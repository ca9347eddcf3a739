//! One watch at its coordinator: whom it follows, whether they are enough, and what it has to tell.
//!
//! A write that is acknowledged was applied by w owners of each set that takes writes of its unit, so
//! with n - w + 1 of one set followed without a break one of them has noted it (`docs/protocol/watch.md`).
//! All owners are followed, so that one may be away without a gap.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::told::Told;
use super::{Token, TokenOwner};
use crate::message::{
    ChangesPage, GapReason, Refusal, WatchEvent, WatchMessage, WatchPlace, WatchReply,
};
use crate::types::{
    ClassId, ClusterState, Epoch, NodeId, Partition, Table, TableId, Time, Unit, limits,
};

/// How long the first answers are waited for.
const BEGIN_WAIT: Duration = Duration::from_secs(2);
/// After how long a question that is not answered is asked again. One is held for a second.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// How soon after one that was refused.
const ASK_SOON: Duration = Duration::from_millis(100);
/// After how long without an answer an owner does not count any more.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// How long an owner whose notes have broken does not count: a put whose other owners break next may
/// have been noted by it before.
const SETTLES: Duration = limits::REQUEST_TIMEOUT_MAX;

/// What is watched.
#[derive(Clone, Debug)]
pub struct WatchOrder {
    /// The coordinator's number for it.
    pub number: u64,
    /// The table.
    pub table: TableId,
    /// Its class.
    pub class: ClassId,
    /// Keys that begin with this.
    pub prefix: Bytes,
    /// With values.
    pub values: bool,
}

/// An owner that is followed.
#[derive(Debug, Default)]
struct Owner {
    /// Up to where its changes are here.
    place: Option<WatchPlace>,
    /// Up to where they have been handed on.
    handed: Option<WatchPlace>,
    /// From when on it counts.
    counts_from: Time,
    /// The question under way.
    asked: Option<u64>,
    /// When it may be asked again.
    next_ask: Time,
    /// Since when no answer has come, while one is due.
    silent_since: Option<Time>,
}

/// Events of one answer, and where they end.
#[derive(Debug)]
struct Batch {
    end: Option<(NodeId, WatchPlace)>,
    events: Vec<WatchEvent>,
    bytes: usize,
}

/// A watch.
#[derive(Debug)]
pub struct Watch {
    order: WatchOrder,
    /// What the class was last changed at, and the epoch.
    fence: Epoch,
    epoch: Epoch,
    owners: BTreeMap<NodeId, Owner>,
    begin_by: Time,
    began: bool,
    /// Those that counted when it was last looked at.
    sound: BTreeSet<NodeId>,
    uncovered: BTreeSet<Partition>,
    open_gap: bool,
    /// A gap stays open until then.
    open_until: Time,
    /// The owners have changed since it was looked at.
    is_stale: bool,
    /// Why an owner ceased to count last.
    reason: GapReason,
    told: Told,
    out: VecDeque<Batch>,
    out_bytes: usize,
    last_round: u64,
}

impl Watch {
    /// Begins a watch, from now on or from where another one stood.
    pub fn begin(
        now: Time,
        order: WatchOrder,
        state: &ClusterState,
        token: Option<Token>,
    ) -> Watch {
        let mut watch = Watch {
            order,
            fence: Epoch(0),
            epoch: token.as_ref().map_or(state.epoch, |token| token.epoch),
            owners: BTreeMap::new(),
            begin_by: now.plus(BEGIN_WAIT),
            began: token.is_some(),
            sound: BTreeSet::new(),
            uncovered: BTreeSet::new(),
            open_gap: token.as_ref().is_some_and(|token| token.open_gap),
            open_until: now,
            is_stale: true,
            reason: GapReason::OwnersChanged,
            told: Told::new(limits::WATCH_WINDOW_BYTES_MAX),
            out: VecDeque::new(),
            out_bytes: 0,
            last_round: 0,
        };
        for TokenOwner { member, place, sound } in token.into_iter().flat_map(|it| it.owners) {
            let counts_from = if sound { now } else { now.plus(SETTLES) };
            let place = Some(place);
            let owner = Owner { place, handed: place, counts_from, ..Owner::default() };
            watch.owners.insert(member, owner);
        }
        watch.on_state(now, state);
        watch
    }

    /// The table that is watched.
    pub fn table(&self) -> TableId {
        self.order.table
    }

    /// A state is in force. Returns whom it does not follow any more.
    pub fn on_state(&mut self, now: Time, state: &ClusterState) -> Vec<NodeId> {
        let fence = state.class_changed_at(self.order.class);
        if fence == self.fence || state.epoch < self.epoch {
            self.epoch = self.epoch.max(state.epoch);
            return Vec::new();
        }
        let mut wanted = BTreeSet::new();
        let mut unseen = Vec::new();
        // From one state to the next the owners that stay carry over what both acknowledge; of states
        // in between nothing is known.
        let skips = state.epoch.0 > self.epoch.0.saturating_add(1) && self.epoch.0 > 0;
        for partition in state.partitions() {
            let unit = Unit { class: self.order.class, partition };
            wanted.extend(state.writers(unit));
            if skips && state.changed_at(unit) > self.epoch {
                unseen.push(partition);
            }
        }
        for id in &wanted {
            let settled = if self.began { now.plus(SETTLES) } else { now };
            let new = || Owner { counts_from: settled, ..Owner::default() };
            self.owners.entry(*id).or_insert_with(new);
        }
        let left: Vec<NodeId> =
            self.owners.keys().filter(|id| !wanted.contains(id)).copied().collect();
        self.owners.retain(|id, _| wanted.contains(id));
        for owner in self.owners.values_mut() {
            // Asked under the fence before.
            (owner.asked, owner.next_ask) = (None, now);
        }
        (self.fence, self.epoch, self.is_stale) = (fence, state.epoch, true);
        if !unseen.is_empty() {
            self.open_until = now.plus(SETTLES);
            self.tell_gap(GapReason::OwnersChanged, unseen);
        }
        left
    }

    /// What is to be asked now: each owner one question at a time, and none as long as much waits for
    /// the client.
    pub fn asks(&mut self, now: Time) -> Vec<(NodeId, WatchMessage)> {
        if self.out_bytes >= limits::WATCH_OUT_BYTES_MAX {
            crate::sometimes!("watch: a client holds it up");
            return Vec::new();
        }
        let share = limits::WATCH_OUT_BYTES_MAX / self.owners.len().max(1);
        let bytes_max = share.max(limits::WATCH_PAGE_BYTES_MIN);
        let mut asks = Vec::new();
        for (id, owner) in &mut self.owners {
            if owner.next_ask > now {
                continue;
            }
            self.last_round += 1;
            (owner.asked, owner.next_ask) = (Some(self.last_round), now.plus(ASK_AGAIN));
            owner.silent_since.get_or_insert(now);
            let WatchOrder { number, table, prefix, values, .. } = &self.order;
            let ask = WatchMessage::Ask {
                watch: *number,
                round: self.last_round,
                changed_at: self.fence,
                table: *table,
                prefix: prefix.clone(),
                values: *values,
                place: owner.place,
                bytes_max: u32::try_from(bytes_max).unwrap_or(u32::MAX),
            };
            asks.push((*id, ask));
        }
        asks
    }

    /// An owner has answered.
    pub fn on_answer(
        &mut self,
        now: Time,
        (from, round): (NodeId, u64),
        (boot, result): (u64, Result<ChangesPage, Refusal>),
    ) {
        let Some(owner) = self.owners.get_mut(&from) else { return };
        if owner.asked != Some(round) {
            return;
        }
        owner.asked = None;
        let Ok(page) = result else {
            owner.next_ask = now.plus(ASK_SOON);
            return;
        };
        (owner.next_ask, owner.silent_since) = (now, None);
        let place = WatchPlace { boot, seq: page.next };
        let before = owner.place.replace(place);
        let is_break = page.lost || before.is_some_and(|before| before.boot != boot);
        match before {
            Some(before) if is_break => {
                owner.counts_from = now.plus(SETTLES);
                self.sound.remove(&from);
                let restarted = before.boot != boot;
                self.reason = if restarted { GapReason::Restarted } else { GapReason::Overrun };
                self.is_stale = true;
            }
            // One that is followed from the beginning on needs no time: nothing was promised before.
            None if self.began => owner.counts_from = now.plus(SETTLES),
            None | Some(_) => {}
        }
        let told = &mut self.told;
        let news = page.changes.into_iter().filter(|change| told.is_news(change));
        let events: Vec<WatchEvent> = news.map(WatchEvent::Change).collect();
        self.push(Some((from, place)), events);
    }

    /// An owner cannot be reached: it is asked again before long.
    pub fn on_unreachable(&mut self, now: Time, peer: NodeId) {
        if let Some(owner) = self.owners.get_mut(&peer) {
            (owner.asked, owner.next_ask) = (None, now.plus(ASK_SOON));
        }
    }

    /// Looks whether those that are followed are enough, and says so where that has changed.
    pub fn look(&mut self, now: Time, state: &ClusterState, table: &Table) {
        if !self.began {
            let all_here = self.owners.values().all(|owner| owner.place.is_some());
            if !all_here && now < self.begin_by {
                return;
            }
            self.began = true;
            self.push(None, vec![WatchEvent::Began]);
        }
        let counts = |owner: &Owner| {
            let is_silent = owner.silent_since.is_some_and(|at| now.since(at) >= SILENT_MAX);
            owner.place.is_some() && owner.counts_from <= now && !is_silent
        };
        let sound: BTreeSet<NodeId> =
            self.owners.iter().filter(|(_, owner)| counts(owner)).map(|(id, _)| *id).collect();
        if !self.sound.is_subset(&sound) {
            self.reason = GapReason::Unreachable;
        }
        if self.is_stale || sound != self.sound {
            (self.is_stale, self.sound) = (false, sound);
            let class = self.order.class;
            let is_open = |partition: &Partition| {
                !is_covered(state, Unit { class, partition: *partition }, (table, &self.sound))
            };
            let uncovered: BTreeSet<Partition> = state.partitions().filter(is_open).collect();
            let new: Vec<Partition> = uncovered.difference(&self.uncovered).copied().collect();
            self.uncovered = uncovered;
            if !new.is_empty() {
                self.tell_gap(self.reason, new);
            }
        }
        if self.open_gap && self.uncovered.is_empty() && self.open_until <= now {
            self.open_gap = false;
            self.push(None, vec![WatchEvent::Whole]);
        }
    }

    /// Whether it has anything to tell.
    pub fn has_news(&self) -> bool {
        self.out.iter().any(|batch| !batch.events.is_empty())
    }

    /// What it has to tell, up to a bound, and where to go on behind it.
    pub fn take(&mut self, state: &ClusterState) -> WatchReply {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = self.out.front()
            && (bytes == 0 || bytes + batch.bytes <= limits::WATCH_REPLY_BYTES_MAX)
            && let Some(batch) = self.out.pop_front()
        {
            bytes += batch.bytes;
            self.out_bytes -= batch.bytes;
            events.extend(batch.events);
            if let Some((from, place)) = batch.end
                && let Some(owner) = self.owners.get_mut(&from)
            {
                owner.handed = Some(place);
            }
        }
        let token = |(member, owner): (&NodeId, &Owner)| {
            let (member, sound) = (*member, self.sound.contains(member));
            owner.handed.map(|place| TokenOwner { member, place, sound })
        };
        let token = Token {
            cluster: state.cluster,
            table: self.order.table,
            epoch: self.epoch,
            open_gap: self.open_gap,
            owners: self.owners.iter().filter_map(token).collect(),
        };
        WatchReply { events, token: token.encode(), epoch: self.epoch }
    }

    /// Whether it has begun: before that there is nothing to go on from.
    pub fn has_begun(&self) -> bool {
        self.began
    }

    /// Whom it follows.
    pub fn followed(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.owners.keys().copied()
    }

    fn tell_gap(&mut self, reason: GapReason, mut partitions: Vec<Partition>) {
        crate::sometimes!("watch: a gap is told");
        self.open_gap = true;
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        partitions.truncate(limits::WATCH_GAP_PARTITIONS_MAX);
        if !crate::mutant!("watch-gap-untold") {
            self.push(None, vec![WatchEvent::Gap { reason, partitions, count }]);
        }
    }

    fn push(&mut self, end: Option<(NodeId, WatchPlace)>, events: Vec<WatchEvent>) {
        let bytes = events.iter().map(WatchEvent::bytes).sum();
        // Of places alone there is one of each owner at most, behind the last events.
        if events.is_empty()
            && let Some((from, place)) = end
        {
            let bare = self.out.iter_mut().rev().take_while(|batch| batch.events.is_empty());
            let own = bare.filter_map(|batch| batch.end.as_mut()).find(|(of, _)| *of == from);
            if let Some(own) = own {
                own.1 = place;
                return;
            }
        }
        self.out_bytes += bytes;
        self.out.push_back(Batch { end, events, bytes });
    }
}

/// Whether enough of an owner set of a unit are followed: of one set, since what is acknowledged while
/// owners change was applied by w of each.
fn is_covered(
    state: &ClusterState,
    unit: Unit,
    (table, sound): (&Table, &BTreeSet<NodeId>),
) -> bool {
    let is_enough = |set: &[NodeId]| {
        let followed = set.iter().filter(|id| sound.contains(id)).count();
        let few = crate::mutant!("watch-follows-too-few");
        let needed = (set.len() + 1).saturating_sub(usize::from(table.w_min));
        !set.is_empty() && followed >= if few { 1 } else { needed.max(1) }
    };
    is_enough(state.owners(unit)) || is_enough(state.other_owners(unit))
}
