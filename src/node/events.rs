//! What has happened, for operators: a bounded ring of events, kept in the node's store. What the cluster has
//! decided is read off the states; the rest is what this node has seen.

use std::collections::VecDeque;

use super::Node;
use super::disk::Pending;
use crate::control;
use crate::message::{
    ClientResult, DiskRequest, EventKind, EventRecord, EventsAsk, EventsReply, MetaRecord, Reply,
    Restored,
};
use crate::types::{ClusterState, NodeId, Now, limits};

/// The latest events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Events {
    kept: VecDeque<EventRecord>,
    last: u64,
}

impl Events {
    pub(super) fn new(restored: &Restored) -> Events {
        let kept: VecDeque<EventRecord> = restored.events.values().cloned().collect();
        let last = kept.back().map_or(0, |event| event.seq);
        Events { kept, last }
    }
}

impl Node {
    /// Remembers something about a member.
    pub(super) fn record_member(&mut self, now: Now, kind: EventKind, id: NodeId, text: &str) {
        let known = self.state.as_ref().and_then(|state| state.member(id));
        let Some(subject) = known.map(|member| member.name.to_string()) else { return };
        let epoch = self.epoch();
        self.remember(
            now,
            EventRecord { epoch, since: epoch, ..EventRecord::new(kind, subject, text) },
        );
    }

    /// A state is in force: what has changed is remembered.
    pub(super) fn record_state(&mut self, now: Now, before: Option<&ClusterState>) {
        let Some((state, before)) = self.state.clone().zip(before) else { return };
        for event in control::events(before, &state) {
            self.remember(now, event);
        }
    }

    fn remember(&mut self, now: Now, mut event: EventRecord) {
        self.events.last += 1;
        (event.seq, event.wall) = (self.events.last, now.wall);
        self.events.kept.push_back(event.clone());
        if self.events.kept.len() > limits::EVENTS_MAX {
            self.events.kept.pop_front();
        }
        self.disk(Pending::Housekeeping, DiskRequest::Persist(vec![MetaRecord::Event(event)]));
    }

    /// The latest events after a number.
    pub(super) fn events_reply(&self, ask: EventsAsk) -> ClientResult {
        let after = self.events.kept.iter().filter(|event| event.seq > ask.after);
        let events: Vec<EventRecord> = after.cloned().collect();
        let over = events.len().saturating_sub(ask.limit);
        let events = events.into_iter().skip(over).collect();
        let (me, last) = (self.config.name.clone(), self.events.last);
        Ok(Reply::Events(Box::new(EventsReply { me, last, events })))
    }

    /// How many replacements this node has learned of since it was first started, of those it remembers.
    pub(super) fn replacements(&self) -> u64 {
        let is_one =
            |event: &&EventRecord| matches!(event.kind, EventKind::Replaced | EventKind::Spread);
        self.events.kept.iter().filter(is_one).count() as u64
    }
}
