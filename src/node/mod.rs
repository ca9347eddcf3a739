//! The pure node: takes events, yields effects. It composes the machines of `membership`,
//! `control` and `coordinator`, routes events to them and holds what they share; it decides
//! nothing itself. It reads no clock, owns no thread and touches no file, so a whole cluster of
//! them runs in one thread from one seed.

mod config;

pub use config::{Founder, NodeConfig};

use crate::message::{Effect, Event, Restored};
use crate::types::{Now, Time};

/// One node of the ring.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
}

impl Node {
    /// A node that has just been started on what its store held. `seed` feeds its random choices
    /// (nonces, jitter); the driver draws it from the operating system, the simulator from its run.
    pub fn new(now: Now, config: NodeConfig, restored: Restored, seed: u64) -> Node {
        let _ = (now, restored, seed);
        Node { config }
    }

    /// Takes one event in. Never fails, never blocks.
    pub fn handle(&mut self, now: Now, event: Event) {
        let _ = (now, event, &self.config);
    }

    /// Takes one effect out; `None` when there is none left.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        None
    }

    /// When [`Event::Tick`] is next due; `None` when nothing is waited for.
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }
}
