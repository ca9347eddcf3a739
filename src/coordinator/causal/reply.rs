//! What clients are answered: the siblings a reader sees, and contexts that say which key they are
//! of.

use crate::causality::{CausalContext, ContextToken, Dot, Payload, Refused, SiblingSet};
use crate::coordinator::Target;
use crate::message::{CausalReply, Changed, ErrorCode, OpError, Receipt, Reply, Sibling};
use crate::types::{Stamp, WallTime, limits};

/// The answer to a read at `wall`. `receipt.stamp` becomes that of the latest write seen.
pub(super) fn read(target: &Target, set: &SiblingSet, receipt: Receipt, wall: WallTime) -> Reply {
    let all = set.shown(wall);
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    let (mut siblings, mut bytes) = (Vec::new(), 0);
    let mut left_out: Vec<Dot> = Vec::new();
    for shown in all {
        let (stamp, is_counter) = (shown.first().stamp(), shown.counter().is_some());
        let Payload::Here(value) = shown.payload else { continue };
        bytes += value.as_bytes().len() + 64;
        if bytes > limits::SIBLING_ANSWER_BYTES_MAX && !siblings.is_empty() {
            left_out.extend(shown.dots);
            continue;
        }
        siblings.push(Sibling { value, expiry: shown.expiry, stamp, is_counter });
    }
    // Whoever resolves what fits must not take the place of what does not.
    let context = if left_out.is_empty() {
        set.context().clone()
    } else {
        set.seen_of(|dot| !left_out.contains(&dot))
    };
    let stamp = set.context().last().map_or(Stamp::ZERO, Dot::stamp);
    let many_siblings = count >= limits::SIBLINGS_WARN;
    let receipt = Receipt { stamp, many_siblings, ..receipt };
    let context = seal(target, &context);
    let (wrote, counter) = (false, None);
    Reply::Causal(Box::new(CausalReply { wrote, siblings, count, context, receipt, counter }))
}

/// The answer to a write that was made. One of an increment carries what the counter holds.
pub(super) fn wrote(
    target: &Target,
    changed: &Changed,
    receipt: Receipt,
    is_increment: bool,
) -> Reply {
    let Changed { seen, siblings, .. } = changed;
    let (siblings, wrote) = (*siblings, true);
    let counter = changed.counter.filter(|_| is_increment);
    let receipt = Receipt { many_siblings: siblings >= limits::SIBLINGS_WARN, ..receipt };
    let (siblings, count, context) = (Vec::new(), siblings, seal(target, seen));
    Reply::Causal(Box::new(CausalReply { wrote, siblings, count, context, receipt, counter }))
}

fn seal(target: &Target, context: &CausalContext) -> bytes::Bytes {
    ContextToken { table: target.table, key: &target.key }.seal(context)
}

/// The error of a change that its owner's replica refuses.
pub(super) fn refused_error(refused: Refused) -> OpError {
    let over = |what: &str, limit: usize, got: usize| {
        let message = format!(
            "the key would have {got} {what}; the limit is {limit}; resolve its siblings first: \
             read them, and write with the context of that read"
        );
        OpError::new(ErrorCode::SiblingLimit, message).with_limit(limit, got)
    };
    match refused {
        Refused::TooMany(got) => over("siblings", limits::SIBLINGS_MAX, got),
        Refused::TooLarge(got) => over("bytes of siblings", limits::SIBLING_BYTES_MAX, got),
        Refused::TooLong(got) => over("entries of context", limits::CONTEXT_ENTRIES_MAX, got),
        Refused::Unknown => OpError::new(
            ErrorCode::ContextInvalid,
            "context speaks of a write that its node never made",
        ),
        Refused::NoCounter => OpError::new(
            ErrorCode::CounterMismatch,
            "the key holds a value that is no counter; delete it first",
        ),
        Refused::IsCounter => OpError::new(
            ErrorCode::CounterMismatch,
            "the key holds a counter; add to it, or write with the context of a read of it",
        ),
        Refused::Overflow => OpError::new(
            ErrorCode::CounterOverflow,
            "the counter would leave the bounds -2^63..2^63 - 1",
        ),
        Refused::Stale(_) => OpError::new(
            ErrorCode::AttemptExpired,
            "other writes of the key kept coming first; try again",
        ),
    }
}
