//! Keys of linearizable tables: compare-and-set, and what became of a write whose answer was lost.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;

use crate::message::Receipt;
use crate::types::{RequestId, Stamp, WallTime};
use crate::wire::proto::v1::{self, cas_request, session_request::op};

use super::call::Core;
use super::data::{
    Answered, Common, Data, Pending, Verdict, batch_options, checked_key, checked_value,
    common_options, whole_ms, write_options,
};
use super::{Error, convert};

/// Names a write, so that it can be asked after, or gone on with, from anywhere. As text it is
/// `ID-SINCE-LAST` in hexadecimal; the id alone is enough to ask, but then an old question is
/// answered `OUTCOME_FORGOTTEN` sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteId {
    /// Random; never 0.
    pub(super) id: RequestId,
    /// When it had not begun yet, by the servers' time; 0 when nobody knows.
    pub(super) since: WallTime,
    /// Where the window of its last attempt ended; 0 when nobody knows.
    pub(super) last: WallTime,
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{:x}-{:x}", self.id.0, self.since.0, self.last.0)
    }
}

impl FromStr for WriteId {
    type Err = String;

    fn from_str(text: &str) -> Result<WriteId, String> {
        let mut parts = text.split('-');
        let id = parts.next().filter(|id| id.len() == 32);
        let id = id.and_then(|id| u128::from_str_radix(id, 16).ok()).filter(|id| *id != 0);
        let id = id.ok_or("the id of a write has 32 hexadecimal digits, not all 0")?;
        let mut time = |what: &str| match parts.next() {
            None => Ok(WallTime(0)),
            Some(text) => u64::from_str_radix(text, 16)
                .map(WallTime)
                .map_err(|_| format!("{what} of a write is not hexadecimal")),
        };
        let (since, last) = (time("the beginning")?, time("the last window")?);
        match parts.next() {
            None => Ok(WriteId { id: RequestId(id), since, last }),
            Some(_) => Err("a write is ID-SINCE-LAST".to_owned()),
        }
    }
}

/// What a compare-and-set came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CasReply {
    /// Whether the key was as expected, and was changed. If not, this request never will change it.
    pub applied: bool,
    /// Of one that was not applied, what the key held; `None` when it held nothing.
    pub current: Option<FoundVersion>,
    /// What the answer rests on. Its stamp is that of the change, or of what was found.
    pub receipt: Receipt,
}

/// A value of a linearizable table, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundVersion {
    /// The value.
    pub value: Bytes,
    /// The change that made it.
    pub stamp: Stamp,
    /// When it expires; `None`: never.
    pub expires: Option<WallTime>,
}

/// A compare-and-set about to be sent: say what is expected, then `.await` it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct CasRequest {
    common: Common,
    key: Bytes,
    expect: cas_request::Expect,
    value: Option<Bytes>,
    ttl_ms: Option<u64>,
}

impl CasRequest {
    pub(crate) fn new(core: Arc<Core>, key: Bytes, value: Option<Bytes>) -> CasRequest {
        let (common, expect) = (Common::new(core), cas_request::Expect::Absent(true));
        CasRequest { common, key, expect, value, ttl_ms: None }
    }

    common_options!();
    write_options!();
    batch_options!();

    /// Expects no value: what is meant when nothing is said.
    pub fn expect_absent(mut self) -> Self {
        self.expect = cas_request::Expect::Absent(true);
        self
    }

    /// Expects exactly this value.
    pub fn expect(mut self, value: impl Into<Bytes>) -> Self {
        self.expect = cas_request::Expect::ValueIs(value.into());
        self
    }

    /// Expects the value that was written under this stamp, as a receipt showed it: also when the
    /// same value has been written again since, this one has not.
    pub fn expect_stamp(mut self, stamp: Stamp) -> Self {
        let bytes = Bytes::copy_from_slice(&stamp.to_bytes());
        self.expect = cas_request::Expect::StampIs(bytes);
        self
    }

    /// Sets how long the new value lives, as [`PutRequest::ttl`](super::PutRequest::ttl).
    pub fn ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl_ms = Some(whole_ms(ttl.into()));
        self
    }

    async fn run(self) -> Result<CasReply, Error> {
        let key = checked_key(self.key)?;
        let value = self.value.map(checked_value).transpose()?;
        let expect = match self.expect {
            cas_request::Expect::ValueIs(value) => {
                cas_request::Expect::ValueIs(checked_value(value)?)
            }
            other => other,
        };
        let (header, attempt, expect, ttl_ms) = (None, None, Some(expect), self.ttl_ms);
        let cas = v1::CasRequest { header, key, expect, value, ttl_ms, attempt };
        let body = op::Op::Cas(cas);
        let answered = Data { common: self.common, body }.run().await?;
        let Answered { receipt, verdict: Verdict::Compared { applied, current }, .. } = answered
        else {
            return Err(convert::malformed("an answer of another kind"));
        };
        let version = |current: v1::cas_response::Version| {
            let (stamp, expires) =
                (convert::stamp(&current.stamp)?, current.expires_ns.map(WallTime));
            Ok(FoundVersion { value: current.value, stamp, expires })
        };
        Ok(CasReply { applied, current: current.map(version).transpose()?, receipt })
    }
}

impl IntoFuture for CasRequest {
    type Output = Result<CasReply, Error>;
    type IntoFuture = Pending<CasReply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made, under this stamp. Others may have taken its place since.
    Applied(Stamp),
    /// It was not made, and never will be.
    Cancelled,
}

/// A question after a write, about to be sent: `.await` it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct OutcomeRequest {
    common: Common,
    key: Bytes,
    write: WriteId,
}

impl OutcomeRequest {
    pub(crate) fn new(core: Arc<Core>, key: Bytes, write: WriteId) -> OutcomeRequest {
        OutcomeRequest { common: Common::new(core), key, write }
    }

    common_options!();

    async fn run(self) -> Result<Outcome, Error> {
        let (header, key) = (None, checked_key(self.key)?);
        let WriteId { id, since, last } = self.write;
        let (since_ns, lower_ns) = (since.0, last.0);
        let request_id = convert::id_bytes(id.0);
        let ask = v1::GetOutcomeRequest { header, key, request_id, since_ns, lower_ns };
        let body = op::Op::GetOutcome(ask);
        match (Data { common: self.common, body }).run().await?.verdict {
            Verdict::Told(Some(stamp)) => Ok(Outcome::Applied(stamp)),
            Verdict::Told(None) => Ok(Outcome::Cancelled),
            _ => Err(convert::malformed("an answer of another kind")),
        }
    }
}

impl IntoFuture for OutcomeRequest {
    type Output = Result<Outcome, Error>;
    type IntoFuture = Pending<Outcome>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_write_survives_as_text() {
        let write = WriteId { id: RequestId(7), since: WallTime(0xabc), last: WallTime(0xdef) };
        let text = write.to_string();
        assert_eq!(text, "00000000000000000000000000000007-abc-def");
        assert_eq!(text.parse(), Ok(write));
        let bare: WriteId = "00000000000000000000000000000007".parse().unwrap();
        assert_eq!((bare.id, bare.since, bare.last), (write.id, WallTime(0), WallTime(0)));
        let zero = "0".repeat(32);
        for bad in ["", "7", &zero, "00000000000000000000000000000007-x", &format!("{text}-1")] {
            assert!(bad.parse::<WriteId>().is_err(), "{bad}");
        }
    }
}
