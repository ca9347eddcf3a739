//! What a watch has told lately, so that what several owners apply is told once: a window, bounded in
//! bytes.

use std::collections::{BTreeMap, VecDeque};

use crate::message::Change;
use crate::types::{Key, Stamp};

/// Sets of siblings that are remembered of one key.
const PRINTS_MAX: usize = 8;
/// What a key takes beside its bytes.
const KEY_BYTES: usize = 160;

/// What was told of a key.
#[derive(Debug, Default)]
struct OfKey {
    stamp: Stamp,
    prints: VecDeque<u64>,
}

/// The window.
#[derive(Debug)]
pub(super) struct Told {
    keys: BTreeMap<Key, OfKey>,
    order: VecDeque<Key>,
    bytes: usize,
    bytes_max: usize,
}

impl Told {
    pub(super) fn new(bytes_max: usize) -> Told {
        Told { keys: BTreeMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Whether a change is news, as far as the window reaches; it is told then. Of last-writer-wins keys
    /// what is not above the last one told is none; of causal ones a set that was told.
    pub(super) fn is_news(&mut self, change: &Change) -> bool {
        if let Some(told) = self.keys.get_mut(&change.key) {
            return told.take(change);
        }
        let mut told = OfKey::default();
        told.take(change);
        self.bytes += KEY_BYTES + change.key.as_bytes().len();
        self.keys.insert(change.key.clone(), told);
        self.order.push_back(change.key.clone());
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
            self.bytes -= KEY_BYTES + oldest.as_bytes().len();
        }
        true
    }
}

impl OfKey {
    fn take(&mut self, change: &Change) -> bool {
        if crate::mutant!("watch-dedupes-by-key") && self.stamp != Stamp::ZERO {
            return false;
        }
        let is_higher = change.stamp > self.stamp;
        self.stamp = self.stamp.max(change.stamp);
        if change.print == 0 {
            return is_higher;
        }
        if self.prints.contains(&change.print) {
            return false;
        }
        self.prints.push_back(change.print);
        if self.prints.len() > PRINTS_MAX {
            self.prints.pop_front();
        }
        true
    }
}
