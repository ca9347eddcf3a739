//! Operators' questions about hints, between `message` and `proto/admin.proto`.

use crate::message::{
    AdminRequest, DirtyMark, ErrorCode, HintLine, HintRequest, HintTotals, HintsReply, OpError,
};
use crate::types::NodeName;

use super::proto::admin as pb;

fn target(name: String) -> Result<NodeName, OpError> {
    NodeName::try_from(name)
        .map_err(|why| OpError::new(ErrorCode::RequestMalformed, format!("target: {why}")))
}

/// A question about hints.
pub fn list_hints_from_wire(_: pb::ListHintsRequest) -> AdminRequest {
    AdminRequest::Hints(HintRequest::List)
}

/// The wish to hand hints back now, checked.
///
/// # Errors
/// The target's name is none.
pub fn replay_hints_from_wire(ask: pb::ReplayHintsRequest) -> Result<AdminRequest, OpError> {
    let only = (!ask.target.is_empty()).then(|| target(ask.target)).transpose()?;
    Ok(AdminRequest::Hints(HintRequest::Replay(only)))
}

/// The wish to give hints up, checked.
///
/// # Errors
/// The target's name is missing, or none.
pub fn drop_hints_from_wire(ask: pb::DropHintsRequest) -> Result<AdminRequest, OpError> {
    Ok(AdminRequest::Hints(HintRequest::Drop(target(ask.target)?)))
}

fn totals_to_wire(totals: HintTotals) -> pb::HintTotals {
    let HintTotals { count, bytes, custody, custody_bytes } = totals;
    pb::HintTotals { count, bytes, custody, custody_bytes }
}

/// The answer.
pub fn hints_to_wire(reply: HintsReply) -> pb::HintsResponse {
    let line = |line: HintLine| pb::hints_response::Line {
        target: line.target,
        totals: Some(totals_to_wire(line.totals)),
        oldest_age_ms: u64::try_from(line.oldest_age.as_millis()).unwrap_or(u64::MAX),
        replaying: line.replaying,
    };
    let mark = |mark: DirtyMark| pb::hints_response::Dirty {
        class: mark.unit.class.0.into(),
        partition: mark.unit.partition.0.into(),
        target: mark.target,
    };
    pb::HintsResponse {
        lines: reply.lines.into_iter().map(line).collect(),
        dirty: reply.dirty.into_iter().map(mark).collect(),
        dirty_count: reply.dirty_count,
        touched: Some(totals_to_wire(reply.touched)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_must_be_a_name_and_may_be_left_out_of_a_replay_only() {
        let replay =
            |name: &str| replay_hints_from_wire(pb::ReplayHintsRequest { target: name.to_owned() });
        let drop =
            |name: &str| drop_hints_from_wire(pb::DropHintsRequest { target: name.to_owned() });
        assert!(replay("").is_ok() && replay("n2").is_ok() && drop("n2").is_ok());
        for error in [replay("N 2").unwrap_err(), drop("").unwrap_err()] {
            assert_eq!(error.code, ErrorCode::RequestMalformed);
            assert!(error.message.starts_with("target: "), "{}", error.message);
        }
    }
}
