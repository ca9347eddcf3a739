//! Members that are down for good are replaced by reserved ones without anybody's word, under load, and come
//! back as reserved ones.

use std::time::Duration;

use serde_json::Value as Json;

use crate::fixture::clock::{self, until};
use crate::fixture::{Cluster, Plan, http};
use crate::traffic::Traffic;

pub(crate) async fn kvctl(cluster: &Cluster, line: &str) -> Json {
    let words: Vec<&str> = ["-o", "json"].into_iter().chain(line.split(' ')).collect();
    cluster.kvctl(&words).await.succeeded().json()
}

/// A member as the status shows it.
pub(crate) async fn member(cluster: &Cluster, name: &str) -> Json {
    let status = kvctl(cluster, "status").await;
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).cloned().unwrap_or_default()
}

/// Waits for a member to be what it should.
pub(crate) async fn is(cluster: &Cluster, name: &str, what: &str, wanted: impl Fn(&Json) -> bool) {
    until(&format!("{name} {what}"), Duration::from_secs(60), async || {
        let node = member(cluster, name).await;
        wanted(&node).then_some(())
    })
    .await;
}

/// Waits for an event of a kind about a member, and gives its reason.
pub(crate) async fn event(cluster: &Cluster, kind: &str, subject: &str) -> String {
    until(&format!("{kind} of {subject}"), Duration::from_secs(60), async || {
        // Who is down or starts does not answer: the others' word is enough.
        let done = cluster.kvctl(&["-o", "json", "events"]).await;
        let told = serde_json::from_slice::<Json>(&done.stdout).ok()?;
        let told = told
            .as_array()?
            .iter()
            .find(|event| event["kind"] == kind && event["subject"] == subject)?;
        Some(told["reason"].as_str()?.to_owned())
    })
    .await
}

pub(crate) fn soon() -> Plan {
    Plan::new().of(5).with("orchestrator.replace_after", "5s").with("membership.down_after", "3s")
}

#[tokio::test]
async fn who_is_killed_is_replaced_by_the_reserve_under_load_and_comes_back_as_the_reserve() {
    let mut cluster = soon().and_reserved(1).start().await;
    let traffic = Traffic::start(&cluster.client(), 6);
    traffic.advances(200).await;
    let owned = member(&cluster, "n2").await["replica_partitions"].as_u64().unwrap();
    assert!(owned > 0);
    cluster.nodes[1].kill();
    is(&cluster, "n6", "has taken the place of n2", |node| {
        node["role"] == "active" && node["replica_partitions"].as_u64() > Some(0)
    })
    .await;
    cluster.kvctl(&["wait", "--for", "settled", "--timeout", "60s"]).await.succeeded();
    is(&cluster, "n2", "owns nothing and is still known", |node| {
        let (role, state) = (&node["role"], &node["state"]);
        role == "reserved" && state == "down" && node["replica_partitions"] == 0
    })
    .await;
    let reason = event(&cluster, "replaced", "n2").await;
    assert!(reason.contains("n6 is reserved"), "{reason}");
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert_eq!(seen.failed.len(), 0, "{:?}", seen.failed);
    seen.holds(&cluster, &[0, 2, 3, 4, 5]).await;

    cluster.nodes[1].start();
    is(&cluster, "n2", "is back as a reserved member", |node| {
        node["role"] == "reserved" && node["state"] == "alive" && node["serving"] == true
    })
    .await;
    let text = event(&cluster, "set-aside", "n2").await;
    let aside = text.rsplit(' ').next().unwrap().to_owned();
    let dir = cluster.nodes[1].data_dir().join(&aside);
    assert!(dir.join("CURRENT").exists(), "{text}: {}", dir.display());
    cluster.kvctl(&["wait", "--for", "converged", "--timeout", "60s"]).await.succeeded();
    // Nothing of it is read, though it serves.
    seen.holds(&cluster, &[0, 1, 2, 3, 4, 5]).await;
}

#[tokio::test]
async fn without_a_reserve_and_with_too_few_members_an_alarm_says_what_is_missing() {
    let mut cluster = soon().of(3).start().await;
    cluster.nodes[2].kill();
    let alarm = until("an alarm is raised", Duration::from_secs(60), async || {
        let status = kvctl(&cluster, "status").await;
        status["alarms"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!((&alarm["kind"], &alarm["subject"]), (&"no-reserve".into(), &"n3".into()));
    let text = alarm["text"].as_str().unwrap();
    assert!(text.contains("tables want 3 copies, and 2 active members are left"), "{text}");
    cluster.nodes[2].start();
    until("the alarm is over", Duration::from_secs(60), async || {
        let status = kvctl(&cluster, "status").await;
        status["alarms"].as_array()?.is_empty().then_some(())
    })
    .await;
    is(&cluster, "n3", "keeps its place", |node| node["role"] == "active").await;
    event(&cluster, "alarm-cleared", "n3").await;
}

const RECORDS: u64 = 2_560;
const VALUE_BYTES: usize = 8 << 10;

fn value(number: u64) -> Vec<u8> {
    let mut value = vec![0; VALUE_BYTES];
    fastrand::Rng::with_seed(number).fill(&mut value);
    value
}

/// Bytes of copies that a node has been given, as it tells every few seconds.
async fn taken(cluster: &Cluster, node: usize) -> u64 {
    let page = http::get(cluster.nodes[node].http, "/metrics").await.unwrap();
    let mut lines = page.body.lines();
    let line = lines.find(|it| it.starts_with("kv_transfer_taken_bytes_total")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Bytes that a plan would move which has n4 take the place of n2, as it is told beforehand.
async fn previewed(cluster: &Cluster) -> u64 {
    kvctl(cluster, "node replace n2 n4").await;
    let shown = kvctl(cluster, "plan show").await;
    kvctl(cluster, "plan clear").await;
    let links = shown["links"].as_array().unwrap().iter();
    links.map(|link| link["bytes"].as_u64().unwrap()).sum()
}

/// n2 dies and n4 takes its place: the bytes that others give it for that; before, the bytes that were said to move.
async fn taken_for_a_replacement(mirrors: bool) -> (u64, u64) {
    let plan = soon().of(3).and_reserved(1).with("cluster.partitions", 16);
    let plan = plan.with("orchestrator.mirror", mirrors).with("orchestrator.mirror_every", "1s");
    let mut cluster = plan.start().await;
    let client = cluster.client();
    for numbers in (0..RECORDS).collect::<Vec<_>>().chunks(64) {
        let mut puts = tokio::task::JoinSet::new();
        for number in numbers {
            let put = client.put(format!("key {number}"), value(*number));
            puts.spawn(async move { put.await.is_ok() });
        }
        assert!(puts.join_all().await.into_iter().all(|done| done));
    }
    let deleted = "key 7";
    if mirrors {
        let since = clock::now();
        is(&cluster, "n4", "has mirrored all that it is to", |node| {
            let (units, mirror) = (node["mirror"]["units"].as_u64(), &node["mirror"]);
            let age = mirror["oldest_ms"].as_u64().unwrap_or(u64::MAX);
            units > Some(0)
                && units == mirror["wanted"].as_u64()
                && u128::from(age) < since.elapsed().as_millis()
        })
        .await;
    }
    let said = previewed(&cluster).await;
    client.delete(deleted).await.unwrap();
    let before = taken(&cluster, 3).await;
    cluster.nodes[1].kill();
    is(&cluster, "n4", "has taken the place of n2", |node| {
        node["role"] == "active" && node["replica_partitions"].as_u64() > Some(0)
    })
    .await;
    cluster.kvctl(&["wait", "--for", "settled", "--timeout", "60s"]).await.succeeded();
    // Of n1 and n4 alone: a quorum has to have it.
    cluster.nodes[2].kill();
    for number in (0..RECORDS).step_by(40).chain([7]) {
        let found = client.get(format!("key {number}")).await.unwrap().value;
        let expected = (number != 7).then(|| value(number));
        assert_eq!(found.map(|found| found.to_vec()), expected, "key {number}");
    }
    let after = until("n4 tells what it was given", Duration::from_secs(30), async || {
        let after = taken(&cluster, 3).await;
        (after > before).then_some(after)
    })
    .await;
    // Later news are of the same figure or a higher one.
    tokio::time::sleep(Duration::from_secs(5)).await;
    (after.max(taken(&cluster, 3).await) - before, said)
}

#[tokio::test]
async fn a_reserve_that_has_mirrored_what_it_inherits_is_given_little_of_it() {
    let all = RECORDS * VALUE_BYTES as u64;
    let (cold, said) = taken_for_a_replacement(false).await;
    assert!(cold > all, "{cold} bytes of {all}");
    // Disks are told every few seconds, and compressed.
    assert!(said > all / 4, "{said} bytes are said to move of {all}");
    let (warm, said) = taken_for_a_replacement(true).await;
    assert!(warm < all / 20, "{warm} bytes, {cold} without mirrors");
    assert!(said < all / 20, "{said} bytes are said to move, which are mirrored");
}
