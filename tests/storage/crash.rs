//! Crashes at every call to the disk, with every unsynced sector kept, lost or torn (I9, I10).

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use roundtable::storage::vfs::Fate;

use crate::harness::{Verdict, calls_of, crash_run, merges_of, sites_of};
use crate::sites::Site;

pub(crate) const SCRIPTS: u64 = 12;

fn runs_wanted() -> u64 {
    std::env::var("KVD_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(10_000)
}

/// What becomes of what is not synced, run after run.
const FATES: [Fate; 4] = [Fate::Drawn, Fate::Lost, Fate::Torn, Fate::Kept];

/// Crashes at one call of a script, once for each of some fates in turn.
#[derive(Debug, Clone, Copy)]
struct Crashes {
    call: u64,
    first_fate: usize,
    runs: u64,
}

impl Crashes {
    fn run(self, script: u64) -> impl Iterator<Item = Verdict> {
        (0..self.runs).map(move |run| {
            let fate = FATES[(self.first_fate + run as usize) % FATES.len()];
            crash_run(script, self.call, self.call * 1_000 + run, fate)
        })
    }
}

/// Crashes every one of some scripts once at every call; stops after `enough` failures. Returns the
/// failures and the number of runs.
pub(crate) fn crash_runs(scripts: u64, enough: usize) -> (Vec<String>, u64) {
    let (mut failures, mut count) = (Vec::new(), 0);
    for script in 0..scripts {
        for call in 1..=calls_of(script) {
            let once = Crashes { call, first_fate: 0, runs: 1 };
            failures.extend(once.run(script).filter_map(Verdict::err));
            count += 1;
            if failures.len() >= enough {
                return (failures, count);
            }
        }
    }
    (failures, count)
}

/// Whether a call leaves the disk as it is: for a crash it is the same place as the next that does not.
fn only_looks((_, call): &Site) -> bool {
    ["read", "open", "measure", "list", "lock"].iter().any(|it| call.starts_with(it))
}

/// Which crashes each script meets, so many in all: one at every call, every fate at the first calls
/// of every place that changes something, and what is left spread evenly, with fates in turn.
fn plan(wanted: u64) -> Vec<Vec<Crashes>> {
    let calls: Vec<u64> = (0..SCRIPTS).map(calls_of).collect();
    let mut seen: BTreeMap<&Site, usize> = BTreeMap::new();
    let mut plan: Vec<Vec<Crashes>> = Vec::new();
    let mut rest = Vec::new();
    for (script, calls) in calls.iter().enumerate() {
        let mut crashes = Vec::new();
        for call in 1..=*calls {
            let site = calls_of_scripts()[script].get(&call);
            let times = site.map(|site| seen.entry(site).or_default());
            let is_new = times.is_some_and(|times| std::mem::replace(times, *times + 1) < 2);
            let looks = site.is_some_and(only_looks);
            let runs = if is_new && !looks { FATES.len() as u64 } else { 1 };
            if runs == 1 && !looks {
                rest.push((script, crashes.len()));
            }
            crashes.push(Crashes { call, first_fate: rest.len() % FATES.len(), runs });
        }
        plan.push(crashes);
    }
    let runs: u64 = plan.iter().flatten().map(|crashes| crashes.runs).sum();
    let (more, over) = (wanted.saturating_sub(runs), rest.len() as u64);
    for (place, (script, at)) in (0u64..).zip(rest) {
        plan[script][at].runs += (place + 1) * more / over - place * more / over;
    }
    plan
}

#[test]
fn every_crash_leaves_a_prefix_with_every_acknowledged_batch() {
    let plan = plan(runs_wanted());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures: Vec<String> = Vec::new();
        loop {
            let script = next.fetch_add(1, Ordering::Relaxed);
            let Some(crashes) = plan.get(script) else { return failures };
            let runs = crashes.iter().flat_map(|crashes| crashes.run(script as u64));
            failures.extend(runs.filter_map(Verdict::err));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let calls = plan.iter().flatten().count();
    let runs: u64 = plan.iter().flatten().map(|crashes| crashes.runs).sum();
    println!("{runs} crash runs at {calls} distinct calls, {} failures", failures.len());
    assert!(runs >= runs_wanted());
    assert!(failures.is_empty(), "{} of {runs}: {}", failures.len(), failures[0]);
}

/// Where each call of each script comes from. Found once: it takes a backtrace a call.
pub(crate) fn calls_of_scripts() -> &'static [BTreeMap<u64, Site>] {
    static CALLS: OnceLock<Vec<BTreeMap<u64, Site>>> = OnceLock::new();
    CALLS.get_or_init(|| (0..SCRIPTS).map(sites_of).collect())
}

/// The calls of the scripts, by the line of the engine they come from and what they do.
fn sites() -> BTreeMap<Site, u64> {
    let mut sites: BTreeMap<Site, u64> = BTreeMap::new();
    for site in calls_of_scripts().iter().flat_map(BTreeMap::values) {
        *sites.entry(site.clone()).or_default() += 1;
    }
    sites
}

#[test]
fn scripts_reach_every_kind_of_call_of_the_engine() {
    // If this shrinks, the crash runs above have become shallow.
    assert!((0..SCRIPTS).map(calls_of).sum::<u64>() > 1_200);
    let merges: u64 = (0..SCRIPTS).map(merges_of).sum();
    println!("{merges} compactions in the last lives of the scripts");
    assert!(merges > 15);
    let reached = roundtable::testing::take_reached();
    let reused = reached.get("storage: a log file is used again").copied().unwrap_or(0);
    println!("{reused} log files were used again");
    assert!(reused > 5);
    let sites = sites();
    for ((line, call), count) in &sites {
        println!("{count:5} {line}: {call}");
    }
    let changing = |call: &str| {
        ["create", "write", "sync", "cut", "remove", "rename"].iter().any(|it| call.starts_with(it))
    };
    let changes = sites.keys().filter(|(_, call)| changing(call)).count();
    println!("{} sites, {changes} of them change something", sites.len());
    assert!(sites.len() >= 40, "{} pairs of place and operation are reached", sites.len());
    // Values in files of their own: all that is done to such a file, and from where.
    for call in ["create", "write", "sync", "read", "remove", "link"] {
        let wanted = format!("{call} blob");
        assert!(sites.keys().any(|(_, call)| *call == wanted), "no crash meets {wanted:?}");
    }
    let blobs = sites.keys().filter(|(_, call)| call.ends_with(" blob")).count();
    println!("{blobs} of them are about blob files");
    assert!(blobs >= 8, "{blobs} pairs of place and operation are about blob files");
}
