//! What the owners of a key of a linearizable table agree on: one state after the other, each with
//! the ids of the latest changes, so that a change that is asked for twice is made once. The bytes
//! are those of `docs/format/register.md`.

use bytes::{Buf, Bytes};

use super::limits::RECENT_IDS_MAX;
use super::{Record, RequestId, Stamp, Value, WallTime};

const TOMBSTONE: u8 = 0b001;
const EXPIRES: u8 = 0b010;
const FORGOT: u8 = 0b100;

/// One state of a key. The default is that of a key nobody has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterState {
    /// The value; `None` when there is none.
    pub value: Option<Value>,
    /// When the value's time to live is over. It stays the value until a later state says
    /// otherwise. `None` without a value.
    pub expiry: Option<WallTime>,
    /// The ballot of the change that made this value, or took the last one away. A state that is
    /// only written again keeps it.
    pub stamp: Stamp,
    /// The latest changes.
    pub ids: RecentIds,
}

/// What became of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentId {
    /// The change.
    pub id: RequestId,
    /// The ballot at which that was decided.
    pub ballot: Stamp,
    /// It was made; else it was given up for good.
    pub applied: bool,
}

/// The latest changes of a key, oldest first.
/// INVARIANT: at most [`RECENT_IDS_MAX`], in ascending order of ballots, all above `forgotten`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecentIds {
    list: Vec<RecentId>,
    /// The ballot of the latest one that was forgotten.
    forgotten: Stamp,
}

impl RegisterState {
    /// That of a key whose state, if it had any, was purged with all that it knew of changes up to the ballot
    /// `forgotten`; of one that nobody has written if that is zero.
    pub fn purged(forgotten: Stamp) -> RegisterState {
        let ids = RecentIds { list: Vec::new(), forgotten };
        RegisterState { ids, ..RegisterState::default() }
    }

    /// Whether the time to live of its value is over at `wall`.
    pub fn is_expired(&self, wall: WallTime) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= wall)
    }

    /// The version that readers are shown; `None` without a value.
    pub fn record(&self) -> Option<Record> {
        let value = Some(self.value.clone()?);
        Some(Record { stamp: self.stamp, expiry: self.expiry, value })
    }

    /// Bytes it accounts for in queues and memory.
    pub fn bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, |value| value.as_bytes().len());
        size_of::<RegisterState>() + value + self.ids.list.len() * size_of::<RecentId>()
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let forgot = self.ids.forgotten != Stamp::ZERO;
        out.push(
            flag(self.value.is_none(), TOMBSTONE)
                | flag(self.expiry.is_some(), EXPIRES)
                | flag(forgot, FORGOT),
        );
        out.extend_from_slice(&self.stamp.to_bytes());
        if let Some(expiry) = self.expiry {
            out.extend_from_slice(&expiry.0.to_be_bytes());
        }
        if forgot {
            out.extend_from_slice(&self.ids.forgotten.to_bytes());
        }
        out.push(u8::try_from(self.ids.list.len()).expect("at most 64 ids"));
        for entry in &self.ids.list {
            out.extend_from_slice(&entry.id.0.to_be_bytes());
            out.extend_from_slice(&entry.ballot.to_bytes());
            out.push(u8::from(entry.applied));
        }
        out.extend_from_slice(self.value.as_ref().map_or(&[][..], Value::as_bytes));
    }

    /// Reads a state; its value shares the bytes given. `None` when they are not one.
    pub fn decode(mut bytes: Bytes) -> Option<RegisterState> {
        let flags = bytes.try_get_u8().ok()?;
        let (gone, expires) = (flags & TOMBSTONE != 0, flags & EXPIRES != 0);
        if flags & !(TOMBSTONE | EXPIRES | FORGOT) != 0 || (gone && expires) {
            return None;
        }
        let stamp = stamp(&mut bytes)?;
        let expiry = if expires { Some(WallTime(bytes.try_get_u64().ok()?)) } else { None };
        let forgotten = if flags & FORGOT == 0 { Stamp::ZERO } else { self::stamp(&mut bytes)? };
        let count = usize::from(bytes.try_get_u8().ok()?);
        if count > RECENT_IDS_MAX {
            return None;
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            let id = RequestId(bytes.try_get_u128().ok()?);
            let ballot = self::stamp(&mut bytes)?;
            let applied = match bytes.try_get_u8().ok()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            list.push(RecentId { id, ballot, applied });
        }
        let ballots = || list.iter().map(|entry| entry.ballot);
        let in_order = ballots().is_sorted_by(|a, b| a < b);
        if !in_order || ballots().next().is_some_and(|first| first <= forgotten) {
            return None;
        }
        if gone && !bytes.is_empty() {
            return None;
        }
        let value = if gone { None } else { Some(Value::new(bytes).ok()?) };
        Some(RegisterState { value, expiry, stamp, ids: RecentIds { list, forgotten } })
    }
}

impl RecentIds {
    /// What became of a change, if that is still known.
    pub fn find(&self, id: RequestId) -> Option<RecentId> {
        self.list.iter().rev().find(|entry| entry.id == id).copied()
    }

    /// Enters what became of a change. The oldest goes when there are too many. `ballot` is above
    /// all that were entered before.
    pub fn enter(&mut self, id: RequestId, ballot: Stamp, applied: bool) {
        self.list.push(RecentId { id, ballot, applied });
        if self.list.len() > RECENT_IDS_MAX {
            self.forgotten = self.list.remove(0).ballot;
        }
    }

    /// Whether a change that was decided after `since` can have been forgotten.
    pub fn may_have_forgotten(&self, since: WallTime) -> bool {
        self.forgotten.time > since
    }
}

fn stamp(bytes: &mut Bytes) -> Option<Stamp> {
    let mut raw = [0; Stamp::BYTES];
    bytes.try_copy_to_slice(&mut raw).ok()?;
    Some(Stamp::from_bytes(raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;
    use proptest::prelude::*;

    fn at(time: u64) -> Stamp {
        Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
    }

    fn states() -> impl Strategy<Value = RegisterState> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        (value, any::<Option<u64>>(), any::<[u8; 16]>(), 0..150u64, 0..3u64).prop_map(
            |(value, expiry, stamp, changes, purged)| {
                let mut ids = RegisterState::purged(at(purged)).ids;
                for n in purged + 1..=purged + changes {
                    ids.enter(RequestId(n.into()), at(n), n % 3 != 0);
                }
                RegisterState {
                    expiry: expiry.filter(|_| value.is_some()).map(WallTime),
                    value: value.map(|value| Value::new(value).unwrap()),
                    stamp: Stamp::from_bytes(stamp),
                    ids,
                }
            },
        )
    }

    #[test]
    fn the_bytes_of_a_state_stay_what_they_are() {
        let mut state =
            RegisterState { value: Value::new("v").ok(), stamp: at(1), ..Default::default() };
        state.ids.enter(RequestId(5), at(1), true);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let stamp = at(1).to_bytes();
        let id = 5u128.to_be_bytes();
        assert_eq!(bytes, [&[0], &stamp[..], &[1], &id, &stamp, &[1], b"v"].concat());
    }

    #[test]
    fn the_oldest_ids_go_and_what_may_be_forgotten_is_known() {
        let mut ids = RecentIds::default();
        let most = RECENT_IDS_MAX as u64;
        for n in 1..=most {
            ids.enter(RequestId(n.into()), at(n), true);
        }
        assert!(ids.find(RequestId(1)).is_some());
        assert!(!ids.may_have_forgotten(WallTime(0)));
        ids.enter(RequestId(77), at(most + 1), false);
        assert_eq!(ids.find(RequestId(1)), None);
        assert!(ids.may_have_forgotten(WallTime(0)));
        assert!(!ids.may_have_forgotten(WallTime(1)), "what came after 1 is all here");
        assert!(!ids.find(RequestId(77)).unwrap().applied);
        let purged = RegisterState::purged(at(9));
        assert!(purged.ids.may_have_forgotten(WallTime(8)));
        assert!(!purged.ids.may_have_forgotten(WallTime(9)));
        assert_eq!(RegisterState::purged(Stamp::ZERO), RegisterState::default());
    }

    proptest! {
        #[test]
        fn states_read_back(state in states()) {
            let mut bytes = Vec::new();
            state.encode(&mut bytes);
            prop_assert_eq!(RegisterState::decode(bytes.into()), Some(state));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            if let Some(state) = RegisterState::decode(bytes.clone().into()) {
                let mut again = Vec::new();
                state.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
