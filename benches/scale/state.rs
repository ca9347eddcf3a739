//! The cluster state by members and partitions: how large it is as it travels, how long its ring takes
//! to claim, and to hash.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use prost::Message;
use roundtable::control::{found, state_hash};
use roundtable::picture::{Line, Plot, plot_svg};
use roundtable::ring::{Before, ClaimMember, claim};
use roundtable::wire::state_to_wire;

use crate::types::{Charter, ClusterState, Founder, NodeId, Nonce, Role, Zone};

struct Row {
    members: usize,
    partitions: u32,
    bytes: usize,
    claimed: Duration,
    joined: Duration,
    hashed: Duration,
    encoded: Duration,
}

/// All rows.
pub(crate) struct States(Vec<Row>);

/// A cluster as it is founded.
pub(crate) fn state(members: usize, partitions: u32) -> ClusterState {
    let founder = |number: usize| Founder {
        name: format!("node-{number:04}").parse().expect("a name"),
        peer_address: format!("10.0.{}.{}:7451", number / 256, number % 256),
        zone: Zone::try_from(format!("zone-{}", number % 3)).expect("a zone"),
        weight_milli: 1000,
        role: Role::Active,
    };
    let founders: Vec<Founder> = (1..=members).map(founder).collect();
    let births: BTreeMap<_, _> =
        founders.iter().zip(1..).map(|(f, nonce)| (f.name.clone(), Nonce(nonce))).collect();
    let charter = Charter {
        cluster_name: "kv".to_owned(),
        founders,
        partitions,
        replication: 3,
        read_quorum: 2,
        write_quorum: 2,
    };
    found(&charter, &births).expect("a cluster")
}

pub(crate) fn run(quick: bool) -> States {
    let mut rows = Vec::new();
    for (members, partitions) in [
        (10, 256),
        (10, 4096),
        (100, 1024),
        (100, 4096),
        (100, 65_536),
        (1000, 4096),
        (1000, 16_384),
        (1000, 65_536),
    ] {
        if !quick || (members < 1000 && partitions < 65_536) {
            rows.push(measure(members, partitions));
        }
    }
    States(rows)
}

fn measure(members: usize, partitions: u32) -> Row {
    let state = state(members, partitions);
    let players = |count: usize| -> Vec<ClaimMember> {
        (1..=count)
            .map(|number| ClaimMember {
                id: NodeId(number as u32),
                zone: Zone::try_from(format!("zone-{}", number % 3)).expect("a zone"),
                weight_milli: 1000,
                takes_share: true,
            })
            .collect()
    };
    let (first, claimed) = timed(|| claim(&players(members), partitions, 3, None).expect("fits"));
    let before = Before { ring: &first.ring, owners: &first.owners };
    let (_, joined) =
        timed(|| claim(&players(members + 1), partitions, 3, Some(before)).expect("fits"));
    let (_, hashed) = timed(|| state_hash(&state));
    let (bytes, encoded) = timed(|| state_to_wire(&state).encode_to_vec().len());
    Row { members, partitions, bytes, claimed, joined, hashed, encoded }
}

pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    let began = std::time::Instant::now();
    let value = black_box(run());
    (value, began.elapsed())
}

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The cluster state, three copies, three zones: KiB as it travels, and ms to")?;
        writeln!(
            f,
            "{:>8} {:>11} {:>8} {:>10} {:>12} {:>8} {:>8}",
            "members", "partitions", "KiB", "claim it", "claim a join", "hash", "encode"
        )?;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        for row in &self.0 {
            writeln!(
                f,
                "{:>8} {:>11} {:>8.0} {:>10.1} {:>12.1} {:>8.2} {:>8.2}",
                row.members,
                row.partitions,
                row.bytes as f64 / 1024.0,
                ms(row.claimed),
                ms(row.joined),
                ms(row.hashed),
                ms(row.encoded)
            )?;
        }
        Ok(())
    }
}

impl States {
    /// Bytes by partitions, a line for each number of members.
    pub(crate) fn plot(&self) -> String {
        let mut lines: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
        for row in &self.0 {
            let point = (f64::from(row.partitions).log2(), row.bytes as f64 / 1024.0);
            lines.entry(row.members).or_default().push(point);
        }
        let line = |(members, points)| Line { name: format!("{members} members"), points };
        plot_svg(&Plot {
            title: "The cluster state as it travels".to_owned(),
            x_label: "partitions, as a power of two".to_owned(),
            y_label: "KiB".to_owned(),
            is_log: true,
            lines: lines.into_iter().map(line).collect(),
            ..Plot::default()
        })
    }
}
