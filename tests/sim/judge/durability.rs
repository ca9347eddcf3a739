//! I9: an acknowledged write is on w disks. The books hold what each disk has reported as durable;
//! the world holds some of the entries against the disks themselves. A disk that is emptied stays in
//! the books: its reports were true, and an answer that rests on one may still be on its way.

use std::collections::BTreeMap;

use roundtable::types::{Key, Stamp};

/// The highest version of each key that each disk has reported as durable.
#[derive(Debug, Default)]
pub(crate) struct Durability {
    disks: BTreeMap<usize, BTreeMap<Key, Stamp>>,
    /// The same of hints, on whatever disk, by the owner they are for.
    kept: BTreeMap<usize, BTreeMap<Key, Stamp>>,
}

impl Durability {
    /// The disk of `host` has reported that it durably holds `key` at `stamp` or above.
    pub(crate) fn stored(&mut self, host: usize, key: &Key, stamp: Stamp) {
        let known = self.disks.entry(host).or_default().entry(key.clone()).or_default();
        *known = stamp.max(*known);
    }

    /// Some disk has reported that it durably keeps `key` at `stamp` or above for `owner`.
    pub(crate) fn kept(&mut self, owner: usize, key: &Key, stamp: Stamp) {
        let known = self.kept.entry(owner).or_default().entry(key.clone()).or_default();
        *known = stamp.max(*known);
    }

    /// Which of `owners` durably hold `key` at `stamp` or above, or have it kept for them.
    pub(crate) fn holders(
        &self,
        owners: &[usize],
        key: &Key,
        stamp: Stamp,
        stand_ins: bool,
    ) -> Vec<usize> {
        let at_least = |disk: Option<&BTreeMap<Key, Stamp>>| {
            disk.and_then(|disk| disk.get(key)).is_some_and(|held| *held >= stamp)
        };
        let holds = |host: &&usize| {
            at_least(self.disks.get(host)) || stand_ins && at_least(self.kept.get(host))
        };
        owners.iter().filter(holds).copied().collect()
    }

    /// A write of `key` at `stamp` was acknowledged on `needed` of `owners`, or their stand-ins.
    pub(crate) fn acknowledged(
        &self,
        owners: &[usize],
        key: &Key,
        stamp: Stamp,
        (needed, stand_ins): (u8, bool),
    ) -> Result<(), String> {
        let holders = self.holders(owners, key, stamp, stand_ins).len();
        if holders < usize::from(needed) {
            return Err(format!(
                "{key:?} at {stamp} was acknowledged, {holders} of {needed} hold it"
            ));
        }
        Ok(())
    }
}
