//! Directed tests of the node: exact situations, set up by hand. The simulator looks for the ones
//! nobody thought of; a bug it finds becomes a test here.

mod answers;
mod bench;
mod birth;
mod causal;
mod causal_moves;
mod client_time;
mod custody;
mod data;
mod explain;
mod fences;
mod fill;
mod fill_disk;
mod floor;
mod floor_disk;
mod hint_disk;
mod hints;
mod key_disk;
mod lineage;
mod links;
mod losses;
mod monotonic;
mod moves;
mod planted;
mod register;
mod repair;
mod scans;
mod scrub;
mod shares;
mod tables;
mod transfer;
mod tree_disk;
mod trouble;
mod ttl;
mod watches;
mod waterfall;
