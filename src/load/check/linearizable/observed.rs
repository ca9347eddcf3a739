//! What single answers show, without any search: contents that nobody can have written, stamps that
//! go back, and what became of writes that were asked about later.

use std::collections::BTreeMap;

use crate::load::check::Violation;
use crate::load::history::{
    Action, Expect, Moment, OpIndex, Operation, Outcome, Settled, Settlement,
};
use crate::types::{Key, Stamp, Value};

/// An operation as all that is known of it says.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) op: OpIndex,
    pub(super) operation: Operation,
}

impl Known {
    /// What it saw, if it only looked.
    pub(super) fn seen(&self) -> Option<(Option<&Value>, Stamp)> {
        match &self.operation.outcome {
            Outcome::Read { value, stamp, weak: false } => Some((value.as_ref(), *stamp)),
            Outcome::Mismatch { current, stamp } => Some((current.as_ref(), *stamp)),
            _ => None,
        }
    }

    /// The value it writes, if it does.
    pub(super) fn written(&self) -> Option<&Value> {
        match &self.operation.action {
            Action::Put(value) | Action::Cas(_, Some(value)) => Some(value),
            Action::Get | Action::Delete | Action::Cas(_, None) => None,
        }
    }

    /// The version it made, if it said so.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        match self.operation.outcome {
            Outcome::Written { stamp, .. } => Some(stamp),
            _ => None,
        }
    }

    /// Whether it may have had an effect.
    pub(super) fn may_write(&self) -> bool {
        let done = matches!(self.operation.outcome, Outcome::Written { .. } | Outcome::Unknown);
        self.operation.is_write() && done
    }
}

/// The operations of one key with what was learned of their outcome later, and a write of which two
/// different things were said.
pub(super) fn settled(
    operations: &[(OpIndex, &Operation)],
    settlements: &[Settlement],
) -> (Vec<Known>, Option<OpIndex>) {
    let mut known: Vec<Known> = operations
        .iter()
        .map(|(op, operation)| Known { op: *op, operation: (*operation).clone() })
        .collect();
    let mut contradicted = None;
    for Settlement { op, at, settled } in settlements {
        let Ok(place) = known.binary_search_by_key(op, |known| known.op) else { continue };
        let Some(Known { operation, .. }) = known.get_mut(place) else { continue };
        match (&operation.outcome, settled) {
            (Outcome::Unknown, Settled::Applied(stamp)) => {
                operation.outcome = Outcome::Written { stamp: *stamp, weak: false };
                operation.returned = Some(*at);
            }
            (Outcome::Unknown, Settled::Cancelled) => {
                operation.outcome = Outcome::Failed;
                operation.returned = Some(*at);
            }
            (Outcome::Written { stamp, .. }, Settled::Applied(told)) if stamp == told => {
                operation.returned = operation.returned.min(Some(*at));
            }
            (Outcome::Failed | Outcome::Mismatch { .. }, Settled::Cancelled) => {}
            _ => contradicted = contradicted.or(Some(*op)),
        }
    }
    (known, contradicted)
}

/// The first answer with contents that it cannot have.
pub(super) fn contents(key: &Key, operations: &[Known]) -> Option<Violation> {
    let mut writers: BTreeMap<&[u8], Vec<&Known>> = BTreeMap::new();
    for known in operations {
        if let Some(value) = known.written() {
            writers.entry(value.as_bytes()).or_default().push(known);
        }
    }
    operations.iter().find_map(|known| {
        let (key, read) = (key.clone(), known.op);
        let (value, stamp) = known.seen()?;
        if let Action::Cas(expect, _) = &known.operation.action
            && matches(expect, value, stamp)
        {
            return Some(Violation::FalseMismatch { key, op: read });
        }
        let value = value?;
        let writers = writers.get(value.as_bytes()).map(Vec::as_slice).unwrap_or_default();
        let begun: Vec<&&Known> = writers
            .iter()
            .filter(|writer| writer.operation.invoked < known.operation.end())
            .collect();
        let Some(put) = begun.first() else {
            return Some(Violation::ValueFromNowhere { key, read });
        };
        let put = put.op;
        if !begun.iter().any(|writer| writer.may_write()) {
            return Some(Violation::FailedWriteRead { key, read, put });
        }
        let invoked = known.operation.invoked.at;
        let gone = |put: &Known| put.operation.expired_by().is_some_and(|by| by < invoked);
        let expired = begun.iter().filter(|writer| writer.may_write()).all(|writer| gone(writer));
        expired.then_some(Violation::ExpiredRead { key, read, put })
    })
}

fn matches(expect: &Expect, value: Option<&Value>, stamp: Stamp) -> bool {
    match expect {
        Expect::Absent => value.is_none(),
        Expect::Value(expected) => value == Some(expected),
        Expect::Stamp(expected) => value.is_some() && stamp == *expected,
    }
}

/// The first operation that met an older version than one that was over before it began; a write
/// must have made a newer one.
pub(super) fn stamps(key: &Key, operations: &[Known]) -> Option<Violation> {
    let met = |known: &Known| known.stamp().or_else(|| known.seen().map(|(_, stamp)| stamp));
    let mut over: Vec<(Moment, Stamp, OpIndex)> = operations
        .iter()
        .filter_map(|known| Some((known.operation.end(), met(known)?, known.op)))
        .collect();
    over.sort();
    let mut over = over.into_iter().peekable();
    let mut highest: Option<(Stamp, OpIndex)> = None;
    for known in operations {
        while let Some((_, stamp, op)) = over.next_if(|(end, ..)| *end < known.operation.invoked) {
            if highest.is_none_or(|(before, _)| before < stamp) {
                highest = Some((stamp, op));
            }
        }
        // A miss without a stamp has no version to compare.
        let Some(stamp) = met(known).filter(|stamp| *stamp != Stamp::ZERO) else { continue };
        let Some((before, earlier)) = highest else { continue };
        let wrote = known.stamp().is_some();
        if stamp < before || (wrote && stamp == before) {
            let (key, later) = (key.clone(), known.op);
            return Some(Violation::StampOrder { key, earlier, later });
        }
    }
    None
}
