//! What this process costs: read from `/proc`, so on Linux alone; elsewhere nothing is known.

use core::time::Duration;
use std::fs;

/// Ticks of `/proc/self/stat` a second, on every Linux that this runs on.
const TICKS: u32 = 100;

/// Processor time, memory and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// User and system time so far, in steps of 10 ms.
    pub(super) cpu: Duration,
    /// Memory in RAM.
    pub(super) resident_bytes: u64,
    /// Open files and sockets.
    pub(super) open_files: u64,
}

/// What this process has cost so far.
pub(super) fn cost() -> Option<Cost> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let open_files = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(Cost {
        cpu: cpu(&stat)?,
        resident_bytes: resident(&status)?,
        open_files: u64::try_from(open_files).unwrap_or(u64::MAX),
    })
}

/// The processor time of this process so far, all its threads together.
pub(super) fn cpu_time() -> Option<Duration> {
    cpu(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn cpu(stat: &str) -> Option<Duration> {
    // The name may contain blanks and brackets; the fields after it do not.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()?.saturating_add(fields.next()?.ok()?);
    Some(Duration::from_millis(ticks.saturating_mul(1000 / u64::from(TICKS))))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_after_a_name_with_blanks_and_brackets() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 3 4 20 0 9 0 1 2 3";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("7 (kvd) S 1"), None);
        assert_eq!(resident("Name:\tkvd\nVmRSS:\t  2048 kB\n"), Some(2 << 20));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_costs_something() {
        let cost = cost().unwrap();
        assert!(cost.resident_bytes > 1 << 20 && cost.open_files >= 3);
    }
}
