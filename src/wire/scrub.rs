//! Operators' questions about a scrub, between `message` and `proto/admin.proto`.

use crate::message::{AdminRequest, ScrubReply, ScrubRequest};
use crate::types::WallTime;

use super::proto::admin as pb;

/// A question about it, or the wish that it begins.
pub fn scrub_from_wire(ask: pb::ScrubRequest) -> AdminRequest {
    AdminRequest::Scrub(if ask.start { ScrubRequest::Start } else { ScrubRequest::Status })
}

/// The answer.
pub fn scrub_to_wire(reply: ScrubReply) -> pb::ScrubResponse {
    let millis = |time: core::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let nanos = |time: Option<WallTime>| time.map_or(0, |time| time.0);
    pb::ScrubResponse {
        running: reply.running,
        done_bytes: reply.done_bytes,
        total_bytes: reply.total_bytes,
        left_ms: reply.left.map(millis),
        begun_ns: nanos(reply.begun),
        ended_ns: nanos(reply.ended),
        found: reply.found,
        lost_units: reply.lost_units,
        healed_units: reply.healed_units,
        places: reply.places,
    }
}
