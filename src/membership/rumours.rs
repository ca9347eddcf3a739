//! What is to be passed on, and how often it has been: the least sent first, of these the newest. What
//! is said of a topic is looked up when it is sent, so it is never old.

use core::cmp::Reverse;
use std::collections::BTreeMap;

use crate::types::NodeId;

/// Something to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Whether a member answers.
    Liveness(NodeId),
    /// The facts of a member.
    Facts(NodeId),
}

/// Times sent, and when it became news: a larger number is newer.
type Place = (u32, Reverse<u64>);

/// Topics that are still news. At most two for each member.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    queue: BTreeMap<Place, Topic>,
    places: BTreeMap<Topic, Place>,
    newest: u64,
}

impl Rumours {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// There is news on a topic: it begins anew.
    pub(super) fn push(&mut self, topic: Topic) {
        self.newest += 1;
        self.put(topic, (0, Reverse(self.newest)));
    }

    /// Takes the topics for one message: `wants` says of each whether it goes. Each is offered at
    /// most once, `looks` in all, and forgotten once it has been taken `sends` times.
    pub(super) fn pick(&mut self, looks: usize, sends: u32, mut wants: impl FnMut(Topic) -> bool) {
        let offered: Vec<(Place, Topic)> =
            self.queue.iter().take(looks).map(|(place, topic)| (*place, *topic)).collect();
        for ((sent, order), topic) in offered.into_iter().filter(|(_, topic)| wants(*topic)) {
            if sent + 1 < sends {
                self.put(topic, (sent + 1, order));
            } else {
                self.forget(topic);
            }
        }
    }

    /// Keeps at most `most`, those that would be sent first.
    pub(super) fn truncate(&mut self, most: usize) {
        while self.queue.len() > most {
            if let Some((_, topic)) = self.queue.pop_last() {
                self.places.remove(&topic);
            }
        }
    }

    /// Forgets what is not about these.
    pub(super) fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        let about = |topic: &Topic| match topic {
            Topic::Liveness(id) | Topic::Facts(id) => *id,
        };
        self.queue.retain(|_, topic| keep(about(topic)));
        self.places.retain(|topic, _| keep(about(topic)));
    }

    fn forget(&mut self, topic: Topic) {
        if let Some(place) = self.places.remove(&topic) {
            self.queue.remove(&place);
        }
    }

    fn put(&mut self, topic: Topic, place: Place) {
        self.forget(topic);
        self.queue.insert(place, topic);
        self.places.insert(topic, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(rumours: &mut Rumours, most: usize, sends: u32) -> Vec<u32> {
        let mut taken = Vec::new();
        rumours.pick(64, sends, |topic| {
            let Topic::Facts(id) = topic else { return false };
            let fits = taken.len() < most;
            taken.extend(fits.then_some(id.0));
            fits
        });
        taken
    }

    #[test]
    fn the_least_sent_go_first_then_the_newest_and_nothing_goes_for_ever() {
        let mut rumours = Rumours::default();
        for id in 1..=3 {
            rumours.push(Topic::Facts(NodeId(id)));
        }
        assert_eq!(picked(&mut rumours, 2, 2), [3, 2]);
        assert_eq!(picked(&mut rumours, 2, 2), [1, 3]);
        rumours.push(Topic::Facts(NodeId(3)));
        assert_eq!(picked(&mut rumours, 4, 2), [3, 2, 1]);
        assert_eq!(picked(&mut rumours, 4, 2), [3]);
        assert!(rumours.is_empty());
    }

    #[test]
    fn what_would_be_sent_last_is_what_has_no_room() {
        let mut rumours = Rumours::default();
        for id in 1..=9 {
            rumours.push(Topic::Facts(NodeId(id)));
        }
        rumours.truncate(3);
        rumours.retain(|id| id != NodeId(8));
        assert_eq!(picked(&mut rumours, 9, 1), [9, 7]);
    }
}
