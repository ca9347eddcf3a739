//! Where a watch stood, as its client keeps it.
//!
//! | part | bytes |
//! |---|---|
//! | version, 1 | 1 |
//! | cluster | 16 |
//! | table | 4 |
//! | epoch | 8 |
//! | 1: a gap was open | 1 |
//! | number of owners | 2 |
//! | of each: member, boot, number of the next change, 1: it counted | 4, 8, 8, 1 |
//! | xxh3 of all before | 8 |
//!
//! All numbers big-endian.

use bytes::{Buf, BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64;

use crate::message::WatchPlace;
use crate::types::{ClusterId, Epoch, NodeId, TableId, limits};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 32;
const OWNER_BYTES: usize = 21;
const SUM_BYTES: usize = 8;

/// An owner that was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// Who.
    pub member: NodeId,
    /// Up to where its changes have been told.
    pub place: WatchPlace,
    /// It counted among those that are enough.
    pub sound: bool,
}

/// Where a watch stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Of which table.
    pub table: TableId,
    /// The epoch whose owners were followed.
    pub epoch: Epoch,
    /// A gap was open.
    pub open_gap: bool,
    /// Whom it followed.
    pub owners: Vec<TokenOwner>,
}

/// Why bytes are no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// They are not one, or have been changed.
    #[error("it is not a token of a watch, or was cut off")]
    Malformed,
    /// It is of another cluster.
    #[error("it is of another cluster")]
    Cluster,
    /// It is of another table.
    #[error("it is of another table")]
    Table,
}

impl Token {
    /// As it is given away.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEAD_BYTES + OWNER_BYTES * self.owners.len() + SUM_BYTES);
        out.put_u8(VERSION);
        out.put_u128(self.cluster.0);
        out.put_u32(self.table.0);
        out.put_u64(self.epoch.0);
        out.put_u8(self.open_gap.into());
        out.put_u16(u16::try_from(self.owners.len()).unwrap_or(u16::MAX));
        for TokenOwner { member, place, sound } in &self.owners {
            out.put_u32(member.0);
            out.put_u64(place.boot);
            out.put_u64(place.seq);
            out.put_u8((*sound).into());
        }
        let sum = xxh3_64(&out);
        out.put_u64(sum);
        out.into()
    }

    /// The inverse, of a token for this table of this cluster.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn decode(bytes: &[u8], cluster: ClusterId, table: TableId) -> Result<Token, Foreign> {
        let split = bytes.len().checked_sub(SUM_BYTES).filter(|split| *split >= HEAD_BYTES);
        let (mut body, mut sum) = bytes.split_at(split.ok_or(Foreign::Malformed)?);
        let is_ours = xxh3_64(body) == sum.get_u64() && body.get_u8() == VERSION;
        if !is_ours {
            return Err(Foreign::Malformed);
        }
        let found = ClusterId(body.get_u128());
        let token = Token {
            cluster: found,
            table: TableId(body.get_u32()),
            epoch: Epoch(body.get_u64()),
            open_gap: body.get_u8() != 0,
            owners: Vec::new(),
        };
        let count = usize::from(body.get_u16());
        if count > limits::MEMBERS_MAX || body.len() != count * OWNER_BYTES {
            return Err(Foreign::Malformed);
        }
        if token.cluster != cluster {
            return Err(Foreign::Cluster);
        }
        if token.table != table {
            return Err(Foreign::Table);
        }
        let owner = |_| TokenOwner {
            member: NodeId(body.get_u32()),
            place: WatchPlace { boot: body.get_u64(), seq: body.get_u64() },
            sound: body.get_u8() != 0,
        };
        Ok(Token { owners: (0..count).map(owner).collect(), ..token })
    }
}
