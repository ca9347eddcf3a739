//! The closed loops: each caller asks as soon as it has been answered.

use core::fmt;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use roundtable::load::keys::{Distribution, Keys};
use roundtable::load::latency::Latency;
use roundtable::load::process;
use tokio::task::JoinSet;

use crate::fleet::{Fleet, Target};

/// Records of 100 bytes; of 1 KiB there are a fifth as many.
pub(crate) const RECORDS: u64 = 100_000;
/// YCSB's skew.
const SKEW: f64 = 0.99;
/// Callers that fill.
const FILLERS: u64 = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// YCSB A: half reads, half writes.
    Half,
    /// YCSB C.
    Reads,
    /// Writes only.
    Writes,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) mix: Mix,
    pub(crate) clients: u32,
    pub(crate) bytes: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mix = match self.mix {
            Mix::Half => "A",
            Mix::Reads => "C",
            Mix::Writes => "W",
        };
        let text = format!("{mix} {} B, {} clients", self.bytes, self.clients);
        f.pad(&text)
    }
}

/// One measurement of one system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) server_us: f64,
    pub(crate) client_us: f64,
}

/// Keys of 16 bytes.
fn keys(bytes: usize) -> anyhow::Result<Keys> {
    let (prefix, count) = if bytes == 100 { ("key-", RECORDS) } else { ("big-", RECORDS / 5) };
    Keys::new(prefix, count, Distribution::Zipfian { theta: SKEW }).map_err(anyhow::Error::msg)
}

/// A value that does not compress, and is not that of another write.
fn value(random: &mut fastrand::Rng, bytes: usize) -> Bytes {
    let mut value = vec![0; bytes];
    random.fill(&mut value);
    value.into()
}

/// Writes all records, by the last of the ways.
pub(crate) async fn fill(targets: &[Target]) -> anyhow::Result<()> {
    let target = targets.last().context("no way to ask")?;
    let mut tasks = JoinSet::new();
    let sizes = [(100, keys(100)?), (1024, keys(1024)?)];
    for lane in 0..FILLERS {
        let (target, sizes) = (target.clone(), sizes.clone());
        tasks.spawn(async move {
            let worker = usize::try_from(lane)?;
            let mut random = fastrand::Rng::with_seed(lane);
            for (bytes, keys) in sizes {
                for index in (lane..keys.count()).step_by(usize::try_from(FILLERS)?) {
                    let key = keys.key(index).bytes().clone();
                    target.put(worker, key, value(&mut random, bytes)).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// One measurement.
#[allow(clippy::cast_precision_loss, reason = "rates, not accounts")]
pub(crate) async fn measure(
    fleet: &Fleet,
    target: &Target,
    row: &Row,
    length: Duration,
) -> anyhow::Result<Measured> {
    // Connections, branch predictors, caches.
    drive(target, row, length / 8).await?;
    let own_cpu = || process::own_cpu().unwrap_or_default().as_secs_f64();
    let (server, own, began) = (fleet.cpu(), own_cpu(), Instant::now());
    let latency = drive(target, row, length).await?;
    let took = began.elapsed().as_secs_f64();
    let (server, own) = (fleet.cpu() - server, own_cpu() - own);
    let operations = latency.count().max(1) as f64;
    let ms = |quantile| latency.quantile(quantile).as_secs_f64() * 1e3;
    Ok(Measured {
        rate: operations / took,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        server_us: server * 1e6 / operations,
        client_us: own * 1e6 / operations,
    })
}

/// All callers for so long; how long each operation took.
async fn drive(target: &Target, row: &Row, length: Duration) -> anyhow::Result<Latency> {
    let mut tasks = JoinSet::new();
    let keys = keys(row.bytes)?;
    let until = Instant::now() + length;
    for client in 0..row.clients {
        let (target, row, keys) = (target.clone(), *row, keys.clone());
        tasks.spawn(async move {
            let mut random = fastrand::Rng::new();
            let worker = usize::try_from(client)?;
            let mut latency = Latency::default();
            while Instant::now() < until {
                let key = keys.draw(&mut random).bytes().clone();
                let reads = match row.mix {
                    Mix::Half => random.bool(),
                    Mix::Reads => true,
                    Mix::Writes => false,
                };
                let began = Instant::now();
                if reads {
                    let length = target.get(worker, key).await?;
                    anyhow::ensure!(length == row.bytes, "a value of {length} bytes");
                } else {
                    target.put(worker, key, value(&mut random, row.bytes)).await?;
                }
                latency.record(began.elapsed());
            }
            anyhow::Ok(latency)
        });
    }
    let mut all = Latency::default();
    while let Some(done) = tasks.join_next().await {
        all.merge(&done??);
    }
    Ok(all)
}
