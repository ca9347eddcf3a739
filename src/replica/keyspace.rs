//! Where things stand in the engine: the space, then what orders it. `docs/format/keyspace.md`.
//!
//! A unit is one contiguous range of keys, so that later a whole unit can be dropped, copied or
//! taken in as files.

use crate::causality::Dot;
use crate::message::HintPlace;
use crate::storage::KeyRange;
use crate::types::{ClassId, Key, NodeId, Partition, TableId, Unit, WallTime};

/// Records of the node itself.
pub(super) const META: u8 = 0x00;
/// Versions of users' keys.
pub(super) const DATA: u8 = 0x01;
/// Versions that arrive for a unit while it is being filled, laid out like [`DATA`].
pub(super) const OVERLAY: u8 = 0x02;
/// Hints, by target and the key they are for.
pub(super) const HINT: u8 = 0x03;
/// The index of hints, by target and age.
pub(super) const HINT_AGE: u8 = 0x04;

/// Values of hints for keys of causal tables that have records of their own.
pub(super) const HINT_VALUE: u8 = 0x05;
/// The second copy of [`META`].
pub(super) const META_COPY: u8 = 0x06;

/// Bytes of a space and a unit.
pub(super) const UNIT_BYTES: usize = 5;

/// Bytes before the user's key.
pub(super) const PREFIX_BYTES: usize = 9;

/// `space, class u16, partition u16, table u32`, big-endian: byte order is unit order.
pub(super) fn table_prefix(space: u8, unit: Unit, table: TableId) -> [u8; PREFIX_BYTES] {
    let [c0, c1] = unit.class.0.to_be_bytes();
    let [p0, p1] = unit.partition.0.to_be_bytes();
    let [t0, t1, t2, t3] = table.0.to_be_bytes();
    [space, c0, c1, p0, p1, t0, t1, t2, t3]
}

/// All that a unit may hold of tables from a first to below another: heads and records, and single siblings.
pub(super) fn tables_between(
    space: u8,
    unit: Unit,
    (first, end): (TableId, TableId),
) -> [KeyRange; 2] {
    [0, SIBLINGS].map(|kind| {
        let [first, end] = [first, end].map(|id| table_prefix(space, unit, TableId(id.0 | kind)));
        KeyRange::between(&first, &end)
    })
}

/// `space, class u16, partition u16`: before all of a unit.
pub(super) fn unit_prefix(space: u8, unit: Unit) -> [u8; UNIT_BYTES] {
    let [c0, c1] = unit.class.0.to_be_bytes();
    let [p0, p1] = unit.partition.0.to_be_bytes();
    [space, c0, c1, p0, p1]
}

/// The unit of an engine's key in [`DATA`] or [`OVERLAY`]; `None` when it is too short to be one.
pub(super) fn unit_of(key: &[u8]) -> Option<Unit> {
    let &[_, c0, c1, p0, p1] = key.first_chunk::<UNIT_BYTES>()?;
    Some(Unit {
        class: ClassId(u16::from_be_bytes([c0, c1])),
        partition: Partition(u16::from_be_bytes([p0, p1])),
    })
}

/// The engine's key of a user's key.
pub(super) fn data_key(unit: Unit, table: TableId, key: &Key) -> Vec<u8> {
    user_key(DATA, unit, table, key)
}

/// The same in [`DATA`] or [`OVERLAY`].
pub(super) fn user_key(space: u8, unit: Unit, table: TableId, key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + key.as_bytes().len());
    bytes.extend_from_slice(&table_prefix(space, unit, table));
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// Set in the table of keys that hold single siblings: they stand in their unit, behind all heads,
/// where no scan of the table meets them. Table ids are given one by one and stay far below.
const SIBLINGS: u32 = 1 << 31;

/// The engine's key of the value of one sibling, in the space of its head.
pub(super) fn sibling_key(
    space: u8,
    (unit, table, key): (Unit, TableId, &Key),
    dot: Dot,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + key.as_bytes().len() + Dot::BYTES);
    bytes.extend_from_slice(&table_prefix(space, unit, TableId(table.0 | SIBLINGS)));
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&dot.to_bytes());
    bytes
}

/// The table of an engine's key in [`DATA`]; `None` when it is too short to be one.
pub(super) fn table_of(key: &[u8]) -> Option<TableId> {
    let number = key.get(PREFIX_BYTES - 4..PREFIX_BYTES)?;
    Some(TableId(u32::from_be_bytes(number.try_into().ok()?) & !SIBLINGS))
}

/// Whether an engine's key is that of the value of a sibling.
pub(super) fn is_sibling(key: &[u8]) -> bool {
    let number = key.get(PREFIX_BYTES - 4..PREFIX_BYTES).and_then(|bytes| bytes.try_into().ok());
    number.is_some_and(|bytes| u32::from_be_bytes(bytes) & SIBLINGS != 0)
}

/// Bytes of a unit and a table.
const PLACE_BYTES: usize = 8;

/// `class u16, partition u16, table u32`.
fn place_bytes(unit: Unit, table: TableId) -> [u8; PLACE_BYTES] {
    let [_, place @ ..] = table_prefix(DATA, unit, table);
    place
}

/// `space, target u32, class, partition, table, key`.
pub(super) fn hint_key(target: NodeId, unit: Unit, table: TableId, key: &Key) -> Vec<u8> {
    let mut bytes = vec![HINT];
    bytes.extend_from_slice(&target.0.to_be_bytes());
    bytes.extend_from_slice(&place_bytes(unit, table));
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// The target and place of a hint's key, with no age; `None` when it is none.
pub(super) fn hint_place(key: &[u8]) -> Option<(NodeId, HintPlace)> {
    let rest = key.strip_prefix(&[HINT])?;
    let (target, rest) = rest.split_first_chunk::<4>()?;
    Some((NodeId(u32::from_be_bytes(*target)), place_of(WallTime(0), rest)?))
}

fn place_of(created: WallTime, rest: &[u8]) -> Option<HintPlace> {
    let (class, rest) = rest.split_first_chunk::<2>()?;
    let (partition, rest) = rest.split_first_chunk::<2>()?;
    let (table, rest) = rest.split_first_chunk::<4>()?;
    Some(HintPlace {
        created,
        unit: Unit {
            class: ClassId(u16::from_be_bytes(*class)),
            partition: Partition(u16::from_be_bytes(*partition)),
        },
        table: TableId(u32::from_be_bytes(*table)),
        key: Key::new(bytes::Bytes::copy_from_slice(rest)).ok()?,
    })
}

/// `space, target u32, class, partition, table, length of the key u16, key, dot`: the length, because
/// the key of one hint may begin with that of another.
pub(super) fn hint_value_key(target: NodeId, place: &HintPlace, dot: Dot) -> Vec<u8> {
    let key = place.key.as_bytes();
    let length = u16::try_from(key.len()).expect("a key is at most 4 KiB");
    let mut bytes = vec![HINT_VALUE];
    bytes.extend_from_slice(&target.0.to_be_bytes());
    bytes.extend_from_slice(&place_bytes(place.unit, place.table));
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&dot.to_bytes());
    bytes
}

/// `space, target u32`: before all of the index for one target.
pub(super) fn hint_age_prefix(target: NodeId) -> [u8; 5] {
    let [a, b, c, d] = target.0.to_be_bytes();
    [HINT_AGE, a, b, c, d]
}

/// `space, target u32, created u64, class, partition, table, key`.
pub(super) fn hint_age_key(target: NodeId, place: &HintPlace) -> Vec<u8> {
    let mut bytes = hint_age_prefix(target).to_vec();
    bytes.extend_from_slice(&place.created.0.to_be_bytes());
    bytes.extend_from_slice(&place_bytes(place.unit, place.table));
    bytes.extend_from_slice(place.key.as_bytes());
    bytes
}

/// The target and place of an entry of the index; `None` when it is none.
pub(super) fn hint_age_place(key: &[u8]) -> Option<(NodeId, HintPlace)> {
    let rest = key.strip_prefix(&[HINT_AGE])?;
    let (target, rest) = rest.split_first_chunk::<4>()?;
    let (created, rest) = rest.split_first_chunk::<8>()?;
    let place = place_of(WallTime(u64::from_be_bytes(*created)), rest)?;
    Some((NodeId(u32::from_be_bytes(*target)), place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::{Actor, Tick};
    use crate::types::Tenure;

    #[test]
    fn units_are_contiguous_and_in_order() {
        let unit =
            |class, partition| Unit { class: ClassId(class), partition: Partition(partition) };
        let key =
            |u, table, key: &str| data_key(u, TableId(table), &Key::new(key.to_owned()).unwrap());
        let ordered = [
            key(unit(0, 0), 1, "a"),
            key(unit(0, 0), 1, "b"),
            key(unit(0, 0), 2, "a"),
            key(unit(0, 1), 1, "a"),
            key(unit(0, 256), 1, "a"),
            key(unit(1, 0), 1, "a"),
        ];
        assert!(ordered.is_sorted());
        assert_eq!(ordered[4], [1, 0, 0, 1, 0, 0, 0, 0, 1, b'a']);
        assert!([META, DATA, OVERLAY, HINT, HINT_AGE, HINT_VALUE, META_COPY].is_sorted());
        assert_eq!(table_of(&ordered[2]), Some(TableId(2)));
        assert_eq!(table_of(&ordered[2][..8]), None);
        let actor = Actor { node: NodeId(1), tenure: Tenure(2) };
        let dot = Dot { actor, tick: Tick { time: WallTime(3), counter: 4 } };
        let a = Key::new("a".to_owned()).unwrap();
        let sibling = sibling_key(DATA, (unit(0, 0), TableId(2), &a), dot);
        assert!(ordered[2] < sibling && sibling < ordered[3]);
        assert_eq!(table_of(&sibling), Some(TableId(2)));
        assert_eq!(sibling.len(), PREFIX_BYTES + 1 + 24);
    }
}
