//! Results as people read them on a terminal, and as lines for scripts.

use std::time::Duration;

use comfy_table::Cell;

use crate::cli::grid::{grid, grouped, size};

use super::json::us;
use super::results::{KindResult, Measured, QUANTILES, Results, Settings, latency};
use super::servers::NodeCost;
use super::workload::mix_text;

/// Beyond this, the generator itself is too late for its figures to be trusted.
const TIMER_LAG_MAX: Duration = Duration::from_millis(10);

/// What was asked for, in a few lines.
pub(super) fn facts(results: &Results) -> Vec<(&'static str, String)> {
    let Results { settings, cluster, machine, .. } = results;
    let server = cluster.server_version.as_deref().unwrap_or("?");
    let memory =
        if machine.memory_bytes == 0 { "?".to_owned() } else { size(machine.memory_bytes) };
    let processor = if machine.processor.is_empty() { "?" } else { &machine.processor };
    vec![
        ("Workload", workload(settings)),
        ("Keys", keys(settings)),
        ("Pace", pace(settings)),
        ("Requests", requests(settings)),
        (
            "Cluster",
            format!(
                "{}, {} nodes, kvd {server}, kvctl {}",
                cluster.name, cluster.nodes, cluster.client_version
            ),
        ),
        (
            "Load from",
            format!("{processor}, {} threads, {memory}, {}", machine.threads, machine.system),
        ),
        ("Begun", results.begun.clone()),
    ]
}

fn workload(settings: &Settings) -> String {
    let mix = mix_text(settings.mix.iter().map(|(kind, share)| (kind.as_str(), *share)));
    let scans = settings.mix.get("scan").is_some_and(|share| *share > 0);
    let scans =
        if scans { format!(", scans of 1 to {} keys", settings.scan_max) } else { String::new() };
    format!("{}: {mix}{scans}", settings.workload)
}

fn keys(settings: &Settings) -> String {
    let Settings { dist, theta, keys, prefix, value_bytes, table, .. } = settings;
    let theta = theta.map_or(String::new(), |theta| format!(" {theta}"));
    let keys = grouped(*keys);
    let bytes = grouped((*value_bytes).into());
    format!("{dist}{theta} over {keys} keys {prefix}*, values of {bytes} B, table {table}")
}

fn pace(settings: &Settings) -> String {
    let Settings { rate, spacing, in_flight, clients, warmup_s, duration_s, .. } = settings;
    let spacing = spacing.as_deref().unwrap_or("");
    let loop_text = match rate {
        Some(rate) => {
            format!("open loop, {rate} op/s ({spacing}), at most {in_flight} under way")
        }
        None => format!("closed loop, {in_flight} callers"),
    };
    let clients = if *clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
    format!("{loop_text}, {clients}, {duration_s} s after {warmup_s} s of warm-up")
}

fn requests(settings: &Settings) -> String {
    let Settings { r, w, timeout_s, attempts, seed, .. } = settings;
    let of_table = |quorum: &Option<String>| quorum.clone().unwrap_or("the table's".to_owned());
    let (r, w) = (of_table(r), of_table(w));
    format!("r {r}, w {w}, {timeout_s} s, {attempts} attempts, seed {seed}")
}

/// The heads of the table of kinds.
pub(super) const HEADS: [&str; 10] =
    ["KIND", "OPS", "OP/S", "ERRORS", "MEAN", "P50", "P90", "P99", "P99.9", "MAX"];

/// The table of kinds: a row each, and one for all if there are several.
pub(super) fn rows(measured: &Measured) -> Vec<[String; 10]> {
    let mut rows: Vec<_> =
        measured.kinds.iter().map(|(name, kind)| row(name, kind, measured)).collect();
    if rows.len() != 1 {
        rows.push(row("all", &measured.all(), measured));
    }
    rows
}

fn row(name: &str, kind: &KindResult, measured: &Measured) -> [String; 10] {
    let times = kind.latency.latency();
    let shown = |value| if kind.succeeded() == 0 { "–".to_owned() } else { latency(value) };
    let [p50, p90, p99, p999] = QUANTILES.map(|(_, quantile)| shown(times.quantile(quantile)));
    [
        name.to_owned(),
        grouped(kind.succeeded()),
        format!("{:.1}", measured.rate(kind.succeeded())),
        grouped(kind.failed()),
        shown(times.mean()),
        p50,
        p90,
        p99,
        p999,
        shown(times.max()),
    ]
}

/// Kind, code and count of all errors.
pub(super) fn errors(measured: &Measured) -> Vec<(&str, &str, u64)> {
    let kinds = measured.kinds.iter();
    kinds
        .flat_map(|(name, kind)| {
            kind.errors.iter().map(move |(code, count)| (name.as_str(), code.as_str(), *count))
        })
        .collect()
}

/// What the servers cost: name, processor time per operation in microseconds, processors busy, memory.
pub(super) fn costs(measured: &Measured) -> Vec<[String; 4]> {
    let all = measured.all();
    let operations = count(all.succeeded() + all.failed());
    let row = |name: &str, cpu_s: f64, seconds: f64, bytes: u64| {
        let us = if operations > 0.0 {
            format!("{:.1} µs", cpu_s * 1e6 / operations)
        } else {
            "–".to_owned()
        };
        let busy = format!("{:.2}", cpu_s / seconds.max(1e-3));
        [name.to_owned(), us, busy, if bytes == 0 { "–".to_owned() } else { size(bytes) }]
    };
    let nodes = &measured.servers.nodes;
    let mut rows: Vec<_> = nodes
        .iter()
        .map(|node| row(&node.name, node.cpu_s(), node.seconds(), node.resident_max()))
        .collect();
    if let Some(sum) = measured.servers.cpu_s() {
        let bytes = nodes.iter().map(NodeCost::resident_max).sum();
        let seconds = nodes.iter().map(NodeCost::seconds).fold(0.0, f64::max);
        rows.push(row("all nodes", sum, seconds, bytes));
    }
    if let Some(own) = measured.servers.own_cpu_s {
        rows.push(row("kvctl", own, measured.seconds, 0));
    }
    rows
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn count(number: u64) -> f64 {
    number as f64
}

/// What whoever reads the figures should know, in sentences.
pub(super) fn remarks(results: &Results) -> Vec<String> {
    let Results { settings, measured, .. } = results;
    let mut remarks = Vec::new();
    if measured.interrupted {
        remarks.push("note: interrupted before its time was over".to_owned());
    }
    if measured.wrong() > 0 {
        let wrong = grouped(measured.wrong());
        remarks.push(format!("error: {wrong} answers were not what was written to their keys"));
    }
    if measured.unstarted > 0 {
        remarks.push(format!(
            "warning: {} operations were due and could not be begun: the cluster did not keep up, and \
             the latencies shown are too low",
            grouped(measured.unstarted)
        ));
    }
    let lag = measured.timer_lag.latency().quantile(0.99);
    if lag > TIMER_LAG_MAX {
        let lag = latency(lag);
        remarks.push(format!(
            "warning: the generator was late by itself, {lag} at p99: it lacks processor time"
        ));
    }
    let all = measured.all();
    if all.absent > 0 {
        let load = if settings.loaded { "" } else { "; `--load` writes all keys first" };
        remarks.push(format!("note: {} reads found nothing{load}", grouped(all.absent)));
    }
    if let Some(why) = &measured.servers.why {
        remarks.push(format!("note: what the servers cost is not known: {why}"));
    }
    remarks
}

/// How late the generator was, and how often requests were tried again, in sentences.
pub(super) fn conduct(results: &Results) -> Vec<String> {
    let measured = &results.measured;
    let again = grouped(measured.attempts.saturating_sub(measured.requests));
    let requests = grouped(measured.requests);
    let hedges = grouped(measured.hedges);
    let told = format!("{requests} requests, {again} tried again, {hedges} asked of a second node");
    let mut lines = vec![told];
    if results.settings.rate.is_some() {
        let timers = measured.timer_lag.latency();
        let waited = measured.lag.count().saturating_sub(measured.timer_lag.count());
        let [p50, p99] = [0.5, 0.99].map(|quantile| latency(timers.quantile(quantile)));
        if timers.count() > 0 {
            lines.push(format!("sent {p50} after they were due at p50, {p99} at p99"));
        }
        if waited > 0 {
            lines.push(format!("{} found no free place when they were due", grouped(waited)));
        }
    }
    lines
}

/// For people.
pub(super) fn table(results: &Results, color: bool) -> String {
    let cells = |row: &[String]| row.iter().map(Cell::new).collect();
    let mut text = String::new();
    for (name, fact) in facts(results) {
        text.push_str(&format!("{name:<9}  {fact}\n"));
    }
    text.push('\n');
    let kinds = rows(&results.measured).iter().map(|row| cells(row)).collect();
    text.push_str(&grid(&HEADS, 1, kinds, color));
    text.push('\n');
    for (kind, code, count) in errors(&results.measured) {
        text.push_str(&format!("{} x {kind} {code}\n", grouped(count)));
    }
    let scans = results.measured.all().entries;
    if scans > 0 {
        text.push_str(&format!("scans returned {} entries\n", grouped(scans)));
    }
    for line in conduct(results) {
        text.push_str(&line);
        text.push('\n');
    }
    let costs = costs(&results.measured);
    if costs.len() > 1 {
        let heads = ["COST", "CPU/OP", "CPUS BUSY", "MEMORY"];
        let rows = costs.iter().map(|row| cells(row)).collect();
        text.push('\n');
        text.push_str(&grid(&heads, 1, rows, color));
    }
    for remark in remarks(results) {
        text.push_str(&remark);
        text.push('\n');
    }
    text
}

/// For scripts: a line a kind, and one for all; kind, operations, operations a second, errors, and
/// mean, p50, p90, p99, p99.9 and max in microseconds.
pub(super) fn lines(results: &Results) -> Vec<String> {
    let measured = &results.measured;
    let line = |name: &str, kind: &KindResult| {
        let times = kind.latency.latency();
        let [p50, p90, p99, p999] = QUANTILES.map(|(_, quantile)| us(times.quantile(quantile)));
        let (ops, rate) = (kind.succeeded(), measured.rate(kind.succeeded()));
        let (mean, max) = (us(times.mean()), us(times.max()));
        let failed = kind.failed();
        format!("{name}\t{ops}\t{rate:.1}\t{failed}\t{mean}\t{p50}\t{p90}\t{p99}\t{p999}\t{max}")
    };
    let kinds = measured.kinds.iter().map(|(name, kind)| line(name, kind));
    kinds.chain([line("all", &measured.all())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::results::tests::results;

    #[test]
    fn a_table_shows_kinds_errors_costs_and_what_to_mind() {
        let mut run = results(1);
        run.measured.unstarted = 1234;
        let text = table(&run, false);
        for words in [
            "66.7 % get, 33.3 % put",
            "open loop, 750 op/s (poisson), at most 512 under way, 1 client",
            " get   1 000  500.0       3  501 µs  500 µs  900 µs",
            " all   1 500  750.0       6",
            "3 x get OVERLOADED <&>",
            "1 506 requests, 4 tried again, 3 asked of a second node",
            "all nodes",
            "1 234 operations were due and could not be begun",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        let lines = lines(&run);
        assert!(lines[0].starts_with("get\t1000\t500.0\t3\t500."), "{}", lines[0]);
        assert!(lines.iter().all(|line| line.split('\t').count() == 10) && lines.len() == 3);
    }

    #[test]
    fn a_run_that_measured_nothing_is_shown_too() {
        let mut run = results(1);
        run.measured.kinds.clear();
        run.measured.interrupted = true;
        let text = table(&run, false);
        assert!(text.contains(" all     0") && text.contains("interrupted"), "{text}");
    }
}
