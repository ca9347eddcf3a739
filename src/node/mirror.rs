//! What a reserved member mirrors: copies of units that it is likely to inherit, one unit made equal to one owner
//! at a time. They count for nothing and answer nothing; when a state makes this node an owner of one, `fills`
//! begins with what is there instead of nothing. `docs/protocol/mirror.md`.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::disk::Pending;
use super::fills::UnitPending;
use crate::control::{Room, mirror};
use crate::message::{DiskRequest, FillRecord, MetaRecord, MirrorNews, Phase};
use crate::types::{ClusterState, Epoch, NodeId, Now, Role, Time, Unit, WallTime, limits};

/// So much more of the disk than its share, in percent, may be taken before mirrors are deleted.
const SHARE_SLACK: u64 = 5;
/// How long a deleted one has to give its room back before the next goes.
const DROP_PAUSE: Duration = Duration::from_secs(60);

/// What is known of them beside what is on record of units.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    /// By which state, and without whom, this was looked up.
    of: Option<(Epoch, Vec<NodeId>)>,
    /// Whose units are mirrored, and those, the first first.
    members: Vec<NodeId>,
    units: Vec<Unit>,
    /// The unit that is being made equal to an owner, and since when.
    running: Option<(Unit, WallTime)>,
    /// When one was last deleted for want of room.
    dropped: Option<Time>,
    /// What is told, but for its age; and since when that counts.
    news: MirrorNews,
    oldest: Option<WallTime>,
}

impl Node {
    /// Whether what is mirrored stays: while this node is reserved, and while a plan may be about to make it an
    /// owner.
    pub(super) fn keeps_mirrors(&self) -> bool {
        let Some(state) = &self.state else { return true };
        let role = state.member(self.me).map(|member| member.role);
        let may_inherit = role == Some(Role::Reserved) || state.topology.plan.is_some();
        self.config.mirror && may_inherit
    }

    pub(super) fn is_mirrored(&self, unit: Unit) -> bool {
        self.record(unit).is_some_and(|record| record.mirrored_at().is_some())
    }

    /// Whether a unit that this node has entered begins with what was mirrored of it. What it is worth does not
    /// matter: it is made equal to the first source.
    pub(super) fn starts_warm(&self, unit: Unit) -> bool {
        let at = self.record(unit).and_then(FillRecord::mirrored_at);
        let is_warm = self.config.mirror && at.is_some_and(|at| at > WallTime(0));
        if is_warm {
            crate::sometimes!("mirror: a unit begins warm");
        }
        is_warm && !self.fills.losses.has_lost(unit)
    }

    pub(super) fn is_mirroring(&self, unit: Unit) -> bool {
        self.fills.mirrors.running.is_some_and(|(running, _)| running == unit)
    }

    /// When the copy that now ends was begun: it is as old as that.
    pub(super) fn mirrors_as_of(&self) -> WallTime {
        self.fills.mirrors.running.map_or(WallTime(0), |(_, since)| since)
    }

    /// Owners are about to change, or have: nothing is mirrored meanwhile.
    pub(super) fn rest_mirror(&mut self, state: &ClusterState) {
        if let Some((unit, _)) = self.fills.mirrors.running
            && !self.may_mirror(state)
        {
            self.end_mirror(unit);
        }
    }

    /// What runs is over, or is not to go on.
    pub(super) fn end_mirror(&mut self, unit: Unit) {
        self.fills.transfers.forget(unit);
        self.fills.mirrors.running = None;
    }

    fn may_mirror(&self, state: &ClusterState) -> bool {
        let is_reserved = state.member(self.me).is_some_and(|member| member.role == Role::Reserved);
        self.config.mirror && is_reserved && state.topology.plan.is_none()
    }

    /// Begins with the next unit, if it is time.
    pub(super) fn mirror_on(&mut self, now: Now) {
        let Some(state) = self.state.clone() else { return };
        self.count_mirrors();
        let waits = self.fills.mirrors.running.is_some()
            || self.phase != Phase::Serving
            || self.users_are_busy()
            || self.fills.losses.log_is_open()
            || self.keeper.holds_deletions();
        if waits || !self.may_mirror(&state) {
            return;
        }
        self.look_up_mirrors(&state);
        if self.takes_too_much(now) {
            return;
        }
        match self.next_mirror(now, &state) {
            Some((unit, true)) => {
                self.fills.mirrors.running = Some((unit, now.wall));
                let record = FillRecord::mirror(WallTime(0));
                // Durable before anything of it is there: nobody else is to find it.
                let pending = UnitPending::Saved(unit, record.clone(), None);
                let records = vec![MetaRecord::Fill(unit, record)];
                self.disk(Pending::Unit(pending), DiskRequest::Persist(records));
            }
            Some((unit, false)) => self.begin_mirror(now, unit),
            None => self.drop_unassigned(now),
        }
    }

    fn begin_mirror(&mut self, now: Now, unit: Unit) {
        self.fills.mirrors.running = Some((unit, now.wall));
        let at = self.record(unit).and_then(FillRecord::mirrored_at);
        let is_new = at.is_none_or(|at| at == WallTime(0));
        self.fills.transfers.begin_mirror(unit, is_new);
    }

    /// It is durable how far a unit is mirrored.
    pub(super) fn on_mirror_saved(&mut self, now: Now, unit: Unit) {
        if !self.is_mirroring(unit) {
            return;
        }
        let is_begun = self.fills.transfers.is_under_way(unit);
        let at = self.record(unit).and_then(FillRecord::mirrored_at);
        if at == Some(WallTime(0)) && !is_begun {
            return self.begin_mirror(now, unit);
        }
        crate::sometimes!("mirror: a unit is equal to an owner");
        self.end_mirror(unit);
        self.mirror_on(now);
    }

    /// The next unit, and whether nothing is on record of it yet: those that are not mirrored first, then those
    /// that were equal to an owner longest ago.
    fn next_mirror(&self, now: Now, state: &ClusterState) -> Option<(Unit, bool)> {
        let assigned = &self.fills.mirrors.units;
        let at = |unit: Unit| self.record(unit).and_then(FillRecord::mirrored_at);
        let free = |unit: &Unit| {
            let is_copied = self.is_copied(Some(*unit), self.next_token);
            let is_owner = self.own_entry(*unit).is_some();
            !is_owner && !self.is_due(*unit) && !is_copied && state.moving(*unit).is_none()
        };
        let begun = |unit: Unit| at(unit).is_some_and(|at| at > WallTime(0));
        let new = assigned.iter().copied().find(|unit| free(unit) && !begun(*unit));
        if let Some(unit) = new.filter(|_| self.has_room_to_mirror(state)) {
            return Some((unit, self.record(unit).is_none()));
        }
        let every = u64::try_from(self.config.mirror_every.as_nanos()).unwrap_or(u64::MAX);
        let is_old = |at: WallTime| now.wall.0.abs_diff(at.0) >= every;
        let known = assigned.iter().copied().filter(|unit| free(unit) && begun(*unit));
        let oldest = known.filter_map(|unit| Some((at(unit)?, unit))).min()?;
        is_old(oldest.0).then_some((oldest.1, false))
    }

    /// Whether an average unit more stays in the share of the disk.
    fn has_room_to_mirror(&self, state: &ClusterState) -> bool {
        let facts = self.replica;
        let Some(free) = facts.free_bytes else { return true };
        let per_unit = self.fills.mirrors.members.iter().map(|id| {
            let owned = state.units().filter(|unit| state.owners(*unit).contains(id)).count();
            self.replica_facts(*id).disk_bytes / u64::try_from(owned.max(1)).unwrap_or(1)
        });
        let wanted = facts.disk_bytes.saturating_add(per_unit.max().unwrap_or(0));
        let most =
            facts.disk_bytes.saturating_add(free) / 100 * u64::from(self.config.mirror_share);
        wanted <= most
    }

    /// Mirrors give way where the disk is fuller than by much: the last one goes, and the next when that has given
    /// its room back.
    fn takes_too_much(&mut self, now: Now) -> bool {
        let facts = self.replica;
        let Some(free) = facts.free_bytes else { return false };
        let share = u64::from(self.config.mirror_share) + SHARE_SLACK;
        if facts.disk_bytes <= facts.disk_bytes.saturating_add(free) / 100 * share {
            return false;
        }
        let waits = self.fills.mirrors.dropped.is_some_and(|at| now.mono.since(at) < DROP_PAUSE);
        let mut units = self.fills.mirrors.units.iter().rev().copied();
        let last = units.find(|unit| self.is_mirrored(*unit) && !self.is_due(*unit));
        if let Some(unit) = last.filter(|_| !waits) {
            crate::sometimes!("mirror: a unit gives its room back");
            self.fills.mirrors.dropped = Some(now.mono);
            self.empty_unit(unit);
            self.fills_on();
        }
        true
    }

    /// One that others mirror by now goes, once all is done that has to be mirrored, and who is gone can be known.
    fn drop_unassigned(&mut self, now: Now) {
        let grace = self.config.replace_after.unwrap_or_default().max(self.config.mirror_every);
        let settled = self.serving_since.is_some_and(|since| now.mono.since(since) > grace);
        let assigned: BTreeSet<Unit> = self.fills.mirrors.units.iter().copied().collect();
        let is_left = |unit: &Unit| !assigned.contains(unit) && !self.is_due(*unit);
        let mirrored = self.records().filter(|(_, record)| record.mirrored_at().is_some());
        let left = mirrored.map(|(unit, _)| unit).find(is_left);
        if let Some(unit) = left.filter(|_| settled) {
            crate::sometimes!("mirror: a unit that is another's to mirror goes");
            self.empty_unit(unit);
            self.fills_on();
        }
    }

    fn look_up_mirrors(&mut self, state: &ClusterState) {
        let of = (state.epoch, self.long_down());
        if self.fills.mirrors.of.as_ref() == Some(&of) {
            return;
        }
        let members = mirror::mirrored(state, self.me, &of.1);
        self.fills.mirrors.units = mirror::units_of(state, &members);
        self.fills.mirrors.members = members;
        self.fills.mirrors.of = Some(of);
    }

    /// Counts what is mirrored.
    fn count_mirrors(&mut self) {
        let Some(state) = self.state.clone() else { return };
        let (mut of, mut units, mut oldest) = (BTreeMap::<NodeId, u32>::new(), 0_u32, None);
        for (unit, record) in self.records() {
            let Some(at) = record.mirrored_at().filter(|at| *at > WallTime(0)) else { continue };
            units = units.saturating_add(1);
            oldest = Some(oldest.map_or(at, |known: WallTime| known.min(at)));
            for owner in state.owners(unit) {
                *of.entry(*owner).or_default() += 1;
            }
        }
        let mut of: Vec<(NodeId, u32)> = of.into_iter().collect();
        // Those first of which there is most.
        of.sort_by_key(|(id, units)| (Reverse(*units), *id));
        of.truncate(limits::MIRROR_NEWS_MAX);
        let wanted = u32::try_from(self.fills.mirrors.units.len()).unwrap_or(u32::MAX);
        let held = self.replica.disk_bytes.saturating_sub(self.hints.books.totals().bytes);
        let bytes = if units > 0 { held } else { 0 };
        let news = MirrorNews { units, wanted, bytes, oldest: Duration::ZERO, of };
        self.fills.mirrors.oldest = oldest;
        if news != core::mem::replace(&mut self.fills.mirrors.news, news.clone()) {
            self.publish();
        }
    }

    /// What this node says of what it mirrors.
    pub(super) fn mirror_news(&self, wall: WallTime) -> MirrorNews {
        let mirrors = &self.fills.mirrors;
        let age = mirrors.oldest.map_or(0, |at| wall.0.saturating_sub(at.0));
        match self.keeps_mirrors() {
            true => MirrorNews { oldest: Duration::from_nanos(age), ..mirrors.news.clone() },
            false => MirrorNews::default(),
        }
    }

    /// The same of any member, as it has told.
    pub(super) fn mirror_news_of(&self, member: NodeId) -> MirrorNews {
        if member == self.me {
            return self.mirror_news(WallTime(0));
        }
        let known = self.members.facts(member).and_then(|known| known.facts);
        known.map_or_else(MirrorNews::default, |facts| facts.mirror.clone())
    }

    /// The room on a member's disk. What it mirrors gives way to what it owns.
    pub(super) fn room_of(&self, member: NodeId) -> Room {
        let facts = self.replica_facts(member);
        let mirrored = self.mirror_news_of(member).bytes.min(facts.disk_bytes);
        Room {
            used: facts.disk_bytes.saturating_sub(mirrored),
            free: facts.free_bytes.map(|free| free.saturating_add(mirrored)),
        }
    }
}
