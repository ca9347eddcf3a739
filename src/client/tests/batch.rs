//! Many requests at once.

use std::time::Duration;

use bytes::Bytes;

use super::fake::{Act, Fake};
use super::{CLOCK_NS, LANES, acquainted, client};
use crate::client::{Applied, BatchReply, Lane};
use crate::testing::arm_mutant;

#[tokio::test]
async fn each_request_of_a_batch_has_its_own_outcome_in_the_order_given() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = acquainted(&fake, lane).await;
        kv.put("there", "v").await.unwrap();
        let mut batch = kv.batch().with(kv.get("there")).with(kv.get("")).with(kv.delete("gone"));
        for number in 0..600 {
            batch = batch.with(kv.put(format!("k{number}"), "new"));
        }
        let outcomes = batch.with(kv.get("absent")).await;
        assert_eq!(outcomes.len(), 604);
        let got = |at: usize| match &outcomes[at] {
            Ok(BatchReply::Get(reply)) => reply.value.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((got(0), got(603)), (Some(Bytes::from("v")), None));
        assert_eq!(outcomes[1].as_ref().unwrap_err().code(), "KEY_EMPTY");
        assert!(matches!(outcomes[2], Ok(BatchReply::Delete(_))));
        assert!(outcomes[3..603].iter().all(|outcome| matches!(outcome, Ok(BatchReply::Put(_)))));
        assert_eq!(fake.pairs().len(), 601);
    }
}

#[tokio::test]
async fn requests_for_one_key_go_one_after_the_other() {
    let ends = async || {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = acquainted(&fake, Lane::Session).await;
        // The first write is answered after the others have had the time to overtake it.
        fake.then(Act::Refuse("QUORUM_NOT_REACHED", Applied::Unknown));
        let mut batch = kv.batch();
        for number in 0..4 {
            batch = batch.with(kv.put("k", format!("{number}")));
        }
        let outcomes = batch.with(kv.get("k")).await;
        assert!(outcomes.iter().all(Result::is_ok));
        fake.pairs().get(&b"k"[..]).cloned().unwrap()
    };
    assert_eq!(ends().await, "3");
    let _armed = arm_mutant("batch-keys-overtake");
    assert_eq!(ends().await, "0");
}

#[tokio::test]
async fn what_has_no_time_left_is_not_sent() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = acquainted(&fake, Lane::Session).await;
    fake.then(Act::Swallow);
    let first = kv.put("k", "1").timeout(Duration::from_secs(9));
    let batch = kv.batch().with(first).with(kv.put("k", "2")).with(kv.get("other"));
    let outcomes = batch.timeout(Duration::from_millis(200)).await;
    let told = |at: usize| outcomes[at].as_ref().map_err(|error| (error.code(), error.applied()));
    assert_eq!(told(0).unwrap_err(), ("DEADLINE_EXCEEDED", Applied::Unknown));
    assert_eq!(told(1).unwrap_err(), ("DEADLINE_EXCEEDED", Applied::No));
    assert!(told(2).is_ok());
    assert!(fake.pairs().is_empty());
}

#[tokio::test]
async fn many_keys_are_read_at_once() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = client(&[&fake.address], Lane::Session);
    for key in ["a", "c"] {
        kv.put(key, key).await.unwrap();
    }
    let found = kv.get_many(["a", "b", "c", "a"]).await;
    let values: Vec<_> = found.into_iter().map(|found| found.unwrap().value).collect();
    assert_eq!(values, [Some("a".into()), None, Some("c".into()), Some("a".into())]);
}
