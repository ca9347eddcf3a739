//! The way of a put of a causal table to an owner: only an owner may give it a name. One owner
//! after the other is asked, and the next one only when the last is known to have done nothing;
//! what became of a put that may have been made is for the client to ask again, under the same id.
//!
//! When all owners of the key are away, a stand-in may coordinate a sloppy put: those are then asked
//! in turn, in the order of the walk.

use core::time::Duration;

use crate::coordinator::{Action, Ask, Step, Target};
use crate::message::{
    Applied, CausalMessage, CausalPut, CausalReply, ErrorCode, OpError, Reply, RoundId,
};
use crate::types::{Epoch, NodeId, Time};

/// A put on its way.
#[derive(Clone, Debug)]
pub struct CausalForward {
    target: Target,
    order: ForwardOrder,
    /// Owners not asked yet.
    left: u16,
    /// Stand-ins not asked yet, as a bitmap of `order.stand_ins`.
    stand_ins_left: u16,
    /// An owner has refused that is not away: load must not spread to stand-ins.
    owners_there: bool,
    asked: Option<NodeId>,
    round: u32,
    /// The question has been asked of this owner before: an owner that has started anew meanwhile may
    /// have done what it does not know.
    resent: bool,
    /// The fence under which the last one was asked.
    fence: Epoch,
    retry_at: Time,
    /// Why the last one that was asked did not.
    refused: Option<OpError>,
}

/// What is sent on.
#[derive(Clone, Debug)]
pub struct ForwardOrder {
    /// The put.
    pub put: CausalPut,
    /// When the answer is no longer wanted.
    pub deadline: Time,
    /// How long before the question is sent again: whoever is asked takes it once.
    pub retry_interval: Duration,
    /// Who may coordinate when no owner can, in the order of the walk: nobody in a strict request.
    pub stand_ins: Vec<NodeId>,
}

impl CausalForward {
    /// Sends a put on its way.
    pub fn begin(target: Target, mut order: ForwardOrder, step: &mut Step<'_>) -> CausalForward {
        order.stand_ins.truncate(15);
        let stand_ins_left = (1 << order.stand_ins.len()) - 1;
        // Only they know what the key holds.
        let left = step.reachable & target.sets.read;
        let (asked, retry_at) = (None, Time(u64::MAX));
        let mut forward = CausalForward {
            target,
            order,
            left,
            stand_ins_left,
            owners_there: false,
            asked,
            round: 0,
            resent: false,
            fence: Epoch(0),
            retry_at,
            refused: None,
        };
        forward.ask_next(step);
        forward
    }

    /// The key's place.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Bytes of the key and value it holds.
    pub fn bytes(&self) -> usize {
        let value = self.order.put.value.as_ref().map_or(0, |value| value.as_bytes().len());
        self.target.key.as_bytes().len() + value
    }

    /// Who may coordinate when no owner can.
    pub fn stand_ins(&self) -> &[NodeId] {
        &self.order.stand_ins
    }

    /// Whether it waits for `member`.
    pub fn waits_for(&self, member: NodeId) -> bool {
        self.asked == Some(member)
    }

    /// When [`CausalForward::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.order.deadline.min(self.retry_at)
    }

    /// Whoever was asked has answered.
    pub fn on_answer(
        &mut self,
        round: RoundId,
        result: Result<Box<CausalReply>, Box<OpError>>,
        step: &mut Step<'_>,
    ) {
        if round.round != self.round || self.asked.is_none() {
            return;
        }
        match result {
            Ok(reply) => self.finish(Ok(Reply::Causal(reply)), step),
            // An owner that has started anew since it was first asked knows nothing of what it did
            // before: its no is the word on the last asking alone.
            Err(error) if error.applied == Applied::No && self.is_in_doubt() => {
                self.finish(Err(error.with_applied(Applied::Unknown)), step);
            }
            Err(error) if error.applied == Applied::No && may_pass(error.code) => {
                crate::sometimes!("causal put: goes to another owner");
                let owner = self.asked.and_then(|asked| self.target.index(asked));
                self.owners_there |= owner.is_some() && !is_away(error.code);
                self.refused = Some(*error);
                self.ask_next(step);
            }
            Err(error) => self.finish(Err(*error), step),
        }
    }

    /// Whoever was asked knows other owners, has not made the put, and never will as it was sent: by the
    /// owners this node knows now it is sent on anew. Where they are not known yet, they are waited for.
    pub fn on_fenced(&mut self, round: RoundId, step: &mut Step<'_>) {
        if round.round != self.round || self.asked.is_none() {
            return;
        }
        if self.is_in_doubt() {
            let message = "the owner that was asked again knows other owners of the key";
            let error = self.error(ErrorCode::NotReady, message, Applied::Unknown, step);
            return self.finish(Err(error), step);
        }
        crate::sometimes!("causal put: an owner knows other owners");
        self.asked = None;
        self.retry_at = step.now.mono.plus(self.order.retry_interval);
        if self.fence < self.target.changed_at {
            self.go_on(step);
        }
    }

    /// Whether stand-ins may coordinate.
    pub fn is_sloppy(&self) -> bool {
        self.order.put.sloppy && self.order.put.add.is_none()
    }

    /// The key has other owners now. Whoever was asked may have made the put, and goes on with it by itself:
    /// only its answer can tell. Sent to another one it could be made twice.
    pub fn move_to(&mut self, target: Target, mut stand_ins: Vec<NodeId>) {
        self.target = Target { op: self.target.op, ..target };
        stand_ins.truncate(15);
        self.order.stand_ins = stand_ins;
    }

    /// Goes on by the owners it was moved to: at once, where nobody may have made it.
    pub fn go_on(&mut self, step: &mut Step<'_>) {
        let asked = self.asked.and_then(|asked| self.target.index(asked));
        self.left = step.reachable & self.target.sets.read & !asked.map_or(0, |asked| 1 << asked);
        self.stand_ins_left = (1 << self.order.stand_ins.len()) - 1;
        self.owners_there = false;
        if self.asked.is_none() {
            self.ask_next(step);
        }
    }

    /// A member cannot be reached any more; what it was asked may have arrived.
    pub fn on_unreachable(&mut self, member: NodeId, step: &mut Step<'_>) {
        if let Some(index) = self.target.index(member) {
            self.left &= !(1 << index);
        }
        if self.waits_for(member) {
            let message = "the owner that coordinated the write cannot be reached any more";
            let error = self.error(ErrorCode::QuorumNotReached, message, Applied::Unknown, step);
            self.finish(Err(error), step);
        }
    }

    /// The deadline has come.
    pub fn on_time(&mut self, step: &mut Step<'_>) {
        if step.now.mono >= self.order.deadline {
            let message = "deadline passed before the owner that coordinates the write answered";
            let applied = self.applied();
            let error = self.error(ErrorCode::DeadlineExceeded, message, applied, step);
            self.finish(Err(error), step);
        } else if step.now.mono >= self.retry_at {
            // Without the state that it waits for it is refused once more, and the state sent once more.
            let Some(owner) = self.asked else { return self.go_on(step) };
            crate::sometimes!("causal put: sent on again");
            self.resent = true;
            self.send(owner, step);
        }
    }

    /// What is known of the put while it is on its way.
    pub fn applied(&self) -> Applied {
        if self.asked.is_some() { Applied::Unknown } else { Applied::No }
    }

    fn is_in_doubt(&self) -> bool {
        self.resent && !crate::mutant!("forwarded-no-believed")
    }

    fn ask_next(&mut self, step: &mut Step<'_>) {
        self.asked = None;
        self.resent = false;
        let usable = self.left & step.reachable;
        let owner = self.target.members(usable).next();
        let Some(owner) = owner.or_else(|| self.next_stand_in(step)) else {
            let message = "no owner of the key can coordinate the write";
            let none = self.error(ErrorCode::QuorumNotReached, message, Applied::No, step);
            let error = self.refused.take().unwrap_or(none);
            return self.finish(Err(error), step);
        };
        if let Some(index) = self.target.index(owner) {
            self.left &= !(1 << index);
        }
        self.round += 1;
        self.asked = Some(owner);
        self.send(owner, step);
    }

    /// The next stand-in, once all owners are away.
    fn next_stand_in(&mut self, step: &Step<'_>) -> Option<NodeId> {
        let usable = self.stand_ins_left & step.stand_ins;
        if usable == 0 || self.owners_there {
            return None;
        }
        crate::sometimes!("causal put: a stand-in coordinates");
        let next = usable.trailing_zeros();
        self.stand_ins_left &= !(1 << next);
        self.order.stand_ins.get(next as usize).copied()
    }

    /// For whom a stand-in keeps the put in custody: the first owner that is away.
    fn hint_for(&self, asked: NodeId, step: &Step<'_>) -> Option<NodeId> {
        if self.target.index(asked).is_some() {
            return None;
        }
        let away = self.target.members(!step.reachable & self.target.sets.read).next();
        away.or_else(|| self.target.owners.first().copied())
    }

    fn send(&mut self, owner: NodeId, step: &mut Step<'_>) {
        self.retry_at = step.now.mono.plus(self.order.retry_interval);
        self.fence = self.target.changed_at;
        let ask = CausalMessage::Put {
            round: RoundId { op: self.target.op, round: self.round },
            place: self.target.place(),
            hint_for: self.hint_for(owner, step),
            put: Box::new(self.order.put.clone()),
            remaining: step.remaining(self.order.deadline),
        };
        step.out.push(Action::Ask(owner, Ask::Causal(Box::new(ask))));
    }

    fn error(&self, code: ErrorCode, message: &str, applied: Applied, step: &Step<'_>) -> OpError {
        let mut error = OpError::new(code, message).with_applied(applied);
        error.facts.epoch = Some(self.target.epoch);
        error.facts.server_time = Some(step.clock.of_record(step.now.wall));
        error
    }

    fn finish(&mut self, result: crate::message::ClientResult, step: &mut Step<'_>) {
        self.asked = None;
        step.out.push(Action::Reply(Box::new(result)));
        step.out.push(Action::Done);
    }
}

/// Whether an owner that refuses so is away, for a stand-in to coordinate.
fn is_away(code: ErrorCode) -> bool {
    use ErrorCode::{Corruption, DiskFull, NotReady, StorageReadOnly};
    matches!(code, NotReady | StorageReadOnly | DiskFull | Corruption)
}

/// Whether another owner may do what one did not.
fn may_pass(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotReady
            | ErrorCode::Overloaded
            | ErrorCode::ClockAhead
            | ErrorCode::ClockBehind
            | ErrorCode::StorageReadOnly
            | ErrorCode::DiskFull
            | ErrorCode::Corruption
    )
}
