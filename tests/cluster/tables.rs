//! Tables over real processes: made on one node and used on others, dropped while a node is down,
//! changed while a member of the council is.

use std::time::Duration;

use roundtable::client::{Applied, Client, Epoch, Error, TableKind};

use crate::fixture::Cluster;
use crate::fixture::clock::until;

const SOON: Duration = Duration::from_secs(5);

async fn value(client: &Client, table: &str, key: &str) -> Result<Option<String>, Error> {
    let reply = client.get(key.to_owned()).table(table).await?;
    Ok(reply.value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

#[tokio::test]
async fn a_table_made_on_one_node_is_served_by_every_other_at_once() {
    let cluster = Cluster::start().await;
    for round in 0..5 {
        let name = format!("t{round}");
        let maker = round % 3;
        let made = cluster.client_of(maker).tables().create(&name).await.unwrap().unwrap();
        assert_eq!((made.n, made.r, made.w, made.kind), (3, 2, 2, TableKind::Lww));
        for other in [(maker + 1) % 3, (maker + 2) % 3] {
            // At once: nothing has had the time to tell this node.
            let client = cluster.client_of(other);
            client.put("k", name.clone()).table(&name).await.unwrap();
            assert_eq!(value(&client, &name, "k").await.unwrap(), Some(name.clone()));
        }
    }
    assert_eq!(value(&cluster.client_of(0), "default", "k").await.unwrap(), None);
    let other = cluster.client_of(1).tables().create("few").n(1).await.unwrap().unwrap();
    assert_eq!((other.n, other.r_min, other.w_min), (1, 1, 1));
    let client = cluster.client();
    for key in 0..20 {
        let receipt = client.put(format!("k{key}"), "v").table("few").await.unwrap();
        assert_eq!((receipt.n, receipt.needed), (1, 1));
    }
    let entries = client.scan().table("few").entries();
    let entries: Vec<_> = tokio_stream::StreamExt::collect(entries).await;
    assert_eq!(entries.len(), 20);
    let back = client.scan().table("few").reverse().page_size(3).entries();
    let mut back: Vec<_> = tokio_stream::StreamExt::collect(back).await;
    back.reverse();
    let keys = |all: Vec<Result<roundtable::client::Entry, Error>>| {
        all.into_iter().map(|entry| entry.unwrap().key).collect::<Vec<_>>()
    };
    assert_eq!(keys(back), keys(entries));
    let error = cluster.client_of(2).tables().create("t0").await.unwrap_err();
    assert_eq!((error.code(), error.applied()), ("TABLE_EXISTS", Applied::No));
    let error = cluster.client_of(2).get("k").table("nowhere").await.unwrap_err();
    assert_eq!(error.code(), "TABLE_UNKNOWN");
}

#[tokio::test]
async fn a_table_dropped_while_a_node_is_down_is_gone_there_too_and_its_name_starts_empty() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    client.tables().create("t").await.unwrap();
    for key in 0..50 {
        client.put(format!("k{key}"), "old").table("t").await.unwrap();
    }
    cluster.nodes[2].kill();
    let dropped = cluster.client_of(0).tables().drop("t").await.unwrap();
    assert_eq!(dropped, Epoch(3));
    for node in 0..2 {
        let error = cluster.client_of(node).put("k0", "late").table("t").await.unwrap_err();
        assert_eq!((error.code(), error.applied()), ("TABLE_UNKNOWN", Applied::No));
    }
    cluster.client_of(1).tables().create("t").await.unwrap();
    cluster.nodes[2].start();
    cluster.nodes[2].ready().await;
    let late = cluster.client_of(2);
    for key in 0..50 {
        assert_eq!(value(&late, "t", &format!("k{key}")).await.unwrap(), None);
    }
    until("the node that was down has deleted the keys", SOON, async || {
        cluster.nodes[2].log().contains("keys of tables dropped by epoch 3 are gone").then_some(())
    })
    .await;
    late.put("k0", "new").table("t").await.unwrap();
    let first = cluster.client_of(0);
    assert_eq!(value(&first, "t", "k0").await.unwrap(), Some("new".to_owned()));
    // What is known survives a restart of everything.
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.ready().await;
    let list = cluster.client_of(1).tables().list().await.unwrap();
    let names: Vec<&str> = list.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!((names, list.confirmed), (vec!["default", "t"], true));
    assert_eq!(value(&late, "t", "k0").await.unwrap(), Some("new".to_owned()));
    assert_eq!(value(&late, "t", "k1").await.unwrap(), None);
}

/// What the servers say. Where the machine is so busy that their word comes too late, there is only the client's
/// own: it is asked again.
async fn word(ask: impl AsyncFn() -> Error) -> Error {
    for _ in 0..3 {
        let error = ask().await;
        if error.code() != "DEADLINE_EXCEEDED" {
            return error;
        }
    }
    ask().await
}

#[tokio::test]
async fn the_schema_changes_with_one_member_of_the_council_down_and_not_with_two() {
    let mut cluster = Cluster::start().await;
    cluster.nodes[1].kill();
    let client = cluster.client_of(0);
    client.tables().create("one-down").await.unwrap();
    client.put("k", "v").table("one-down").await.unwrap();
    client.tables().alter("one-down").r(3).await.unwrap();
    cluster.nodes[2].kill();
    let error = word(async || {
        client.tables().create("two-down").timeout(Duration::from_secs(5)).await.unwrap_err()
    });
    let error = error.await;
    assert_eq!((error.code(), error.applied()), ("QUORUM_NOT_REACHED", Applied::No), "{error}");
    // Nor can it tell whether a table it does not know exists.
    let error = word(async || {
        let ask = client.get("k").table("elsewhere").timeout(Duration::from_secs(5));
        ask.await.unwrap_err()
    });
    assert_eq!(error.await.code(), "QUORUM_NOT_REACHED");
    let list = client.tables().list().await.unwrap();
    assert!(!list.confirmed && list.tables.len() == 2);
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    cluster.ready().await;
    let late = cluster.client_of(1);
    let table = late.tables().describe("one-down").await.unwrap();
    assert_eq!((table.r, table.w), (3, 2));
    assert_eq!(value(&late, "one-down", "k").await.unwrap(), Some("v".to_owned()));
    late.tables().create("two-down").await.unwrap();
}

#[tokio::test]
async fn kvctl_keeps_its_contract_about_tables() {
    let cluster = Cluster::start().await;
    let made = cluster.kvctl(&["-o", "json", "table", "create", "people", "--w", "3"]).await;
    let made = made.succeeded().json();
    assert_eq!(
        (&made["name"], &made["w"], &made["sloppy"]),
        (&"people".into(), &3.into(), &"request".into())
    );
    let always = ["table", "create", "loose", "--sloppy", "--n", "2"];
    assert_eq!(cluster.kvctl(&always).await.succeeded().text(), "created loose\n");
    cluster.kvctl(&["-t", "people", "put", "ada", "Lovelace"]).await.succeeded();
    assert_eq!(cluster.kvctl(&["-t", "people", "get", "ada"]).await.succeeded().text(), "Lovelace");
    let list = cluster.kvctl(&["-o", "json", "table", "list"]).await.succeeded().json();
    let names: Vec<_> =
        list["tables"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, ["default", "people", "loose"]);
    assert_eq!(
        (&list["confirmed"], &list["tables"][2]["sloppy"]),
        (&true.into(), &"always".into())
    );
    cluster.kvctl(&["table", "alter", "people", "--w", "2", "--sloppy=never"]).await.succeeded();
    let one =
        cluster.kvctl(&["-o", "json", "table", "describe", "people"]).await.succeeded().json();
    assert_eq!((&one["w"], &one["sloppy"], &one["r"]), (&2.into(), &"never".into(), &2.into()));

    for (args, code, exit) in [
        (&["create", "people"][..], "TABLE_EXISTS", 6),
        (&["create", "BAD"], "TABLE_NAME_INVALID", 2),
        (&["create", "t", "--n", "4"], "TABLE_INVALID", 2),
        (&["create", "t", "--r", "0"], "TABLE_INVALID", 2),
        (&["create", "t", "--w", "4"], "TABLE_INVALID", 2),
        (&["create", "t", "--r-min", "1"], "TABLE_INVALID", 2),
        (&["create", "t", "--w-min", "1", "--r-min", "3"], "TABLE_INVALID", 2),
        (&["create", "t", "--kind", "linearizable", "--sloppy"], "TABLE_INVALID", 2),
        (&["create", "t", "--value-bytes-max", "2000000"], "TABLE_INVALID", 2),
        (&["create", "t", "--ttl", "99ms"], "TABLE_INVALID", 2),
        (&["create", "t", "--ttl", "4000d"], "TABLE_INVALID", 2),
        (&["alter", "people"], "TABLE_INVALID", 2),
        (&["alter", "nobody", "--w", "2"], "TABLE_UNKNOWN", 2),
        (&["describe", "nobody"], "TABLE_UNKNOWN", 2),
        (&["drop", "nobody"], "TABLE_UNKNOWN", 2),
    ] {
        let done = cluster.kvctl(&[&["-o", "json", "table"], args].concat()).await;
        assert_eq!(done.code, Some(exit), "{args:?}: {done:?}");
        let error = done.error();
        assert_eq!((&error["code"], &error["applied"]), (&code.into(), &"no".into()), "{args:?}");
    }
    let dropped =
        cluster.kvctl(&["-o", "json", "table", "drop", "people"]).await.succeeded().json();
    assert_eq!(dropped["dropped"], "people");
    let gone = cluster.kvctl(&["-o", "json", "-t", "people", "get", "ada"]).await;
    assert_eq!((gone.code, gone.error()["code"].clone()), (Some(2), "TABLE_UNKNOWN".into()));
    let page = crate::fixture::http::get(cluster.nodes[0].http, "/").await.unwrap();
    assert!(page.body.contains("loose") && !page.body.contains("people"), "{}", page.body);
}
