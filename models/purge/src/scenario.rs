//! What is checked: small worlds, run to their ends.

use crate::state::{AGAIN, DELETE, Version};

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// The last version that is written.
    pub last: Version,
    /// Writes may be acknowledged with the help of the holder.
    pub sloppy: bool,
    /// C's disk is exchanged for an old copy of it, once.
    pub old_disk: bool,
    /// M mirrors the unit, and may take C's place.
    pub mirror: bool,
    /// C may be gone for ever.
    pub dies: bool,
    /// Both of a pair vouch at once. Otherwise each by itself, or one alone.
    pub pairs: bool,
}

const PLAIN: Scenario = Scenario {
    name: "slow messages",
    last: DELETE,
    sloppy: false,
    old_disk: false,
    mirror: false,
    dies: false,
    pairs: false,
};

const PAIRS: Scenario = Scenario { pairs: true, ..PLAIN };

pub const SLOW: &str = PLAIN.name;
pub const AGAIN_PUT: &str = "slow messages, put again";
pub const CUSTODY: &str = "a hint in custody";
pub const OLD_DISK: &str = "an old disk";
pub const MIRROR: &str = "a mirror takes a place";
pub const GONE: &str = "a mirror replaces who is gone";

pub fn all() -> Vec<Scenario> {
    vec![
        PLAIN,
        Scenario { name: AGAIN_PUT, last: AGAIN, ..PLAIN },
        Scenario { name: CUSTODY, last: AGAIN, sloppy: true, ..PLAIN },
        Scenario { name: OLD_DISK, old_disk: true, ..PLAIN },
        Scenario { name: "an old disk and a hint", sloppy: true, old_disk: true, ..PLAIN },
        Scenario { name: "an old disk, put again", last: AGAIN, old_disk: true, ..PAIRS },
        Scenario { name: MIRROR, mirror: true, ..PAIRS },
        Scenario { name: GONE, mirror: true, dies: true, ..PAIRS },
    ]
}

/// Larger worlds, for a longer run.
pub fn long() -> Vec<Scenario> {
    vec![
        Scenario { name: "a mirror and an old disk", old_disk: true, mirror: true, ..PAIRS },
        Scenario { name: "an old disk, put again", last: AGAIN, old_disk: true, ..PLAIN },
        Scenario { name: "a mirror takes a place", mirror: true, ..PLAIN },
        Scenario { name: "a mirror and a hint", sloppy: true, mirror: true, ..PAIRS },
        Scenario { name: "a mirror, put again", last: AGAIN, mirror: true, ..PAIRS },
    ]
}
