//! Weeks of a cluster's life on its control plane: members die and are repaired, networks fall apart, and
//! the rules that replace them are the product's. Data are counters, so a week takes milliseconds.
//!
//! `cargo sim -- weeks --seeds 40` judges more of them, and with `KVD_SIM_PLOT=FILE` draws how often the
//! reserve was too small beside what the binomial distribution says. `docs/orchestrator.md` shows it.

mod disks;
pub(crate) mod growth;
mod judge;
mod planted;
mod rules;
mod seen;
pub(crate) mod storms;
mod world;

use roundtable::control::capacity;
use roundtable::picture::{Line, Plot, plot_svg};
use roundtable::types::NodeId;

use crate::arguments::Arguments;
use crate::runner::all_of;
use world::{Event, World};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Before these are over, the failures have not found their balance.
const WARM_DAYS: u64 = 5;
/// What is judged of each seed.
const WEEKS: u64 = 5;
/// Seeds that `cargo test` runs.
const SEEDS: u64 = 20;
/// Members that own something.
const ACTIVE: usize = 20;
/// The share of its time for which a member is down.
const DOWN: f64 = 0.03;
/// How long its repair takes on average.
const REPAIR: u64 = DAY;

/// What became of one seed.
struct Weeks {
    days: u64,
    short: u64,
    whole: u64,
    bereft: u64,
    replaced: u64,
    moves: u64,
    fault: Option<String>,
}

/// All seeds, of clusters with one reserved member, and how often that was too few.
pub(crate) fn hold(arguments: &Arguments) -> Result<String, String> {
    if let Some(mutant) = &arguments.mutant {
        return planted::search(arguments, mutant);
    }
    let base = arguments.base.unwrap_or(1);
    let plot = std::env::var_os("KVD_SIM_PLOT");
    let seeds = if plot.is_some() { arguments.seeds } else { SEEDS.min(arguments.seeds) };
    let reserves = if plot.is_some() { 0..=4 } else { 1..=2 };
    let (mut said, mut predicted, mut observed) = (Vec::new(), Vec::new(), Vec::new());
    for reserved in reserves {
        // A quarter of them, where nothing is drawn, is enough for what seldom is too few.
        let first = if plot.is_none() && reserved > 1 { base + seeds * 3 / 4 } else { base };
        let all = all_of((first..base + seeds).collect(), &|seed| live(seed, reserved));
        let faults = (first..).zip(&all).filter_map(|(seed, weeks)| {
            let fault = weeks.fault.as_ref()?;
            Some(format!("seed {seed}, {reserved} in reserve: {fault}"))
        });
        let faults: Vec<String> = faults.collect();
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let sum = |of: fn(&Weeks) -> u64| all.iter().map(of).sum::<u64>();
        let (days, short) = (sum(|w| w.days), sum(|w| w.short));
        let (whole, bereft) = (sum(|w| w.whole), sum(|w| w.bereft));
        let (replaced, moves) = (sum(|w| w.replaced), sum(|w| w.moves));
        let chance = expected(reserved);
        let share = fraction(short, days);
        said.push(format!(
            "  {} seeds, {days} days, {reserved} in reserve: {replaced} members replaced, {moves} units \
             moved, {whole} noons with all copies that could be there ({bereft} on which of some units too \
             few were); too few on {:.2} % of the days, {:.2} % expected",
            all.len(),
            share * 100.0,
            chance * 100.0
        ));
        balance(share, chance, days)?;
        bounded(replaced, moves)?;
        let at = f64::from(u32::try_from(reserved).unwrap_or(u32::MAX));
        predicted.push((at, chance));
        observed.push((at, share));
    }
    if let Some(file) = plot {
        std::fs::write(&file, draw(predicted, observed)).map_err(|error| error.to_string())?;
        said.push(format!("  drawn to {}", file.display()));
    }
    Ok(said.join("\n"))
}

/// The weeks of one seed.
fn live(seed: u64, reserved: usize) -> Weeks {
    let mut world = World::new(seed, ACTIVE, reserved);
    let end = (WARM_DAYS + 7 * WEEKS) * DAY;
    fate(&mut world, end);
    world.run_until(end);
    let judge = &mut world.judge;
    Weeks {
        days: judge.days,
        short: judge.short,
        whole: judge.whole,
        bereft: judge.bereft,
        replaced: judge.replaced,
        moves: judge.moves,
        fault: judge.fault.take(),
    }
}

/// Everything that will happen to the members, drawn beforehand.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "moments are drawn as fractions, and are seconds"
)]
fn fate(world: &mut World, end: u64) {
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    let up = REPAIR as f64 * (1.0 - DOWN) / DOWN;
    for id in ids {
        let mut at = 0.0;
        loop {
            // Exponential, so that members have no memory and fail independently.
            at += -up * (1.0 - world.rng.f64()).ln();
            if at >= end as f64 {
                break;
            }
            let length = REPAIR / 2 + world.rng.u64(..REPAIR);
            world.at(at as u64, Event::Dies(id, length));
            at += length as f64;
        }
        // A restart now and then, which nobody is to notice.
        for week in 0..end / (7 * DAY) {
            let (at, length) = (week * 7 * DAY + world.rng.u64(..7 * DAY), world.rng.u64(20..600));
            world.at(at, Event::Dies(id, length));
        }
    }
    for day in 0..end / DAY {
        let at = |hour: u64| day * DAY + hour * HOUR;
        if day >= WARM_DAYS {
            world.at(at(12), Event::Noon);
        }
        let (hour, ids) = (world.rng.u64(14..22), world.nodes.len() as u64);
        match world.rng.u8(..6) {
            // Shorter than a grace time, whoever is cut off from whom.
            0 => {
                let length = world.rng.u64(1..14) * MINUTE;
                world.at(at(hour), Event::Falls(2, length));
            }
            // For hours, and into so many parts that none is a majority.
            1 => world.at(at(hour), Event::Falls(5, 2 * HOUR)),
            // A minority hears one no more.
            2 => {
                let id = NodeId(1 + world.rng.u32(..u32::try_from(ids).unwrap_or(1)));
                world.at(at(hour), Event::Deaf(id, HOUR));
            }
            _ => {}
        }
    }
}

/// The chance that more than the reserved ones are down.
fn expected(reserved: usize) -> f64 {
    let nodes = u32::try_from(ACTIVE + reserved).unwrap_or(u32::MAX);
    capacity::tail(nodes, DOWN).get(reserved).copied().unwrap_or(0.0)
}

#[allow(clippy::cast_precision_loss, reason = "a share for people")]
fn fraction(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

/// Days that follow each other are alike: a repair takes one, so half of them count.
#[allow(clippy::cast_precision_loss, reason = "a deviation")]
fn balance(share: f64, chance: f64, days: u64) -> Result<(), String> {
    let deviation = (chance * (1.0 - chance) / (days as f64 / 2.0)).sqrt();
    if (share - chance).abs() <= 4.0 * deviation + 0.005 {
        return Ok(());
    }
    Err(format!("the reserve was too small on {share:.4} of the days; {chance:.4} is expected"))
}

/// No member is replaced twice for one failure, and nothing is moved but what replaced members had.
fn bounded(replaced: u64, moves: u64) -> Result<(), String> {
    // 64 units, 3 copies each, over 20 members; zones allow some more to move.
    let each = 64 * 3 / ACTIVE as u64 * 2;
    if moves <= replaced * each {
        return Ok(());
    }
    Err(format!("{moves} units moved for {replaced} members replaced"))
}

fn draw(predicted: Vec<(f64, f64)>, observed: Vec<(f64, f64)>) -> String {
    let line = |name: &str, points| Line { name: name.to_owned(), points };
    plot_svg(&Plot {
        title: format!(
            "Days on which the reserve was too small, {ACTIVE} active members, p = {DOWN}"
        ),
        x_label: "reserved members".to_owned(),
        y_label: "share of the days".to_owned(),
        is_log: true,
        lines: vec![line("binomial", predicted), line("simulated", observed)],
        marks: Vec::new(),
    })
}
