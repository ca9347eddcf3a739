//! The 16-byte stamp that orders all versions of a key, on every replica, for ever: a hybrid
//! logical clock reading (Kulkarni et al., "Logical Physical Clocks", 2014) and the member that
//! read it. The clock itself is in `coordinator::clock`.

use core::fmt;
use serde::{Deserialize, Serialize};

use super::{NodeId, RequestId, WallTime};

/// A version's place in the total order: time, then counter, then member.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Nanoseconds since the Unix epoch, by the stamping member's hybrid clock.
    pub time: WallTime,
    /// Tells apart stamps of one nanosecond on one member.
    pub counter: u32,
    /// The member that gave it.
    pub node: NodeId,
}

impl Stamp {
    /// Bytes of the encoding.
    pub const BYTES: usize = 16;
    /// Below every stamp that is ever given.
    pub const ZERO: Stamp = Stamp { time: WallTime(0), counter: 0, node: NodeId(0) };

    /// Who stands in the place of the member when a client has given the time: no member has this
    /// number, so that no stamp of a node is ever given twice.
    pub const CLIENT: NodeId = NodeId(u32::MAX);

    /// The stamp of a write whose time its client has given. Attempts of one write have one stamp;
    /// two writes of the same nanosecond share one only if their ids agree in 32 bits, and then their
    /// contents order them.
    pub fn of_client(time: WallTime, id: RequestId) -> Stamp {
        let folded = [0, 32, 64, 96].into_iter().fold(0, |folded, shift| {
            let part = id.0 >> shift & u128::from(u32::MAX);
            folded ^ u32::try_from(part).expect("32 bits")
        });
        Stamp { time, counter: folded, node: Stamp::CLIENT }
    }

    /// Whether a client has given the time.
    pub fn is_of_client(self) -> bool {
        self.node == Stamp::CLIENT
    }

    /// Big-endian time, counter, node: byte order is stamp order.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let bits = (u128::from(self.time.0) << 64)
            | (u128::from(self.counter) << 32)
            | u128::from(self.node.0);
        bits.to_be_bytes()
    }

    /// The inverse of [`Stamp::to_bytes`]; every 16 bytes are a stamp.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Stamp {
        let [t0, t1, t2, t3, t4, t5, t6, t7, c0, c1, c2, c3, n0, n1, n2, n3] = bytes;
        Stamp {
            time: WallTime(u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7])),
            counter: u32::from_be_bytes([c0, c1, c2, c3]),
            node: NodeId(u32::from_be_bytes([n0, n1, n2, n3])),
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.time.0, self.counter, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn byte_order_is_stamp_order(a: [u8; 16], b: [u8; 16]) {
            let (x, y) = (Stamp::from_bytes(a), Stamp::from_bytes(b));
            prop_assert_eq!(x.to_bytes(), a);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }
    }
}
