//! One operation of the generator: asks the client library, and looks at what comes back.

use std::pin::pin;

use bytes::Bytes;
use tokio_stream::StreamExt;

use crate::client::{Client, Context, Error, Receipt};
use crate::types::{Key, Stamp, Value};

use super::generator::Plan;
use super::mix::Kind;
use super::payload;

/// What came back.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// What a read found.
    pub(super) value: Option<Bytes>,
    pub(super) stamp: Stamp,
    pub(super) weak: bool,
    /// A read, or the read of a modification, found nothing.
    pub(super) is_absent: bool,
    /// Entries of a scan.
    pub(super) entries: u64,
    /// Something that was read is not what was written.
    pub(super) is_wrong: bool,
}

impl Answer {
    fn of(receipt: &Receipt) -> Answer {
        Answer { stamp: receipt.stamp, weak: receipt.weak, ..Answer::default() }
    }
}

/// What to ask for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) kind: Kind,
    pub(super) key: Key,
    /// What kinds that write do write.
    pub(super) value: Option<Value>,
    /// How many entries a scan wants.
    pub(super) limit: u64,
}

/// Asks.
pub(super) async fn ask(client: &Client, plan: &Plan, what: Question) -> Result<Answer, Error> {
    match what.kind {
        Kind::Get => Ok(get(client, plan, &what.key).await?.0),
        Kind::Put | Kind::Insert => put(client, plan, what, &Context::default()).await,
        Kind::Delete => {
            let delete = client.delete(what.key.bytes().clone()).table(&plan.table);
            let receipt = if let Some(w) = plan.w { delete.w(w).await? } else { delete.await? };
            Ok(Answer::of(&receipt))
        }
        Kind::Scan => scan(client, plan, &what).await,
        Kind::Increment => {
            let add = client.increment(counter(&what.key), 1).table(&plan.table);
            let made = if let Some(w) = plan.w { add.w(w).await? } else { add.await? };
            // A counter that is only added to; another run may have made it.
            let is_wrong = plan.verify && made.value.is_some_and(|sum| sum < 1);
            Ok(Answer { is_wrong, ..Answer::of(&made.receipt) })
        }
        Kind::Modify => {
            let (found, context) = get(client, plan, &what.key).await?;
            let written = put(client, plan, what, &context).await?;
            Ok(Answer { is_wrong: found.is_wrong, is_absent: found.is_absent, ..written })
        }
    }
}

/// The counter of a key. Its name begins otherwise: reads and scans of values never meet it.
fn counter(key: &Key) -> Bytes {
    let mut name = b"+".to_vec();
    name.extend_from_slice(key.as_bytes());
    name.into()
}

async fn get(client: &Client, plan: &Plan, key: &Key) -> Result<(Answer, Context), Error> {
    let get = client.get(key.bytes().clone()).table(&plan.table);
    let reply = if let Some(r) = plan.r { get.r(r).await? } else { get.await? };
    let is_absent = reply.value.is_none();
    let is_wrong = plan.verify
        && reply.value.as_ref().is_some_and(|value| !payload::is_of(key.bytes(), value));
    let answer = Answer { value: reply.value, is_absent, is_wrong, ..Answer::of(&reply.receipt) };
    Ok((answer, reply.context))
}

async fn put(
    client: &Client,
    plan: &Plan,
    what: Question,
    seen: &Context,
) -> Result<Answer, Error> {
    let value = what.value.map(Value::into_bytes).unwrap_or_default();
    let mut put = client.put(what.key.bytes().clone(), value).table(&plan.table);
    if !seen.is_empty() {
        put = put.context(seen);
    }
    let receipt = if let Some(w) = plan.w { put.w(w).await? } else { put.await? };
    Ok(Answer::of(&receipt))
}

async fn scan(client: &Client, plan: &Plan, what: &Question) -> Result<Answer, Error> {
    let page_size = u32::try_from(what.limit).unwrap_or(u32::MAX);
    let scan = client.scan().table(&plan.table).prefix(plan.keys.prefix().to_owned());
    let scan = scan.from(what.key.bytes().clone()).limit(what.limit).page_size(page_size);
    let scan = if let Some(r) = plan.r { scan.r(r) } else { scan };
    let mut pages = pin!(scan.pages());
    let mut answer = Answer::default();
    while let Some(page) = pages.next().await {
        for entry in page?.entries {
            answer.entries += 1;
            let is_shown = plan.verify && !entry.value_left_out;
            answer.is_wrong |= is_shown && !payload::is_of(&entry.key, &entry.value);
            answer.is_wrong |= entry.key < *what.key.bytes();
        }
    }
    answer.is_wrong |= answer.entries > what.limit;
    Ok(answer)
}
