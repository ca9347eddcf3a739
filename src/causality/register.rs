//! The last-writer-wins register: of two versions the higher stamp stays. A stamp is given once
//! (I8), so equal stamps are the same version.

use crate::types::Record;

/// What merging a version into a register does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The arriving version is newer (or the first) and takes the place.
    Replace,
    /// It is the version that is there already.
    Same,
    /// The version that is there is newer and stays.
    Keep,
}

/// Decides what `arriving` does to a register that holds `present`.
pub fn merge(present: Option<&Record>, arriving: &Record) -> Merge {
    let Some(present) = present else { return Merge::Replace };
    if crate::mutant!("merge-by-arrival") {
        return Merge::Replace;
    }
    match arriving.stamp.cmp(&present.stamp) {
        core::cmp::Ordering::Greater => Merge::Replace,
        core::cmp::Ordering::Equal => Merge::Same,
        core::cmp::Ordering::Less => Merge::Keep,
    }
}

/// The newer of two registers' contents.
pub fn newest(a: Option<Record>, b: Option<Record>) -> Option<Record> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.stamp > a.stamp { b } else { a }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, Stamp, Value, WallTime};
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Option<Record>> {
        proptest::option::of((0..4u64, 0..2u32, 0..3u32).prop_map(|(time, counter, node)| Record {
            stamp: Stamp { time: WallTime(time), counter, node: NodeId(node) },
            expiry: None,
            value: (time != 3).then(|| Value::new(node.to_string()).unwrap()),
        }))
    }

    fn apply(present: Option<Record>, arriving: &Record) -> Option<Record> {
        match merge(present.as_ref(), arriving) {
            Merge::Replace => Some(arriving.clone()),
            Merge::Same | Merge::Keep => present,
        }
    }

    proptest! {
        #[test]
        fn newest_is_commutative_associative_and_idempotent(
            a in record(), b in record(), c in record(),
        ) {
            let join = |a: &Option<Record>, b: &Option<Record>| newest(a.clone(), b.clone());
            prop_assert_eq!(join(&a, &b).map(|r| r.stamp), join(&b, &a).map(|r| r.stamp));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(join(&a, &a), a);
        }

        #[test]
        fn a_register_holds_the_newest_of_what_arrived_in_any_order(
            mut arrivals in proptest::collection::vec(record(), 0..6), rotate in 0..6usize,
        ) {
            let fold = |list: &[Option<Record>]| {
                list.iter().flatten().fold(None, apply).map(|r: Record| r.stamp)
            };
            let expected = arrivals.iter().flatten().map(|r| r.stamp).max();
            prop_assert_eq!(fold(&arrivals), expected);
            let middle = rotate.min(arrivals.len());
            arrivals.rotate_left(middle);
            prop_assert_eq!(fold(&arrivals), expected);
        }
    }
}
