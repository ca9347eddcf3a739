//! How much of replay may be under way to one target. It is found by trying: more as long as all is
//! taken, half of it when something is refused. Additive increase and multiplicative decrease are
//! what lets several holders, who know nothing of each other, share a target fairly (Chiu and Jain,
//! "Analysis of the increase and decrease algorithms for congestion avoidance in computer networks",
//! 1989); it is what TCP does. A bound that is set could only be the smallest target's, for all.

use crate::types::limits;

/// The window of one target, 1 to [`limits::HINTS_UNDER_WAY_MAX`] deliveries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    size: usize,
    /// Taken since it last changed.
    taken: usize,
    /// Deliveries below this number left before it was last narrowed.
    narrowed_at: u64,
}

impl Default for Window {
    /// As wide as it may be.
    fn default() -> Window {
        Window { size: limits::HINTS_UNDER_WAY_MAX, taken: 0, narrowed_at: 0 }
    }
}

impl Window {
    /// How many deliveries may be under way.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// One was taken: a window's worth of them makes it wider by one.
    pub(super) fn on_taken(&mut self) {
        self.taken += 1;
        if self.taken >= self.size {
            self.taken = 0;
            self.size = (self.size + 1).min(limits::HINTS_UNDER_WAY_MAX);
        }
    }

    /// The delivery `number` was refused for want of room; the next one will be `next`. What left
    /// before the last time says nothing of the window since: a burst halves it once. Returns whether
    /// one at a time was too much already.
    pub(super) fn on_overloaded(&mut self, number: u64, next: u64) -> bool {
        if number < self.narrowed_at || crate::mutant!("replay-window-stays") {
            return false;
        }
        let alone = self.size == 1;
        self.size = (self.size / 2).max(1);
        self.taken = 0;
        self.narrowed_at = next;
        alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_refusals_halves_it_once_and_it_never_closes() {
        let mut window = Window::default();
        for number in 0..32 {
            assert!(!window.on_overloaded(number, 32));
        }
        assert_eq!(window.size(), 16);
        let alone: Vec<bool> =
            (32..38).map(|number| window.on_overloaded(number, number + 1)).collect();
        assert_eq!((window.size(), alone), (1, vec![false, false, false, false, true, true]));
    }

    #[test]
    fn it_grows_by_one_for_each_window_that_is_taken_up_to_its_bound() {
        let mut window = Window { size: 3, taken: 0, narrowed_at: 0 };
        let sizes: Vec<usize> = (0..7)
            .map(|_| {
                window.on_taken();
                window.size()
            })
            .collect();
        assert_eq!(sizes, [3, 3, 4, 4, 4, 4, 5]);
        for _ in 0..10_000 {
            window.on_taken();
        }
        assert_eq!(window.size(), limits::HINTS_UNDER_WAY_MAX);
    }
}
