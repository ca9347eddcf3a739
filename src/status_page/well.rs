//! Whether all is well, in words: alarms, damage, hints, comparisons with other owners, a plan that is carried out. What
//! an operator looks for first stands first, and what is not as it should be is marked.

use core::time::Duration;
use std::fmt::Write;

use crate::message::{GrowthReply, View};
use crate::types::{ClusterState, PlanStatus};

use super::escape;

/// One line: what it is, how it is, and whether that is as it should be.
struct Line {
    what: &'static str,
    text: String,
    is_well: bool,
}

/// The part of the page.
pub(super) fn render(page: &mut String, view: &View, state: &ClusterState) {
    page.push_str("<h2>This node</h2><table>");
    for Line { what, text, is_well } in lines(view, state) {
        let (class, mark) = if is_well { ("", "") } else { (" class=\"bad\"", "! ") };
        let _ = write!(page, "<tr{class}><td>{what}</td><td>{mark}{}</td></tr>", escape(&text));
    }
    page.push_str("</table>");
    plan(page, state);
}

fn lines(view: &View, state: &ClusterState) -> Vec<Line> {
    let line = |what, text, is_well| Line { what, text, is_well };
    let others: Vec<&str> = state
        .members
        .iter()
        .filter(|member| member.id != view.hello.id)
        .filter(|member| {
            let seen = super::seen(view, member.id);
            seen.is_none_or(|seen| seen.liveness != crate::message::Liveness::Alive)
        })
        .map(|member| member.name.as_str())
        .collect();
    let members = match &others[..] {
        [] => format!("all {} answer", state.members.len()),
        silent => format!(
            "{} of {} do not answer: {}",
            silent.len(),
            state.members.len(),
            silent.join(", ")
        ),
    };
    let health = &view.health;
    let disk = match (health.found, health.lost_units) {
        (0, 0) => "no damage found since the start".to_owned(),
        (found, lost) => format!(
            "{found} places of damage found since the start; {lost} units to be filled again, {} have been: kvctl scrub status",
            health.healed_units
        ),
    };
    let scrub = match health.scrub_bytes {
        0 => "has read nothing yet".to_owned(),
        all => format!("has read {} of {} in this pass", bytes(health.scrubbed_bytes), bytes(all)),
    };
    let held = &view.hints.held;
    let hints = match (held.count, view.hints.dirty) {
        (0, 0) => "none kept for others".to_owned(),
        (count, dirty) => format!(
            "{count} kept for others ({}), {} of them in custody; {dirty} units of owners are marked to be compared",
            bytes(held.bytes),
            held.custody
        ),
    };
    let repair = &view.repair;
    let compared = match (repair.pairs, repair.unverified) {
        (0, _) => "nothing to compare with".to_owned(),
        (pairs, 0) => format!(
            "each of {pairs} units of other owners found equal within the last {}",
            span(repair.oldest)
        ),
        (pairs, open) => {
            format!("{open} of {pairs} units of other owners not found equal yet since the start")
        }
    };
    let reserve = view.reserve.unwrap_or_default();
    let reserved = format!(
        "{} needed, {} present; all owners of some partition gone at once: {:.2e}",
        reserve.needed, reserve.present, reserve.loss_high
    );
    let mut lines = vec![line("Members", members, others.is_empty())];
    lines.extend(view.keeper.alarms.iter().map(|alarm| line("Alarm", alarm.text.clone(), false)));
    lines.extend(view.keeper.growth.as_deref().and_then(load));
    lines.extend(mirrored(view));
    lines.extend([
        line("Reserve", reserved, reserve.present >= reserve.needed),
        line("Disk", disk, health.lost_units == 0),
        line("Scrub", scrub, true),
        line("Hints", hints, held.custody == 0),
        line("Comparisons", compared, true),
        line("Keys that differed", format!("{} since the start", repair.lacks), true),
    ]);
    lines
}

/// What a reserved member has of what it may inherit.
fn mirrored(view: &View) -> Option<Line> {
    let mirror = &view.keeper.mirror;
    let text = format!(
        "{} of {} units that it may inherit are mirrored here ({})",
        mirror.units,
        mirror.wanted,
        bytes(mirror.bytes)
    );
    let is_well = mirror.units >= mirror.wanted;
    (mirror.wanted > 0).then_some(Line { what: "Mirrors", text, is_well })
}

/// What is foreseen of the busiest member, and what is proposed.
fn load(growth: &GrowthReply) -> Option<Line> {
    let milli = growth.peak_milli?;
    let mut text =
        format!("{}.{} % is foreseen for the {}", milli / 10, milli % 10, growth.busiest);
    match growth.disk_days {
        Some(days) => text.push_str(&format!("; a disk is 80 % full in {days} days")),
        None => text.push_str("; that a disk is 80 % full is not foreseen"),
    }
    if let Some(it) = &growth.proposal {
        let who: Vec<&str> = it.members.iter().map(|name| name.as_str()).collect();
        text.push_str(&format!("; proposed: {} by {}: kvctl grow show", it.kind, who.join(", ")));
    }
    Some(Line { what: "Load", text, is_well: growth.proposal.is_none() })
}

fn plan(page: &mut String, state: &ClusterState) {
    let Some(plan) = &state.topology.plan else { return };
    let under_way: usize = state.classes.iter().map(|class| class.moves.len()).sum();
    let (all, waiting) = (plan.total.max(1) as usize, plan.queue.len());
    let done = all.saturating_sub(waiting + under_way);
    let percent = done * 100 / all;
    let status = match plan.status {
        PlanStatus::Running => "is carried out",
        PlanStatus::Paused => "is paused: kvctl plan resume",
        PlanStatus::RollingBack => "is rolled back",
    };
    let _ = write!(
        page,
        "<h2>Plan</h2><p>A plan {status}: {done} of {all} moves done, {under_way} under way, {waiting} waiting.</p>\
         <p><span class=\"bar\" style=\"width:{percent}%\"></span> {percent}&thinsp;%</p>",
    );
}

/// To the nearest unit that reads well.
fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{} KiB", count >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", count >> 20),
        _ => format!("{} GiB", count >> 30),
    }
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let read = [0, 1_023, 1_024, 5 << 20, 7 << 30].map(bytes);
        assert_eq!(read, ["0 B", "1023 B", "1 KiB", "5 MiB", "7 GiB"]);
        let read = [3, 119, 120, 7_199, 7_200].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(read, ["3 s", "119 s", "2 min", "119 min", "2 h"]);
    }
}
