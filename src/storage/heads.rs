//! Where a key stands among others that are in order.
//!
//! A search of strings costs a cache miss and a comparison at each step. So the eight bytes behind
//! what all keys share stand in one array, as numbers; a key itself is looked at only where these
//! are equal. Does not know the keys: whoever asks compares them.

use core::cmp::Ordering;

/// The heads of keys in order.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// What all keys begin with.
    common: Vec<u8>,
    /// The next eight bytes of each, as a number.
    heads: Vec<u64>,
}

/// The eight bytes of `key` from `start` on as a number of the same order; what is missing of them is
/// zeros, so different keys may have equal ones.
fn head_of(key: &[u8], start: usize) -> u64 {
    let rest = key.get(start..).unwrap_or_default();
    if let Some(head) = rest.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    // Not byte by byte where there are eight bytes that end like the key: gets feel it.
    match key.last_chunk() {
        Some(_) if rest.is_empty() => 0,
        Some(tail) => u64::from_be_bytes(*tail) << (u64::BITS as usize - rest.len() * 8),
        None => {
            let mut head = [0; 8];
            head.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(head)
        }
    }
}

impl Heads {
    /// For keys of which these are the first and the last; none is in it yet.
    pub(crate) fn between(first: &[u8], last: &[u8]) -> Self {
        let shared = first.iter().zip(last).take_while(|(one, other)| one == other).count();
        let common = first.get(..shared).unwrap_or_default().to_vec();
        Self { common, heads: Vec::new() }
    }

    /// Of keys that are in order.
    pub(crate) fn of<'k>(keys: impl DoubleEndedIterator<Item = &'k [u8]> + Clone) -> Self {
        let ends = keys.clone().next().zip(keys.clone().next_back());
        let mut heads = ends.map_or_else(Self::default, |(first, last)| Self::between(first, last));
        for key in keys {
            heads.push(key).expect("what the first and the last share all have that are between");
        }
        heads
    }

    /// Adds the next key; `None` if it is not between the first and the last.
    pub(crate) fn push(&mut self, key: &[u8]) -> Option<()> {
        let fits = key.starts_with(&self.common);
        fits.then(|| self.heads.push(head_of(key, self.common.len())))
    }

    /// Bytes that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.heads.len() * size_of::<u64>()
    }

    /// Number of the first key that is not below `key`, or how many there are. `compare` says how the
    /// key of a number stands to `key`; where it cannot, this cannot either.
    pub(crate) fn lower_bound(
        &self,
        key: &[u8],
        compare: impl Fn(usize) -> Option<Ordering>,
    ) -> Option<usize> {
        if self.heads.is_empty() {
            return Some(0);
        }
        let front = key.get(..self.common.len()).unwrap_or(key);
        match front.cmp(&self.common) {
            Ordering::Less => return Some(0),
            Ordering::Greater => return Some(self.heads.len()),
            Ordering::Equal => {}
        }
        let head = head_of(key, self.common.len());
        let mut low = self.heads.partition_point(|other| *other < head);
        let mut high = low;
        if self.heads.get(low) == Some(&head) {
            high += self.heads.get(low..)?.partition_point(|other| *other == head);
        }
        while low < high {
            let middle = low.midpoint(high);
            match compare(middle)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal | Ordering::Greater => high = middle,
            }
        }
        Some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::{prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn a_key_is_found_where_a_search_of_the_keys_finds_it(
            keys in btree_set(vec(0u8..3, 0..14), 0..40), shared in vec(0u8..3, 0..4),
            wanted in vec(0u8..3, 0..18),
        ) {
            let keys: Vec<Vec<u8>> = keys.iter().map(|key| [&shared[..], key].concat()).collect();
            let heads = Heads::of(keys.iter().map(Vec::as_slice));
            let near = [wanted.clone(), [&shared[..], &wanted].concat()];
            for wanted in near.iter().chain(&keys) {
                let found = heads.lower_bound(wanted, |number| {
                    keys.get(number).map(|key| key.cmp(wanted))
                });
                prop_assert_eq!(found, Some(keys.partition_point(|key| key < wanted)));
            }
        }
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let heads = Heads::of([&b"one"[..], b"two"].into_iter());
        assert_eq!(heads.lower_bound(b"two", |_| None), None);
        assert_eq!(heads.lower_bound(b"three", |_| None), Some(1), "the numbers tell");
        assert!(Heads::between(b"aa", b"ab").push(b"b").is_none());
    }
}
