//! What would be if members stopped, between `message` and `proto/admin.proto`.

use core::time::Duration;

use crate::message::{
    AdminRequest, OpError, OutageAsk, OutageLine, OutageReason, OutageReply, OutageUnit,
};
use crate::types::{NodeName, Unit, Zone, limits};

use super::client::malformed;
use super::proto::admin as pb;

/// The question, checked.
///
/// # Errors
/// The first field that is outside its bounds; nobody is meant.
pub fn outage_from_wire(ask: pb::OutageRequest) -> Result<AdminRequest, OpError> {
    let most = limits::MEMBERS_MAX;
    for (field, count) in [("nodes", ask.nodes.len()), ("zones", ask.zones.len())] {
        if count > most {
            return Err(malformed(format!("{field} has {count} names; at most {most}")));
        }
    }
    if ask.nodes.is_empty() && ask.zones.is_empty() {
        return Err(malformed("nodes and zones are both empty: nobody is meant"));
    }
    let lasts = Duration::from_millis(ask.lasts_ms);
    if lasts > limits::OUTAGE_MAX {
        let most = limits::OUTAGE_MAX.as_millis();
        return Err(malformed(format!("lasts_ms is {}; at most {most}", ask.lasts_ms)));
    }
    let node = |name| NodeName::try_from(name).map_err(malformed);
    let zone = |name| Zone::try_from(name).map_err(malformed);
    Ok(AdminRequest::Outage(Box::new(OutageAsk {
        nodes: ask.nodes.into_iter().map(node).collect::<Result<_, _>>()?,
        zones: ask.zones.into_iter().map(zone).collect::<Result<_, _>>()?,
        lasts,
    })))
}

/// The answer.
pub fn outage_to_wire(reply: OutageReply) -> pb::OutageResponse {
    let text = |names: Vec<NodeName>| names.into_iter().map(String::from).collect();
    pb::OutageResponse {
        epoch: reply.epoch.0,
        me: reply.me.into(),
        gone: text(reply.gone),
        down: text(reply.down),
        reasons: reply.reasons.into_iter().map(reason).collect(),
        warnings: reply.warnings.into_iter().map(reason).collect(),
        lines: reply.lines.into_iter().map(line).collect(),
        units: reply.units.into_iter().map(unit).collect(),
        stand_ins: reply
            .stand_ins
            .into_iter()
            .map(|(node, units)| pb::outage_response::StandIn { node: node.into(), units })
            .collect(),
        replaced: reply
            .replaced
            .into_iter()
            .map(|(node, by)| pb::outage_response::Replaced {
                node: node.into(),
                by: by.map_or_else(String::new, String::from),
            })
            .collect(),
        hint_bytes: reply.hints.needed,
        hint_room: reply.hints.room,
    }
}

fn reason(reason: OutageReason) -> pb::outage_response::Reason {
    let example = |at: Unit| pb::outage_response::Unit {
        class: at.class.0.into(),
        partition: at.partition.0.into(),
        ..pb::outage_response::Unit::default()
    };
    pb::outage_response::Reason {
        kind: reason.kind.as_str().to_owned(),
        text: reason.text,
        units: reason.units,
        examples: reason.examples.into_iter().map(example).collect(),
        tables: reason.tables.into_iter().map(String::from).collect(),
    }
}

fn line(line: OutageLine) -> pb::outage_response::Line {
    pb::outage_response::Line {
        class: line.class.0.into(),
        tables: line.tables.into_iter().map(String::from).collect(),
        kind: line.kind.to_string(),
        n: line.n.into(),
        r: line.r.into(),
        w: line.w.into(),
        partitions: line.partitions,
        writable: line.writable,
        by_stand_ins: line.by_stand_ins,
        readable: line.readable,
        last_copy: line.last_copy,
        lost: line.lost,
    }
}

fn unit(hit: OutageUnit) -> pb::outage_response::Unit {
    pb::outage_response::Unit {
        class: hit.unit.class.0.into(),
        partition: hit.unit.partition.0.into(),
        writes: hit.writes,
        reads: hit.reads,
        lost: hit.lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(ask: pb::OutageRequest) -> String {
        outage_from_wire(ask).unwrap_err().message
    }

    #[test]
    fn questions_are_checked_field_by_field() {
        let nodes = vec!["n1".to_owned()];
        let ask = pb::OutageRequest { nodes, zones: vec!["a".to_owned()], lasts_ms: 60_000 };
        let Ok(AdminRequest::Outage(read)) = outage_from_wire(ask.clone()) else { panic!() };
        assert_eq!((read.nodes.len(), read.zones.len()), (1, 1));
        assert_eq!(read.lasts, Duration::from_secs(60));
        assert!(refused(pb::OutageRequest::default()).contains("nobody is meant"));
        let long = pb::OutageRequest { lasts_ms: u64::MAX, ..ask.clone() };
        assert!(refused(long).contains("lasts_ms"));
        let bad = pb::OutageRequest { nodes: vec!["N 1".to_owned()], ..ask.clone() };
        assert!(refused(bad).contains("N 1"));
        let many = pb::OutageRequest { zones: vec!["a".to_owned(); 4097], ..ask };
        assert!(refused(many).contains("zones has 4097"));
    }
}
