//! Makes epoch 1 out of the founders list and the nonces the founders were born with. Pure and
//! deterministic: founders that have heard the same nonces make the same state.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_128;

use crate::ring::{ClaimError, claim};
use crate::types::{
    Addresses, Charter, Class, ClassId, ClusterId, ClusterState, Epoch, Lineage, Member, NodeId,
    NodeName, Nonce, Role, Settings, Sloppy, Table, TableId, TableKind, TableName, Topology,
    limits,
};

use super::{canonical, founder_id, members};

/// Why the founders list makes no cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundingError {
    /// All founders are reserved, or typed away.
    #[error("no founder is active: at least one must own a share of the ring")]
    NoActive,
    /// The list cannot be placed on the ring.
    #[error("the founders cannot be placed on the ring: {0}")]
    Claim(#[from] ClaimError),
    /// The quorums do not fit.
    #[error("table default: {0}")]
    Table(String),
}

/// Epoch 1 of the cluster whose founders were born with `births`. A founder without a birth is
/// left out: it has been typed away.
///
/// # Errors
/// Says why the list makes no cluster.
pub fn found(
    charter: &Charter,
    births: &BTreeMap<NodeName, Nonce>,
) -> Result<ClusterState, FoundingError> {
    let members = born(charter, births);
    let active = members.iter().filter(|member| member.role == Role::Active).count();
    let table = default_table(charter, u8::try_from(active).unwrap_or(u8::MAX))?;
    let players = super::schema::players(&members);
    let placed = claim(&players, charter.partitions, table.n, None)?;
    let numbers = (table.n, table.r_min, table.w_min);
    let class = Class::new(ClassId(0), numbers, placed.owners, Epoch(1));
    // Also those that were typed away have been given theirs.
    let member_id_max = NodeId(u32::try_from(charter.founders.len()).unwrap_or(u32::MAX));
    Ok(ClusterState {
        epoch: Epoch(1),
        parent: 0,
        cluster: cluster_id(charter, &members),
        lineage: Lineage(0),
        feature_level: limits::FEATURE_LEVEL,
        settings: Settings { name: charter.cluster_name.clone(), partitions: charter.partitions },
        council: members::council(&members, &[], |_| false),
        members,
        ring: placed.ring,
        classes: vec![class],
        table_id_max: table.id,
        tables: vec![table],
        dropped_at: Epoch(0),
        recent_changes: Vec::new(),
        topology: Topology { member_id_max, ..Topology::default() },
    })
}

fn born(charter: &Charter, births: &BTreeMap<NodeName, Nonce>) -> Vec<Member> {
    let founders = charter.founders.iter().enumerate();
    founders
        .filter_map(|(index, founder)| {
            Some(Member {
                id: founder_id(index),
                name: founder.name.clone(),
                addresses: Addresses { client: String::new(), peer: founder.peer_address.clone() },
                zone: founder.zone.clone(),
                weight_milli: founder.weight_milli,
                role: founder.role,
                birth: *births.get(&founder.name)?,
            })
        })
        .collect()
}

/// Table `default`: `lww`, with majorities as floors; n and the quorums shrink with the founders.
fn default_table(charter: &Charter, active: u8) -> Result<Table, FoundingError> {
    if active == 0 {
        return Err(FoundingError::NoActive);
    }
    let n = charter.replication.min(active);
    let majority = n / 2 + 1;
    let fit = |quorum: u8| if n < charter.replication { majority } else { quorum };
    let table = Table {
        id: TableId(1),
        name: TableName::try_from("default".to_owned()).expect("a valid name"),
        kind: TableKind::Lww,
        class: ClassId(0),
        n,
        r: fit(charter.read_quorum),
        w: fit(charter.write_quorum),
        r_min: majority,
        w_min: majority,
        sloppy: Sloppy::Request,
        ttl: None,
        value_bytes_max: u32::try_from(limits::VALUE_BYTES_MAX).expect("1 MiB"),
    };
    table.check().map_err(FoundingError::Table)?;
    Ok(table)
}

/// The cluster's id contains every nonce: two foundings of one list are two clusters.
fn cluster_id(charter: &Charter, members: &[Member]) -> ClusterId {
    let mut bytes = canonical::founders_hash(charter).to_le_bytes().to_vec();
    for member in members {
        bytes.extend_from_slice(&member.id.0.to_le_bytes());
        bytes.extend_from_slice(&member.birth.0.to_le_bytes());
    }
    ClusterId(xxh3_128(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Founder, Zone};

    pub(crate) fn charter(count: usize, zones: usize) -> Charter {
        let founders = (0..count).map(|i| Founder {
            name: format!("n{}", i + 1).parse().unwrap(),
            peer_address: format!("127.0.0.1:{}", 7451 + 10 * i),
            zone: Zone::try_from(format!("z{}", i % zones)).unwrap(),
            weight_milli: 1000,
            role: Role::Active,
        });
        Charter {
            cluster_name: "kv".to_owned(),
            founders: founders.collect(),
            partitions: 16,
            replication: 3,
            read_quorum: 2,
            write_quorum: 2,
        }
    }

    fn births(charter: &Charter) -> BTreeMap<NodeName, Nonce> {
        charter.founders.iter().zip(1..).map(|(f, i)| (f.name.clone(), Nonce(i))).collect()
    }

    #[test]
    fn the_same_births_make_the_same_state_and_another_nonce_another_cluster() {
        let charter = charter(3, 1);
        let births = births(&charter);
        let state = found(&charter, &births).unwrap();
        assert_eq!(found(&charter, &births).unwrap(), state);
        let mut other = births;
        other.insert("n2".parse().unwrap(), Nonce(99));
        let other = found(&charter, &other).unwrap();
        assert_ne!(other.cluster, state.cluster);
        assert_ne!(canonical::state_hash(&other), canonical::state_hash(&state));
    }

    #[test]
    fn few_founders_shrink_n_and_its_floors_hold() {
        for (count, n, floor) in [(1, 1, 1), (2, 2, 2), (3, 3, 2), (5, 3, 2)] {
            let charter = charter(count, 1);
            let state = found(&charter, &births(&charter)).unwrap();
            let table = state.tables.first().unwrap();
            assert_eq!((table.n, table.r_min, table.w_min), (n, floor, floor));
            assert_eq!(table.check(), Ok(()));
            assert!(state.classes[0].owners.iter().all(|owners| owners.len() == usize::from(n)));
        }
    }

    #[test]
    fn the_council_sits_in_as_many_zones_as_there_are() {
        let charter = charter(9, 3);
        let state = found(&charter, &births(&charter)).unwrap();
        assert_eq!(state.council.len(), 5);
        let zone = |id: &NodeId| state.member(*id).unwrap().zone.clone();
        let mut zones: Vec<Zone> = state.council.iter().map(zone).collect();
        zones.sort();
        zones.dedup();
        assert_eq!(zones.len(), 3);
    }

    #[test]
    fn a_list_without_an_active_founder_is_refused() {
        let mut charter = charter(3, 1);
        for founder in &mut charter.founders {
            founder.role = Role::Reserved;
        }
        assert_eq!(found(&charter, &births(&charter)), Err(FoundingError::NoActive));
    }
}
