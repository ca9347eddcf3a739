//! Networks that are cut between machines of their own: a cluster in two parts with somebody waiting
//! to be let in, ways that go in one direction only, and ways that go round a third.

use std::time::Duration;

use roundtable::client::{Client, Quorum, Sloppy, TableKind, Topology};

use crate::fixture::clock::{now, tick, until};
use crate::fixture::{Cluster, Plan};
use crate::lab::Lab;
use crate::traffic::Traffic;

const SMALL: [usize; 2] = [0, 1];
const LARGE: [usize; 3] = [2, 3, 4];
const SIXTH: usize = 5;
const PATIENCE: Duration = Duration::from_secs(15);
/// Longer than it takes to be suspected, and then, by one member alone, to be taken for dead.
const WATCHED: Duration = Duration::from_secs(5);

/// Tables of each kind that part differently, beside `default`, which is lww and strict.
async fn tables(cluster: &Cluster) {
    let client = cluster.client();
    let create = |name: &str| client.tables().create(name);
    create("loose").sloppy(Sloppy::Always).await.unwrap();
    create("carts").kind(TableKind::Causal).sloppy(Sloppy::Always).await.unwrap();
    create("seats").kind(TableKind::Linearizable).await.unwrap();
}

/// Keys of which two owners are on the small side, and keys of which two are on the large one.
async fn keys(cluster: &Cluster) -> [Vec<String>; 2] {
    let client = cluster.client();
    let mut sides = [Vec::new(), Vec::new()];
    for number in 0.. {
        let key = format!("key-{number}");
        let owners = client.locate(key.clone()).await.unwrap().owners;
        let small = SMALL.map(|node| owners.contains(&cluster.nodes[node].name));
        let side = usize::from(small.iter().filter(|owns| **owns).count() < 2);
        if sides[side].len() < 10 {
            sides[side].push(key);
        }
        if sides.iter().all(|side| side.len() == 10) {
            break;
        }
    }
    sides
}

/// Waits until `node` knows that it does not reach the others.
async fn notices(cluster: &Cluster, node: usize, others: &[usize]) {
    let client = cluster.client_of(node);
    let names: Vec<_> = others.iter().map(|other| cluster.nodes[*other].name.clone()).collect();
    until("the cut is noticed", PATIENCE, async || {
        let status = client.status().await.ok()?;
        let away = |name: &String| {
            status.nodes.iter().any(|known| known.name == *name && known.state != "alive")
        };
        names.iter().all(away).then_some(())
    })
    .await;
}

/// A side serves what it has a majority of, and refuses the rest and says why; sloppy tables are
/// served whatever it has.
async fn serves(client: &Client, side: &str, [own, others]: [&[String]; 2]) {
    for table in ["", "seats"] {
        for key in own {
            client.put(key.clone(), side.to_owned()).table(table).await.unwrap();
            let found = client.get(key.clone()).table(table).await.unwrap().value.unwrap();
            assert_eq!(found, side);
        }
        for key in others {
            let put = client.put(key.clone(), "never").table(table).await.unwrap_err();
            let get = client.get(key.clone()).table(table).await.unwrap_err();
            for error in [put, get] {
                assert_eq!(error.code(), "QUORUM_NOT_REACHED", "{table} {side}: {error}");
            }
        }
    }
    for table in ["loose", "carts"] {
        for key in own.iter().chain(others) {
            client.put(key.clone(), side.to_owned()).table(table).await.unwrap();
            let found = client.get(key.clone()).table(table).await.unwrap().value.unwrap();
            assert_eq!(found, side, "{table}");
        }
    }
}

/// What all nodes must agree on: not what each of them sees of the others.
fn agreed(seen: &Topology) -> (u64, Option<u128>, String) {
    let members = seen.members.iter().map(|member| {
        format!("{} {} {} {};", member.id.0, member.name, member.zone, member.weight_milli)
    });
    let hash = seen.draft.as_ref().map(|draft| draft.hash);
    (seen.epoch.0, hash, members.collect::<String>() + &seen.staged.join(", "))
}

/// Waits until all nodes show the same state.
async fn agree(cluster: &Cluster) {
    let clients: Vec<Client> = (0..cluster.nodes.len()).map(|n| cluster.client_of(n)).collect();
    until("all are of one state", PATIENCE, async || {
        let mut all = Vec::new();
        for client in &clients {
            all.push(agreed(&client.plans().show().await.ok()?));
        }
        all.iter().all(|one| *one == all[0]).then_some(())
    })
    .await;
}

async fn ctl(cluster: &Cluster, node: usize, line: &str) -> crate::fixture::kvctl::Done {
    let endpoint = cluster.nodes[node].client.to_string();
    let words = ["-e", &endpoint, "-o", "json", "--timeout", "2s"].into_iter();
    let words: Vec<&str> = words.chain(line.split(' ')).collect();
    crate::fixture::kvctl::run(&words, b"").await
}

/// What a side that cannot decide says of what is to be decided, and that it was not decided. Returns
/// those of which it said that they never will be; the others may be once the sides are one again.
async fn decides_nothing<'a>(cluster: &Cluster, node: usize, lines: &[&'a str]) -> Vec<&'a str> {
    let client = cluster.client_of(node);
    let before = client.status().await.unwrap().epoch;
    let mut refused = Vec::new();
    for line in lines {
        let done = ctl(cluster, node, line).await;
        let applied = done.error()["applied"].as_str().unwrap().to_owned();
        match (done.code, applied.as_str()) {
            (Some(4), "no") => refused.push(*line),
            (Some(5), "unknown") => {}
            _ => panic!("{line}: {done:?}"),
        }
    }
    let after = client.status().await.unwrap();
    assert_eq!((after.epoch, after.nodes.len()), (before, 5));
    refused
}

/// What was refused for good has not been done.
async fn stays_undone(cluster: &Cluster, refused: &[&str]) {
    let client = cluster.client_of(3);
    let shown = client.plans().show().await.unwrap();
    for line in refused {
        let done = match line.split_once(' ').unwrap() {
            ("plan", _) => shown.members.iter().any(|member| member.weight_milli == 2000),
            ("node", _) => shown.staged.iter().any(|staged| staged == "n2 leaves"),
            _ => {
                let tables = client.tables().list().await.unwrap();
                tables.tables.iter().any(|table| table.name == "more")
            }
        };
        assert!(!done, "{line}: {shown:?}");
    }
}

/// Everything that was acknowledged on either side is read through every node.
async fn all_is_merged(cluster: &Cluster, small: &[String], large: &[String]) {
    let (small, large) =
        (small.iter().map(|key| (key, "small")), large.iter().map(|k| (k, "large")));
    let written: Vec<_> = small.chain(large).collect();
    for node in 0..cluster.nodes.len() {
        let client = cluster.client_of(node);
        for (key, side) in &written {
            let get = |table: &str| client.get(key.to_string()).table(table);
            for table in ["", "seats"] {
                let found = get(table).await.unwrap().value.unwrap();
                assert_eq!(found, side, "{table} {key} through {node}");
            }
            let found = get("carts").r(Quorum::All).siblings().await.unwrap();
            let mut values: Vec<_> = found.values.into_iter().map(|one| one.value).collect();
            values.sort();
            assert_eq!(values, ["large", "small"], "{key} through {node}");
            // Of two that were written apart the later one stays.
            let found = get("loose").r(Quorum::All).await.unwrap().value.unwrap();
            assert_eq!(found, "large", "{key} through {node}");
        }
    }
}

#[tokio::test]
async fn two_of_five_cut_off_admit_nobody_and_decide_nothing_and_all_is_one_once_they_are_back() {
    let Some(lab) = Lab::start(6).await else { return };
    let mut cluster = Plan::new().at(lab.places(5)).start().await;
    tables(&cluster).await;
    let [ours, theirs] = keys(&cluster).await;
    ctl(&cluster, 0, "node set n1 weight=2").await.succeeded();
    let shown = ctl(&cluster, 0, "plan show").await.succeeded().json();
    let commit = format!("plan commit {}", shown["hash"].as_str().unwrap());
    agree(&cluster).await;

    lab.part(&[0, 1, SIXTH], &LARGE);
    cluster.ask_to_join("n6", 0, lab.place(SIXTH));
    for node in SMALL {
        notices(&cluster, node, &LARGE).await;
    }
    for node in LARGE {
        notices(&cluster, node, &SMALL).await;
    }
    let [small, large] = [0, 2].map(|node| cluster.client_of(node));
    serves(&small, "small", [&ours, &theirs]).await;
    serves(&large, "large", [&theirs, &ours]).await;
    let lines = [&commit, "table create more", "node leave n2"];
    let refused = decides_nothing(&cluster, 0, &lines).await;
    ctl(&cluster, 2, "table create later").await.succeeded();
    let sixth = cluster.nodes[SIXTH].readiness().await;
    assert!(cluster.nodes[SIXTH].runs() && !sixth.is_some_and(|seen| seen.ready));

    lab.heal();
    cluster.nodes[SIXTH].ready().await;
    cluster.all_alive().await;
    let wait = async |what| {
        cluster.kvctl(&["wait", "--for", what, "--timeout", "20s"]).await.succeeded();
    };
    wait("settled").await;
    stays_undone(&cluster, &refused).await;
    // Who was let in gets its share, by one plan of whose inputs all have the same hash.
    ctl(&cluster, SIXTH, "plan clear").await.succeeded();
    ctl(&cluster, SIXTH, "node join n6").await.succeeded();
    agree(&cluster).await;
    let shown = ctl(&cluster, 3, "plan show").await.succeeded().json();
    let commit = format!("plan commit {}", shown["hash"].as_str().unwrap());
    ctl(&cluster, 3, &commit).await.succeeded();
    agree(&cluster).await;
    wait("settled").await;
    wait("no-hints").await;
    all_is_merged(&cluster, &ours, &theirs).await;
}

/// Watches for a while: nobody is ever taken for dead, by anybody.
async fn nobody_is_down(cluster: &Cluster) {
    let clients: Vec<Client> = (0..cluster.nodes.len()).map(|n| cluster.client_of(n)).collect();
    let end = now() + WATCHED;
    while now() < end {
        for (node, client) in clients.iter().enumerate() {
            let status = client.status().await.unwrap();
            let down: Vec<_> = status.nodes.iter().filter(|known| known.state == "down").collect();
            assert!(down.is_empty(), "n{} says so of {down:?}", node + 1);
        }
        tick().await;
    }
}

/// Five nodes, each on a machine of its own.
async fn five(lab: &Lab) -> Cluster {
    Plan::new().with("membership.down_after", "2s").at(lab.places(5)).start().await
}

/// A client of one node, which may try again there: a put that takes longer than its window, as on a
/// busy machine, is refused without effect.
fn through(cluster: &Cluster, node: usize) -> Client {
    let client = Client::builder().endpoints([cluster.nodes[node].client.to_string()]);
    client.follow_ring(false).connect_lazy().unwrap()
}

/// Traffic through each node by itself goes on without a failure while some hear some no more, and
/// nobody is ever taken for dead.
async fn goes_on(lose: impl AsyncFnOnce(&Lab)) {
    let Some(lab) = Lab::start(5).await else { return };
    let cluster = five(&lab).await;
    let clients: Vec<Client> = (0..5).map(|node| through(&cluster, node)).collect();
    let traffic = Traffic::through(&clients, 10);
    traffic.advances(200).await;
    lose(&lab).await;
    nobody_is_down(&cluster).await;
    traffic.advances(200).await;
    lab.heal();
    cluster.all_alive().await;
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    seen.holds(&cluster, &[0, 1, 2, 3, 4]).await;
}

#[tokio::test]
async fn who_is_not_heard_by_one_other_is_nobodys_dead_and_every_node_serves() {
    goes_on(async |lab| lab.lose(&[0], &[1])).await;
}

#[tokio::test]
async fn two_that_are_cut_from_each_other_and_reach_the_rest_serve_and_are_nobodys_dead() {
    goes_on(async |lab| lab.part(&[0], &[1])).await;
}

#[tokio::test]
async fn who_hears_all_and_is_heard_by_none_is_away_and_then_back() {
    let Some(lab) = Lab::start(5).await else { return };
    let cluster = five(&lab).await;
    let heard: Vec<Client> = (0..4).map(|node| through(&cluster, node)).collect();
    let traffic = Traffic::through(&heard, 8);
    traffic.advances(200).await;
    lab.lose(&[4], &[0, 1, 2, 3]);
    for node in 0..4 {
        notices(&cluster, node, &[4]).await;
    }
    // It has heard of everything, and nobody hears its questions.
    let alone = cluster.client_of(4);
    until("it refuses at once", PATIENCE, async || {
        let error = alone.put("key", "value").await.err()?;
        (error.code() == "QUORUM_NOT_REACHED").then_some(())
    })
    .await;
    traffic.advances(200).await;
    lab.heal();
    cluster.all_alive().await;
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    seen.holds(&cluster, &[0, 1, 2, 3, 4]).await;
}
