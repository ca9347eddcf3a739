//! Watches: those that clients have open here, and what is held here for those of others until
//! something changes. What is followed and told is [`Watch`]'s; here is who asks, and when.
//! `docs/protocol/watch.md`.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Node;
use super::cursors::RETRY_AFTER;
use super::disk::Pending;
use crate::message::{
    Bound, ChangesAsk, ChangesPage, ClientResult, DiskAnswer, DiskError, DiskRequest, Effect,
    ErrorCode, OpError, PeerMessage, Refusal, Reply, WatchAsk, WatchMessage,
};
use crate::types::{ClusterState, NodeId, Now, OpId, TableId, Time, limits};
use crate::watch::{Token, Watch, WatchOrder};

/// How often watches are looked after while there are any.
const TICK: Duration = Duration::from_millis(100);
/// How soon what is held is looked at again when something may have changed: writes of that time are
/// told together.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// One that a client has open here.
#[derive(Debug)]
struct Open {
    watch: Watch,
    /// The client's question, and until when it may wait.
    waiting: Option<(OpId, Time)>,
    /// When the client last asked.
    used: Time,
}

/// A question that is held until something changes.
#[derive(Debug)]
struct Held {
    round: u64,
    ask: ChangesAsk,
    /// The place it asks for is of another boot.
    is_other_boot: bool,
    until: Time,
    /// It is being looked at.
    is_busy: bool,
}

/// The book of both.
#[derive(Debug, Default)]
pub(super) struct Watches {
    open: BTreeMap<u64, Open>,
    held: BTreeMap<(NodeId, u64), Held>,
    /// When a table was last asked about: its changes are noted.
    noted: BTreeMap<TableId, Time>,
    tick_at: Option<Time>,
    look_at: Option<Time>,
}

impl Watches {
    /// When something is due.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        [self.tick_at, self.look_at].into_iter().flatten().min()
    }

    /// Something may have been merged here.
    pub(super) fn on_applied(&mut self, now: Time) {
        if !self.held.is_empty() && self.look_at.is_none() {
            self.look_at = Some(now.plus(LOOK_AGAIN));
        }
    }

    /// A client waits no longer for an answer.
    pub(super) fn abandon(&mut self, op: OpId) {
        for open in self.open.values_mut() {
            open.waiting = open.waiting.filter(|(waiting, _)| *waiting != op);
        }
    }

    /// Watches that are open here.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.held.is_empty() && self.noted.is_empty()
    }
}

impl Node {
    /// A client asks a watch for what it has to tell.
    pub(super) fn on_watch_ask(
        &mut self,
        now: Now,
        (op, deadline): (OpId, Time),
        state: &Arc<ClusterState>,
        ask: WatchAsk,
    ) -> Result<(), OpError> {
        let stream = ask.stream;
        if ask.first {
            self.open_watch(now, state, ask)?;
        }
        let Some(open) = self.watches.open.get_mut(&stream) else {
            let message = "the watch has ended here; go on with its last token";
            return Err(OpError::new(ErrorCode::NotReady, message));
        };
        let until = deadline.min(now.mono.plus(limits::WATCH_HELD));
        (open.waiting, open.used) = (Some((op, until)), now.mono);
        self.watches.tick_at.get_or_insert(now.mono.plus(TICK));
        self.run_watch(now, stream);
        Ok(())
    }

    fn open_watch(
        &mut self,
        now: Now,
        state: &Arc<ClusterState>,
        ask: WatchAsk,
    ) -> Result<(), OpError> {
        let table = super::client::table(state, &ask.table)?;
        let (most, got) = (limits::WATCHES_MAX, self.watches.open.len());
        if got >= most {
            let text = "too many watches are open on this node";
            let mut error = OpError::new(ErrorCode::Overloaded, text).with_limit(most, got);
            (error.facts.bound, error.facts.retry_after) = (Some(Bound::Node), Some(RETRY_AFTER));
            return Err(error);
        }
        let token = if ask.token.is_empty() {
            None
        } else {
            let token = Token::decode(&ask.token, state.cluster, table.id).map_err(|foreign| {
                OpError::new(ErrorCode::RequestMalformed, format!("token: {foreign}"))
            })?;
            Some(token)
        };
        let order = WatchOrder {
            number: self.scan_number(ask.stream),
            table: table.id,
            class: table.class,
            prefix: ask.prefix,
            values: ask.values,
        };
        let watch = Watch::begin(now.mono, order, state, token);
        let open = Open { watch, waiting: None, used: now.mono };
        self.watches.open.insert(ask.stream, open);
        Ok(())
    }

    /// A client's stream has ended.
    pub(super) fn end_watch(&mut self, stream: u64) {
        let Some(open) = self.watches.open.remove(&stream) else { return };
        let watch = self.scan_number(stream);
        for member in open.watch.followed() {
            if member == self.me {
                self.watches.held.remove(&(member, watch));
            } else if self.members.is_reachable(member) {
                self.send(member, PeerMessage::Watch(Box::new(WatchMessage::End { watch })));
            }
        }
    }

    /// A peer cannot be reached: nothing is held for it, and it is asked again before long.
    pub(super) fn on_watch_lost(&mut self, now: Now, peer: NodeId) {
        self.watches.held.retain(|(from, _), _| *from != peer);
        for open in self.watches.open.values_mut() {
            open.watch.on_unreachable(now.mono, peer);
        }
    }

    /// Asks, looks and answers for one watch.
    fn run_watch(&mut self, now: Now, stream: u64) {
        let Some(state) = self.state.clone() else { return };
        let Some(mut open) = self.watches.open.remove(&stream) else { return };
        let Some(table) = state.table(open.watch.table()) else {
            let error = OpError::new(ErrorCode::TableUnknown, "the table has been dropped");
            return self.answer_watch(open.waiting, Err(error));
        };
        let left = open.watch.on_state(now.mono, &state);
        let number = self.scan_number(stream);
        let me = self.me;
        for member in left.into_iter().filter(|member| *member != me) {
            let end = WatchMessage::End { watch: number };
            self.send(member, PeerMessage::Watch(Box::new(end)));
        }
        let asks = open.watch.asks(now.mono);
        open.watch.look(now.mono, &state, table);
        if let Some((op, until)) = open.waiting
            && open.watch.has_begun()
            && (open.watch.has_news() || until <= now.mono)
        {
            let reply = open.watch.take(&state);
            (open.waiting, open.used) = (None, now.mono);
            self.answer_watch(Some((op, until)), Ok(Reply::Watch(Box::new(reply))));
        }
        self.watches.open.insert(stream, open);
        for (member, ask) in asks {
            if member == self.me {
                self.on_watch(now, member, ask);
            } else if self.members.is_reachable(member) {
                self.send(member, PeerMessage::Watch(Box::new(ask)));
            } else if let Some(open) = self.watches.open.get_mut(&stream) {
                open.watch.on_unreachable(now.mono, member);
            }
        }
    }

    fn answer_watch(&mut self, waiting: Option<(OpId, Time)>, result: ClientResult) {
        if let Some((op, _)) = waiting {
            self.effects.push_back(Effect::Reply { op, result });
        }
    }

    /// What a watch asks an owner, and is answered.
    pub(super) fn on_watch(&mut self, now: Now, from: NodeId, message: WatchMessage) {
        match message {
            WatchMessage::Answer { watch, round, boot, result } => {
                let is_it = |stream: &&u64| self.scan_number(**stream) == watch;
                let Some(&stream) = self.watches.open.keys().find(is_it) else { return };
                if let Some(open) = self.watches.open.get_mut(&stream) {
                    open.watch.on_answer(now.mono, (from, round), (boot, result));
                }
                self.run_watch(now, stream);
            }
            WatchMessage::End { watch } => drop(self.watches.held.remove(&(from, watch))),
            WatchMessage::Ask { watch, .. } => {
                if let Err(refusal) = self.hold_watch(now, from, &message) {
                    self.answer_held(now, (from, watch, round_of(&message)), Err(refusal));
                }
            }
        }
    }

    /// Takes a question in: it is looked at once at least.
    fn hold_watch(&mut self, now: Now, from: NodeId, ask: &WatchMessage) -> Result<(), Refusal> {
        let WatchMessage::Ask { watch, round, changed_at, table, prefix, values, place, bytes_max } =
            ask
        else {
            return Ok(());
        };
        self.judge_watch(now, from, (*changed_at, *table))?;
        if self.watches.held.len() >= limits::WATCH_ASKS_HELD_MAX {
            return Err(Refusal::Overloaded);
        }
        let own = place.filter(|place| place.boot == self.boot.number);
        let held = Held {
            round: *round,
            ask: ChangesAsk {
                table: *table,
                prefix: prefix.clone(),
                after: own.map(|place| place.seq),
                values: *values,
                bytes_max: *bytes_max,
            },
            is_other_boot: place.is_some() && own.is_none(),
            until: now.mono.plus(limits::WATCH_HELD),
            is_busy: false,
        };
        self.watches.noted.insert(*table, now.mono);
        self.watches.held.insert((from, *watch), held);
        self.watches.tick_at.get_or_insert(now.mono.plus(TICK));
        self.look_at_held(from, *watch);
        Ok(())
    }

    fn look_at_held(&mut self, from: NodeId, watch: u64) {
        let Some(held) = self.watches.held.get_mut(&(from, watch)) else { return };
        if !core::mem::replace(&mut held.is_busy, true) {
            let ask = DiskRequest::Changes(Box::new(held.ask.clone()));
            self.disk(Pending::Changes(from, watch), ask);
        }
    }

    /// What was noted has been read: it is told, or the question held on.
    pub(super) fn on_changes_read(
        &mut self,
        now: Now,
        (from, watch): (NodeId, u64),
        result: Result<DiskAnswer, DiskError>,
    ) {
        let Some(held) = self.watches.held.get_mut(&(from, watch)) else { return };
        held.is_busy = false;
        let is_first = held.ask.after.is_none();
        let result = match result {
            Ok(DiskAnswer::Changes(mut page)) => {
                page.lost |= held.is_other_boot;
                if page.more && page.changes.is_empty() {
                    // Of other tables, or other keys.
                    held.ask.after = Some(page.next);
                    return self.look_at_held(from, watch);
                }
                let is_news = !page.changes.is_empty() || page.lost || is_first;
                if !is_news && now.mono < held.until {
                    held.ask.after = Some(page.next);
                    return;
                }
                Ok(page)
            }
            other => Err(self.refusal(other)),
        };
        let Some(held) = self.watches.held.remove(&(from, watch)) else { return };
        self.answer_held(now, (from, watch, held.round), result);
    }

    fn answer_held(
        &mut self,
        now: Now,
        (to, watch, round): (NodeId, u64, u64),
        result: Result<ChangesPage, Refusal>,
    ) {
        let answer = WatchMessage::Answer { watch, round, boot: self.boot.number, result };
        if to == self.me {
            self.on_watch(now, to, answer);
        } else {
            self.send(to, PeerMessage::Watch(Box::new(answer)));
        }
    }

    /// Looks at what is held, if something may have changed or its time is over, and after the watches
    /// that are open here.
    pub(super) fn on_watches_time(&mut self, now: Now) {
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now.mono);
        let (looks, ticks) = (is_due(self.watches.look_at), is_due(self.watches.tick_at));
        if !looks && !ticks {
            return;
        }
        if looks {
            self.watches.look_at = None;
        }
        let due = |held: &Held| !held.is_busy && (looks || held.until <= now.mono);
        let held = self.watches.held.iter().filter(|(_, held)| due(held));
        let names: Vec<(NodeId, u64)> = held.map(|(name, _)| *name).collect();
        names.into_iter().for_each(|(from, watch)| self.look_at_held(from, watch));
        if !ticks {
            return;
        }
        let serving = self.serving_state().err();
        let streams: Vec<u64> = self.watches.open.keys().copied().collect();
        for stream in streams {
            let idle = |open: &Open| {
                open.waiting.is_none() && now.mono.since(open.used) >= limits::WATCH_IDLE
            };
            match (&serving, self.watches.open.get_mut(&stream)) {
                (Some(error), Some(open)) => {
                    let waiting = open.waiting.take();
                    self.answer_watch(waiting, Err(error.clone()));
                    self.end_watch(stream);
                }
                (None, Some(open)) if idle(open) => self.end_watch(stream),
                _ => self.run_watch(now, stream),
            }
        }
        self.forget_noted(now);
        let next = now.mono.plus(TICK);
        self.watches.tick_at = (!self.watches.is_idle()).then_some(next);
    }

    /// Ceases to note the changes of tables that nobody has asked for.
    fn forget_noted(&mut self, now: Now) {
        let is_old = |at: &Time| now.mono.since(*at) >= limits::WATCH_NOTES_KEPT;
        let old: Vec<TableId> =
            self.watches.noted.iter().filter(|(_, at)| is_old(at)).map(|(id, _)| *id).collect();
        if !old.is_empty() {
            self.watches.noted.retain(|_, at| !is_old(at));
            self.disk(Pending::ChangesForgotten, DiskRequest::ForgetChanges(old));
        }
    }
}

/// Of a question.
fn round_of(message: &WatchMessage) -> u64 {
    match message {
        WatchMessage::Ask { round, .. } | WatchMessage::Answer { round, .. } => *round,
        WatchMessage::End { .. } => 0,
    }
}
