//! Atomic batches: writes that are made together or not at all, as far as their keys are of one partition. A
//! request carries all writes of one table; what was made of it is not sent again.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::message::{Applied, ErrorCode, Receipt, check_batch_size};
use crate::types::{Quorum, Time};
use crate::wire::proto::v1::{
    BatchRequest as Request, BatchResponse, batch_request::Item,
    batch_response::outcome::Outcome as Told, session_request::op, session_response::answer,
};

use super::batch::{BatchItem, BatchReply};
use super::call::{Core, Operation, Try};
use super::data::{Common, Data};
use super::endpoint::Endpoint;
use super::pool::Place;
use super::status_error::from_detail;
use super::{Error, convert};

/// What writes of one request have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Together {
    pub(super) table: String,
    pub(super) w: Option<Quorum>,
}

/// A write has an option that one of an atomic batch cannot have.
pub(super) fn not_plain() -> Error {
    let text =
        "a write of an atomic batch has a table, a w and a time to live, and no other option";
    Error::new(ErrorCode::RequestMalformed, text)
}

fn not_write() -> Error {
    let text = "an atomic batch has puts and deletes only";
    Error::new(ErrorCode::RequestMalformed, text)
}

/// What came of an item.
type Outcome = Result<BatchReply, Error>;

/// Carries out a batch. When one of its items cannot be part of it, or there are too many, nothing is sent.
pub(super) async fn run(core: Arc<Core>, items: Vec<BatchItem>, until: Time) -> Vec<Outcome> {
    let count = items.len();
    let requests = match requests(items) {
        Ok(requests) => requests,
        Err((at, error)) => {
            let other = || {
                let text = format!("nothing of the batch was sent: items[{at}]: {error}");
                Error::new(ErrorCode::RequestMalformed, text)
            };
            let of = |place| if place == at { error.clone() } else { other() };
            return (0..count).map(|place| Err(of(place))).collect();
        }
    };
    let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
    let mut running = tokio::task::JoinSet::new();
    for (about, items) in requests {
        running.spawn(one(core.clone(), about, items, until));
    }
    while let Some(ended) = running.join_next().await {
        // Nobody aborts them: one that did not end well has a defect to show.
        let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        outcomes.extend(ended);
    }
    outcomes.into_values().collect()
}

type Places = Vec<(usize, Item)>;

/// The items by what they have in common; or which of them keeps the batch from being sent, and why.
fn requests(items: Vec<BatchItem>) -> Result<Vec<(Together, Places)>, (usize, Error)> {
    let mut requests: Vec<(Together, Places)> = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let item = match item {
            BatchItem::Put(put) => put.together(),
            BatchItem::Delete(delete) => delete.together(),
            BatchItem::Get(_) | BatchItem::Cas(_) | BatchItem::Increment(_) => Err(not_write()),
        };
        let (about, item) = item.map_err(|error| (at, error))?;
        match requests.iter_mut().find(|(other, _)| *other == about) {
            Some((_, places)) => places.push((at, item)),
            None => requests.push((about, vec![(at, item)])),
        }
    }
    for (_, places) in &requests {
        let size =
            |(_, item): &(usize, Item)| item.key.len() + item.value.as_ref().map_or(0, Bytes::len);
        check_batch_size(places.iter().map(size)).map_err(|error| {
            let first = places.first().map_or(0, |(at, _)| *at);
            let facts = error.facts;
            (first, Error::new(error.code, error.message).with_facts(facts))
        })?;
    }
    Ok(requests)
}

/// Sends the writes of one table, until each has an outcome.
async fn one(
    core: Arc<Core>,
    Together { table, w }: Together,
    places: Places,
    until: Time,
) -> Vec<(usize, Outcome)> {
    let mut common = Common::new(core.clone());
    common.table = table;
    let is_delete = |(_, item): &(usize, Item)| item.value.is_none();
    let kinds: Vec<(usize, bool)> =
        places.iter().map(|place| (place.0, is_delete(place))).collect();
    let first = places.first().map(|(_, item)| item.key.clone()).unwrap_or_default();
    let slots = places.into_iter().map(|(_, item)| Slot::Open(item)).collect();
    let all = All { common, first, w, slots: Mutex::new(slots) };
    let left = until.since(core.clock.now()).max(Duration::from_millis(1));
    let ended = core.run(&all, Some(left)).await.err();
    let told = all.slots.into_inner().into_iter().zip(kinds);
    let told = told.map(|(slot, (at, is_delete))| {
        let outcome = match slot {
            Slot::Made(receipt) if is_delete => Ok(BatchReply::Delete(receipt)),
            Slot::Made(receipt) => Ok(BatchReply::Put(receipt)),
            Slot::Failed(error) => Err(error),
            Slot::Open(_) => Err(ended.clone().unwrap_or_else(Error::deadline)),
        };
        (at, outcome)
    });
    told.collect()
}

/// What is known of a write.
#[derive(Debug)]
enum Slot {
    /// It has yet to be made.
    Open(Item),
    /// It was.
    Made(Receipt),
    /// It never will be.
    Failed(Error),
}

/// The writes of one table, over all attempts.
struct All {
    common: Common,
    /// Whose owners are asked: they coordinate at least its group without a hop.
    first: Bytes,
    w: Option<Quorum>,
    slots: Mutex<Vec<Slot>>,
}

impl All {
    /// The request for what is open, and where that stands.
    fn open(&self) -> (Vec<usize>, Data) {
        let slots = self.slots.lock();
        let open = slots.iter().enumerate().filter_map(|(at, slot)| match slot {
            Slot::Open(item) => Some((at, item.clone())),
            Slot::Made(_) | Slot::Failed(_) => None,
        });
        let (places, items) = open.unzip();
        let w = self.w.map(convert::quorum);
        let body = Request { header: None, items, w, attempt: None, atomic: true };
        (places, Data { common: self.common.clone(), body: op::Op::Batch(body) })
    }

    /// Notes what was answered; the last receipt, or what keeps some of it open.
    fn note(&self, places: &[usize], told: BatchResponse) -> Result<Option<Receipt>, Error> {
        if told.outcomes.len() != places.len() {
            return Err(convert::malformed("another number of outcomes"));
        }
        let (mut last, mut again): (Option<Receipt>, Option<Error>) = (None, None);
        let mut slots = self.slots.lock();
        for (at, told) in places.iter().zip(told.outcomes) {
            let slot = match told.outcome {
                Some(Told::Receipt(receipt)) => {
                    let receipt = convert::receipt(Some(receipt))?;
                    last = Some(receipt);
                    Slot::Made(receipt)
                }
                Some(Told::Error(detail)) => {
                    let error = from_detail(detail, true);
                    if error.is_retryable() {
                        let worse =
                            again.as_ref().is_none_or(|known| known.applied() == Applied::No);
                        again = if worse { Some(error) } else { again };
                        continue;
                    }
                    Slot::Failed(error)
                }
                None => return Err(convert::malformed("an outcome that is none")),
            };
            if let Some(known) = slots.get_mut(*at) {
                *known = slot;
            }
        }
        again.map_or(Ok(last), Err)
    }
}

impl Operation for All {
    type Answer = Option<Receipt>;

    fn is_write(&self) -> bool {
        true
    }

    fn place(&self) -> Place<'_> {
        Place::Key { table: &self.common.table, key: &self.first }
    }

    fn receipt(answer: &Option<Receipt>) -> Option<&Receipt> {
        answer.as_ref()
    }

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Option<Receipt>, Error> {
        let (places, data) = self.open();
        match data.answered(endpoint, this).await? {
            answer::Answer::Batch(told) => self.note(&places, told),
            _ => Err(convert::malformed("an answer of another kind")),
        }
    }
}
