//! The rules of one acceptor of one key of a linearizable table: CASPaxos (Rystsov, "CASPaxos:
//! Replicated State Machines without logs", 2018, section 2.2), which is the Synod of Paxos (Lamport,
//! "Paxos Made Simple", 2001) over states. A promise binds before it is told, and what was accepted is
//! told with every promise: both only once the disk holds them, which is `replica`'s business.

use bytes::{Buf, Bytes};

use crate::types::{Epoch, RegisterState, Stamp};

/// A state that was accepted, and under which ballot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The fence of the unit it was accepted under: the epoch in which its owners last changed.
    pub fence: Epoch,
    /// The ballot.
    pub ballot: Stamp,
    /// The state.
    pub state: RegisterState,
}

impl Accepted {
    /// What makes one of two states the newer: the fence, then the ballot. Owners of a later fence build
    /// on all that earlier ones have decided; of a ballot that a few earlier ones have accepted, and that was
    /// never decided, they need not know, however high it is. (As configurations order ballots in Lamport,
    /// Malkhi and Zhou, "Vertical Paxos and Primary-Backup Replication", 2009, section 3.)
    pub fn rank(&self) -> (Epoch, Stamp) {
        let fence = if crate::mutant!("ballots-outlive-owners") { Epoch(0) } else { self.fence };
        (fence, self.ballot)
    }
}

/// What one acceptor has promised and accepted. The default has done neither.
/// INVARIANT: what was accepted is not above what was promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceptor {
    promised: Stamp,
    accepted: Option<Accepted>,
}

/// A higher ballot, to which the acceptor has promised itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbid(pub Stamp);

impl Acceptor {
    /// The highest ballot it has promised itself to.
    pub fn promised(&self) -> Stamp {
        self.promised
    }

    /// What it has accepted last.
    pub fn accepted(&self) -> Option<&Accepted> {
        self.accepted.as_ref()
    }

    /// Promises to accept nothing below `ballot`. Says whether that is new; asked again it promises
    /// the same again.
    ///
    /// # Errors
    /// It has promised itself to a higher one; nothing has changed.
    pub fn promise(&mut self, ballot: Stamp) -> Result<bool, Outbid> {
        if ballot < self.promised {
            return Err(Outbid(self.promised));
        }
        let new = ballot > self.promised;
        self.promised = ballot;
        Ok(new)
    }

    /// Accepts a state, promised or not, unless it has promised itself to a higher ballot, or has accepted
    /// one under a later fence. Says whether that is new. INVARIANT: a ballot is given to one state, under
    /// one fence.
    ///
    /// # Errors
    /// It has promised itself to a higher one; nothing has changed.
    pub fn accept(&mut self, accepted: Accepted) -> Result<bool, Outbid> {
        let below = accepted.ballot < self.promised && !crate::mutant!("accept-below-promise");
        let last = self.accepted.as_ref();
        if below || last.is_some_and(|last| last.fence > accepted.fence) {
            return Err(Outbid(self.promised));
        }
        let known = last.is_some_and(|last| last.ballot == accepted.ballot);
        self.promised = self.promised.max(accepted.ballot);
        self.accepted = Some(accepted);
        Ok(!known)
    }

    /// Forgets what it has accepted at or below a ballot, and keeps what it has promised.
    pub fn forget_accepted(&mut self, bound: Stamp) {
        self.accepted = self.accepted.take().filter(|accepted| accepted.ballot > bound);
    }

    /// Takes the higher promise and the newer accepted state of two: what a copy of another acceptor
    /// is merged by. Says whether that is new.
    pub fn join(&mut self, other: Acceptor) -> bool {
        let rank = |acceptor: &Acceptor| acceptor.accepted.as_ref().map(Accepted::rank);
        let mut new = false;
        if other.promised > self.promised {
            (self.promised, new) = (other.promised, true);
        }
        if rank(&other) > rank(self) {
            (self.accepted, new) = (other.accepted, true);
        }
        new
    }

    /// Appends its bytes, see `docs/format/register.md`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.promised.to_bytes());
        if let Some(Accepted { fence, ballot, state }) = &self.accepted {
            out.extend_from_slice(&fence.0.to_be_bytes());
            out.extend_from_slice(&ballot.to_bytes());
            state.encode(out);
        }
    }

    /// Reads an acceptor; its value shares the bytes given. `None` when they are not one.
    pub fn decode(mut bytes: Bytes) -> Option<Acceptor> {
        let mut raw = [0; Stamp::BYTES];
        bytes.try_copy_to_slice(&mut raw).ok()?;
        let promised = Stamp::from_bytes(raw);
        if bytes.is_empty() {
            return Some(Acceptor { promised, accepted: None });
        }
        let fence = Epoch(bytes.try_get_u64().ok()?);
        bytes.try_copy_to_slice(&mut raw).ok()?;
        let ballot = Stamp::from_bytes(raw);
        let state = RegisterState::decode(bytes)?;
        (ballot <= promised)
            .then_some(Acceptor { promised, accepted: Some(Accepted { fence, ballot, state }) })
    }
}

/// What a majority's answers of one round come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The newest state that any of them has accepted.
    pub newest: Option<Accepted>,
    /// Whether that state, or that there is none, is decided: a majority shows it and nobody shows a
    /// newer one.
    pub decided: bool,
}

impl Finding {
    /// Of what `shown` have accepted, one entry an acceptor, when `majority` of all acceptors make a
    /// majority.
    pub fn of<'a>(
        shown: impl Iterator<Item = Option<&'a Accepted>> + Clone,
        majority: usize,
    ) -> Finding {
        let rank = |accepted: &Option<&Accepted>| accepted.map(Accepted::rank);
        let newest = if crate::mutant!("newest-by-majority") {
            let alike = |one: &Option<&Accepted>| {
                shown.clone().filter(|other| rank(one) == rank(other)).count()
            };
            shown.clone().max_by_key(|one| (alike(one), rank(one))).flatten()
        } else {
            shown.clone().max_by_key(rank).flatten()
        };
        let alike = shown.filter(|one| rank(one) == rank(&newest)).count();
        let decided = alike >= majority || crate::mutant!("skip-write-back");
        Finding { newest: newest.cloned(), decided }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arm_mutant;
    use crate::types::{NodeId, Value, WallTime};
    use proptest::prelude::*;

    fn at(time: u64) -> Stamp {
        Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
    }

    fn state(text: &str) -> RegisterState {
        RegisterState { value: Value::new(text.to_owned()).ok(), ..RegisterState::default() }
    }

    fn accepted(ballot: u64, text: &str) -> Accepted {
        under(1, ballot, text)
    }

    fn under(fence: u64, ballot: u64, text: &str) -> Accepted {
        Accepted { fence: Epoch(fence), ballot: at(ballot), state: state(text) }
    }

    #[test]
    fn a_promise_refuses_everything_below_it_and_nothing_else() {
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.promise(at(5)), Ok(true));
        assert_eq!(acceptor.promise(at(5)), Ok(false), "asked twice");
        assert_eq!(acceptor.promise(at(4)), Err(Outbid(at(5))));
        assert_eq!(acceptor.accept(accepted(4, "late")), Err(Outbid(at(5))));
        assert_eq!(acceptor.accepted(), None);
        let armed = arm_mutant("accept-below-promise");
        assert!(acceptor.clone().accept(accepted(4, "late")).is_ok());
        drop(armed);
        assert_eq!(acceptor.accept(accepted(5, "a")), Ok(true));
        assert_eq!(acceptor.accept(accepted(5, "a")), Ok(false), "asked twice");
        assert_eq!(acceptor.accept(accepted(7, "b")), Ok(true), "without a promise");
        assert_eq!(acceptor.promised(), at(7));
        assert_eq!(acceptor.promise(at(6)), Err(Outbid(at(7))));
    }

    #[test]
    fn the_newest_state_is_decided_only_when_a_majority_shows_it_itself() {
        let (old, new) = (accepted(1, "old"), accepted(2, "new"));
        let of = |shown: &[Option<&Accepted>]| Finding::of(shown.iter().copied(), 2);
        let alone = [Some(&old), Some(&new), Some(&old)];
        assert_eq!(of(&alone), Finding { newest: Some(new.clone()), decided: false });
        let armed = arm_mutant("newest-by-majority");
        assert_eq!(of(&alone).newest, Some(old.clone()));
        drop(armed);
        let found = of(&[Some(&new), None, Some(&new)]);
        assert_eq!((found.newest, found.decided), (Some(new.clone()), true));
        let found = of(&[None, Some(&old)]);
        assert_eq!((found.newest, found.decided), (Some(old), false));
        let found = of(&[None, None]);
        assert_eq!((found.newest, found.decided), (None, true));
        assert!(!of(&[Some(&new)]).decided);
    }

    /// Seed 830000004366: old owners promise a high ballot and one that stays accepts it; the new ones decide
    /// under a lower one.
    #[test]
    fn what_later_owners_decide_is_newer_whatever_ballots_earlier_ones_have_accepted() {
        let (early, late) = (under(1, 9, "early"), under(2, 5, "late"));
        let found = || Finding::of([Some(&early), Some(&late), Some(&late)].into_iter(), 2);
        assert_eq!(found(), Finding { newest: Some(late.clone()), decided: true });
        let holding = |accepted: &Accepted| {
            let mut acceptor = Acceptor::default();
            acceptor.accept(accepted.clone()).unwrap();
            acceptor
        };
        let joined = || {
            let mut acceptor = holding(&early);
            (acceptor.join(holding(&late)), acceptor)
        };
        let (new, acceptor) = joined();
        assert_eq!((new, acceptor.accepted()), (true, Some(&late)));
        assert_eq!(acceptor.promised(), at(9), "the promise stays");
        let mut acceptor = holding(&late);
        assert_eq!(acceptor.accept(early.clone()), Err(Outbid(at(5))), "of an earlier fence");
        let _armed = arm_mutant("ballots-outlive-owners");
        assert_eq!(found().newest, Some(early.clone()));
        assert!(!joined().0);
    }

    #[derive(Clone, Debug)]
    enum Ask {
        Promise(u64),
        Accept(u64),
    }

    fn asks() -> impl Strategy<Value = Vec<Ask>> {
        let ask = (any::<bool>(), 1..20u64);
        let ask = ask.prop_map(|(p, n)| if p { Ask::Promise(n) } else { Ask::Accept(n) });
        proptest::collection::vec(ask, 0..40)
    }

    proptest! {
        /// Whatever comes in whatever order: promises never go back, what is accepted was not below a
        /// promise, and the bytes read back.
        #[test]
        fn an_acceptor_never_breaks_a_promise(asks in asks()) {
            let mut acceptor = Acceptor::default();
            for ask in asks {
                let before = acceptor.clone();
                let (ballot, result) = match ask {
                    Ask::Promise(n) => (at(n), acceptor.promise(at(n))),
                    Ask::Accept(n) => (at(n), acceptor.accept(accepted(n, &n.to_string()))),
                };
                match result {
                    Ok(_) => prop_assert!(ballot >= before.promised && acceptor.promised == ballot),
                    Err(Outbid(by)) => {
                        prop_assert!(by > ballot && by == before.promised);
                        prop_assert_eq!(&acceptor, &before);
                    }
                }
                let mut bytes = Vec::new();
                acceptor.encode(&mut bytes);
                prop_assert_eq!(Acceptor::decode(bytes.into()), Some(acceptor.clone()));
            }
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Acceptor::decode(bytes.into());
        }
    }
}
