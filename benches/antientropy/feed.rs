//! What it costs a put that the tree is told: the fingerprints of what was and what is, and the change of
//! one leaf, beside all that the store does for the put.

use std::time::Instant;

use roundtable::repair::tree::{Place, Print, SEED, Tree};
use roundtable::types::{Key, NodeId, Record, Stamp, TableId, Value, WallTime};

/// Puts that are measured.
const PUTS: u64 = 200_000;

fn record(time: u64) -> Record {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    Record { stamp, expiry: None, value: Some(Value::new(vec![b'v'; 100]).unwrap()) }
}

/// Overwrites keys of a tree of so many, in no order.
pub(crate) fn run(keys: u64) -> String {
    let name = |number: u64| Key::new(format!("user:{number:011x}")).unwrap();
    let all = (0..keys).map(|number| {
        let place = Place::new(TableId(1), &name(number));
        let print = Print::version(&place, &record(1));
        (place, print)
    });
    let mut tree = Tree::of(all.collect(), SEED);
    let names: Vec<Key> =
        (0..PUTS).map(|at| name(at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys)).collect();
    let (old, new) = (record(1), record(2));
    let began = Instant::now();
    for name in &names {
        let place = Place::new(TableId(1), name);
        let before = Print::version(&place, &old);
        let after = Print::version(&place, &new);
        tree.change(&place, Some(before), Some(after));
    }
    let each = began.elapsed().as_nanos() as f64 / PUTS as f64;
    format!("\na put tells its tree in {each:.0} ns, {} leaves\n", tree.leaves())
}
