//! I8: stamps of one node strictly increase over its whole life, and one stamp names one content.

use std::collections::BTreeMap;

use roundtable::types::{Key, NodeId, Record, Stamp};
use xxhash_rust::xxh3::xxh3_64;

/// Every stamp that was seen in a fresh write, with what it stamped.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    seen: BTreeMap<Stamp, u64>,
    /// What else a stamp was given to, in one batch.
    also: BTreeMap<Stamp, Vec<u64>>,
    highest: BTreeMap<NodeId, Stamp>,
}

impl Stamps {
    /// `node` has sent out, or written to its own disk, a fresh version of `key`.
    pub(crate) fn gave(&mut self, node: NodeId, key: &Key, record: &Record) -> Result<(), String> {
        let stamp = record.stamp;
        let content = content(key, record);
        if stamp.is_of_client() {
            // No node gave it: all there is to ask is that it names one version.
            let known = *self.seen.entry(stamp).or_insert(content);
            let one = known == content;
            return one.then_some(()).ok_or(format!("{stamp} names two different versions"));
        }
        if stamp.node != node {
            return Err(format!("node {node} gave {stamp}, which bears another's number"));
        }
        if let Some(before) = self.seen.get(&stamp) {
            let of_batch = self.also.get(&stamp).is_some_and(|also| also.contains(&content));
            return if *before == content || of_batch {
                Ok(())
            } else {
                Err(format!("node {node} gave {stamp} to two different versions"))
            };
        }
        self.seen.insert(stamp, content);
        let highest = self.highest.entry(node).or_default();
        if stamp <= *highest {
            return Err(format!("node {node} gave {stamp} after {highest}"));
        }
        *highest = stamp;
        Ok(())
    }
}

impl Stamps {
    /// `node` has sent out, or written to its own disk, these fresh versions as one batch.
    pub(crate) fn together(
        &mut self,
        node: NodeId,
        first: (&Key, &Record),
        rest: &[(Key, Record)],
    ) -> Result<(), String> {
        self.gave(node, first.0, first.1)?;
        if rest.is_empty() {
            return Ok(());
        }
        let stamp = first.1.stamp;
        let contents: Vec<u64> = rest.iter().map(|(key, record)| content(key, record)).collect();
        if rest.iter().any(|(_, record)| record.stamp != stamp) {
            return Err(format!("node {node} gave a batch at {stamp} other stamps too"));
        }
        let known = self.also.entry(stamp).or_insert_with(|| contents.clone());
        let one = *known == contents;
        one.then_some(()).ok_or(format!("node {node} gave {stamp} to two different batches"))
    }
}

fn content(key: &Key, record: &Record) -> u64 {
    let mut bytes = key.as_bytes().to_vec();
    bytes.push(u8::from(record.value.is_some()));
    bytes.extend(record.value.iter().flat_map(|value| value.as_bytes().iter().copied()));
    xxh3_64(&bytes)
}
