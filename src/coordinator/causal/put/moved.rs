//! A put whose owners change while it is made: what this node has made is told to the owners there are
//! now, and not made once more. `docs/protocol/causal.md`, "While owners change".

use super::{CausalWrite, State, may_have_kept};
use crate::causality::Refused;
use crate::coordinator::failure::Failures;
use crate::coordinator::seats::Seats;
use crate::coordinator::{Step, Tally, Target};
use crate::message::{CausalDone, Refusal, RoundId};
use crate::types::NodeId;

impl CausalWrite {
    /// Whether it waits for this node's own disk: only when that has answered is it known what there is
    /// to go on with.
    pub fn is_changing(&self) -> bool {
        self.state == State::Changing
    }

    /// Whether what it made is being told, and its client waits.
    pub fn is_telling(&self) -> bool {
        self.state == State::Telling
    }

    /// Whether stand-ins may count.
    pub fn is_sloppy(&self) -> bool {
        self.order.put.sloppy
    }

    /// This node's own disk has answered, and the owners it was asked under are those no more: nothing is
    /// told to them. INVARIANT: the put is moved or begun again next, unless it has ended.
    pub fn on_changed_late(
        &mut self,
        round: RoundId,
        result: Result<CausalDone, Refusal>,
        step: &mut Step<'_>,
    ) {
        if self.state != State::Changing || round.round != self.round {
            return;
        }
        match result {
            Ok(CausalDone::Changed(changed)) => {
                self.changed = Some(changed);
                self.state = State::Telling;
            }
            Ok(CausalDone::Refused(Refused::Stale(_))) => self.state = State::Stamping,
            Err(refusal) if !may_have_kept(&refusal) => self.state = State::Stamping,
            other => self.on_changed(round, other, step),
        }
    }

    /// The key has other owners now: what this node has made is told to them as it is. Made once more
    /// under another name, it could come back where a write that saw it has taken its place.
    pub fn move_to(&mut self, target: Target, stand_ins: Vec<NodeId>) {
        self.tally = Tally::new(target.sets, self.order.put.w);
        self.target = Target { op: self.target.op, ..target };
        self.seats = Seats::new(stand_ins);
        self.failures = Failures::default();
        self.round += 1;
    }

    /// Tells the owners it was moved to: this node as well, if it is one, since what it took under the
    /// fence before may be gone.
    pub fn tell_anew(&mut self, step: &mut Step<'_>) {
        self.seats.begin_round();
        for owner in self.target.members(!step.reachable) {
            self.failures.unreachable(owner);
        }
        self.ask_owners(step.reachable, step);
        self.cover_away(step);
        self.settle(step);
    }
}
