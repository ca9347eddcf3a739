//! What is said about decisions, as it travels. A foreign state is checked like any other.

use std::sync::Arc;

use crate::message::{Ballot, DecreeMessage, Instance};
use crate::types::{Epoch, Lineage, NodeId};

use super::peer::{Malformed, required};
use super::proto::peer as pb;
use super::state::{state_from_wire, state_to_wire};

/// Highest counter of a ballot: a proposer must be able to go above any it hears of.
const COUNTER_MAX: u64 = 1 << 62;

/// A message as it travels.
pub(super) fn decree_to_wire(message: DecreeMessage) -> pb::Decree {
    use pb::decree::Said;
    let prepare = |instance, ballot| pb::decree::Prepare {
        instance: Some(instance_to_wire(instance)),
        ballot: Some(ballot_to_wire(ballot)),
    };
    let said = match message {
        DecreeMessage::Prepare { instance, ballot } => Said::Prepare(prepare(instance, ballot)),
        DecreeMessage::Accepted { instance, ballot } => Said::Accepted(prepare(instance, ballot)),
        DecreeMessage::Promise { instance, ballot, accepted } => {
            let (at, state) = accepted.unzip();
            Said::Promise(pb::decree::Promise {
                instance: Some(instance_to_wire(instance)),
                ballot: Some(ballot_to_wire(ballot)),
                accepted_at: at.map(ballot_to_wire),
                accepted: state.map(|state| state_to_wire(&state)),
            })
        }
        DecreeMessage::Accept { instance, ballot, state } => Said::Accept(pb::decree::Accept {
            instance: Some(instance_to_wire(instance)),
            ballot: Some(ballot_to_wire(ballot)),
            state: Some(state_to_wire(&state)),
        }),
        DecreeMessage::Outbid { instance, ballot, promised } => Said::Outbid(pb::decree::Outbid {
            instance: Some(instance_to_wire(instance)),
            ballot: Some(ballot_to_wire(ballot)),
            promised: Some(ballot_to_wire(promised)),
        }),
        DecreeMessage::Decided(state) => Said::Decided(state_to_wire(&state)),
        DecreeMessage::Stored(instance) => Said::Stored(instance_to_wire(instance)),
        DecreeMessage::Newest { seq } => Said::Newest(seq),
        DecreeMessage::NewestAnswer { seq, epoch } => {
            Said::NewestAnswer(pb::decree::NewestAnswer { seq, epoch: epoch.0 })
        }
    };
    pb::Decree { said: Some(said) }
}

/// A foreign message, checked.
///
/// # Errors
/// [`Malformed`]: a part is missing, outside its bounds or contradicts another.
pub(super) fn decree_from_wire(decree: pb::Decree) -> Result<DecreeMessage, Malformed> {
    use pb::decree::Said;
    Ok(match required(decree.said, "said")? {
        Said::Prepare(ask) => DecreeMessage::Prepare {
            instance: instance_from_wire(ask.instance)?,
            ballot: ballot_from_wire(ask.ballot)?,
        },
        Said::Accepted(answer) => DecreeMessage::Accepted {
            instance: instance_from_wire(answer.instance)?,
            ballot: ballot_from_wire(answer.ballot)?,
        },
        Said::Promise(answer) => {
            let accepted = match (answer.accepted_at, answer.accepted) {
                (None, None) => None,
                (at, state) => {
                    let state = state_from_wire(required(state, "accepted")?)?;
                    Some((ballot_from_wire(at)?, Arc::new(state)))
                }
            };
            DecreeMessage::Promise {
                instance: instance_from_wire(answer.instance)?,
                ballot: ballot_from_wire(answer.ballot)?,
                accepted,
            }
        }
        Said::Accept(ask) => DecreeMessage::Accept {
            instance: instance_from_wire(ask.instance)?,
            ballot: ballot_from_wire(ask.ballot)?,
            state: Arc::new(state_from_wire(required(ask.state, "state")?)?),
        },
        Said::Outbid(answer) => DecreeMessage::Outbid {
            instance: instance_from_wire(answer.instance)?,
            ballot: ballot_from_wire(answer.ballot)?,
            promised: ballot_from_wire(answer.promised)?,
        },
        Said::Decided(state) => DecreeMessage::Decided(Arc::new(state_from_wire(state)?)),
        Said::Stored(instance) => DecreeMessage::Stored(instance_from_wire(Some(instance))?),
        Said::Newest(seq) => DecreeMessage::Newest { seq },
        Said::NewestAnswer(answer) => {
            DecreeMessage::NewestAnswer { seq: answer.seq, epoch: Epoch(answer.epoch) }
        }
    })
}

fn instance_to_wire(instance: Instance) -> pb::Instance {
    pb::Instance { lineage: instance.lineage.0, epoch: instance.epoch.0 }
}

fn instance_from_wire(instance: Option<pb::Instance>) -> Result<Instance, Malformed> {
    let instance = required(instance, "instance")?;
    Ok(Instance { lineage: Lineage(instance.lineage), epoch: Epoch(instance.epoch) })
}

fn ballot_to_wire(ballot: Ballot) -> pb::Ballot {
    pb::Ballot { counter: ballot.counter, boot: ballot.boot, member: ballot.member.0 }
}

fn ballot_from_wire(ballot: Option<pb::Ballot>) -> Result<Ballot, Malformed> {
    let pb::Ballot { counter, boot, member } = required(ballot, "ballot")?;
    if counter > COUNTER_MAX {
        return Err(Malformed::new(format!("a ballot counts {counter}")));
    }
    Ok(Ballot { counter, boot, member: NodeId(member) })
}
