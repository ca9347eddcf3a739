//! What this node has to say of members that are down, what `control` makes of all that was said, and what is
//! done with the data of one whose place was taken: `docs/orchestrator.md`.

use core::time::Duration;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Node;
use super::disk::Pending;
use super::topology::HeardBy;
use crate::control::{self, Alarm, Outlook, Room, Watched};
use crate::message::{
    AsideRecord, AsideTask, DiskAnswer, DiskError, DiskRequest, EventKind, Level, Liveness,
    MetaRecord, Restored,
};
use crate::types::{ClusterState, Epoch, NodeId, Now, Time, limits};

/// What a member has told so many periods ago counts no more.
const TOLD_WITHIN_PERIODS: u32 = 120;
/// So long after its own grace time, at most, a node expects a majority to have found the same.
const OVERDUE_MAX: Duration = Duration::from_secs(60);

/// What a node knows for the orchestrator.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Since when this node has held members down, without a break.
    down: BTreeMap<NodeId, Time>,
    /// Since when members answer and do not serve.
    idle: BTreeMap<NodeId, Time>,
    /// What a human has to look at.
    pub(super) alarms: Vec<Alarm>,
    /// The last data that were set aside, as the store knows it.
    aside: Option<AsideRecord>,
    /// What is being done about data to be set aside, and for which epoch.
    doing: Option<Doing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// The copy is being made.
    Copies(Epoch),
    /// It is there, or cannot be; that is being noted.
    Notes(AsideRecord),
    /// It is being deleted.
    Deletes,
}

impl Keeper {
    pub(super) fn new(restored: &Restored) -> Keeper {
        Keeper { aside: restored.aside, ..Keeper::default() }
    }

    /// Whether data are to be set aside before anything is deleted.
    pub(super) fn holds_deletions(&self) -> bool {
        matches!(self.doing, Some(Doing::Copies(_) | Doing::Notes(_)))
    }

    /// For how long this node has held a member down.
    pub(super) fn down_for(&self, now: Time, member: NodeId) -> Option<Duration> {
        self.down.get(&member).map(|since| now.since(*since))
    }
}

impl Watched for HeardBy<'_> {
    fn me(&self) -> NodeId {
        self.0.me
    }

    fn says_down(&self, teller: NodeId, member: NodeId) -> bool {
        if teller == self.0.me {
            return self.0.long_down().contains(&member);
        }
        let Some(known) = self.0.members.facts(teller) else { return false };
        let within = self.0.config.probe_interval.saturating_mul(TOLD_WITHIN_PERIODS);
        let lately = known.told.is_some_and(|told| self.0.now.since(told) <= within);
        let says = known.facts.is_some_and(|facts| facts.long_down.contains(&member));
        known.liveness == Liveness::Alive && lately && says
    }

    fn overdue(&self, member: NodeId) -> bool {
        let Some(grace) = self.0.config.replace_after else { return false };
        let beyond = grace.saturating_add(grace.min(OVERDUE_MAX));
        self.0.keeper.down_for(self.0.now, member).is_some_and(|down| down >= beyond)
    }

    fn idles(&self, member: NodeId) -> bool {
        let since = self.0.keeper.idle.get(&member);
        let grace = self.0.config.replace_after;
        since.zip(grace).is_some_and(|(since, grace)| self.0.now.since(*since) >= grace)
    }

    fn room(&self, member: NodeId) -> Room {
        self.0.room_of(member)
    }

    fn mirrors(&self, member: NodeId, of: NodeId) -> u32 {
        let news = self.0.mirror_news_of(member);
        news.of.iter().find(|(id, _)| *id == of).map_or(0, |(_, units)| *units)
    }
}

impl Node {
    /// Members that this node has held down for its whole grace time.
    pub(super) fn long_down(&self) -> Vec<NodeId> {
        let Some(grace) = self.config.replace_after else { return Vec::new() };
        let long = self.keeper.down.iter().filter(|(_, since)| self.now.since(**since) >= grace);
        long.map(|(id, _)| *id).take(limits::LONG_DOWN_NEWS_MAX).collect()
    }

    /// Who is down since when, and who answers without serving.
    pub(super) fn note_liveness(&mut self, now: Now) {
        let ids: Vec<NodeId> = self.members.ids().collect();
        let liveness = |id: &NodeId| self.members.facts(*id).map(|known| known.liveness);
        let down: Vec<NodeId> =
            ids.iter().copied().filter(|id| liveness(id) == Some(Liveness::Down)).collect();
        let idle = |id: &NodeId| {
            let told = self.members.told(*id).is_some() && !self.members.serves(*id);
            told && liveness(id) == Some(Liveness::Alive)
        };
        let idle: Vec<NodeId> = ids.iter().copied().filter(idle).collect();
        let back: Vec<NodeId> = self.keeper.down.keys().copied().collect();
        let back: Vec<NodeId> = back.into_iter().filter(|id| !down.contains(id)).collect();
        self.keeper.down.retain(|id, _| down.contains(id));
        self.keeper.idle.retain(|id, _| idle.contains(id));
        for id in idle {
            self.keeper.idle.entry(id).or_insert(now.mono);
        }
        for id in down {
            if let Entry::Vacant(missing) = self.keeper.down.entry(id) {
                missing.insert(now.mono);
                self.record_member(now, EventKind::MemberDown, id, "it does not answer");
            }
        }
        for id in back.into_iter().filter(|id| ids.contains(id)) {
            self.record_member(now, EventKind::MemberBack, id, "it answers again");
        }
    }

    /// What is to be done to keep n copies, as far as this node has heard; and what cannot be.
    pub(super) fn outlook(&mut self, now: Now, state: &ClusterState) -> Outlook {
        let outlook = match self.config.replace_after {
            Some(_) => control::look(state, &HeardBy(self)),
            None => Outlook::default(),
        };
        if outlook.alarms == self.keeper.alarms {
            return outlook;
        }
        let before = core::mem::replace(&mut self.keeper.alarms, outlook.alarms.clone());
        let is_of = |alarms: &[Alarm], alarm: &Alarm| {
            alarms.iter().any(|known| (known.kind, known.subject) == (alarm.kind, alarm.subject))
        };
        for alarm in outlook.alarms.iter().filter(|alarm| !is_of(&before, alarm)) {
            let text = format!("{}: {}", alarm.kind.as_str(), alarm.text);
            self.note(Level::Warn, Some(alarm.subject), format!("alarm: {text}"));
            self.record_member(now, EventKind::AlarmRaised, alarm.subject, &text);
        }
        for alarm in before.iter().filter(|alarm| !is_of(&outlook.alarms, alarm)) {
            let text = alarm.kind.as_str();
            self.record_member(now, EventKind::AlarmCleared, alarm.subject, text);
        }
        self.publish();
        outlook
    }

    /// A state has come into force: has it taken this node's place, or been moved back by people?
    pub(super) fn on_keeper_state(&mut self, now: Now, before: Option<&ClusterState>) {
        let Some(state) = self.state.clone() else { return };
        let rolled = before.is_some_and(control::is_rolled_back_by_people);
        if rolled && state.topology.plan.is_none() {
            // Whoever has rolled it back has as long again to say what is to be done.
            self.keeper.down.values_mut().for_each(|since| *since = now.mono);
        }
        let Some(epoch) = state.relieved_at(self.me) else { return };
        let done = self.keeper.aside.is_some_and(|aside| aside.epoch >= epoch);
        if done || self.keeper.doing.is_some() {
            return;
        }
        self.keeper.doing = Some(Doing::Copies(epoch));
        self.disk(Pending::Aside, DiskRequest::Aside(AsideTask::Keep(epoch)));
    }

    pub(super) fn on_aside_done(&mut self, now: Now, result: Result<DiskAnswer, DiskError>) {
        match self.keeper.doing.take() {
            Some(Doing::Copies(epoch)) => {
                let text = match &result {
                    Ok(_) => {
                        crate::sometimes!("keeper: has set old data aside");
                        format!("its old data are set aside in aside/{epoch}")
                    }
                    Err(error) => format!("its old data could not be set aside: {error}"),
                };
                let text = format!("its place was taken in epoch {epoch}: it is reserved; {text}");
                self.note(Level::Warn, None, format!("this node was away for long, and {text}"));
                self.record_member(now, EventKind::SetAside, self.me, &text);
                let record = AsideRecord { epoch, wall: now.wall, is_there: result.is_ok() };
                self.note_aside(record);
            }
            Some(Doing::Notes(record)) if result.is_ok() => self.keeper.aside = Some(record),
            Some(Doing::Notes(record)) => {
                // Tried again with the next housekeeping; nothing is deleted before.
                self.keeper.doing = Some(Doing::Notes(record));
                return;
            }
            Some(Doing::Deletes) => {
                if let Some(aside) = &mut self.keeper.aside {
                    aside.is_there = false;
                }
            }
            None => {}
        }
        // What had to wait for it; and a later state may have taken its place once more.
        self.on_keeper_state(now, None);
        self.fills_on();
    }

    fn note_aside(&mut self, record: AsideRecord) {
        self.keeper.doing = Some(Doing::Notes(record));
        self.disk(Pending::Aside, DiskRequest::Persist(vec![MetaRecord::Aside(record)]));
    }

    /// What is due now and then: data that were set aside for long enough go.
    pub(super) fn keep_aside_on(&mut self, now: Now) {
        if let Some(Doing::Notes(record)) = self.keeper.doing {
            let waits = self.pending.values().any(|pending| matches!(pending, Pending::Aside));
            if !waits {
                self.note_aside(record);
            }
        }
        let Some(aside) = self.keeper.aside.filter(|aside| aside.is_there) else { return };
        let age = now.wall.0.saturating_sub(aside.wall.0);
        if self.keeper.doing.is_none() && u128::from(age) >= self.config.keep_aside.as_nanos() {
            self.keeper.doing = Some(Doing::Deletes);
            self.disk(Pending::Aside, DiskRequest::Aside(AsideTask::Drop(aside.epoch)));
        }
    }
}
