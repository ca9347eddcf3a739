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

#[tokio::test]
async fn an_atomic_batch_is_one_request_for_each_table_and_w() {
    for lane in LANES {
        let fake = Fake::start(CLOCK_NS, []).await;
        let kv = acquainted(&fake, lane).await;
        kv.put("{t}c", "old").await.unwrap();
        let batch = kv.batch().atomic().with(kv.put("{t}a", "1")).with(kv.delete("{t}c"));
        let batch = batch.with(kv.put("{t}b", "2").ttl(Duration::from_secs(9)));
        let outcomes = batch.with(kv.put("{t}a", "3").table("other")).await;
        assert!(matches!(outcomes[1], Ok(BatchReply::Delete(_))));
        assert!(matches!(outcomes[3], Ok(BatchReply::Put(_))) && outcomes.len() == 4);
        let mut sent = fake.batches();
        sent.sort();
        assert_eq!(sent, [vec!["{t}a"], vec!["{t}a", "{t}c", "{t}b"]]);
        assert!(!fake.pairs().contains_key(&b"{t}c"[..]));
    }
}

#[tokio::test]
async fn what_is_made_is_not_sent_again_and_what_is_not_known_is() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = acquainted(&fake, Lane::Session).await;
    let before = fake.attempts().len();
    fake.then(Act::Part(1, "QUORUM_NOT_REACHED", Applied::Unknown));
    fake.then(Act::Part(1, "OVERLOADED", Applied::No));
    let batch = kv.batch().atomic().with(kv.put("a", "1")).with(kv.put("b", "2"));
    let outcomes = batch.with(kv.put("c", "3")).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(fake.batches(), [vec!["a", "b", "c"], vec!["b", "c"], vec!["c"]]);
    // Tries of one batch, each above the one before it that may have been made.
    let tries = &fake.attempts()[before..];
    assert!(tries.iter().all(|attempt| attempt.request_id == tries[0].request_id));
    assert_eq!(tries[1].lower_ns, tries[0].upper_ns);
}

#[tokio::test]
async fn what_fails_for_good_is_told_of_those_alone() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = acquainted(&fake, Lane::Session).await;
    fake.then(Act::Part(1, "KIND_MISMATCH", Applied::No));
    let batch = kv.batch().atomic().with(kv.put("a", "1")).with(kv.put("b", "2"));
    let outcomes = batch.await;
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1].as_ref().unwrap_err().code(), "KIND_MISMATCH");
    assert_eq!(fake.batches().len(), 1);
}

#[tokio::test]
async fn an_item_that_cannot_be_part_of_it_keeps_all_from_being_sent() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = acquainted(&fake, Lane::Session).await;
    let many = (0..257).fold(kv.batch(), |batch, at| batch.with(kv.put(format!("{at}"), "v")));
    let cases = [
        (kv.batch().with(kv.put("a", "1")).with(kv.get("b")), 1, "REQUEST_MALFORMED"),
        (kv.batch().with(kv.put("a", "1")).with(kv.put("b", "2").sloppy()), 1, "REQUEST_MALFORMED"),
        (kv.batch().with(kv.put("a", "1")).with(kv.increment("b", 2)), 1, "REQUEST_MALFORMED"),
        (kv.batch().with(kv.put("a", "1")).with(kv.put("", "2")), 1, "KEY_EMPTY"),
        (many, 0, "BATCH_TOO_LARGE"),
    ];
    for (batch, at, code) in cases {
        let outcomes = batch.atomic().await;
        assert_eq!(outcomes[at].as_ref().unwrap_err().code(), code);
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().applied(), Applied::No);
        }
    }
    assert!(fake.batches().is_empty());
}

#[tokio::test]
async fn increments_are_requests_of_a_batch_like_others() {
    let fake = Fake::start(CLOCK_NS, []).await;
    let kv = acquainted(&fake, Lane::Session).await;
    let outcomes = kv.batch().with(kv.increment("hits", 3).table("tallies")).await;
    assert!(matches!(&outcomes[0], Ok(BatchReply::Increment(made)) if made.value == Some(3)));
}
