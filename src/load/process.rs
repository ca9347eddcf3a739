//! What processes of this machine cost: processor time and memory, and which one listens where. Read
//! from `/proc`, so on Linux only; elsewhere, and of processes that may not be looked at, nothing is
//! known.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Ticks of `/proc/PID/stat` a second, on every Linux that this runs on.
const TICKS: u32 = 100;

/// Processor time that a process has used so far, user and system, in steps of 10 ms.
pub fn cpu(pid: u32) -> Option<Duration> {
    cpu_of(&pid.to_string())
}

/// Processor time that this process has used so far.
pub fn own_cpu() -> Option<Duration> {
    cpu_of("self")
}

fn cpu_of(process: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may contain blanks and brackets; the fields after it do not.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    Some(Duration::from_secs(1) * ticks / TICKS)
}

/// Memory of a process that is in RAM, in bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The processes that listen at these addresses, in their order. `None` where nobody does whom this
/// process may look at.
pub fn listeners(addresses: &[SocketAddr]) -> Vec<Option<u32>> {
    let inodes = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|file| listening(&fs::read_to_string(file).unwrap_or_default()))
        .concat();
    let inode_of = |wanted: &SocketAddr| {
        let at = |(address, _): &&(SocketAddr, u64)| {
            address.port() == wanted.port()
                && (address.ip() == wanted.ip() || address.ip().is_unspecified())
        };
        inodes.iter().find(at).map(|(_, inode)| *inode)
    };
    let inodes: Vec<Option<u64>> = addresses.iter().map(inode_of).collect();
    let mut owners: BTreeMap<u64, Option<u32>> =
        inodes.iter().flatten().map(|inode| (*inode, None)).collect();
    find_owners(&mut owners);
    inodes.iter().map(|inode| owners.get(&(*inode)?).copied().flatten()).collect()
}

/// Who listens, by the table that `/proc/net/tcp` shows: addresses, and the sockets' inodes.
fn listening(table: &str) -> Vec<(SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [local, state, inode] = [1, 3, 9].map(|at| fields.get(at).copied());
        (state? == LISTEN).then_some(())?;
        Some((address(local?)?, inode?.parse().ok()?))
    };
    table.lines().filter_map(entry).collect()
}

/// An address as the table shows it: words of four bytes in this machine's order, in hex.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(8 * at..8 * at + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?.to_ne_bytes()),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?.to_ne_bytes());
            }
            IpAddr::from(bytes)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Goes through the open files of all processes and notes who has these sockets.
fn find_owners(sockets: &mut BTreeMap<u64, Option<u32>>) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let (Some(pid), Ok(files)) = (pid, fs::read_dir(process.path().join("fd"))) else {
            continue;
        };
        for file in files.flatten() {
            if let Some(owner) = inode(&file.path()).and_then(|inode| sockets.get_mut(&inode)) {
                *owner = Some(pid);
            }
        }
    }
}

fn inode(file: &Path) -> Option<u64> {
    let target = fs::read_link(file).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_both_families_are_read_from_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1D1A 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 0 100 0\n\
            1: 0100007F:1D1B 0100007F:0050 01 00000000:00000000 00:00000000 00000000  0  0 4712 1 0 100 0\n\
            2: 00000000000000000000000001000000:1D1A 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 9 1\n";
        let seen = listening(table);
        let expected = [("127.0.0.1:7450", 4711), ("[::1]:7450", 9)];
        assert_eq!(seen, expected.map(|(at, inode)| (at.parse().unwrap(), inode)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found_by_its_port_and_has_a_cost() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        assert_eq!(listeners(&[here]), [Some(std::process::id())]);
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert_eq!(listeners(&[nobody, here])[0], None);
        assert!(resident_bytes(std::process::id()).unwrap() > 1 << 20);
        assert!(own_cpu().is_some() && cpu(u32::MAX).is_none());
    }
}
