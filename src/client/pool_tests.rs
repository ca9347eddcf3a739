//! Who is asked, with and without a ring.

use core::time::Duration;

use super::*;

fn pool(n: usize) -> Pool {
    let address = |i| Endpoint::new(&format!("host-{i}:7450")).unwrap();
    Pool::new((0..n).map(address).collect())
}

#[tokio::test]
async fn the_busier_of_two_is_passed_over() {
    let (pool, entropy) = (pool(2), Entropy::default());
    let first = pool.pick(Place::Anywhere, &[], Time(0), &entropy);
    let second = pool.pick(Place::Anywhere, &[], Time(0), &entropy);
    assert_ne!(first.address, second.address);
}

#[tokio::test]
async fn one_that_has_just_failed_is_avoided_unless_it_is_the_only_one() {
    let entropy = Entropy::default();
    let avoid = ["host-0:7450".to_owned()];
    let two = pool(2);
    assert_eq!(two.pick(Place::Anywhere, &avoid, Time(0), &entropy).address, "host-1:7450");
    let one = pool(1);
    assert_eq!(one.pick(Place::Anywhere, &avoid, Time(0), &entropy).address, "host-0:7450");
}

#[tokio::test]
async fn an_ejected_endpoint_rests_and_is_then_tried_by_one_request() {
    let (pool, entropy) = (pool(2), Entropy::default());
    let bad = pool.given[0].clone();
    bad.failed(Time(0));
    bad.failed(Time(0));
    let leases =
        (0..20).map(|_| pool.pick(Place::Anywhere, &[], Time(1), &entropy)).collect::<Vec<_>>();
    assert!(leases.iter().all(|lease| lease.address == "host-1:7450"));
    let later = Time(0).plus(Duration::from_secs(1));
    assert_eq!(pool.pick(Place::Anywhere, &[], later, &entropy).address, "host-0:7450");
    assert_eq!(pool.pick(Place::Anywhere, &[], later, &entropy).address, "host-1:7450");
}

#[tokio::test]
async fn who_is_asked_besides_another_is_well_and_nobody_is_tried_by_it() {
    let (pool, entropy) = (pool(3), Entropy::default());
    let avoid = ["host-0:7450".to_owned()];
    let spare = |now: Time| pool.spare(Place::Anywhere, &avoid, now, &entropy);
    for _ in 0..2 {
        pool.given[1].failed(Time(0));
    }
    let later = Time(0).plus(Duration::from_secs(1));
    for _ in 0..20 {
        assert_eq!(spare(later).unwrap().address, "host-2:7450");
    }
    assert_eq!(pool.given[1].health.lock().standing(later), Standing::Trial, "it is still due");
    for _ in 0..2 {
        pool.given[2].failed(Time(0));
    }
    assert!(spare(later).is_none());
}

#[tokio::test]
async fn with_everybody_out_somebody_is_asked_all_the_same() {
    let (pool, entropy) = (pool(2), Entropy::default());
    for endpoint in &pool.given {
        endpoint.failed(Time(0));
        endpoint.failed(Time(0));
    }
    pool.pick(Place::Anywhere, &[], Time(1), &entropy);
}

fn member(id: u32, address: &str) -> RingMember {
    RingMember {
        id: NodeId(id),
        name: format!("n{id}").try_into().unwrap(),
        address: address.to_owned(),
        zone: crate::types::Zone::default(),
        liveness: Liveness::Alive,
        role: "active",
        serving: true,
    }
}

/// A ring of one class and four partitions, each owned by the members given.
fn ring(members: Vec<RingMember>, owners: [u32; 2]) -> RingView {
    let owners = owners.map(NodeId).to_vec();
    let class = crate::message::PlacedClass {
        n: 2,
        r_min: 1,
        w_min: 2,
        owners: vec![owners; 4],
        moving: BTreeMap::new(),
    };
    let ids = [1, 2, 3, 4].map(NodeId).to_vec();
    let name = |name: &str| TableName::try_from(name.to_owned()).unwrap();
    let tables = [(name("default"), ClassId(0)), (name("t"), ClassId(0))];
    let placement = Placement {
        ring: ids,
        classes: vec![class],
        tables: tables.into_iter().collect(),
        ..Placement::default()
    };
    RingView { epoch: crate::types::Epoch(1), members, placement: Arc::new(placement) }
}

fn four() -> Vec<RingMember> {
    (1..=4).map(|id| member(id, &format!("host-{id}:7450"))).collect()
}

const KEY: Place<'static> = Place::Key { table: "", key: b"k" };

/// Whom a hundred requests that come and go ask.
fn asked(pool: &Pool, place: Place<'_>, avoid: &[String]) -> BTreeSet<String> {
    let entropy = Entropy::default();
    let pick = |_| pool.pick(place, avoid, Time(0), &entropy).address.clone();
    (0..100).map(pick).collect()
}

fn hosts<const N: usize>(numbers: [u32; N]) -> BTreeSet<String> {
    numbers.iter().map(|number| format!("host-{number}:7450")).collect()
}

#[tokio::test]
async fn owners_of_a_key_are_asked_first_and_the_given_addresses_what_is_up_to_one_node() {
    let pool = pool(1);
    assert_eq!(asked(&pool, KEY, &[]), hosts([0]));
    pool.set_ring(Arc::new(ring(four(), [2, 3])));
    assert_eq!(asked(&pool, KEY, &[]), hosts([2, 3]));
    assert_eq!(asked(&pool, Place::Key { table: "t", key: b"k" }, &[]), hosts([2, 3]));
    assert_eq!(asked(&pool, Place::Key { table: "other", key: b"k" }, &[]), hosts([1, 2, 3, 4]));
    assert_eq!(asked(&pool, Place::Anywhere, &[]), hosts([1, 2, 3, 4]));
    assert_eq!(asked(&pool, Place::Given, &[]), hosts([0]));
    // Who has failed is passed over: by the other owner, then by members, then by what was given.
    let avoid: Vec<String> = hosts([2]).into_iter().collect();
    assert_eq!(asked(&pool, KEY, &avoid), hosts([3]));
    let avoid: Vec<String> = hosts([2, 3]).into_iter().collect();
    assert_eq!(asked(&pool, KEY, &avoid), hosts([1, 4]));
    let avoid: Vec<String> = hosts([1, 2, 3, 4]).into_iter().collect();
    assert_eq!(asked(&pool, KEY, &avoid), hosts([0]));
    assert_eq!((pool.len(KEY), pool.len(Place::Given)), (5, 1));
}

#[tokio::test]
async fn a_member_that_joins_is_asked_and_one_that_has_gone_is_not() {
    let pool = Pool::new(vec![Endpoint::new("http://host-1:7450").unwrap()]);
    pool.set_ring(Arc::new(ring(four(), [1, 2])));
    let given = pool.given[0].clone();
    assert!(pool.routes.load().as_ref().unwrap().usable.iter().any(|one| Arc::ptr_eq(one, &given)));
    assert_eq!(pool.len(KEY), 4, "the address that was given is a member's");
    let mut members = four();
    members.remove(1);
    members.push(member(5, "host-5:7450"));
    pool.set_ring(Arc::new(ring(members, [5, 3])));
    assert_eq!(asked(&pool, KEY, &[]), hosts([3, 5]));
    let anywhere = asked(&pool, Place::Anywhere, &[]);
    assert!(!anywhere.contains("host-2:7450") && anywhere.contains("host-5:7450"));
}

#[tokio::test]
async fn members_that_do_not_serve_are_asked_last_unless_a_minority_says_so() {
    let pool = pool(1);
    let seen = |away: &[usize]| {
        let mut members = four();
        for index in away {
            members[*index].liveness = Liveness::Down;
        }
        Arc::new(ring(members, [2, 3]))
    };
    pool.set_ring(seen(&[1]));
    assert_eq!(asked(&pool, KEY, &[]), hosts([3]));
    let avoid: Vec<String> = hosts([1, 3, 4, 0]).into_iter().collect();
    assert_eq!(asked(&pool, KEY, &avoid), hosts([2]), "better than nobody");
    pool.set_ring(seen(&[1, 2]));
    assert_eq!(asked(&pool, KEY, &[]), hosts([2, 3]), "half of them are no majority");
    let mut members = four();
    members[2].serving = false;
    pool.set_ring(Arc::new(ring(members, [2, 3])));
    assert_eq!(asked(&pool, KEY, &[]), hosts([2]));
}

#[tokio::test]
async fn what_is_known_of_an_address_outlives_a_change_of_the_ring() {
    let (pool, entropy) = (pool(1), Entropy::default());
    pool.set_ring(Arc::new(ring(four(), [2, 3])));
    let bad = pool.routes.load().as_ref().unwrap().members[&NodeId(2)].clone();
    bad.failed(Time(0));
    bad.failed(Time(0));
    pool.set_ring(Arc::new(ring(four(), [2, 4])));
    for _ in 0..20 {
        assert_eq!(pool.pick(KEY, &[], Time(1), &entropy).address, "host-4:7450");
    }
}
