//! How founders make a cluster together, in any start order and through any interruption, without
//! ever making two.
//!
//! Each founder is born with a random nonce, durable before it is told to anybody. When it has
//! heard the nonces of all (not from third parties: from themselves) it makes epoch 1 out of them
//! and pledges itself to that state's hash, once, durably. The cluster is founded when all have
//! pledged the same hash. Two states can never both gather all pledges, since each founder gives
//! one. A founder whose nonce stands in epoch 1 may adopt it from anyone at any time; one whose
//! nonce does not is dead as that id.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::{BirthNews, FounderNonce};
use crate::types::{Charter, ClusterState, NodeId, NodeName, Nonce};

use super::{canonical, founder_id, founding};

/// A founder before there is a cluster.
#[derive(Debug)]
pub struct Birth {
    charter: Charter,
    own: FounderNonce,
    without: Vec<NodeName>,
    /// Nonces heard from the founders themselves, and our own.
    births: BTreeMap<NodeName, Nonce>,
    /// Pledges heard from the founders themselves, and our own once it is durable.
    pledges: BTreeMap<NodeName, u128>,
    own_nonce_durable: bool,
    /// The hash pledged, and whether that is durable.
    pledge: Option<(u128, bool)>,
    founded: bool,
    trouble: Option<String>,
}

/// What a birth yields.
#[derive(Clone, Debug, PartialEq)]
pub enum BirthAction {
    /// Tell every founder.
    Tell(Box<BirthNews>),
    /// Store the pledge; say so with [`Birth::on_pledge_durable`].
    PersistPledge(u128),
    /// The cluster is founded with this state.
    Founded(Arc<ClusterState>),
    /// This node is not the founder it says it is. Says why and what to do.
    Refuse(String),
}

impl Birth {
    /// A founder called `name` with the nonce it was born with, the pledge its store held, and the
    /// founders the operator has typed away.
    pub fn new(
        charter: Charter,
        name: NodeName,
        nonce: Nonce,
        pledge: Option<u128>,
        without: Vec<NodeName>,
    ) -> Birth {
        let own = FounderNonce { name: name.clone(), nonce };
        let births = BTreeMap::from([(name.clone(), nonce)]);
        let pledges = pledge.iter().map(|hash| (name.clone(), *hash)).collect();
        let pledge = pledge.map(|hash| (hash, true));
        Birth {
            charter,
            own,
            without,
            births,
            pledges,
            own_nonce_durable: false,
            pledge,
            founded: false,
            trouble: None,
        }
    }

    /// The own nonce has been made durable: from now on others may hear it.
    pub fn on_nonce_durable(&mut self) -> Vec<BirthAction> {
        self.own_nonce_durable = true;
        self.advance()
    }

    /// The pledge has been made durable: from now on others may hear it.
    pub fn on_pledge_durable(&mut self) -> Vec<BirthAction> {
        let Some((hash, durable)) = &mut self.pledge else { return Vec::new() };
        *durable = true;
        self.pledges.insert(self.own.name.clone(), *hash);
        let mut actions = vec![self.tell()];
        actions.extend(self.advance());
        actions
    }

    /// It is time to say again what was said.
    pub fn on_time(&mut self) -> Vec<BirthAction> {
        if !self.own_nonce_durable || self.founded {
            return Vec::new();
        }
        let mut actions = vec![self.tell()];
        actions.extend(self.advance());
        actions
    }

    /// Another founder has told its news.
    pub fn on_news(&mut self, from: NodeId, news: &BirthNews) -> Vec<BirthAction> {
        let position = self.charter.founders.iter().position(|f| f.name == news.own.name);
        let is_sender = position.is_some_and(|index| founder_id(index) == from);
        if !is_sender || news.founders != canonical::founders_hash(&self.charter) {
            self.trouble = Some(format!(
                "{} has another founders list or other settings fixed at birth: compare [cluster] \
                 in both configurations",
                news.own.name
            ));
            return Vec::new();
        }
        self.trouble = None;
        let remembered = news.known.iter().find(|known| known.name == self.own.name);
        if news.pledge.is_some() && remembered.is_some_and(|known| known.nonce != self.own.nonce) {
            return vec![BirthAction::Refuse(format!(
                "{} has pledged itself to a founding with another birth of {}: this directory was \
                 emptied or replaced while the cluster was being founded. Nothing has been stored \
                 yet: stop all founders, remove all their directories and start them again",
                news.own.name, self.own.name
            ))];
        }
        let before = self.births.insert(news.own.name.clone(), news.own.nonce);
        if before.is_some_and(|nonce| nonce != news.own.nonce) {
            crate::sometimes!("birth: a founder comes with another nonce");
            if self.pledge.is_some() {
                self.trouble = Some(format!(
                    "{} was emptied or replaced after this founder had pledged itself: stop all \
                     founders, remove all their directories and start them again",
                    news.own.name
                ));
            }
        }
        match news.pledge {
            Some(hash) => self.pledges.insert(news.own.name.clone(), hash),
            None => self.pledges.remove(&news.own.name),
        };
        self.advance()
    }

    /// The state it was founded with could not be stored: it is yielded again in time.
    pub fn on_state_not_stored(&mut self) {
        self.founded = false;
    }

    /// Something else stands in the way of the founding.
    pub fn on_trouble(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// What it waits for, in words.
    pub fn waits_for(&self) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        let missing = |have: &dyn Fn(&NodeName) -> bool| {
            let names = self.expected().filter(|name| !have(name)).map(NodeName::as_str);
            names.collect::<Vec<_>>().join(", ")
        };
        let unborn = missing(&|name| self.births.contains_key(name));
        if !unborn.is_empty() {
            return format!("waiting to hear from founders: {unborn}");
        }
        let unpledged = missing(&|name| self.pledges.contains_key(name));
        format!("waiting for the pledges of founders: {unpledged}")
    }

    fn expected(&self) -> impl Iterator<Item = &NodeName> {
        let names = self.charter.founders.iter().map(|founder| &founder.name);
        names.filter(|name| !self.without.contains(name))
    }

    fn tell(&self) -> BirthAction {
        let known = self.births.iter();
        BirthAction::Tell(Box::new(BirthNews {
            founders: canonical::founders_hash(&self.charter),
            own: self.own.clone(),
            known: known
                .map(|(name, nonce)| FounderNonce { name: name.clone(), nonce: *nonce })
                .collect(),
            pledge: self.pledge.and_then(|(hash, durable)| {
                (durable || crate::mutant!("pledge-not-durable")).then_some(hash)
            }),
        }))
    }

    fn advance(&mut self) -> Vec<BirthAction> {
        if self.founded || !self.own_nonce_durable {
            return Vec::new();
        }
        let expected: Vec<NodeName> = self.expected().cloned().collect();
        if expected.len() * 2 <= self.charter.founders.len() {
            return vec![BirthAction::Refuse(format!(
                "{} of {} founders are typed away: more than half must be there, or two halves \
                 could found two clusters",
                self.charter.founders.len() - expected.len(),
                self.charter.founders.len()
            ))];
        }
        if !expected.iter().all(|name| self.births.contains_key(name)) {
            return Vec::new();
        }
        let births = self.births.iter().filter(|(name, _)| expected.contains(name));
        let births = births.map(|(name, nonce)| (name.clone(), *nonce)).collect();
        let state = match founding::found(&self.charter, &births) {
            Ok(state) => state,
            Err(error) => return vec![BirthAction::Refuse(error.to_string())],
        };
        let hash = canonical::state_hash(&state);
        match self.pledge {
            None => {
                self.pledge = Some((hash, false));
                let mut actions = vec![BirthAction::PersistPledge(hash)];
                if crate::mutant!("pledge-not-durable") {
                    actions.push(self.tell());
                }
                actions
            }
            Some((pledged, _)) if pledged != hash => {
                crate::sometimes!("birth: pledged to another founding");
                self.trouble.get_or_insert_with(|| {
                    "this founder has pledged itself to a founding with other births: a founder's \
                     directory was emptied or replaced, or the list was changed. Nothing has been \
                     stored yet: stop all founders, remove all their directories and start again"
                        .to_owned()
                });
                Vec::new()
            }
            Some((_, durable)) => {
                let agreed = expected.iter().all(|name| self.pledges.get(name) == Some(&hash));
                if !agreed || !durable {
                    return Vec::new();
                }
                self.founded = true;
                vec![BirthAction::Founded(Arc::new(state))]
            }
        }
    }
}
