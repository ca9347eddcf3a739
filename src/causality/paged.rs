//! What an acceptor shows in a page of a scan: what it has accepted, without the ids of changes, in the
//! place of a version. `docs/protocol/scan.md`, "Linearizable tables".

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Accepted, Acceptor};
use crate::types::{Epoch, Record, RegisterState, Stamp, Value, limits};

/// The state has a value.
const VALUE: u8 = 0;
/// It has none.
const GONE: u8 = 1;
/// It has one, which is not here.
const WITHHELD: u8 = 2;
/// Nothing has been accepted.
const NOTHING: u8 = 3;

/// Flags, fence and the stamp of the change.
const HEAD_BYTES: usize = 1 + 8 + Stamp::BYTES;

/// What an acceptor shows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged {
    /// What it has accepted last; the ids of changes are left out.
    pub accepted: Option<Accepted>,
    /// There is a value, which had no room: it is left out, and an empty one stands for it.
    pub withheld: bool,
}

impl Paged {
    /// The bytes of what an acceptor shows, as a version that carries them: its stamp is the ballot.
    /// `keys_only` leaves values out, and puts an empty one in their place.
    pub fn record(acceptor: &Acceptor, keys_only: bool) -> Record {
        let told = acceptor.accepted().filter(|accepted| {
            accepted.state.value.is_some() || !crate::mutant!("page-hides-register-deletes")
        });
        let Some(Accepted { fence, ballot, state }) = told else {
            let nothing = Bytes::from_static(&[NOTHING]);
            return Record { stamp: Stamp::ZERO, expiry: None, value: Value::new(nothing).ok() };
        };
        let value = state.value.as_ref().map_or(&[][..], Value::as_bytes);
        let fits = HEAD_BYTES + value.len() <= limits::VALUE_BYTES_MAX;
        let (kind, value) = match &state.value {
            None => (GONE, &[][..]),
            Some(_) if keys_only => (VALUE, &[][..]),
            Some(_) if !fits => (WITHHELD, &[][..]),
            Some(_) => (VALUE, value),
        };
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + value.len());
        bytes.put_u8(kind);
        bytes.put_u64(fence.0);
        bytes.put_slice(&state.stamp.to_bytes());
        bytes.put_slice(value);
        let value = Value::new(bytes.freeze()).ok();
        Record { stamp: *ballot, expiry: state.expiry, value }
    }

    /// Reads what [`Paged::record`] has made; `None` when it is something else.
    pub fn of(record: Record) -> Option<Paged> {
        let Record { stamp: ballot, expiry, value } = record;
        let mut bytes = value?.into_bytes();
        let kind = bytes.try_get_u8().ok()?;
        if kind == NOTHING {
            let is_whole = bytes.is_empty() && expiry.is_none() && ballot == Stamp::ZERO;
            return is_whole.then_some(Paged { accepted: None, withheld: false });
        }
        let fence = Epoch(bytes.try_get_u64().ok()?);
        let mut raw = [0; Stamp::BYTES];
        bytes.try_copy_to_slice(&mut raw).ok()?;
        let is_short = bytes.is_empty();
        let value = match kind {
            VALUE => Some(Value::new(bytes).ok()?),
            WITHHELD if is_short => Some(Value::new(bytes).ok()?),
            GONE if is_short && expiry.is_none() => None,
            _ => return None,
        };
        let stamp = Stamp::from_bytes(raw);
        let state = RegisterState { value, expiry, stamp, ..RegisterState::default() };
        let accepted = Some(Accepted { fence, ballot, state });
        Some(Paged { accepted, withheld: kind == WITHHELD })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, RequestId, WallTime};
    use proptest::prelude::*;

    fn at(time: u64) -> Stamp {
        Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
    }

    fn acceptor(value: Option<Vec<u8>>, expiry: Option<u64>) -> Acceptor {
        let mut state = RegisterState {
            expiry: expiry.filter(|_| value.is_some()).map(WallTime),
            value: value.map(|value| Value::new(value).unwrap()),
            stamp: at(3),
            ..RegisterState::default()
        };
        state.ids.enter(RequestId(9), at(4), true);
        let mut acceptor = Acceptor::default();
        acceptor.accept(Accepted { fence: Epoch(7), ballot: at(5), state }).unwrap();
        acceptor
    }

    #[test]
    fn one_that_has_accepted_nothing_says_so() {
        let mut acceptor = Acceptor::default();
        let shown = Paged::of(Paged::record(&acceptor, false)).unwrap();
        assert_eq!(shown, Paged { accepted: None, withheld: false });
        acceptor.promise(at(9)).unwrap();
        assert_eq!(Paged::of(Paged::record(&acceptor, true)), Some(shown));
    }

    #[test]
    fn a_value_that_has_no_room_beside_its_ballot_is_withheld() {
        let of = |len: usize| Paged::of(Paged::record(&acceptor(Some(vec![7; len]), None), false));
        let most = limits::VALUE_BYTES_MAX;
        assert!(!of(most - HEAD_BYTES).unwrap().withheld);
        let shown = of(most - HEAD_BYTES + 1).unwrap();
        assert!(shown.withheld);
        assert!(shown.accepted.unwrap().state.value.unwrap().as_bytes().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_without_its_ids(
            value: Option<Vec<u8>>, expiry: Option<u64>, keys_only: bool,
        ) {
            let acceptor = acceptor(value.clone(), expiry);
            let shown = Paged::of(Paged::record(&acceptor, keys_only)).unwrap();
            let mut expected = acceptor.accepted().unwrap().clone();
            expected.state.ids = RegisterState::default().ids;
            if keys_only && value.is_some() {
                expected.state.value = Value::new(Bytes::new()).ok();
            }
            prop_assert_eq!(shown, Paged { accepted: Some(expected), withheld: false });
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>, expiry: Option<u64>) {
            let value = Value::new(bytes).ok();
            let _ = Paged::of(Record { stamp: at(1), expiry: expiry.map(WallTime), value });
        }
    }
}
