//! What members tell of themselves, between `message` and `proto/peer.proto`; what travels with it is
//! in `gossip`.

use core::time::Duration;

use crate::message::{
    CustodyNews, FillNews, FillState, LoadFacts, MirrorNews, ProbeFacts, ProposalRecord,
    ReplicaFacts, ResizeRecord, TreeSizes, Unwell, UnwellLink, WorkNews,
};
use crate::types::{ClassId, Epoch, NodeId, Partition, Unit, WallTime, limits};

use super::floor::{bound_from_wire, bound_to_wire};
use super::peer::{ADDRESS_BYTES_MAX, Malformed, boot_from_wire, boot_to_wire, narrow, required};
use super::proto::peer as pb;

pub(super) fn facts_to_wire(facts: &ProbeFacts) -> pb::ProbeFacts {
    let custody = |(target, count): &(NodeId, u64)| pb::probe_facts::Custody {
        target: target.0,
        count: *count,
    };
    pb::ProbeFacts {
        epoch: facts.epoch.0,
        stored: facts.stored.0,
        serving: facts.serving,
        wall_ns: facts.wall.0,
        clock_ns: facts.clock.0,
        ceiling_ns: facts.ceiling.0,
        boot: Some(boot_to_wire(facts.boot)),
        client_address: facts.client_address.clone(),
        disk_bytes: facts.replica.disk_bytes,
        free_bytes: facts.replica.free_bytes,
        memory_bytes: facts.replica.memory_bytes,
        keys: facts.replica.keys,
        tree_bytes: facts.replica.trees.bytes,
        tree_file_bytes: facts.replica.trees.file_bytes,
        tree_leaves: facts.replica.trees.leaves,
        pressure_milli: facts.replica.pressure_milli.into(),
        hints: facts.hints,
        custody: facts.custody.targets.iter().map(custody).collect(),
        custody_for_others: facts.custody.others,
        unwell: facts.unwell.iter().map(unwell_to_wire).collect(),
        acknowledged: facts.acknowledged.0,
        fills: facts.fills.iter().map(fill_to_wire).collect(),
        custody_clear: bound_to_wire(facts.custody_clear),
        long_down: facts.long_down.iter().map(|member| member.0).collect(),
        mirror: (facts.mirror != MirrorNews::default()).then(|| mirror_to_wire(&facts.mirror)),
        load: facts.load.map(load_to_wire),
        work: facts.work.as_ref().map(work_to_wire),
    }
}

pub(super) fn facts_from_wire(probe: pb::ProbeFacts) -> Result<ProbeFacts, Malformed> {
    if probe.client_address.len() > ADDRESS_BYTES_MAX {
        return Err(Malformed::new("a client address is too long"));
    }
    if probe.custody.len() > limits::CUSTODY_NEWS_MAX {
        return Err(Malformed::new(format!("custody for {} targets", probe.custody.len())));
    }
    if probe.unwell.len() > limits::UNWELL_NEWS_MAX {
        return Err(Malformed::new(format!("{} unwell links", probe.unwell.len())));
    }
    if probe.long_down.len() > limits::LONG_DOWN_NEWS_MAX {
        return Err(Malformed::new(format!("{} members down for long", probe.long_down.len())));
    }
    if probe.fills.len() > limits::FILL_NEWS_MAX {
        return Err(Malformed::new(format!("news of {} fills", probe.fills.len())));
    }
    let targets = probe.custody.into_iter().map(|held| (NodeId(held.target), held.count));
    Ok(ProbeFacts {
        epoch: Epoch(probe.epoch),
        stored: Epoch(probe.stored),
        serving: probe.serving,
        wall: WallTime(probe.wall_ns),
        clock: WallTime(probe.clock_ns),
        ceiling: WallTime(probe.ceiling_ns),
        boot: boot_from_wire(required(probe.boot, "boot")?)?,
        client_address: probe.client_address,
        replica: ReplicaFacts {
            disk_bytes: probe.disk_bytes,
            free_bytes: probe.free_bytes,
            memory_bytes: probe.memory_bytes,
            keys: probe.keys,
            trees: TreeSizes {
                bytes: probe.tree_bytes,
                file_bytes: probe.tree_file_bytes,
                leaves: probe.tree_leaves,
            },
            pressure_milli: narrow(probe.pressure_milli, "pressure")?,
            // Each node's own affair.
            damaged: false,
        },
        hints: probe.hints,
        custody: CustodyNews { targets: targets.collect(), others: probe.custody_for_others },
        unwell: probe.unwell.into_iter().filter_map(unwell_from_wire).collect(),
        acknowledged: Epoch(probe.acknowledged),
        fills: probe.fills.into_iter().map(fill_from_wire).collect::<Result<_, _>>()?,
        custody_clear: bound_from_wire(probe.custody_clear),
        long_down: probe.long_down.into_iter().map(NodeId).collect(),
        mirror: probe.mirror.map(mirror_from_wire).transpose()?.unwrap_or_default(),
        load: probe.load.map(load_from_wire),
        work: probe.work.map(work_from_wire).transpose()?,
    })
}

fn mirror_to_wire(news: &MirrorNews) -> pb::probe_facts::Mirror {
    let of = |(member, units): &(NodeId, u32)| pb::probe_facts::mirror::Of {
        member: member.0,
        units: *units,
    };
    pb::probe_facts::Mirror {
        units: news.units,
        wanted: news.wanted,
        bytes: news.bytes,
        oldest_ms: u64::try_from(news.oldest.as_millis()).unwrap_or(u64::MAX),
        of: news.of.iter().map(of).collect(),
    }
}

fn mirror_from_wire(news: pb::probe_facts::Mirror) -> Result<MirrorNews, Malformed> {
    if news.of.len() > limits::MIRROR_NEWS_MAX {
        return Err(Malformed::new(format!("mirrors of {} members", news.of.len())));
    }
    Ok(MirrorNews {
        units: news.units,
        wanted: news.wanted,
        bytes: news.bytes,
        oldest: Duration::from_millis(news.oldest_ms),
        of: news.of.into_iter().map(|of| (NodeId(of.member), of.units)).collect(),
    })
}

fn load_to_wire(load: LoadFacts) -> pb::probe_facts::Load {
    let LoadFacts { hours, cpu_now, cpu_peak, ops_now, ops_peak, peak_hour, .. } = load;
    let LoadFacts { p99, disk_days, quiet, paused, resized, proposals, .. } = load;
    let ProposalRecord { exchanged, dismissed: [(dismissed, dismissed_hash), (left, left_hash)] } =
        proposals;
    let ResizeRecord { grown, shrunk } = resized;
    pb::probe_facts::Load {
        hours,
        cpu_now,
        cpu_peak,
        ops_now,
        ops_peak,
        peak_hour,
        p99_us: p99,
        disk_days,
        quiet,
        paused,
        grown,
        shrunk,
        exchanged,
        dismissed,
        dismissed_hash,
        left,
        left_hash,
    }
}

fn work_to_wire(work: &WorkNews) -> pb::probe_facts::Work {
    let copy = |(unit, rate): &(Unit, u32)| pb::probe_facts::work::Copy {
        class: unit.class.0.into(),
        partition: unit.partition.0.into(),
        rate: *rate,
    };
    let hottest = work.hottest.iter().map(copy).collect();
    pb::probe_facts::Work { all: work.all, hottest, written: work.written }
}

fn work_from_wire(work: pb::probe_facts::Work) -> Result<WorkNews, Malformed> {
    if work.hottest.len() > limits::WORK_NEWS_MAX {
        return Err(Malformed::new(format!("the work of {} units", work.hottest.len())));
    }
    let copy = |copy: pb::probe_facts::work::Copy| {
        let class = ClassId(narrow(copy.class, "class")?);
        let partition = Partition(narrow(copy.partition, "partition")?);
        Ok((Unit { class, partition }, copy.rate))
    };
    let hottest = work.hottest.into_iter().map(copy).collect::<Result<_, Malformed>>()?;
    Ok(WorkNews { all: work.all, hottest, written: work.written })
}

/// Any figures will do: at worst they are wrong.
fn load_from_wire(load: pb::probe_facts::Load) -> LoadFacts {
    let pb::probe_facts::Load { hours, cpu_now, cpu_peak, ops_now, ops_peak, peak_hour, .. } = load;
    let pb::probe_facts::Load { p99_us, disk_days, quiet, paused, grown, shrunk, .. } = load;
    let resized = ResizeRecord { grown, shrunk };
    let dismissed = [(load.dismissed, load.dismissed_hash), (load.left, load.left_hash)];
    let proposals = ProposalRecord { exchanged: load.exchanged, dismissed };
    LoadFacts {
        hours,
        cpu_now,
        cpu_peak,
        ops_now,
        ops_peak,
        peak_hour,
        p99: p99_us,
        disk_days,
        quiet,
        paused,
        resized,
        proposals,
    }
}

fn unwell_to_wire(link: &UnwellLink) -> pb::probe_facts::Unwell {
    use pb::probe_facts::unwell::Why;
    let why = match link.why {
        Unwell::Stalled => Why::Stalled,
        Unwell::Failing => Why::Failing,
        Unwell::Slow => Why::Slow,
    };
    let age_ms = u64::try_from(link.age.as_millis()).unwrap_or(u64::MAX);
    pb::probe_facts::Unwell { member: link.member.0, why: why.into(), age_ms }
}

/// `None` for a reason that this build does not know: nothing rests on it.
fn unwell_from_wire(link: pb::probe_facts::Unwell) -> Option<UnwellLink> {
    use pb::probe_facts::unwell::Why;
    let why = match link.why() {
        Why::Unspecified => return None,
        Why::Stalled => Unwell::Stalled,
        Why::Failing => Unwell::Failing,
        Why::Slow => Unwell::Slow,
    };
    let (member, age) = (NodeId(link.member), Duration::from_millis(link.age_ms));
    Some(UnwellLink { member, why, age })
}

fn fill_to_wire(news: &FillNews) -> pb::probe_facts::Fill {
    use pb::probe_facts::fill::State;
    let (state, done_milli) = match news.state {
        FillState::Filling { done_milli } => (State::Filling, done_milli),
        FillState::Complete => (State::Complete, 0),
        FillState::Lost => (State::Lost, 0),
    };
    pb::probe_facts::Fill {
        class: news.unit.class.0.into(),
        partition: news.unit.partition.0.into(),
        entry: news.entry.0,
        state: state.into(),
        done_milli: done_milli.into(),
    }
}

fn fill_from_wire(news: pb::probe_facts::Fill) -> Result<FillNews, Malformed> {
    use pb::probe_facts::fill::State;
    let state = match news.state() {
        State::Unspecified => return Err(Malformed::new("the state of a fill")),
        State::Filling => FillState::Filling { done_milli: narrow(news.done_milli, "done")? },
        State::Complete => FillState::Complete,
        State::Lost => FillState::Lost,
    };
    let unit = Unit {
        class: ClassId(narrow(news.class, "class")?),
        partition: Partition(narrow(news.partition, "partition")?),
    };
    Ok(FillNews { unit, entry: Epoch(news.entry), state })
}
