//! Placement: which members hold which keys. A key has a [`Token`], a token a partition, a
//! partition a [`PreferenceList`], and a [`claim`] says which member owns which virtual node. Pure:
//! decides nothing over time, knows neither who is alive nor how data is moved. Source: Dynamo
//! (DeCandia et al., 2007), sections 4.2, 4.3 and 6.2 (strategy 3); `docs/ring.md`.

mod claim;
mod even;
mod place;
mod share;
mod token;
mod walk;

pub use claim::{Before, Claim, ClaimError, ClaimMember, ClaimReport, Share, claim};
pub use share::{MICRO, target_shares};
pub use token::{Token, partition_of, token};
pub use walk::{PreferenceList, Ring};

#[cfg(test)]
mod claim_tests;
#[cfg(test)]
mod large_tests;
#[cfg(test)]
mod share_tests;
#[cfg(test)]
mod walk_tests;
