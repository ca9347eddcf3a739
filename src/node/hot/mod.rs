//! Which partitions and keys clients ask this node for most: counted where requests come in, once each,
//! whichever node coordinates them, so that the sums over all nodes are the cluster's. Bounded: one small
//! counter a unit that was asked for, and a sketch of keys. What other nodes ask of this replica is counted by
//! itself (`copies`); scans are in neither.

mod copies;
mod fading;
mod sketch;

use core::time::Duration;
use std::collections::BTreeMap;

use crate::message::{ClientBody, HotKey, HotReply, HotUnit, WorkNews};
use crate::types::{ClusterState, Key, Now, Role, Table, TableId, Time, Unit, limits};

use super::Node;
use super::client::unit_of;
use copies::Copies;
use fading::Fading;
use sketch::{Counted, Sketch};

const HALF_LIFE: Duration = Duration::from_secs(60);
/// Keys the sketch knows: several times those that are shown, which makes these exact enough.
const KEYS: usize = 128;
/// A unit that has had less than this a second is forgotten when weights are renewed.
const FORGOTTEN: f64 = 1e-6;
/// Of a key that is asked for so often a second here, owners are read in turns.
const IN_TURNS: f64 = 20.0;

/// What was asked of a unit, as sums of weights.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    reads: f64,
    writes: f64,
    bytes: f64,
}

/// The counters.
#[derive(Debug)]
pub struct Hot {
    fading: Fading,
    units: BTreeMap<Unit, Counts>,
    keys: Sketch,
    /// The weight of the moment it was last asked for.
    weight: (Time, f64),
    copies: Copies,
    /// Reads of hot keys so far.
    turn: u8,
}

impl Default for Hot {
    fn default() -> Hot {
        Hot::new(Time(0))
    }
}

impl Hot {
    /// Nothing yet.
    pub fn new(now: Time) -> Hot {
        let fading = Fading::new(now, HALF_LIFE);
        let weight = (now, fading.weight(now));
        let (units, keys) = (BTreeMap::new(), Sketch::new(KEYS));
        Hot { fading, units, keys, weight, copies: Copies::new(now), turn: 0 }
    }

    /// Counts a request for a key: whether it is a write, and the bytes of its key and value.
    pub fn count(
        &mut self,
        now: Time,
        unit: Unit,
        (table, key): (TableId, &Key),
        of: (bool, usize),
    ) {
        let weight = self.weight(now);
        let (is_write, bytes) = of;
        let counts = self.units.entry(unit).or_default();
        if is_write {
            counts.writes += weight;
        } else {
            counts.reads += weight;
        }
        counts.bytes += weight * f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.keys.add((table, key.clone()), weight);
    }

    /// With which owner a read of this key begins: others each time, if it is hot; else always 0, so that few of them
    /// have to have it in memory.
    pub fn turn(&mut self, now: Time, table: TableId, key: &Key) -> u8 {
        let rate = self.fading.rate(self.keys.sure(&(table, key.clone())), now);
        if rate < IN_TURNS || crate::mutant!("hot-keys-without-turns") {
            return 0;
        }
        self.turn = self.turn.wrapping_add(1);
        self.turn
    }

    fn weight(&mut self, now: Time) -> f64 {
        // Within a millisecond it is the same to five digits.
        if now.since(self.weight.0) >= Duration::from_millis(1) {
            if let Some(factor) = self.fading.renew(now) {
                self.scale(factor);
            }
            self.weight = (now, self.fading.weight(now));
        }
        self.weight.1
    }

    fn scale(&mut self, factor: f64) {
        for counts in self.units.values_mut() {
            counts.reads *= factor;
            counts.writes *= factor;
            counts.bytes *= factor;
        }
        self.units.retain(|_, counts| counts.reads + counts.writes > FORGOTTEN);
        self.keys.scale(factor);
    }

    /// The hottest units, hottest first, at most `limit`; and what all of them come to.
    fn units(&self, now: Time, limit: usize) -> (Vec<HotUnit>, f64) {
        let rate = |sum| self.fading.rate(sum, now);
        let unit = |(unit, counts): (&Unit, &Counts)| HotUnit {
            unit: *unit,
            reads: rate(counts.reads),
            writes: rate(counts.writes),
            bytes: rate(counts.bytes),
        };
        let mut units: Vec<HotUnit> = self.units.iter().map(unit).collect();
        let all = units.iter().map(|unit| unit.reads + unit.writes).sum();
        let of = |unit: &HotUnit| unit.reads + unit.writes;
        units.sort_by(|a, b| of(b).total_cmp(&of(a)).then_with(|| a.unit.cmp(&b.unit)));
        units.truncate(limit);
        (units, all)
    }

    /// The share that the hottest unit has of all, 0..1; 0 while nothing is asked.
    pub fn hottest_share(&self, now: Time) -> f64 {
        let (units, all) = self.units(now, 1);
        let first = units.first().map_or(0.0, |unit| unit.reads + unit.writes);
        if all > 1e-3 { first / all } else { 0.0 }
    }
}

/// The key that a request is about, whether it writes, and its bytes.
fn about(body: &ClientBody) -> Option<(&Key, bool, usize)> {
    if let ClientBody::Batch(batch) = body {
        // One operation, of one unit: told under its first key.
        let first = batch.items.first()?;
        return Some((&first.key, true, batch.bytes()));
    }
    let (key, is_write) = match body {
        ClientBody::Get(get) => (&get.key, false),
        ClientBody::Put(put) => (&put.key, true),
        ClientBody::Cas(cas) => (&cas.key, true),
        ClientBody::Increment(increment) => (&increment.key, true),
        ClientBody::Outcome(ask) => (&ask.key, false),
        ClientBody::Scan(_) | ClientBody::Watch(_) | ClientBody::Batch(_) => return None,
    };
    Some((key, is_write, body.bytes()))
}

impl Node {
    /// Counts what a client asks, once it has been let in.
    pub(super) fn count_hot(
        &mut self,
        now: Now,
        state: &ClusterState,
        table: &Table,
        body: &ClientBody,
    ) {
        let Some((key, is_write, bytes)) = about(body) else { return };
        let unit = unit_of(state, table, key);
        self.tables.hot.count(now.mono, unit, (table.id, key), (is_write, bytes));
    }

    /// Counts what a copy of this node is asked for: with the bytes of what is written.
    pub(super) fn count_copy(&mut self, now: Time, unit: Unit, bytes: usize) {
        self.tables.hot.copies.count(now, unit, bytes);
    }

    /// Counts the bytes of what was read of a copy.
    pub(super) fn count_copy_read(&mut self, now: Time, unit: Unit, bytes: usize) {
        self.tables.hot.copies.count_read(now, unit, bytes);
    }

    /// What the copies that this node owns are asked for; `None` when it owns none.
    pub(super) fn work_news(&self, now: Time, state: &ClusterState) -> Option<WorkNews> {
        let owns = |unit: Unit| state.owners(unit).contains(&self.me);
        let is_active = state.member(self.me).is_some_and(|it| it.role == Role::Active);
        is_active.then(|| self.tables.hot.copies.told(now, owns))
    }

    /// What clients ask this node for most.
    pub(super) fn hot_reply(&self, now: Now, limit: u32) -> HotReply {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(limits::PLAN_LINES_MAX);
        let (units, operations) = self.tables.hot.units(now.mono, limit);
        let named = |Counted { name: (id, key), count, error }| {
            let table = self.state.as_ref()?.table(id)?;
            let rate = |sum| self.tables.hot.fading.rate(sum, now.mono);
            let unit = unit_of(self.state.as_ref()?, table, &key);
            let (rate, error) = (rate(count), rate(error));
            Some(HotKey { table: table.name.clone(), key, unit, rate, error })
        };
        let keys = self.tables.hot.keys.top(limits::HOT_KEYS_MAX).into_iter().filter_map(named);
        HotReply { me: self.config.name.clone(), units, operations, keys: keys.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClassId, Partition};

    fn unit(partition: u16) -> Unit {
        Unit { class: ClassId(0), partition: Partition(partition) }
    }

    fn at(seconds: u64) -> Time {
        Time(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn only_hot_keys_take_turns() {
        let mut hot = Hot::new(at(0));
        let key = |number: u32| Key::new(format!("k{number}")).unwrap();
        for second in 0..120 {
            for _ in 0..40 {
                hot.count(at(second), unit(7), (TableId(1), &key(7)), (false, 100));
            }
            hot.count(at(second), unit(7), (TableId(1), &key(8)), (false, 100));
        }
        let mut turns = |key: Key, table| [0; 4].map(|_| hot.turn(at(120), TableId(table), &key));
        assert_eq!(turns(key(7), 1), [1, 2, 3, 4]);
        assert_eq!(turns(key(8), 1), [0; 4]);
        assert_eq!(turns(key(7), 2), [0; 4], "the same key of another table");
        assert_eq!(hot.turn(at(900), TableId(1), &key(7)), 0, "it is not hot any more");
        let _armed = crate::testing::arm_mutant("hot-keys-without-turns");
        assert_eq!(hot.turn(at(120), TableId(1), &key(7)), 0, "the planted bug");
    }

    #[test]
    fn the_hottest_unit_comes_first_with_its_share() {
        let mut hot = Hot::new(at(0));
        let key = |number: u32| Key::new(format!("k{number}")).unwrap();
        for second in 0..600 {
            for _ in 0..3 {
                hot.count(at(second), unit(7), (TableId(1), &key(7)), (true, 100));
            }
            hot.count(at(second), unit(2), (TableId(1), &key(2)), (false, 10));
        }
        let (units, all) = hot.units(at(600), 10);
        assert_eq!((units[0].unit, units[1].unit), (unit(7), unit(2)));
        assert!((units[0].writes - 3.0).abs() < 0.1 && (units[0].bytes - 300.0).abs() < 10.0);
        assert!((all - 4.0).abs() < 0.1 && (hot.hottest_share(at(600)) - 0.75).abs() < 1e-9);
        assert_eq!(hot.keys.top(1)[0].name.1, key(7));
        // What was is forgotten, and its counters with it.
        hot.count(at(10_000), unit(1), (TableId(1), &key(1)), (false, 1));
        hot.count(at(20_000), unit(1), (TableId(1), &key(1)), (false, 1));
        assert_eq!(hot.units.len(), 1);
        assert!(hot.units(at(20_000), 10).1 < 0.02);
    }
}
