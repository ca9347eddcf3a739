//! The bytes of one version: flags, stamp, expiry if any, value. `docs/format/keyspace.md`.

use bytes::{Buf, Bytes};

use crate::types::{Record, Stamp, Value, WallTime};

const TOMBSTONE: u8 = 0b0000_0001;
const EXPIRES: u8 = 0b0000_0010;
/// The kind of record: 0 is a last-writer-wins register; sets of siblings and acceptors have
/// others.
const KIND_MASK: u8 = 0b1111_0000;

/// Encodes a version.
pub(super) fn encode(record: &Record) -> Vec<u8> {
    let value = record.value.as_ref().map_or(&[][..], Value::as_bytes);
    let mut bytes = Vec::with_capacity(1 + Stamp::BYTES + 8 + value.len());
    let tombstone = if record.value.is_none() { TOMBSTONE } else { 0 };
    let expires = if record.expiry.is_some() { EXPIRES } else { 0 };
    bytes.push(tombstone | expires);
    bytes.extend_from_slice(&record.stamp.to_bytes());
    if let Some(expiry) = record.expiry {
        bytes.extend_from_slice(&expiry.0.to_be_bytes());
    }
    bytes.extend_from_slice(value);
    bytes
}

/// Decodes a version; its value shares the bytes given. `None` when they are not one.
pub(super) fn decode(mut bytes: Bytes) -> Option<Record> {
    let (flags, stamp, expiry) = decode_head(&bytes)?;
    bytes.advance(1 + Stamp::BYTES + if expiry.is_some() { 8 } else { 0 });
    let value = match flags & TOMBSTONE {
        0 => Some(Value::new(bytes).ok()?),
        _ if bytes.is_empty() => None,
        _ => return None,
    };
    Some(Record { stamp, expiry, value })
}

/// Decodes a version of which perhaps only the first bytes are given; an empty value stands for its own.
/// `None` when they are not one's.
pub(super) fn sketch(bytes: &[u8]) -> Option<Record> {
    let (flags, stamp, expiry) = decode_head(bytes)?;
    let value = (flags & TOMBSTONE == 0).then(|| Value::new(Bytes::new()).ok());
    Some(Record { stamp, expiry, value: value.flatten() })
}

fn decode_head(bytes: &[u8]) -> Option<(u8, Stamp, Option<WallTime>)> {
    let (&flags, rest) = bytes.split_first()?;
    if flags & KIND_MASK != 0 || flags & !(TOMBSTONE | EXPIRES) != 0 {
        return None;
    }
    let (stamp, rest) = rest.split_first_chunk::<{ Stamp::BYTES }>()?;
    let expiry = if flags & EXPIRES == 0 {
        None
    } else {
        Some(WallTime(u64::from_be_bytes(*rest.first_chunk::<8>()?)))
    };
    Some((flags, Stamp::from_bytes(*stamp), expiry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_of_a_version_stay_what_they_are() {
        let stamp = Stamp { time: WallTime(1), counter: 2, node: NodeId(3) };
        let record = Record { stamp, expiry: None, value: Some(Value::new("v").unwrap()) };
        let expected = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, b'v'];
        assert_eq!(encode(&record), expected);
        let gone = Record { value: None, expiry: Some(WallTime(9)), ..record };
        assert_eq!(encode(&gone).len(), 25);
        assert_eq!(encode(&gone)[0], 3);
    }

    proptest! {
        #[test]
        fn versions_read_back(
            stamp: [u8; 16], expiry: Option<u64>, value: Option<Vec<u8>>,
        ) {
            let record = Record {
                stamp: Stamp::from_bytes(stamp),
                expiry: expiry.map(WallTime),
                value: value.map(|value| Value::new(value).unwrap()),
            };
            prop_assert_eq!(decode(encode(&record).into()), Some(record));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(bytes.into());
        }
    }
}
