//! What operators are told of deletes that wait to be purged: how many, and who holds them back.

use std::collections::BTreeMap;

use super::Node;
use super::disk::{Pending, failed};
use super::floors::FloorPending;
use crate::message::{
    ClientResult, DiskAnswer, DiskError, DiskRequest, Effect, ErrorCode, FloorDisk, FloorDone,
    GcBlocker, GcReply, GcUnit, OpError, Reply,
};
use crate::repair::floor::Blocked;
use crate::types::{NodeId, Now, OpId, Stamp, Unit, WallTime, limits};

/// Entries that are counted for one answer; the store counts no more.
const COUNTED_MAX: u64 = 200_000;

impl Node {
    pub(super) fn on_gc_request(&mut self, op: OpId) {
        let units = self.units_after(None, usize::MAX);
        let ask = FloorDisk::Count(units, u64::MAX);
        let pending = Pending::Floor(FloorPending::Counted(op));
        self.disk(pending, DiskRequest::Floor(Box::new(ask)));
    }

    pub(super) fn on_gc_counted(
        &mut self,
        now: Now,
        op: OpId,
        result: Result<DiskAnswer, DiskError>,
    ) {
        let result: ClientResult = match result {
            Ok(DiskAnswer::Floor(FloorDone::Counted(counted))) => {
                Ok(Reply::Gc(Box::new(self.gc_reply(now, counted))))
            }
            Ok(_) => Err(OpError::new(ErrorCode::Internal, "the disk gave another answer")),
            Err(error) => Err(failed(&error)),
        };
        self.effects.push_back(Effect::Reply { op, result });
    }

    fn gc_reply(&self, now: Now, counted: Vec<(Unit, u64, Option<Stamp>)>) -> GcReply {
        let age = self.purge_age(now);
        let mut reply = GcReply {
            slack: self.config.purge_slack,
            purged: self.floors.purged,
            ..GcReply::default()
        };
        let mut blockers = BTreeMap::<(String, String), u64>::new();
        for (unit, deletes, lowest) in counted {
            reply.deletes += deletes;
            reply.units += u64::from(deletes > 0);
            // What is at or below the floor is being deleted at this moment.
            let Some(lowest) = lowest.filter(|at| *at > self.floor_of(unit)) else { continue };
            if lowest.time > age {
                continue;
            }
            let oldest_age = now.wall.ahead_of(lowest.time);
            reply.waiting_units += 1;
            reply.oldest_age = reply.oldest_age.max(oldest_age);
            let by = self.held_back_by(unit, lowest);
            let blocked_by = by.iter().map(|(member, _)| member.clone()).collect();
            for blocker in by {
                *blockers.entry(blocker).or_default() += 1;
            }
            if reply.waiting.len() < limits::GC_SHOWN_MAX {
                let floor: WallTime = self.floor_of(unit).time;
                reply.waiting.push(GcUnit { unit, deletes, oldest_age, floor, blocked_by });
            }
        }
        reply.more = reply.deletes >= COUNTED_MAX;
        let line = |((member, why), units)| GcBlocker { member, why, units };
        reply.blockers = blockers.into_iter().map(line).collect();
        reply.blockers.sort_by_key(|blocker| core::cmp::Reverse(blocker.units));
        reply
    }

    /// Who holds a delete back, by name, and why.
    fn held_back_by(&self, unit: Unit, lowest: Stamp) -> Vec<(String, String)> {
        let named = |id: NodeId, why: &str| {
            let known = self.state.as_ref().and_then(|state| state.member(id));
            let name = known.map_or_else(|| id.to_string(), |member| member.name.to_string());
            let is_away = id != self.me && !self.members.is_reachable(id);
            (name, if is_away { "cannot be reached".to_owned() } else { why.to_owned() })
        };
        if !self.is_complete(unit) {
            return vec![named(self.me, "is being filled")];
        }
        if self.floor_gate(unit) < lowest {
            let holders = self.custody_holders(unit, lowest).into_iter();
            let why = "has not told that it holds nothing so old in custody";
            return holders.map(|id| named(id, why)).collect();
        }
        let blocked = self.floor_blocked(unit).into_iter();
        let line = |blocked| match blocked {
            Blocked::NotCompared(id) => named(id, "has not been found equal yet"),
            Blocked::NotVouched(id) => named(id, "has not found all others equal yet"),
            Blocked::NotAgreed(id) => named(id, "has not heard of all others yet"),
        };
        blocked.map(line).collect()
    }
}
