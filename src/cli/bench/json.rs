//! Results as one JSON object, without histograms and without the course over time, which `--save` has.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::results::{Histogram, KindResult, Measured, QUANTILES, Results};
use super::servers::NodeCost;

/// Microseconds, to a tenth.
pub(super) fn us(latency: Duration) -> f64 {
    (latency.as_secs_f64() * 1e7).round() / 10.0
}

/// The contract of `docs/kvctl.md`.
pub(super) fn summary(results: &Results) -> Json {
    let measured = &results.measured;
    let kinds: Map<String, Json> =
        measured.kinds.iter().map(|(name, it)| (name.clone(), kind(it, measured))).collect();
    let lag = |histogram: &Histogram| {
        let lag = histogram.latency();
        json!({
            "count": lag.count(),
            "p50_us": us(lag.quantile(0.5)),
            "p99_us": us(lag.quantile(0.99)),
            "max_us": us(lag.max()),
        })
    };
    json!({
        "type": "result",
        "begun": results.begun,
        "settings": results.settings,
        "cluster": results.cluster,
        "machine": results.machine,
        "seconds": measured.seconds,
        "interrupted": measured.interrupted,
        "kinds": kinds,
        "all": kind(&measured.all(), measured),
        "wrong_values": measured.wrong(),
        "unstarted": measured.unstarted,
        "lag": lag(&measured.lag),
        "timer_lag": lag(&measured.timer_lag),
        "requests": measured.requests,
        "attempts": measured.attempts,
        "hedges": measured.hedges,
        "servers": servers(measured),
    })
}

fn kind(kind: &KindResult, measured: &Measured) -> Json {
    let times = kind.latency.latency();
    let mut latency: Map<String, Json> = QUANTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), us(times.quantile(*quantile)).into()))
        .collect();
    latency.insert("mean".to_owned(), us(times.mean()).into());
    latency.insert("max".to_owned(), us(times.max()).into());
    json!({
        "operations": kind.succeeded(),
        "per_second": measured.rate(kind.succeeded()),
        "failed": kind.failed(),
        "errors": kind.errors,
        "absent": kind.absent,
        "entries": kind.entries,
        "latency_us": latency,
    })
}

fn servers(measured: &Measured) -> Json {
    let node = |node: &NodeCost| {
        json!({
            "name": node.name,
            "cpu_s": node.cpu_s(),
            "resident_bytes_max": node.resident_max(),
        })
    };
    json!({
        "why": measured.servers.why,
        "nodes": measured.servers.nodes.iter().map(node).collect::<Vec<_>>(),
        "cpu_us_per_operation": measured.cpu_us(),
        "kvctl_cpu_s": measured.servers.own_cpu_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::results::tests::results;

    #[test]
    fn a_summary_has_counts_rates_and_latencies_in_microseconds() {
        let json = summary(&results(1));
        assert_eq!(json["kinds"]["get"]["operations"], 1000);
        assert_eq!(json["all"]["per_second"], 750.0);
        assert_eq!(json["all"]["errors"]["OVERLOADED <&>"], 6);
        let p50 = json["kinds"]["get"]["latency_us"]["p50"].as_f64().unwrap();
        assert!((499.0..502.0).contains(&p50), "{p50}");
        // A second of processor time over 1506 operations.
        let cpu = json["servers"]["cpu_us_per_operation"].as_f64().unwrap();
        assert!((663.0..665.0).contains(&cpu), "{cpu}");
    }
}
