//! One answer for each request, in time (I13), with a receipt that says what it rests on.

use std::collections::BTreeMap;

use roundtable::load::check::OVERRUN_MAX;
use roundtable::message::Receipt;
use roundtable::types::{OpId, Stamp, Time};

/// What a request asked for, as far as its receipt must agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Answers asked for.
    pub(crate) needed: u8,
    /// Below the floor.
    pub(crate) weak: bool,
    /// Owners only.
    pub(crate) strict: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    deadline: Time,
    abandoned: bool,
}

/// The requests that nodes have yet to answer. Times are the world's.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    open: BTreeMap<(usize, OpId), Open>,
}

impl Answers {
    /// A request has come in at `host`.
    pub(crate) fn asked(&mut self, host: usize, op: OpId, deadline: Time) {
        self.open.insert((host, op), Open { deadline, abandoned: false });
    }

    /// Its client has gone: no answer is owed any more.
    pub(crate) fn abandoned(&mut self, host: usize, op: OpId) {
        if let Some(open) = self.open.get_mut(&(host, op)) {
            open.abandoned = true;
        }
    }

    /// An answer has come out.
    pub(crate) fn answered(&mut self, host: usize, op: OpId, now: Time) -> Result<(), String> {
        match self.open.remove(&(host, op)) {
            None => Err(format!("node {} answered {op} twice, or unasked", host + 1)),
            Some(open) => within(host, op, open, now),
        }
    }

    /// The node is gone, and with it everything it owed.
    pub(crate) fn died(&mut self, host: usize) {
        self.open.retain(|(owner, _), _| *owner != host);
    }

    /// The moment has come at which `op` must have been answered, with its allowance.
    pub(crate) fn overdue(&mut self, host: usize, op: OpId, now: Time) -> Result<(), String> {
        match self.open.get(&(host, op)).copied() {
            None => Ok(()),
            Some(open) => {
                self.open.remove(&(host, op));
                within(host, op, open, now)
            }
        }
    }
}

fn within(host: usize, op: OpId, open: Open, now: Time) -> Result<(), String> {
    let over = now.since(open.deadline);
    if over > OVERRUN_MAX && !open.abandoned {
        return Err(format!("node {} owes {op} an answer {over:?} after its deadline", host + 1));
    }
    Ok(())
}

/// What is wrong with the receipt of a write at the floors that began when `floor` had been
/// acknowledged at them: one of the owners it asked holds that version, or a later one.
pub(crate) fn lost_fault(floor: Stamp, receipt: &Receipt) -> Option<String> {
    let told = receipt.superseded_by;
    if receipt.weak || receipt.stand_ins != 0 || floor <= receipt.stamp {
        let wrong = told.is_some_and(|by| by < receipt.stamp);
        return wrong.then(|| format!("superseded by {told:?}, below {}", receipt.stamp));
    }
    let right = told.is_some_and(|by| by >= floor);
    (!right).then(|| format!("{} has lost to {floor}, and says {told:?}", receipt.stamp))
}

/// What is wrong with the receipt of a successful answer.
pub(crate) fn receipt_fault(asked: Asked, receipt: &Receipt) -> Option<String> {
    let answered = receipt.answered.count_ones();
    if receipt.needed != asked.needed {
        return Some(format!(
            "{} answers asked for, receipt needs {}",
            asked.needed, receipt.needed
        ));
    }
    if answered < u32::from(asked.needed) {
        return Some(format!("{} answers asked for, {answered} in the receipt", asked.needed));
    }
    if u32::from(receipt.n) < answered {
        return Some(format!("{answered} answers of {} owners", receipt.n));
    }
    if asked.strict && receipt.stand_ins != 0 {
        return Some(format!("strict, and stand-ins {:b} counted", receipt.stand_ins));
    }
    if receipt.weak != asked.weak {
        return Some(format!("weak is {}, should be {}", receipt.weak, asked.weak));
    }
    None
}
