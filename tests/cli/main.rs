//! `kvctl` as scripts see it: arguments in, stdout, stderr and the exit code out.
//!
//! `offline` needs no server at all; `scripted` talks to a server that does what its script says;
//! `cluster` to three real nodes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should stop there"
)]

mod bench;
#[cfg(feature = "server")]
mod cluster;
mod kvctl;
mod offline;
mod scripted;
mod shell;

/// The scripted server of the client library's own tests.
#[path = "../../src/client/tests/fake.rs"]
#[allow(dead_code, reason = "each test target uses what it needs of it")]
mod fake;

// `fake` names these as the library's own modules do.
use roundtable::{client, wire};
