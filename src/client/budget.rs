//! The retry budget: a token bucket that requests fill slowly and retries drain quickly, so that
//! retries never add more than a fraction to the load of a cluster in trouble.

use std::sync::atomic::{AtomicU32, Ordering};

/// Thousandths of a token.
const RETRY_COST: u32 = 1000;

/// A token bucket. Starts full.
#[derive(Debug)]
pub(crate) struct Budget {
    tokens: AtomicU32,
    deposit: u32,
    capacity: u32,
}

impl Budget {
    /// A bucket that allows `burst` retries at once, and one more for every `1 / ratio` requests.
    pub(crate) fn new(burst: u16, ratio_percent: u8) -> Budget {
        let capacity = u32::from(burst) * RETRY_COST;
        let deposit = u32::from(ratio_percent) * (RETRY_COST / 100);
        Budget { tokens: AtomicU32::new(capacity), deposit, capacity }
    }

    /// Counts a request.
    pub(crate) fn deposit(&self) {
        let add = |tokens: u32| Some(tokens.saturating_add(self.deposit).min(self.capacity));
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Pays for a retry; false when there is too little left.
    pub(crate) fn withdraw(&self) -> bool {
        let take = |tokens: u32| tokens.checked_sub(RETRY_COST);
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fraction_of_requests_once_the_burst_is_spent() {
        let budget = Budget::new(3, 10);
        assert_eq!((0..9).filter(|_| budget.withdraw()).count(), 3);
        let retried = (0..100).filter(|_| {
            budget.deposit();
            budget.withdraw()
        });
        assert_eq!(retried.count(), 10);
    }

    #[test]
    fn quiet_times_save_up_no_more_than_the_burst() {
        let budget = Budget::new(2, 10);
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!((0..9).filter(|_| budget.withdraw()).count(), 2);
    }
}
