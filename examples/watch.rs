//! Keeps a copy of the keys with a prefix: watches them, reads each that has changed, and all of them
//! again behind a gap.
//!
//! Start a cluster with `kvd dev`, then run `cargo run --example watch -- user:`, and write some keys with
//! `kvctl put user:1 a`. Stop a node and start it again: nothing is missed, and nothing is said of it.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use bytes::Bytes;
use roundtable::client::{Client, Error, WatchEvent};
use tokio_stream::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prefix = std::env::args().nth(1).unwrap_or_default();
    let kv = Client::builder()
        .endpoints(["127.0.0.1:7450", "127.0.0.1:7460", "127.0.0.1:7470"])
        .connect_lazy()?;

    let mut copy = BTreeMap::new();
    let mut events = kv.watch().prefix(prefix.clone()).events();
    while let Some(event) = events.next().await {
        match event? {
            // The watch first, then the keys: what is put between the two is told.
            WatchEvent::Began | WatchEvent::Whole => {
                copy = read_all(&kv, &prefix).await?;
                println!("{} keys", copy.len());
            }
            // The key may hold something newer by now, which is told as well.
            WatchEvent::Change(change) => {
                let found = kv.get(change.key.clone()).await?;
                println!("{} changed", change.key.escape_ascii());
                match found.value {
                    Some(value) => copy.insert(change.key, value),
                    None => copy.remove(&change.key),
                };
            }
            WatchEvent::Gap(gap) => println!("changes may be missing: {}", gap.reason),
            _ => {}
        }
    }
    Ok(())
}

async fn read_all(kv: &Client, prefix: &str) -> Result<BTreeMap<Bytes, Bytes>, Error> {
    let mut copy = BTreeMap::new();
    let mut entries = kv.scan().prefix(prefix.to_owned()).entries();
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        copy.insert(entry.key, entry.value);
    }
    Ok(copy)
}
