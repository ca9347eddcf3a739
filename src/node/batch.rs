//! Batches: what goes together, and the put that it becomes. `docs/protocol/batch.md`.

use std::collections::BTreeSet;

use super::Node;
use super::client::{check_value_size, unit_of};
use super::operation::Machine;
use super::waterfall::Asker;
use crate::coordinator::{Put, PutItem};
use crate::message::{self, Batch, BatchItem, ErrorCode, Kept, OpError, QuorumMode};
use crate::types::{ClusterState, Key, NodeId, Now, Table, TableKind, Time, TraceId};

impl Node {
    /// Keeps what an operation has not brought to an owner: of its key, or of another one of its batch.
    pub(super) fn hint(
        &mut self,
        now: Now,
        operation: u64,
        owner: NodeId,
        (key, kept): (Option<Key>, Kept),
    ) {
        let target = self.operations.get(&operation).and_then(|of| of.machine.target());
        let Some(mut hint) = target.map(|target| Node::hint_of(target, kept)) else { return };
        hint.key = key.unwrap_or(hint.key);
        self.keep_plain(now, owner, hint);
    }

    /// Begins a batch: a put of several keys, by owners alone.
    pub(super) fn begin_batch(
        &mut self,
        now: Now,
        asker: Asker,
        (state, table): (&ClusterState, &Table),
        (batch, trace, deadline): (Batch, TraceId, Time),
    ) -> Result<(), OpError> {
        check_batch(state, table, &batch.items)?;
        let Batch { items, w, attempt, .. } = batch;
        let mut items = items.into_iter();
        let Some(BatchItem { key, value, ttl }) = items.next() else { return Err(empty()) };
        let first = message::Put {
            table: table.name.clone(),
            key,
            value,
            ttl,
            w,
            r: None,
            attempt,
            time: None,
            mode: QuorumMode::Strict,
            context: Default::default(),
            traced: false,
        };
        let mut order = self.put_order(now, table, &first, (trace, deadline))?;
        for BatchItem { key, value, ttl } in items {
            check_value_size(table, value.as_ref())?;
            order.rest.push(PutItem { key, value, ttl: ttl.resolve(table.ttl) });
        }
        order.earlier = asker.left.stamp;
        let target = self.target(state, table, first.key);
        order.own = target.index(self.me);
        self.raise_ceiling_early(now);
        self.begin(now, asker, target, |target, step| {
            Machine::Put(Box::new(Put::begin(target, order, step)))
        });
        Ok(())
    }
}

fn empty() -> OpError {
    OpError::new(ErrorCode::RequestMalformed, "a batch has at least one write")
}

/// Whether these writes can be made together.
fn check_batch(state: &ClusterState, table: &Table, items: &[BatchItem]) -> Result<(), OpError> {
    let Some(first) = items.first() else { return Err(empty()) };
    message::check_batch_size(items.iter().map(BatchItem::bytes))?;
    let unit = unit_of(state, table, &first.key);
    if items.iter().any(|item| unit_of(state, table, &item.key) != unit) {
        let text = "the keys of what is made together are of one partition";
        return Err(OpError::new(ErrorCode::RequestMalformed, text));
    }
    let mut keys = BTreeSet::new();
    if let Some(twice) = items.iter().find(|item| !keys.insert(&item.key)) {
        let text = format!("key {} stands twice in the batch", twice.key.as_bytes().escape_ascii());
        return Err(OpError::new(ErrorCode::RequestMalformed, text));
    }
    Ok(())
}

/// Whether a table takes writes that are made together. Of the others each key has its own history:
/// the siblings that one owner holds, or a register's ballots.
pub(super) fn check_kind(table: &Table) -> Result<(), OpError> {
    let why = match table.kind {
        TableKind::Lww => return Ok(()),
        TableKind::Causal => "each write takes the place of what one owner holds of its key",
        TableKind::Linearizable => "each key is decided by a consensus of its own",
    };
    let message = format!(
        "table {} is {}: {why}; only lww tables have atomic batches",
        table.name, table.kind
    );
    Err(OpError::new(ErrorCode::KindMismatch, message))
}
