//! Read, change, write: the loop that everybody would write who counts, appends or merges, with what
//! each kind of table needs for that not to lose what others write meanwhile.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;

use crate::message::{Applied, Receipt};
use crate::types::{Stamp, TableKind, Time};

use super::call::Core;
use super::register::{CasReply, CasRequest};
use super::{Client, Error, ErrorKind, Outcome, WriteId};

/// Kinds of tables that a client remembers; when there are more it begins anew.
const KINDS_MAX: usize = 1024;
/// The pause after the first round that another writer has spoilt; doubled for each one after, and
/// drawn from its whole length.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Rounds that may fail, changing nothing, before the update does: each has been tried again already.
const FAILURES_MAX: u32 = 8;

/// What is to become of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It gets this value.
    Put(Bytes),
    /// It goes.
    Delete,
    /// It stays as it is.
    Keep,
}

macro_rules! change_from {
    ($($value:ty),*) => {$(
        impl From<$value> for Change {
            fn from(value: $value) -> Change {
                Change::Put(value.into())
            }
        }
    )*};
}
change_from!(Bytes, Vec<u8>, String, &'static [u8], &'static str);

/// What an update came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Updated {
    /// What the key holds by it; `None` when it holds nothing.
    pub value: Option<Bytes>,
    /// The version: of the change, or of what was kept.
    pub stamp: Stamp,
    /// How often the key was read and the change computed; more than once when others wrote meanwhile.
    pub rounds: u32,
    /// Of a causal table, how many siblings the key has now: above one, others wrote at the same time
    /// and the next update gets all of them.
    pub siblings: u32,
}

/// An update about to be made: `run` it.
#[derive(Debug)]
#[must_use = "nothing happens before it is run"]
pub struct UpdateRequest {
    client: Client,
    key: Bytes,
    table: String,
    timeout: Option<Duration>,
}

impl UpdateRequest {
    pub(crate) fn new(client: Client, key: Bytes) -> UpdateRequest {
        UpdateRequest { client, key, table: "default".to_owned(), timeout: None }
    }

    /// Sets the table; `default` when left out. One that is `lww` is refused: a put there cannot tell
    /// what it takes the place of.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// Sets how long it may take over all its rounds; the client's default when left out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Reads the key, hands its values to `change`, and writes what that returns.
    ///
    /// - In a *linearizable* table there is one value or none. When another writer was faster, `change` is
    ///   asked again with what is there now, so it may run often and takes effect once: a count is exact. A
    ///   write whose answer is lost is settled before the next round.
    /// - In a *causal* table there are as many values as were written at the same time; what is returned
    ///   takes the place of exactly these. `change` has to merge them and runs once; a count that is
    ///   kept in such a value is as exact as that merge.
    ///
    /// # Errors
    /// Those of reads and writes of the key. [`Error::applied`] says whether the change was made, also when
    /// the time was over between rounds: then it was not.
    pub async fn run(self, mut change: impl FnMut(&[Bytes]) -> Change) -> Result<Updated, Error> {
        let core = Arc::clone(&self.client.core);
        let deadline = core.clock.now().plus(self.timeout.unwrap_or(core.timeout));
        match self.kind(&core, deadline).await? {
            TableKind::Causal => self.merge(&core, deadline, &mut change).await,
            // A compare-and-set of any other table is refused by the servers, who know why.
            TableKind::Lww | TableKind::Linearizable => {
                self.compare(&core, deadline, &mut change).await
            }
        }
    }

    async fn kind(&self, core: &Core, deadline: Time) -> Result<TableKind, Error> {
        if let Some(kind) = core.kinds.lock().get(&self.table).copied() {
            return Ok(kind);
        }
        let table = self.client.tables().describe(&self.table).timeout(left(core, deadline)?);
        let kind = table.await?.kind;
        let mut kinds = core.kinds.lock();
        if kinds.len() >= KINDS_MAX {
            kinds.clear();
        }
        kinds.insert(self.table.clone(), kind);
        Ok(kind)
    }

    /// What is known of the table was not so, or is so no more: the next update asks again.
    fn forget(&self, core: &Core) {
        core.kinds.lock().remove(&self.table);
    }

    async fn merge(
        &self,
        core: &Core,
        deadline: Time,
        change: &mut impl FnMut(&[Bytes]) -> Change,
    ) -> Result<Updated, Error> {
        let read = self.client.get(self.key.clone()).table(&self.table);
        let seen = read.timeout(left(core, deadline)?).siblings().await?;
        let values: Vec<Bytes> = seen.values.iter().map(|sibling| sibling.value.clone()).collect();
        let time = left(core, deadline)?;
        let written = match change(&values) {
            Change::Keep => {
                let (value, stamp) = (values.first().cloned(), seen.receipt.stamp);
                return Ok(Updated { value, stamp, rounds: 1, siblings: seen.count });
            }
            Change::Put(value) => {
                let put = self.client.put(self.key.clone(), value.clone()).table(&self.table);
                let put = put.context(&seen.context).timeout(time);
                put.returning_context().await.map(|written| (Some(value), written))
            }
            Change::Delete => {
                let delete = self.client.delete(self.key.clone()).table(&self.table);
                let delete = delete.context(&seen.context).timeout(time);
                delete.returning_context().await.map(|written| (None, written))
            }
        };
        let (value, written) = written.inspect_err(|error| self.unless_busy(core, error))?;
        Ok(Updated { value, stamp: written.receipt.stamp, rounds: 1, siblings: written.siblings })
    }

    async fn compare(
        &self,
        core: &Core,
        deadline: Time,
        change: &mut impl FnMut(&[Bytes]) -> Change,
    ) -> Result<Updated, Error> {
        let read = self.client.get(self.key.clone()).table(&self.table);
        let read = read.timeout(left(core, deadline)?).await?;
        let mut current = read.value.map(|value| (value, read.receipt.stamp));
        let mut stamp = read.receipt.stamp;
        let mut failures = 0;
        for rounds in 1_u32.. {
            let value = current.as_ref().map(|(value, _)| value.clone());
            let wanted = match change(value.as_slice()) {
                Change::Keep => return Ok(Updated { value, stamp, rounds, siblings: 0 }),
                Change::Delete if value.is_none() => {
                    return Ok(Updated { value, stamp, rounds, siblings: 0 });
                }
                Change::Put(wanted) => Some(wanted),
                Change::Delete => None,
            };
            let expected = current.as_ref().map(|(_, stamp)| *stamp);
            match self.try_once(core, deadline, (expected, wanted.clone())).await {
                // Nothing was changed, and nobody may be asked for long: another round is a new write.
                Err(error) if may_go_on(&error) && failures < FAILURES_MAX => failures += 1,
                Err(error) => return Err(error),
                Ok(Tried::Made(stamp)) => {
                    return Ok(Updated { value: wanted, stamp, rounds, siblings: 0 });
                }
                Ok(Tried::Found(found, receipt)) => {
                    stamp = receipt.stamp;
                    current = found;
                }
            }
            pause(core, deadline, rounds).await;
        }
        unreachable!("rounds end with the time, long before their number does")
    }

    /// One compare-and-set, and what became of it, for good.
    async fn try_once(
        &self,
        core: &Core,
        deadline: Time,
        (expected, wanted): (Option<Stamp>, Option<Bytes>),
    ) -> Result<Tried, Error> {
        let cas = match wanted {
            Some(value) => self.client.cas(self.key.clone(), value),
            None => self.client.cas_delete(self.key.clone()),
        };
        let cas = cas.table(&self.table).timeout(left(core, deadline)?);
        let cas: CasRequest = match expected {
            Some(stamp) => cas.expect_stamp(stamp),
            None => cas.expect_absent(),
        };
        match cas.await {
            Ok(CasReply { applied: true, receipt, .. }) => Ok(Tried::Made(receipt.stamp)),
            Ok(CasReply { current, receipt, .. }) => {
                let found = current.map(|found| (found.value, found.stamp));
                Ok(Tried::Found(found, receipt))
            }
            Err(error) => match (error.applied(), error.write().copied()) {
                (Applied::Unknown, Some(write)) => {
                    self.settle(core, deadline, (write, error)).await
                }
                _ => {
                    self.unless_busy(core, &error);
                    Err(error)
                }
            },
        }
    }

    /// Finds out what became of a write whose answer was lost; one that was not made never will be.
    async fn settle(
        &self,
        core: &Core,
        deadline: Time,
        (write, error): (WriteId, Error),
    ) -> Result<Tried, Error> {
        // Whoever cannot be told in time is told what is known: that it may have been made.
        let Ok(time) = left(core, deadline) else { return Err(error) };
        let asked = self.client.outcome(self.key.clone(), &write).table(&self.table).timeout(time);
        match asked.await {
            Ok(Outcome::Applied(stamp)) => Ok(Tried::Made(stamp)),
            Err(_) => Err(error),
            Ok(Outcome::Cancelled) => {
                let read = self.client.get(self.key.clone()).table(&self.table);
                let read = read.timeout(left(core, deadline)?).await?;
                let found = read.value.map(|value| (value, read.receipt.stamp));
                Ok(Tried::Found(found, read.receipt))
            }
        }
    }

    /// A table may have been dropped and made anew, of another kind.
    fn unless_busy(&self, core: &Core, error: &Error) {
        if error.kind() == ErrorKind::InvalidArgument {
            self.forget(core);
        }
    }
}

/// What one compare-and-set came to.
enum Tried {
    Made(Stamp),
    Found(Option<(Bytes, Stamp)>, Receipt),
}

fn may_go_on(error: &Error) -> bool {
    error.is_retryable() && error.applied() == Applied::No
}

fn left(core: &Core, deadline: Time) -> Result<Duration, Error> {
    let left = deadline.since(core.clock.now());
    if left.is_zero() { Err(Error::deadline()) } else { Ok(left) }
}

/// Writers that meet again and again make room for each other.
async fn pause(core: &Core, deadline: Time, rounds: u32) {
    let longest = PAUSE_MIN.saturating_mul(1 << rounds.min(10).saturating_sub(1)).min(PAUSE_MAX);
    let micros = usize::try_from(longest.as_micros()).unwrap_or(usize::MAX);
    let drawn = u64::try_from(core.entropy.below(micros)).unwrap_or(0);
    let pause = Duration::from_micros(drawn).min(deadline.since(core.clock.now()));
    tokio::time::sleep(pause).await;
}
