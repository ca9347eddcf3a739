//! Addresses of one's own: each fleet has a loopback address that no other fleet of this run has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

/// Nine free ports of a loopback address that was not handed out before, three for each node.
pub(crate) fn nodes() -> std::io::Result<[[SocketAddr; 3]; 3]> {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let ip = IpAddr::V4(Ipv4Addr::new(127, high | 0x40, low, last));
    let mut held = Vec::new();
    let mut port = || {
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr();
        held.push(listener);
        address
    };
    let mut node = || std::io::Result::Ok([port()?, port()?, port()?]);
    Ok([node()?, node()?, node()?])
}
