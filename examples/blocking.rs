//! A program without async: it counts, and lists what it has counted.
//!
//! Start a cluster with `kvd dev`, then run `cargo run --example blocking`. Other addresses can be given
//! as arguments.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use roundtable::client::{Client, TableKind, blocking};

const TABLE: &str = "counters";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().skip(1).collect::<Vec<_>>();
    let known = ["127.0.0.1:7450", "127.0.0.1:7460", "127.0.0.1:7470"].map(str::to_owned);
    let endpoints = if given.is_empty() { known.to_vec() } else { given };
    let kv = blocking::Client::new(Client::builder().endpoints(endpoints))?;
    match kv.wait(kv.tables().create(TABLE).kind(TableKind::Linearizable)) {
        Ok(_) => println!("table {TABLE} made"),
        Err(error) if error.code() == "TABLE_EXISTS" => {}
        Err(error) => return Err(error.into()),
    }
    for word in ["to", "be", "or", "not", "to", "be"] {
        let update = kv.update(word).table(TABLE).run(|values| {
            let text = values.first().map(|value| String::from_utf8_lossy(value).into_owned());
            let count: u64 = text.and_then(|text| text.parse().ok()).unwrap_or(0);
            (count + 1).to_string().into()
        });
        kv.wait(update)?;
    }
    for word in ["be", "not", "or", "to"] {
        let count = kv.wait(kv.get(word).table(TABLE))?.value.unwrap_or_default();
        println!("{word}: {}", String::from_utf8_lossy(&count));
    }
    kv.wait(kv.put("words/last", "be"))?;
    for entry in kv.iter(kv.scan().prefix("words/").entries()) {
        let entry = entry?;
        println!(
            "{} = {}",
            String::from_utf8_lossy(&entry.key),
            String::from_utf8_lossy(&entry.value)
        );
    }
    Ok(())
}
