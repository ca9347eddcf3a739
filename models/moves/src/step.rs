//! What happens: each step of nodes, coordinators and the log of decided states.

use crate::log::{Conf, Stage};
use crate::mistake::Mistake;
use crate::model::{Action, Moves};
use crate::state::{Epoch, Fault, NODES, Node, Set, State, Waiting, count, has, those};

impl Moves {
    /// Takes a step that can be taken.
    pub fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Decide(step) => {
                let mut next = self.newest(state).next.iter();
                if let Some((_, to)) = next.find(|(other, _)| *other == step) {
                    state.log = *to as u16;
                }
            }
            Action::Learn { node, epoch } => self.learn(state, node, epoch),
            Action::Sync { node } => self.sync(state, node),
            Action::Store { node } => self.store(state, node),
            Action::Crash { node } => {
                state.crashed = true;
                let node = &mut state.nodes[node];
                node.heard = node.epoch;
                node.waiting = None;
            }
            Action::Wipe { node } => self.wipe(state, node),
            Action::Die { node } => {
                state.died = true;
                state.nodes[node].dead = true;
            }
            Action::Put { op, node, epoch } => self.put(state, op, node, epoch),
            Action::PutUnheard { op, node, .. } => {
                let stamp = state.writes[op].stamp;
                state.nodes[node].value = state.nodes[node].value.max(stamp);
            }
            Action::Copy { source, target } => self.copy(state, source, target),
            Action::Get { node, epoch } => self.get(state, node, epoch),
            Action::Admit { node, epoch } => {
                self.begin_read(state, epoch);
                state.reader.admitted |= 1 << node;
            }
            Action::Delete { node } => {
                state.nodes[node].due = false;
                state.nodes[node].value = 0;
            }
        }
        self.complete(state);
    }

    /// Hears of a state. Where no crash comes, waiting for the disk is a delay like any other and
    /// is left out.
    fn learn(&self, state: &mut State, x: usize, epoch: Epoch) {
        let before = state.nodes[x].heard;
        state.nodes[x].heard = epoch;
        let early = self.makes(Mistake::AckBeforeFsync);
        let slow = has(self.scenario.crashes, x);
        if early {
            self.enter(state, x, before);
            self.acknowledge(&mut state.nodes[x], epoch);
        }
        if !slow {
            state.nodes[x].epoch = epoch;
            if !early {
                self.enter(state, x, before);
                self.acknowledge(&mut state.nodes[x], epoch);
            }
        }
    }

    /// Acts by the state it goes by from now on: leaves, enters, or stays.
    fn enter(&self, state: &mut State, x: usize, before: Epoch) {
        let before = self.conf(state, before);
        let conf = self.conf(state, state.nodes[x].heard);
        let (owns, entry) = (has(conf.owners(), x), conf.entry[x]);
        let stays = has(before.owners(), x) && before.entry[x] == entry;
        let leaves = leaves(conf, x);
        let node = &mut state.nodes[x];
        if !owns {
            node.due = node.value != 0;
            node.forget();
        } else if !stays {
            if self.makes(Mistake::GapIgnored) && node.complete != 0 {
                node.complete = entry + 1;
                node.reported = node.complete;
            } else {
                if !self.makes(Mistake::DeleteLate) {
                    node.due = false;
                    node.value = 0;
                }
                node.forget();
            }
        } else if self.makes(Mistake::DeleteEarly) && leaves {
            node.value = 0;
        }
    }

    /// Says that nothing below will be let in any more, and that what was let in is durable.
    fn acknowledge(&self, node: &mut Node, epoch: Epoch) {
        let under_way = node.waiting.is_some_and(|waiting| waiting.epoch < epoch);
        if !under_way || self.makes(Mistake::AckBeforeWrites) {
            node.acked = node.acked.max(epoch);
        }
    }

    fn store(&self, state: &mut State, x: usize) {
        if let Some(waiting) = state.nodes[x].waiting.take() {
            self.stored(state, x, waiting);
            let node = &mut state.nodes[x];
            self.acknowledge(node, node.epoch);
        }
    }

    fn sync(&self, state: &mut State, x: usize) {
        let Node { heard, epoch, .. } = state.nodes[x];
        state.nodes[x].epoch = heard;
        if heard != epoch && !self.makes(Mistake::AckBeforeFsync) {
            self.enter(state, x, epoch);
        }
        self.acknowledge(&mut state.nodes[x], heard);
    }

    /// One disk at a time: more is beyond what n and w promise.
    pub fn may_wipe(&self, state: &State, x: usize) -> bool {
        let lacks = |x: usize| {
            let (node, conf) = (&state.nodes[x], self.conf_of(state, x));
            node.lost || has(conf.read(), x) && !self.is_complete(node, x, conf)
        };
        state.wiped < self.scenario.losses && those(lacks) & !(1 << x) == 0
    }

    /// What it had of the unit is gone. It asks for the newest state before it serves.
    fn wipe(&self, state: &mut State, x: usize) {
        state.wiped += 1;
        let newest = self.newest(state).changed_at;
        let owner = has(self.newest(state).owners(), x);
        let stale = state.nodes[x].heard;
        let stays = self.conf(state, stale).entry[x] == self.newest(state).entry[x];
        let node = &mut state.nodes[x];
        node.value = 0;
        node.waiting = None;
        node.due = false;
        node.forget();
        if self.makes(Mistake::LossForgetsState) {
            node.heard = 0;
            node.epoch = 0;
            return;
        }
        node.lost = owner && stays;
        node.heard = newest;
        node.epoch = newest;
        self.acknowledge(&mut state.nodes[x], newest);
    }

    /// Whether an attempt under this epoch can have a write stored by this owner.
    pub fn may_put(&self, state: &State, op: usize, x: usize, epoch: Epoch) -> bool {
        let write = &state.writes[op];
        let begun = op == 0 || state.writes[op - 1].done;
        let reached = write.epoch.is_none_or(|at| at < epoch)
            || write.epoch == Some(epoch) && !has(write.answers, x);
        begun
            && !write.done
            && reached
            && state.nodes[x].waiting.is_none()
            && has(self.conf(state, epoch).owners(), x)
            && self.serves(state, x, epoch)
    }

    /// Whether a message of this or an earlier attempt can reach an owner and store something.
    pub fn may_come(&self, state: &State, op: usize, x: usize, epoch: Epoch) -> bool {
        let write = &state.writes[op];
        write.epoch.is_some_and(|at| epoch <= at)
            && write.since <= epoch
            && state.nodes[x].value < write.stamp
            && state.nodes[x].waiting.is_none()
            && has(self.conf(state, epoch).owners(), x)
            && self.serves(state, x, epoch)
    }

    fn put(&self, state: &mut State, op: usize, x: usize, epoch: Epoch) {
        let write = &mut state.writes[op];
        if write.epoch != Some(epoch) {
            write.epoch = Some(epoch);
            if !self.makes(Mistake::OldAttemptCounts) {
                write.answers = 0;
                write.whole = 0;
                write.higher = false;
            }
        }
        let waiting = Waiting { op: op as u8, epoch, stamp: write.stamp };
        if has(self.scenario.crashes, x) {
            state.nodes[x].waiting = Some(waiting);
        } else {
            self.stored(state, x, waiting);
        }
    }

    /// A write is on an owner's disk, and its answer counts, if that attempt still goes on.
    fn stored(&self, state: &mut State, x: usize, Waiting { op, epoch, stamp }: Waiting) {
        let op = usize::from(op);
        let higher = state.nodes[x].value > stamp;
        state.nodes[x].value = state.nodes[x].value.max(stamp);
        let whole = self.is_complete(&state.nodes[x], x, self.conf(state, epoch));
        let write = &mut state.writes[op];
        if write.done || write.epoch != Some(epoch) || write.stamp != stamp {
            return;
        }
        write.answers |= 1 << x;
        write.whole |= Set::from(whole) << x;
        write.higher |= higher && !write.again;
        self.finish(state, op, epoch);
    }

    /// Acknowledges a write when enough have answered, or sends it again with a higher stamp.
    fn finish(&self, state: &mut State, op: usize, epoch: Epoch) {
        if !self.is_enough(state, op, epoch) {
            return;
        }
        let acked = state.acked;
        let write = &mut state.writes[op];
        write.answers = 0;
        write.whole = 0;
        if write.higher {
            write.higher = false;
            write.again = true;
            write.stamp = acked.max(write.stamp) + 1;
            write.since = epoch;
            return;
        }
        write.done = true;
        if write.stamp < acked {
            state.fault = Some(Fault::LaterLost);
        }
        state.acked = write.stamp;
    }

    fn is_enough(&self, state: &State, op: usize, epoch: Epoch) -> bool {
        let w = self.scenario.w;
        let conf = self.conf(state, epoch);
        let write = &state.writes[op];
        let of = |set: Set| count(write.answers & set);
        let stored = match self.mistake {
            Some(Mistake::SetsTogether) => of(conf.owners()) >= w,
            Some(Mistake::NodeTwice) => conf.write().map(of).iter().sum::<usize>() >= w,
            Some(Mistake::OldSetAlone) => of(conf.old) >= w,
            _ => conf.write().iter().all(|&set| of(set) >= w),
        };
        let whole = count(write.whole & conf.read()) > self.scenario.n() - w;
        stored && (whole || self.makes(Mistake::PutTrustsIncomplete))
    }

    /// Whether this owner of the set that is read gives a copy to that one now.
    pub fn may_copy(&self, state: &State, source: usize, target: usize) -> bool {
        let conf = self.conf_of(state, target);
        let (from, to) = (&state.nodes[source], &state.nodes[target]);
        let fills = has(conf.owners(), target) && to.complete == 0 && !has(to.copied, source);
        let entered = !to.lost || self.makes(Mistake::RefillUnfenced);
        let synced = to.epoch == to.heard;
        if source == target || from.dead || !fills || !entered || !synced {
            return false;
        }
        let knows = self.conf_of(state, source);
        let whole = self.is_complete(from, source, knows)
            || self.makes(Mistake::SourceIncomplete) && has(knows.owners(), source);
        if !has(conf.read(), source) || !whole {
            return false;
        }
        let entry = conf.entry[target];
        let barrier = |since: Epoch| {
            let acked = conf.read() & those(|x| state.nodes[x].acked >= since);
            count(acked) > self.scenario.n() - self.scenario.w
        };
        let same = has(knows.owners(), target) && knows.entry[target] == entry;
        match self.mistake {
            Some(Mistake::FirstBarrierSkipped) => true,
            Some(Mistake::SourceBeforeAck) => barrier(entry),
            Some(Mistake::SourceOfOldFence) => from.acked >= conf.begun,
            _ => from.acked >= entry && same,
        }
    }

    fn copy(&self, state: &mut State, source: usize, target: usize) {
        let given = state.nodes[source].value;
        let node = &mut state.nodes[target];
        node.copied |= 1 << source;
        let over = self.makes(Mistake::CopyOverwrites);
        node.value = if over { given } else { node.value.max(given) };
    }

    /// Who has copied enough is complete, and says so.
    fn complete(&self, state: &mut State) {
        let needed = match self.mistake {
            Some(Mistake::OneSource) => 1,
            Some(Mistake::SourceTooFew) => self.scenario.n() - self.scenario.w,
            _ => self.scenario.n() - self.scenario.w + 1,
        };
        for x in 0..NODES {
            let Node { heard, epoch, complete, copied, lost, dead, .. } = state.nodes[x];
            let conf = self.conf(state, epoch);
            let entered = !lost || self.makes(Mistake::RefillUnfenced);
            let fills = has(conf.owners(), x) && complete == 0 && entered && !dead;
            if heard == epoch && fills && count(copied & conf.read()) >= needed {
                state.nodes[x].complete = conf.entry[x] + 1;
                state.nodes[x].reported = conf.entry[x] + 1;
                state.nodes[x].copied = 0;
            }
        }
    }

    /// Whether an owner can answer the read, or let it in, so that it tells less than it should.
    pub fn may_get(&self, state: &State, x: usize, epoch: Epoch, admit: bool) -> bool {
        let reader = &state.reader;
        let begun = self.scenario.reader && state.acked > 0;
        if !begun || has(reader.stale, x) || reader.epoch.is_some_and(|at| at != epoch) {
            return false;
        }
        let least = if reader.epoch.is_some() { reader.least } else { state.acked };
        let conf = self.conf(state, epoch);
        let whole =
            self.is_complete(&state.nodes[x], x, conf) || self.makes(Mistake::IncompleteServes);
        let served = has(conf.read(), x) && whole && self.serves(state, x, epoch);
        if admit {
            return served && !has(reader.admitted, x);
        }
        let late = self.makes(Mistake::ReadAfterDelete) && has(reader.admitted, x);
        (served || late) && state.nodes[x].value < least
    }

    fn begin_read(&self, state: &mut State, epoch: Epoch) {
        if state.reader.epoch.is_none() {
            state.reader.epoch = Some(epoch);
            state.reader.least = state.acked;
        }
    }

    fn get(&self, state: &mut State, x: usize, epoch: Epoch) {
        self.begin_read(state, epoch);
        state.reader.stale |= 1 << x;
        let late = has(state.reader.admitted, x);
        let whole = self.is_complete(&state.nodes[x], x, self.conf(state, epoch));
        if !whole && !late {
            state.fault = Some(Fault::Incomplete);
        }
        if count(state.reader.stale) >= self.scenario.r {
            state.fault = Some(Fault::Missed);
        }
    }
}

impl Node {
    /// It has nothing of the unit that it could rely on.
    fn forget(&mut self) {
        self.complete = 0;
        self.copied = 0;
        self.lost = false;
    }
}

/// Whether the move will end without this owner, and it is read no more.
fn leaves(conf: &Conf, x: usize) -> bool {
    conf.stage == Stage::Second && !has(conf.read(), x)
}
