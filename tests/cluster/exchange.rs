//! A member with all the hot keys gives some of them away for cool ones, by one word of an operator.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fixture::clock::until;
use crate::fixture::{Cluster, Plan, kvctl};
use crate::orchestrator::{event, kvctl as ask};

const LONG: Duration = Duration::from_secs(60);
const HOT: usize = 4;

/// Keys that will be hot.
#[derive(Default)]
struct Chosen {
    keys: Vec<String>,
    /// The owners of their units.
    owned: BTreeMap<u64, Vec<String>>,
    /// How many of them each member owns.
    counts: BTreeMap<String, usize>,
}

async fn choose(cluster: &Cluster) -> Chosen {
    // Keys of n1 and two others each, in units of their own.
    let mut pool: BTreeMap<u64, (String, Vec<String>)> = BTreeMap::new();
    for number in 0..120 {
        let key = format!("hot-{number}");
        let place = ask(cluster, &format!("locate {key}")).await;
        let owners: Vec<String> = serde_json::from_value(place["owners"].clone()).unwrap();
        if owners.iter().any(|name| name == "n1") {
            pool.insert(place["partition"].as_u64().unwrap(), (key, owners));
        }
    }
    // Of these the ones that give each of the others as little as can be: n1 is the busiest by far.
    let Chosen { mut keys, mut owned, mut counts } = Chosen::default();
    while keys.len() < HOT {
        let cost = |(_, owners): &(String, Vec<String>)| {
            let others = owners.iter().filter(|name| *name != "n1");
            others.map(|name| counts.get(name).map_or(0, |count| 4 * count * count)).sum::<usize>()
        };
        let cheapest = *pool.iter().min_by_key(|(_, place)| cost(place)).unwrap().0;
        let (key, owners) = pool.remove(&cheapest).unwrap();
        owners.iter().for_each(|name| *counts.entry(name.clone()).or_default() += 1);
        owned.insert(cheapest, owners);
        keys.push(key);
    }
    Chosen { keys, owned, counts }
}

#[tokio::test]
async fn hot_units_are_exchanged_for_cool_ones_and_no_request_fails() {
    let plan = Plan::new().of(5).with("orchestrator.grow", "off");
    let plan = plan.with("orchestrator.grow_after", "0s");
    let mut cluster = plan.with("orchestrator.sample_interval", "1s").start().await;
    // n2 proposes none, so what it is told to commit is another one's.
    assert_eq!(cluster.nodes[1].stop().await.code(), Some(0));
    cluster.nodes[1].set("orchestrator.exchange", "off");
    cluster.nodes[1].start();
    cluster.ready().await;
    let Chosen { keys, owned, counts } = choose(&cluster).await;
    let client = cluster.client();
    let mut tasks = tokio::task::JoinSet::new();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for key in keys.iter().cycle().take(2 * HOT) {
        let (client, key, stop) = (client.clone(), key.clone(), stop.clone());
        tasks.spawn(async move {
            let mut failed = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                failed += usize::from(client.put(key.clone(), b"v".to_vec()).await.is_err());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            failed
        });
    }
    // Nodes look at different moments, and may propose other pairs: any of them finds who has shown this.
    let second = cluster.endpoints()[1].clone();
    let one = cluster.client_of(0);
    let proposal = until("an exchange is committed", LONG, async || {
        let proposal = one.status().await.ok()?.growth?.proposal?;
        let hash = proposal.hash.filter(|_| proposal.kind == "exchange")?;
        let hash = format!("{hash:032x}");
        let done = kvctl::run(&["-e", &second, "grow", "commit", &hash], b"").await;
        (done.code == Some(0)).then_some(proposal)
    })
    .await;
    // Another one may be next to n1 wherever n1 is.
    let busiest = proposal.members[0].as_str();
    assert_eq!(counts[busiest], HOT, "{proposal:?} {counts:?}");
    let reason = event(&cluster, "growth-proposed", busiest).await;
    assert!(reason.contains(&format!("exchange: {busiest} does")), "{reason}");
    cluster.kvctl(&["wait", "--for", "settled", "--timeout", "60s"]).await.succeeded();
    event(&cluster, "exchanged", busiest).await;
    let mut moved = 0;
    for key in &keys {
        let place = ask(&cluster, &format!("locate {key}")).await;
        let owners: Vec<String> = serde_json::from_value(place["owners"].clone()).unwrap();
        moved += usize::from(owned[&place["partition"].as_u64().unwrap()] != owners);
    }
    assert!(moved > 0, "no hot key has other owners now");
    // It is not proposed again today.
    until("nothing is proposed", LONG, async || {
        ask(&cluster, "status").await["growth"]["proposal"].is_null().then_some(())
    })
    .await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), 0);
    for key in &keys {
        let found = client.get(key.clone()).await.unwrap().value;
        assert_eq!(found.map(|found| found.to_vec()), Some(b"v".to_vec()));
    }
}
