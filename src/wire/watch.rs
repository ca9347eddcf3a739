//! Watches between `message` and `proto/`: what clients ask and are told, what nodes say to each other.

use bytes::Bytes;

use crate::message::{
    Change, ChangesPage, ClientBody, ClientRequest, ErrorCode, OpError, WatchAsk, WatchEvent,
    WatchMessage, WatchPlace, WatchReply,
};
use crate::types::{Epoch, Stamp, TableId, Value, WallTime, limits};

use super::client::{Call, malformed, request};
use super::peer::{Malformed, key_from_wire, refusal_from_wire, refusal_to_wire, required};
use super::proto::peer as pb;
use super::proto::v1;

/// A watch that a client begins, checked; its stream has yet to be numbered.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn watch_from_wire(call: &Call, watch: v1::WatchRequest) -> Result<ClientRequest, OpError> {
    let v1::WatchRequest { header, prefix, values, token } = watch;
    if prefix.len() > limits::KEY_BYTES_MAX {
        let (most, got) = (limits::KEY_BYTES_MAX, prefix.len());
        let text = format!("prefix has {got} bytes; the limit is {most} bytes");
        return Err(OpError::new(ErrorCode::KeyTooLarge, text).with_limit(most, got));
    }
    if token.len() > limits::WATCH_TOKEN_BYTES_MAX {
        let most = limits::WATCH_TOKEN_BYTES_MAX;
        return Err(malformed(format!("token has {} bytes; the limit is {most}", token.len())));
    }
    request(call, header, |table| {
        let (stream, first) = (0, true);
        Ok(ClientBody::Watch(Box::new(WatchAsk { table, prefix, values, token, stream, first })))
    })
}

/// What a watch has to tell, as it travels to its client.
pub fn watch_to_wire(reply: WatchReply) -> v1::WatchResponse {
    let events = reply.events.into_iter().map(event_to_wire).collect();
    v1::WatchResponse { events, token: reply.token, epoch: reply.epoch.0 }
}

fn event_to_wire(event: WatchEvent) -> v1::watch_response::Event {
    use v1::watch_response::event::Event;
    let event = match event {
        WatchEvent::Began => Event::Began(true),
        WatchEvent::Whole => Event::Whole(true),
        WatchEvent::Gap { reason, partitions, count } => Event::Gap(v1::watch_response::Gap {
            reason: reason.as_str().to_owned(),
            partitions: partitions.into_iter().map(|partition| partition.0.into()).collect(),
            count,
        }),
        WatchEvent::Change(change) => Event::Change(v1::watch_response::Change {
            key: change.key.bytes().clone(),
            stamp: Bytes::copy_from_slice(&change.stamp.to_bytes()),
            deleted: change.deleted,
            expires_ns: change.expiry.map(|at| at.0),
            sibling_count: change.siblings,
            value: change.value.map_or_else(Bytes::new, Value::into_bytes),
            value_left_out: change.value_left_out,
        }),
    };
    v1::watch_response::Event { event: Some(event) }
}

pub(super) fn message_to_wire(message: WatchMessage) -> pb::Watch {
    use pb::watch::Body;
    let body = match message {
        WatchMessage::Ask { watch, round, changed_at, table, prefix, values, place, bytes_max } => {
            Body::Ask(pb::WatchAsk {
                watch,
                round,
                changed_at: changed_at.0,
                table: table.0,
                prefix,
                values,
                place: place.map(|WatchPlace { boot, seq }| pb::WatchPlace { boot, seq }),
                bytes_max,
            })
        }
        WatchMessage::Answer { watch, round, boot, result } => {
            use pb::watch_answer::Result as Wire;
            let result = Some(match result {
                Ok(page) => Wire::Page(page_to_wire(page)),
                Err(refusal) => Wire::Refusal(refusal_to_wire(refusal)),
            });
            Body::Answer(pb::WatchAnswer { watch, round, boot, result })
        }
        WatchMessage::End { watch } => Body::End(watch),
    };
    pb::Watch { body: Some(body) }
}

pub(super) fn message_from_wire(message: pb::Watch) -> Result<WatchMessage, Malformed> {
    use pb::watch::Body;
    Ok(match required(message.body, "body")? {
        Body::Ask(ask) => {
            if ask.prefix.len() > limits::KEY_BYTES_MAX {
                return Err(Malformed::new(format!("prefix has {} bytes", ask.prefix.len())));
            }
            if ask.bytes_max as usize > limits::WATCH_OUT_BYTES_MAX {
                return Err(Malformed::new(format!("bytes_max is {}", ask.bytes_max)));
            }
            WatchMessage::Ask {
                watch: ask.watch,
                round: ask.round,
                changed_at: Epoch(ask.changed_at),
                table: TableId(ask.table),
                prefix: ask.prefix,
                values: ask.values,
                place: ask.place.map(|pb::WatchPlace { boot, seq }| WatchPlace { boot, seq }),
                bytes_max: ask.bytes_max,
            }
        }
        Body::Answer(pb::WatchAnswer { watch, round, boot, result }) => {
            use pb::watch_answer::Result as Wire;
            let result = match required(result, "result")? {
                Wire::Page(page) => Ok(page_from_wire(page)?),
                Wire::Refusal(refusal) => Err(refusal_from_wire(refusal)?),
            };
            WatchMessage::Answer { watch, round, boot, result }
        }
        Body::End(watch) => WatchMessage::End { watch },
    })
}

fn page_to_wire(page: ChangesPage) -> pb::watch_answer::Page {
    let change = |change: Change| pb::watch_answer::Change {
        key: change.key.bytes().clone(),
        stamp: Bytes::copy_from_slice(&change.stamp.to_bytes()),
        print: change.print,
        deleted: change.deleted,
        expiry: change.expiry.map_or(0, |at| at.0),
        siblings: change.siblings,
        value: change.value.map(Value::into_bytes),
        value_left_out: change.value_left_out,
    };
    let ChangesPage { changes, next, lost, more } = page;
    pb::watch_answer::Page { changes: changes.into_iter().map(change).collect(), next, lost, more }
}

fn page_from_wire(page: pb::watch_answer::Page) -> Result<ChangesPage, Malformed> {
    let pb::watch_answer::Page { changes, next, lost, more } = page;
    let changes = changes.into_iter().map(change_from_wire).collect::<Result<_, _>>()?;
    Ok(ChangesPage { changes, next, lost, more })
}

fn change_from_wire(change: pb::watch_answer::Change) -> Result<Change, Malformed> {
    let stamp = <[u8; Stamp::BYTES]>::try_from(&change.stamp[..]);
    let value = change.value.map(Value::new).transpose();
    Ok(Change {
        key: key_from_wire(change.key)?,
        stamp: stamp.map(Stamp::from_bytes).map_err(|_| Malformed::new("stamp is not 16 bytes"))?,
        print: change.print,
        deleted: change.deleted,
        expiry: (change.expiry > 0).then_some(WallTime(change.expiry)),
        siblings: change.siblings,
        value: value.map_err(|len| Malformed::new(format!("a value has {len} bytes")))?,
        value_left_out: change.value_left_out,
    })
}
