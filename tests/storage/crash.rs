//! Crashes at every call to the disk, with every unsynced sector kept, lost or torn (I9, I10).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::harness::{FATES, calls_of, crash_runs, merges_of, sites_of};
use crate::sites::Site;

pub(crate) const SCRIPTS: u64 = 12;

fn runs_wanted() -> u64 {
    std::env::var("KVD_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(10_000)
}

#[test]
fn every_crash_leaves_a_prefix_with_every_acknowledged_batch() {
    let calls: u64 = (0..SCRIPTS).map(calls_of).sum();
    // Every call meets every fate.
    let wanted = runs_wanted().max(calls * FATES.len() as u64);
    let (failures, runs) = crash_runs(SCRIPTS, wanted, usize::MAX);
    println!("{runs} crash runs at {calls} distinct calls, {} failures", failures.len());
    assert!(runs >= wanted);
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
}
