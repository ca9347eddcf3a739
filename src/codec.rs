//! The only place that knows bincode: the encoding of records that only this program reads back,
//! on the node that wrote them. One version byte, then the record; never on the wire, never in
//! users' values. Checksums are the engine's business. The crate is pinned and confined here so
//! that another one can take its place (ADR index, "bincode").

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version byte this build writes.
const VERSION: u8 = 1;
/// Largest record, in bytes: bounds what a damaged length can make us allocate.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The version byte is another build's.
    #[error("record has version {0}, this build reads {VERSION}")]
    Version(u8),
    /// The bytes do not decode.
    #[error("record does not decode: {0}")]
    Malformed(String),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<RECORD_BYTES_MAX>()
}

/// Encodes a record.
///
/// # Errors
/// `Malformed` when it is over 16 MiB.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION];
    bincode::serde::encode_into_std_write(record, &mut bytes, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    Ok(bytes)
}

/// Decodes a record; every byte must belong to it.
///
/// # Errors
/// See [`CodecError`]. Never panics, never allocates more than the bytes can hold.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&version, rest) =
        bytes.split_first().ok_or_else(|| CodecError::Malformed("empty".to_owned()))?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let (record, used) = bincode::serde::decode_from_slice(rest, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used != rest.len() {
        return Err(CodecError::Malformed(format!("{} bytes left over", rest.len() - used)));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, NodeId, Stamp, WallTime};
    use proptest::prelude::*;

    #[test]
    fn the_bytes_of_a_record_stay_what_they_are() {
        let stamp = Stamp { time: WallTime(250), counter: 2, node: NodeId(3) };
        let bytes = [1, 250, 2, 3];
        assert_eq!(encode(&stamp).unwrap(), bytes);
        assert_eq!(decode::<Stamp>(&bytes), Ok(stamp));
        assert_eq!(encode(&Some(Epoch(300))).unwrap(), [1, 1, 251, 44, 1]);
    }

    #[test]
    fn bytes_of_another_version_or_left_over_are_said_so() {
        assert_eq!(decode::<NodeId>(&[2, 7]), Err(CodecError::Version(2)));
        let left = decode::<NodeId>(&[1, 7, 7]).unwrap_err();
        assert_eq!(left.to_string(), "record does not decode: 1 bytes left over");
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_error_and_never_a_panic(bytes: Vec<u8>) {
            let _ = decode::<Vec<(String, Option<Stamp>)>>(&bytes);
            let mut versioned = vec![VERSION];
            versioned.extend(bytes);
            let _ = decode::<Vec<(String, Option<Stamp>)>>(&versioned);
        }
    }
}
