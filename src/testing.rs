//! Points where the simulator reaches into product code: `mutant!` (a planted bug, off unless a
//! test names it), `buggify!` (a rare but legal turn of events) and `sometimes!` (a place a good
//! run must reach). All three compile to nothing without `debug_assertions`, and do nothing unless
//! a test has armed them on its own thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

thread_local! {
    static MUTANT: Cell<Option<&'static str>> = const { Cell::new(None) };
    static BUGGIFY: RefCell<Option<fastrand::Rng>> = const { RefCell::new(None) };
    static REACHED: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Arms the planted bug `name` on this thread until the guard is dropped.
pub fn arm_mutant(name: &'static str) -> impl Drop {
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            MUTANT.set(None);
        }
    }
    MUTANT.set(Some(name));
    Guard
}

/// Whether the planted bug `name` is armed on this thread.
pub fn mutant_is_armed(name: &str) -> bool {
    MUTANT.get() == Some(name)
}

/// Arms `buggify!` on this thread with a generator of the run, or disarms it.
pub fn set_buggify(rng: Option<fastrand::Rng>) {
    BUGGIFY.set(rng);
}

/// Draws whether a `buggify!(p)` point fires.
pub fn buggify_fires(probability: f64) -> bool {
    BUGGIFY.with_borrow_mut(|rng| rng.as_mut().is_some_and(|rng| rng.f64() < probability))
}

/// Counts a `sometimes!` point as reached.
pub fn reach(name: &'static str) {
    REACHED.with_borrow_mut(|reached| *reached.entry(name).or_default() += 1);
}

/// Takes the counts of `sometimes!` points reached on this thread since the last call.
pub fn take_reached() -> BTreeMap<&'static str, u64> {
    REACHED.take()
}

/// `if mutant!("name") { the mistake } else { the rule }`.
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        cfg!(debug_assertions) && $crate::testing::mutant_is_armed($name)
    };
}

/// True with the given probability in the simulator, never elsewhere.
#[macro_export]
macro_rules! buggify {
    ($probability:expr) => {
        cfg!(debug_assertions) && $crate::testing::buggify_fires($probability)
    };
}

/// Marks a place that a good set of simulation runs must reach.
#[macro_export]
macro_rules! sometimes {
    ($name:literal) => {
        if cfg!(debug_assertions) {
            $crate::testing::reach($name);
        }
    };
}
