//! Turns `apt-cache dumpavail` on stdin into lines that `kvctl import` reads: the key is the
//! package's name, the value its whole record. Of records with one name the last counts.
//!
//! `apt-cache dumpavail | cargo run --example dumpavail_to_ndjson > packages.ndjson`

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write};

fn main() -> io::Result<()> {
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text)?;
    // Old records are not all UTF-8; replacement characters are as good as any to store.
    let text = String::from_utf8_lossy(&text);
    let mut records = BTreeMap::new();
    for record in text.split("\n\n").map(str::trim_end).filter(|record| !record.is_empty()) {
        let name = record.lines().find_map(|line| line.strip_prefix("Package: "));
        if let Some(name) = name {
            records.insert(name.trim(), record);
        }
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for (key, value) in records {
        writeln!(out, "{}", serde_json::json!({ "key": key, "value": value }))?;
    }
    out.flush()
}
