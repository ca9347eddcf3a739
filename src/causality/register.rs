//! The last-writer-wins register: of two versions the higher stamp stays. A stamp is given once
//! (I8), so equal stamps are the same version.

use core::cmp::Ordering;

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
    match order(arriving, present) {
        Ordering::Greater => Merge::Replace,
        Ordering::Equal => Merge::Same,
        Ordering::Less => Merge::Keep,
    }
}

/// The newer of two registers' contents.
pub fn newest(a: Option<Record>, b: Option<Record>) -> Option<Record> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if order(&b, &a).is_gt() { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// The order of a key's versions: by stamp. Stamps of nodes are never given twice. Two writes whose
/// time their clients have given may have one stamp; then content decides, the same everywhere: a
/// value over a deletion, the value that sorts last, the later expiry.
pub fn order(a: &Record, b: &Record) -> Ordering {
    let by_stamp = a.stamp.cmp(&b.stamp);
    if by_stamp.is_ne() || !a.stamp.is_of_client() || crate::mutant!("client-stamps-collide") {
        return by_stamp;
    }
    let bytes = |record: &Record| record.value.as_ref().map(|value| value.bytes().clone());
    let expiry = |record: &Record| record.expiry.map_or(u64::MAX, |at| at.0);
    bytes(a).cmp(&bytes(b)).then_with(|| expiry(a).cmp(&expiry(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arm_mutant;
    use crate::types::{NodeId, RequestId, Stamp, Value, WallTime};
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Option<Record>> {
        let by_node = (0..4u64, 0..2u32, 0..3u32).prop_map(|(time, counter, node)| Record {
            stamp: Stamp { time: WallTime(time), counter, node: NodeId(node) },
            expiry: None,
            value: (time != 3).then(|| Value::new(node.to_string()).unwrap()),
        });
        // Of clients whose ids have collided: one stamp, and anything under it.
        let by_client = (0..4u64, 0..4u8, 0..3u64).prop_map(|(time, value, expiry)| Record {
            stamp: Stamp::of_client(WallTime(time), RequestId(0)),
            expiry: (expiry > 0).then_some(WallTime(expiry)),
            value: (value > 0).then(|| Value::new(vec![value]).unwrap()),
        });
        proptest::option::of(proptest::prop_oneof![by_node, by_client])
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
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(join(&a, &a), a);
        }

        #[test]
        fn a_register_holds_the_newest_of_what_arrived_in_any_order(
            mut arrivals in proptest::collection::vec(record(), 0..6), rotate in 0..6usize,
        ) {
            let fold = |list: &[Option<Record>]| {
                list.iter().flatten().fold(None, apply)
            };
            let expected = fold(&arrivals);
            let stamp = arrivals.iter().flatten().map(|r| r.stamp).max();
            prop_assert_eq!(expected.as_ref().map(|r| r.stamp), stamp);
            let middle = rotate.min(arrivals.len());
            arrivals.rotate_left(middle);
            prop_assert_eq!(fold(&arrivals), expected);
        }
    }

    #[test]
    fn two_writes_with_one_time_of_clients_end_alike_in_either_order() {
        let of = |value: &'static str| Record {
            stamp: Stamp::of_client(WallTime(5), RequestId(7)),
            expiry: None,
            value: Some(Value::new(value).unwrap()),
        };
        let (a, b) = (of("a"), of("b"));
        let alike = || apply(Some(a.clone()), &b) == apply(Some(b.clone()), &a);
        assert!(alike());
        assert_eq!(merge(Some(&a), &a), Merge::Same);
        let _armed = arm_mutant("client-stamps-collide");
        assert!(!alike());
    }
}
