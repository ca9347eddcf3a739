//! Two writers change one shopping cart at the same time, and a reader puts their changes together.
//!
//! Start a cluster with `kvd dev`, then run `cargo run --example siblings`. Other addresses can be
//! given as arguments.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeSet;

use roundtable::client::{Client, Siblings, TableKind};

const TABLE: &str = "carts";
const KEY: &str = "cart:ada";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().skip(1).collect::<Vec<_>>();
    let known = ["127.0.0.1:7450", "127.0.0.1:7460", "127.0.0.1:7470"].map(str::to_owned);
    let kv = Client::builder()
        .endpoints(if given.is_empty() { known.to_vec() } else { given })
        .connect_lazy()?;
    match kv.tables().create(TABLE).kind(TableKind::Causal).await {
        Ok(_) => println!("table {TABLE} made"),
        Err(error) if error.code() == "TABLE_EXISTS" => {}
        Err(error) => return Err(error.into()),
    }

    // Both start from the same cart, and neither knows of the other.
    let cart = kv.get(KEY).table(TABLE).siblings().await?;
    let base = kv.put(KEY, "tea").table(TABLE).context(&cart.context).returning_context().await?;
    for added in ["tea,milk", "tea,bread"] {
        kv.put(KEY, added).table(TABLE).context(&base.context).await?;
    }

    // Nothing was lost: the reader sees both, and decides. For a cart, the union is right.
    let cart = kv.get(KEY).table(TABLE).siblings().await?;
    for sibling in &cart.values {
        println!("sibling: {}", String::from_utf8_lossy(&sibling.value));
    }
    let merged = union(&cart);
    let written =
        kv.put(KEY, merged.clone()).table(TABLE).context(&cart.context).returning_context().await?;
    println!("merged: {merged}, siblings left: {}", written.siblings);
    Ok(())
}

fn union(cart: &Siblings) -> String {
    let mut items = BTreeSet::new();
    for sibling in &cart.values {
        items.extend(String::from_utf8_lossy(&sibling.value).split(',').map(str::to_owned));
    }
    items.into_iter().collect::<Vec<_>>().join(",")
}
