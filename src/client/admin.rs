//! Questions to one node about the cluster and itself.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tonic::Request;

use crate::types::{Epoch, NodeId};
use crate::wire::proto::admin;

use super::Error;
use super::call::{Core, Operation, Try};
use super::data::checked_key;
use super::endpoint::Endpoint;
use super::growth::Growth;
use super::status_error::from_status;

/// What should be reserved for failures, and is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReserveStatus {
    /// The probability that a node is gone at some moment.
    pub p: f64,
    /// How often the reserve is to be enough.
    pub confidence: f64,
    /// Nodes that own something.
    pub members: u32,
    /// How many should be reserved.
    pub needed: u32,
    /// How many are, and answer.
    pub present: u32,
    /// The probability that all owners of some partition are gone at once is not below this.
    pub loss_low: f64,
    /// And not above this.
    pub loss_high: f64,
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster's id, in hex.
    pub cluster_id: String,
    /// The version of the cluster state.
    pub epoch: Epoch,
    /// Partitions of the ring.
    pub partitions: u32,
    /// The member of each virtual node, in token order.
    pub ring: Vec<NodeId>,
    /// The node that answered.
    pub me: String,
    /// All members.
    pub nodes: Vec<NodeStatus>,
    /// How long the node that answered has served.
    pub uptime: Duration,
    /// Partitions that have too few live owners for their floors.
    pub unavailable: Vec<u32>,
    /// Whether enough nodes are reserved for failures; `None`: an older node has answered.
    pub reserve: Option<ReserveStatus>,
    /// What the orchestrator wants and cannot do, as the node that answered sees it.
    pub alarms: Vec<Alarm>,
    /// What it makes of the members' loads; `None`: it does not look, or is an older one.
    pub growth: Option<Growth>,
}

/// Something that a human has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alarm {
    /// no-reserve, no-majority, plan-in-the-way, not-serving, not-placed, no-source.
    pub kind: String,
    /// The member that it is about.
    pub subject: String,
    /// What is missing, in words.
    pub text: String,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it listens for clients; empty until it has said so.
    pub address: String,
    /// Where it listens for peers.
    pub peer_address: String,
    /// Its zone.
    pub zone: String,
    /// `alive`, `suspect`, `down` or `left`.
    pub state: String,
    /// `active`, `reserved`, `joining` or `leaving`.
    pub role: String,
    /// Partitions it is the first owner of.
    pub partitions: u32,
    /// Copies it owns.
    pub replica_partitions: u32,
    /// Bytes its store uses.
    pub disk_bytes: u64,
    /// Bytes of memory that the trees of its units take.
    pub tree_bytes: u64,
    /// Bytes of the file that they are kept in.
    pub tree_file_bytes: u64,
    /// Their leaves.
    pub tree_leaves: u64,
    /// Hints it holds.
    pub hints: u64,
    /// Its clock against that of the node that answered; positive when it is ahead.
    pub clock_offset_ns: i64,
    /// Whether it says that it serves: an alive one may still be starting, or draining.
    pub serving: bool,
    /// Which nodes' reads leave it out, as of when the node that answered last heard of them.
    pub unwell: Vec<UnwellBy>,
    /// For how long the node that answered has held it down.
    pub down_for: Option<Duration>,
    /// The epoch in which its place was taken while it was down, if it has none since.
    pub relieved_at: Option<Epoch>,
    /// What it mirrors, of a reserved node.
    pub mirror: Option<MirrorStatus>,
}

/// What a reserved node keeps copies of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorStatus {
    /// Units of which it has had all that an owner has.
    pub units: u32,
    /// Units that it is to mirror.
    pub wanted: u32,
    /// About how many bytes of its disk they take.
    pub bytes: u64,
    /// How long ago the one was last made equal to an owner for which that is longest.
    pub oldest: Duration,
}

/// A node whose reads leave another one out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnwellBy {
    /// The node; the same one where it leaves out its own store.
    pub by: String,
    /// `stalled`, `failing` or `slow`.
    pub why: String,
    /// For how long.
    pub age: Duration,
}

/// Where a key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// Its place on the circle.
    pub token: u64,
    /// The class of its table.
    pub class: u32,
    /// The partition that holds it.
    pub partition: u32,
    /// Its owners' names, in preference order.
    pub owners: Vec<String>,
    /// The rest of the walk.
    pub stand_ins: Vec<String>,
}

#[cfg(test)]
impl Location {
    /// One of the first class, for tests of how it is shown.
    pub(crate) fn of<const N: usize, const M: usize>(
        token: u64,
        partition: u32,
        owners: [&str; N],
        stand_ins: [&str; M],
    ) -> Location {
        let owners = owners.map(str::to_owned).to_vec();
        let stand_ins = stand_ins.map(str::to_owned).to_vec();
        Location { token, class: 0, partition, owners, stand_ins }
    }
}

/// A node's build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Version {
    /// Its version.
    pub version: String,
    /// The lowest peer protocol it speaks.
    pub protocol_min: u32,
    /// The highest peer protocol it speaks.
    pub protocol_max: u32,
    /// The feature level it offers.
    pub feature_level: u32,
}

macro_rules! admin_request {
    (
        $(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* } -> $answer:ty,
        $method:ident($request:expr), |$response:ident| $convert:expr
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use = "a request is sent when it is awaited"]
        pub struct $name {
            core: Arc<Core>,
            timeout: Option<Duration>,
            $($field: $type,)*
        }

        impl $name {
            pub(crate) fn new(core: Arc<Core> $(, $field: $type)*) -> $name {
                $name { core, timeout: None, $($field),* }
            }

            /// Sets how long the request may take over all its attempts; the client's default
            /// when left out.
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.timeout = Some(timeout);
                self
            }
        }

        impl Operation for $name {
            type Answer = $answer;

            async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<$answer, Error> {
                let build: fn(&$name) -> Result<_, Error> = $request;
                let mut request = Request::new(build(self)?);
                request.set_timeout(this.remaining);
                let answer = endpoint.admin().$method(request).await;
                let $response = answer.map_err(|status| from_status(&status, false))?.into_inner();
                Ok($convert)
            }
        }

        impl IntoFuture for $name {
            type Output = Result<$answer, Error>;
            type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(async move { self.core.run(&self, self.timeout).await })
            }
        }
    };
}

admin_request!(
    /// Asks for [`Status`]: `.await` it.
    StatusRequest {} -> Status,
    status(|_| Ok(admin::StatusRequest {})), |response| status(response)
);
admin_request!(
    /// Asks for [`Version`]: `.await` it.
    VersionRequest {} -> Version,
    version(|_| Ok(admin::VersionRequest {})), |response| Version {
        version: response.version,
        protocol_min: response.protocol_min,
        protocol_max: response.protocol_max,
        feature_level: response.feature_level,
    }
);
admin_request!(
    /// Asks one node for everything that it counts, as OpenMetrics text: `.await` it.
    MetricsRequest {} -> String,
    metrics(|_| Ok(admin::MetricsRequest {})), |response| response.text
);
admin_request!(
    /// Asks one node to write its memtable out: `.await` it. Harmless when repeated.
    FlushRequest {} -> (),
    flush(|_| Ok(admin::FlushRequest {})), |_response| ()
);
admin_request!(
    /// Asks one node to merge all its tables: `.await` it. Harmless when repeated. May take minutes:
    /// when the timeout is over, the node goes on.
    CompactRequest {} -> (),
    compact(|_| Ok(admin::CompactRequest {})), |_response| ()
);
/// How far the scrub of a node is, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Whether everything is being read.
    pub running: bool,
    /// Bytes of tables that have been.
    pub done_bytes: u64,
    /// Bytes of all tables.
    pub total_bytes: u64,
    /// How long it takes yet, about; while it runs.
    pub left: Option<Duration>,
    /// When it began, nanoseconds since 1970 by the node's clock; while it runs.
    pub begun_ns: Option<u64>,
    /// When everything had been read the last time.
    pub ended_ns: Option<u64>,
    /// Places of damage found since the node started.
    pub found: u64,
    /// Units that have lost data and are not filled again yet.
    pub lost_units: u32,
    /// Units that have been filled again since the node started.
    pub healed_units: u64,
    /// The last places of damage.
    pub places: Vec<String>,
}

fn scrub_status(response: admin::ScrubResponse) -> ScrubStatus {
    let known = |nanos: u64| (nanos != 0).then_some(nanos);
    ScrubStatus {
        running: response.running,
        done_bytes: response.done_bytes,
        total_bytes: response.total_bytes,
        left: response.left_ms.map(Duration::from_millis),
        begun_ns: known(response.begun_ns),
        ended_ns: known(response.ended_ns),
        found: response.found,
        lost_units: response.lost_units,
        healed_units: response.healed_units,
        places: response.places,
    }
}

admin_request!(
    /// Asks one node for its [`ScrubStatus`], or to begin: `.await` it. Harmless when repeated.
    ScrubRequest { start: bool } -> ScrubStatus,
    scrub(|this| Ok(admin::ScrubRequest { start: this.start })), |response| scrub_status(response)
);
admin_request!(
    /// Asks for a key's [`Location`]: `.await` it.
    LocateRequest { key: Bytes, table: String } -> Location,
    locate(|this| {
        let key = checked_key(this.key.clone())?;
        Ok(admin::LocateRequest { table: this.table.clone(), key })
    }),
    |response| Location {
        token: response.token,
        class: response.class,
        partition: response.partition,
        owners: response.owners,
        stand_ins: response.stand_ins,
    }
);

impl LocateRequest {
    /// Chooses the table; "default" when left out.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }
}

fn status(response: admin::StatusResponse) -> Status {
    let unwell = |unwell: admin::status_response::Unwell| UnwellBy {
        by: unwell.by,
        why: unwell.why,
        age: Duration::from_millis(unwell.age_ms),
    };
    let node = |node: admin::status_response::Node| NodeStatus {
        id: NodeId(node.id),
        name: node.name,
        address: node.address,
        peer_address: node.peer_address,
        zone: node.zone,
        state: node.state,
        role: node.role,
        partitions: node.partitions,
        replica_partitions: node.replica_partitions,
        disk_bytes: node.disk_bytes,
        tree_bytes: node.tree_bytes,
        tree_file_bytes: node.tree_file_bytes,
        tree_leaves: node.tree_leaves,
        hints: node.hints,
        clock_offset_ns: node.clock_offset_ns,
        serving: node.serving,
        unwell: node.unwell.into_iter().map(unwell).collect(),
        down_for: node.down_ms.map(Duration::from_millis),
        relieved_at: node.relieved_at.map(Epoch),
        mirror: node.mirror.map(|mirror| MirrorStatus {
            units: mirror.units,
            wanted: mirror.wanted,
            bytes: mirror.bytes,
            oldest: Duration::from_millis(mirror.oldest_ms),
        }),
    };
    let alarm = |alarm: admin::status_response::Alarm| Alarm {
        kind: alarm.kind,
        subject: alarm.subject,
        text: alarm.text,
    };
    Status {
        cluster_name: response.cluster_name,
        cluster_id: response.cluster_id,
        epoch: Epoch(response.epoch),
        partitions: response.partitions,
        ring: response.ring.into_iter().map(NodeId).collect(),
        me: response.me,
        nodes: response.nodes.into_iter().map(node).collect(),
        uptime: Duration::from_millis(response.uptime_ms),
        unavailable: response.unavailable,
        reserve: response.reserve.map(reserve),
        alarms: response.alarms.into_iter().map(alarm).collect(),
        growth: response.growth.map(super::growth::growth),
    }
}

fn reserve(it: admin::status_response::Reserve) -> ReserveStatus {
    ReserveStatus {
        p: it.p,
        confidence: it.confidence,
        members: it.members,
        needed: it.needed,
        present: it.present,
        loss_low: it.loss_low,
        loss_high: it.loss_high,
    }
}
