//! Real processes: `kvd` nodes on loopback addresses of their own, driven through the client
//! library, plain gRPC and `kvctl`, and judged by the checkers that judge the simulator.
//!
//! Nothing here sleeps for a while and hopes: every wait is for an event, with a deadline.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and says where"
)]

mod batch;
mod birth;
mod blocking;
mod causal;
mod counter;
mod crash;
mod custody;
mod damage;
mod deadline;
mod dev;
mod drain;
mod exchange;
mod explain;
mod fixture;
mod grow;
mod growth;
mod healing;
mod import;
mod input;
mod keeping;
mod lab;
mod load;
mod loss;
mod metrics;
mod network;
mod observe;
mod options;
mod orchestrator;
mod outage;
mod peers;
mod purge;
mod quorum;
mod register;
mod register_scan;
mod repair;
mod ring;
mod rivals;
mod rolling;
mod sloppy;
mod slow;
mod split;
mod tables;
mod topology;
mod traffic;
mod ttl;
mod watch;
