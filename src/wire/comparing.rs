//! Operators' questions about comparisons, between `message` and `proto/admin.proto`.

use core::time::Duration;

use crate::message::{
    AdminRequest, DiffFound, DiffKey, DiffLine, ErrorCode, OpError, PairLine, RepairGauges,
    RepairReply, RepairRequest, RepairScope, RunLine,
};
use crate::types::{ClassId, NodeName, Partition, TableName, Unit};

use super::client::table_from_wire;
use super::proto::admin as pb;
use pb::repair_request::What;

fn malformed(what: impl Into<String>) -> OpError {
    OpError::new(ErrorCode::RequestMalformed, what.into())
}

/// A question about comparisons, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn repair_from_wire(ask: pb::RepairRequest) -> Result<AdminRequest, OpError> {
    let table = |name: String| -> Result<Option<TableName>, OpError> {
        (!name.is_empty()).then(|| table_from_wire(name)).transpose()
    };
    let request = match ask.what.ok_or_else(|| malformed("what: nothing is asked"))? {
        What::Start(start) => {
            let partitions = match (start.first_partition, start.last_partition) {
                (None, None) => None,
                (Some(first), Some(last)) if first <= last => {
                    Some((partition(first)?.0, partition(last)?.0))
                }
                (Some(first), Some(last)) => {
                    return Err(malformed(format!("partitions: {first} is above {last}")));
                }
                _ => return Err(malformed("partitions: the first and the last belong together")),
            };
            let table = table(start.table)?;
            RepairRequest::Start(RepairScope { table, partitions, all_pairs: start.all_pairs })
        }
        What::Show(show) => RepairRequest::Status { pairs: show.pairs },
        What::Cancel(_) => RepairRequest::Cancel,
        What::Diff(diff) => RepairRequest::Diff {
            peer: NodeName::try_from(diff.peer).map_err(|why| malformed(format!("peer: {why}")))?,
            table: table(diff.table)?,
            after: diff.after.map(unit_from_wire).transpose()?,
        },
    };
    Ok(AdminRequest::Repair(Box::new(request)))
}

fn partition(number: u32) -> Result<Partition, OpError> {
    let narrow = u16::try_from(number);
    narrow.map(Partition).map_err(|_| malformed(format!("partition: {number} is too large")))
}

fn unit_from_wire(unit: pb::RepairUnit) -> Result<Unit, OpError> {
    let class = u16::try_from(unit.class);
    let class = class.map_err(|_| malformed(format!("class: {} is too large", unit.class)))?;
    Ok(Unit { class: ClassId(class), partition: partition(unit.partition)? })
}

fn unit_to_wire(unit: Unit) -> pb::RepairUnit {
    pb::RepairUnit { class: unit.class.0.into(), partition: unit.partition.0.into() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The answer.
pub fn repair_to_wire(reply: RepairReply) -> pb::RepairResponse {
    let run = |run: RunLine| pb::repair_response::Run {
        id: run.id,
        age_ms: millis(run.age),
        total: run.total,
        left: run.left,
    };
    let pair = |pair: PairLine| pb::repair_response::Pair {
        unit: Some(unit_to_wire(pair.unit)),
        peer: pair.peer,
        verified_ms: pair.verified.map(millis),
        keys: pair.lacks,
        under_way: pair.under_way,
    };
    pb::RepairResponse {
        me: reply.me,
        interval_ms: millis(reply.interval),
        counts: Some(counts_to_wire(reply.gauges)),
        under_way: reply.under_way,
        runs: reply.runs.into_iter().map(run).collect(),
        pairs: reply.pairs.into_iter().map(pair).collect(),
        diffs: reply.diffs.into_iter().map(diff_to_wire).collect(),
        next: reply.next.map(unit_to_wire),
    }
}

fn counts_to_wire(gauges: RepairGauges) -> pb::repair_response::Counts {
    pb::repair_response::Counts {
        verified: gauges.verified,
        keys: gauges.lacks,
        sessions: gauges.sessions,
        bytes: gauges.bytes,
        answered_bytes: gauges.answered_bytes,
        here: gauges.here,
        there: gauges.there,
        rounds: gauges.rounds,
        pairs: gauges.pairs,
        unverified: gauges.unverified,
        oldest_ms: millis(gauges.oldest),
    }
}

fn diff_to_wire(line: DiffLine) -> pb::repair_response::Difference {
    let key = |key: DiffKey| pb::repair_response::Key {
        table: key.table,
        key: key.key,
        lacks: key.lacks.as_str().to_owned(),
    };
    let (found, count, keys, why) = match line.found {
        DiffFound::Equal => ("equal", 0, Vec::new(), String::new()),
        DiffFound::Differs { count, keys } => {
            ("differs", count, keys.into_iter().map(key).collect(), String::new())
        }
        DiffFound::Unknown(why) => ("unknown", 0, Vec::new(), why),
    };
    let (unit, found) = (Some(unit_to_wire(line.unit)), found.to_owned());
    pb::repair_response::Difference { unit, found, count, keys, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(first: Option<u32>, last: Option<u32>, table: &str) -> Result<AdminRequest, OpError> {
        let start = pb::repair_request::Start {
            table: table.to_owned(),
            first_partition: first,
            last_partition: last,
            all_pairs: false,
        };
        repair_from_wire(pb::RepairRequest { what: Some(What::Start(start)) })
    }

    #[test]
    fn fields_out_of_bounds_are_named() {
        assert!(start(None, None, "").is_ok() && start(Some(3), Some(3), "t").is_ok());
        let diff = |peer: &str, class| {
            let after = Some(pb::RepairUnit { class, partition: 1 });
            let diff =
                pb::repair_request::Diff { peer: peer.to_owned(), table: String::new(), after };
            repair_from_wire(pb::RepairRequest { what: Some(What::Diff(diff)) })
        };
        assert!(diff("n2", 0).is_ok());
        let wrong = [
            (start(Some(4), Some(3), ""), "partitions: 4 is above 3"),
            (start(Some(4), None, ""), "partitions: the first and the last belong together"),
            (start(Some(4), Some(70_000), ""), "partition: 70000 is too large"),
            (diff("N 2", 0), "peer: "),
            (diff("n2", 70_000), "class: 70000 is too large"),
            (repair_from_wire(pb::RepairRequest { what: None }), "what: nothing is asked"),
        ];
        for (result, text) in wrong {
            let error = result.unwrap_err();
            assert_eq!(error.code, ErrorCode::RequestMalformed);
            assert!(error.message.starts_with(text), "{}", error.message);
        }
    }
}
