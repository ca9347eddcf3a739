//! `kvctl bench run`: fills, warms up, measures while somebody may watch, and reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use indicatif::ProgressBar;
use parking_lot::Mutex;
use serde_json::json;

use crate::client::{Client, Clock, Counts, Entropy, Status};
use crate::load::generator::{Plan, Report, run_over};
use crate::load::series::Series;
use crate::types::Time;

use crate::cli::Context;
use crate::cli::args::Format;
use crate::cli::exit::Failure;
use crate::cli::grid::grouped;
use crate::cli::output::Output;

use super::args::RunArgs;
use super::machine::Machine;
use super::results::{Beside, Cluster, Measured, Results, latency};
use super::servers::Watch;
use super::{fill, html, json, text, write_file};

/// How long a stretch of the series is, and how often the servers are looked at.
const STRETCH: Duration = Duration::from_secs(1);

/// Runs a workload.
pub(super) async fn run(
    context: &Context<'_>,
    args: &RunArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let plan = args.plan(context.table(), Entropy::default().draw())?;
    let clients = clients(context, args)?;
    let (status, cluster) = tokio::select! {
        prepared = prepare(&clients, args, &plan, output) => prepared?,
        _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted()),
    };
    if args.only_loads() {
        return Ok(());
    }
    let begun = begun();
    let measured = Run::new(&clients, plan.clone(), &status).measure(output).await?;
    let settings = args.settings(&plan, context.timeout());
    let results = Results::new(begun, (settings, cluster, Machine::here()), measured);
    show(&results, args, output)?;
    judge(&results.measured)
}

fn clients(context: &Context<'_>, args: &RunArgs) -> Result<Vec<Client>, Failure> {
    let make = |_| {
        let builder = Client::builder().endpoints(&context.global.endpoints);
        let builder = builder.timeout(context.timeout()).attempts(args.attempts);
        Ok(builder.follow_ring(!args.only_endpoints).connect_lazy()?)
    };
    (0..args.clients()).map(make).collect()
}

/// Finds out who is there, and writes all keys if that is wanted.
async fn prepare(
    clients: &[Client],
    args: &RunArgs,
    plan: &Plan,
    output: &mut Output,
) -> Result<(Status, Cluster), Failure> {
    let Some(client) = clients.first() else { return Err(Failure::internal("no client")) };
    let status = client.status().await?;
    let cluster = Cluster {
        name: status.cluster_name.clone(),
        nodes: status.nodes.iter().filter(|node| node.state != "left").count() as u64,
        client_version: env!("CARGO_PKG_VERSION").to_owned(),
        server_version: client.version().await.ok().map(|version| version.version),
    };
    if args.loads() {
        let seconds = fill::fill(clients, plan, output).await?;
        let keys = plan.keys.count();
        if args.only_loads() && output.format().is_json() {
            output.json(&json!({ "loaded": keys, "seconds": seconds }))?;
        } else if args.only_loads() {
            output.line(&format!("loaded {keys} keys in {seconds:.1} s"))?;
        } else {
            output.note(&format!("loaded {} keys in {seconds:.1} s", grouped(keys)));
        }
    }
    Ok((status, cluster))
}

#[allow(clippy::disallowed_methods, reason = "a date for people, which decides nothing")]
fn begun() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// A run under way.
struct Run<'a> {
    clients: &'a [Client],
    plan: Plan,
    series: Arc<Mutex<Series>>,
    stop: Arc<AtomicBool>,
    watch: Watch,
    /// What the clients had asked when the warm-up ended.
    before: Option<Counts>,
    /// Stretches that were told.
    told: usize,
}

impl<'a> Run<'a> {
    fn new(clients: &'a [Client], plan: Plan, status: &Status) -> Run<'a> {
        let series = Arc::new(Mutex::new(Series::new(STRETCH)));
        let stop = Arc::<AtomicBool>::default();
        let plan = Plan { series: Some(series.clone()), stop: Some(stop.clone()), ..plan };
        let watch = Watch::new(status);
        Run { clients, plan, series, stop, watch, before: None, told: 0 }
    }

    /// Measures, until the time is over or somebody interrupts it; whoever does so twice wants nothing
    /// any more.
    async fn measure(mut self, output: &mut Output) -> Result<Measured, Failure> {
        let (clients, plan, clock) = (self.clients, self.plan.clone(), Clock::start());
        let bar = output.progress(None);
        let mut running = std::pin::pin!(run_over(clients, &plan));
        let mut next = plan.warmup;
        let report = loop {
            let wake = clock.instant(Time(0).plus(next));
            tokio::select! {
                report = &mut running => break report,
                () = tokio::time::sleep_until(wake) => {
                    self.look(clock.now().since(Time(0)).saturating_sub(plan.warmup));
                    self.tell(&bar, output)?;
                    next += STRETCH;
                }
                _ = tokio::signal::ctrl_c() => {
                    if self.stop.swap(true, Ordering::Relaxed) {
                        return Err(Failure::interrupted());
                    }
                    bar.set_message("waiting for the last answers; once more to leave at once");
                }
            }
        };
        bar.finish_and_clear();
        self.watch.sample(clock.now().since(Time(0)).saturating_sub(plan.warmup));
        Ok(self.finish(&report))
    }

    /// Looks at the servers; the first time, at the end of the warm-up, at the clients too.
    fn look(&mut self, at: Duration) {
        self.watch.sample(at);
        if self.before.is_none() {
            self.before = Some(self.counts());
        }
    }

    fn counts(&self) -> Counts {
        let all = self.clients.iter().map(Client::counts);
        all.fold(Counts::default(), |sum, one| Counts {
            requests: sum.requests + one.requests,
            attempts: sum.attempts + one.attempts,
            hedges: sum.hedges + one.hedges,
        })
    }

    /// Tells of the last stretch that is over: to who watches, and as a line of `jsonl`.
    fn tell(&mut self, bar: &ProgressBar, output: &mut Output) -> Result<(), Failure> {
        let (whole, width, stretch) = {
            let series = self.series.lock();
            let whole = series.stretches().len().saturating_sub(1);
            let last = whole.checked_sub(1).and_then(|last| series.stretches().get(last));
            (whole, series.width().as_secs_f64(), last.cloned())
        };
        let Some(stretch) = stretch else {
            bar.set_message("warming up");
            return Ok(());
        };
        let rate = rate(stretch.succeeded, width);
        let p99 = stretch.quantile(0.99);
        let of = self.plan.duration.as_secs();
        bar.set_message(format!(
            "{} op/s   p99 {}   {} failed   of {of} s",
            grouped(rate),
            latency(p99),
            grouped(stretch.failed)
        ));
        let is_new = whole > self.told;
        self.told = whole;
        if is_new && output.format() == Format::Jsonl {
            output.json(&json!({
                "type": "stretch",
                "end_s": width * f64::from(u32::try_from(whole).unwrap_or(u32::MAX)),
                "succeeded": stretch.succeeded,
                "failed": stretch.failed,
                "p50_us": json::us(stretch.quantile(0.5)),
                "p99_us": json::us(p99),
            }))?;
            output.finish()?;
        }
        Ok(())
    }

    fn finish(self, report: &Report) -> Measured {
        let counts = self.counts();
        let before = self.before.unwrap_or(counts);
        let counts = Counts {
            requests: counts.requests.saturating_sub(before.requests),
            attempts: counts.attempts.saturating_sub(before.attempts),
            hedges: counts.hedges.saturating_sub(before.hedges),
        };
        let interrupted = self.stop.load(Ordering::Relaxed);
        let series = self.series.lock().clone();
        let servers = self.watch.finish();
        let beside = Beside { interrupted, counts, series, servers };
        Measured::new(report, self.plan.duration, beside)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rate for people"
)]
fn rate(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds.max(1e-3)).round() as u64
}

/// Writes the files that were asked for, and shows the results.
fn show(results: &Results, args: &RunArgs, output: &mut Output) -> Result<(), Failure> {
    let (save, page) = args.files();
    if let Some(path) = save {
        write_file("--save", path, &results.to_text()?)?;
        output.note(&format!("the results are in {path}"));
    }
    if let Some(path) = page {
        write_file("--html", path, &html::page(results))?;
        output.note(&format!("the page is in {path}"));
    }
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&json::summary(results)),
        Format::Plain => text::lines(results).iter().try_for_each(|line| output.line(line)),
        Format::Table => {
            let text = text::table(results, output.color());
            output.bytes(text.as_bytes())
        }
    }
}

/// What the run says of the cluster, as an exit code: values must be right, and something must work.
fn judge(measured: &Measured) -> Result<(), Failure> {
    let all = measured.all();
    if measured.wrong() > 0 {
        return Err(Failure::wrong_values(measured.wrong()));
    }
    if measured.interrupted {
        return Err(Failure::interrupted());
    }
    if all.succeeded() == 0 && all.failed() > 0 {
        let code = all.errors.iter().max_by_key(|(_, count)| **count).map_or("", |(code, _)| code);
        return Err(Failure::unavailable(format!(
            "no operation succeeded; most failed with {code}"
        )));
    }
    Ok(())
}
