//! Follows the ring: says who joins, leaves, goes down and comes back, and what is on the move.
//!
//! Start a cluster with `kvd dev`, then run `cargo run --example watch_ring`, and stop a node. Other
//! addresses can be given as arguments.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use roundtable::client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().skip(1).collect::<Vec<_>>();
    let known = ["127.0.0.1:7450", "127.0.0.1:7460", "127.0.0.1:7470"].map(str::to_owned);
    let kv = Client::builder()
        .endpoints(if given.is_empty() { known.to_vec() } else { given })
        .connect_lazy()?;

    let mut watch = kv.watch_ring();
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let ring = watch.next().await;
        let moving: usize = ring.placement.classes.iter().map(|class| class.moving.len()).sum();
        println!(
            "epoch {}, {} members, {moving} units on the move",
            ring.epoch,
            ring.members.len()
        );
        let told = |member: &roundtable::client::RingMember| {
            (member.name.to_string(), format!("{} and {}", member.role, member.liveness.as_str()))
        };
        let now: BTreeMap<String, String> = ring.members.iter().map(told).collect();
        for (name, state) in &now {
            if before.get(name) != Some(state) {
                println!("  {name} is {state}");
            }
        }
        for name in before.keys().filter(|name| !now.contains_key(*name)) {
            println!("  {name} has gone");
        }
        before = now;
    }
}
