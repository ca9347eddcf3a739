//! The nouns every other module speaks: ids, keys and values with their limits, time, stamps,
//! records, tables and the cluster state. Plain data with its own validity rules; this module
//! decides nothing and knows no ring, no peer and no disk.

mod cluster;
mod founder;
mod id;
mod key;
pub mod limits;
mod quorum;
mod record;
mod register;
mod stamp;
mod table;
mod time;
mod topology;

pub use cluster::{Addresses, Class, ClusterState, Member, Role, Settings};
pub use founder::{Charter, Founder};
pub use id::{
    ClassId, ClusterId, Epoch, Lineage, NodeId, NodeName, Nonce, OpId, Partition, RequestId,
    TableId, Tenure, TraceId, Unit, Zone,
};
pub use key::{Key, Value};
pub use quorum::Quorum;
pub use record::Record;
pub use register::{RecentId, RecentIds, RegisterState};
pub use stamp::Stamp;
pub use table::{Sloppy, Table, TableKind, TableName};
pub use time::{Now, Time, WallTime};
pub use topology::{
    Begun, Decision, DecisionKind, Loss, MemberBefore, Move, MovePhase, Plan, PlanStatus, Planned,
    Relieved, Staged, Topology,
};
