//! Shares of the room for operations: a client that asks for too much is refused, and others are not.

use roundtable::message::{Bound, OpError};

/// What is wrong with an error for a client that has `others` more requests open on the node: without
/// any it has taken nothing of its share.
pub(crate) fn share_fault(error: &OpError, others: usize) -> Option<String> {
    let own = error.facts.bound == Some(Bound::Client);
    (own && others == 0).then(|| format!("a client with nothing in flight has its share: {error}"))
}

/// What is wrong with a node of room for `room` operations that has `taken` of one client's open, where
/// a client may take three quarters of what there is.
pub(crate) fn taken_fault(taken: usize, room: usize) -> Option<String> {
    let most = room * 3 / 4 + 1;
    (taken > most).then(|| format!("one client has {taken} of {room} operations, {most} at most"))
}
