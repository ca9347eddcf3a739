//! What is told of deletes that wait to be purged, between `message` and `proto/admin.proto`.

use core::time::Duration;

use crate::message::{GcBlocker, GcReply, GcUnit};

use super::proto::admin as pb;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The answer.
pub fn gc_to_wire(reply: GcReply) -> pb::GcStatusResponse {
    let blocker = |blocker: GcBlocker| pb::gc_status_response::Blocker {
        member: blocker.member,
        why: blocker.why,
        units: blocker.units,
    };
    let unit = |line: GcUnit| pb::gc_status_response::Unit {
        class: line.unit.class.0.into(),
        partition: line.unit.partition.0.into(),
        deletes: line.deletes,
        oldest_age_ms: millis(line.oldest_age),
        floor_ns: line.floor.0,
        blocked_by: line.blocked_by,
    };
    pb::GcStatusResponse {
        deletes: reply.deletes,
        units: reply.units,
        more: reply.more,
        slack_ms: millis(reply.slack),
        waiting_units: reply.waiting_units,
        oldest_age_ms: millis(reply.oldest_age),
        purged: reply.purged,
        blockers: reply.blockers.into_iter().map(blocker).collect(),
        waiting: reply.waiting.into_iter().map(unit).collect(),
    }
}
