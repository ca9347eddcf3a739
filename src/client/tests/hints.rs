//! The hints that the scripted server tells of.

use crate::wire::proto::admin;

/// What a node keeps for others.
pub(super) fn kept() -> admin::HintTotals {
    admin::HintTotals { count: 7, bytes: 700, custody: 2, custody_bytes: 200 }
}

/// The same in an answer, beside what was touched.
pub(super) fn hints(touched: admin::HintTotals) -> admin::HintsResponse {
    use admin::hints_response::{Dirty, Line};
    let line = Line {
        target: "n3".to_owned(),
        totals: Some(kept()),
        oldest_age_ms: 61_000,
        replaying: false,
    };
    let mark = Dirty { class: 0, partition: 5, target: "n2".to_owned() };
    admin::HintsResponse {
        lines: vec![line],
        dirty: vec![mark],
        dirty_count: 1,
        touched: Some(touched),
    }
}
