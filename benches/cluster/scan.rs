//! What a scan costs the servers: all pairs as one stream, beside the same pages asked for one by one.

use std::time::{Duration, Instant};

use roundtable::client::{Client, Lane};
use tokio_stream::StreamExt;

use crate::fleet::{Fleet, System};

/// Bytes of a value.
const VALUE: usize = 100;
/// Pages that are asked for one by one.
const PAGES: u64 = 200;
/// Writers that fill the cluster.
const WRITERS: u64 = 64;

/// Fills three nodes and scans them, for so long if that is asked for; the text is for people.
#[allow(clippy::cast_precision_loss, clippy::disallowed_methods, reason = "figures for people")]
pub(crate) async fn run(quick: bool, hold: Option<Duration>) -> String {
    let pairs: u64 = if quick { 100_000 } else { 1_000_000 };
    let fleet = Fleet::start(System::Interval).await;
    fill(&fleet, pairs).await;
    let client = fleet.client(Lane::Session);
    let mut text = format!("{pairs} pairs of {VALUE} B on three nodes, r = 2, 500 a page\n");
    let mut line = |what: &str, count: u64, began: Instant, cpu: f64| {
        let (took, used) = (began.elapsed().as_secs_f64(), fleet.cpu() - cpu);
        let (rate, each) = (count as f64 / took, count as f64 / used);
        let page = used * 1e6 / (count as f64 / 500.0);
        text +=
            &format!("{what:<14} {rate:>9.0} pairs/s {each:>9.0} a core {page:>7.0} us a page\n");
    };
    let filled = Instant::now();
    if hold.is_some() {
        eprintln!("{}: processes {}", fleet.system.name(), fleet.pids());
    }
    for round in 0.. {
        if round >= 2 && hold.is_none_or(|hold| filled.elapsed() >= hold) {
            break;
        }
        let (began, cpu) = (Instant::now(), fleet.cpu());
        let mut count = 0;
        let mut pages = client.scan().prefix("s").pages();
        while let Some(page) = pages.next().await {
            count += page.expect("a page").entries.len() as u64;
        }
        assert_eq!(count, pairs, "each pair once");
        line("a stream", count, began, cpu);
    }
    let (began, cpu) = (Instant::now(), fleet.cpu());
    let (mut count, mut after) = (0, bytes::Bytes::new());
    for _ in 0..PAGES.min(pairs / 500) {
        let mut pages = client.scan().prefix("s").after(after.clone()).limit(500).pages();
        let page = pages.next().await.expect("a page").expect("a page");
        count += page.entries.len() as u64;
        after = page.entries.last().expect("entries").key.clone();
    }
    line("page by page", count, began, cpu);
    text
}

async fn fill(fleet: &Fleet, pairs: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client: Client = fleet.client(Lane::Session);
        tasks.spawn(async move {
            let mut number = writer;
            while number < pairs {
                let key = format!("s{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                while client.put(key.clone(), vec![b'v'; VALUE]).await.is_err() {}
                number += WRITERS;
            }
        });
    }
    tasks.join_all().await;
}
