//! What is at risk if a member dies now: units of which too few owners would answer for a read, or for a
//! write, which needs enough of both owner sets while a unit moves.

use serde_json::{Value as Json, json};

use crate::client::{Liveness, NodeId, RingView, Unit};

use super::super::args::Format;
use super::super::exit::Failure;
use super::super::grid::grouped;
use super::super::output::Output;

/// Units that people are shown.
const UNITS_MAX: usize = 16;

/// A unit of which too few owners would answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AtRisk {
    unit: Unit,
    reads: bool,
    writes: bool,
}

/// The units that could not be read, or written, at their floors without the members that are away and
/// `dies`.
pub(super) fn at_risk(ring: &RingView, dies: NodeId) -> Vec<AtRisk> {
    let answers = |id: &&NodeId| {
        let member = ring.member(**id);
        **id != dies && member.is_some_and(|m| m.liveness == Liveness::Alive && m.serving)
    };
    let placement = &ring.placement;
    let risk = |unit: Unit| {
        let class = placement.class(unit.class)?;
        let owners = placement.owners(unit);
        let count = |set: &[NodeId]| set.iter().filter(answers).count();
        let other = placement.moving(unit).map(|moving| count(&moving.other));
        let read = count(owners);
        let write = other.map_or(read, |other| other.min(read));
        let (reads, writes) = (read < usize::from(class.r_min), write < usize::from(class.w_min));
        (reads || writes).then_some(AtRisk { unit, reads, writes })
    };
    placement.units().filter_map(risk).collect()
}

/// Shows it.
pub(super) fn show(ring: &RingView, name: &str, output: &mut Output) -> Result<(), Failure> {
    let found = ring.members.iter().find(|member| member.name.as_str() == name);
    let Some(member) = found else {
        return Err(Failure::usage(format!("there is no node {name:?}")));
    };
    let lost = at_risk(ring, member.id);
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(ring, name, &lost)),
        Format::Plain => lost.iter().try_for_each(|risk| {
            let (class, partition) = (risk.unit.class, risk.unit.partition);
            output.line(&format!("{class}\t{partition}\t{}", words(risk)))
        }),
        Format::Table => {
            let text = as_text(ring, name, &lost);
            output.bytes(text.as_bytes())
        }
    }
}

fn words(risk: &AtRisk) -> &'static str {
    match (risk.reads, risk.writes) {
        (true, true) => "reads,writes",
        (true, false) => "reads",
        (false, _) => "writes",
    }
}

/// The contract of `docs/kvctl.md`.
fn as_json(ring: &RingView, name: &str, lost: &[AtRisk]) -> Json {
    let unit = |risk: &AtRisk| {
        json!({
            "class": risk.unit.class.0,
            "partition": risk.unit.partition.0,
            "reads": risk.reads,
            "writes": risk.writes,
        })
    };
    json!({
        "node": name,
        "epoch": ring.epoch.0,
        "units": ring.placement.units().count(),
        "at_risk": lost.iter().map(unit).collect::<Vec<_>>(),
    })
}

/// For people.
fn as_text(ring: &RingView, name: &str, lost: &[AtRisk]) -> String {
    let all = grouped(ring.placement.units().count() as u64);
    if lost.is_empty() {
        return format!("if {name} died now, all {all} units could be read and written\n");
    }
    let count =
        |of: fn(&AtRisk) -> bool| grouped(lost.iter().filter(|risk| of(risk)).count() as u64);
    let (reads, writes) = (count(|risk| risk.reads), count(|risk| risk.writes));
    let mut text = format!(
        "if {name} died now, of {all} units {reads} could not be read and {writes} could not be written \
         at their floors, until it or another owner is back:\n"
    );
    let shown: Vec<String> =
        lost.iter().take(UNITS_MAX).map(|risk| risk.unit.to_string()).collect();
    text.push_str(&format!("  {}", shown.join(" ")));
    if lost.len() > UNITS_MAX {
        text.push_str(&format!(" and {} more", lost.len() - UNITS_MAX));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::{Epoch, MovePhase, PlacedClass, PlacedMove, Placement, RingMember};
    use crate::types::{ClassId, Partition, Zone};

    fn ring(down: &[u32]) -> RingView {
        let member = |id| RingMember {
            id: NodeId(id),
            name: format!("n{id}").parse().unwrap(),
            address: String::new(),
            zone: Zone::default(),
            liveness: if down.contains(&id) { Liveness::Down } else { Liveness::Alive },
            role: "active",
            serving: true,
        };
        let ids = |ids: [u32; 3]| ids.map(NodeId).to_vec();
        let other = PlacedMove { phase: MovePhase::ReadOld, other: ids([1, 4, 5]) };
        let class = PlacedClass {
            n: 3,
            r_min: 2,
            w_min: 2,
            owners: vec![ids([1, 2, 3]), ids([1, 2, 3])],
            moving: [(Partition(1), other)].into_iter().collect(),
        };
        let placement = Placement { classes: vec![class], ..Placement::default() };
        RingView {
            epoch: Epoch(4),
            members: (1..=5).map(member).collect(),
            placement: Arc::new(placement),
        }
    }

    fn risk(partition: u16, reads: bool, writes: bool) -> AtRisk {
        let unit = Unit { class: ClassId(0), partition: Partition(partition) };
        AtRisk { unit, reads, writes }
    }

    #[test]
    fn a_write_needs_enough_of_both_owner_sets_and_a_read_of_one() {
        assert_eq!(at_risk(&ring(&[]), NodeId(1)), []);
        // The new owners cannot take writes any more; the old ones are still read.
        assert_eq!(at_risk(&ring(&[4]), NodeId(5)), [risk(1, false, true)]);
        let both = [risk(0, true, true), risk(1, true, true)];
        assert_eq!(at_risk(&ring(&[2]), NodeId(3)), both);
        assert_eq!(at_risk(&ring(&[2]), NodeId(5)), []);
    }

    #[test]
    fn people_are_told_what_could_not_be_done() {
        let ring = ring(&[4]);
        let text = as_text(&ring, "n5", &at_risk(&ring, NodeId(5)));
        assert!(
            text.contains("of 2 units 0 could not be read and 1 could not be written"),
            "{text}"
        );
        assert!(text.ends_with("  0/1\n"), "{text}");
        let json = as_json(&ring, "n5", &at_risk(&ring, NodeId(5)));
        let unit = json!({ "class": 0, "partition": 1, "reads": false, "writes": true });
        assert_eq!((&json["units"], &json["at_risk"]), (&2.into(), &json!([unit])));
        assert!(as_text(&ring, "n1", &[]).contains("all 2 units could be read and written"));
    }
}
