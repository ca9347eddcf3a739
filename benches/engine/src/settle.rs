//! Waiting for an engine's background work, for all engines in the same way: until the process has
//! written nothing and has hardly used the CPU for a while.

use std::time::{Duration, Instant};

use crate::engine::Store;
use crate::host;

/// How long nothing must have happened.
const QUIET: Duration = Duration::from_millis(600);
/// How often it is looked.
const STEP: Duration = Duration::from_millis(50);
/// How long it is waited at most.
const LIMIT: Duration = Duration::from_secs(120);

/// Flushes and waits until nothing goes on. Returns whether that was reached.
///
/// # Errors
/// What the engine says.
pub(crate) fn settle(store: &dyn Store) -> anyhow::Result<bool> {
    store.flush()?;
    let begin = Instant::now();
    let mut state = (host::Written::now()?, host::cpu());
    let mut since = Instant::now();
    while begin.elapsed() < LIMIT {
        std::thread::sleep(STEP);
        let now = (host::Written::now()?, host::cpu());
        let busy = now.0 != state.0 || now.1.saturating_sub(state.1) > STEP / 20;
        state = now;
        if busy {
            since = Instant::now();
        } else if since.elapsed() >= QUIET {
            return Ok(true);
        }
    }
    Ok(false)
}
