//! Watching a table: changes as its owners apply them. [`Recent`] is what an owner notes, [`Watch`] what
//! merges the notes of many and knows whether they are enough, [`Token`] where a watch stood. Nothing here
//! knows who asks, how messages travel or what a disk is. `docs/protocol/watch.md`.

mod follow;
mod recent;
mod token;
mod told;

pub use follow::{Watch, WatchOrder};
pub use recent::Recent;
pub use token::{Foreign, Token, TokenOwner};

#[cfg(test)]
mod tests;
