//! What clients ask for most, between `message` and `proto/admin.proto`.

use crate::message::{AdminRequest, HotKey, HotReply, HotUnit};

use super::proto::admin as pb;

/// The question. Any limit will do: the answer has one of its own.
pub fn hot_from_wire(ask: pb::HotRequest) -> AdminRequest {
    AdminRequest::Hot { limit: if ask.limit == 0 { 20 } else { ask.limit } }
}

/// The answer.
pub fn hot_to_wire(reply: HotReply) -> pb::HotResponse {
    let unit = |it: HotUnit| pb::hot_response::Unit {
        class: it.unit.class.0.into(),
        partition: it.unit.partition.0.into(),
        reads: it.reads,
        writes: it.writes,
        bytes: it.bytes,
    };
    let key = |it: HotKey| pb::hot_response::Key {
        table: it.table.into(),
        key: it.key.bytes().clone(),
        class: it.unit.class.0.into(),
        partition: it.unit.partition.0.into(),
        rate: it.rate,
        error: it.error,
    };
    pb::HotResponse {
        me: reply.me.into(),
        units: reply.units.into_iter().map(unit).collect(),
        operations: reply.operations,
        keys: reply.keys.into_iter().map(key).collect(),
    }
}
