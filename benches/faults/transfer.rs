//! How fast data moves on a cluster that nobody asks for anything: a node takes the place of another
//! and pulls all of its data, beside what the disk and the loopback do with as many bytes.
#![allow(clippy::disallowed_methods, reason = "the machine is measured without the engine")]

use core::fmt;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use roundtable::types::NodeName;

use crate::Options;
use crate::change::carry_out;
use crate::fill::{self, Fill};
use crate::fixture::{self, clock};

const PIECE: usize = 1 << 20;

/// What it was like.
pub(crate) struct Transfer {
    fill: Fill,
    moved: Duration,
    /// Processor time of all nodes meanwhile.
    cpu: Duration,
    disk: Duration,
    loopback: Duration,
    missing: (u64, u64),
}

pub(crate) async fn run(options: &Options) -> Transfer {
    let fill = Fill { records: if options.quick { 64 << 10 } else { 1 << 20 }, value_bytes: 1007 };
    let plan = fixture::Plan::new().with("transfer.rate", "0").with("cluster.partitions", 256);
    // Nothing is there beforehand: what a mirror saves is `replace-warm`'s.
    let mut cluster = plan.with("orchestrator.mirror", false).start().await;
    fill.write(&cluster).await;
    cluster.add("n4").await;
    let client = cluster.client_of(0);
    let [old, new]: [NodeName; 2] = ["n3", "n4"].map(|name| name.parse().expect("a short name"));
    client.plans().stage_replace(old, new).await.expect("both are members");
    fill::at_rest(&cluster).await;
    let before = disk(cluster.dir(), fill.bytes());
    let (begin, ticks) = (clock::now(), fill::ticks(&cluster));
    carry_out(&client).await;
    let moved = begin.elapsed();
    let cpu = Duration::from_millis(10 * fill::ticks(&cluster).saturating_sub(ticks) as u64);
    // The better of two: what is compared with the move is what the machine can do.
    let disk = before.min(disk(cluster.dir(), fill.bytes()));
    let loopback = loopback(fill.bytes());
    let missing = fill.missing(&cluster.client(), 20).await;
    Transfer { fill, moved, cpu, disk, loopback, missing }
}

/// So many bytes are written to a file in order, and synced.
fn disk(dir: &Path, bytes: u64) -> Duration {
    let (path, piece) = (dir.join("sequential"), vec![0x5a; PIECE]);
    let begin = clock::now();
    let mut file = std::fs::File::create(&path).expect("the file can be made");
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        file.write_all(&piece[..now]).expect("there is room");
        left -= now as u64;
    }
    file.sync_all().expect("the disk is there");
    let took = begin.elapsed();
    std::fs::remove_file(path).expect("it is there");
    took
}

/// So many bytes go from one thread to another over one TCP connection.
fn loopback(bytes: u64) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let sending = std::thread::spawn(move || {
        let (mut stream, piece) =
            (TcpStream::connect(address).expect("it listens"), vec![0x5a; PIECE]);
        let mut left = bytes;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            stream.write_all(&piece[..now]).expect("it is read");
            left -= now as u64;
        }
    });
    let (mut stream, _) = listener.accept().expect("somebody connects");
    let (begin, mut buffer) = (clock::now(), vec![0; PIECE]);
    while stream.read(&mut buffer).expect("it is written") > 0 {}
    let took = begin.elapsed();
    sending.join().expect("it sends all");
    took
}

impl fmt::Display for Transfer {
    #[allow(clippy::cast_precision_loss, reason = "rates, not accounts")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |took: Duration| self.fill.bytes() as f64 / took.as_secs_f64() / 1e6;
        let (moved, disk, loopback) = (rate(self.moved), rate(self.disk), rate(self.loopback));
        let share = moved / disk.min(loopback);
        let verdict = if share >= 0.5 { "" } else { ", under the aim of 0.5" };
        write!(
            f,
            "transfer {} MiB of {} records move from one node to another, nobody asks, no bound: {:.2} s, \
             {moved:.0} MB/s, {:.1} s of processor time\n       the same bytes written in order and \
             synced: {disk:.0} MB/s; over one loopback connection: {loopback:.0} MB/s; the move is \
             {share:.2} of the lesser{verdict}\n       missing: {} of {} records",
            self.fill.mib(),
            self.fill.records,
            self.moved.as_secs_f64(),
            self.cpu.as_secs_f64(),
            self.missing.0,
            self.missing.1,
        )
    }
}
