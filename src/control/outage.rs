//! What would become of the cluster if members stopped now, with those who are away already: a rule over
//! the state, what has been heard, and the quorums that tables ask for. Decides nothing about who is
//! alive, and changes nothing. `docs/operating.md`, "Before a node is stopped".

use std::collections::{BTreeMap, BTreeSet};

use crate::message::{OutageHints, OutageKind, OutageLine, OutageReason, OutageReply, OutageUnit};
use crate::ring::Ring;
use crate::types::{
    Class, ClusterState, MovePhase, NodeId, NodeName, PlanStatus, Role, Sloppy, Table, TableKind,
    TableName, Unit, limits,
};

use super::steps::Heard;

/// Units that a reason names.
const EXAMPLES_MAX: usize = 5;

/// Judges what would be if `gone` stopped. `me` is who answers. Room for hints is judged by `hints`.
pub fn outage(
    state: &ClusterState,
    heard: &impl Heard,
    (gone, me): (&BTreeSet<NodeId>, &NodeName),
    hints: OutageHints,
) -> OutageReply {
    let judge = Judge { state, heard, gone };
    let mut reply = OutageReply {
        epoch: state.epoch,
        me: me.clone(),
        gone: judge.names(gone.iter().copied()),
        down: judge.names(judge.members().filter(|id| !gone.contains(id) && !heard.is_up(*id))),
        reasons: Vec::new(),
        warnings: Vec::new(),
        lines: Vec::new(),
        units: Vec::new(),
        stand_ins: judge.stand_ins(),
        replaced: judge.replaced(),
        hints,
    };
    judge.tables(&mut reply);
    judge.council(&mut reply);
    judge.plan(&mut reply);
    if let Some(needed) = hints.needed.filter(|needed| *needed > hints.room) {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let text = format!(
            "about {} MiB would be written for them meanwhile, and the others have room for {} MiB of \
             hints: what does not fit is left to comparisons",
            mib(needed),
            hints.room >> 20
        );
        reply.reasons.push(plain(OutageKind::Hints, text));
    }
    reply
}

fn plain(kind: OutageKind, text: String) -> OutageReason {
    OutageReason { kind, text, units: 0, examples: Vec::new(), tables: Vec::new() }
}

/// What the owners of a unit can do.
#[derive(Clone, Copy, Debug, Default)]
struct Owners {
    /// Who takes writes, in the set that has fewest.
    writers: usize,
    /// Who is read: complete owners of the read set.
    readers: usize,
}

/// What a unit can do for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Can {
    write: bool,
    read: bool,
}

/// What is missing where, gathered over a class of tables.
#[derive(Default)]
struct Missing {
    /// Those that somebody who stops owns.
    touched: BTreeMap<OutageKind, Vec<Unit>>,
    /// Those that would lack it anyway.
    before: BTreeMap<OutageKind, Vec<Unit>>,
}

struct Judge<'a, H> {
    state: &'a ClusterState,
    heard: &'a H,
    gone: &'a BTreeSet<NodeId>,
}

impl<H: Heard> Judge<'_, H> {
    fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.state.members.iter().map(|member| member.id)
    }

    fn names(&self, ids: impl Iterator<Item = NodeId>) -> Vec<NodeName> {
        ids.filter_map(|id| self.state.member(id).map(|member| member.name.clone())).collect()
    }

    /// Whether it would be there.
    fn stays(&self, id: NodeId) -> bool {
        let spared = crate::mutant!("outage-forgets-the-down");
        !self.gone.contains(&id) && (spared || self.heard.is_up(id))
    }

    fn owners(&self, unit: Unit) -> Owners {
        let read = self.state.owners(unit);
        let other = self.state.other_owners(unit);
        let stay = |set: &[NodeId]| set.iter().filter(|id| self.stays(**id)).count();
        let whole = |id: &&NodeId| {
            let entry = self.state.entry(unit, **id).unwrap_or_default();
            self.stays(**id) && !self.heard.lacks(**id, unit, entry)
        };
        let mut writers = stay(read);
        if !other.is_empty() {
            writers = writers.min(stay(other));
        }
        Owners { writers, readers: read.iter().filter(whole).count() }
    }

    fn tables(&self, reply: &mut OutageReply) {
        for class in &self.state.classes {
            let mut lines: Vec<(OutageLine, bool)> = Vec::new();
            for table in self.state.tables.iter().filter(|table| table.class == class.id) {
                let (line, always) = line_of(class, table);
                let same = |(known, sloppy): &&mut (OutageLine, bool)| {
                    (known.kind, known.r, known.w, *sloppy) == (line.kind, line.r, line.w, always)
                };
                match lines.iter_mut().find(same) {
                    Some((known, _)) => known.tables.push(table.name.clone()),
                    None => lines.push((line, always)),
                }
            }
            if !lines.is_empty() {
                self.class(class, &mut lines, reply);
            }
            reply.lines.extend(lines.into_iter().map(|(line, _)| line));
        }
    }

    fn class(&self, class: &Class, lines: &mut [(OutageLine, bool)], reply: &mut OutageReply) {
        let mut missing: Vec<Missing> = lines.iter().map(|_| Missing::default()).collect();
        let live = self.members().filter(|id| self.stays(*id)).count();
        for partition in self.state.partitions() {
            let unit = Unit { class: class.id, partition };
            let owners = self.owners(unit);
            let touched = self.state.writers(unit).iter().any(|id| self.gone.contains(id));
            let lost = owners.readers == 0;
            let mut hit = OutageUnit { unit, writes: false, reads: false, lost };
            for ((line, always), missing) in lines.iter_mut().zip(&mut missing) {
                let can = can(class, line, owners);
                let stand_in = !can.write && *always && live >= usize::from(line.w);
                line.writable += u32::from(can.write || stand_in);
                line.by_stand_ins += u32::from(stand_in);
                line.readable += u32::from(can.read);
                line.lost += u32::from(lost);
                line.last_copy += u32::from(owners.readers == 1);
                hit.writes |= !(can.write || stand_in);
                hit.reads |= !can.read;
                let of = if touched { &mut missing.touched } else { &mut missing.before };
                for kind in lacking(line.kind, can.write || stand_in, can.read, lost) {
                    of.entry(kind).or_default().push(unit);
                }
            }
            let room = reply.units.len() < limits::PLAN_LINES_MAX;
            if (hit.writes || hit.reads || hit.lost) && room {
                reply.units.push(hit);
            }
        }
        for ((line, _), missing) in lines.iter().zip(missing) {
            let reason = |(kind, units)| reason(line, kind, units);
            reply.reasons.extend(missing.touched.into_iter().map(reason));
            reply.warnings.extend(missing.before.into_iter().map(|(kind, units)| {
                let mut reason = reason((kind, units));
                reason.text.push_str("; none of those who stop owns them");
                reason
            }));
        }
    }

    fn council(&self, reply: &mut OutageReply) {
        let council = &self.state.council;
        let stay = council.iter().filter(|id| self.stays(**id)).count();
        let needed = council.len() / 2 + 1;
        if stay >= needed {
            return;
        }
        let text = format!(
            "{stay} of the {} members of the council would answer, and {needed} are needed to decide: no \
             table, member or plan could be changed",
            council.len()
        );
        let seated = council.iter().any(|id| self.gone.contains(id));
        let list = if seated { &mut reply.reasons } else { &mut reply.warnings };
        list.push(plain(OutageKind::Council, text));
    }

    fn plan(&self, reply: &mut OutageReply) {
        let Some(plan) = &self.state.topology.plan else { return };
        let is_gone = |ids: &[NodeId]| ids.iter().any(|id| self.gone.contains(id));
        let mut units: Vec<Unit> = Vec::new();
        for class in &self.state.classes {
            for moving in &class.moves {
                let unit = Unit { class: class.id, partition: moving.partition };
                // Copies that are read already wait for nobody but the old owners' acknowledgement.
                let filled = moving.phase == MovePhase::ReadOld && is_gone(&moving.other);
                let waits = filled || is_gone(self.state.owners(unit));
                units.extend(waits.then_some(unit));
            }
        }
        let queued = plan
            .queue
            .iter()
            .filter(|planned| is_gone(&planned.to) || is_gone(self.state.owners(planned.unit)));
        units.extend(queued.map(|planned| planned.unit));
        if units.is_empty() {
            return;
        }
        let what = match plan.status {
            PlanStatus::Running => "the plan that is carried out",
            PlanStatus::Paused => "the plan that is paused",
            PlanStatus::RollingBack => "the plan that is rolled back",
        };
        let text = format!("{what} would be held up in {} units until they are back", units.len());
        let mut reason = plain(OutageKind::Plan, text);
        reason.units = count(units.len());
        reason.examples = units.into_iter().take(EXAMPLES_MAX).collect();
        reply.reasons.push(reason);
    }

    /// Who would stand in for those that stop, for how many units.
    fn stand_ins(&self) -> Vec<(NodeName, u32)> {
        let ring = Ring::from_state(self.state);
        let away = self.members().filter(|id| !self.stays(*id)).count();
        let mut found: BTreeMap<NodeId, u32> = BTreeMap::new();
        for class in &self.state.classes {
            let reach = usize::from(class.n) + away + 1;
            let reach = u8::try_from(reach).unwrap_or(u8::MAX);
            for partition in self.state.partitions() {
                let unit = Unit { class: class.id, partition };
                let owners = self.state.owners(unit);
                let lacking = owners.iter().filter(|id| self.gone.contains(id)).count();
                if lacking == 0 {
                    continue;
                }
                let walk = ring.owners(partition, reach).into_iter();
                let free = walk.filter(|id| !owners.contains(id) && self.stays(*id));
                for id in free.take(lacking) {
                    *found.entry(id).or_default() += 1;
                }
            }
        }
        let named = |(id, units)| Some((self.state.member(id)?.name.clone(), units));
        found.into_iter().filter_map(named).collect()
    }

    /// Who of those away could be replaced, and by whom: a reserved member of the same zone first.
    fn replaced(&self) -> Vec<(NodeName, Option<NodeName>)> {
        let is_free = |id: NodeId| self.stays(id);
        let mut free: Vec<_> = self
            .state
            .members
            .iter()
            .filter(|member| member.role == Role::Reserved && is_free(member.id))
            .collect();
        let lost = self.state.members.iter().filter(|member| !self.stays(member.id));
        let lost = lost.filter(|member| member.role != Role::Reserved);
        lost.map(|member| {
            let near = free.iter().position(|reserve| reserve.zone == member.zone);
            let place = near.or(if free.is_empty() { None } else { Some(0) });
            (member.name.clone(), place.map(|place| free.remove(place).name.clone()))
        })
        .collect()
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What a table asks for, and whether stand-ins always count in it.
fn line_of(class: &Class, table: &Table) -> (OutageLine, bool) {
    let majority = class.n / 2 + 1;
    let (r, w) = match table.kind {
        TableKind::Linearizable => (majority, majority),
        TableKind::Lww | TableKind::Causal => (table.r.max(class.r_min), table.w.max(class.w_min)),
    };
    let line = OutageLine {
        class: class.id,
        tables: vec![table.name.clone()],
        kind: table.kind,
        n: class.n,
        r,
        w,
        partitions: count(class.owners.len()),
        writable: 0,
        by_stand_ins: 0,
        readable: 0,
        last_copy: 0,
        lost: 0,
    };
    (line, table.sloppy == Sloppy::Always && table.kind != TableKind::Linearizable)
}

fn can(class: &Class, line: &OutageLine, owners: Owners) -> Can {
    // A put needs so many owners that have all they should, whatever its w.
    let whole = match line.kind {
        TableKind::Linearizable => line.w,
        TableKind::Lww | TableKind::Causal => (class.n + 1).saturating_sub(class.w_min),
    };
    let read = owners.readers >= usize::from(line.r);
    let write = owners.writers >= usize::from(line.w) && owners.readers >= usize::from(whole);
    match line.kind {
        TableKind::Linearizable => Can { write, read: write },
        TableKind::Lww | TableKind::Causal => Can { write, read },
    }
}

fn lacking(kind: TableKind, write: bool, read: bool, lost: bool) -> Vec<OutageKind> {
    let mut kinds = Vec::new();
    if lost {
        kinds.push(OutageKind::Data);
    }
    match kind {
        TableKind::Linearizable if !write => kinds.push(OutageKind::Registers),
        TableKind::Linearizable => {}
        TableKind::Lww | TableKind::Causal => {
            kinds.extend((!write).then_some(OutageKind::Writes));
            kinds.extend((!read).then_some(OutageKind::Reads));
        }
    }
    kinds
}

fn reason(line: &OutageLine, kind: OutageKind, units: Vec<Unit>) -> OutageReason {
    let (number, all) = (units.len(), line.partitions);
    let names: Vec<&str> = line.tables.iter().map(TableName::as_str).collect();
    let whose = match names.as_slice() {
        [one] => format!("table {one}"),
        [one, two] => format!("tables {one} and {two}"),
        [one, ..] => format!("table {one} and {} more", names.len() - 1),
        [] => "no table".to_owned(),
    };
    let OutageLine { n, r, w, .. } = line;
    let text = match kind {
        OutageKind::Data => {
            format!("no complete copy of {number} of {all} partitions of {whose} would be left")
        }
        OutageKind::Writes => format!(
            "{number} of {all} partitions of {whose} could not be written: fewer than {w} of {n} owners"
        ),
        OutageKind::Reads => format!(
            "{number} of {all} partitions of {whose} could not be read: fewer than {r} of {n} owners"
        ),
        _ => format!(
            "{number} of {all} partitions of {whose} would lack a majority: fewer than {w} of {n} owners"
        ),
    };
    let examples = units.iter().take(EXAMPLES_MAX).copied().collect();
    OutageReason { kind, text, units: count(number), examples, tables: line.tables.clone() }
}

#[cfg(test)]
#[path = "outage_tests.rs"]
mod tests;
