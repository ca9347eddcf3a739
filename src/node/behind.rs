//! What peers ask of this replica before it has heard of the epoch they speak of: it catches up
//! first, and answers then. Bounded; what finds no room, or waits for too long, is refused.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::Node;
use crate::message::{
    CausalMessage, PeerMessage, ReadAnswer, ReadAsk, Refusal, RegisterMessage, ScanAnswer, ScanAsk,
    WriteAnswer, WriteAsk,
};
use crate::types::{Epoch, NodeId, Now, Time};

/// Questions that may wait.
const WAITING_MAX: usize = 256;
/// Bytes of values that may wait.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// A question of a peer that waits for a newer state.
#[derive(Debug)]
pub(super) enum Early {
    Write(Box<WriteAsk>),
    Read(Box<ReadAsk>),
    Scan(Box<ScanAsk>),
    Causal(Box<CausalMessage>),
    Consensus(Box<RegisterMessage>),
}

impl Early {
    fn bytes(&self) -> usize {
        match self {
            Early::Write(ask) => ask.key.as_bytes().len() + ask.record.bytes(),
            Early::Read(ask) => ask.key.as_bytes().len(),
            Early::Scan(ask) => ask.prefix.len() + ask.after.len(),
            Early::Causal(message) => message.bytes(),
            Early::Consensus(message) => message.bytes(),
        }
    }

    /// What is left of its deadline, which passes while it waits.
    fn remaining(&mut self) -> Option<&mut Duration> {
        match self {
            Early::Write(ask) => Some(&mut ask.remaining),
            Early::Read(ask) => Some(&mut ask.remaining),
            Early::Scan(ask) => Some(&mut ask.remaining),
            Early::Causal(message) => message.remaining(),
            Early::Consensus(message) => message.remaining(),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    from: NodeId,
    since: Time,
    until: Time,
    early: Early,
}

/// What waits, and who has been asked for, or told, the state lately.
#[derive(Debug, Default)]
pub(super) struct Behind {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    asked: BTreeMap<NodeId, Time>,
    told: BTreeMap<NodeId, (Epoch, Time)>,
}

impl Behind {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }
}

impl Node {
    /// Lets a question wait until this node has caught up with whoever asked it.
    pub(super) fn wait_for_state(&mut self, now: Now, from: NodeId, mut early: Early) {
        self.ask_state(now, from);
        let bytes = early.bytes();
        let full = self.behind.waiting.len() >= WAITING_MAX
            || self.behind.bytes + bytes > WAITING_BYTES_MAX;
        if full {
            return self.refuse_early(from, early);
        }
        crate::sometimes!("replica: catches up before it answers");
        // Past this the coordinator has asked again.
        let left = early.remaining().map_or(Duration::ZERO, |remaining| *remaining);
        let patience = self.config.retry_interval.saturating_mul(2).min(left);
        let (since, until) = (now.mono, now.mono.plus(patience));
        self.behind.bytes += bytes;
        self.behind.waiting.push_back(Waiting { from, since, until, early });
    }

    /// A newer state is in force: what waited for it is judged again.
    pub(super) fn on_caught_up(&mut self, now: Now) {
        self.behind.bytes = 0;
        for Waiting { from, since, mut early, .. } in core::mem::take(&mut self.behind.waiting) {
            let waited = now.mono.since(since);
            if let Some(remaining) = early.remaining() {
                *remaining = remaining.saturating_sub(waited);
            }
            match early {
                Early::Write(ask) => self.on_write_ask(now, from, *ask),
                Early::Read(ask) => self.on_read_ask(now, from, *ask),
                Early::Scan(ask) => self.on_scan_ask(now, from, *ask),
                Early::Causal(message) => self.on_causal(now, from, *message),
                Early::Consensus(message) => self.on_consensus(now, from, *message),
            }
        }
    }

    pub(super) fn on_behind_time(&mut self, now: Now) {
        if self.behind.next_deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        for waiting in core::mem::take(&mut self.behind.waiting) {
            if waiting.until > now.mono {
                self.behind.waiting.push_back(waiting);
            } else {
                self.behind.bytes -= waiting.early.bytes();
                self.refuse_early(waiting.from, waiting.early);
            }
        }
    }

    fn refuse_early(&mut self, from: NodeId, early: Early) {
        let refusal = Refusal::Behind { epoch: self.epoch() };
        match early {
            Early::Write(ask) => {
                let (round, complete, result) = (ask.round, false, Err(refusal));
                self.answer_write(from, WriteAnswer { round, complete, result });
            }
            Early::Read(ask) => {
                let (round, result) = (ask.round, Err(refusal));
                self.answer_read(from, ReadAnswer { round, result });
            }
            Early::Scan(ask) => {
                let (round, result) = (ask.round, Err(refusal));
                self.answer_scan(from, ScanAnswer { round, result });
            }
            Early::Causal(message) => self.refuse_causal(from, *message, refusal),
            Early::Consensus(message) => self.refuse_consensus(from, &message, refusal),
        }
    }

    /// Asks a member for the state in force there; not again and again at once.
    pub(super) fn ask_state(&mut self, now: Now, to: NodeId) {
        let lately = self.config.retry_interval / 4;
        let fresh = |at: &Time| now.mono.since(*at) < lately;
        if to == self.me || self.behind.asked.get(&to).is_some_and(fresh) {
            return;
        }
        self.behind.asked.insert(to, now.mono);
        self.send(to, PeerMessage::StateAsk { epoch: self.epoch() });
    }

    /// Sends a member the state in force here; not the same one again and again at once.
    pub(super) fn push_state(&mut self, now: Now, to: NodeId) {
        let Some(state) = self.state.clone().filter(|_| to != self.me) else { return };
        let lately = self.config.retry_interval / 4;
        let told = self.behind.told.get(&to);
        if told.is_some_and(|(e, at)| *e == state.epoch && now.mono.since(*at) < lately) {
            return;
        }
        self.behind.told.insert(to, (state.epoch, now.mono));
        self.send(to, PeerMessage::StateNews(state));
    }
}
