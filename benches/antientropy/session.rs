//! One session, as two nodes run it.

use roundtable::message::{
    CopyContent, CopyPlace, CopyWhat, DiskAnswer, DiskRequest, TreeDisk, TreeDone, UnitDisk,
    UnitDone,
};
use roundtable::repair::exchange::{Asker, Bring, Lack, Step, Terms};
use roundtable::repair::tree::SEED;
use roundtable::types::{Epoch, NodeId, Stamp, Unit, WallTime};

use crate::store::Store;

/// What it costs to find what differs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Bytes of questions and answers, roots included.
    pub(crate) find_bytes: u64,
    /// Of places, in what differs and is brought, their keys alone.
    pub(crate) key_bytes: u64,
    /// Of records that were brought.
    pub(crate) value_bytes: u64,
    /// Questions: each is a round trip.
    pub(crate) questions: u64,
    /// Keys that were brought.
    pub(crate) brought: u64,
    /// Entries that both sides read to find them.
    pub(crate) entries_read: u64,
    /// CPU of both sides, with what is brought.
    pub(crate) cpu_ms: f64,
}

impl Cost {
    /// A unit's root, asked and answered with those of others.
    pub(crate) const ROOT_BYTES: u64 = 40;
}

/// Compares a unit until both hold the same.
pub(crate) fn session(
    (asker_store, answerer): (&Store, &Store),
    unit: Unit,
    number: u64,
    cost: &mut Cost,
) {
    let horizon = Stamp { time: WallTime(u64::MAX), counter: 0, node: NodeId(0) };
    let terms = Terms { session: number, horizon, seed: SEED };
    let (mut asker, mut said) = (Box::new(Asker::new(terms)), None);
    loop {
        match asker_store.tree(TreeDisk::Advance { unit, asker, said: said.take() }) {
            TreeDone::Advanced(next) => asker = next,
            other => panic!("{other:?}"),
        }
        match asker.step() {
            Step::Ask(number, ask) => {
                cost.questions += 1;
                cost.find_bytes += ask.bytes() as u64;
                match answerer.tree(TreeDisk::Answer { unit, terms, ask }) {
                    TreeDone::Said(answer) => {
                        cost.find_bytes += answer.bytes() as u64;
                        said = Some((number, answer));
                    }
                    other => panic!("{other:?}"),
                }
            }
            Step::Bring(lacks) => {
                bring((asker_store, answerer), unit, &lacks, cost);
                asker.on_brought();
            }
            Step::Done(outcome) => {
                assert!(outcome.verified, "{outcome:?}");
                return;
            }
            Step::Read(range) => panic!("{range:?} was to be read by the store"),
        }
    }
}

fn bring((here, there): (&Store, &Store), unit: Unit, lacks: &[Lack], cost: &mut Cost) {
    let places = |wanted: Bring| -> Vec<CopyPlace> {
        let of = lacks.iter().filter(|lack| lack.bring == wanted || lack.bring == Bring::Both);
        let place =
            |lack: &Lack| Some(CopyPlace { table: lack.place.table()?, key: lack.place.key()? });
        of.filter_map(place).collect()
    };
    for (from, to, wanted) in [(there, here, Bring::Here), (here, there, Bring::There)] {
        let mut keys = places(wanted);
        cost.brought += keys.len() as u64;
        cost.key_bytes += keys.iter().map(|place| place.key.as_bytes().len() as u64).sum::<u64>();
        while !keys.is_empty() {
            let what = CopyWhat::Keys(keys.clone());
            let to_node = (NodeId(2), Epoch(1));
            let page = UnitDisk::Page { unit, what, to: to_node };
            let answer = from.ask(DiskRequest::Unit(Box::new(page)));
            let DiskAnswer::Unit(UnitDone::Page(page)) = answer else { panic!("{answer:?}") };
            let CopyContent::Records(entries) = page.content else { panic!("no records") };
            cost.value_bytes += entries.iter().map(|entry| entry.bytes() as u64).sum::<u64>();
            to.merge(unit, entries);
            keys = match page.next {
                Some(last) => keys.into_iter().filter(|place| *place > last).collect(),
                None => Vec::new(),
            };
        }
    }
}
