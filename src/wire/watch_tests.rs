//! What nodes say of watches comes back as it was, and what is outside its bounds does not.

use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

use super::peer::{message_from_wire, message_to_wire};
use super::watch::watch_from_wire;
use super::{client::Call, proto::v1};
use crate::message::{
    Change, ChangesPage, ClientBody, ErrorCode, PeerMessage, Principal, Refusal, WatchMessage,
    WatchPlace,
};
use crate::types::{Epoch, Key, Stamp, TableId, Time, Value, WallTime, limits};

fn change() -> impl Strategy<Value = Change> {
    let key = prop::collection::vec(any::<u8>(), 1..20);
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    let flags = (any::<bool>(), any::<bool>(), prop::option::of(1..u64::MAX));
    (key, any::<[u8; 16]>(), any::<u64>(), any::<u32>(), value, flags).prop_map(
        |(key, stamp, print, siblings, value, (deleted, value_left_out, expiry))| Change {
            key: Key::new(key).unwrap(),
            stamp: Stamp::from_bytes(stamp),
            print,
            deleted,
            expiry: expiry.map(WallTime),
            siblings,
            value: value.map(|value| Value::new(value).unwrap()),
            value_left_out,
        },
    )
}

fn message() -> impl Strategy<Value = WatchMessage> {
    let place = prop::option::of((any::<u64>(), any::<u64>()));
    let ask = (any::<u64>(), any::<u64>(), any::<u32>(), any::<bool>(), place).prop_map(
        |(watch, round, table, values, place)| WatchMessage::Ask {
            watch,
            round,
            changed_at: Epoch(round),
            table: TableId(table),
            prefix: Bytes::from_static(b"user:"),
            values,
            place: place.map(|(boot, seq)| WatchPlace { boot, seq }),
            bytes_max: table % 1000,
        },
    );
    let page = (prop::collection::vec(change(), 0..4), any::<u64>(), any::<bool>(), any::<bool>());
    let page =
        page.prop_map(|(changes, next, lost, more)| Ok(ChangesPage { changes, next, lost, more }));
    let refusal = any::<u64>().prop_map(|epoch| Err(Refusal::Fenced { epoch: Epoch(epoch) }));
    let answer = (any::<u64>(), any::<u64>(), any::<u64>(), prop_oneof![page, refusal]).prop_map(
        |(watch, round, boot, result)| WatchMessage::Answer { watch, round, boot, result },
    );
    prop_oneof![ask, answer, any::<u64>().prop_map(|watch| WatchMessage::End { watch })]
}

proptest! {
    #[test]
    fn what_nodes_say_of_watches_comes_back_as_it_was(message in message()) {
        let message = PeerMessage::Watch(Box::new(message));
        let back = message_from_wire(message_to_wire(message.clone())).unwrap();
        prop_assert_eq!(back, message);
    }
}

#[test]
fn a_question_and_a_watch_outside_their_bounds_are_refused() {
    let ask = |prefix: usize, bytes_max| {
        message_to_wire(PeerMessage::Watch(Box::new(WatchMessage::Ask {
            watch: 1,
            round: 1,
            changed_at: Epoch(1),
            table: TableId(1),
            prefix: vec![0; prefix].into(),
            values: false,
            place: None,
            bytes_max,
        })))
    };
    assert!(message_from_wire(ask(limits::KEY_BYTES_MAX, 1 << 20)).is_ok());
    assert!(message_from_wire(ask(limits::KEY_BYTES_MAX + 1, 1 << 20)).is_err());
    assert!(message_from_wire(ask(1, (1 << 20) + 1)).is_err());
    let call = Call {
        now: Time(0),
        transport_timeout: None,
        default_timeout: core::time::Duration::from_secs(1),
        principal: Principal::Anonymous,
    };
    let watch = |prefix: usize, token: usize| {
        let (prefix, token) = (vec![0; prefix].into(), vec![0; token].into());
        watch_from_wire(&call, v1::WatchRequest { prefix, token, ..v1::WatchRequest::default() })
    };
    let taken = watch(limits::KEY_BYTES_MAX, limits::WATCH_TOKEN_BYTES_MAX).unwrap();
    assert!(matches!(taken.body, ClientBody::Watch(ask) if ask.first));
    let code = |prefix, token| watch(prefix, token).unwrap_err().code;
    assert_eq!(code(limits::KEY_BYTES_MAX + 1, 0), ErrorCode::KeyTooLarge);
    assert_eq!(code(0, limits::WATCH_TOKEN_BYTES_MAX + 1), ErrorCode::RequestMalformed);
}
