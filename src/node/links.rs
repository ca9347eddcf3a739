//! How owners answer: what is asked of them and what comes back is noted for the machine of
//! `membership::Links`, and its verdict is told to the machines that read.

use super::Node;
use crate::coordinator::{Ask, Health};
use crate::membership::{Answered, AskKind, Members, Preference};
use crate::message::{
    CausalMessage, Level, Refusal, RegisterMessage, RegisterSaid, RegisterTask, RoundId,
};
use crate::types::{NodeId, Now};

/// Whom of these owners to read from.
pub(super) fn health(members: &mut Members, now: Now, owners: &[NodeId]) -> Health {
    let Preference { well, trials } = members.links_mut().prefer(now.mono, owners);
    Health { well, trials }
}

fn weigh(refusal: &Refusal) -> Answered {
    match refusal {
        Refusal::Overloaded | Refusal::NotServing | Refusal::Storage(_) => Answered::Failed,
        // Epochs, tables, clocks and deadlines are no fault of the link.
        _ => Answered::Neutral,
    }
}

impl Node {
    /// The same, for an operation that begins.
    pub(super) fn health(&mut self, now: Now, owners: &[NodeId]) -> Health {
        health(&mut self.members, now, owners)
    }

    /// Something is asked. Repairs are not answered; changes and pages are no measure. Registers ask all
    /// owners, whoever is well: others learn from what comes of it.
    pub(super) fn note_asked(&mut self, now: Now, to: NodeId, ask: &Ask) {
        let (kind, round) = match ask {
            Ask::Write(ask) => (AskKind::Write, ask.round),
            Ask::Read(ask) => (AskKind::Read, ask.round),
            Ask::Causal(message) => match **message {
                CausalMessage::Read { round, .. } => (AskKind::Read, round),
                CausalMessage::Merge { round, .. } => (AskKind::Write, round),
                _ => return,
            },
            Ask::Register(message) => match &**message {
                RegisterMessage::Ask { .. } if crate::mutant!("link-registers-unheard") => return,
                RegisterMessage::Ask { round, task: RegisterTask::Look, .. } => {
                    (AskKind::Read, *round)
                }
                RegisterMessage::Ask { round, .. } => (AskKind::Round, *round),
                RegisterMessage::Answer { .. } => return,
            },
            Ask::Scan(_) | Ask::Change(_) => return,
        };
        if round.round > 0 {
            self.members.links_mut().on_asked(now.mono, to, kind, round.op);
        }
    }

    pub(super) fn note_write_answered(&mut self, now: Now, from: NodeId, round: RoundId) {
        let (links, asked) = (self.members.links_mut(), (AskKind::Write, round.op));
        links.on_answered(now.mono, from, asked, Answered::Well);
    }

    pub(super) fn note_read_answered(
        &mut self,
        now: Now,
        from: NodeId,
        round: RoundId,
        refused: Option<&Refusal>,
    ) {
        let answered = refused.map_or(Answered::Well, weigh);
        let (links, asked) = (self.members.links_mut(), (AskKind::Read, round.op));
        links.on_answered(now.mono, from, asked, answered);
    }

    /// A look is a read to a link; so is a refusal, which does not say of what it is.
    pub(super) fn note_register_answered(
        &mut self,
        now: Now,
        from: NodeId,
        (round, result): (RoundId, &Result<RegisterSaid, Refusal>),
    ) {
        match result {
            Ok(RegisterSaid::Looked(_)) => self.note_read_answered(now, from, round, None),
            Err(refusal) => self.note_read_answered(now, from, round, Some(refusal)),
            Ok(_) => {
                let (links, asked) = (self.members.links_mut(), (AskKind::Round, round.op));
                links.on_answered(now.mono, from, asked, Answered::Well);
            }
        }
    }

    pub(super) fn note_lost(&mut self, now: Now, peer: NodeId) {
        self.members.links_mut().on_lost(now.mono, peer);
    }

    /// Says which links have changed.
    pub(super) fn tell_links(&mut self) {
        while let Some((member, unwell)) = self.members.links_mut().poll_news() {
            let whose = if member == self.me { "this node's own store" } else { "it" };
            match unwell {
                Some(why) => {
                    let text = format!("reads leave out {whose}: {}", why.as_str());
                    self.note(Level::Warn, Some(member), text);
                }
                None => self.note(Level::Info, Some(member), format!("reads ask {whose} again")),
            }
            self.publish();
        }
    }
}
