//! Weeks in which failures come together: racks go dark and come back at once, whoever is filled in the place of
//! another dies as well, members return at the last moment, the network is in parts for hours, and disks are of all
//! sizes. Judged is not how often, but whether each decision keeps to the rules (`rules.rs`).

use roundtable::types::NodeId;

use super::disks::Disks;
use super::world::{DETECT, Event, GRACE, World};
use super::{DAY, HOUR, MINUTE};
use crate::arguments::Arguments;
use crate::runner::all_of;

const DAYS: u64 = 14;
/// Members that own something.
const ACTIVE: usize = 12;
/// Seeds that `cargo test` runs.
const SEEDS: u64 = 2;

/// All seeds, with two to five in reserve; then the planted bugs, each at its seed.
pub(crate) fn hold(arguments: &Arguments) -> Result<String, String> {
    if arguments.mutant.is_some() {
        return Ok(String::new());
    }
    let base = arguments.base.unwrap_or(1);
    let seeds = if arguments.names("storms") { arguments.seeds } else { SEEDS };
    let seeds: Vec<u64> = (base..base + seeds).collect();
    let all = all_of(seeds.clone(), &live);
    let (mut replaced, mut whole) = (0, 0);
    for (seed, lived) in seeds.iter().zip(all) {
        let (of, noons) = lived.map_err(|fault| format!("storms, seed {seed}: {fault}"))?;
        (replaced, whole) = (replaced + of, whole + noons);
    }
    let caught = super::planted::are_caught()?;
    Ok(format!(
        "  {} seeds of {DAYS} days of storms: {replaced} members replaced, {whole} noons with all copies; \
         {caught} planted bugs caught",
        seeds.len()
    ))
}

/// The weeks of one seed: how many were replaced, and at how many noons all copies were there.
pub(super) fn live(seed: u64) -> Result<(u64, u64), String> {
    let reserved = 2 + usize::try_from(seed % 4).unwrap_or_default();
    let mut world = World::new(seed, ACTIVE, reserved);
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    world.disks = Disks::draw(&mut world.rng, &ids);
    for day in 0..DAYS {
        let at = day * DAY + world.rng.u64(13..20) * HOUR;
        incident(&mut world, at, &ids);
        world.at(day * DAY + 12 * HOUR, Event::Noon);
    }
    world.run_until(DAYS * DAY);
    match world.judge.fault.take() {
        Some(fault) => Err(fault),
        None => Ok((world.judge.replaced, world.judge.whole)),
    }
}

/// What happens on a day.
fn incident(world: &mut World, at: u64, ids: &[NodeId]) {
    let zone = world.rng.usize(..3);
    let mut of_zone: Vec<NodeId> = ids.iter().copied().skip(zone).step_by(3).collect();
    world.rng.shuffle(&mut of_zone);
    let any = ids[world.rng.usize(..ids.len())];
    match world.rng.u8(..9) {
        // A rack: some of a zone within a minute, and back within another.
        0 | 1 => {
            let length = world.rng.u64(HOUR / 2..14 * HOUR);
            for id in of_zone.into_iter().take(2 + world.rng.usize(..2)) {
                let (later, more) = (world.rng.u64(..MINUTE), world.rng.u64(..MINUTE / 2));
                world.at(at + later, Event::Dies(id, length - later + more / MINUTE));
            }
        }
        // One after the other, while the first is being replaced, or shortly before.
        2 | 3 => {
            for _ in 0..world.rng.usize(2..4) {
                let id = ids[world.rng.usize(..ids.len())];
                let (later, length) =
                    (world.rng.u64(..40 * MINUTE), world.rng.u64(HOUR..30 * HOUR));
                world.at(at + later, Event::Dies(id, length));
            }
        }
        // It is back just when it was given up, or a little later.
        4 => {
            let length = DETECT + GRACE + world.rng.u64(..400);
            world.at(at, Event::Dies(any, length));
        }
        // Whoever may be filled in its place dies as well.
        5 => {
            world.at(at, Event::Dies(any, 20 * HOUR));
            let later = GRACE + world.rng.u64(..30 * MINUTE);
            for id in ids.iter().skip(ACTIVE) {
                if world.rng.bool() {
                    world.at(at + later, Event::Dies(*id, 6 * HOUR));
                }
            }
        }
        // In two parts for long: the larger one replaces whom it misses. In five, none may.
        6 => {
            let length = world.rng.u64(20 * MINUTE..3 * HOUR);
            world.at(at, Event::Falls(2, length));
        }
        7 => {
            world.at(at, Event::Falls(5, 2 * HOUR));
            world.at(at + HOUR, Event::Dies(any, 10 * HOUR));
        }
        // A minority hears one no more; another restarts.
        _ => {
            world.at(at, Event::Deaf(any, HOUR));
            let (other, length) = (ids[world.rng.usize(..ids.len())], world.rng.u64(20..600));
            world.at(at + 10 * MINUTE, Event::Dies(other, length));
        }
    }
}
