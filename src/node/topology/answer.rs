//! What operators are told of members and plans.

use core::time::Duration;
use std::collections::BTreeMap;

use super::HeardBy;
use crate::control::{self, Draft, Heard, Lacks, Measured, Stuck, Watched};
use crate::message::{
    ClientResult, DraftReply, FillState, LinkLine, MoveLine, MoveProgress, PlanProgress,
    ReplicaFacts, Reply, ShareLine, StuckLine, TopologyReply,
};
use crate::node::Node;
use crate::types::{
    ClusterState, Epoch, Move, MovePhase, NodeId, NodeName, Plan, Planned, Role, Staged, Unit,
};

impl Node {
    /// What is staged, what it would do, and how far the plan is.
    pub(in crate::node) fn topology_reply(&self, epoch: Epoch) -> ClientResult {
        let state = self.serving_state()?;
        let staged: Vec<String> =
            state.topology.staged.iter().map(|staged| in_words(&state, staged)).collect();
        let draft = (!staged.is_empty()).then(|| self.draft_reply(&state));
        let running = state.topology.plan.as_ref().map(|plan| self.progress(&state, plan));
        let members = state.members.clone();
        let (stuck, custody) = (self.stuck_lines(&state), self.custody_lines(&state));
        let reply = TopologyReply { epoch, members, staged, draft, running, stuck, custody };
        Ok(Reply::Topology(Box::new(reply)))
    }

    /// The units that do not go on by themselves, and on whom each waits.
    fn stuck_lines(&self, state: &ClusterState) -> Vec<StuckLine> {
        let heard = HeardBy(self);
        let line = |stuck: Stuck| {
            let Stuck { unit, lacks, wanted, have, missing } = stuck;
            let down: Vec<NodeId> =
                missing.iter().copied().filter(|id| heard.is_down(*id)).collect();
            let why = match lacks {
                Lacks::Copies => {
                    format!(
                        "to fill an owner takes {wanted} others that are complete: {have} answer"
                    )
                }
                Lacks::Acknowledgements => format!(
                    "{wanted} of the old owners must say that they are read no more: {have} can"
                ),
            };
            let (waits_for, down) = (names(state, &missing), names(state, &down));
            StuckLine { unit, why, waits_for, down }
        };
        let stuck = control::stuck(state, &heard).into_iter();
        stuck.take(crate::types::limits::PLAN_LINES_MAX).map(line).collect()
    }

    /// Members that are to go, and keep writes for others who do not answer.
    fn custody_lines(&self, state: &ClusterState) -> Vec<String> {
        let heard = HeardBy(self);
        if state.topology.plan.is_none() {
            return Vec::new();
        }
        let leaving = state.members.iter().filter(|m| m.role == Role::Leaving && heard.is_up(m.id));
        let of_keeper = |keeper: &crate::types::Member| {
            let targets = heard.custody(keeper.id).targets.into_iter();
            let away = targets.filter(|(target, _)| !heard.is_up(*target));
            let line = |(target, count): (NodeId, u64)| {
                let (keeper, target) = (&keeper.name, name(state, target));
                format!(
                    "{keeper} keeps {count} writes for {target}, which does not answer, and stays \
                     until it has handed them over: to {target} when it is back, or once it has been \
                     away for a minute to the other owners, where as many as w answer. Start \
                     {target} again, or give them up with \
                     kvctl hints drop --node {keeper} --target {target}"
                )
            };
            away.map(line).collect::<Vec<_>>()
        };
        let since = state.topology.plan.as_ref().map(|plan| plan.since);
        let may_be_back = |id| Some(heard.acknowledged(id)) >= since && !heard.is_long_down(id);
        let silent = state.members.iter().filter(|member| {
            member.role == Role::Leaving && !heard.is_up(member.id) && may_be_back(member.id)
        });
        let silent = silent.map(|member| {
            let name = &member.name;
            format!(
                "{name} is to leave and does not answer: what it may keep for others is waited for until it has \
                 been away for a minute. Then it goes, and what it kept is lost with it: start {name} again"
            )
        });
        leaving.flat_map(of_keeper).chain(silent).collect()
    }

    fn draft_reply(&self, state: &ClusterState) -> DraftReply {
        self.lines_of(state, control::draft(state))
    }

    /// What a draft would do, with the sizes that members have told.
    pub(in crate::node) fn lines_of(&self, state: &ClusterState, draft: Draft) -> DraftReply {
        let sizes = self.sizes(state);
        let mut links: BTreeMap<(NodeId, NodeId), (u32, u64)> = BTreeMap::new();
        let mut moves = Vec::with_capacity(draft.moves.len());
        for Planned { unit, to } in &draft.moves {
            let from = state.owners(*unit);
            let source = from.first().copied().unwrap_or_default();
            let mut line = MoveLine {
                unit: *unit,
                from: names(state, from),
                to: names(state, to),
                bytes: 0,
                keys: 0,
            };
            for target in to.iter().filter(|id| !from.contains(id)) {
                let (bytes, keys) = self.arrives(&sizes, (from, to, *target));
                let link = links.entry((source, *target)).or_default();
                *link = (link.0 + 1, link.1 + bytes);
                (line.bytes, line.keys) = (line.bytes + bytes, line.keys + keys);
            }
            moves.push(line);
        }
        let link = |((from, to), (units, bytes)): ((NodeId, NodeId), (u32, u64))| LinkLine {
            from: name(state, from),
            to: name(state, to),
            units,
            bytes,
        };
        let shares = self.shares_of(state, &draft, &sizes);
        let mut warnings = self.warnings(state, &draft);
        let free = |name: &NodeName| {
            let member = state.member_named(name)?;
            self.room_of(member.id).free
        };
        warnings.extend(shares.iter().filter_map(|share| lacks_room(share, free(&share.node)?)));
        DraftReply {
            hash: draft.hash,
            warnings,
            shares,
            duration: self.duration(&links),
            reasons: draft.reasons,
            move_count: u32::try_from(moves.len()).unwrap_or(u32::MAX),
            moves,
            links: links.into_iter().map(link).collect(),
        }
    }

    /// Bytes and keys that a new owner of a unit is given: an average copy, less the part of them that it mirrors
    /// of whoever gives its own up. What is mirrored is compared, and little of it moves.
    fn arrives(
        &self,
        sizes: &BTreeMap<NodeId, (u64, u64, u32)>,
        (from, to, target): (&[NodeId], &[NodeId], NodeId),
    ) -> (u64, u64) {
        let source = from.first().copied().unwrap_or_default();
        let (bytes, keys, _) = sizes.get(&source).copied().unwrap_or_default();
        let part = |gone: &NodeId| {
            let (.., owned) = sizes.get(gone).copied().unwrap_or_default();
            let warm = HeardBy(self).mirrors(target, *gone).min(owned);
            (u64::from(owned - warm) * 1000).checked_div(u64::from(owned)).unwrap_or(1000)
        };
        let gone = from.iter().filter(|id| !to.contains(id));
        let cold = gone.map(part).min().filter(|_| !crate::mutant!("preview-forgets-mirrors"));
        let cold = u128::from(cold.unwrap_or(1000));
        let of = |whole: u64| u64::try_from(u128::from(whole) * cold / 1000).unwrap_or(whole);
        (of(bytes), of(keys))
    }

    /// Bytes and keys of an average copy of a unit, and how many it owns, by member, as each has told.
    fn sizes(&self, state: &ClusterState) -> BTreeMap<NodeId, (u64, u64, u32)> {
        let copies = copies(state.classes.iter().flat_map(|class| &class.owners).flatten());
        let size = |member: &crate::types::Member| {
            let facts = self.replica_facts(member.id);
            let copies = copies.get(&member.id).copied().unwrap_or(0);
            let owned = u64::from(copies).max(1);
            (member.id, (facts.disk_bytes / owned, facts.keys / owned, copies))
        };
        state.members.iter().map(size).collect()
    }

    pub(in crate::node) fn replica_facts(&self, member: NodeId) -> ReplicaFacts {
        if member == self.me {
            return self.replica;
        }
        let known = self.members.facts(member).and_then(|known| known.facts);
        known.map_or_else(ReplicaFacts::default, |facts| facts.replica)
    }

    fn shares_of(
        &self,
        state: &ClusterState,
        draft: &Draft,
        sizes: &BTreeMap<NodeId, (u64, u64, u32)>,
    ) -> Vec<ShareLine> {
        let before = copies(state.classes.iter().flat_map(|class| &class.owners).flatten());
        let (mut gains, mut losses) = (BTreeMap::new(), BTreeMap::new());
        for Planned { unit, to } in &draft.moves {
            let from = state.owners(*unit);
            for id in to.iter().filter(|id| !from.contains(id)) {
                let (bytes, _) = self.arrives(sizes, (from, to, *id));
                let gain: &mut (u32, u64) = gains.entry(*id).or_default();
                *gain = (gain.0 + 1, gain.1 + bytes);
            }
            for id in from.iter().filter(|id| !to.contains(id)) {
                let loss: &mut (u32, u64) = losses.entry(*id).or_default();
                let own = sizes.get(id).copied().unwrap_or_default().0;
                *loss = (loss.0 + 1, loss.1 + own);
            }
        }
        let line = |member: &crate::types::Member| {
            let owned = before.get(&member.id).copied().unwrap_or(0);
            let gain = gains.get(&member.id).copied().unwrap_or_default();
            let loss = losses.get(&member.id).copied().unwrap_or_default();
            let bytes = self.replica_facts(member.id).disk_bytes;
            ShareLine {
                node: member.name.clone(),
                before: owned,
                after: (owned + gain.0).saturating_sub(loss.0),
                bytes_before: bytes,
                bytes_after: (bytes + gain.1).saturating_sub(loss.1),
                // What goes is deleted batch by batch, after what comes in the same batch is there.
                bytes_peak: bytes + gain.1,
            }
        };
        state.members.iter().map(line).collect()
    }

    /// About how long the copies take: the busiest target, under its throttle.
    fn duration(&self, links: &BTreeMap<(NodeId, NodeId), (u32, u64)>) -> Duration {
        let mut by_target: BTreeMap<NodeId, u64> = BTreeMap::new();
        for ((_, to), (_, bytes)) in links {
            *by_target.entry(*to).or_default() += bytes;
        }
        let most = by_target.values().copied().max().unwrap_or(0);
        let units: u64 = links.values().map(|(units, _)| u64::from(*units)).sum();
        // Three epochs for each batch of units, beside the bytes.
        let batches = units.div_ceil(crate::types::limits::MOVES_MAX as u64);
        Duration::from_secs(most.checked_div(self.transfer_rate()).unwrap_or(0) + batches)
    }

    fn warnings(&self, state: &ClusterState, draft: &Draft) -> Vec<String> {
        let mut warnings = Vec::new();
        let heard = HeardBy(self);
        for member in &draft.members {
            if member.role == Role::Active && !heard.is_up(member.id) {
                let (name, units) = (&member.name, draft.moves.len());
                warnings.push(format!(
                    "{name} does not answer: of the {units} moves, those to it wait until it does"
                ));
            }
        }
        let short = draft.moves.iter().filter(|planned| {
            let owners = state.owners(planned.unit);
            let Some(class) = state.class(planned.unit.class) else { return false };
            let up = owners.iter().filter(|id| heard.is_up(**id)).count();
            up <= usize::from(class.n - class.w_min)
        });
        let short = short.count();
        if short > 0 {
            warnings.push(format!(
                "of {short} units fewer owners answer than a copy needs sources: they wait"
            ));
        }
        let tight = draft.moves.iter().filter(|planned| {
            let owners = state.owners(planned.unit);
            let Some(class) = state.class(planned.unit.class) else { return false };
            let up = owners.iter().filter(|id| heard.is_up(**id)).count();
            up == usize::from(class.r_min.max(class.w_min))
        });
        let tight = tight.count();
        if tight > 0 {
            warnings.push(format!(
                "{tight} units have no owner to spare: if one more of their owners dies now, they \
                 cannot be written until it is back"
            ));
        }
        warnings
    }

    fn progress(&self, state: &ClusterState, plan: &Plan) -> PlanProgress {
        let mut under_way = Vec::new();
        for class in &state.classes {
            for moving in &class.moves {
                let unit = Unit { class: class.id, partition: moving.partition };
                under_way.push(self.move_progress(state, moving, unit));
            }
        }
        let moving = u32::try_from(under_way.len()).unwrap_or(u32::MAX);
        let begun = u32::try_from(plan.begun.len()).unwrap_or(u32::MAX);
        PlanProgress {
            hash: plan.hash,
            status: plan.status,
            total: plan.total,
            done: begun.saturating_sub(moving),
            queued: u32::try_from(plan.queue.len()).unwrap_or(u32::MAX),
            under_way,
        }
    }

    fn move_progress(&self, state: &ClusterState, moving: &Move, unit: Unit) -> MoveProgress {
        let heard = HeardBy(self);
        let fills = moving.other.iter().filter(|id| !state.owners(unit).contains(id));
        let fill = |id: &NodeId| {
            let entry = state.entry(unit, *id).unwrap_or_default();
            let done = if heard.is_complete(*id, unit, entry) {
                1000
            } else {
                let news = heard.fills(*id);
                let news = news.iter().find(|news| news.unit == unit && news.entry == entry);
                match news.map(|news| news.state) {
                    Some(FillState::Filling { done_milli }) => done_milli.min(999),
                    Some(FillState::Complete | FillState::Lost) | None => 0,
                }
            };
            (name(state, *id), done)
        };
        let fills: Vec<(NodeName, u16)> = match moving.phase {
            MovePhase::ReadOld => fills.map(fill).collect(),
            MovePhase::ReadNew => Vec::new(),
        };
        let waits: Vec<NodeId> = match moving.phase {
            MovePhase::ReadOld => control::waits_for_fill(state, moving, unit, &heard),
            MovePhase::ReadNew => control::behind(state, moving, unit, &heard),
        };
        let who: Vec<String> = names(state, &waits).iter().map(ToString::to_string).collect();
        let what = match moving.phase {
            MovePhase::ReadOld => "to be filled",
            MovePhase::ReadNew => "to acknowledge",
        };
        let mut waits_for = match who.is_empty() {
            true => String::new(),
            false => format!("{} {what}", who.join(", ")),
        };
        let stands = |id: &NodeId| heard.load(*id).is_some_and(|load| load.paused);
        let copies = waits.iter().chain(state.owners(unit));
        let stand: Vec<NodeId> = copies.copied().filter(stands).collect();
        if moving.phase == MovePhase::ReadOld && !who.is_empty() && !stand.is_empty() {
            let stand: Vec<String> = names(state, &stand).iter().map(ToString::to_string).collect();
            let stand = stand.join(", ");
            waits_for.push_str(&format!("; {stand} copy nothing for now: users wait longer"));
        }
        let undoes = moving.phase == MovePhase::ReadOld && moving.was_read;
        MoveProgress { unit, phase: moving.phase, undoes, fills, waits_for }
    }
}

/// Says so when a member would be given more than its file system has room for. What comes is there before
/// what goes is deleted.
fn lacks_room(share: &ShareLine, free: u64) -> Option<String> {
    let coming = share.bytes_peak.saturating_sub(share.bytes_before);
    (coming > free).then(|| {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (coming, free) = (mib(coming), free >> 20);
        format!(
            "{} is given about {coming} MiB, and has room for {free} MiB: its copies will wait for room",
            share.node
        )
    })
}

fn copies<'a>(owners: impl Iterator<Item = &'a NodeId>) -> BTreeMap<NodeId, u32> {
    let mut copies = BTreeMap::new();
    for id in owners {
        *copies.entry(*id).or_default() += 1;
    }
    copies
}

fn name(state: &ClusterState, id: NodeId) -> NodeName {
    let known = state.member(id).map(|member| member.name.clone());
    known.unwrap_or_else(|| format!("id-{id}").parse().expect("letters, digits and a dash"))
}

fn names(state: &ClusterState, ids: &[NodeId]) -> Vec<NodeName> {
    ids.iter().map(|id| name(state, *id)).collect()
}

fn in_words(state: &ClusterState, staged: &Staged) -> String {
    match staged {
        Staged::Join(id) => format!("{} joins", name(state, *id)),
        Staged::Leave(id) => format!("{} leaves", name(state, *id)),
        Staged::Replace { old, new } => {
            format!("{} replaces {}", name(state, *new), name(state, *old))
        }
        Staged::Set { member, weight_milli, zone } => {
            let weight = weight_milli.map(|milli| format!("weight {}", f64::from(milli) / 1000.0));
            let zone = zone.as_ref().map(|zone| format!("zone {}", zone.as_str()));
            let what: Vec<String> = weight.into_iter().chain(zone).collect();
            format!("{} gets {}", name(state, *member), what.join(" and "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_given_more_than_it_has_room_for_is_named() {
        let share = ShareLine {
            node: "n4".parse().unwrap(),
            before: 0,
            after: 9,
            bytes_before: 5 << 20,
            bytes_after: 12 << 20,
            bytes_peak: 15 << 20,
        };
        assert_eq!(lacks_room(&share, 10 << 20), None);
        let text = lacks_room(&share, (10 << 20) - 1).unwrap();
        assert!(text.contains("n4 is given about 10 MiB, and has room for 9 MiB"), "{text}");
    }
}
