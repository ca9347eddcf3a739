//! Anti-entropy: how the owners of a unit find what differs between them. The tree that says what a
//! replica holds, and the exchange that compares two of them. Knows no disk, no transport and no clock: what has to be read is asked
//! for, and handed in.
//!
//! Rules, states and invariants: `docs/protocol/repair.md`. After Merkle trees (Merkle, 1987) as Dynamo
//! keeps them for each key range (DeCandia et al., 2007, section 4.7), with boundaries that the content
//! chooses (Auvolat and Taïani, "Merkle Search Trees", 2019).

pub mod exchange;
pub mod floor;
pub mod schedule;
pub mod session;
pub mod tree;
