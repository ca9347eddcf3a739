//! Writes, reads, lists and deletes a key.
//!
//! Start a cluster with `kvd dev`, then run `cargo run --example hello`. Other addresses can be
//! given as arguments.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use roundtable::client::{Applied, Client, Quorum};
use tokio_stream::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().skip(1).collect::<Vec<_>>();
    let known = ["127.0.0.1:7450", "127.0.0.1:7460", "127.0.0.1:7470"].map(str::to_owned);
    let kv = Client::builder()
        .endpoints(if given.is_empty() { known.to_vec() } else { given })
        .connect_lazy()?;

    match kv.put("greeting:en", "hello, world").w(Quorum::Majority).await {
        Ok(receipt) => {
            let answered = receipt.answered.count_ones();
            println!("written on {answered} of {} replicas as {}", receipt.n, receipt.stamp);
        }
        Err(error) if error.applied() == Applied::No => return Err(error.into()),
        Err(error) => println!("may have been written: {error}"),
    }

    let reply = kv.get("greeting:en").await?;
    let value = reply.value.ok_or("the greeting is gone")?;
    println!("read: {}", String::from_utf8_lossy(&value));

    let mut greetings = kv.scan().prefix("greeting:").entries();
    while let Some(entry) = greetings.next().await {
        println!("listed: {}", String::from_utf8_lossy(&entry?.key));
    }

    kv.delete("greeting:en").await?;
    println!("deleted");
    Ok(())
}
