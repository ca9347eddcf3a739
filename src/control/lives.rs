//! Whether a member that boots is the member it was. Each boot has a number and a random nonce,
//! durable before they are told. Before it serves, a majority of the council must have noted them
//! durably, with its clock's ceiling. A council member refuses what contradicts what it has seen:
//! a boot number seen with another nonce, an older one, or a lower ceiling means an old or empty
//! disk. Refusal needs evidence; silence only delays.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::{BootRecord, LifeAnswer, LifeRecord};
use core::time::Duration;

use crate::types::{ClusterState, Epoch, NodeId, Time};

/// The registration of one boot of this node.
#[derive(Debug)]
pub struct Lives {
    me: NodeId,
    boot: BootRecord,
    boot_durable: bool,
    /// The epoch and council it registers with.
    epoch: Epoch,
    council: Vec<NodeId>,
    /// All other members: who had a seat before may have seen a later boot.
    others: Vec<NodeId>,
    noted: BTreeSet<NodeId>,
    registered: bool,
    /// How long a majority is not enough while others are silent.
    patience: Duration,
    /// When the council was first asked.
    asked: Option<Time>,
}

/// What a registration yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivesAction {
    /// Ask this member to note the boot, if it is of the council, or to object.
    Ask(NodeId),
    /// A majority has noted it: the node may serve.
    Registered,
    /// A council member has seen otherwise: the node must not run as itself.
    Refused(NodeId, LifeRecord),
}

impl Lives {
    /// The boot `boot` of member `me`. A majority registers it; but one that counts `me`, whose
    /// disk is the one in doubt, is not taken while others may still object: for `patience` all
    /// of the council are waited for.
    pub fn new(me: NodeId, boot: BootRecord, patience: Duration) -> Lives {
        Lives {
            me,
            boot,
            boot_durable: false,
            epoch: Epoch(0),
            council: Vec::new(),
            others: Vec::new(),
            noted: BTreeSet::new(),
            registered: false,
            patience,
            asked: None,
        }
    }

    /// This boot.
    pub fn boot(&self) -> BootRecord {
        self.boot
    }

    /// The boot is durable here.
    pub fn on_boot_durable(&mut self, now: Time) -> Vec<LivesAction> {
        self.boot_durable = true;
        self.advance(now)
    }

    /// A state is in force; registration is with its council.
    pub fn on_state(&mut self, now: Time, state: &ClusterState) -> Vec<LivesAction> {
        self.epoch = state.epoch;
        self.council.clone_from(&state.council);
        let others = state.members.iter().map(|member| member.id);
        let others = others.filter(|id| *id != self.me && !state.council.contains(id));
        self.others = others.collect();
        self.advance(now)
    }

    /// It is time to ask those who have not answered. Goes on after registration, until all have
    /// noted it: the more have, the more can tell an old disk later.
    pub fn on_time(&mut self, now: Time) -> Vec<LivesAction> {
        if !self.boot_durable {
            return Vec::new();
        }
        let mut actions = self.ask();
        if self.is_noted(now) {
            self.registered = true;
            actions.push(LivesAction::Registered);
        }
        actions
    }

    fn ask(&self) -> Vec<LivesAction> {
        let others: &[NodeId] = match self.registered || crate::mutant!("seats-alone-object") {
            true => &[],
            false => &self.others,
        };
        self.waits_for().iter().chain(others).copied().map(LivesAction::Ask).collect()
    }

    /// A member has answered. Only who has a seat can note a boot; anybody can have seen a later one.
    pub fn on_answer(
        &mut self,
        now: Time,
        from: NodeId,
        (boot, answer): (BootRecord, &LifeAnswer),
    ) -> Vec<LivesAction> {
        let is_seated = self.council.contains(&from);
        match answer {
            _ if boot != self.boot => Vec::new(),
            LifeAnswer::Noted if is_seated => {
                self.noted.insert(from);
                self.advance(now)
            }
            LifeAnswer::Refused { seen } if is_seated || self.others.contains(&from) => {
                vec![LivesAction::Refused(from, *seen)]
            }
            LifeAnswer::Noted | LifeAnswer::Refused { .. } => Vec::new(),
        }
    }

    /// Who has yet to note the boot, of the council.
    pub fn waits_for(&self) -> Vec<NodeId> {
        let silent = self.council.iter().filter(|id| **id != self.me && !self.noted.contains(id));
        silent.copied().collect()
    }

    fn advance(&mut self, now: Time) -> Vec<LivesAction> {
        if self.registered || !self.boot_durable || self.council.is_empty() {
            return Vec::new();
        }
        let first = self.asked.is_none();
        self.asked.get_or_insert(now);
        if self.is_noted(now) {
            self.registered = true;
            return vec![LivesAction::Registered];
        }
        if first { self.ask() } else { Vec::new() }
    }

    /// Whether enough have noted the boot, and the others have had their time to object.
    fn is_noted(&self, now: Time) -> bool {
        let Some(asked) = self.asked.filter(|_| !self.registered) else { return false };
        let own_seat = usize::from(self.council.contains(&self.me));
        let others = self.noted.iter().filter(|id| self.council.contains(id)).count();
        let mut needed = self.council.len() / 2 + 1;
        if crate::mutant!("register-minority") {
            needed = 1;
        }
        let all = own_seat + others == self.council.len();
        let waited = now.since(asked) >= self.patience || crate::mutant!("register-minority");
        own_seat + others >= needed && (all || waited)
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
    fn a_boot_serves_when_all_of_the_council_have_noted_it_or_a_majority_after_a_while() {
        let boot = life(1, 5, 0).boot;
        let begin = || {
            let mut lives = Lives::new(NodeId(1), boot, Duration::from_nanos(100));
            lives.council = vec![NodeId(1), NodeId(2), NodeId(3)];
            lives
        };
        let mut lives = begin();
        let asked = vec![LivesAction::Ask(NodeId(2)), LivesAction::Ask(NodeId(3))];
        assert_eq!(lives.on_boot_durable(Time(0)), asked);
        let other = life(2, 6, 0).boot;
        let noted = (boot, &LifeAnswer::Noted);
        assert!(lives.on_answer(Time(1), NodeId(3), (other, &LifeAnswer::Noted)).is_empty());
        assert!(lives.on_answer(Time(1), NodeId(3), noted).is_empty());
        assert_eq!(lives.on_answer(Time(2), NodeId(2), noted), [LivesAction::Registered]);
        assert!(lives.on_time(Time(500)).is_empty());

        let mut lives = begin();
        lives.on_boot_durable(Time(0));
        assert!(lives.on_answer(Time(1), NodeId(3), noted).is_empty());
        let enough = [LivesAction::Ask(NodeId(2)), LivesAction::Registered];
        assert_eq!(lives.on_time(Time(100)), enough);
        assert_eq!(lives.on_time(Time(200)), [LivesAction::Ask(NodeId(2))]);
        let seen = life(1, 4, 0);
        let refused = (boot, &LifeAnswer::Refused { seen });
        let refused = lives.on_answer(Time(201), NodeId(2), refused);
        assert_eq!(refused, [LivesAction::Refused(NodeId(2), seen)]);
    }

    #[test]
    fn who_had_a_seat_before_can_object_and_cannot_note() {
        let boot = life(1, 5, 0).boot;
        let mut lives = Lives::new(NodeId(1), boot, Duration::from_nanos(100));
        (lives.council, lives.others) = (vec![NodeId(1), NodeId(2), NodeId(3)], vec![NodeId(4)]);
        assert!(lives.on_boot_durable(Time(0)).contains(&LivesAction::Ask(NodeId(4))));
        for from in [NodeId(3), NodeId(4)] {
            assert!(lives.on_answer(Time(1), from, (boot, &LifeAnswer::Noted)).is_empty());
        }
        assert_eq!(lives.waits_for(), [NodeId(2)]);
        let seen = life(1, 4, 0);
        let answer = LifeAnswer::Refused { seen };
        let refused = lives.on_answer(Time(2), NodeId(4), (boot, &answer));
        assert_eq!(refused, [LivesAction::Refused(NodeId(4), seen)]);
        assert!(lives.on_answer(Time(2), NodeId(9), (boot, &answer)).is_empty(), "a stranger");
        lives.registered = true;
        assert_eq!(lives.on_time(Time(200)), [LivesAction::Ask(NodeId(2))]);
        let _planted = crate::testing::arm_mutant("seats-alone-object");
        lives.registered = false;
        assert!(!lives.ask().contains(&LivesAction::Ask(NodeId(4))));
    }
}
