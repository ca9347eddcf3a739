//! Membership by the number of members: how fast a failure and a word are known to all, what it costs
//! each member, and how often somebody is wronged on a network that loses messages.

use std::fmt;

use roundtable::picture::{Line, Plot, plot_svg};

use crate::message::Liveness;
use crate::types::Epoch;
use crate::world::{Found, MS, S, Sent, World, id};

/// The period of probes.
const ROUND: f64 = 500.0;
/// Runs of a failure for each size, of which the middle and the worst are shown.
const RUNS: usize = 3;
/// How long a network loses messages, in seconds.
const LOSSY: u64 = 30;

/// What was measured of one size.
struct Row {
    members: usize,
    /// From the failure until the first suspects, all know of that, all hold it to be down, in ms.
    suspected: Vec<u64>,
    known: Vec<u64>,
    down: Vec<u64>,
    /// Until all know what one has acknowledged, in ms.
    word: Vec<u64>,
    /// Messages and bytes of a member a second: when nothing happens, and while one fails.
    quiet: (f64, f64),
    failing: (f64, f64),
    /// Suspicions, and verdicts, of members that were there: at 1 % and 5 % of loss.
    wronged: [(usize, usize); 2],
}

/// All rows.
pub(crate) struct Gossip(Vec<Row>);

pub(crate) fn run(quick: bool) -> Gossip {
    let sizes: &[usize] = if quick { &[10, 30, 100] } else { &[10, 30, 100, 300, 1000] };
    Gossip(sizes.iter().map(|members| measure(*members)).collect())
}

fn measure(members: usize) -> Row {
    let mut world = World::new(members, 1);
    world.pass(20 * S);
    let quiet = rate(&mut world, 20);
    let mut row = Row {
        members,
        suspected: Vec::new(),
        known: Vec::new(),
        down: Vec::new(),
        word: Vec::new(),
        quiet,
        failing: (0.0, 0.0),
        wronged: [(0, 0); 2],
    };
    for run in 0..RUNS {
        fail(&mut world, &mut row, members - run);
    }
    for run in 0..RUNS {
        row.word.push(tell(&mut world, 1 + run, 2 + run as u64));
    }
    for (percent, wronged) in [1.0, 5.0].into_iter().zip(&mut row.wronged) {
        let mut world = World::new(members, 2);
        world.pass(10 * S);
        world.found.clear();
        world.loss = percent / 100.0;
        world.pass(LOSSY * S);
        let count = |liveness| world.found.iter().filter(|f| f.liveness == liveness).count();
        // Who suspects first wrongs; who hears of it only passes it on.
        let mut suspected: Vec<&Found> =
            world.found.iter().filter(|f| f.liveness == Liveness::Suspect).collect();
        suspected.sort_by_key(|found| (found.member, found.at));
        suspected.dedup_by(|b, a| a.member == b.member && b.at - a.at < 10 * S);
        *wronged = (suspected.len(), count(Liveness::Down));
    }
    row
}

fn rate(world: &mut World, seconds: u64) -> (f64, f64) {
    world.sent = Sent::default();
    world.pass(seconds * S);
    per_second(world, seconds as f64)
}

fn per_second(world: &World, seconds: f64) -> (f64, f64) {
    let each = world.count() as f64 * seconds;
    (world.sent.messages as f64 / each, world.sent.bytes as f64 / each)
}

/// One member stops; it stays so, and others of the row stop after it.
fn fail(world: &mut World, row: &mut Row, number: usize) {
    let gone = id(number);
    let pause = world.rng.u64(..500) * MS;
    world.pass(pause);
    world.stop(gone);
    world.sent = Sent::default();
    let began = world.now;
    let most = (20 * MS, 120 * S);
    let suspected = world.until(most, |world| !world.all_say(gone, Liveness::Alive));
    row.suspected.push(suspected.expect("it is suspected") / MS);
    let runs = world.ids().filter(|id| *id < gone).count();
    let knows = move |world: &mut World| {
        (1..=runs).map(id).all(|observer| world.liveness(observer, gone) != Liveness::Alive)
    };
    world.until(most, knows).expect("all know");
    row.known.push((world.now - began) / MS);
    world.until(most, |world| world.all_say(gone, Liveness::Down)).expect("it is down");
    row.down.push((world.now - began) / MS);
    if number == row.members {
        row.failing = per_second(world, (world.now - began) as f64 / S as f64);
    }
}

/// One member has something to tell.
fn tell(world: &mut World, number: usize, epoch: u64) -> u64 {
    let (teller, last) = (id(number), world.count() - RUNS);
    world.acknowledge(teller, epoch);
    let told = world.until((20 * MS, 120 * S), |world| {
        (1..=last).map(id).filter(|id| *id != teller).all(|observer| {
            let facts = world.members(observer).told(teller);
            facts.is_some_and(|facts| facts.acknowledged == Epoch(epoch))
        })
    });
    told.expect("all know") / MS
}

/// The middle one and the worst.
fn sums(times: &[u64]) -> (f64, f64) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or(0) as f64;
    (at(times.len() / 2), at(times.len().saturating_sub(1)))
}

impl fmt::Display for Gossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A member stops without a word, {RUNS} runs: seconds until, middle (worst)")?;
        writeln!(
            f,
            "{:>8} {:>16} {:>16} {:>9} {:>16} {:>18}",
            "members", "one suspects", "all know", "rounds", "all: down", "a word is known"
        )?;
        for row in &self.0 {
            let show = |times: &[u64]| {
                let (middle, worst) = sums(times);
                format!("{:.1} ({:.1})", middle / 1000.0, worst / 1000.0)
            };
            writeln!(
                f,
                "{:>8} {:>16} {:>16} {:>9.1} {:>16} {:>18}",
                row.members,
                show(&row.suspected),
                show(&row.known),
                spread(row),
                show(&row.down),
                show(&row.word)
            )?;
        }
        writeln!(f, "rounds: periods from the first suspicion until all know of it, middle\n")?;
        writeln!(
            f,
            "A member sends in a second, and wrongs in {LOSSY} s in all (suspects, verdicts)"
        )?;
        writeln!(
            f,
            "{:>8} {:>14} {:>12} {:>14} {:>12} {:>11} {:>11}",
            "members", "quiet: msgs", "bytes", "failing: msgs", "bytes", "1 % lost", "5 % lost"
        )?;
        for row in &self.0 {
            let [one, five] = row.wronged.map(|(suspects, down)| format!("{suspects}, {down}"));
            writeln!(
                f,
                "{:>8} {:>14.2} {:>12.0} {:>14.2} {:>12.0} {one:>11} {five:>11}",
                row.members, row.quiet.0, row.quiet.1, row.failing.0, row.failing.1
            )?;
        }
        Ok(())
    }
}

fn spread(row: &Row) -> f64 {
    let rounds: Vec<u64> = row.known.iter().zip(&row.suspected).map(|(k, s)| k - s).collect();
    sums(&rounds).0 / ROUND
}

impl Gossip {
    /// Endings of files, and what belongs in them. Sizes are drawn by powers of ten.
    pub(crate) fn plots(&self) -> Vec<(&'static str, String)> {
        let line = |name: &str, value: &dyn Fn(&Row) -> f64| {
            let points = self.0.iter().map(|row| ((row.members as f64).log10(), value(row)));
            Line { name: name.to_owned(), points: points.collect() }
        };
        let plot = |title: &str, y_label: &str, lines| {
            let (title, y_label) = (title.to_owned(), y_label.to_owned());
            let x_label = "members, as a power of ten".to_owned();
            plot_svg(&Plot { title, x_label, y_label, lines, ..Plot::default() })
        };
        let known = |row: &Row| (sums(&row.known).0 - sums(&row.suspected).0) / ROUND;
        let found = vec![
            line("suspected", &|row| sums(&row.suspected).0 / ROUND),
            line("known to all", &|row| sums(&row.known).0 / ROUND),
            line("spread of it", &known),
            line("a word", &|row| sums(&row.word).0 / ROUND),
            line("down for all", &|row| sums(&row.down).0 / ROUND),
        ];
        let messages =
            vec![line("quiet", &|row| row.quiet.0), line("one fails", &|row| row.failing.0)];
        let bytes =
            vec![line("quiet", &|row| row.quiet.1), line("one fails", &|row| row.failing.1)];
        vec![
            ("-rounds.svg", plot("A failure, and a word, known to all", "rounds of 500 ms", found)),
            ("-messages.svg", plot("Messages of a member", "messages a second", messages)),
            ("-bytes.svg", plot("Bytes of a member", "bytes a second", bytes)),
        ]
    }
}
