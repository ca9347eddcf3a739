//! How versions of one key relate and merge. Knows no replica.
//!
//! Two kinds that merge. The last-writer-wins register, whose order is the stamp's. And the set of
//! siblings of causal tables, a dotted version vector set (Preguiça et al., "Dotted Version
//! Vectors", 2012), whose order is what each writer had seen. Both merges are commutative,
//! associative and idempotent, so replicas that have seen the same versions in any order, any
//! number of times, hold the same. And one that does not: the rules of an acceptor of a linearizable
//! table's key, of which a majority decides.

mod acceptor;
mod bytes;
mod context;
mod counter;
mod dot;
mod paged;
mod register;
mod shown;
mod siblings;
mod token;

#[cfg(test)]
mod counter_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod siblings_tests;

pub use acceptor::{Accepted, Acceptor, Finding, Outbid};
pub use context::CausalContext;
pub use counter::Part;
pub use dot::{Actor, Dot, Tick};
pub use paged::Paged;
pub use register::{Merge, merge, newest, order};
pub use shown::Shown;
pub use siblings::{Applied, Change, Payload, Refused, SiblingSet, Write};
pub use token::{ContextToken, TokenError};
