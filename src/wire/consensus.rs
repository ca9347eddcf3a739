//! What owners of keys of linearizable tables are asked and say, between `message` and
//! `proto/peer.proto`. States travel in the bytes they are stored in, and are checked like all else.

use bytes::Bytes;

use crate::causality::Accepted;
use crate::message::{RegisterMessage, RegisterSaid, RegisterTask};
use crate::types::{Epoch, RegisterState, Stamp};

use super::peer::{
    Malformed, micros, place_from_wire, place_to_wire, refusal_from_wire, refusal_to_wire,
    remaining, required, round_from_wire, round_to_wire, stamp_from_wire, stamp_to_wire,
};
use super::proto::peer as pb;

/// A message as it travels.
pub(super) fn consensus_to_wire(message: RegisterMessage) -> pb::Consensus {
    use pb::consensus::Body;
    let (round, body) = match message {
        RegisterMessage::Ask { round, place, task, remaining } => {
            use pb::consensus_ask::Task;
            let task = match task {
                RegisterTask::Look => Task::Look(true),
                RegisterTask::Prepare(ballot) => Task::Prepare(stamp_to_wire(ballot)),
                RegisterTask::Accept(ballot, state) => Task::Accept(state_to_wire(ballot, &state)),
            };
            let ask = pb::ConsensusAsk {
                place: Some(place_to_wire(place)),
                remaining_us: micros(remaining),
                task: Some(task),
            };
            (round, Body::Ask(ask))
        }
        RegisterMessage::Answer { round, complete, result } => {
            use pb::consensus_answer::Result as Wire;
            let result = match result {
                Ok(RegisterSaid::Looked(accepted)) => {
                    Wire::Looked(shown_to_wire(accepted.as_ref(), Stamp::ZERO))
                }
                Ok(RegisterSaid::Promised { accepted, floor }) => {
                    Wire::Promised(shown_to_wire(accepted.as_ref(), floor))
                }
                Ok(RegisterSaid::Accepted) => Wire::Accepted(true),
                Ok(RegisterSaid::Outbid(by)) => Wire::Outbid(stamp_to_wire(by)),
                Err(refusal) => Wire::Refusal(refusal_to_wire(refusal)),
            };
            let (incomplete, result) = (!complete, Some(result));
            (round, Body::Answer(pb::ConsensusAnswer { incomplete, result }))
        }
    };
    pb::Consensus { round: round_to_wire(round), body: Some(body) }
}

/// A foreign message, checked.
pub(super) fn consensus_from_wire(message: pb::Consensus) -> Result<RegisterMessage, Malformed> {
    use pb::consensus::Body;
    let round = round_from_wire(message.round)?;
    Ok(match required(message.body, "consensus body")? {
        Body::Ask(ask) => {
            use pb::consensus_ask::Task;
            let task = match required(ask.task, "task")? {
                Task::Look(_) => RegisterTask::Look,
                Task::Prepare(ballot) => RegisterTask::Prepare(stamp_from_wire(ballot)),
                Task::Accept(accepted) => {
                    let (ballot, state) = state_from_wire(accepted)?;
                    RegisterTask::Accept(ballot, state)
                }
            };
            let (place, remaining) = (place_from_wire(ask.place)?, remaining(ask.remaining_us));
            RegisterMessage::Ask { round, place, task, remaining }
        }
        Body::Answer(answer) => {
            use pb::consensus_answer::Result as Wire;
            let result = match required(answer.result, "result")? {
                Wire::Looked(it) => Ok(RegisterSaid::Looked(shown_from_wire(it)?)),
                Wire::Promised(it) => {
                    let floor = it.floor.map_or(Stamp::ZERO, stamp_from_wire);
                    Ok(RegisterSaid::Promised { accepted: shown_from_wire(it)?, floor })
                }
                Wire::Accepted(_) => Ok(RegisterSaid::Accepted),
                Wire::Outbid(by) => Ok(RegisterSaid::Outbid(stamp_from_wire(by))),
                Wire::Refusal(refusal) => Err(refusal_from_wire(refusal)?),
            };
            RegisterMessage::Answer { round, complete: !answer.incomplete, result }
        }
    })
}

fn state_to_wire(ballot: Stamp, state: &RegisterState) -> pb::ConsensusState {
    let mut bytes = Vec::with_capacity(state.bytes());
    state.encode(&mut bytes);
    pb::ConsensusState { ballot: Some(stamp_to_wire(ballot)), state: Bytes::from(bytes) }
}

fn state_from_wire(wire: pb::ConsensusState) -> Result<(Stamp, RegisterState), Malformed> {
    let ballot = stamp_from_wire(required(wire.ballot, "ballot")?);
    let state = RegisterState::decode(wire.state)
        .ok_or_else(|| Malformed::new("a state of a register does not decode"))?;
    Ok((ballot, state))
}

fn shown_to_wire(accepted: Option<&Accepted>, floor: Stamp) -> pb::ConsensusShown {
    pb::ConsensusShown {
        accepted: accepted.map(|it| state_to_wire(it.ballot, &it.state)),
        fence: accepted.map_or(0, |it| it.fence.0),
        floor: (floor != Stamp::ZERO).then(|| stamp_to_wire(floor)),
    }
}

fn shown_from_wire(shown: pb::ConsensusShown) -> Result<Option<Accepted>, Malformed> {
    let Some(accepted) = shown.accepted else { return Ok(None) };
    let (ballot, state) = state_from_wire(accepted)?;
    Ok(Some(Accepted { fence: Epoch(shown.fence), ballot, state }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{KeyPlace, PeerMessage, Refusal, RoundId};
    use crate::types::{ClassId, Key, Partition, RequestId, TableId, Unit, Value, WallTime};
    use crate::wire::peer::{message_from_wire, message_to_wire};
    use core::time::Duration;
    use proptest::prelude::*;

    fn stamps() -> impl Strategy<Value = Stamp> {
        any::<[u8; 16]>().prop_map(Stamp::from_bytes)
    }

    fn accepted() -> impl Strategy<Value = Accepted> {
        let parts = (stamps(), stamps(), any::<Option<Vec<u8>>>(), any::<Option<u64>>());
        (parts, any::<Option<u128>>(), any::<u64>()).prop_map(|(parts, id, fence)| {
            let (ballot, stamp, value, expiry) = parts;
            let expiry = expiry.filter(|_| value.is_some()).map(WallTime);
            let value = value.map(|value| Value::new(value).unwrap());
            let mut state = RegisterState { value, expiry, stamp, ..Default::default() };
            if let Some(id) = id.filter(|_| stamp > Stamp::ZERO) {
                state.ids.enter(RequestId(id), stamp, id % 2 == 0);
            }
            Accepted { fence: Epoch(fence), ballot, state }
        })
    }

    fn messages() -> impl Strategy<Value = RegisterMessage> {
        let task = prop_oneof![
            Just(RegisterTask::Look),
            stamps().prop_map(RegisterTask::Prepare),
            accepted().prop_map(|it| RegisterTask::Accept(it.ballot, it.state)),
        ];
        let said = prop_oneof![
            proptest::option::of(accepted()).prop_map(|it| Ok(RegisterSaid::Looked(it))),
            (proptest::option::of(accepted()), stamps())
                .prop_map(|(accepted, floor)| Ok(RegisterSaid::Promised { accepted, floor })),
            Just(Ok(RegisterSaid::Accepted)),
            stamps().prop_map(|by| Ok(RegisterSaid::Outbid(by))),
            Just(Err(Refusal::NotOwner)),
        ];
        let round = any::<(u64, u32)>().prop_map(|(op, round)| RoundId { op, round });
        let place =
            any::<(u16, u16, u64, u32)>().prop_map(|(class, partition, epoch, table)| KeyPlace {
                unit: Unit { class: ClassId(class), partition: Partition(partition) },
                changed_at: Epoch(epoch),
                table: TableId(table),
                key: Key::new("k").unwrap(),
            });
        prop_oneof![
            (round.clone(), place, task, 0..60_000_000u64).prop_map(|(round, place, task, us)| {
                let remaining = Duration::from_micros(us);
                RegisterMessage::Ask { round, place, task, remaining }
            }),
            (round, any::<bool>(), said).prop_map(|(round, complete, result)| {
                RegisterMessage::Answer { round, complete, result }
            }),
        ]
    }

    proptest! {
        #[test]
        fn messages_of_rounds_read_back(message in messages()) {
            let message = PeerMessage::Consensus(Box::new(message));
            prop_assert_eq!(message_from_wire(message_to_wire(message.clone())), Ok(message));
        }
    }

    #[test]
    fn messages_without_their_parts_are_refused() {
        let refused = |message: pb::Consensus| consensus_from_wire(message).is_err();
        let round = round_to_wire(RoundId::default());
        assert!(refused(pb::Consensus::default()));
        assert!(refused(pb::Consensus { round, body: None }));
        let answer = |result| pb::Consensus {
            round,
            body: Some(pb::consensus::Body::Answer(pb::ConsensusAnswer {
                incomplete: false,
                result,
            })),
        };
        assert!(refused(answer(None)));
        let state = pb::ConsensusState { ballot: None, state: Bytes::new() };
        let shown = pb::ConsensusShown { accepted: Some(state), ..Default::default() };
        assert!(refused(answer(Some(pb::consensus_answer::Result::Looked(shown)))));
        let ballot = Some(stamp_to_wire(Stamp::ZERO));
        let damaged = pb::ConsensusState { ballot, state: Bytes::from_static(b"\xff") };
        let shown = pb::ConsensusShown { accepted: Some(damaged), ..Default::default() };
        assert!(refused(answer(Some(pb::consensus_answer::Result::Promised(shown)))));
    }
}
