//! Members and plans as operators see them: what is staged, what it would move, who is refused.

use std::time::Duration;

use roundtable::client::Liveness;
use serde_json::{Value as Json, json};

use crate::fixture::clock::until;
use crate::fixture::kvctl::{Done, run};
use crate::fixture::{Cluster, Plan};

async fn ctl(cluster: &Cluster, line: &str) -> Done {
    let words: Vec<&str> = ["-o", "json"].into_iter().chain(line.split(' ')).collect();
    cluster.kvctl(&words).await
}

async fn shown(cluster: &Cluster) -> Json {
    ctl(cluster, "plan show").await.succeeded().json()
}

/// Runs a command that is refused, and checks with which code and exit code, and that nothing was
/// done.
async fn refused(cluster: &Cluster, line: &str, code: &str, exit: i32) -> String {
    let done = ctl(cluster, line).await;
    assert_eq!(done.code, Some(exit), "{line}: {done:?}");
    let error = done.error();
    assert_eq!((&error["code"], &error["applied"]), (&code.into(), &"no".into()), "{line}");
    error["message"].as_str().unwrap().to_owned()
}

/// Copies by member before, and after.
fn copies(shown: &Json, node: &str) -> (u64, u64) {
    let shares = shown["shares"].as_array().unwrap();
    let share = shares.iter().find(|share| share["node"] == node).unwrap();
    (share["before"].as_u64().unwrap(), share["after"].as_u64().unwrap())
}

fn has(names: &Json, name: &str) -> bool {
    names.as_array().unwrap().iter().any(|known| known == name)
}

#[tokio::test]
async fn a_leave_that_breaks_n_is_staged_shown_as_infeasible_refused_and_cleared() {
    let cluster = Cluster::start().await;
    let nothing = shown(&cluster).await;
    assert_eq!((&nothing["feasible"], &nothing["hash"]), (&false.into(), &Json::Null));
    assert_eq!(nothing["reasons"], json!(["nothing is staged"]));

    let staged = ctl(&cluster, "node leave n3").await.succeeded().json();
    assert_eq!(staged["staged"], json!(["n3 leaves"]));
    let plan = shown(&cluster).await;
    assert_eq!((&plan["feasible"], &plan["moves"]), (&false.into(), &json!([])));
    let reason = plan["reasons"][0].as_str().unwrap();
    assert!(reason.contains("n is 3") && reason.contains("default"), "{reason}");
    let hash = plan["hash"].as_str().unwrap();
    let why = refused(&cluster, &format!("plan commit {hash}"), "PLAN_INVALID", 2).await;
    assert!(why.contains(reason), "{why}");

    // What is known of one plan says nothing of another.
    let other = "0123456789abcdef0123456789abcdef";
    let why = refused(&cluster, &format!("plan commit {other}"), "PLAN_CONFLICT", 6).await;
    assert!(why.contains(hash), "the hash that it is now: {why}");
    refused(&cluster, "plan commit 01234567", "PLAN_CONFLICT", 6).await;

    ctl(&cluster, "plan clear").await.succeeded();
    assert_eq!(shown(&cluster).await["hash"], Json::Null);
    let why = refused(&cluster, &format!("plan commit {hash}"), "PLAN_CONFLICT", 6).await;
    assert!(why.contains("nothing is staged"), "{why}");
}

#[tokio::test]
async fn what_cannot_be_staged_or_done_is_refused_with_its_code() {
    let cluster = Cluster::start().await;
    for (line, code, exit) in [
        ("node join n9", "MEMBER_UNKNOWN", 2),
        ("node leave n9", "MEMBER_UNKNOWN", 2),
        ("node replace n1 n9", "MEMBER_UNKNOWN", 2),
        ("node set n9 weight=2", "MEMBER_UNKNOWN", 2),
        ("node join n1", "PLAN_INVALID", 2),
        ("node replace n1 n2", "PLAN_INVALID", 2),
        ("plan pause", "PLAN_CONFLICT", 6),
        ("plan resume", "PLAN_CONFLICT", 6),
        ("plan rollback", "PLAN_CONFLICT", 6),
    ] {
        refused(&cluster, line, code, exit).await;
    }
    let status = ctl(&cluster, "plan status").await.succeeded().json();
    assert_eq!((&status["plan"], &status["staged"]), (&Json::Null, &json!([])));
    let watched = cluster.kvctl(&["plan", "status", "--watch"]).await.succeeded();
    assert_eq!(watched.text(), "no plan is carried out\n");
    ctl(&cluster, "wait --for settled --timeout 5s").await.succeeded();
    ctl(&cluster, "wait --for nodes=3 --timeout 5s").await.succeeded();
}

#[tokio::test]
async fn one_of_four_may_leave_and_the_plan_says_what_moves() {
    let cluster = Plan::new().of(4).start().await;
    ctl(&cluster, "node leave n4").await.succeeded();
    let plan = shown(&cluster).await;
    assert_eq!((&plan["feasible"], &plan["reasons"]), (&true.into(), &json!([])), "{plan}");
    let (before, after) = copies(&plan, "n4");
    assert!(before > 0 && after == 0, "{plan}");
    let all: u64 = ["n1", "n2", "n3"].iter().map(|node| copies(&plan, node).1).sum();
    assert_eq!(all, 64 * 3);
    let moves = plan["moves"].as_array().unwrap();
    assert_eq!((moves.len() as u64, &plan["move_count"]), (before, &before.into()));
    for unit in moves {
        assert!(has(&unit["from"], "n4") && !has(&unit["to"], "n4"), "{unit}");
        assert_eq!(unit["to"].as_array().unwrap().len(), 3);
    }
    let units: u64 =
        plan["links"].as_array().unwrap().iter().map(|link| link["units"].as_u64().unwrap()).sum();
    assert_eq!(units, before);
    // It is the same plan whoever shows it, and another one once something else is staged.
    let other = cluster.client_of(2).plans().show().await.unwrap().draft.unwrap();
    assert_eq!(plan["hash"], format!("{:032x}", other.hash));
    ctl(&cluster, "node set n1 weight=2").await.succeeded();
    let both = shown(&cluster).await;
    assert_eq!(both["staged"], json!(["n4 leaves", "n1 gets weight 2"]));
    assert_ne!(both["hash"], plan["hash"]);
    let stale = plan["hash"].as_str().unwrap();
    refused(&cluster, &format!("plan commit {stale}"), "PLAN_CONFLICT", 6).await;
    for format in ["table", "plain"] {
        let text = cluster.kvctl(&["-o", format, "plan", "show"]).await.succeeded();
        assert!(text.text().contains("n4"), "{format}: {}", text.text());
    }
}

#[tokio::test]
async fn the_ring_is_shown_and_drawn_and_what_a_death_would_put_at_risk() {
    let mut cluster = Cluster::start().await;
    let ring = ctl(&cluster, "ring --key user:1").await.succeeded().json();
    assert_eq!((&ring["partitions"], &ring["moving"]), (&64.into(), &json!([])));
    let members = ring["members"].as_array().unwrap();
    let all = |field: &str| members.iter().map(|m| m[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((members.len(), all("partitions"), all("copies")), (3, 64, 192));
    let owners = ctl(&cluster, "locate user:1").await.succeeded().json()["owners"].clone();
    assert_eq!(ring["key"]["owners"], owners);
    let file = cluster.dir().join("ring.svg");
    let args = ["ring", "--key", "user:1", "--svg", file.to_str().unwrap()];
    cluster.kvctl(&args).await.succeeded();
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("user:1, token") && svg.contains("zone b"));

    // Each node has yet to hear from each that it serves.
    until("nothing is at risk", Duration::from_secs(10), async || {
        let risk = ctl(&cluster, "plan show --risk n2").await.succeeded().json();
        assert_eq!(risk["units"], 64);
        (risk["at_risk"] == json!([])).then_some(())
    })
    .await;
    assert_eq!(ctl(&cluster, "plan show --risk n9").await.code, Some(2));
    cluster.nodes[2].kill();
    let client = cluster.client_of(0);
    until("n3 is not alive", Duration::from_secs(10), async || {
        let ring = client.ring().await.ok()?;
        (ring.members[2].liveness != Liveness::Alive).then_some(())
    })
    .await;
    let endpoint = cluster.nodes[0].client.to_string();
    let args = ["-e", &endpoint, "-o", "json", "plan", "show", "--risk", "n2"];
    let risk = run(&args, b"").await.succeeded().json();
    let units = risk["at_risk"].as_array().unwrap();
    assert!(units.len() == 64 && units.iter().all(|u| u["reads"] == true && u["writes"] == true));
}

#[tokio::test]
async fn reserved_founders_are_staged_to_join_and_to_replace() {
    let cluster = Plan::new().and_reserved(1).start().await;
    let status = ctl(&cluster, "status").await.succeeded().json();
    let nodes = status["nodes"].as_array().unwrap();
    let reserved = nodes.iter().find(|node| node["name"] == "n4").unwrap();
    assert_eq!(
        (&reserved["role"], &reserved["replica_partitions"]),
        (&"reserved".into(), &0.into())
    );

    ctl(&cluster, "node join n4").await.succeeded();
    let joins = shown(&cluster).await;
    assert_eq!(joins["feasible"], true, "{joins}");
    let (before, after) = copies(&joins, "n4");
    assert!(before == 0 && after > 0);
    let moves = joins["moves"].as_array().unwrap();
    assert_eq!(moves.len() as u64, after);
    for unit in moves {
        assert!(!has(&unit["from"], "n4") && has(&unit["to"], "n4"), "{unit}");
    }

    // The same member again: what was staged before is replaced.
    let staged = ctl(&cluster, "node replace n2 n4").await.succeeded().json();
    assert_eq!(staged["staged"], json!(["n4 replaces n2"]));
    let replaces = shown(&cluster).await;
    assert_eq!(replaces["feasible"], true, "{replaces}");
    assert_eq!((copies(&replaces, "n2").1, copies(&replaces, "n4").1), (0, 64));
}
