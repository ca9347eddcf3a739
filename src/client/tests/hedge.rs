//! A second node for reads that take long.

use std::time::Duration;

use super::super::{Client, Clock, Counts};
use super::fake::{Act, Fake};
use super::{CLOCK_NS, LANES};
use crate::types::Time;

/// Two servers, and a client that has heard from both how fast they are.
async fn two(hedge: u8, scripts: [Vec<Act>; 2]) -> ([Fake; 2], Client) {
    let [one, other] = scripts;
    let fakes = [Fake::start(CLOCK_NS, one).await, Fake::start(CLOCK_NS, other).await];
    let addresses = fakes.iter().map(|fake| fake.address.clone());
    let builder = Client::builder().endpoints(addresses).follow_ring(false).hedge(hedge);
    let kv = builder.timeout(Duration::from_secs(20)).connect_lazy().unwrap();
    for _ in 0..40 {
        kv.get("k").await.unwrap();
    }
    (fakes, kv)
}

fn since(kv: &Client, then: Counts) -> (u64, u64) {
    let now = kv.counts();
    (now.attempts - then.attempts, now.hedges - then.hedges)
}

#[tokio::test]
async fn a_read_of_a_node_that_stands_still_is_answered_by_another() {
    let (fakes, kv) = two(5, [Vec::new(), Vec::new()]).await;
    let stall = Duration::from_secs(15);
    fakes[0].dawdle(stall);
    let (before, clock) = (kv.counts(), Clock::start());
    for _ in 0..30 {
        kv.get("k").await.unwrap();
    }
    let (_, hedges) = since(&kv, before);
    assert!(hedges > 0, "no second node was asked");
    assert!(clock.now().since(Time(0)) < stall, "the one that stands still was waited for");
}

#[tokio::test]
async fn no_second_node_is_asked_where_that_is_off_or_there_is_no_other() {
    let (fakes, kv) = two(0, [Vec::new(), Vec::new()]).await;
    fakes.iter().for_each(|fake| fake.dawdle(Duration::from_millis(20)));
    for _ in 0..10 {
        kv.get("k").await.unwrap();
    }
    assert_eq!(kv.counts().hedges, 0);
    let alone = Fake::start(CLOCK_NS, []).await;
    let kv = Client::builder().endpoints([&alone.address]).connect_lazy().unwrap();
    for _ in 0..20 {
        kv.get("k").await.unwrap();
    }
    alone.dawdle(Duration::from_millis(30));
    kv.get("k").await.unwrap();
    assert_eq!(kv.counts().hedges, 0);
}

#[tokio::test]
async fn writes_are_never_under_way_twice() {
    for lane in LANES {
        let fakes = [Fake::start(CLOCK_NS, []).await, Fake::start(CLOCK_NS, []).await];
        let addresses = fakes.iter().map(|fake| fake.address.clone());
        let kv = Client::builder().endpoints(addresses).hedge(100).lane(lane);
        let kv = kv.connect_lazy().unwrap();
        for _ in 0..20 {
            kv.put("k", "v").await.unwrap();
        }
        fakes.iter().for_each(|fake| fake.dawdle(Duration::from_millis(40)));
        let before = kv.counts();
        kv.put("k", "w").await.unwrap();
        kv.delete("k").await.unwrap();
        assert_eq!(since(&kv, before).1, 0);
    }
}

#[tokio::test]
async fn a_second_node_that_fails_is_no_answer_while_the_first_may_still_come() {
    // The one answers late, the other with an error: whoever was asked first, what comes is the value.
    let (fakes, kv) = two(100, [Vec::new(), Vec::new()]).await;
    fakes[0].store("k", "v");
    for _ in 0..100 {
        fakes[0].dawdle(Duration::ZERO);
        // So many quick ones that a late one stands out.
        for _ in 0..30 {
            kv.get("k").await.unwrap();
        }
        fakes[0].dawdle(Duration::from_millis(45));
        fakes[1].then(Act::Refuse("QUORUM_NOT_REACHED", crate::message::Applied::No));
        let before = kv.counts();
        let got = kv.get("k").await.unwrap();
        assert!(got.value.is_none_or(|value| value == "v"));
        if since(&kv, before) == (1, 1) {
            return;
        }
    }
    panic!("no second node was asked");
}

#[tokio::test]
async fn where_both_have_failed_neither_is_asked_next() {
    let (mut seconds, mut failed) = (0, 0);
    for _ in 0..12 {
        let fakes = [
            Fake::start(CLOCK_NS, []).await,
            Fake::start(CLOCK_NS, []).await,
            Fake::start(CLOCK_NS, []).await,
        ];
        let addresses = fakes.iter().map(|fake| fake.address.clone());
        let builder = Client::builder().endpoints(addresses).follow_ring(false).hedge(100);
        let kv = builder.attempts(2).retry_budget(100, 100).connect_lazy().unwrap();
        for _ in 0..60 {
            kv.get("k").await.unwrap();
        }
        for fake in &fakes[..2] {
            fake.dawdle(Duration::from_millis(45));
            for _ in 0..20 {
                fake.then(Act::Refuse("QUORUM_NOT_REACHED", crate::message::Applied::No));
            }
        }
        for _ in 0..5 {
            failed += u32::from(kv.get("k").await.is_err());
        }
        seconds += kv.counts().hedges;
    }
    assert!(seconds > 10, "a second node was asked {seconds} times");
    // Where the machine is busy no second one may be asked. If the first were asked again, ten would fail.
    assert!(failed < 5, "{failed} of 60");
}
