//! The generator against a scripted server: what it measures, counts and notices.

use super::*;
use crate::client::tests::fake::{Act, Fake};
use crate::load::keys::Distribution;
use crate::load::payload;
use crate::types::Key;

const MS: Duration = Duration::from_millis(1);

async fn fake(script: Vec<Act>) -> (Fake, Client) {
    let fake = Fake::start(1_000_000_000_000, script).await;
    let client = Client::builder().endpoints([&fake.address]).attempts(1);
    let client = client.connect_lazy().unwrap();
    (fake, client)
}

fn plan(mix: Mix, pace: Pace, operations_max: Option<u64>) -> Plan {
    let keys = Keys::new("k", 10, Distribution::Uniform).unwrap();
    let duration = Duration::from_secs(3600);
    Plan { mix, pace, operations_max, duration, verify: true, workers: 4, ..Plan::new(keys) }
}

const fn even(rate: f64) -> Pace {
    Pace::Open { rate, spacing: Spacing::Even }
}

/// A second of 200 operations, in which the server stalls once for 300 ms.
async fn stalled() -> Latency {
    let (fake, client) = fake(Vec::new()).await;
    client.get("k").await.unwrap();
    let plan = Plan { workers: 1, ..plan(Mix::YCSB_C, even(200.0), Some(200)) };
    let stall = async {
        tokio::time::sleep(300 * MS).await;
        fake.dawdle(300 * MS);
        tokio::time::sleep(150 * MS).await;
        fake.dawdle(Duration::ZERO);
    };
    let (report, ()) = tokio::join!(run(&client, &plan), stall);
    assert_eq!(report.outcomes[&Kind::Get].succeeded(), 200);
    report.outcomes[&Kind::Get].latency.clone()
}

#[tokio::test]
async fn a_server_that_stalls_is_charged_with_all_that_was_due_meanwhile() {
    let latency = stalled().await;
    assert!(latency.quantile(0.99) > 200 * MS, "{:?}", latency.quantile(0.99));
    // 60 of 200 were due in the stall: a tenth of all waited for two thirds of it, or longer.
    assert!(latency.quantile(0.9) > 150 * MS, "{:?}", latency.quantile(0.9));
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn planted_measuring_from_when_a_request_was_sent_hides_the_stall() {
    let _armed = crate::testing::arm_mutant("load-latency-from-sent");
    let latency = stalled().await;
    assert!(latency.quantile(0.9) < 100 * MS, "{:?}", latency.quantile(0.9));
}

#[tokio::test]
async fn a_cut_run_ends_with_its_time_and_counts_what_it_gave_up() {
    let (fake, client) = fake(Vec::new()).await;
    fake.dawdle(100 * MS);
    let slow = Plan {
        workers: 2,
        duration: 500 * MS,
        is_cut: true,
        ..plan(Mix::YCSB_C, even(1000.0), None)
    };
    let report = run(&client, &slow).await;
    let asked = report.outcomes[&Kind::Get].succeeded();
    assert_eq!(asked + report.unstarted, 500);
    assert!((2..=20).contains(&asked) && report.elapsed < 3000 * MS, "{report:?}");
    // All but the first two found no free worker.
    assert!(report.timer_lag.count() <= 2 && report.lag.count() == asked);
}

#[tokio::test]
async fn a_cut_run_that_is_stopped_leaves_what_is_not_due_yet_alone() {
    let (_fake, client) = fake(Vec::new()).await;
    let stop = Arc::<AtomicBool>::default();
    let rare = Plan {
        is_cut: true,
        stop: Some(stop.clone()),
        ..plan(Mix::YCSB_C, even(1.0 / 3000.0), None)
    };
    let stopper = async {
        tokio::time::sleep(50 * MS).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (report, ()) = tokio::join!(run(&client, &rare), stopper);
    assert_eq!((report.outcomes[&Kind::Get].succeeded(), report.unstarted), (1, 0));
}

#[tokio::test]
async fn the_warm_up_is_asked_and_not_counted() {
    let (fake, client) = fake(Vec::new()).await;
    let series = Arc::new(Mutex::new(Series::new(100 * MS)));
    let warm = Plan {
        warmup: 200 * MS,
        duration: 300 * MS,
        series: Some(series.clone()),
        ..plan(Mix { put: 1, ..Mix::NONE }, even(100.0), None)
    };
    let report = run(&client, &warm).await;
    assert_eq!(report.outcomes[&Kind::Put].succeeded(), 30);
    assert_eq!(report.lag.count(), 30);
    assert_eq!(fake.attempts().len(), 50);
    let counts: Vec<u64> = series.lock().stretches().iter().map(|it| it.succeeded).collect();
    assert_eq!(counts, [10, 10, 10]);
    assert!(report.elapsed < 450 * MS, "{:?}", report.elapsed);
}

#[tokio::test]
async fn every_kind_is_asked_and_its_own_values_are_right() {
    let (fake, client) = fake(Vec::new()).await;
    let all = Mix { get: 1, put: 1, delete: 1, scan: 1, insert: 1, modify: 1, increment: 1 };
    let plan = plan(all, Pace::Closed, Some(700));
    let report = run_over(&[client.clone(), client], &plan).await;
    let succeeded = |kind| report.outcomes[&kind].succeeded();
    assert!(Kind::ALL.iter().all(|kind| succeeded(*kind) > 50), "{report:?}");
    assert_eq!(report.outcomes.values().map(Outcomes::failed).sum::<u64>(), 0, "{report:?}");
    assert_eq!(plan.growth.lock().present(), 10 + succeeded(Kind::Insert));
    let scans = &report.outcomes[&Kind::Scan];
    assert!(scans.entries > 0 && scans.entries <= 100 * scans.succeeded());
    // Some keys were read before anybody wrote them.
    assert!(report.outcomes[&Kind::Get].absent > 0);
    assert!(fake.pairs().iter().all(|(key, value)| payload::is_of(key, value)));
}

#[tokio::test]
async fn a_value_of_another_key_is_an_error_also_in_the_warm_up() {
    let (_fake, client) = fake(Vec::new()).await;
    let keys = Keys::new("k", 10, Distribution::Uniform).unwrap();
    let other = payload::value(&Key::new("other").unwrap(), 1, 64).into_bytes();
    for index in 0..10 {
        client.put(keys.key(index).bytes().clone(), other.clone()).await.unwrap();
    }
    let mix = Mix { get: 1, scan: 1, modify: 1, ..Mix::NONE };
    let plan =
        Plan { warmup: Duration::from_secs(60), workers: 1, ..plan(mix, Pace::Closed, Some(12)) };
    let report = run(&client, &plan).await;
    let wrong: u64 = report.outcomes.values().filter_map(|it| it.errors.get(WRONG_VALUE)).sum();
    assert!(wrong >= 8, "{report:?}");
    assert_eq!(report.outcomes.values().map(Outcomes::succeeded).sum::<u64>(), 0);
}

#[tokio::test]
async fn increments_are_asked_of_counters_beside_the_values() {
    let (fake, client) = fake(Vec::new()).await;
    let mix = Mix { increment: 1, put: 1, ..Mix::NONE };
    let report = run(&client, &plan(mix, Pace::Closed, Some(200))).await;
    let done = |kind| report.outcomes.get(&kind).map_or(0, |outcomes| outcomes.succeeded());
    assert_eq!(done(Kind::Increment) + done(Kind::Put), 200);
    assert!(done(Kind::Increment) > 50 && done(Kind::Put) > 50);
    // What was put is no counter's.
    assert!(fake.pairs().keys().all(|key| !key.starts_with(b"+")));
}
