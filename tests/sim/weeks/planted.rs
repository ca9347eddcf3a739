//! Planted bugs of the orchestrator: each is armed, its recorded seed is lived through until the first fault, and
//! must have one.

use roundtable::testing;

use super::{live, storms};
use crate::arguments::Arguments;
use crate::runner::all_of;

/// What is lived through.
#[derive(Clone, Copy, Debug)]
enum Life {
    /// Members fail independently, so many are in reserve.
    Weeks(usize),
    /// Failures come together.
    Storms,
}

const LIVES: [Life; 3] = [Life::Storms, Life::Weeks(1), Life::Weeks(2)];

/// Each planted bug, and a seed that shows it.
const PLANTED: [(&str, Life, u64); 13] = [
    ("orchestrator-replaces-suspected", Life::Weeks(1), 1),
    ("orchestrator-without-majority", Life::Storms, 3),
    ("orchestrator-two-in-a-zone", Life::Storms, 3),
    ("orchestrator-fills-the-dead", Life::Storms, 6),
    ("orchestrator-passes-zone-over", Life::Storms, 1),
    ("orchestrator-takes-the-cold", Life::Storms, 2),
    ("orchestrator-without-room", Life::Storms, 2),
    ("orchestrator-spreads-without-room", Life::Weeks(1), 1),
    ("orchestrator-silent", Life::Weeks(1), 1),
    ("orchestrator-asleep", Life::Weeks(1), 1),
    ("orchestrator-beside-another", Life::Storms, 3),
    ("orchestrator-passes-returned-over", Life::Storms, 4),
    ("orchestrator-turns-back-read", Life::Storms, 1),
];

impl Life {
    /// The first fault of a seed, with a bug or without.
    fn fault(self, seed: u64, mutant: &'static str) -> Option<String> {
        let _armed = testing::arm_mutant(mutant);
        match self {
            Life::Weeks(reserved) => live(seed, reserved).fault,
            Life::Storms => storms::live(seed).err(),
        }
    }
}

/// Replays every recorded bug, and says how many.
pub(super) fn are_caught() -> Result<usize, String> {
    let missed = all_of(PLANTED.to_vec(), &|(mutant, life, seed)| {
        let missed = life.fault(seed, mutant).is_none();
        missed.then(|| format!("{mutant} is not found in {life:?} of seed {seed}"))
    });
    let missed: Vec<String> = missed.into_iter().flatten().collect();
    if missed.is_empty() { Ok(PLANTED.len()) } else { Err(missed.join("\n")) }
}

/// Looks for seeds that show a planted bug.
pub(super) fn search(arguments: &Arguments, mutant: &str) -> Result<String, String> {
    let name: &'static str = mutant.to_owned().leak();
    let base = arguments.base.unwrap_or(1);
    let mut said = Vec::new();
    for life in LIVES {
        let seeds: Vec<u64> = (base..base + arguments.seeds).collect();
        let found = all_of(seeds, &|seed| (seed, life.fault(seed, name)));
        let found: Vec<(u64, String)> =
            found.into_iter().filter_map(|(seed, fault)| Some((seed, fault?))).collect();
        said.push(format!("  {name}: {life:?} {} of {}", found.len(), arguments.seeds));
        said.extend(found.iter().map(|(seed, fault)| format!("    seed {seed}: {fault}")));
    }
    Ok(said.join("\n"))
}
