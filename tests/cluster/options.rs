//! Options of single requests: monotonic reads, and times that writers give.

use crate::fixture::Cluster;

#[tokio::test]
async fn the_latest_time_that_writers_gave_is_read() {
    let cluster = Cluster::start().await;
    for (value, time) in [("late", "2000"), ("early", "1000")] {
        let done = cluster.kvctl(&["-o", "json", "put", "k", value, "--time", time]).await;
        assert_eq!(done.succeeded().json()["receipt"]["client_time"], true);
    }
    let read = cluster.kvctl(&["-o", "json", "get", "k"]).await.succeeded().json();
    assert_eq!((&read["value"], &read["receipt"]["client_time"]), (&"late".into(), &true.into()));
    let server_time: u64 = read["receipt"]["server_time"].as_str().unwrap().parse().unwrap();
    let far = (server_time + 60_000_000_000).to_string();
    let done = cluster.kvctl(&["-o", "json", "put", "k", "far", "--time", &far]).await;
    assert_eq!((done.code, &done.error()["code"]), (Some(2), &"TIME_TOO_FAR".into()));
    let done = cluster.kvctl(&["-o", "json", "put", "k", "now"]).await.succeeded().json();
    assert_eq!(done["receipt"]["client_time"], false);
    let read = cluster.kvctl(&["-o", "json", "get", "k"]).await.succeeded().json();
    assert_eq!(read["value"], "now");
    assert_eq!(cluster.kvctl(&["put", "k", "v", "--time", "0"]).await.code, Some(2));
}

#[tokio::test]
async fn monotonic_reads_answer_what_is_on_enough_owners() {
    let cluster = Cluster::start().await;
    cluster.client().put("k", "v").await.unwrap();
    let read = cluster.kvctl(&["get", "k", "--monotonic"]).await.succeeded();
    assert_eq!(read.text(), "v");
    let reply = cluster.client().get("k").monotonic().await.unwrap();
    assert_eq!(reply.value.as_deref(), Some(&b"v"[..]));
    assert_eq!(cluster.kvctl(&["get", "nothing", "--monotonic"]).await.code, Some(3));
    assert_eq!(cluster.kvctl(&["get", "k", "--monotonic", "--sloppy"]).await.code, Some(2));
    let done = cluster.kvctl(&["table", "create", "carts", "--kind", "causal"]).await;
    done.succeeded();
    cluster.kvctl(&["-t", "carts", "put", "k", "tea"]).await.succeeded();
    let read = cluster.kvctl(&["-t", "carts", "get", "k", "--monotonic"]).await.succeeded();
    assert_eq!(read.text(), "tea");
    let done = cluster.kvctl(&["-o", "json", "-t", "carts", "put", "k", "v", "--time", "1"]).await;
    assert_eq!((done.code, &done.error()["code"]), (Some(2), &"KIND_MISMATCH".into()));
}
