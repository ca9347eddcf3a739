//! The metrics page: OpenMetrics text, gathered when it is asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::message::{
    Bound, ErrorCode, GrowthReply, HintGauges, KeeperGauges, MemberView, Phase, RepairGauges,
    ReserveFacts, StoreHealth, View,
};
use crate::transport::PeerStats;
use crate::types::limits;

use super::{OpKind, Telemetry, process};

/// Renders everything that is counted, and the facts of the newest view.
pub fn render(telemetry: &Telemetry, view: Option<Arc<View>>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot { telemetry: telemetry.clone(), view }));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

struct Snapshot {
    telemetry: Telemetry,
    view: Option<Arc<View>>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot")
    }
}

type Labels = Vec<(&'static str, String)>;

/// One family: its name, what it means, its unit, and its samples.
struct Family<'a, V> {
    name: &'static str,
    help: &'static str,
    unit: Option<&'a Unit>,
    samples: Vec<(Labels, V)>,
}

fn counters(encoder: &mut DescriptorEncoder<'_>, family: Family<'_, u64>) -> fmt::Result {
    let Family { name, help, unit, samples } = family;
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (labels, value) in samples {
        labelled(&mut metric, &labels, |metric| ConstCounter::new(value).encode(metric))?;
    }
    Ok(())
}

fn gauges(encoder: &mut DescriptorEncoder<'_>, family: Family<'_, f64>) -> fmt::Result {
    let Family { name, help, unit, samples } = family;
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in samples {
        labelled(&mut metric, &labels, |metric| ConstGauge::new(value).encode(metric))?;
    }
    Ok(())
}

fn labelled(
    metric: &mut MetricEncoder<'_>,
    labels: &Labels,
    encode: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    encode(metric.encode_family(labels)?)
}

fn one(value: f64) -> Vec<(Labels, f64)> {
    vec![(Labels::new(), value)]
}

/// Metrics are floating point by nature; what is lost above 2^53 does not matter.
#[expect(clippy::cast_precision_loss, reason = "a gauge, not an account")]
fn float(number: u64) -> f64 {
    number as f64
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.operations(&mut encoder)?;
        self.process(&mut encoder)?;
        cost(&mut encoder)?;
        self.peers(&mut encoder)?;
        self.store(&mut encoder)?;
        self.view.as_ref().map_or(Ok(()), |view| members(&mut encoder, view))
    }
}

impl Snapshot {
    fn watches(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shared = &self.telemetry.0;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let samples = one(float(read(&shared.watches)));
        let (name, help) = ("kv_watches", "Watches of clients that are open");
        gauges(encoder, Family { name, help, unit: None, samples })?;
        let of = |kind: &str, count| (vec![("kind", kind.to_owned())], read(count));
        let samples = vec![of("change", &shared.watch_changes), of("gap", &shared.watch_gaps)];
        let (name, help) = ("kv_watch_events", "Changes and gaps told to clients of watches");
        counters(encoder, Family { name, help, unit: None, samples })
    }

    fn operations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shared = &self.telemetry.0;
        let mut samples = Vec::new();
        for (kind, counters) in OpKind::ALL.into_iter().zip(&shared.ops) {
            let labels =
                |outcome: &str| vec![("op", kind.as_str().to_owned()), ("outcome", outcome.into())];
            samples.push((labels("ok"), counters.ok.load(Ordering::Relaxed)));
            for (code, failed) in ErrorCode::ALL.iter().zip(&counters.failed) {
                let failed = failed.load(Ordering::Relaxed);
                if failed > 0 {
                    samples.push((labels(code.as_str()), failed));
                }
            }
        }
        let help = "Operations answered, by kind and outcome";
        counters(encoder, Family { name: "kv_operations", help, unit: None, samples })?;
        let mut metric = encoder.encode_descriptor(
            "kv_operation",
            "Time from an operation's arrival at the driver to its answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (kind, counters) in OpKind::ALL.into_iter().zip(&shared.ops) {
            let mut buckets = counters.latency.cumulative();
            let count = buckets.last().map_or(0, |(_, count)| *count);
            buckets.push((f64::INFINITY, count));
            let sum = counters.latency.sum_seconds();
            let per_bucket = differences(&buckets);
            let labels: Labels = vec![("op", kind.as_str().to_owned())];
            let no_exemplars: Option<&HashMap<usize, _>> = None;
            metric.encode_family(&labels)?.encode_histogram::<Labels>(
                sum,
                count,
                &per_bucket,
                no_exemplars,
            )?;
        }
        Ok(())
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shared = &self.telemetry.0;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        gauges(
            encoder,
            Family {
                name: "kv_operations_in_flight",
                help: "Operations without an answer",
                unit: None,
                samples: one(float(read(&shared.in_flight))),
            },
        )?;
        gauges(
            encoder,
            Family {
                name: "kv_sessions",
                help: "Sessions open",
                unit: None,
                samples: one(float(read(&shared.sessions))),
            },
        )?;
        self.watches(encoder)?;
        let samples = one(float(read(&shared.queued_bytes)));
        let (name, help) = ("kv_operations_queued", "Bytes of operations that wait for the driver");
        gauges(encoder, Family { name, help, unit: Some(&Unit::Bytes), samples })?;
        counters(
            encoder,
            Family {
                name: "kv_operations_shed",
                help: "Operations refused because the node's queue was full",
                unit: None,
                samples: vec![(Labels::new(), read(&shared.shed))],
            },
        )?;
        let refused = Bound::ALL.iter().zip(&shared.refused);
        let samples =
            refused.map(|(bound, count)| (vec![("bound", bound.as_str().to_owned())], read(count)));
        let (name, help) =
            ("kv_operations_refused", "Operations refused, by whose bound was reached");
        counters(encoder, Family { name, help, unit: None, samples: samples.collect() })?;
        counters(
            encoder,
            Family {
                name: "kv_many_siblings",
                help: "Writes of causal tables after which their key had ten siblings or more",
                unit: None,
                samples: vec![(Labels::new(), read(&shared.many_siblings))],
            },
        )?;
        let build = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("protocol", limits::PROTOCOL_MAX.to_string()),
        ];
        let (name, help) = ("kv_build_info", "What is running");
        gauges(encoder, Family { name, help, unit: None, samples: vec![(build, 1.0)] })
    }

    fn store(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(read) = self.telemetry.0.store.get() else {
            return Ok(());
        };
        let stats = read();
        for (name, help, value) in [
            ("kv_store_disk", "Tables and log together", stats.disk_bytes),
            ("kv_store_memory", "Memtables", stats.memory_bytes),
            ("kv_store_trees", "The trees of units, in memory", stats.tree_bytes),
            ("kv_store_trees_file", "The file that trees are kept in", stats.tree_file_bytes),
            ("kv_store_pending", "Batches that wait for the log", stats.pending_bytes),
        ] {
            let samples = one(float(value));
            gauges(encoder, Family { name, help, unit: Some(&Unit::Bytes), samples })?;
        }
        let read_only = if stats.read_only { 1.0 } else { 0.0 };
        let (name, help) = ("kv_store_read_only", "1 after a failed write or sync of the disk");
        gauges(encoder, Family { name, help, unit: None, samples: one(read_only) })?;
        for (name, help, value) in [
            (
                "kv_store_trees_building",
                "Trees of units that are being built",
                stats.trees_building,
            ),
            ("kv_store_tree_leaves", "Leaves of the trees of units", stats.tree_leaves),
        ] {
            gauges(encoder, Family { name, help, unit: None, samples: one(float(value)) })?;
        }
        let (name, help) =
            ("kv_store_tree_file_written", "Written into the file that trees are kept in");
        let samples = vec![(Labels::new(), stats.tree_file_written)];
        counters(encoder, Family { name, help, unit: Some(&Unit::Bytes), samples })?;
        for (name, help, value) in [
            ("kv_store_batches", "Batches submitted", stats.batches),
            ("kv_store_fsyncs", "Syncs of the log", stats.fsyncs),
            ("kv_store_flushes", "Memtables written out", stats.flushes),
            (
                "kv_store_tree_file_failed",
                "How often trees could not be kept",
                stats.tree_file_failed,
            ),
            (
                "kv_store_tree_entries_read",
                "Entries read to find what differs from other owners",
                stats.tree_entries_read,
            ),
        ] {
            let samples = vec![(Labels::new(), value)];
            counters(encoder, Family { name, help, unit: None, samples })?;
        }
        Ok(())
    }

    fn peers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(stats) = self.telemetry.0.transport.get() else {
            return Ok(());
        };
        let peers = stats.peers();
        let sample = |read: fn(&PeerStats) -> u64| -> Vec<(Labels, u64)> {
            let label = |id: u32| vec![("peer", id.to_string())];
            peers.iter().map(|(id, stats)| (label(id.0), read(stats))).collect()
        };
        let gauge = |read| sample(read).into_iter().map(|(l, v)| (l, float(v))).collect();
        let samples = gauge(|stats| PeerStats::read(&stats.queue_bytes));
        let (name, help) = ("kv_peer_queue", "Bytes waiting for a stream to a peer");
        gauges(encoder, Family { name, help, unit: Some(&Unit::Bytes), samples })?;
        let samples = gauge(|stats| PeerStats::read(&stats.open));
        let (name, help) = ("kv_peer_streams", "Streams open to a peer; two when all is well");
        gauges(encoder, Family { name, help, unit: None, samples })?;
        let samples = sample(|stats| PeerStats::read(&stats.sent));
        let (name, help) = ("kv_peer_sent", "Messages sent to a peer");
        counters(encoder, Family { name, help, unit: None, samples })?;
        let samples = sample(|stats| PeerStats::read(&stats.refused));
        let (name, help) = ("kv_peer_unreachable", "Messages dropped: no stream, or a full queue");
        counters(encoder, Family { name, help, unit: None, samples })?;
        let samples = sample(|stats| PeerStats::read(&stats.connects));
        let (name, help) = ("kv_peer_connects", "Streams opened to a peer, ever");
        counters(encoder, Family { name, help, unit: None, samples })
    }
}

/// What the process costs, under the names that dashboards know. Nothing where that is not known.
fn cost(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Some(cost) = process::cost() else { return Ok(()) };
    let (name, help) = ("process_cpu", "Processor time, user and system");
    let mut metric =
        encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
    let seconds = cost.cpu.as_secs_f64();
    labelled(&mut metric, &Labels::new(), |metric| ConstCounter::new(seconds).encode(metric))?;
    let (name, help) = ("process_resident_memory", "Memory that is in RAM");
    let samples = one(float(cost.resident_bytes));
    gauges(encoder, Family { name, help, unit: Some(&Unit::Bytes), samples })?;
    let (name, help) = ("process_open_fds", "Open files and sockets");
    gauges(encoder, Family { name, help, unit: None, samples: one(float(cost.open_files)) })
}

/// The counts of each bucket alone, as the encoder wants them.
fn differences(cumulative: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let mut below = 0;
    cumulative
        .iter()
        .map(|(bound, count)| {
            let alone = count - below;
            below = *count;
            (*bound, alone)
        })
        .collect()
}

fn reserve(encoder: &mut DescriptorEncoder<'_>, facts: ReserveFacts) -> fmt::Result {
    for (name, help, value) in [
        ("kv_reserve_needed", "Reserved members that failures ask for", f64::from(facts.needed)),
        ("kv_reserve_present", "Reserved members that answer", f64::from(facts.present)),
        (
            "kv_loss_probability",
            "That all owners of some partition are gone at once, at most",
            facts.loss_high,
        ),
    ] {
        gauges(encoder, Family { name, help, unit: None, samples: one(value) })?;
    }
    Ok(())
}

fn repair(encoder: &mut DescriptorEncoder<'_>, repair: RepairGauges) -> fmt::Result {
    for (name, help, value) in [
        (
            "kv_repair_verified",
            "Comparisons of a unit with another owner that found both equal",
            repair.verified,
        ),
        ("kv_repair_sessions", "Comparisons below the roots", repair.sessions),
        ("kv_repair_keys", "Keys that differed", repair.lacks),
        ("kv_repair_records_here", "Records brought here by comparisons", repair.here),
        ("kv_repair_records_there", "Records brought to others by comparisons", repair.there),
        ("kv_repair_rounds", "Rounds of registers that differed", repair.rounds),
        ("kv_purged", "Deletes and expired versions purged", repair.purged),
    ] {
        let samples = vec![(Labels::new(), value)];
        counters(encoder, Family { name, help, unit: None, samples })?;
    }
    let kind = |name: &str, value| (vec![("kind", name.to_owned())], value);
    let samples = vec![kind("asked", repair.bytes), kind("answered", repair.answered_bytes)];
    let (name, help) = ("kv_repair", "Bytes asked, answered and read to compare");
    counters(encoder, Family { name, help, unit: Some(&Unit::Bytes), samples })?;
    for (name, help, value) in [
        ("kv_repair_pairs", "Units, each with each other owner, that are compared", repair.pairs),
        ("kv_repair_unverified", "Those not found equal since the start", repair.unverified),
    ] {
        gauges(encoder, Family { name, help, unit: None, samples: one(float(value)) })?;
    }
    let samples = one(repair.oldest.as_secs_f64());
    let (name, help) = ("kv_repair_oldest", "How long ago the last was found equal");
    gauges(encoder, Family { name, help, unit: Some(&Unit::Seconds), samples })
}

fn hints(encoder: &mut DescriptorEncoder<'_>, hints: HintGauges) -> fmt::Result {
    let HintGauges { held, replayed, dropped, dirty } = hints;
    let kinds = |custody: u64, all: u64| {
        let kind = |name: &str| vec![("kind", name.to_owned())];
        vec![(kind("custody"), float(custody)), (kind("plain"), float(all - custody.min(all)))]
    };
    let samples = kinds(held.custody, held.count);
    let (name, help) = ("kv_hints_count", "Hints this node holds for others");
    gauges(encoder, Family { name, help, unit: None, samples })?;
    let samples = kinds(held.custody_bytes, held.bytes);
    let (name, help) = ("kv_hints", "Bytes of hints this node holds for others");
    gauges(encoder, Family { name, help, unit: Some(&Unit::Bytes), samples })?;
    let (name, help) = ("kv_hints_dirty", "Owners of units that may lack writes no hint carries");
    gauges(encoder, Family { name, help, unit: None, samples: one(float(dirty)) })?;
    for (name, help, value) in [
        ("kv_hints_replayed", "Hints handed back", replayed),
        ("kv_hints_dropped", "Hints given up: too old, without room, or by an operator", dropped),
    ] {
        let samples = vec![(Labels::new(), value)];
        counters(encoder, Family { name, help, unit: None, samples })?;
    }
    Ok(())
}

fn health(encoder: &mut DescriptorEncoder<'_>, health: StoreHealth) -> fmt::Result {
    for (name, help, value, unit) in [
        (
            "kv_scrub_done",
            "Bytes of tables that the scrub has read in this pass",
            health.scrubbed_bytes,
            true,
        ),
        ("kv_scrub_tables", "Bytes of tables that it reads in a pass", health.scrub_bytes, true),
        (
            "kv_lost_units",
            "Units that have lost data and are not filled again yet",
            health.lost_units,
            false,
        ),
    ] {
        let (unit, samples) = (unit.then_some(&Unit::Bytes), one(float(value)));
        gauges(encoder, Family { name, help, unit, samples })?;
    }
    for (name, help, value) in [
        ("kv_damage_found", "Places of the store that could not be read", health.found),
        (
            "kv_units_healed",
            "Units that had lost data and have been filled again",
            health.healed_units,
        ),
    ] {
        let samples = vec![(Labels::new(), value)];
        counters(encoder, Family { name, help, unit: None, samples })?;
    }
    Ok(())
}

fn keeper(encoder: &mut DescriptorEncoder<'_>, keeper: &KeeperGauges) -> fmt::Result {
    let (name, help) = ("kv_orchestrator_members_down", "Members held down for the grace time");
    gauges(encoder, Family { name, help, unit: None, samples: one(float(keeper.long_down)) })?;
    let (name, help) = ("kv_orchestrator_replacements", "Replacements among the events kept");
    gauges(encoder, Family { name, help, unit: None, samples: one(float(keeper.replacements)) })?;
    let (name, help) = ("kv_orchestrator_alarms", "What the orchestrator wants and cannot do");
    let alarms = one(float(keeper.alarms.len() as u64));
    gauges(encoder, Family { name, help, unit: None, samples: alarms })?;
    let (name, help) = ("kv_mirror_units", "Units that this node mirrors, and is to mirror");
    let counts = [("kept", keeper.mirror.units), ("wanted", keeper.mirror.wanted)];
    let samples =
        counts.map(|(kind, count)| (vec![("kind", kind.to_owned())], float(u64::from(count))));
    gauges(encoder, Family { name, help, unit: None, samples: samples.to_vec() })?;
    let (name, help) = ("kv_mirror", "Bytes of the disk that they take, about");
    let (unit, samples) = (Some(&Unit::Bytes), one(float(keeper.mirror.bytes)));
    gauges(encoder, Family { name, help, unit, samples })
}

fn growth(encoder: &mut DescriptorEncoder<'_>, growth: &GrowthReply) -> fmt::Result {
    let name = "kv_growth_utilisation_foreseen";
    let help = "Of the busiest active member's disk, processor or operations, 0..1";
    let milli = |milli: u32| f64::from(milli) / 1000.0;
    let samples = one(milli(growth.peak_milli.unwrap_or(0)));
    gauges(encoder, Family { name, help, unit: None, samples })?;
    let (name, help) = ("kv_growth_disk_days", "Until the first disk is 80 % full, where foreseen");
    let samples = one(growth.disk_days.map_or(f64::INFINITY, f64::from));
    gauges(encoder, Family { name, help, unit: None, samples })?;
    let count = |kind: &str| {
        let known = growth.proposal.as_ref().filter(|it| it.kind == kind);
        known.map_or(0.0, |it| f64::from(u32::try_from(it.members.len().max(1)).unwrap_or(1)))
    };
    let kinds = ["grow", "shrink", "exchange"];
    let samples = kinds.map(|kind| (vec![("kind", kind.to_owned())], count(kind)));
    let (name, help) =
        ("kv_growth_proposed", "Members that should become active, be reserved, or exchange units");
    gauges(encoder, Family { name, help, unit: None, samples: samples.to_vec() })?;
    let missing = growth.proposal.as_ref().map_or(0.0, |it| f64::from(it.missing));
    let (name, help) = ("kv_growth_members_missing", "Reserved members that a growth lacks");
    gauges(encoder, Family { name, help, unit: None, samples: one(missing) })?;
    let quiet = if growth.quiet { 1.0 } else { 0.0 };
    let (name, help) = ("kv_growth_quiet", "1 in the hours in which members may move");
    gauges(encoder, Family { name, help, unit: None, samples: one(quiet) })?;
    let paused = one(float(growth.paused.len() as u64));
    let (name, help) = ("kv_transfers_paused", "Members that copy nothing, for their users");
    gauges(encoder, Family { name, help, unit: None, samples: paused })
}

fn members(encoder: &mut DescriptorEncoder<'_>, view: &View) -> fmt::Result {
    let phase = match view.phase {
        Phase::Founding(_) => "founding",
        Phase::Registering(_) => "registering",
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::Refused(_) => "refused",
    };
    let samples = ["founding", "registering", "serving", "draining", "refused"]
        .map(|name| (vec![("phase", name.to_owned())], if name == phase { 1.0 } else { 0.0 }))
        .to_vec();
    let (name, help) = ("kv_phase", "1 for the phase the node is in");
    gauges(encoder, Family { name, help, unit: None, samples })?;
    let epoch = view.state.as_ref().map_or(0, |state| state.epoch.0);
    let (name, help) = ("kv_epoch", "The newest cluster state in force");
    gauges(encoder, Family { name, help, unit: None, samples: one(float(epoch)) })?;
    hints(encoder, view.hints)?;
    repair(encoder, view.repair)?;
    health(encoder, view.health)?;
    let samples = one(view.hottest_share);
    let (name, help) = ("kv_hottest_partition_share", "Of clients' requests to this node, 0..1");
    gauges(encoder, Family { name, help, unit: None, samples })?;
    if let Some(facts) = view.reserve {
        reserve(encoder, facts)?;
    }
    keeper(encoder, &view.keeper)?;
    let (name, help) = ("kv_transfer_taken", "Copies of units that others have given this node");
    let (unit, samples) = (Some(&Unit::Bytes), vec![(Labels::new(), view.transfer_taken)]);
    counters(encoder, Family { name, help, unit, samples })?;
    if let Some(told) = &view.keeper.growth {
        growth(encoder, told)?;
    }
    let label = |id: u32| vec![("peer", id.to_string())];
    let samples = view
        .members
        .iter()
        .map(|member| {
            let offset = core::time::Duration::from_nanos(member.clock_offset_ns.unsigned_abs());
            let sign = if member.clock_offset_ns < 0 { -1.0 } else { 1.0 };
            (label(member.id.0), sign * offset.as_secs_f64())
        })
        .collect();
    let (name, help) = ("kv_clock_offset", "A peer's clock against ours; positive when ahead");
    gauges(encoder, Family { name, help, unit: Some(&Unit::Seconds), samples })?;
    let left_out = |member: &MemberView| if member.left_out.is_some() { 1.0 } else { 0.0 };
    let members = view.members.iter();
    let samples = members.map(|member| (label(member.id.0), left_out(member))).collect();
    let (name, help) = ("kv_peer_left_out", "1 while reads leave a peer out: it stalls or fails");
    gauges(encoder, Family { name, help, unit: None, samples })?;
    let samples = vec![(Labels::new(), view.links_left_out)];
    let (name, help) = ("kv_links_left_out", "How often reads have begun to leave a member out");
    counters(encoder, Family { name, help, unit: None, samples })?;
    let samples = view
        .members
        .iter()
        .filter_map(|member| {
            let facts = member.facts.as_ref()?;
            Some((label(member.id.0), float(facts.replica.disk_bytes)))
        })
        .collect();
    let (name, help) = ("kv_member_disk", "What a member's store takes, as it last said");
    gauges(encoder, Family { name, help, unit: Some(&Unit::Bytes), samples })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn operations_show_up_by_kind_and_outcome() {
        let telemetry = Telemetry::default();
        telemetry.operation(OpKind::Get, None, Duration::from_micros(300));
        telemetry.operation(OpKind::Put, Some(ErrorCode::Overloaded), Duration::from_millis(2));
        let text = render(&telemetry, None);
        for line in [
            "kv_operations_total{op=\"get\",outcome=\"ok\"} 1",
            "kv_operations_total{op=\"put\",outcome=\"OVERLOADED\"} 1",
            "kv_operation_seconds_count{op=\"get\"} 1",
            "kv_operation_seconds_bucket{le=\"0.000512\",op=\"get\"} 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
