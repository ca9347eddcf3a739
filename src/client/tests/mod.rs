//! The client against a scripted server, over real sockets.

mod batch;
pub(crate) mod fake;
mod hedge;

use std::time::Duration;

use bytes::Bytes;
use tokio_stream::StreamExt;

use super::{Applied, Client, Clock, ErrorKind, Lane, Outcome, OwnCopy};
use crate::types::Time;
use crate::types::limits::ATTEMPT_WINDOW;
use crate::wire::proto::v1;

use fake::{Act, Fake};

const LANES: [Lane; 2] = [Lane::Session, Lane::Unary];
const CLOCK_NS: u64 = 1_000_000_000_000;

fn client(addresses: &[&str], lane: Lane) -> Client {
    let builder = Client::builder().endpoints(addresses.iter().copied()).lane(lane);
    builder.timeout(Duration::from_secs(20)).connect_lazy().unwrap()
}

/// A client that has learned the server's time.
async fn acquainted(fake: &Fake, lane: Lane) -> Client {
    let client = client(&[&fake.address], lane);
    client.get("warm-up").await.unwrap();
    client
}

#[tokio::test]
async fn what_is_put_is_got_and_what_is_deleted_is_not() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = client(&[&fake.address], lane);
        let receipt = kv.put("k", "v").await.unwrap();
        assert_eq!((receipt.epoch.0, receipt.n), (1, 3));
        assert_eq!(kv.get("k").await.unwrap().value, Some(Bytes::from("v")));
        kv.delete("k").await.unwrap();
        assert_eq!(kv.get("k").await.unwrap().value, None);
    }
}

#[tokio::test]
async fn requests_that_wait_together_travel_together() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = client(&[&fake.address], Lane::Session);
    let puts = (0..500).map(|i| {
        let put = kv.put(format!("k{i}"), "v");
        tokio::spawn(async move { put.await.map(|_| ()) })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap().unwrap();
    }
    assert!(fake.messages() < 500, "{} messages", fake.messages());
    assert_eq!(fake.attempts().len(), 500);
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_retried_above_the_last_window() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = acquainted(&fake, lane).await;
        fake.then(Act::Refuse("QUORUM_NOT_REACHED", Applied::Unknown));
        kv.put("k", "v").await.unwrap();
        let [first, second] = &fake.attempts()[..] else { panic!("two attempts") };
        assert_eq!((first.number, second.number), (0, 1));
        assert_eq!(first.request_id, second.request_id);
        assert_eq!((first.request_id.len(), first.lower_ns), (16, 0));
        let window = u64::try_from(ATTEMPT_WINDOW.as_nanos()).unwrap();
        assert!(first.upper_ns >= CLOCK_NS + window);
        assert_eq!(second.lower_ns, first.upper_ns);
        assert!(second.upper_ns > second.lower_ns);
    }
}

#[tokio::test]
async fn an_increment_is_tried_again_unless_it_is_to_count_once() {
    for (lane, applied) in
        LANES.into_iter().flat_map(|lane| [(lane, Applied::Unknown), (lane, Applied::No)])
    {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = acquainted(&fake, lane).await;
        fake.then(Act::Refuse("QUORUM_NOT_REACHED", applied));
        assert_eq!(kv.increment("k", -3).await.unwrap().value, Some(-3));
        assert_eq!(fake.attempts().len(), 2);
        fake.then(Act::Refuse("QUORUM_NOT_REACHED", applied));
        let once = kv.increment("k", 3).once().await;
        // What is known to have had no effect may be sent again all the same.
        let again = usize::from(applied == Applied::No);
        assert_eq!(fake.attempts().len(), 3 + again);
        assert_eq!(once.map_err(|error| error.applied()).is_ok(), applied == Applied::No);
    }
}

#[tokio::test]
async fn a_compare_and_set_says_whether_it_was_made_and_what_it_found() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = acquainted(&fake, lane).await;
        let made = kv.cas("k", "one").await.unwrap();
        assert!(made.applied && made.current.is_none());
        let refused = kv.cas("k", "two").expect_absent().await.unwrap();
        let current = refused.current.unwrap();
        assert_eq!((refused.applied, &current.value[..]), (false, &b"one"[..]));
        assert_eq!(current.stamp, made.receipt.stamp);
        assert!(!kv.cas("k", "two").expect("other").await.unwrap().applied);
        assert!(kv.cas("k", "two").expect_stamp(current.stamp).await.unwrap().applied);
        assert!(!kv.cas("k", "three").expect_stamp(current.stamp).await.unwrap().applied);
        assert!(kv.cas_delete("k").expect("two").await.unwrap().applied);
        assert!(fake.pairs().is_empty());
    }
}

#[tokio::test]
async fn a_write_that_failed_has_a_name_to_ask_with_and_to_go_on_with() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = acquainted(&fake, lane).await;
        for _ in 0..4 {
            fake.then(Act::Refuse("QUORUM_NOT_REACHED", Applied::Unknown));
        }
        let error = kv.cas("k", "v").await.unwrap_err();
        let write = *error.write().unwrap();
        let attempts = fake.attempts();
        let (first, last) = (&attempts[0], &attempts[attempts.len() - 1]);
        assert!(
            first.since_ns >= CLOCK_NS && attempts.iter().all(|a| a.since_ns == first.since_ns)
        );
        assert_eq!(kv.outcome("k", &write).await.unwrap(), Outcome::Cancelled);
        let asked = &fake.asked()[0];
        assert_eq!((&asked.request_id, asked.since_ns), (&first.request_id, first.since_ns));
        assert_eq!(asked.lower_ns, last.upper_ns);
        let parsed = write.to_string().parse().unwrap();
        assert!(kv.cas("k", "v").again(&parsed).await.unwrap().applied);
        let again = fake.attempts().pop().unwrap();
        assert_eq!((&again.request_id, again.number), (&first.request_id, 1));
        assert!(again.lower_ns >= last.upper_ns && again.since_ns == first.since_ns);
        assert!(matches!(kv.outcome("k", &write).await.unwrap(), Outcome::Applied(_)));
        assert!(kv.get("").await.unwrap_err().write().is_none());
    }
}

#[tokio::test]
async fn a_write_can_be_named_before_it_is_sent() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = acquainted(&fake, Lane::Session).await;
    let write = kv.new_write();
    kv.put("k", "v").named(&write).await.unwrap();
    kv.delete("k").again(&write).await.unwrap();
    let [first, second] = &fake.attempts()[..] else { panic!("two attempts") };
    assert_eq!((&first.request_id, first.number), (&second.request_id, 0));
    assert_eq!((second.number, second.since_ns), (1, first.since_ns));
    assert!(second.lower_ns >= first.upper_ns);
    let id = u128::from_be_bytes(first.request_id[..].try_into().unwrap());
    assert!(write.to_string().starts_with(&format!("{id:032x}-")));
}

#[tokio::test]
async fn before_server_time_is_known_only_a_write_without_effect_is_retried() {
    for lane in LANES {
        let unknown = Act::Refuse("QUORUM_NOT_REACHED", Applied::Unknown);
        let fake = Fake::start(CLOCK_NS, [unknown]).await;
        let error = client(&[&fake.address], lane).put("k", "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QuorumNotReached);
        assert_eq!(error.applied(), Applied::Unknown);
        assert_eq!(fake.attempts()[0].upper_ns, 0);

        let fake = Fake::start(CLOCK_NS, [Act::Refuse("NOT_READY", Applied::No)]).await;
        client(&[&fake.address], lane).put("k", "v").await.unwrap();
        assert_eq!(fake.attempts().len(), 2);
    }
}

#[tokio::test]
async fn the_first_write_of_a_client_asks_for_the_time_so_that_another_attempt_may_follow() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, [Act::Break]).await;
        let now = v1::RingUpdate { server_time_ns: CLOCK_NS, ..told(1, &[&fake.address], 1) };
        let (_teller, updates) = tokio::sync::watch::channel(now);
        fake.set_ring(updates);
        client(&[&Fake::nobody().await, &fake.address], lane).put("k", "v").await.unwrap();
        let [first, second] = &fake.attempts()[..] else { panic!("two attempts") };
        assert!(first.upper_ns > CLOCK_NS && second.lower_ns == first.upper_ns, "{lane:?}");
    }
}

#[tokio::test]
async fn an_outcome_once_unknown_stays_unknown_when_the_last_attempt_had_no_effect() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = acquainted(&fake, Lane::Session).await;
    fake.then(Act::Refuse("QUORUM_NOT_REACHED", Applied::Unknown));
    (0..9).for_each(|_| fake.then(Act::Refuse("OVERLOADED", Applied::No)));
    let error = kv.put("k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.applied()), (ErrorKind::Overloaded, Applied::Unknown));
}

#[tokio::test]
async fn a_broken_connection_fails_an_early_write_as_unknown_and_is_mended_for_reads() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, [Act::Break]).await;
        let kv = client(&[&fake.address], lane);
        let error = kv.put("k", "v").await.unwrap_err();
        let known = (error.kind(), error.applied());
        assert_eq!(known, (ErrorKind::Unavailable, Applied::Unknown), "{lane:?}");
        fake.then(Act::Break);
        assert_eq!(kv.get("k").await.unwrap().value, None);
    }
}

#[tokio::test]
async fn a_request_without_an_answer_ends_at_its_deadline() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, []).await;
        // Connected before the short deadlines begin: on a busy machine a connection alone may take
        // longer than they last, and a request that was never sent has another outcome.
        let kv = acquainted(&fake, lane).await;
        let short = Duration::from_millis(60);
        fake.set_silent(true);
        let write = kv.put("k", "v").timeout(short).await.unwrap_err();
        assert_eq!(write.kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(write.applied(), Applied::Unknown);
        let read = kv.get("k").timeout(short).await.unwrap_err();
        assert_eq!((read.kind(), read.applied()), (ErrorKind::DeadlineExceeded, Applied::No));
        let told = fake.timeouts();
        assert!(told.iter().skip(1).all(|ms| (1..=60).contains(ms)), "{told:?}");
        fake.set_silent(false);
        kv.get("k").await.unwrap();
    }
}

#[tokio::test]
async fn nobody_at_the_address_means_nothing_was_applied() {
    for lane in LANES {
        let kv = client(&[&Fake::nobody().await], lane);
        let error = kv.put("k", "v").await.unwrap_err();
        assert_eq!((error.kind(), error.applied()), (ErrorKind::Unavailable, Applied::No));
        assert_eq!(error.code(), "UNAVAILABLE");
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_worked_around() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = client(&[&Fake::nobody().await, &fake.address], lane);
        for _ in 0..20 {
            kv.put("k", "v").await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_a_server_said_is_not_hidden_by_another_that_is_dead() {
    let refuse = Act::Refuse("QUORUM_NOT_REACHED", Applied::No);
    let fake = Fake::start(CLOCK_NS, vec![refuse; 99]).await;
    let dead = [Fake::nobody().await, Fake::nobody().await];
    let kv = client(&[&dead[0], &fake.address, &dead[1]], Lane::Session);
    for _ in 0..10 {
        let error = kv.put("k", "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QuorumNotReached);
    }
}

#[tokio::test]
async fn an_endpoint_that_swallows_requests_does_not_cost_the_whole_timeout() {
    let mute = Fake::start(CLOCK_NS, vec![Act::Swallow; 99]).await;
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = client(&[&mute.address, &fake.address], Lane::Session);
    for _ in 0..10 {
        kv.get("k").timeout(Duration::from_secs(2)).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_that_is_slow_is_waited_for_as_long_as_another_attempt_would_have_to() {
    let fakes = [Fake::start(CLOCK_NS, []).await, Fake::start(CLOCK_NS, []).await];
    let kv = client(&[&fakes[0].address, &fakes[1].address], Lane::Session);
    // Answers come at once: an attempt that takes long is soon one too many.
    for _ in 0..20 {
        kv.put("k", "v").await.unwrap();
    }
    fakes.iter().for_each(|fake| fake.dawdle(ATTEMPT_WINDOW * 3 / 5));
    let before = kv.counts();
    kv.put("k", "w").await.unwrap();
    assert_eq!(kv.counts().attempts - before.attempts, 1);
    // One whose answer never comes is sent again when the window is over, elsewhere.
    fakes.iter().for_each(|fake| fake.dawdle(Duration::ZERO));
    for _ in 0..20 {
        kv.put("k", "v").await.unwrap();
    }
    let (clock, before) = (Clock::start(), kv.counts());
    fakes.iter().for_each(|fake| fake.dawdle(ATTEMPT_WINDOW * 2));
    kv.put("k", "w").timeout(Duration::from_secs(10)).await.unwrap();
    let took = clock.now().since(Time(0));
    assert!(kv.counts().attempts - before.attempts > 1 && took >= ATTEMPT_WINDOW, "{took:?}");
}

#[tokio::test]
async fn a_node_that_does_not_serve_sends_a_burst_on_without_a_budget_for_it() {
    for lane in LANES {
        let refusals = (0..100).map(|_| Act::Refuse("NOT_READY", Applied::No));
        let gone = Fake::start(CLOCK_NS, refusals).await;
        let serves = Fake::start(CLOCK_NS, []).await;
        let addresses = [gone.address.as_str(), serves.address.as_str()];
        let builder = Client::builder().endpoints(addresses).lane(lane);
        let kv = builder.retry_budget(0, 0).connect_lazy().unwrap();
        let gets = (0..50).map(|i| {
            let get = kv.get(format!("k{i}"));
            tokio::spawn(async move { get.await.map(|_| ()) })
        });
        for get in gets.collect::<Vec<_>>() {
            get.await.unwrap().expect("the other one serves");
        }
    }
}

#[tokio::test]
async fn without_a_token_for_a_retry_the_attempt_under_way_is_waited_for() {
    let mute = [(); 2].map(|()| Fake::start(CLOCK_NS, vec![Act::Swallow; 9]));
    let [one, other] = mute;
    let (one, other) = (one.await, other.await);
    let builder = Client::builder().endpoints([&one.address, &other.address]);
    let kv = builder.retry_budget(0, 0).connect_lazy().unwrap();
    let (timeout, clock) = (Duration::from_millis(400), Clock::start());
    kv.get("k").timeout(timeout).await.unwrap_err();
    // Given up at half of the time, it would have failed then.
    assert!(clock.now().since(Time(0)) >= timeout * 3 / 4);
    assert_eq!(kv.counts().attempts, 1);
}

#[tokio::test]
async fn abandoned_requests_leave_the_others_alone() {
    let fake = Fake::start(CLOCK_NS, vec![Act::Swallow; 200]).await;
    let kv = client(&[&fake.address], Lane::Session);
    let abandoned = (0..200).map(|_| {
        let get = kv.get("k");
        tokio::spawn(async move { get.timeout(Duration::from_millis(50)).await.is_err() })
    });
    for get in abandoned.collect::<Vec<_>>() {
        assert!(get.await.unwrap());
    }
    kv.put("k", "v").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_right_does_not_travel() {
    let kv = client(&[&Fake::nobody().await], Lane::Session);
    assert_eq!(kv.get("").await.unwrap_err().code(), "KEY_EMPTY");
    assert_eq!(kv.delete(vec![0; 4097]).await.unwrap_err().code(), "KEY_TOO_LARGE");
    let large = kv.put("k", vec![0; (1 << 20) + 1]).await.unwrap_err();
    assert_eq!((large.code(), large.applied()), ("VALUE_TOO_LARGE", Applied::No));
    assert!(Client::builder().connect_lazy().is_err());
}

#[tokio::test]
async fn scans_cross_pages_and_stop_where_they_are_told() {
    let fake = Fake::start(CLOCK_NS, []).await;
    for key in ["a1", "a2", "a3", "a4", "a5", "b1"] {
        fake.store(key, "v");
    }
    let kv = client(&[&fake.address], Lane::Session);
    let cases = [
        (kv.scan().prefix("a").page_size(2), vec!["a1", "a2", "a3", "a4", "a5"]),
        (kv.scan().from("a2").to("a4").page_size(1), vec!["a2", "a3"]),
        (kv.scan().after("a2").limit(3).page_size(2), vec!["a3", "a4", "a5"]),
        (kv.scan().limit(0), vec![]),
        (kv.scan().from("b1"), vec!["b1"]),
        (kv.scan().from("c"), vec![]),
    ];
    for (scan, expected) in cases {
        let entries = scan.entries().collect::<Vec<_>>().await;
        let keys = entries.into_iter().map(|entry| entry.unwrap().key).collect::<Vec<_>>();
        assert_eq!(keys, expected);
    }
}

#[tokio::test]
async fn a_scan_whose_stream_breaks_goes_on_where_it_stood() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let expected = ["k0", "k1", "k2", "k3", "k3x", "k4", "k5", "k6", "k7"];
    expected.iter().for_each(|key| fake.store(key, "v"));
    let kv = client(&[&fake.address], Lane::Session);
    let read = async || {
        let entries = kv.scan().page_size(2).entries().collect::<Vec<_>>().await;
        let keys = entries.into_iter().map(|entry| entry.unwrap().key);
        keys.map(|key| String::from_utf8(key.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(read().await, expected);
    let _armed = crate::testing::arm_mutant("stream-resumes-late");
    assert_ne!(read().await, expected);
}

#[tokio::test]
async fn a_node_is_asked_about_the_cluster_and_itself() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = client(&[&fake.address], Lane::Session);
    let status = kv.status().await.unwrap();
    assert_eq!((status.nodes.len(), status.me.as_str()), (3, "n1"));
    let location = kv.locate("k").table("t").await.unwrap();
    assert_eq!(location.owners, ["n3", "n1"]);
    assert_eq!(kv.locate("").await.unwrap_err().code(), "KEY_EMPTY");
    let known = kv.explain("k").table("t").await.unwrap();
    assert_eq!((known.me.as_str(), known.epoch.0, known.changed_at.0), ("n1", 4, 2));
    let owner = &known.owners[0];
    let Ok(OwnCopy::Version(Some(version))) = &owner.copy else { panic!("{known:?}") };
    assert_eq!((version.bytes, owner.hints[0].0.as_str()), (3, "n1"));
    assert_eq!((known.agree, known.silent[0].0.as_str()), (Some(false), "n2"));
    assert_eq!(kv.explain("").await.unwrap_err().code(), "KEY_EMPTY");
    kv.flush().await.unwrap();
    assert_eq!(fake.flushes(), 1);
    kv.compact().await.unwrap();
    assert_eq!((fake.flushes(), fake.compactions()), (1, 1));
    let hints = kv.hints().await.unwrap();
    assert_eq!((hints.lines[0].totals.custody, hints.dirty[0].partition), (2, 5));
    assert_eq!(kv.replay_hints().target("n3").await.unwrap().touched.count, 7);
    kv.drop_hints("n3").await.unwrap();
    assert_eq!(fake.hints_dropped(), ["n3"]);
    assert_eq!(kv.version().await.unwrap().version, "9.9.9");
    fake.set_unavailable(vec![3]);
    assert_eq!(kv.status().await.unwrap().unavailable, [3]);
    assert!(fake.pairs().is_empty());
}

#[tokio::test]
async fn a_change_of_a_plan_is_sent_again_under_the_same_id() {
    let fake = Fake::start(CLOCK_NS, [Act::Break]).await;
    fake.set_topology([Default::default()]);
    let kv = client(&[&fake.address], Lane::Session);
    kv.plans().stage_join("n4".parse().unwrap()).await.unwrap();
    let [first, second] = &fake.changes()[..] else { panic!("two attempts") };
    assert_eq!((first.request_id.len(), &first.request_id), (16, &second.request_id));
    assert_eq!(first.change, second.change);
}

/// A ring of these nodes, each partition owned by one of them.
fn told(epoch: u64, members: &[&str], owner: u32) -> v1::RingUpdate {
    use v1::ring_update::{Class, Member, Members, Placement, Table};
    let member = |(id, address): (u32, &&str)| Member {
        id,
        name: format!("n{id}"),
        address: (*address).to_owned(),
        zone: "a".to_owned(),
        state: "alive".to_owned(),
        role: "active".to_owned(),
        serving: true,
    };
    let class = Class {
        n: 1,
        r_min: 1,
        w_min: 1,
        owner_counts: vec![1, 1],
        owners: vec![owner, owner],
        moving: Vec::new(),
    };
    let placement = Placement {
        cluster_id: vec![7; 16].into(),
        cluster_name: "fake".to_owned(),
        ring: vec![owner, owner],
        classes: vec![class],
        tables: vec![Table { name: "default".to_owned(), class: 0 }],
    };
    let list = (1..).zip(members).map(member).collect();
    let members = Some(Members { list });
    v1::RingUpdate {
        epoch,
        members,
        placement: Some(placement),
        units: Vec::new(),
        server_time_ns: 0,
    }
}

#[tokio::test]
async fn requests_follow_the_owner_as_the_ring_changes() {
    for lane in LANES {
        let (one, two) = (Fake::start(CLOCK_NS, []).await, Fake::start(CLOCK_NS, []).await);
        let members = [one.address.as_str(), two.address.as_str()];
        let (teller, updates) = tokio::sync::watch::channel(told(1, &members, 2));
        one.set_ring(updates.clone());
        two.set_ring(updates);
        let kv = client(&[&one.address], lane);
        let mut watch = kv.watch_ring();
        assert_eq!(watch.next().await.epoch.0, 1);
        for number in 0..10 {
            kv.put(format!("a{number}"), "v").await.unwrap();
        }
        assert_eq!((one.pairs().len(), two.pairs().len()), (0, 10));
        teller.send(told(2, &members, 1)).unwrap();
        assert_eq!(watch.next().await.epoch.0, 2);
        kv.put("b", "v").await.unwrap();
        assert_eq!((one.pairs().len(), two.pairs().len()), (1, 10));
        // What is up to one node is asked of the address that was given.
        kv.flush().await.unwrap();
        assert_eq!((one.flushes(), two.flushes()), (1, 0));
        assert_eq!(kv.ring().await.unwrap().epoch.0, 2);
        // An owner that has gone is worked around.
        teller.send(told(3, &[&one.address, &Fake::nobody().await], 2)).unwrap();
        assert_eq!(watch.next().await.epoch.0, 3);
        kv.put("c", "v").await.unwrap();
        assert_eq!(one.pairs().len(), 2);
    }
}

#[tokio::test]
async fn a_client_that_does_not_follow_the_ring_asks_the_addresses_it_was_given() {
    let (one, two) = (Fake::start(CLOCK_NS, []).await, Fake::start(CLOCK_NS, []).await);
    let members = [one.address.as_str(), two.address.as_str()];
    let (_teller, updates) = tokio::sync::watch::channel(told(1, &members, 2));
    one.set_ring(updates);
    let builder = Client::builder().endpoints([&one.address]).follow_ring(false);
    let kv = builder.connect_lazy().unwrap();
    assert_eq!(kv.watch_ring().next().await.members.len(), 2);
    kv.put("k", "v").await.unwrap();
    assert_eq!((one.pairs().len(), two.pairs().len()), (1, 0));
}
