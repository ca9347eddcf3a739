//! The decoders as fuzzers reach them, past the checksums: each function takes any bytes and checks
//! what must hold of the answer. In builds with debug assertions only, and no part of the
//! interface. `tests/storage/targets.rs` calls these, and the whole engine.

use std::path::Path;

use bytes::Bytes;

use super::batch::SealedBatch;
use super::blob::{check_any_pointer, check_any_record};
use super::manifest::Edit;
use super::sstable::{check_any_block, check_any_filter, check_any_footer, check_any_index};

/// The body of a data block: any bytes can be asked without a panic; of a block built from entries
/// exactly those are read and found.
pub fn block(body: &[u8]) {
    check_any_block(&Bytes::copy_from_slice(body));
}

/// The body of an index block: what can be taken apart finds each of its separators.
pub fn index(body: &[u8]) {
    check_any_index(&Bytes::copy_from_slice(body));
}

/// The footer of a table, as if it stood at `offset`: what it names lies before it.
pub fn footer(bytes: &[u8], offset: u64) {
    check_any_footer(bytes, offset);
}

/// The body of a filter, and a filter made of keys: what it holds it never denies.
pub fn filter(body: &[u8]) {
    check_any_filter(body);
}

/// A record of a blob file, its opening, its closing, and what a table says of where it stands.
pub fn blob(bytes: &[u8]) {
    check_any_record(bytes);
    check_any_pointer(bytes);
}

/// One edit of a manifest: what can be decoded is encoded so that it decodes to the same.
pub fn edit(body: &[u8]) {
    let path = Path::new("MANIFEST");
    let Ok(Some(edit)) = Edit::decode(body, path) else { return };
    let again = Edit::decode(&edit.encode(), path);
    assert_eq!(again.ok().flatten(), Some(edit), "an edit reads back as another");
}

/// The payload of a log record.
pub fn batch(payload: &[u8]) {
    let Some(batch) = SealedBatch::decode(payload, 0) else {
        return;
    };
    let entries = batch.entries().flatten().count() + batch.ranges as usize;
    assert_eq!(entries, batch.count as usize, "a batch has another number of entries than it says");
}
