//! Linearizable tables over real processes: counters that add up across `kill -9`, writes whose
//! answers are lost and whose outcome is then settled, bad input, and `kvctl`.

use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roundtable::client::{
    Applied, Change, Client, Error, ErrorKind, Lane, Outcome as Became, TableKind,
};
use roundtable::load::check::linearizable;
use roundtable::load::history::{Action, Expect, History, OpIndex, Outcome, ProcessId, Settled};
use roundtable::types::{Key, Stamp, Time, Value};
use roundtable::wire::proto::v1 as pb;
use rustix::process::Signal;

use crate::fixture::{Cluster, Plan, clock, kvctl, wire};

const PATIENCE: Duration = Duration::from_secs(5);

async fn seats(cluster: &Cluster) {
    cluster.client().tables().create("seats").kind(TableKind::Linearizable).await.unwrap();
}

/// Everything that is asked and answered, in one order.
#[derive(Clone)]
struct Books {
    history: Arc<Mutex<History>>,
    start: Instant,
}

impl Books {
    fn new() -> Books {
        Books { history: Arc::default(), start: clock::now() }
    }

    fn now(&self) -> Time {
        Time::default().plus(clock::now().duration_since(self.start))
    }

    fn invoke(&self, process: ProcessId, key: &str, action: Action) -> OpIndex {
        let key = Key::new(key.to_owned()).unwrap();
        self.history.lock().invoke(process, key, action, self.now())
    }

    fn complete(&self, op: OpIndex, outcome: Outcome) {
        self.history.lock().complete(op, outcome, self.now());
    }

    fn assert_linearizable(&self) {
        let violations = linearizable(&self.history.lock());
        assert!(violations.is_empty(), "{violations:?}");
    }
}

/// A client that increments counters by comparing and setting, and writes down all it does.
struct Counter {
    client: Client,
    books: Books,
    process: ProcessId,
    tried: u64,
    /// Increments that were made.
    made: u64,
    /// Increments that failed with an unknown outcome.
    unknown: u64,
}

impl Counter {
    fn new(client: Client, books: &Books) -> Counter {
        let process = books.history.lock().new_process();
        Counter { client, books: books.clone(), process, tried: 0, made: 0, unknown: 0 }
    }

    async fn read(&mut self, key: &str) -> Option<(u64, Stamp)> {
        let op = self.books.invoke(self.process, key, Action::Get);
        match self.client.get(key.to_owned()).table("seats").timeout(PATIENCE).await {
            Ok(reply) => {
                let value = reply.value.map(|value| Value::new(value).unwrap());
                let stamp = reply.receipt.stamp;
                let count = value.as_ref().map_or(0, number);
                self.books.complete(op, Outcome::Read { value, stamp, weak: false });
                Some((count, stamp))
            }
            Err(_) => {
                self.books.complete(op, Outcome::Failed);
                None
            }
        }
    }

    /// Tries once to count one further.
    async fn increment(&mut self, key: &str) {
        let Some((count, stamp)) = self.read(key).await else { return };
        // A value of its own, whoever else counts up to the same number.
        self.tried += 1;
        let text = format!("{} by {} at {}", count + 1, self.process.0, self.tried);
        let value = Value::new(text).unwrap();
        let expect = if count == 0 { Expect::Absent } else { Expect::Stamp(stamp) };
        let action = Action::Cas(expect, Some(value.clone()));
        let op = self.books.invoke(self.process, key, action);
        let cas = self.client.cas(key.to_owned(), value.into_bytes()).table("seats");
        let cas = cas.timeout(PATIENCE);
        let cas = if count == 0 { cas.expect_absent() } else { cas.expect_stamp(stamp) };
        match cas.await {
            Ok(reply) if reply.applied => {
                self.made += 1;
                let stamp = reply.receipt.stamp;
                self.books.complete(op, Outcome::Written { stamp, weak: false });
            }
            Ok(reply) => {
                let current = reply.current.map(|found| Value::new(found.value).unwrap());
                let stamp = reply.receipt.stamp;
                self.books.complete(op, Outcome::Mismatch { current, stamp });
            }
            Err(error) => self.failed(op, key, &error).await,
        }
    }

    async fn failed(&mut self, op: OpIndex, key: &str, error: &Error) {
        if error.applied() == Applied::No {
            return self.books.complete(op, Outcome::Failed);
        }
        self.books.complete(op, Outcome::Unknown);
        self.process = self.books.history.lock().new_process();
        let write = *error.write().expect("a write that was sent has a name");
        let asked = self.client.outcome(key.to_owned(), &write).table("seats").timeout(PATIENCE);
        let settled = match asked.await {
            Ok(Became::Applied(stamp)) => {
                self.made += 1;
                Settled::Applied(stamp)
            }
            Ok(Became::Cancelled) => Settled::Cancelled,
            Err(_) => {
                self.unknown += 1;
                return;
            }
        };
        self.books.history.lock().settle(op, settled, self.books.now());
    }
}

fn number(value: &Value) -> u64 {
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn counters_add_up_while_owners_are_killed_and_started() {
    let mut cluster = Cluster::start().await;
    seats(&cluster).await;
    let (books, keys) = (Books::new(), ["left", "right"]);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let begun = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let mut counter = Counter::new(cluster.client(), &books);
        let (stop, begun) = (stop.clone(), begun.clone());
        workers.spawn(async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                counter.increment(keys[worker % 2]).await;
                begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            (keys[worker % 2], counter.made, counter.unknown)
        });
    }
    let advance = async |count: u64| {
        let goal = begun.load(std::sync::atomic::Ordering::Relaxed) + count;
        clock::until("the counters go on", Duration::from_secs(30), async || {
            (begun.load(std::sync::atomic::Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    };
    for victim in [0, 2, 1] {
        advance(40).await;
        cluster.nodes[victim].kill();
        // Two owners of three go on.
        advance(40).await;
        cluster.nodes[victim].start();
        cluster.nodes[victim].ready().await;
        cluster.all_alive().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let counted = workers.join_all().await;
    for key in keys {
        let sum = |count: fn(&(&str, u64, u64)) -> u64| {
            counted.iter().filter(|(of, ..)| *of == key).map(count).sum::<u64>()
        };
        let (made, unknown) = (sum(|(_, made, _)| *made), sum(|(_, _, unknown)| *unknown));
        for node in 0..3 {
            let mut reader = Counter::new(cluster.client_of(node), &books);
            let (count, _) = reader.read(key).await.expect("a healthy cluster answers");
            assert!((made..=made + unknown).contains(&count), "{key}: {count} of {made}+{unknown}");
        }
        assert!(made > 20, "{made}");
    }
    books.assert_linearizable();
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_settled_for_good() {
    let cluster = Plan::new().with("membership.down_after", "60s").start().await;
    seats(&cluster).await;
    let client = cluster.client_of(0);
    let seat = |number: usize| format!("seat {number}");
    // So that the client knows the servers' time.
    client.put("warm", "up").table("seats").await.unwrap();
    let mut writes = Vec::new();
    for number in 0..6 {
        let write = client.new_write();
        // Two of three owners are silent: nobody can say what becomes of it.
        for silent in [1, 2] {
            cluster.nodes[silent].signal(Signal::STOP);
        }
        let put = client.put(seat(number), "taken").table("seats").named(&write);
        let error = put.timeout(Duration::from_millis(300)).await.unwrap_err();
        for silent in [1, 2] {
            cluster.nodes[silent].signal(Signal::CONT);
        }
        assert!(matches!(error.applied(), Applied::No | Applied::Unknown), "{error:?}");
        writes.push((seat(number), write));
    }
    for (key, write) in writes {
        let ask = || cluster.client().outcome(key.clone(), &write).table("seats").into_future();
        let became = patiently(ask).await.unwrap();
        let get = || cluster.client_of(2).get(key.clone()).table("seats").into_future();
        let found = patiently(get).await.unwrap();
        match became {
            Became::Applied(stamp) => assert_eq!(found.receipt.stamp, stamp),
            Became::Cancelled => assert_eq!(found.value, None),
        }
        // Sent once more, it is the same write; asked again, it is the same answer.
        let again = || client.put(key.clone(), "taken").table("seats").again(&write).into_future();
        match (became, patiently(again).await) {
            (Became::Applied(stamp), Ok(receipt)) => assert_eq!(receipt.stamp, stamp),
            (Became::Cancelled, Err(error)) => assert_eq!(error.code(), "REQUEST_CANCELLED"),
            (became, again) => panic!("{became:?}, then {again:?}"),
        }
        assert_eq!(patiently(ask).await.unwrap(), became);
    }
    let unheard = client.new_write();
    let ask = || client.outcome("nobody wrote", &unheard).table("seats").into_future();
    assert_eq!(patiently(ask).await.unwrap(), Became::Cancelled);
}

/// Asks until the answer is no passing one: nodes that were stopped may take their clocks, or those
/// of others, for wrong for a moment.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    ask: impl Fn() -> F,
) -> Result<T, Error> {
    clock::until("an answer that lasts", Duration::from_secs(20), async || {
        Some(ask().await).filter(|answer| !matches!(answer, Err(error) if error.is_retryable()))
    })
    .await
}

#[tokio::test]
async fn every_node_reads_what_any_has_written_and_a_minority_answers_nothing() {
    let mut cluster = Cluster::start().await;
    seats(&cluster).await;
    for number in 0..9 {
        let key = format!("seat {number}");
        let [one, two, three] = [0, 1, 2].map(|node| cluster.client_of((node + number) % 3));
        let receipt = one.put(key.clone(), "Ada").table("seats").await.unwrap();
        let found = two.get(key.clone()).table("seats").await.unwrap();
        assert_eq!(found.value.as_deref(), Some(&b"Ada"[..]));
        assert_eq!(found.receipt.stamp, receipt.stamp);
        let cas = three.cas(key.clone(), "Eve").expect("Ada").table("seats").await.unwrap();
        assert!(cas.applied && cas.receipt.stamp > receipt.stamp, "{cas:?}");
        let late = one.cas(key.clone(), "Bob").expect_stamp(receipt.stamp).table("seats");
        let current = late.await.unwrap().current.unwrap();
        assert_eq!((&current.value[..], current.stamp), (&b"Eve"[..], cas.receipt.stamp));
        two.delete(key.clone()).table("seats").await.unwrap();
        assert_eq!(three.get(key.clone()).table("seats").await.unwrap().value, None);
        let absent = one.cas_delete(key.clone()).expect("Eve").table("seats").await.unwrap();
        assert!(!absent.applied && absent.current.is_none());
    }
    for node in [1, 2] {
        cluster.nodes[node].kill();
    }
    let alone = cluster.client_of(0);
    for error in [
        alone.get("seat 0").table("seats").await.unwrap_err(),
        alone.cas("seat 0", "x").table("seats").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::QuorumNotReached, "{error}");
    }
}

#[tokio::test]
async fn values_that_expire_are_gone_for_everybody() {
    let cluster = Cluster::start().await;
    seats(&cluster).await;
    let client = cluster.client();
    let put = client.put("held", "for a moment").table("seats").ttl(Duration::from_millis(300));
    put.await.unwrap();
    let found = client.get("held").table("seats").await.unwrap();
    assert!(found.value.is_none() || found.expires.is_some());
    clock::until("the value is gone", PATIENCE, async || {
        let found = client.get("held").table("seats").await.unwrap();
        found.value.is_none().then_some(())
    })
    .await;
    for node in 0..3 {
        let found = cluster.client_of(node).get("held").table("seats").await.unwrap();
        assert_eq!(found.value, None, "it came back at node {node}");
    }
    assert!(client.cas("held", "next").expect_absent().table("seats").await.unwrap().applied);
}

#[tokio::test]
async fn what_such_a_table_does_not_do_is_refused_and_changes_nothing() {
    let cluster = Cluster::start().await;
    seats(&cluster).await;
    let client = cluster.client();
    client.tables().create("carts").kind(TableKind::Causal).await.unwrap();
    client.put("k", "v").table("seats").await.unwrap();
    for table in ["default", "carts"] {
        let error = client.cas("k", "x").table(table).await.unwrap_err();
        assert_eq!((error.code(), error.applied()), ("KIND_MISMATCH", Applied::No), "{table}");
        let error = client.outcome("k", &client.new_write()).table(table).await.unwrap_err();
        assert_eq!(error.code(), "KIND_MISMATCH", "{table}");
    }
    let sloppy = client.put("k", "x").table("seats").sloppy().await.unwrap_err();
    assert_eq!(sloppy.code(), "SLOPPY_NOT_ALLOWED");
    let context = roundtable::client::Context::from(bytes::Bytes::from_static(b"seen"));
    let seen = client.put("k", "x").table("seats").context(&context).await.unwrap_err();
    assert_eq!(seen.code(), "CONTEXT_INVALID");
    let weak = client.put("k", "x").table("seats").w(roundtable::client::Quorum::One);
    assert_eq!(weak.await.unwrap_err().code(), "QUORUM_INVALID");
    let scan = client.scan().table("seats").r(roundtable::client::Quorum::One).pages();
    let page = tokio_stream::StreamExt::next(&mut std::pin::pin!(scan)).await.unwrap();
    assert_eq!(page.unwrap_err().code(), "QUORUM_INVALID");

    let mut kv = wire::kv(cluster.nodes[0].client).await;
    let header = || wire::header("seats", PATIENCE);
    let absent = Some(pb::cas_request::Expect::Absent(true));
    let good = || pb::CasRequest {
        header: header(),
        key: "k".into(),
        expect: absent.clone(),
        value: Some("x".into()),
        ..Default::default()
    };
    let stamp = Some(pb::cas_request::Expect::StampIs("short".into()));
    let bad = [
        ("KEY_EMPTY", pb::CasRequest { key: bytes::Bytes::new(), ..good() }),
        ("REQUEST_MALFORMED", pb::CasRequest { expect: None, ..good() }),
        ("REQUEST_MALFORMED", pb::CasRequest { expect: stamp, ..good() }),
        ("REQUEST_MALFORMED", pb::CasRequest { ttl_ms: Some(1), ..good() }),
        (
            "VALUE_TOO_LARGE",
            pb::CasRequest { value: Some(vec![7; (1 << 20) + 1].into()), ..good() },
        ),
        ("TABLE_UNKNOWN", pb::CasRequest { header: wire::header("nowhere", PATIENCE), ..good() }),
    ];
    for (code, request) in bad {
        let status = kv.cas(request).await.unwrap_err();
        assert_eq!(wire::detail(&status).unwrap().code, code, "{status:?}");
    }
    let ask = pb::GetOutcomeRequest { header: header(), key: "k".into(), ..Default::default() };
    let status = kv.get_outcome(ask).await.unwrap_err();
    assert_eq!(wire::detail(&status).unwrap().code, "REQUEST_MALFORMED");
    let found = client.get("k").table("seats").await.unwrap();
    assert_eq!(found.value.as_deref(), Some(&b"v"[..]), "nothing was changed");
    assert!(!kv.cas(good()).await.unwrap().into_inner().applied);
}

#[tokio::test]
async fn both_lanes_answer_the_same() {
    let cluster = Cluster::start().await;
    seats(&cluster).await;
    for lane in [Lane::Session, Lane::Unary] {
        let builder = Client::builder().endpoints(cluster.endpoints()).lane(lane);
        let client = builder.connect_lazy().unwrap();
        let key = format!("{lane:?}");
        let made = client.cas(key.clone(), "one").table("seats").await.unwrap();
        assert!(made.applied);
        let refused = client.cas(key.clone(), "two").table("seats").await.unwrap();
        assert_eq!(refused.current.unwrap().stamp, made.receipt.stamp);
        let ask = client.outcome(key, &client.new_write()).table("seats");
        assert_eq!(ask.await.unwrap(), Became::Cancelled);
    }
}

#[tokio::test]
async fn kvctl_compares_and_sets_and_asks_what_became_of_a_write() {
    let cluster = Cluster::start().await;
    let endpoints = cluster.endpoints().join(",");
    let run = async |args: &[&str]| {
        let mut all = vec!["-e", &endpoints, "-t", "seats"];
        all.extend(args);
        kvctl::run(&all, b"").await
    };
    run(&["table", "create", "seats", "--kind", "linearizable"]).await.succeeded();
    let made = run(&["-o", "json", "cas", "k", "--expect-absent", "--value", "one"]).await;
    let made = made.succeeded().json();
    assert_eq!(made["applied"], true);
    let refused = run(&["cas", "k", "--expect", "zero", "--value", "two"]).await;
    assert_eq!((refused.code, refused.text()), (Some(6), "one"));
    let refused = run(&["-o", "json", "cas", "k", "--expect-absent", "--value", "two"]).await;
    assert_eq!((refused.code, refused.error()["code"].as_str()), (Some(6), Some("MISMATCH")));
    assert_eq!(refused.json()["current"]["value"], "one");
    assert_eq!(refused.json()["current"]["stamp"], made["stamp"]);
    let stamp = made["stamp"].as_str().unwrap();
    run(&["cas", "k", "--expect-stamp", stamp, "--value", "two"]).await.succeeded();
    assert_eq!(run(&["get", "k"]).await.succeeded().text(), "two");
    run(&["cas", "k", "--expect", "two", "--delete"]).await.succeeded();
    let gone = run(&["-o", "json", "cas", "k", "--expect", "two", "--value", "x"]).await;
    assert_eq!((gone.code, &gone.json()["current"]), (Some(6), &serde_json::Value::Null));
    let write = format!("{:032x}", 7);
    let told = run(&["outcome", "k", "--write", &write]).await.succeeded();
    assert_eq!(told.text(), "cancelled\n");
    let again = ["-o", "json", "cas", "k", "--expect-absent", "--value", "x", "--again", &write];
    let again = run(&again).await;
    assert_eq!((again.code, again.error()["code"].as_str()), (Some(6), Some("REQUEST_CANCELLED")));
    run(&["put", "k", "plain"]).await.succeeded();
    run(&["del", "k"]).await.succeeded();
    assert_eq!(run(&["get", "k"]).await.code, Some(3));
    for usage in [
        &["cas", "k", "--value", "x"][..],
        &["cas", "k", "--expect", "x"],
        &["cas", "k", "--expect-stamp", "7", "--value", "x"],
        &["outcome", "k", "--write", "7"],
    ] {
        assert_eq!(run(usage).await.code, Some(2), "{usage:?}");
    }
    let other = ["-e", &endpoints, "-o", "json", "cas", "k", "--expect-absent", "--delete"];
    let other = kvctl::run(&other, b"").await;
    assert_eq!((other.code, other.error()["code"].as_str()), (Some(2), Some("KIND_MISMATCH")));
}

#[tokio::test]
async fn updates_of_many_writers_all_count_once() {
    const WRITERS: usize = 6;
    const EACH: usize = 10;
    let cluster = Cluster::start().await;
    seats(&cluster).await;
    let writers = (0..WRITERS).map(|writer| {
        let client = cluster.client_of(writer % 3);
        tokio::spawn(async move {
            let mut rounds = 0;
            for _ in 0..EACH {
                let update = client.update("visits").table("seats").timeout(PATIENCE);
                let made = update.run(|values| {
                    let count = values
                        .first()
                        .map_or(0, |text| String::from_utf8_lossy(text).parse::<usize>().unwrap());
                    (count + 1).to_string().into()
                });
                rounds += made.await.unwrap().rounds;
            }
            rounds
        })
    });
    let mut rounds = 0;
    for writer in writers.collect::<Vec<_>>() {
        rounds += writer.await.unwrap();
    }
    let client = cluster.client();
    let count = client.get("visits").table("seats").await.unwrap().value.unwrap();
    assert_eq!(count, (WRITERS * EACH).to_string());
    // Somebody was faster than somebody else, or this has shown nothing.
    assert!(rounds as usize > WRITERS * EACH, "{rounds}");

    let kept = client.update("visits").table("seats").run(|_| Change::Keep).await.unwrap();
    assert_eq!(kept.value.unwrap(), count);
    let gone = client.update("visits").table("seats").run(|_| Change::Delete).await.unwrap();
    assert_eq!((gone.value, gone.rounds), (None, 1));
    let error = client.update("k").run(|_| Change::Keep).await;
    assert!(error.is_ok(), "what changes nothing asks for nothing: {error:?}");
    let error = client.update("k").run(|_| "v".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}
