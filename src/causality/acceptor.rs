//! The rules of one acceptor of one key of a linearizable table: CASPaxos (Rystsov, "CASPaxos:
//! Replicated State Machines without logs", 2018, section 2.2), which is the Synod of Paxos (Lamport,
//! "Paxos Made Simple", 2001) over states. A promise binds before it is told, and what was accepted is
//! told with every promise: both only once the disk holds them, which is `replica`'s business.

use bytes::{Buf, Bytes};

use crate::types::{RegisterState, Stamp};

/// A state that was accepted, and under which ballot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The ballot.
    pub ballot: Stamp,
    /// The state.
    pub state: RegisterState,
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

    /// Accepts a state, promised or not, unless it has promised itself to a higher ballot. Says
    /// whether that is new. INVARIANT: a ballot is given to one state.
    ///
    /// # Errors
    /// It has promised itself to a higher one; nothing has changed.
    pub fn accept(&mut self, ballot: Stamp, state: RegisterState) -> Result<bool, Outbid> {
        if ballot < self.promised && !crate::mutant!("accept-below-promise") {
            return Err(Outbid(self.promised));
        }
        let known = self.accepted.as_ref().is_some_and(|last| last.ballot == ballot);
        self.promised = self.promised.max(ballot);
        self.accepted = Some(Accepted { ballot, state });
        Ok(!known)
    }

    /// Takes the higher promise and the higher accepted state of two: what a copy of another acceptor
    /// is merged by. Says whether that is new.
    pub fn join(&mut self, other: Acceptor) -> bool {
        let ballot = |acceptor: &Acceptor| acceptor.accepted.as_ref().map(|it| it.ballot);
        let mut new = false;
        if other.promised > self.promised {
            (self.promised, new) = (other.promised, true);
        }
        if ballot(&other) > ballot(self) {
            (self.accepted, new) = (other.accepted, true);
        }
        new
    }

    /// Appends its bytes, see `docs/format/register.md`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.promised.to_bytes());
        if let Some(Accepted { ballot, state }) = &self.accepted {
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
        bytes.try_copy_to_slice(&mut raw).ok()?;
        let ballot = Stamp::from_bytes(raw);
        let state = RegisterState::decode(bytes)?;
        (ballot <= promised)
            .then_some(Acceptor { promised, accepted: Some(Accepted { ballot, state }) })
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
        let ballot = |accepted: &Option<&Accepted>| accepted.map_or(Stamp::ZERO, |it| it.ballot);
        let newest = if crate::mutant!("newest-by-majority") {
            let alike = |one: &Option<&Accepted>| {
                shown.clone().filter(|other| ballot(one) == ballot(other)).count()
            };
            shown.clone().max_by_key(|one| (alike(one), ballot(one))).flatten()
        } else {
            shown.clone().max_by_key(ballot).flatten()
        };
        let alike = shown.filter(|one| ballot(one) == ballot(&newest)).count();
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
        Accepted { ballot: at(ballot), state: state(text) }
    }

    #[test]
    fn a_promise_refuses_everything_below_it_and_nothing_else() {
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.promise(at(5)), Ok(true));
        assert_eq!(acceptor.promise(at(5)), Ok(false), "asked twice");
        assert_eq!(acceptor.promise(at(4)), Err(Outbid(at(5))));
        assert_eq!(acceptor.accept(at(4), state("late")), Err(Outbid(at(5))));
        assert_eq!(acceptor.accepted(), None);
        let armed = arm_mutant("accept-below-promise");
        assert!(acceptor.clone().accept(at(4), state("late")).is_ok());
        drop(armed);
        assert_eq!(acceptor.accept(at(5), state("a")), Ok(true));
        assert_eq!(acceptor.accept(at(5), state("a")), Ok(false), "asked twice");
        assert_eq!(acceptor.accept(at(7), state("b")), Ok(true), "without a promise");
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
                    Ask::Accept(n) => (at(n), acceptor.accept(at(n), state(&n.to_string()))),
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
