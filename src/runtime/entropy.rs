//! The only place that draws randomness from the operating system.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A seed that nobody can foresee: the standard library keys its hashers from the system's
/// generator, and the process id and a counter make two draws of one thread differ.
pub fn seed() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static DRAWS: AtomicU64 = AtomicU64::new(0);
    let draw = DRAWS.fetch_add(1, Ordering::Relaxed);
    RandomState::new().hash_one((std::process::id(), draw))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        assert_ne!(super::seed(), super::seed());
    }
}
