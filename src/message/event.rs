//! What goes into a node and what comes out of it.

use std::sync::Arc;

use crate::types::{NodeId, OpId, Time};

use super::{
    AdminRequest, ClientRequest, ClientResult, DiskAnswer, DiskError, DiskRequest, DiskToken,
    PeerMessage, View,
};

/// What goes in.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client asks. The driver has given the operation its number.
    Client {
        /// The number.
        op: OpId,
        /// What is asked.
        request: ClientRequest,
    },
    /// An operator asks.
    Admin {
        /// The number.
        op: OpId,
        /// When the answer is no longer wanted.
        deadline: Time,
        /// What is asked.
        request: AdminRequest,
    },
    /// The client of an operation has gone: its answer is no longer wanted.
    Abandon {
        /// The number.
        op: OpId,
    },
    /// No page of a stream of a scan will be asked for any more.
    ScanEnded {
        /// The service's number for it.
        scan: u64,
    },
    /// A peer has said something.
    Peer {
        /// Who.
        from: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// The disk has answered.
    DiskDone {
        /// Which request.
        token: DiskToken,
        /// What.
        result: Result<DiskAnswer, DiskError>,
    },
    /// A message to a peer could not be handed over: no stream, or its queue is full.
    Unreachable {
        /// Who.
        peer: NodeId,
    },
    /// A stream from a peer was refused, or ours to it was; says why. For people, and for a founder
    /// that must learn that it is no longer itself.
    Rejected {
        /// Who.
        peer: NodeId,
        /// Why.
        reason: super::HelloRefusal,
    },
    /// What this process has cost so far.
    Process {
        /// Processor time, of all its threads.
        cpu: core::time::Duration,
        /// Cores that it may use.
        cores: u32,
    },
    /// Finish what was begun and take nothing new.
    Drain,
    /// A deadline of [`next_deadline`](crate::node::Node::next_deadline) has come.
    Tick,
}

/// What comes out.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Hand a message to a peer's queue.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Answer an operation. Exactly one for each that came in and was not abandoned.
    Reply {
        /// Which.
        op: OpId,
        /// What.
        result: ClientResult,
    },
    /// Ask the disk.
    Disk {
        /// Ties the answer to it.
        token: DiskToken,
        /// What.
        request: DiskRequest,
    },
    /// Replace the published view.
    Publish(Arc<View>),
    /// Tell people.
    Note(Note),
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A human must look.
    Error,
    /// Unexpected, but it went on.
    Warn,
    /// A change of state.
    Info,
}

/// Something people should be able to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// What happened: lower case, no final stop.
    pub message: String,
    /// Which member it is about.
    pub peer: Option<NodeId>,
}
