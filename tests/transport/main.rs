//! The asynchronous shell over real sockets: what breaks a connection, a queue or a drain, and must
//! not. Every wait here is for an event; the one limit on all of them is [`within`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may as well panic")]

mod cluster;
mod drain;
mod greeting;
mod hostile;
mod peers;
mod support;
