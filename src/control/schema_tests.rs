//! The rules of tables, one by one.

use core::time::Duration;
use std::collections::BTreeSet;

use super::*;
use crate::control::{Change, canonical, founding};
use crate::types::{Charter, Epoch, Founder, Nonce, RequestId, Zone};

pub(in crate::control) fn state(members: usize, zones: usize) -> ClusterState {
    state_of(members, zones, 64)
}

/// The same with so many units.
pub(in crate::control) fn state_of(members: usize, zones: usize, partitions: u32) -> ClusterState {
    let founders: Vec<Founder> = (0..members)
        .map(|i| Founder {
            name: format!("n{}", i + 1).parse().unwrap(),
            peer_address: format!("n{i}:7"),
            zone: Zone::try_from(format!("z{}", i % zones)).unwrap(),
            weight_milli: 1000,
            role: Role::Active,
        })
        .collect();
    let births = founders.iter().zip(1..).map(|(f, i)| (f.name.clone(), Nonce(i))).collect();
    let charter = Charter {
        cluster_name: "kv".to_owned(),
        founders,
        partitions,
        replication: 3,
        read_quorum: 2,
        write_quorum: 2,
    };
    founding::found(&charter, &births).unwrap()
}

fn name(text: &str) -> TableName {
    TableName::try_from(text.to_owned()).unwrap()
}

fn spec(text: &str) -> TableSpec {
    TableSpec {
        name: name(text),
        kind: TableKind::Lww,
        n: None,
        r: None,
        w: None,
        r_min: None,
        w_min: None,
        sloppy: None,
        ttl: None,
        value_bytes_max: None,
    }
}

fn make(state: &ClusterState, change: TableChange) -> Result<ClusterState, OpError> {
    Change::Table(change).after(state, RequestId(u128::from(state.epoch.0)))
}

fn made(state: &ClusterState, spec: TableSpec) -> ClusterState {
    make(state, TableChange::Create(spec)).unwrap()
}

fn refused(state: &ClusterState, spec: TableSpec) -> (ErrorCode, String) {
    let error = make(state, TableChange::Create(spec)).unwrap_err();
    assert_eq!(error.applied, crate::message::Applied::No);
    (error.code, error.message)
}

#[test]
fn a_table_has_the_defaults_of_its_cluster_and_majorities_as_floors() {
    let first = state(5, 1);
    let next = made(&first, spec("t"));
    let table = next.table_named(&name("t")).unwrap();
    assert_eq!((table.id, table.class, table.n), (TableId(2), ClassId(0), 3));
    assert_eq!((table.r, table.w, table.r_min, table.w_min), (2, 2, 2, 2));
    assert_eq!((table.sloppy, table.ttl, table.value_bytes_max), (Sloppy::Request, None, 1 << 20));
    assert_eq!((next.epoch, next.parent), (Epoch(2), canonical::state_hash(&first)));
    assert_eq!(next.epoch_of(RequestId(1)), Some(Epoch(2)));
    let line = TableSpec { kind: TableKind::Linearizable, ..spec("line") };
    let next = made(&next, line);
    assert_eq!(next.table_named(&name("line")).unwrap().sloppy, Sloppy::Never);
}

#[test]
fn a_floor_above_the_majority_raises_the_default_quorum_with_it() {
    let next = made(&state(5, 1), TableSpec { w_min: Some(3), ..spec("t") });
    let table = next.table_named(&name("t")).unwrap();
    assert_eq!((table.r, table.w, table.r_min, table.w_min), (2, 3, 2, 3));
}

#[test]
fn ids_are_never_given_again_and_a_dropped_one_is_told_from_an_unheard_of_one() {
    let next = made(&made(&state(3, 1), spec("a")), spec("b"));
    assert!(!next.is_dropped(TableId(3)) && !next.is_dropped(TableId(4)));
    let next = make(&next, TableChange::Drop(name("b"))).unwrap();
    assert!(next.is_dropped(TableId(3)) && !next.is_dropped(TableId(4)));
    assert_eq!(next.dropped_at, next.epoch);
    let next = made(&next, spec("b"));
    assert_eq!(next.table_named(&name("b")).unwrap().id, TableId(4));
    assert_eq!(next.dropped_at, Epoch(next.epoch.0 - 1));
}

#[test]
fn other_floors_make_another_class_with_the_owners_of_the_same_n() {
    let first = state(5, 1);
    let next = made(&first, TableSpec { w_min: Some(3), ..spec("t") });
    assert_eq!(next.classes.len(), 2);
    let class = next.class(next.table_named(&name("t")).unwrap().class).unwrap();
    assert_eq!((class.id, class.n, class.r_min, class.w_min), (ClassId(1), 3, 2, 3));
    assert_eq!(class.owners, first.classes[0].owners);
    assert!(class.changed_at.iter().all(|epoch| *epoch == next.epoch));
    let again = made(&next, TableSpec { w_min: Some(3), ..spec("u") });
    assert_eq!(again.classes.len(), 2);
}

#[test]
fn another_n_makes_a_class_of_n_distinct_owners_in_all_zones_with_even_shares() {
    for (members, zones, n) in [(5, 1, 5), (5, 1, 1), (6, 3, 5), (7, 2, 4), (6, 3, 2)] {
        let next = made(&state(members, zones), TableSpec { n: Some(n), ..spec("t") });
        let class = next.class(next.table_named(&name("t")).unwrap().class).unwrap();
        assert_eq!(class.owners.len(), 64);
        let mut copies = vec![0_u32; members];
        for owners in &class.owners {
            let distinct: BTreeSet<&NodeId> = owners.iter().collect();
            assert_eq!((owners.len(), distinct.len()), (n.into(), n.into()));
            let zone = |id: &&NodeId| next.member(**id).unwrap().zone.clone();
            let in_zones: BTreeSet<Zone> =
                owners.iter().collect::<Vec<_>>().iter().map(zone).collect();
            assert_eq!(in_zones.len(), zones.min(n.into()));
            owners.iter().for_each(|id| copies[id.0 as usize - 1] += 1);
        }
        if members % zones == 0 {
            let (least, most) = (copies.iter().min().unwrap(), copies.iter().max().unwrap());
            assert!(most - least <= 2 * u32::from(n), "{members}/{zones}/{n}: {copies:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_rule_it_breaks() {
    use ErrorCode::{TableExists, TableInvalid};
    let state = state(3, 1);
    let with = |change: fn(&mut TableSpec)| {
        let mut spec = spec("t");
        change(&mut spec);
        refused(&state, spec)
    };
    let cases: [(fn(&mut TableSpec), &str); 14] = [
        (|t| t.n = Some(4), "3"),
        (|t| t.n = Some(0), "n is 0"),
        (|t| t.n = Some(16), "n is 16"),
        (|t| t.r = Some(0), "r is 0"),
        (|t| t.r = Some(4), "r is 4"),
        (|t| t.w = Some(0), "w is 0"),
        (|t| t.w = Some(4), "w is 4"),
        (|t| t.r_min = Some(1), "r_min"),
        (|t| t.w_min = Some(1), "w_min"),
        (|t| (t.w_min, t.r_min) = (Some(1), Some(3)), "2 w_min"),
        (|t| (t.w_min, t.r_min) = (Some(3), Some(1)), "r_min is 1"),
        (|t| t.ttl = Some(Duration::from_nanos(1)), "ttl is"),
        (|t| t.ttl = Some(Duration::from_secs(u64::MAX)), "ttl is"),
        (|t| (t.kind, t.sloppy) = (TableKind::Linearizable, Some(Sloppy::Request)), "sloppy"),
    ];
    for (change, text) in cases {
        let (code, message) = with(change);
        assert_eq!(code, TableInvalid, "{message}");
        assert!(message.contains(text), "{message} should say {text}");
    }
    assert_eq!(with(|t| t.value_bytes_max = Some(0)).0, TableInvalid);
    assert_eq!(with(|t| t.value_bytes_max = Some((1 << 20) + 1)).0, TableInvalid);
    assert_eq!(refused(&state, spec("default")).0, TableExists);
}

#[test]
fn only_defaults_can_be_altered_and_what_is_left_out_stays() {
    let first = made(&state(3, 1), spec("t"));
    let nothing = TableAlteration {
        name: name("t"),
        r: None,
        w: None,
        sloppy: None,
        ttl: None,
        value_bytes_max: None,
    };
    let alter = |state: &ClusterState, change: fn(&mut TableAlteration)| {
        let mut alteration = nothing.clone();
        change(&mut alteration);
        make(state, TableChange::Alter(alteration))
    };
    let next = alter(&first, |t| {
        (t.r, t.ttl, t.sloppy) =
            (Some(3), Some(Some(Duration::from_secs(9))), Some(Sloppy::Always));
    });
    let next = next.unwrap();
    let table = next.table_named(&name("t")).unwrap();
    assert_eq!((table.r, table.w, table.sloppy), (3, 2, Sloppy::Always));
    assert_eq!(table.ttl, Some(Duration::from_secs(9)));
    let next = alter(&next, |t| t.ttl = Some(None)).unwrap();
    assert_eq!(next.table_named(&name("t")).unwrap().ttl, None);
    assert_eq!(alter(&next, |t| t.w = Some(4)).unwrap_err().code, ErrorCode::TableInvalid);
    let unknown = alter(&next, |t| (t.name, t.w) = (name("u"), Some(2))).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::TableUnknown);
    let unknown = make(&next, TableChange::Drop(name("u"))).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::TableUnknown);
}

#[test]
fn tables_classes_and_the_size_of_the_state_are_bounded() {
    let mut next = state(3, 1);
    while next.tables.len() < limits::TABLES_MAX {
        let id = TableId(next.table_id_max.0 + 1);
        let table = Table { id, name: name(&format!("t{id}")), ..next.tables[0].clone() };
        next.table_id_max = id;
        next.tables.push(table);
    }
    assert_eq!(refused(&next, spec("more")).0, ErrorCode::TableLimit);
    let mut next = state(3, 1);
    let class = next.classes[0].clone();
    next.classes.resize(limits::CLASSES_MAX, Class { n: 9, ..class.clone() });
    let other = TableSpec { w_min: Some(3), ..spec("more") };
    assert_eq!(refused(&next, other.clone()).0, ErrorCode::TableLimit);
    let mut next = state(3, 1);
    let wide = Class { n: 9, owners: vec![vec![NodeId(1); 15]; 1 << 18], ..class };
    next.classes.push(wide);
    let (code, message) = refused(&next, other);
    assert_eq!(code, ErrorCode::TableLimit);
    assert!(message.contains("bytes"), "{message}");
}

#[test]
fn a_state_remembers_the_latest_changes_only() {
    let mut next = state(3, 1);
    for round in 0..limits::RECENT_CHANGES_MAX as u64 + 5 {
        let change = TableChange::Alter(TableAlteration {
            name: name("default"),
            r: Some(2 + u8::try_from(round % 2).unwrap()),
            w: None,
            sloppy: None,
            ttl: None,
            value_bytes_max: None,
        });
        next = make(&next, change).unwrap();
    }
    assert_eq!(next.recent_changes.len(), limits::RECENT_CHANGES_MAX);
    assert_eq!(next.epoch_of(RequestId(5)), None);
    assert_eq!(next.epoch_of(RequestId(u128::from(next.epoch.0) - 1)), Some(next.epoch));
}
