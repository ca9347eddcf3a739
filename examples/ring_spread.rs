//! Prints how evenly a claim spreads copies over random memberships, and how much a join, a leave
//! and a replacement move against the least they have to. The figures in `docs/ring.md` are its
//! output:
//!
//! ```text
//! cargo run --release --example ring_spread -- --members 1000 --partitions 16384 --rounds 100
//! ```
//!
//! Options: `--members M`, `--partitions Q`, `--rounds N`, `--copies N` (3), `--zones Z` (1),
//! `--weights equal|mixed` (equal), `--seed S` (1). Bounded: at most 100,000 rounds.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use roundtable::ring::{Before, Claim, ClaimMember, MICRO, claim};
use roundtable::types::NodeId;

struct Options {
    members: u32,
    partitions: u32,
    rounds: u32,
    copies: u8,
    zones: u32,
    mixed: bool,
    seed: u64,
}

fn options() -> Result<Options> {
    let mut options = Options {
        members: 1000,
        partitions: 16_384,
        rounds: 20,
        copies: 3,
        zones: 1,
        mixed: false,
        seed: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--members" => options.members = value.parse()?,
            "--partitions" => options.partitions = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--copies" => options.copies = value.parse()?,
            "--zones" => options.zones = value.parse()?,
            "--weights" => options.mixed = value == "mixed",
            "--seed" => options.seed = value.parse()?,
            _ => bail!("no such option: {word}"),
        }
    }
    ensure!(options.rounds <= 100_000, "at most 100,000 rounds");
    ensure!(options.zones > 0, "at least one zone");
    Ok(options)
}

/// What was seen of one kind of change.
#[derive(Default)]
struct Tally {
    /// Share against target of every member, in percent of the target.
    shares: Vec<f64>,
    /// Copies moved against the least, in percent.
    moves: Vec<f64>,
    /// Claims beyond the share rule, and beyond 10 % or one virtual node above the least moves.
    unfair: u32,
    costly: u32,
    claims: u32,
    is_first: bool,
    slowest: Duration,
    /// Partitions whose owners are not the walk's.
    mended: usize,
}

impl Tally {
    fn add(&mut self, claim: &Claim, options: &Options, took: Duration) {
        let report = &claim.report;
        self.claims += 1;
        self.slowest = self.slowest.max(took);
        self.unfair += u32::from(report.excess_micro(options.copies) > 0);
        for share in report.shares.values().filter(|share| share.target_micro > 0) {
            let target = share.target_micro as f64 / MICRO as f64;
            self.shares.push(share.copies as f64 * 100.0 / target);
        }
        let least = report.moved_min;
        let allowed = (least / 10).max(options.copies.into());
        self.costly += u32::from(!self.is_first && report.moved > least + allowed);
        if least > 0 && !self.is_first {
            self.moves.push(report.moved as f64 * 100.0 / least as f64);
        }
    }
}

fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values.get((values.len().saturating_sub(1)) * part / 100).copied();
    match (at(0), at(50), at(100)) {
        (Some(least), Some(middle), Some(most)) => {
            format!("{least:6.1} {middle:6.1} {most:6.1}")
        }
        _ => "     -      -      -".to_owned(),
    }
}

fn newcomer(rng: &mut fastrand::Rng, id: u32, options: &Options) -> Result<ClaimMember> {
    let zone = format!("z{}", id % options.zones).parse().map_err(anyhow::Error::msg)?;
    let weight_milli = if options.mixed { rng.u32(500..2000) } else { 1000 };
    Ok(ClaimMember { id: NodeId(id), zone, weight_milli, takes_share: true })
}

fn mended(claim: &Claim, members: &[ClaimMember], copies: u8) -> usize {
    let zones = members.iter().map(|member| (member.id, member.zone.clone())).collect();
    let ring = roundtable::ring::Ring::new(&claim.ring, &zones);
    let numbered = (0..=u16::MAX).map(roundtable::types::Partition).zip(&claim.owners);
    numbered.filter(|(partition, owners)| ring.owners(*partition, copies) != **owners).count()
}

fn main() -> Result<()> {
    let options = options()?;
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for round in 0..options.rounds {
        let mut rng = fastrand::Rng::with_seed(options.seed + u64::from(round));
        let mut members = Vec::new();
        for id in 1..=options.members {
            members.push(newcomer(&mut rng, id, &options)?);
        }
        let mut now: Option<Claim> = None;
        for (id, kind) in (1..).zip(["1 first", "2 join", "3 leave", "4 replace"]) {
            let index = rng.usize(..members.len());
            match kind {
                "2 join" => members.push(newcomer(&mut rng, options.members + id, &options)?),
                "3 leave" => drop(members.swap_remove(index)),
                "4 replace" => {
                    if let Some(member) = members.get_mut(index) {
                        member.id = NodeId(options.members + id);
                    }
                }
                _ => {}
            }
            let before = now.as_ref().map(|now| Before { ring: &now.ring, owners: &now.owners });
            let started = now_of_this_machine();
            let next = claim(&members, options.partitions, options.copies, before)?;
            let took = started.elapsed();
            let tally = tallies.entry(kind).or_default();
            tally.is_first = before.is_none();
            tally.add(&next, &options, took);
            tally.mended += mended(&next, &members, options.copies);
            now = Some(next);
        }
    }
    print(&options, &mut tallies);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an example measures on the machine's own clock")]
fn now_of_this_machine() -> Instant {
    Instant::now()
}

fn print(options: &Options, tallies: &mut BTreeMap<&str, Tally>) {
    println!(
        "{} members, {} partitions, {} copies, {} zones, {} weights, {} rounds",
        options.members,
        options.partitions,
        options.copies,
        options.zones,
        if options.mixed { "mixed" } else { "equal" },
        options.rounds,
    );
    println!("              share, % of target    moved, % of the least");
    println!(
        "change           min median    max    min median    max  unfair costly mended slowest"
    );
    for (kind, tally) in tallies {
        println!(
            "{:12} {}  {}  {:5}  {:5}  {:4.1} % {:4} ms",
            kind.get(2..).unwrap_or(kind),
            spread(&mut tally.shares),
            spread(&mut tally.moves),
            tally.unfair,
            tally.costly,
            tally.mended as f64 * 100.0 / (f64::from(tally.claims) * f64::from(options.partitions)),
            tally.slowest.as_millis(),
        );
    }
}
