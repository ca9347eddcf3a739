//! Keys of causal tables: reads that return all siblings, and the contexts that tie a write to what
//! was read before it.

use std::future::IntoFuture;

use bytes::Bytes;

use crate::message::Receipt;
use crate::types::{Stamp, WallTime};
use crate::wire::proto::v1;

use super::data::{Answered, GetRequest, Pending, Trace};
use super::write::{DeleteRequest, PutRequest};
use super::{Error, convert};

/// What a read or write of a key of a causal table has seen. Opaque: pass it on to the next put or
/// delete of the same key, also from another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(Bytes);

impl Context {
    /// The bytes, to be kept or sent elsewhere.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has seen nothing, as in tables of other kinds.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl From<Bytes> for Context {
    /// Takes bytes that [`Context::as_bytes`] gave; whether they are whole is checked by the server.
    fn from(bytes: Bytes) -> Context {
        Context(bytes)
    }
}

/// One of the values of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sibling {
    /// The value.
    pub value: Bytes,
    /// When it was written, by its coordinator's clock.
    pub stamp: Stamp,
    /// When it expires; `None`: never.
    pub expires: Option<WallTime>,
    /// It is a counter: the value is its sum, in decimal.
    pub is_counter: bool,
}

/// All values of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Siblings {
    /// The values, oldest first; none when there is no such key.
    pub values: Vec<Sibling>,
    /// How many there are. More than `values` when they are too large for one answer: a write with
    /// this context takes the place of those that are here, and the next read returns the others.
    pub count: u32,
    /// What has been seen: a write with it takes the place of all `values`.
    pub context: Context,
    /// What the answer rests on.
    pub receipt: Receipt,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// What it rests on.
    pub receipt: Receipt,
    /// What its writer has now seen, the write included: for its next write of the same key.
    pub context: Context,
    /// How many siblings the key has now: more than one when others have written at the same time.
    pub siblings: u32,
    /// Its waterfall, when that was asked for ([`PutRequest::waterfall`]).
    pub trace: Option<Box<Trace>>,
}

/// A read of all siblings, about to be sent: `.await` it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct SiblingsRequest(pub(super) GetRequest);

impl IntoFuture for SiblingsRequest {
    type Output = Result<Siblings, Error>;
    type IntoFuture = Pending<Siblings>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { siblings(self.0.run().await?) })
    }
}

/// A write whose context is wanted, about to be sent: `.await` it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct WrittenRequest(pub(super) Write);

/// The write of a [`WrittenRequest`].
#[derive(Clone, Debug)]
pub(super) enum Write {
    Put(PutRequest),
    Delete(DeleteRequest),
}

impl IntoFuture for WrittenRequest {
    type Output = Result<Written, Error>;
    type IntoFuture = Pending<Written>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answered = match self.0 {
                Write::Put(put) => put.run().await?,
                Write::Delete(delete) => delete.run().await?,
            };
            let Answered { receipt, context, count, trace, .. } = answered;
            Ok(Written { receipt, context: Context(context), siblings: count, trace })
        })
    }
}

fn siblings(answered: Answered) -> Result<Siblings, Error> {
    let Answered { value, expires, siblings, count, context, receipt, .. } = answered;
    let one = |sibling: v1::Sibling| {
        let stamp = convert::stamp(&sibling.stamp)?;
        let (value, is_counter) = (sibling.value, sibling.counter);
        let expires = sibling.expires_ns.map(WallTime);
        Ok(Sibling { value, stamp, expires, is_counter })
    };
    let values: Vec<Sibling> = match value {
        // A table of another kind: one value or none.
        Some(value) if context.is_empty() => {
            vec![Sibling { value, stamp: receipt.stamp, expires, is_counter: false }]
        }
        _ => siblings.into_iter().map(one).collect::<Result<_, Error>>()?,
    };
    let count = count.max(u32::try_from(values.len()).unwrap_or(u32::MAX));
    Ok(Siblings { values, count, context: Context(context), receipt })
}
