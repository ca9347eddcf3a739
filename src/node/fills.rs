//! What this node has of the units it owns: which of them it has become an owner of, how it is being
//! filled, and when it is complete. `docs/protocol/moves.md`.

use super::Node;
use crate::message::FillNews;
use crate::types::Unit;

impl Node {
    /// Whether this replica has all it should have of `unit`: only then is it read, does it promise,
    /// and do its answers to writes tell what came before.
    pub(super) fn is_complete(&self, unit: Unit) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_original(unit, self.me))
    }

    /// What this node says of the units it has become an owner of.
    pub(super) fn fill_news(&self) -> Vec<FillNews> {
        Vec::new()
    }

    /// Bytes a second of copies that this node takes; 0 is no bound.
    pub(super) fn transfer_rate(&self) -> u64 {
        64 << 20
    }
}
