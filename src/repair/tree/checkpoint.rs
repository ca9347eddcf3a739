//! The bytes of a tree as it is stored beside what it counts: `docs/format/tree.md`.

use xxhash_rust::xxh3::xxh3_64;

use super::{Leaf, Place, Print, Sum, Tree};

const VERSION: u8 = 1;
/// Bytes of the sum at the end.
const SUM_BYTES: usize = 8;

/// Why bytes are no checkpoint of a tree. It is built anew then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// They are cut short, or changed.
    #[error("the checkpoint of a tree is damaged: its checksum does not hold")]
    Checksum,
    /// Written by another version, or with another seed.
    #[error("the checkpoint of a tree has version {version}, or another seed")]
    Foreign {
        /// The version byte.
        version: u8,
    },
    /// What was written cannot have been a tree.
    #[error("the checkpoint of a tree does not hold one: {0}")]
    Nonsense(&'static str),
}

impl Tree {
    /// The bytes of the tree, and of what is still to be cut; `None` while it is being built, or in doubt.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if !self.is_built() || self.is_doubtful {
            return None;
        }
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.seed.to_be_bytes());
        count_out(&mut out, self.leaves.len());
        let mut last: &[u8] = &[];
        for (place, leaf) in &self.leaves {
            place_out(&mut out, last, place);
            out.extend_from_slice(&leaf.count.to_be_bytes());
            out.extend_from_slice(&leaf.print.to_bytes());
            last = place.as_bytes();
        }
        count_out(&mut out, self.uncut.len());
        last = &[];
        for place in &self.uncut {
            place_out(&mut out, last, place);
            last = place.as_bytes();
        }
        let sum = xxh3_64(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        Some(out)
    }

    /// The tree of these bytes.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn decode(bytes: &[u8], seed: u64) -> Result<Tree, CheckpointError> {
        let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(CheckpointError::Checksum)?;
        if xxh3_64(body).to_be_bytes() != *sum && !crate::mutant!("tree-checksum-unchecked") {
            return Err(CheckpointError::Checksum);
        }
        let cut_short = CheckpointError::Nonsense("it ends too soon");
        let (&[version], rest) = body.split_first_chunk().ok_or(cut_short)?;
        let (&written, mut rest) = rest.split_first_chunk::<8>().ok_or(cut_short)?;
        if version != VERSION || u64::from_be_bytes(written) != seed {
            return Err(CheckpointError::Foreign { version });
        }
        let mut tree = Tree::empty(seed);
        let mut last = Place::first();
        for _ in 0..number_in(&mut rest).ok_or(cut_short)? {
            let place = place_in(&mut rest, &last)?;
            let count = number_in(&mut rest).ok_or(cut_short)?;
            let (&print, behind) = rest.split_first_chunk::<16>().ok_or(cut_short)?;
            rest = behind;
            let sum = Sum { count: u64::from(count), print: Print::from_bytes(print) };
            tree.check(&last, &place)?;
            tree.insert_leaf(place.clone(), sum);
            tree.total = tree.total.plus(sum);
            last = place;
        }
        let mut last = Place::first();
        for _ in 0..number_in(&mut rest).ok_or(cut_short)? {
            let place = place_in(&mut rest, &last)?;
            if place.is_edge() || place.level(seed).is_none() || tree.leaves.contains_key(&place) {
                return Err(CheckpointError::Nonsense("what is to be cut is no boundary"));
            }
            tree.uncut.insert(place.clone());
            last = place;
        }
        if rest.is_empty() { Ok(tree) } else { Err(CheckpointError::Nonsense("more follows")) }
    }

    /// Whether a leaf may begin at `place`, behind that which begins at `last`.
    fn check(&self, last: &Place, place: &Place) -> Result<(), CheckpointError> {
        if place.level(self.seed).is_none() {
            return Err(CheckpointError::Nonsense("a leaf begins at no boundary"));
        }
        if !place.is_edge() && last.table() != place.table() {
            return Err(CheckpointError::Nonsense("a table has no edge"));
        }
        Ok(())
    }
}

fn count_out(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

/// How much it shares with the last, how long the rest is, the rest.
fn place_out(out: &mut Vec<u8>, last: &[u8], place: &Place) {
    let bytes = place.as_bytes();
    let shared = last.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    let rest = bytes.get(shared..).unwrap_or_default();
    for length in [shared, rest.len()] {
        out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }
    out.extend_from_slice(rest);
}

fn number_in(rest: &mut &[u8]) -> Option<u32> {
    let (number, behind) = rest.split_first_chunk::<4>()?;
    *rest = behind;
    Some(u32::from_be_bytes(*number))
}

fn place_in(rest: &mut &[u8], last: &Place) -> Result<Place, CheckpointError> {
    let read = |rest: &mut &[u8]| {
        let (&[a, b, c, d], behind) = rest.split_first_chunk::<4>()?;
        let lengths = [[a, b], [c, d]].map(|bytes| usize::from(u16::from_be_bytes(bytes)));
        let [shared, length] = lengths;
        let bytes = [last.as_bytes().get(..shared)?, behind.get(..length)?].concat();
        *rest = behind.get(length..)?;
        Place::from_bytes(&bytes)
    };
    let place = read(rest).ok_or(CheckpointError::Nonsense("a place is none"))?;
    if place > *last {
        Ok(place)
    } else {
        Err(CheckpointError::Nonsense("places are out of order"))
    }
}

impl PartialEq for Tree {
    /// Whether both count the same: of what is to be read, and when, nothing is said.
    fn eq(&self, other: &Tree) -> bool {
        let leaves = |tree: &Tree| -> Vec<(Place, Leaf)> {
            tree.leaves.iter().map(|(place, leaf)| (place.clone(), *leaf)).collect()
        };
        self.seed == other.seed && self.total == other.total && leaves(self) == leaves(other)
    }
}
