//! Where things stand in the engine: the space, then what orders it. `docs/format/keyspace.md`.
//!
//! A unit is one contiguous range of keys, so that later a whole unit can be dropped, copied or
//! taken in as files.

use crate::types::{Key, TableId, Unit};

/// Records of the node itself.
pub(super) const META: u8 = 0x00;
/// Versions of users' keys.
pub(super) const DATA: u8 = 0x01;
/// Reserved: versions that arrive for a unit while it is being filled, laid out like [`DATA`].
#[cfg(test)]
pub(super) const OVERLAY: u8 = 0x02;

/// Bytes before the user's key.
pub(super) const PREFIX_BYTES: usize = 9;

/// `space, class u16, partition u16, table u32`, big-endian: byte order is unit order.
pub(super) fn table_prefix(space: u8, unit: Unit, table: TableId) -> [u8; PREFIX_BYTES] {
    let [c0, c1] = unit.class.0.to_be_bytes();
    let [p0, p1] = unit.partition.0.to_be_bytes();
    let [t0, t1, t2, t3] = table.0.to_be_bytes();
    [space, c0, c1, p0, p1, t0, t1, t2, t3]
}

/// The engine's key of a user's key.
pub(super) fn data_key(unit: Unit, table: TableId, key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + key.as_bytes().len());
    bytes.extend_from_slice(&table_prefix(DATA, unit, table));
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// The table of an engine's key in [`DATA`]; `None` when it is too short to be one.
pub(super) fn table_of(key: &[u8]) -> Option<TableId> {
    let number = key.get(PREFIX_BYTES - 4..PREFIX_BYTES)?;
    Some(TableId(u32::from_be_bytes(number.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClassId, Partition};

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
        assert!([META, DATA, OVERLAY].is_sorted());
        assert_eq!(table_of(&ordered[2]), Some(TableId(2)));
        assert_eq!(table_of(&ordered[2][..8]), None);
    }
}
