//! Random numbers for request ids, jitter and picks: a counter under a keyed hash whose key the
//! operating system gave. No generator state to lock, and ids cannot collide with those of another
//! process that was started in the same instant.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::RequestId;

/// A source of random numbers, shared freely.
#[derive(Debug, Default)]
pub(crate) struct Entropy {
    key: RandomState,
    drawn: AtomicU64,
}

impl Entropy {
    /// 64 random bits.
    pub(crate) fn draw(&self) -> u64 {
        self.key.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.draw() % bound).unwrap_or(0)
    }

    /// A fresh request id; never 0, which means "none".
    pub(crate) fn request_id(&self) -> RequestId {
        let bits = (u128::from(self.draw()) << 64) | u128::from(self.draw());
        RequestId(bits.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ_between_draws_and_between_sources() {
        let (one, other) = (Entropy::default(), Entropy::default());
        let ids = [one.request_id(), one.request_id(), other.request_id()];
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        assert!((0..100).all(|_| one.below(3) < 3));
    }
}
