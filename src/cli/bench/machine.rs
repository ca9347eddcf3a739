//! What the machine is that the load comes from: figures mean little without it.

use serde::{Deserialize, Serialize};

/// A machine.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Machine {
    /// The operating system and its version.
    pub(super) system: String,
    /// The processor's name; empty when it is not known.
    pub(super) processor: String,
    /// How many threads this process may use.
    pub(super) threads: u64,
    /// Memory in bytes; 0 when it is not known.
    pub(super) memory_bytes: u64,
}

impl Machine {
    /// This machine.
    pub(super) fn here() -> Machine {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        let system =
            format!("{} {} {}", std::env::consts::OS, std::env::consts::ARCH, release.trim());
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Machine {
            system: system.trim().to_owned(),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            threads: threads as u64,
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib.saturating_mul(1024)),
        }
    }
}

/// The first value of `name` in lines of `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let of = |line: &str| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    };
    text.lines().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel name\t: A: b\nmodel\t\t: 5\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A: b"));
        assert_eq!(field(text, "name"), None);
        assert!(Machine::here().threads >= 1);
    }
}
