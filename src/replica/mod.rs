//! What one node stores: the key layout over the engine, merging on write, and what is restored at
//! boot. Synchronous; knows no ring, no peer and no clock.

use crate::message::{DiskAnswer, DiskError};

/// Called once with the outcome of a request, from whichever thread finished it.
pub type Done = Box<dyn FnOnce(Result<DiskAnswer, DiskError>) + Send>;
