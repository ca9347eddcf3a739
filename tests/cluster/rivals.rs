//! Two operators at two nodes who commit at the same moment. Both propose a state for one epoch: one is decided,
//! and the other is made again on top of it, where it does not fit any more.

use serde_json::json;

use crate::fixture::kvctl::{Done, run};
use crate::fixture::{Cluster, Plan};

/// How often two operators meet. Who is first is left to chance.
const ROUNDS: usize = 8;

/// Asks one node.
async fn at(cluster: &Cluster, node: usize, line: &str) -> Done {
    let endpoint = cluster.nodes[node].client.to_string();
    let words = ["-e", &endpoint, "-o", "json"].into_iter().chain(line.split(' '));
    run(&words.collect::<Vec<_>>(), b"").await
}

/// The hash of what is staged, as one node shows it.
async fn staged(cluster: &Cluster, node: usize) -> String {
    let shown = at(cluster, node, "plan show").await.succeeded().json();
    assert_eq!(shown["reasons"], json!([]), "{shown}");
    shown["hash"].as_str().unwrap().to_owned()
}

/// Whether a commit was made; what was not has changed nothing, and says so.
fn is_made(done: &Done) -> bool {
    if done.code == Some(0) {
        return true;
    }
    let error = done.error();
    assert_eq!((done.code, &error["code"]), (Some(6), &"PLAN_CONFLICT".into()), "{done:?}");
    assert_eq!((&error["applied"], &error["retryable"]), (&"no".into(), &false.into()), "{done:?}");
    let (message, hint) = (error["message"].as_str().unwrap(), error["hint"].as_str().unwrap());
    let known = ["carried out", "has changed since it was shown", "nothing is staged"];
    assert!(known.iter().any(|text| message.contains(text)), "{message}");
    assert!(hint.contains("kvctl plan show") && hint.contains("kvctl plan status"), "{hint}");
    false
}

/// What every node knows once nothing moves, all the same: the weights of n1 and n2, and what is staged.
async fn agreed(cluster: &Cluster) -> (u32, u32, Vec<String>) {
    let mut known = Vec::new();
    for node in 0..3 {
        at(cluster, node, "wait --for settled --timeout 60s").await.succeeded();
        let topology = cluster.client_of(node).plans().show().await.unwrap();
        assert!(topology.running.is_none(), "{topology:?}");
        let weight = |name: &str| {
            let member = topology.members.iter().find(|member| member.name.as_str() == name);
            member.unwrap().weight_milli / 1000
        };
        known.push((weight("n1"), weight("n2"), topology.staged.clone()));
    }
    assert!(known.iter().all(|of_one| *of_one == known[0]), "{known:?}");
    known.swap_remove(0)
}

#[tokio::test]
async fn of_two_who_commit_one_plan_at_two_nodes_one_is_told_that_the_other_was_faster() {
    let cluster = Plan::new().of(3).start().await;
    for round in 0..ROUNDS {
        let wanted = [2, 1][round % 2];
        let order = format!("node set n1 weight={wanted}");
        at(&cluster, round % 3, &order).await.succeeded();
        let commit = format!("plan commit {}", staged(&cluster, round % 3).await);
        let (one, other) = ((round + 1) % 3, (round + 2) % 3);
        let (one, other) = tokio::join!(at(&cluster, one, &commit), at(&cluster, other, &commit));
        assert!(is_made(&one) != is_made(&other), "round {round}: {one:?} and {other:?}");
        let (weight, _, staged) = agreed(&cluster).await;
        assert_eq!((weight, staged), (wanted, Vec::new()));
    }
}

#[tokio::test]
async fn of_two_rival_plans_that_are_committed_at_once_one_is_carried_out_and_nothing_of_the_other()
{
    let cluster = Plan::new().of(3).start().await;
    let mut first_won = 0;
    for round in 0..ROUNDS {
        let wanted = [2, 1][round % 2];
        // The hashes of both plans, known beforehand: of one change, and of two.
        let (first, second) =
            (format!("node set n1 weight={wanted}"), format!("node set n2 weight={wanted}"));
        at(&cluster, 0, &first).await.succeeded();
        let of_one = format!("plan commit {}", staged(&cluster, 0).await);
        at(&cluster, 1, &second).await.succeeded();
        let of_two = format!("plan commit {}", staged(&cluster, 1).await);
        assert_ne!(of_one, of_two);
        at(&cluster, 2, "plan clear").await.succeeded();
        at(&cluster, 0, &first).await.succeeded();
        let rival = async {
            at(&cluster, 1, &second).await.succeeded();
            at(&cluster, 1, &of_two).await
        };
        let (one, two) = tokio::join!(at(&cluster, 2, &of_one), rival);
        let made = (is_made(&one), is_made(&two));
        assert!(made.0 != made.1, "round {round}: {one:?} and {two:?}");
        first_won += usize::from(made.0);
        let before = 3 - wanted;
        let of_n2 = if made.0 { before } else { wanted };
        // What the other had staged waits for a plan of its own.
        let left: Vec<String> =
            made.0.then(|| format!("n2 gets weight {wanted}")).into_iter().collect();
        assert_eq!(agreed(&cluster).await, (wanted, of_n2, left), "round {round}");
        if made.0 {
            let commit = format!("plan commit {}", staged(&cluster, 0).await);
            at(&cluster, 0, &commit).await.succeeded();
            agreed(&cluster).await;
        }
    }
    println!("the plan of one change won {first_won} of {ROUNDS}");
}
