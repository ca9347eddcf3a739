//! Whether a member that boots is the member it was. Each boot has a number and a random nonce,
//! durable before they are told. Before it serves, a majority of the council must have noted them
//! durably, with its clock's ceiling. A council member refuses what contradicts what it has seen:
//! a boot number seen with another nonce, an older one, or a lower ceiling means an old or empty
//! disk. Refusal needs evidence; silence only delays.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::{BootRecord, LifeAnswer, LifeRecord};
use crate::types::{ClusterState, Epoch, NodeId};

/// The registration of one boot of this node.
#[derive(Debug)]
pub struct Lives {
    me: NodeId,
    boot: BootRecord,
    boot_durable: bool,
    /// The epoch and council it registers with.
    epoch: Epoch,
    council: Vec<NodeId>,
    noted: BTreeSet<NodeId>,
    registered: bool,
}

/// What a registration yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivesAction {
    /// Ask this council member to note the boot.
    Ask(NodeId),
    /// A majority has noted it: the node may serve.
    Registered,
    /// A council member has seen otherwise: the node must not run as itself.
    Refused(NodeId, LifeRecord),
}

impl Lives {
    /// The boot `boot` of member `me`.
    pub fn new(me: NodeId, boot: BootRecord) -> Lives {
        Lives {
            me,
            boot,
            boot_durable: false,
            epoch: Epoch(0),
            council: Vec::new(),
            noted: BTreeSet::new(),
            registered: false,
        }
    }

    /// This boot.
    pub fn boot(&self) -> BootRecord {
        self.boot
    }

    /// The boot is durable here.
    pub fn on_boot_durable(&mut self) -> Vec<LivesAction> {
        self.boot_durable = true;
        self.advance()
    }

    /// A state is in force; registration is with its council.
    pub fn on_state(&mut self, state: &ClusterState) -> Vec<LivesAction> {
        self.epoch = state.epoch;
        self.council.clone_from(&state.council);
        self.advance()
    }

    /// It is time to ask those who have not answered. Goes on after registration, until all have
    /// noted it: the more have, the more can tell an old disk later.
    pub fn on_time(&mut self) -> Vec<LivesAction> {
        if !self.boot_durable {
            return Vec::new();
        }
        let silent = self.council.iter().filter(|id| **id != self.me && !self.noted.contains(id));
        silent.map(|id| LivesAction::Ask(*id)).collect()
    }

    /// A council member has answered.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        boot: BootRecord,
        answer: &LifeAnswer,
    ) -> Vec<LivesAction> {
        if boot != self.boot || !self.council.contains(&from) {
            return Vec::new();
        }
        match answer {
            LifeAnswer::Noted => {
                self.noted.insert(from);
                self.advance()
            }
            LifeAnswer::Refused { seen } => vec![LivesAction::Refused(from, *seen)],
        }
    }

    /// Who has yet to note the boot, of the council.
    pub fn waits_for(&self) -> Vec<NodeId> {
        let silent = self.council.iter().filter(|id| **id != self.me && !self.noted.contains(id));
        silent.copied().collect()
    }

    fn advance(&mut self) -> Vec<LivesAction> {
        if self.registered || !self.boot_durable || self.council.is_empty() {
            return Vec::new();
        }
        let own_seat = usize::from(self.council.contains(&self.me));
        let others = self.noted.iter().filter(|id| self.council.contains(id)).count();
        let mut needed = self.council.len() / 2 + 1;
        if crate::mutant!("register-minority") {
            needed = 1;
        }
        if own_seat + others < needed {
            return self.on_time();
        }
        self.registered = true;
        vec![LivesAction::Registered]
    }
}

/// What a council member says to a registration, given what it has seen of that member.
pub fn judge_life(seen: Option<&LifeRecord>, asked: &LifeRecord) -> Result<LifeRecord, LifeRecord> {
    let Some(seen) = seen else { return Ok(*asked) };
    if asked.boot == seen.boot {
        // The same life: an earlier message of it may arrive after a later one, with the lower
        // ceiling it had then. That is no evidence of an old disk.
        return Ok(LifeRecord { boot: seen.boot, ceiling: seen.ceiling.max(asked.ceiling) });
    }
    let older = asked.boot.number < seen.boot.number;
    let other = asked.boot.number == seen.boot.number && asked.boot.nonce != seen.boot.nonce;
    if older || other || asked.ceiling < seen.ceiling {
        return Err(*seen);
    }
    Ok(*asked)
}

/// What council members remember of the ceilings members tell between registrations: kept in
/// memory at once, on disk now and then.
#[derive(Debug, Default)]
pub struct Ceilings {
    fresh: BTreeMap<NodeId, LifeRecord>,
}

impl Ceilings {
    /// A member of boot `boot` has told its durable ceiling.
    pub fn hear(&mut self, lives: &BTreeMap<NodeId, LifeRecord>, from: NodeId, life: LifeRecord) {
        let heard = self.fresh.get(&from);
        if newer(lives.get(&from), &life) && (newer(heard, &life) || !same_boot(heard, &life)) {
            self.fresh.insert(from, life);
        }
    }

    /// Takes what should be written out. What was heard of a boot before the one in `lives` is
    /// dropped: written out, it would make the council forget the later boot.
    pub fn take(&mut self, lives: &BTreeMap<NodeId, LifeRecord>) -> BTreeMap<NodeId, LifeRecord> {
        let mut heard = core::mem::take(&mut self.fresh);
        heard.retain(|from, life| newer(lives.get(from), life));
        heard
    }
}

fn same_boot(known: Option<&LifeRecord>, life: &LifeRecord) -> bool {
    known.is_some_and(|known| known.boot == life.boot)
}

/// Whether `life` is of the boot that is known, with a later ceiling.
fn newer(known: Option<&LifeRecord>, life: &LifeRecord) -> bool {
    same_boot(known, life) && known.is_some_and(|known| known.ceiling < life.ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Nonce, WallTime};

    fn life(number: u64, nonce: u128, ceiling: u64) -> LifeRecord {
        let boot = BootRecord { number, nonce: Nonce(nonce) };
        LifeRecord { boot, ceiling: WallTime(ceiling) }
    }

    #[test]
    fn what_was_heard_of_an_earlier_boot_does_not_displace_a_later_one() {
        let (member, mut ceilings) = (NodeId(2), Ceilings::default());
        let first = BTreeMap::from([(member, life(1, 7, 100))]);
        ceilings.hear(&first, member, life(1, 7, 200));
        ceilings.hear(&first, member, life(1, 7, 150));
        let second = BTreeMap::from([(member, life(2, 8, 160))]);
        assert_eq!(ceilings.take(&second), BTreeMap::new());
        ceilings.hear(&first, member, life(1, 7, 200));
        ceilings.hear(&second, member, life(2, 8, 300));
        assert_eq!(ceilings.take(&second), BTreeMap::from([(member, life(2, 8, 300))]));
    }

    #[test]
    fn a_boot_is_refused_on_evidence_only() {
        let seen = life(3, 7, 100);
        assert!(judge_life(None, &life(1, 1, 0)).is_ok());
        assert!(judge_life(Some(&seen), &life(3, 7, 100)).is_ok());
        assert!(judge_life(Some(&seen), &life(4, 9, 150)).is_ok());
        assert!(judge_life(Some(&seen), &life(9, 9, 100)).is_ok());
        assert!(judge_life(Some(&seen), &life(3, 8, 100)).is_err());
        assert!(judge_life(Some(&seen), &life(2, 7, 100)).is_err());
        assert!(judge_life(Some(&seen), &life(4, 9, 99)).is_err());
    }

    #[test]
    fn an_earlier_message_of_the_same_boot_is_no_evidence_and_lowers_nothing() {
        let seen = life(3, 7, 100);
        assert_eq!(judge_life(Some(&seen), &life(3, 7, 40)), Ok(seen));
        assert_eq!(judge_life(Some(&seen), &life(3, 7, 140)), Ok(life(3, 7, 140)));
    }

    #[test]
    fn a_boot_serves_after_a_majority_of_the_council_and_goes_on_asking_the_rest() {
        let boot = life(1, 5, 0).boot;
        let mut lives = Lives::new(NodeId(1), boot);
        lives.council = vec![NodeId(1), NodeId(2), NodeId(3)];
        let asked = vec![LivesAction::Ask(NodeId(2)), LivesAction::Ask(NodeId(3))];
        assert_eq!(lives.on_boot_durable(), asked);
        let other = life(2, 6, 0).boot;
        assert!(lives.on_answer(NodeId(3), other, &LifeAnswer::Noted).is_empty());
        let done = lives.on_answer(NodeId(3), boot, &LifeAnswer::Noted);
        assert_eq!(done, [LivesAction::Registered]);
        assert_eq!(lives.on_time(), [LivesAction::Ask(NodeId(2))]);
        let seen = life(1, 4, 0);
        let refused = lives.on_answer(NodeId(2), boot, &LifeAnswer::Refused { seen });
        assert_eq!(refused, [LivesAction::Refused(NodeId(2), seen)]);
    }
}
