//! Replicas and clients against the plain definition: a write stands unless a write that saw it,
//! directly or through others, was made. The reference keeps, for every write, the set of all
//! writes its writer had seen; no marks, no ticks.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::types::{NodeId, RequestId, Tenure, Value, WallTime};

const NODES: usize = 3;

/// One write of the reference: an index, and all it took the place of.
struct Event {
    dot: Dot,
    is_put: bool,
    saw: BTreeSet<usize>,
}

/// What a client carries: the context, and what the reference says it has seen.
#[derive(Clone, Default)]
struct Carried {
    context: CausalContext,
    saw: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A client reads these replicas, as a bitmap, and carries what it saw.
    Read { client: usize, replicas: u8 },
    /// A client writes at a replica; told to these others.
    Write { client: usize, at: usize, is_put: bool, blind: bool, told: u8 },
    /// One message that was sent at some time arrives, perhaps not for the first time.
    Deliver { message: usize },
    /// A replica learns all another one holds.
    Exchange { from: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..2usize, 1..8u8).prop_map(|(client, replicas)| Step::Read { client, replicas }),
        (0..2usize, 0..NODES, prop::bool::weighted(0.8), any::<bool>(), 0..8u8).prop_map(
            |(client, at, is_put, blind, told)| Step::Write { client, at, is_put, blind, told }
        ),
        (0..2usize, 0..NODES, prop::bool::weighted(0.8), any::<bool>(), 0..8u8).prop_map(
            |(client, at, is_put, blind, told)| Step::Write { client, at, is_put, blind, told }
        ),
        (0..40usize).prop_map(|message| Step::Deliver { message }),
        (0..NODES, 0..NODES).prop_map(|(from, to)| Step::Exchange { from, to }),
    ];
    proptest::collection::vec(step, 1..40)
}

#[derive(Default)]
struct World {
    replicas: Vec<SiblingSet>,
    clients: Vec<Carried>,
    events: Vec<Event>,
    messages: Vec<(usize, SiblingSet)>,
}

impl World {
    fn new() -> World {
        World {
            replicas: vec![SiblingSet::default(); NODES],
            clients: vec![Carried::default(); 2],
            ..World::default()
        }
    }

    /// Indices of the puts among the writes of a set.
    fn standing(&self, set: &SiblingSet) -> BTreeSet<usize> {
        let index = |dot| self.events.iter().position(|event| event.dot == dot).unwrap();
        set.writes().map(|(dot, _)| index(dot)).collect()
    }

    /// All that somebody has seen who was shown these writes: they, and all their writers saw.
    fn past(&self, shown: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut past = shown.clone();
        for index in shown {
            past.extend(&self.events[*index].saw);
        }
        past
    }

    fn superseded(&self, index: usize) -> bool {
        self.events.iter().any(|event| event.saw.contains(&index))
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Read { client, replicas } => {
                let mut all = SiblingSet::default();
                for (index, replica) in self.replicas.iter().enumerate() {
                    if replicas >> index & 1 == 1 {
                        all.join(replica.clone());
                    }
                }
                let saw = self.past(&self.standing(&all));
                self.clients[client] = Carried { context: all.context().clone(), saw };
            }
            Step::Write { client, at, is_put, blind, told } => {
                self.write(client, at, (is_put, blind), told);
            }
            Step::Deliver { message } if !self.messages.is_empty() => {
                let (to, set) = self.messages[message % self.messages.len()].clone();
                self.replicas[to].join(set);
            }
            Step::Deliver { .. } => {}
            Step::Exchange { from, to } => {
                let set = self.replicas[from].clone();
                self.replicas[to].join(set);
            }
        }
    }

    fn write(&mut self, client: usize, at: usize, (is_put, blind): (bool, bool), told: u8) {
        let carried = if blind { Carried::default() } else { self.clients[client].clone() };
        let number = self.events.len() as u64 + 1;
        let node = u32::try_from(at).unwrap();
        let actor = Actor { node: NodeId(node), tenure: Tenure(1) };
        let dot = Dot { actor, tick: Tick { time: WallTime(number), counter: 0 } };
        let value = Value::new(number.to_string()).unwrap();
        let payload = Payload::Here(value);
        let write = is_put.then_some(Write { id: RequestId(0), expiry: None, payload });
        let change = Change { dot, write, seen: carried.context };
        let applied = self.replicas[at].apply(change).unwrap();
        let index = self.events.len();
        self.events.push(Event { dot, is_put, saw: carried.saw.clone() });
        let message = self.replicas[at].told(actor, &applied);
        for to in (0..NODES).filter(|to| told >> to & 1 == 1 && *to != at) {
            self.messages.push((to, message.clone()));
        }
        let mut saw = carried.saw;
        if is_put {
            saw.insert(index);
        }
        let context = self.replicas[at].seen_after(applied.stands, &applied.seen);
        self.clients[client] = Carried { context, saw };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn replicas_hold_what_the_definition_says_in_the_end_and_drop_nothing_before(plan in steps()) {
        let mut world = World::new();
        for step in plan {
            world.run(step);
            for replica in &world.replicas {
                for (index, event) in world.events.iter().enumerate() {
                    let dropped = event.is_put
                        && replica.context().covers(event.dot)
                        && !replica.writes().any(|(dot, _)| dot == event.dot);
                    prop_assert!(
                        !dropped || world.superseded(index),
                        "write {index} was dropped, and nobody who saw it wrote"
                    );
                }
            }
        }
        let mut all = SiblingSet::default();
        for replica in &world.replicas {
            all.join(replica.clone());
        }
        let expected: BTreeSet<usize> = (0..world.events.len())
            .filter(|index| world.events[*index].is_put && !world.superseded(*index))
            .collect();
        prop_assert_eq!(world.standing(&all), expected);
    }
}
