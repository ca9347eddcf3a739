//! What operators ask about members and plans, and what they are answered.

use core::time::Duration;

use crate::types::{
    Addresses, Epoch, Member, MovePhase, NodeId, NodeName, Nonce, PlanStatus, RequestId, Unit, Zone,
};

/// What is to be staged for the next plan. Members are named: whoever asks may not know their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageOrder {
    /// See [`Staged::Join`](crate::types::Staged::Join).
    Join(NodeName),
    /// See [`Staged::Leave`](crate::types::Staged::Leave).
    Leave(NodeName),
    /// See [`Staged::Replace`](crate::types::Staged::Replace).
    Replace {
        /// Who goes.
        old: NodeName,
        /// Who comes.
        new: NodeName,
    },
    /// See [`Staged::Set`](crate::types::Staged::Set).
    Set {
        /// The member.
        member: NodeName,
        /// In thousandths.
        weight_milli: Option<u32>,
        /// Its failure domain.
        zone: Option<Zone>,
    },
}

/// A change of what is staged, or of the plan that is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanChange {
    /// Stage a change. What was staged for the same member before is replaced.
    Stage(StageOrder),
    /// Forget all that is staged.
    Clear,
    /// Carry out what is staged, if the inputs of the plan still have this hash.
    Commit(u128),
    /// Begin no more moves.
    Pause,
    /// Go on.
    Resume,
    /// Move back what was moved.
    RollBack,
    /// Fill another member in the place of a new owner that is dead, where nobody has read it yet.
    Retarget {
        /// Whom the plan gives units to, and who does not answer.
        old: NodeName,
        /// A reserved member of the same zone.
        new: NodeName,
    },
    /// Carry out what the answering node proposes about growing and shrinking, if it has this hash.
    Grow(u128),
    /// Propose what the answering node proposes, if it has this hash, no more before it changes or a week is over; 0:
    /// what cannot be carried out.
    Dismiss(u128),
    /// Go on without copies that are gone for good.
    AcceptLoss {
        /// The units.
        units: Vec<Unit>,
        /// Members that do not answer and never will: nobody else is given up.
        gone: Vec<NodeName>,
    },
}

/// A change of who is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Take in a node that wants to join: reserved, with an id of its own.
    Admit(Applicant),
    /// A member listens somewhere else.
    Move {
        /// The member.
        id: NodeId,
        /// Where.
        addresses: Addresses,
    },
    /// Other members decide the next epoch, on top of this one.
    Council {
        /// The epoch by which they were chosen.
        epoch: Epoch,
        /// Who.
        seats: Vec<NodeId>,
    },
}

/// A node that wants to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// Its name.
    pub name: NodeName,
    /// The nonce it was born with: by it a repeated application is known.
    pub birth: Nonce,
    /// Where it listens.
    pub addresses: Addresses,
    /// Its failure domain.
    pub zone: Zone,
    /// Its share relative to the others, in thousandths.
    pub weight_milli: u32,
    /// The highest feature level it knows.
    pub feature_level: u32,
}

/// What operators may ask about members and plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologyRequest {
    /// What is staged, what it would move, and how far the plan is that is carried out.
    Show,
    /// Change it.
    Change {
        /// As in [`TableRequest`](super::TableRequest).
        id: RequestId,
        /// How.
        change: PlanChange,
    },
}

/// The answer to a [`TopologyRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyReply {
    /// The epoch it was answered at; of a change, the one it became.
    pub epoch: Epoch,
    /// All members.
    pub members: Vec<Member>,
    /// What is staged, in words.
    pub staged: Vec<String>,
    /// What it would do; `None` when nothing is staged.
    pub draft: Option<DraftReply>,
    /// The plan that is carried out.
    pub running: Option<PlanProgress>,
    /// Units that do not go on by themselves before somebody comes back.
    pub stuck: Vec<StuckLine>,
    /// Writes that counted in the place of an owner, and that hold the end of the plan, in words.
    pub custody: Vec<String>,
}

/// A unit that waits for owners who do not answer, or that have lost what they had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckLine {
    /// The unit.
    pub unit: Unit,
    /// What it waits for, in words.
    pub why: String,
    /// Whom it waits for.
    pub waits_for: Vec<NodeName>,
    /// Those of them that are held to be dead.
    pub down: Vec<NodeName>,
}

/// What a plan would do, as of the state it was made on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftReply {
    /// The hash of its inputs, to commit it by.
    pub hash: u128,
    /// Why it cannot be carried out; empty when it can.
    pub reasons: Vec<String>,
    /// What should be known before it is committed, though it can be.
    pub warnings: Vec<String>,
    /// Units whose owners change.
    pub moves: Vec<MoveLine>,
    /// How many there are, with those that an answer has no room for.
    pub move_count: u32,
    /// Every member's share, by id.
    pub shares: Vec<ShareLine>,
    /// What goes from whom to whom.
    pub links: Vec<LinkLine>,
    /// About how long it takes under the throttle.
    pub duration: Duration,
}

/// One unit in [`DraftReply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveLine {
    /// The unit.
    pub unit: Unit,
    /// Its owners.
    pub from: Vec<NodeName>,
    /// Its owners afterwards.
    pub to: Vec<NodeName>,
    /// About how many bytes are copied, over all new owners.
    pub bytes: u64,
    /// About how many keys.
    pub keys: u64,
}

/// One member in [`DraftReply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareLine {
    /// The member.
    pub node: NodeName,
    /// Copies it owns.
    pub before: u32,
    /// Copies it would own.
    pub after: u32,
    /// About how many bytes it stores.
    pub bytes_before: u64,
    /// About how many it would; the most it holds on the way is told by `bytes_peak`.
    pub bytes_after: u64,
    /// About the most it holds on the way: what comes is there before what goes is deleted.
    pub bytes_peak: u64,
}

/// One pair of members in [`DraftReply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLine {
    /// Who gives.
    pub from: NodeName,
    /// Who takes.
    pub to: NodeName,
    /// Units.
    pub units: u32,
    /// About how many bytes.
    pub bytes: u64,
}

/// How far a plan is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanProgress {
    /// Its hash.
    pub hash: u128,
    /// Whether it goes on.
    pub status: PlanStatus,
    /// Moves in all.
    pub total: u32,
    /// Moves that are done.
    pub done: u32,
    /// Moves that have not begun.
    pub queued: u32,
    /// Those under way.
    pub under_way: Vec<MoveProgress>,
}

/// A move that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveProgress {
    /// The unit.
    pub unit: Unit,
    /// Its phase.
    pub phase: MovePhase,
    /// Whether it goes back.
    pub undoes: bool,
    /// Each new owner, with the thousandths of its fill that are done.
    pub fills: Vec<(NodeName, u16)>,
    /// Whom it waits for, in words; empty when it is about to go on.
    pub waits_for: String,
}
